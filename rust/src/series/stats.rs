//! The exact statistics of a series: count, total, least and greatest, and the sum of squares in 128 bits.

use super::orders::SeqOrders;
use super::seqlock;
use crate::sync::{AtomicU64, Ordering, own};

/// Words that a shard's statistics take: 128 bytes, so that no two shards share a pair of cache lines.
pub(super) const STAT_WORDS: usize = 16;

// Where in them each stands. The least value is kept as its complement: fresh memory, all 0, then means "none yet".
const SEQ: usize = 0;
pub(super) const COUNT: usize = 1;
const TOTAL: usize = 2;
const NOT_MIN: usize = 4;
const MAX: usize = 5;
const SQUARES: usize = 6;
const BELOW: usize = 8;
const ABOVE: usize = 9;

/// Exact statistics of the values recorded so far, of one shard or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub total: u128,
    not_min: u64,
    max: u64,
    /// The sum of their squares; at the ceiling when it went beyond.
    pub squares: u128,
    /// Those below the series' bounds.
    pub below: u64,
    /// Those above.
    pub above: u64,
}

impl Stats {
    /// The least value.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(!self.not_min)
    }

    /// The greatest value.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.total as f64 / self.count as f64)
    }

    /// The sample standard deviation, √((n·Σx² − (Σx)²) / (n(n−1))), in integers up to that division; 0 of fewer than two
    /// values, `None` when the sum of squares went beyond 128 bits.
    pub fn deviation(&self) -> Option<f64> {
        if self.count < 2 {
            return Some(0.0);
        }
        if self.squares == u128::MAX {
            return None;
        }
        let n = u128::from(self.count);
        let (high, low) = minus(times(self.squares, n), times(self.total, self.total));
        let spread = high as f64 * 2f64.powi(128) + low as f64;
        Some((spread / (n * (n - 1)) as f64).sqrt())
    }

    /// Count one value.
    #[inline(always)]
    pub fn add(&mut self, value: u64, below: bool, above: bool) {
        self.count += 1;
        self.total += u128::from(value);
        self.not_min = self.not_min.max(!value);
        self.max = self.max.max(value);
        self.squares = self.squares.saturating_add(u128::from(value) * u128::from(value));
        self.below += u64::from(below);
        self.above += u64::from(above);
    }

    /// Count what another shard counted. It wraps where only a hostile file could make it overflow.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        self.total = self.total.wrapping_add(other.total);
        self.not_min = self.not_min.max(other.not_min);
        self.max = self.max.max(other.max);
        self.squares = self.squares.saturating_add(other.squares);
        self.below = self.below.wrapping_add(other.below);
        self.above = self.above.wrapping_add(other.above);
    }
}

/// Count one value in a shard's words. Only its one writer calls this.
#[inline(always)]
pub fn record(cells: &[AtomicU64], value: u64, below: bool, above: bool, orders: &SeqOrders) {
    seqlock::write(&cells[SEQ], orders, || {
        let mut stats = from_words(cells, own);
        stats.add(value, below, above);
        store(cells, &stats);
    });
}

/// Copy a shard's statistics; `None` when its writer was busy at each of the `attempts`.
#[inline]
pub fn read(cells: &[AtomicU64], orders: &SeqOrders, attempts: u32) -> Option<Stats> {
    seqlock::read(&cells[SEQ], orders, attempts, || load(cells))
}

/// Forget everything in a shard's words, by whoever stands in for its writer.
pub fn clear(cells: &[AtomicU64], orders: &SeqOrders) {
    seqlock::write(&cells[SEQ], orders, || store(cells, &Stats::default()));
}

/// The words as they are, perhaps from the middle of a change: for what a killed writer left.
#[inline(always)]
pub(super) fn load(cells: &[AtomicU64]) -> Stats {
    // Relaxed, all of them: data of the seqlock, whose fences order them.
    from_words(cells, |cell| cell.load(Ordering::Relaxed))
}

#[inline(always)]
fn from_words(cells: &[AtomicU64], load: impl Fn(&AtomicU64) -> u64) -> Stats {
    let word = |at: usize| load(&cells[at]);
    let wide = |at: usize| u128::from(word(at)) | u128::from(word(at + 1)) << 64;
    Stats {
        count: word(COUNT),
        total: wide(TOTAL),
        not_min: word(NOT_MIN),
        max: word(MAX),
        squares: wide(SQUARES),
        below: word(BELOW),
        above: word(ABOVE),
    }
}

#[inline(always)]
fn store(cells: &[AtomicU64], stats: &Stats) {
    // Relaxed, all of them: data of the seqlock, whose fences order them.
    let word = |at: usize, value: u64| cells[at].store(value, Ordering::Relaxed);
    let wide = |at: usize, value: u128| {
        word(at, value as u64);
        word(at + 1, (value >> 64) as u64);
    };
    word(COUNT, stats.count);
    wide(TOTAL, stats.total);
    word(NOT_MIN, stats.not_min);
    word(MAX, stats.max);
    wide(SQUARES, stats.squares);
    word(BELOW, stats.below);
    word(ABOVE, stats.above);
}

/// The 256-bit product, as its high and low half.
fn times(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 64);
    let (middle, carry) = middle.overflowing_add(a_low * b_high);
    let high = a_high * b_high + (middle >> 64) + (u128::from(carry) << 64);
    (high, middle << 64 | low & LOW)
}

/// The difference of two 256-bit numbers; 0 where only a hostile file could make it negative.
fn minus(a: (u128, u128), b: (u128, u128)) -> (u128, u128) {
    if a < b {
        return (0, 0);
    }
    let (low, borrow) = a.1.overflowing_sub(b.1);
    (a.0 - b.0 - u128::from(borrow), low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Stats {
        let mut stats = Stats::default();
        values.iter().for_each(|&v| stats.add(v, false, false));
        stats
    }

    #[test]
    fn nothing_recorded_has_no_least_greatest_or_mean() {
        let stats = Stats::default();
        assert_eq!((stats.min(), stats.max(), stats.mean(), stats.deviation()), (None, None, None, Some(0.0)));
    }

    #[test]
    fn the_deviation_is_exact_where_floats_would_cancel() {
        let far = 3_600_000_000_000;
        let stats = of(&[far, far + 1, far + 2]);
        assert_eq!(stats.deviation(), Some(1.0));
        assert_eq!(of(&[far; 1000]).deviation(), Some(0.0));
    }

    #[test]
    fn squares_beyond_128_bits_leave_the_deviation_unknown_and_the_rest_exact() {
        let stats = of(&[u64::MAX; 3]);
        assert_eq!(stats.deviation(), None);
        assert_eq!((stats.total, stats.min(), stats.max()), (3 * u128::from(u64::MAX), Some(u64::MAX), Some(u64::MAX)));
    }

    #[test]
    fn the_largest_product_of_two_has_all_its_bits() {
        assert_eq!(times(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
        assert_eq!(times(1 << 100, 1 << 100), (1 << 72, 0));
        assert_eq!(minus((1, 0), (0, 1)), (0, u128::MAX));
        assert_eq!(minus((0, 1), (1, 0)), (0, 0));
    }

    proptest! {
        #[test]
        fn words_hold_what_a_plain_model_counts(values in prop::collection::vec(any::<u64>(), 0..60), split in any::<prop::sample::Index>()) {
            let shard = || (0..STAT_WORDS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
            let (one, two) = values.split_at(split.index(values.len() + 1));
            let mut merged = Stats::default();
            for part in [one, two] {
                let cells = shard();
                part.iter().for_each(|&v| record(&cells, v, v < 1000, v > 1 << 60, &SeqOrders::SOUND));
                merged.merge(&read(&cells, &SeqOrders::SOUND, 1).unwrap());
                clear(&cells, &SeqOrders::SOUND);
                prop_assert_eq!(read(&cells, &SeqOrders::SOUND, 1), Some(Stats::default()));
            }
            prop_assert_eq!(merged.count, values.len() as u64);
            prop_assert_eq!(merged.total, values.iter().map(|&v| u128::from(v)).sum::<u128>());
            prop_assert_eq!(merged.min(), values.iter().copied().min());
            prop_assert_eq!(merged.max(), values.iter().copied().max());
            prop_assert_eq!(merged.squares, values.iter().fold(0u128, |s, &v| s.saturating_add(u128::from(v) * u128::from(v))));
            prop_assert_eq!(merged.below, values.iter().filter(|&&v| v < 1000).count() as u64);
            prop_assert_eq!(merged.above, values.iter().filter(|&&v| v > 1 << 60).count() as u64);
        }

        #[test]
        fn the_deviation_is_that_of_the_textbook(values in prop::collection::vec(0u64..1 << 20, 2..100)) {
            let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
            let spread: f64 = values.iter().map(|&v| (v as f64 - mean).powi(2)).sum();
            let expected = (spread / (values.len() - 1) as f64).sqrt();
            prop_assert!((of(&values).deviation().unwrap() - expected).abs() <= expected * 1e-9);
        }
    }
}
