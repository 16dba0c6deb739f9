//! Exact moments of a series, and a log-linear histogram that tells where its percentiles lie.

/// Sub-buckets per octave, as a power of two: a bucket is at most 0.1 % of its values wide.
const SUB_BITS: u32 = 10;
/// Values below this have a bucket each.
const LINEAR: u64 = 1 << (SUB_BITS + 1);
/// Buckets for all of `u64`.
const BUCKETS: usize = ((64 - SUB_BITS as usize) << SUB_BITS) + (1 << SUB_BITS);

/// The bucket of a value.
#[inline]
pub(super) fn bucket_of(value: u64) -> usize {
    if value < LINEAR {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The first value of a bucket, and how many values it spans.
pub(super) fn span_of(bucket: usize) -> (u64, u64) {
    if bucket < LINEAR as usize {
        return (bucket as u64, 1);
    }
    let shift = (bucket >> SUB_BITS) as u32 - 1;
    let top = (bucket & ((1 << SUB_BITS) - 1)) as u64 | 1 << SUB_BITS;
    (top << shift, 1 << shift)
}

/// A series of nanoseconds: exact count, sum, sum of squares, least and greatest; and where its values lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    count: u64,
    sum: u128,
    squares: u128,
    min: u64,
    max: u64,
    /// Empty until the first value; pages of it that no value touches take no memory.
    buckets: Vec<u64>,
}

impl Histogram {
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Record `value` `times` times.
    #[inline]
    pub fn record_many(&mut self, value: u64, times: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
            self.min = u64::MAX;
        }
        self.count += times;
        let (wide, many) = (u128::from(value), u128::from(times));
        self.sum += wide * many;
        // Only stamps that are no stamps square to more than 128 bits.
        self.squares = self.squares.saturating_add((wide * wide).saturating_mul(many));
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.buckets[bucket_of(value)] += times;
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        let (first, last) = (bucket_of(other.min), bucket_of(other.max));
        for (mine, theirs) in self.buckets[first..=last].iter_mut().zip(&other.buckets[first..=last]) {
            *mine += theirs;
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// Standard deviation of the sample (n − 1); exact in integers until the last division. 0 below two values.
    pub fn std(&self) -> Option<f64> {
        if self.count < 2 {
            return (self.count == 1).then_some(0.0);
        }
        let n = u128::from(self.count);
        // Around the whole part q of the mean, so that n times the squares needn't fit 128 bits:
        // Σ(x − mean)² = Σ(x − q)² − r²/n, where r is what the division left.
        let (q, r) = (self.sum / n, self.sum % n);
        let around = self.around(q, n);
        let remainder = r as f64 * r as f64 / n as f64;
        Some(((around - remainder).max(0.0) / (self.count - 1) as f64).sqrt())
    }

    /// Σ(x − q)² over all values; in floating point only for values that are no times (above a century).
    fn around(&self, q: u128, n: u128) -> f64 {
        let twice = q.checked_mul(self.sum).and_then(|product| product.checked_mul(2));
        let square = q.checked_mul(q).and_then(|square| square.checked_mul(n));
        match (twice, square) {
            // Σx² + n·q² − 2q·Σx, in the order that never goes below zero.
            (Some(twice), Some(square)) if self.squares < u128::MAX - square => {
                (self.squares + square).saturating_sub(twice) as f64
            }
            _ => self.squares as f64 + q as f64 * (q as f64 * n as f64 - 2.0 * self.sum as f64),
        }
    }

    /// The bucket that holds the value of a rank (1 is the least), and how many values lie below the bucket.
    pub fn locate(&self, rank: u64) -> Option<(usize, u64)> {
        let (first, last) = (bucket_of(self.min()?), bucket_of(self.max));
        let mut below = 0;
        for bucket in first..=last {
            let here = self.buckets[bucket];
            if below + here >= rank {
                return Some((bucket, below));
            }
            below += here;
        }
        None
    }

    pub fn count_in(&self, bucket: usize) -> u64 {
        self.buckets.get(bucket).copied().unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_buckets_span(value in prop_oneof![any::<u64>(), 0u64..10_000, Just(u64::MAX)]) {
            let bucket = bucket_of(value);
            let (first, width) = span_of(bucket);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(first <= value && value - first < width);
            prop_assert!(width == 1 || width as f64 <= first as f64 / 1000.0);
        }

        #[test]
        fn moments_are_those_of_the_values(values in prop::collection::vec(0u64..10_000_000_000_000, 2..50), at in 0usize..50) {
            let at = at % values.len();
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            values[..at].iter().for_each(|&v| left.record(v));
            values[at..].iter().for_each(|&v| right.record(v));
            left.merge(&right);
            let n = values.len() as u128;
            let sum: u128 = values.iter().map(|&v| u128::from(v)).sum();
            let squares: u128 = values.iter().map(|&v| u128::from(v) * u128::from(v)).sum();
            // The textbook form, exact in integers.
            let exact = ((n * squares - sum * sum) as f64 / (n * (n - 1)) as f64).sqrt();
            prop_assert!((left.std().unwrap() - exact).abs() <= exact * 1e-12);
            prop_assert_eq!(left.mean().unwrap(), sum as f64 / n as f64);
            prop_assert_eq!(left.min(), values.iter().min().copied());
            prop_assert_eq!(left.max(), values.iter().max().copied());
        }
    }

    #[test]
    fn buckets_are_numbered_without_gaps() {
        let mut next = 0u64;
        for bucket in 0..BUCKETS {
            let (first, width) = span_of(bucket);
            assert_eq!(first, next, "bucket {bucket}");
            next = first.wrapping_add(width);
        }
        assert_eq!(next, 0, "the last bucket ends where u64 does");
    }

    #[test]
    fn a_rank_is_found_in_its_bucket() {
        let mut histogram = Histogram::default();
        histogram.record_many(5, 3);
        histogram.record(1_000_000);
        assert_eq!(histogram.locate(3), Some((5, 0)));
        assert_eq!(histogram.locate(4), Some((bucket_of(1_000_000), 3)));
        assert_eq!(histogram.locate(5), None);
        assert_eq!(Histogram::default().locate(1), None);
    }
}
