//! Buckets of a rate that the test knows, and what is found of it.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

/// A bucket as a service keeps it.
struct Kept {
    per_s: f64,
    burst: f64,
    tokens: f64,
    at: u64,
}

impl Kept {
    fn full(per_s: f64, burst: f64) -> Self {
        Self { per_s, burst, tokens: burst, at: 0 }
    }

    fn admits(&mut self, now: u64) -> bool {
        self.tokens = (self.tokens + (now - self.at) as f64 / SECOND * self.per_s).min(self.burst);
        self.at = now;
        let admits = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(admits));
        admits
    }
}

/// What a bucket tells of one that sees these starts.
fn seen(kept: &mut Kept, starts: impl IntoIterator<Item = u64>) -> Bucket {
    let mut bucket = Bucket::new();
    for (attempt, at) in (0..).zip(starts) {
        bucket.started(attempt, at, 1.0);
        if !kept.admits(at) {
            bucket.refused(attempt);
            bucket.learn(at);
        }
    }
    bucket
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_rate_lies_between_the_bounds_however_starts_are_spread(
        per_s in 0.5f64..200.0,
        burst in 1u32..50,
        gaps in prop::collection::vec((0.0f64..1.0).prop_map(|x| x * x * x), 1..400),
        pace in 0.3f64..4.0,
    ) {
        // At once at first, as many as there are room for and one more; then faster or slower than the rate.
        let mut now = 0;
        let spread = gaps.iter().map(|gap| {
            now += (gap * 4.0 / (pace * per_s) * SECOND) as u64;
            now
        });
        let starts: Vec<u64> = std::iter::repeat_n(0, burst as usize + 1).chain(spread).collect();
        let bucket = seen(&mut Kept::full(per_s, f64::from(burst)), starts);
        let (least, most) = (bucket.least() / EXACT, bucket.most() * EXACT);
        prop_assert!((least..=most).contains(&per_s), "{least} {per_s} {most}");
    }

    #[test]
    fn what_is_in_it_for_sure_is_let_in(
        per_s in 0.5f64..200.0,
        burst in 1u32..50,
        paces in prop::collection::vec(0.5f64..3.0, 20..200),
        rest_s in 0.0f64..3.0,
    ) {
        let mut now = 0;
        let spread = paces.iter().map(|pace| {
            now += (SECOND / (pace * per_s)) as u64;
            now
        });
        let starts: Vec<u64> = std::iter::repeat_n(0, burst as usize + 1).chain(spread).collect();
        let mut kept = Kept::full(per_s, f64::from(burst));
        let bucket = seen(&mut kept, starts);
        let later = now + (rest_s * SECOND) as u64;
        // A start's worth of what was rounded, and of the time by which the bounds may be off.
        let sure = (bucket.level(later) / (EXACT * EXACT) - 1.0) as u32;
        let let_in = (0..sure).all(|_| kept.admits(later));
        prop_assert!(let_in, "{sure} of {} at {} to {}", kept.tokens, bucket.least(), bucket.most());
    }
}

#[test]
fn a_bucket_that_was_full_again_tells_the_rate_by_how_long_it_lasted() {
    // Three at once; a second later three more at once, which fill it no further, and the fourth after 50 ms.
    let mut bucket = seen(&mut Kept::full(10.0, 3.0), [0, 0, 0, 0]);
    let starts = [1_000, 1_000, 1_000, 1_050, 1_100, 1_150].map(|ms| ms * MS);
    (4..).zip(starts).for_each(|(attempt, at)| bucket.started(attempt, at, 1.0));
    bucket.refused(7);
    bucket.refused(9);
    bucket.learn(1_150 * MS);
    assert!((6.0..10.0).contains(&bucket.least()) && (10.0..21.0).contains(&bucket.most()), "{bucket:?}");
}

#[test]
fn what_is_let_in_at_first_is_counted_though_later_starts_arrive_before() {
    // Of twelve at once, the bucket of three lets the 5th, 9th and 10th in: they came first.
    let mut bucket = Bucket::new();
    (0..12).for_each(|attempt| bucket.started(attempt, 0, 1.0));
    [11, 0, 1, 2, 3, 5, 6, 7, 10].iter().for_each(|&refused| assert!(bucket.refused(refused).is_some()));
    assert_eq!(bucket.full(10.0), 3.0);
    bucket.learn(MS);
    assert!(bucket.least() < 10.0, "what came first raises nothing: {bucket:?}");
}

#[test]
fn a_bucket_that_had_rested_and_refuses_the_second_holds_one_less_each_time() {
    // Three were let in at first, as two had come in on their way; it holds one.
    let mut bucket = seen(&mut Kept::full(20.0, 3.0), [0, 0, 0, 0]);
    assert_eq!(bucket.full(20.0), 3.0);
    bucket.believe(20.0);
    for (attempt, second, holds) in [(4, 1, 2.0), (6, 2, 1.0), (8, 3, 1.0)] {
        bucket.started(attempt, second * 1_000 * MS, 1.0);
        bucket.started(attempt + 1, second * 1_000 * MS, 1.0);
        bucket.refused(attempt + 1);
        assert_eq!(bucket.full(20.0), holds, "after {second} rests");
    }
}

#[test]
fn a_refusal_with_no_rest_before_it_tells_nothing_of_a_full_bucket() {
    let mut bucket = seen(&mut Kept::full(20.0, 3.0), [0, 0, 0, 0]);
    bucket.believe(20.0);
    (4..10).for_each(|attempt| bucket.started(attempt, u64::from(attempt) * 40 * MS, 1.0));
    bucket.refused(9);
    assert_eq!(bucket.full(20.0), 3.0);
}

#[test]
fn what_may_still_be_refused_raises_nothing() {
    let mut bucket = seen(&mut Kept::full(10.0, 1.0), [0, 0]);
    (2..12).for_each(|attempt| bucket.started(attempt, u64::from(attempt) * 100 * MS, 1.0));
    assert!(!bucket.confirm(100 * MS) && bucket.confirm(2_000 * MS));
    assert!((8.0..10.1).contains(&bucket.least()), "{}", bucket.least());
}

#[test]
fn a_service_that_has_become_slower_is_seen_and_what_is_older_forgotten() {
    let mut kept = Kept::full(50.0, 5.0);
    let mut bucket = seen(&mut kept, (0..200).map(|i| i * 18 * MS));
    assert!((45.0..51.0).contains(&bucket.least()) && (49.0..60.0).contains(&bucket.most()), "{bucket:?}");
    kept.per_s = 10.0;
    for i in 200..260 {
        let at = u64::from(i) * 18 * MS + u64::from(i - 199) * 70 * MS;
        bucket.started(i, at, 1.0);
        if !kept.admits(at) {
            bucket.refused(i);
            bucket.learn(at);
        }
    }
    assert!((8.0..10.2).contains(&bucket.least()) && (9.8..12.5).contains(&bucket.most()), "{bucket:?}");
}
