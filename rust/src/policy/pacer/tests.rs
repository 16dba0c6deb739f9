//! The pacer beside a service that has a bucket.

use std::collections::VecDeque;

use super::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

fn pacer() -> Pacer {
    Pacer::new(&PacerConfig::default(), None)
}

fn refused(now: u64, attempt: AttemptId, started: u64, retry_after_ns: Option<u64>) -> Observation {
    Observation {
        now,
        attempt,
        next_attempt: attempt + 1,
        started,
        first_byte: None,
        signal: Signal::PushBack,
        status: 429,
        retry_after_ns,
        in_flight: 1,
        permits: 1,
        waiting: 100,
        key: 0,
    }
}

/// A service with a bucket, and whoever starts all that the pacer lets start.
struct Served {
    pacer: Pacer,
    per_s: f64,
    burst: f64,
    tokens: f64,
    retry_after: Option<u64>,
    replies_after: u64,
    /// How much later than it was made a start may arrive.
    jitter: u64,
    now: u64,
    arrived: u64,
    attempts: AttemptId,
    replies: VecDeque<Reply>,
}

/// What comes back, and when.
struct Reply {
    at: u64,
    attempt: AttemptId,
    started: u64,
    admitted: bool,
}

impl Served {
    fn new(per_s: f64, burst: f64) -> Self {
        Self {
            pacer: pacer(),
            per_s,
            burst,
            tokens: burst,
            retry_after: Some(S),
            replies_after: 100 * MS,
            jitter: 0,
            now: 0,
            arrived: 0,
            attempts: 0,
            replies: VecDeque::new(),
        }
    }

    /// Go on for so many seconds; how many a second were let in, and refused.
    fn go_on(&mut self, seconds: u64) -> (f64, f64) {
        let (mut admitted, mut rejected) = (0.0, 0.0);
        let end = self.now + seconds * S;
        while self.now < end {
            let ready = self.pacer.ready_at(self.now).max(self.now + MS);
            let reply = self.replies.front().map_or(u64::MAX, |reply| reply.at);
            self.now = ready.min(reply);
            if reply == self.now {
                let Reply { attempt, started, admitted, .. } = self.replies.pop_front().unwrap();
                let refused = refused(self.now, attempt, started, self.retry_after);
                self.pacer.observe(&match admitted {
                    true => Observation { signal: Signal::Success, status: 200, ..refused },
                    false => refused,
                });
            } else if self.pacer.ready_at(self.now) <= self.now {
                match self.start() {
                    true => admitted += 1.0,
                    false => rejected += 1.0,
                }
            }
        }
        (admitted / seconds as f64, rejected / seconds as f64)
    }

    fn start(&mut self) -> bool {
        let attempt = self.attempts;
        self.attempts += 1;
        self.pacer.started(self.now, attempt);
        let late =
            if self.jitter == 0 { 0 } else { u64::from(attempt.wrapping_mul(2_654_435_761)) * 977 % self.jitter };
        let arrives = (self.now + late).max(self.arrived);
        self.tokens = (self.tokens + (arrives - self.arrived) as f64 / S as f64 * self.per_s).min(self.burst);
        self.arrived = arrives;
        let admits = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(admits));
        let at = self.now + self.replies_after;
        self.replies.push_back(Reply { at, attempt, started: self.now, admitted: admits });
        admits
    }
}

#[test]
fn nothing_is_held_back_before_the_first_refusal() {
    let mut pacer = pacer();
    (0..1_000).for_each(|attempt| {
        assert_eq!(pacer.ready_at(5), 5);
        pacer.started(5, attempt);
    });
    assert_eq!(pacer.rate(), None);
}

#[test]
fn it_finds_the_rate_whatever_the_burst_and_is_refused_little() {
    for per_s in [1.0, 5.0, 12.0, 50.0, 100.0] {
        for burst in [1.0, 3.0, 10.0, 100.0] {
            for retry_after in [None, Some(S), Some(S / 20)] {
                let mut served = Served { retry_after, ..Served::new(per_s, burst) };
                served.go_on(80);
                let (admitted, rejected) = served.go_on(80);
                let on = format!("{per_s}/s, burst {burst}, {retry_after:?}: {admitted}/s, {rejected}/s refused");
                assert!((0.9 * per_s..1.02 * per_s).contains(&admitted) && rejected < 0.03 * per_s + 0.05, "{on}");
            }
        }
    }
}

#[test]
fn a_bucket_that_is_full_again_after_each_pause_hides_the_rate_for_seconds_only() {
    for (per_s, burst) in [(60.0, 10.0), (20.0, 5.0), (100.0, 1.0)] {
        let (admitted, _) = Served::new(per_s, burst).go_on(20);
        assert!(admitted > 0.55 * per_s, "{per_s}/s, burst {burst}: {admitted}/s");
    }
}

#[test]
fn it_finds_the_rate_though_starts_reach_the_service_sooner_or_later_than_others() {
    for (per_s, burst) in [(12.0, 6.0), (50.0, 3.0), (50.0, 20.0)] {
        let mut served = Served { jitter: 10 * MS, ..Served::new(per_s, burst) };
        served.go_on(30);
        let (admitted, rejected) = served.go_on(60);
        let on = format!("{per_s}/s, burst {burst}: {admitted}/s, {rejected}/s refused");
        assert!(admitted > 0.6 * per_s && rejected < 0.05 * per_s + 0.05, "{on}");
    }
}

#[test]
fn a_bucket_of_one_is_found_though_the_first_starts_arrive_while_permits_come() {
    for retry_after in [None, Some(S), Some(S / 20)] {
        let mut served = Served { jitter: 10 * MS, retry_after, ..Served::new(200.0, 1.0) };
        served.go_on(60);
        let (admitted, rejected) = served.go_on(60);
        assert!(admitted > 40.0 && rejected < 6.0, "{retry_after:?}: {admitted}/s, {rejected}/s refused");
    }
}

#[test]
fn the_rate_creeps_the_faster_the_longer_nothing_was_refused() {
    // Measured at 20 a second; then the service lets all in.
    let mut served = Served { retry_after: Some(S / 20), ..Served::new(20.0, 5.0) };
    served.go_on(60);
    (served.per_s, served.burst) = (1e6, 1e6);
    let (first, then) = (served.go_on(5).0, served.go_on(30).0);
    assert!(first < 25.0 && then > 40.0, "{first}/s, {then}/s");
}

#[test]
fn a_bucket_that_an_earlier_run_left_empty_is_found_as_well() {
    for tokens in [0.0, 3.0] {
        let mut served = Served { tokens, ..Served::new(5.0, 20.0) };
        served.go_on(60);
        let (admitted, rejected) = served.go_on(60);
        assert!((4.5..5.1).contains(&admitted) && rejected < 0.5, "{tokens}: {admitted}/s, {rejected}/s refused");
    }
}

#[test]
fn a_service_that_counts_by_the_minute_is_not_taken_for_one_that_lets_nobody_in() {
    for retry_after in [None, Some(S), Some(30 * S)] {
        let mut served = Served { retry_after, ..Served::new(0.0, 60.0) };
        let minutes = (0..10).map(|_| {
            served.tokens = 60.0;
            served.go_on(60).0 * 60.0
        });
        let let_in = minutes.sum::<f64>() / 10.0;
        assert!(let_in > 30.0, "{retry_after:?}: {let_in} of 60 a minute");
    }
}

#[test]
fn a_service_that_becomes_slower_or_faster_is_followed() {
    let mut served = Served::new(20.0, 5.0);
    served.go_on(30);
    served.per_s = 5.0;
    served.go_on(30);
    let (admitted, rejected) = served.go_on(30);
    assert!(admitted > 4.0 && rejected < 0.5, "{admitted}/s, {rejected}/s refused");
    served.per_s = 10.0;
    served.go_on(300);
    let (admitted, _) = served.go_on(30);
    assert!(admitted > 8.0, "{admitted}/s");
}

#[test]
fn what_came_into_the_bucket_in_the_pause_goes_at_once() {
    let mut served = Served { replies_after: 5 * MS, ..Served::new(5.0, 20.0) };
    served.go_on(60);
    let rate = served.pacer.rate().unwrap();
    assert!((4.6..5.2).contains(&rate), "{rate}");
    let (now, attempt) = (served.now, served.attempts);
    let mut pacer = served.pacer;
    pacer.started(now, attempt);
    pacer.observe(&refused(now + MS, attempt, now, Some(2 * S)));
    let again = now + MS + 2 * S;
    assert_eq!(pacer.ready_at(now + MS), again);
    let mut at_once = 0;
    while pacer.ready_at(again) <= again {
        pacer.started(again, attempt + 1 + at_once);
        at_once += 1;
    }
    assert!((9..=10).contains(&at_once), "{at_once} of the ten that came in two seconds");
}

#[test]
fn the_rate_of_an_earlier_run_is_believed_at_the_first_refusal() {
    let mut pacer = Pacer::new(&PacerConfig::default(), Some(7.0));
    pacer.started(0, 0);
    pacer.observe(&refused(100 * MS, 0, 0, Some(S)));
    assert_eq!(pacer.rate(), Some(7.0));
    assert_eq!(pacer.ready_at(1_100 * MS), 1_100 * MS);
    assert_eq!(pacer.rate(), Some(7.0 * 0.97));
}

#[test]
fn the_service_says_how_long_to_wait_within_bounds_and_without_its_word_the_pause_doubles() {
    let mut pacer = pacer();
    pacer.started(0, 0);
    pacer.observe(&refused(S, 0, 0, Some(30 * S)));
    assert_eq!(pacer.ready_at(S), 31 * S);
    pacer.observe(&refused(2 * S, 0, 0, Some(999_999 * S)));
    assert_eq!(pacer.ready_at(2 * S), 122 * S);

    let mut pacer = self::pacer();
    pacer.observe(&refused(S, 0, S, None));
    assert_eq!(pacer.ready_at(S), S + S / 2);
    pacer.observe(&refused(2 * S, 1, 2 * S, None));
    assert_eq!(pacer.ready_at(2 * S), 3 * S);
    pacer.observe(&Observation { signal: Signal::Success, ..refused(4 * S, 2, 3 * S, None) });
    pacer.observe(&refused(5 * S, 3, 5 * S, None));
    assert_eq!(pacer.ready_at(5 * S), 5 * S + S / 2);
}

#[test]
fn a_burst_of_refusals_is_one() {
    let mut pacer = pacer();
    (0..20).for_each(|attempt| pacer.started(0, attempt));
    (0..10).for_each(|i| pacer.observe(&refused((100 + u64::from(i)) * MS, i + 10, 0, None)));
    assert_eq!(pacer.ready_at(200 * MS), 600 * MS, "one pause, and not a longer one");
    assert_eq!(pacer.rate(), Some(10.0), "one start per round trip of a refusal");
}

#[test]
fn two_refusals_with_nothing_let_in_between_do_not_end_it() {
    let mut pacer = pacer();
    (0..40).for_each(|attempt| pacer.started(0, attempt));
    (0..20).for_each(|i| pacer.observe(&refused(2 * S, 20 + i, 0, None)));
    let again = pacer.ready_at(2 * S);
    assert_eq!(pacer.ready_at(again), again);
    pacer.started(again, 40);
    pacer.observe(&refused(again + S / 10, 40, again, Some(60 * S)));
    // What the service lets in after its minute isn't one start an hour.
    let (mut now, mut starts) = (pacer.ready_at(again + S / 10), 0);
    assert!(now >= again + 60 * S);
    let end = now + 60 * S;
    now = pacer.ready_at(now).max(now);
    while now < end {
        pacer.started(now, 41 + starts);
        starts += 1;
        now = pacer.ready_at(now).max(now + MS);
    }
    assert!(starts >= 30, "{starts}");
}

#[test]
fn only_what_is_refused_for_its_rate_counts() {
    let mut pacer = pacer();
    pacer.observe(&Observation { status: 503, ..refused(S, 0, 0, Some(S)) });
    pacer.observe(&Observation { signal: Signal::Failure, ..refused(S, 0, 0, Some(S)) });
    assert_eq!((pacer.rate(), pacer.ready_at(S)), (None, S));
}

#[test]
fn starts_are_scarce_while_the_rate_binds_and_the_line_is_long() {
    let mut pacer = pacer();
    pacer.started(0, 0);
    pacer.observe(&refused(100 * MS, 0, 0, Some(S)));
    assert!(!pacer.is_scarce(1_000, S), "nothing has waited yet");
    let ready = pacer.ready_at(200 * MS);
    assert_eq!(ready, 1_100 * MS);
    pacer.started(ready, 1);
    assert!(pacer.is_scarce(1_000, S) && !pacer.is_scarce(3, S));
}
