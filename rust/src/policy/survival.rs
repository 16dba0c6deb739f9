//! How long answers take, told also from those that haven't come yet.
//!
//! What is in flight has lasted at least so long, and what was dropped would have lasted longer: leaving them out makes a
//! service look faster than it is, the more the more of it stalls. Source: Kaplan and Meier, "Nonparametric estimation
//! from incomplete observations", 1958; Nelson, "Theory and applications of hazard plotting", 1972; for durations in
//! buckets, Cutler and Ederer's actuarial estimate, 1958 (who leaves within a bucket is at risk for half of it).

use std::ops::Range;

/// Eight buckets to the octave, from a microsecond to over an hour; a bucket is a sixteenth to an eighth wide.
const BUCKETS: usize = 256;
const FIRST_BIT: u32 = 10;

/// Beyond so many, all counts are halved: what was seen lately counts most.
const MOST: f32 = 1024.0;

/// Durations of attempts, in buckets: those that ended with an answer, and those of which only a lower bound is known.
#[derive(Clone, Debug)]
pub(super) struct Survival {
    came: [f32; BUCKETS],
    left: [f32; BUCKETS],
    answers: f32,
    total: f32,
    /// Where the buckets in use begin and end.
    low: usize,
    high: usize,
}

/// The hazard accumulated up to a duration: how many answers one attempt would have given by then if it began anew after
/// each.
#[derive(Clone, Debug)]
pub(super) struct Hazard([f32; BUCKETS]);

impl Survival {
    pub(super) const fn new() -> Self {
        Self { came: [0.0; BUCKETS], left: [0.0; BUCKETS], answers: 0.0, total: 0.0, low: BUCKETS, high: 0 }
    }

    /// An answer came after `ns`.
    pub(super) fn came(&mut self, ns: u64) {
        let at = self.at(ns);
        self.came[at] += 1.0;
        self.answers += 1.0;
    }

    /// Nothing had come after `ns` when it was dropped.
    pub(super) fn left(&mut self, ns: u64) {
        let at = self.at(ns);
        self.left[at] += 1.0;
    }

    /// Answers seen, old ones counting less.
    pub(super) fn answers(&self) -> f32 {
        self.answers
    }

    /// Forget all.
    pub(super) fn clear(&mut self) {
        let used = self.used();
        self.came[used.clone()].fill(0.0);
        self.left[used].fill(0.0);
        (self.answers, self.total, self.low, self.high) = (0.0, 0.0, BUCKETS, 0);
    }

    /// The time by which half of the answers come, in nanoseconds, given how long those in flight have lasted. `None` while
    /// too few have come to tell.
    pub(super) fn median(&self, open: impl Iterator<Item = u64>) -> Option<f64> {
        let mut survivors = 1.0_f32;
        self.walk(open, |bucket, share| {
            let after = survivors * (1.0 - share);
            if after <= 0.5 {
                // Answers lie evenly within the bucket.
                let part = f64::from((survivors - 0.5) / (survivors - after));
                let (from, to) = (edge(bucket), edge(bucket + 1));
                return Some(from + (to - from) * part);
            }
            survivors = after;
            None
        })
    }

    /// The hazard at every duration, given how long those in flight have lasted.
    pub(super) fn hazard(&self, open: impl Iterator<Item = u64>) -> Hazard {
        let mut hazard = [0.0; BUCKETS];
        let mut sum = 0.0;
        let mut next = 0;
        self.walk(open, |bucket, share| {
            hazard[next..bucket].fill(sum);
            sum += share;
            hazard[bucket] = sum;
            next = bucket + 1;
            None::<()>
        });
        hazard[next..].fill(sum);
        Hazard(hazard)
    }

    /// How many answers these attempts would have given under `hazard`.
    pub(super) fn expected(&self, hazard: &Hazard) -> f64 {
        self.used().map(|b| f64::from((self.came[b] + self.left[b]) * hazard.mid(b))).sum()
    }

    /// Give `each` every bucket that has answers, with their share of those at risk, until it returns something.
    fn walk<T>(&self, open: impl Iterator<Item = u64>, mut each: impl FnMut(usize, f32) -> Option<T>) -> Option<T> {
        let mut going = [0.0_f32; BUCKETS];
        let mut risk = self.total;
        for age in open {
            going[index(age)] += 1.0;
            risk += 1.0;
        }
        // Whoever is in flight for less than the shortest answer never was at risk.
        risk -= going[..self.low.min(BUCKETS)].iter().sum::<f32>();
        for bucket in self.used() {
            let (came, left) = (self.came[bucket], self.left[bucket] + going[bucket]);
            if came > 0.0 {
                let found = each(bucket, came / (risk - left / 2.0).max(came));
                if found.is_some() {
                    return found;
                }
            }
            risk -= came + left;
        }
        None
    }

    fn used(&self) -> Range<usize> {
        self.low..self.high.max(self.low)
    }

    fn at(&mut self, ns: u64) -> usize {
        if self.total >= MOST {
            self.came.iter_mut().chain(&mut self.left).for_each(|n| *n *= 0.5);
            self.answers *= 0.5;
            self.total *= 0.5;
        }
        self.total += 1.0;
        let at = index(ns);
        self.low = self.low.min(at);
        self.high = self.high.max(at + 1);
        at
    }
}

impl Hazard {
    /// The hazard up to a duration.
    pub(super) fn up_to(&self, ns: u64) -> f64 {
        f64::from(self.mid(index(ns)))
    }

    /// Up to the middle of a bucket.
    fn mid(&self, bucket: usize) -> f32 {
        let before = if bucket == 0 { 0.0 } else { self.0[bucket - 1] };
        f32::midpoint(before, self.0[bucket])
    }
}

/// The bucket of a duration: its highest bit, and the three bits after it.
fn index(ns: u64) -> usize {
    let ns = ns.max(1 << FIRST_BIT);
    let bit = ns.ilog2();
    let eighth = (ns >> (bit - 3)) & 7;
    (((bit - FIRST_BIT) as usize) * 8 + eighth as usize).min(BUCKETS - 1)
}

/// The duration at which a bucket begins.
fn edge(bucket: usize) -> f64 {
    let bit = FIRST_BIT + (bucket / 8) as u32;
    ((8 + bucket as u64 % 8) << (bit - 3)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn seconds(ns: f64) -> f64 {
        ns / S as f64
    }

    #[test]
    fn the_median_of_answers_is_theirs_within_a_bucket() {
        let mut seen = Survival::new();
        (1..=99).for_each(|i| seen.came(i * S / 10));
        let median = seconds(seen.median(std::iter::empty()).unwrap());
        assert!((4.7..5.3).contains(&median), "{median}");
    }

    #[test]
    fn what_is_in_flight_counts_as_slow_and_not_as_absent() {
        let mut seen = Survival::new();
        (0..6).for_each(|i| seen.came(2 * S + i * S / 10));
        let alone = seen.median(std::iter::empty()).unwrap();
        let with = seen.median([9 * S, 9 * S, 9 * S].into_iter()).unwrap();
        assert!(seconds(alone) < 2.4 && seconds(with) > seconds(alone), "{alone} {with}");
        // Six of fourteen have come: the middle one hasn't.
        assert_eq!(seen.median(std::iter::repeat_n(9 * S, 8)), None);
        // Those that have only just begun say nothing.
        assert_eq!(seen.median(std::iter::repeat_n(S, 8)), Some(alone));
    }

    #[test]
    fn dropped_attempts_count_until_they_were_dropped() {
        let mut seen = Survival::new();
        (0..10).for_each(|_| seen.came(S));
        (0..30).for_each(|_| seen.left(8 * S));
        assert_eq!(seen.median(std::iter::empty()), None);
        let mut seen = Survival::new();
        (0..10).for_each(|_| seen.came(8 * S));
        (0..30).for_each(|_| seen.left(S));
        assert!((7.5..8.1).contains(&seconds(seen.median(std::iter::empty()).unwrap())));
    }

    #[test]
    fn as_many_answers_as_expected_come_where_nothing_changed_and_fewer_where_it_slowed_down() {
        let mut base = Survival::new();
        (1..=400).for_each(|i| base.came(i * S / 100));
        let hazard = base.hazard(std::iter::empty());
        let mut same = Survival::new();
        (1..=100).for_each(|i| same.came(i * S / 25));
        let mut slower = Survival::new();
        (1..=100).for_each(|i| slower.came(i * S / 25 + 3 * S));
        let ratio = |seen: &Survival| f64::from(seen.answers()) / seen.expected(&hazard);
        assert!((0.9..1.1).contains(&ratio(&same)), "{}", ratio(&same));
        assert!(ratio(&slower) < 0.4, "{}", ratio(&slower));
        // An attempt that lasts longer than any answer took adds no more than one that lasts as long.
        assert_eq!(hazard.up_to(5 * S), hazard.up_to(60 * S));
    }

    #[test]
    fn what_was_seen_lately_counts_most() {
        let mut seen = Survival::new();
        (0..2_000).for_each(|_| seen.came(S));
        (0..1_500).for_each(|_| seen.came(4 * S));
        assert!(seconds(seen.median(std::iter::empty()).unwrap()) > 3.7);
    }

    #[test]
    fn cleared_is_as_new() {
        let mut seen = Survival::new();
        (0..50).for_each(|i| seen.came(i * S));
        seen.left(3 * S);
        seen.clear();
        seen.came(S);
        let median = seconds(seen.median(std::iter::empty()).unwrap());
        assert!(seen.answers() == 1.0 && (0.93..1.07).contains(&median), "{median}");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_lies_between_its_edges(ns in 1_024_u64..4_000_000_000_000) {
            let bucket = index(ns);
            prop_assert!(edge(bucket) <= ns as f64 && (ns as f64) < edge(bucket + 1));
        }

        #[test]
        fn more_in_flight_never_makes_the_median_shorter(
            came in prop::collection::vec(1_000_000_u64..60 * S, 1..60),
            open in prop::collection::vec(1_000_000_u64..90 * S, 0..60),
        ) {
            let mut seen = Survival::new();
            came.iter().for_each(|&ns| seen.came(ns));
            let alone = seen.median(std::iter::empty()).unwrap();
            prop_assert!(seen.median(open.into_iter()).is_none_or(|with| with >= alone * 0.999));
        }
    }
}
