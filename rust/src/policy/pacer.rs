//! The pace of starts, learned from what the service admits.
//!
//! Two 429s tell the rate: the service's bucket was empty at both, so what it admitted between them is what came into it.
//! A bucket that was full in between, in a pause or while starts were too slow, let nothing more in: then the shorter times
//! before the second 429 tell more, less a burst each, and the rate is sought between that and the one that was refused.
//! No clock of the service enters. From then on starts are spread at that rate, which creeps up until the next 429 measures
//! it anew. Source: the token bucket of RFC 2697, read backwards.

use serde::{Deserialize, Serialize};

use super::config::{positive, share};
use super::observation::{Observation, Signal};
use super::{ConfigError, SECOND, ns};

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PacerConfig {
    /// What is taken of the rate that was measured.
    pub take: f64,
    /// How fast the rate creeps up while it is what holds starts back: this share a second.
    pub creep: f64,
    /// Seconds without starts after a 429 that doesn't say for how long.
    pub pause_s: f64,
    /// Seconds that the service's own wish is honoured for at most.
    pub pause_most_s: f64,
}

impl Default for PacerConfig {
    fn default() -> Self {
        Self { take: 0.95, creep: 0.01, pause_s: 0.5, pause_most_s: 120.0 }
    }
}

/// Until it is measured, the rate grows by this share a second: the second 429 is wanted soon.
const SEEK: f64 = 0.5;
/// Below a rate that was too fast, a start takes it no further than this share of the way there.
const STEP_MOST: f64 = 0.125;
/// The first guess is one start per round trip of a refusal, so that few are under way when the next one comes.
const ROUND_TRIP_LEAST: f64 = 1e-3;
/// Two refusals closer than this tell nothing of a rate.
const APART_LEAST: f64 = 0.2;
/// Where two measurements agree within this share, the rate creeps half as fast from then on, down to a tenth.
const AGREE: f64 = 0.15;
const CREEP_LEAST: f64 = 0.1;
/// Moments that are kept between two refusals.
const MARKS: usize = 64;
/// A rate never falls below a start an hour.
const RATE_LEAST: f64 = 1.0 / 3_600.0;
/// The line is long if it takes more than so many silences of a straggler to start it all.
const LONG: f64 = 2.0;

#[derive(Clone, Debug)]
pub(super) struct Pacer {
    config: PacerConfig,
    remembered: Option<f64>,
    /// Starts per second; none before the first refusal.
    rate: Option<f64>,
    /// That of the last measurement; none while all that is known is between what bounds it.
    measured: Option<f64>,
    /// Of the rate: it was seen to be this at least, and where it isn't measured, this was too fast.
    least: f64,
    too_fast: Option<f64>,
    /// Of `creep`, what is left of it.
    caution: f64,
    /// No starts before this, whatever the rate: the service said so.
    pause_until: u64,
    /// The next start's time at the rate.
    next: u64,
    /// When the bucket was seen empty last, and starts since then.
    empty_at: u64,
    admitted: u32,
    /// Moments since then, and how many had been started before each.
    marks: Vec<(u64, u32)>,
    /// When the first refusal was seen, and what was admitted before it: no less than a full bucket.
    first_refused: Option<u64>,
    burst: u32,
    /// When the first attempt was started, and how many seconds later the first one that was refused.
    began: Option<u64>,
    burst_s: f64,
    /// Pauses in a row that the service didn't ask for.
    pauses: u32,
    /// By when the rate has crept.
    crept_at: u64,
    /// It is what holds starts back.
    binds: bool,
    /// It was, at the last start.
    bound: bool,
}

impl PacerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        share("pacer.take", self.take, false)?;
        positive("pacer.creep", self.creep, true)?;
        positive("pacer.pause_s", self.pause_s, false)?;
        positive("pacer.pause_most_s", self.pause_most_s, true)?;
        match self.pause_most_s <= 86_400.0 {
            true => Ok(()),
            false => Err(ConfigError::Longest("pacer.pause_most_s", self.pause_most_s, 86_400)),
        }
    }
}

impl Pacer {
    /// A pacer as configured (and checked), which believes an earlier run's rate once the service first refuses a start.
    pub(super) fn new(config: &PacerConfig, remembered: Option<f64>) -> Self {
        Self {
            config: config.clone(),
            remembered,
            rate: None,
            measured: None,
            least: 0.0,
            too_fast: None,
            caution: 1.0,
            pause_until: 0,
            next: 0,
            empty_at: 0,
            admitted: 0,
            marks: Vec::with_capacity(MARKS),
            first_refused: None,
            burst: 0,
            began: None,
            burst_s: 0.0,
            pauses: 0,
            crept_at: 0,
            binds: false,
            bound: false,
        }
    }

    /// When the next attempt may start: now or earlier where nothing holds it back. To be asked when everything else lets it.
    #[inline]
    pub(super) fn ready_at(&mut self, now: u64) -> u64 {
        let ready = self.pause_until.max(self.next);
        if self.rate.is_none() || ready <= now {
            return now;
        }
        if !self.binds {
            self.binds = true;
            self.crept_at = self.pause_until.max(now);
        }
        ready
    }

    /// Starts per second that it lets pass; none while it knows no bound.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Whether starts are so few that the line should go before copies: the rate binds, and the line lasts longer than a
    /// straggler's copy could need.
    pub(super) fn is_scarce(&self, waiting: u64, silence: u64) -> bool {
        let lasts = |rate: f64| waiting as f64 / rate * SECOND > LONG * silence as f64;
        self.bound && self.rate.is_some_and(lasts)
    }

    /// An attempt was started.
    #[inline]
    pub(super) fn started(&mut self, now: u64) {
        if self.first_refused.is_some() {
            self.mark(now);
        }
        self.began.get_or_insert(now);
        self.admitted += 1;
        self.bound = std::mem::take(&mut self.binds);
        let Some(rate) = &mut self.rate else { return };
        if self.bound {
            let seconds = now.saturating_sub(self.crept_at) as f64 / SECOND;
            let growth = match (self.measured, self.too_fast) {
                (Some(_), _) => self.config.creep * self.caution * seconds,
                // The nearer to what was too fast, the slower; and where starts are rare, by starts rather than by seconds.
                (None, Some(most)) => {
                    let near = (SEEK * seconds).min(STEP_MOST) * (most / *rate).ln().min(1.0);
                    near.max(self.config.creep * seconds)
                }
                (None, None) => SEEK * seconds,
            };
            *rate *= growth.exp();
        }
        let gap = (SECOND / *rate) as u64;
        // Half a gap that went unused may be made up for: starts come when permits do.
        self.next = self.next.max(now.saturating_sub(gap / 2)).saturating_add(gap);
    }

    /// Learn from an attempt that is over.
    #[inline]
    pub(super) fn observe(&mut self, seen: &Observation) {
        match seen.signal {
            Signal::PushBack if matches!(seen.status, 0 | 429) => self.refused(seen),
            Signal::Success => self.pauses = 0,
            _ => {}
        }
    }

    fn refused(&mut self, seen: &Observation) {
        // Of a burst the first refusal tells all: the others were under way when it came.
        let is_first = seen.started >= self.empty_at;
        if is_first {
            let apart = (seen.started - self.empty_at) as f64 / SECOND;
            match self.rate {
                None => self.guess(seen),
                Some(rate) if apart >= APART_LEAST => match self.admitted.saturating_sub(1) {
                    // Nothing was let in: only that no start's worth came in that time is known. A service that counts
                    // by the minute does so to everybody who comes again too soon.
                    0 => self.rate = Some(rate.min(1.0 / apart)),
                    admitted => {
                        let least = (f64::from(admitted) / apart).max(self.least_rate(seen.started));
                        match self.may_have_been_full(rate) {
                            true => self.narrow(least, rate),
                            false => self.measure(least),
                        }
                    }
                },
                Some(_) => {}
            }
            if self.first_refused.is_none() {
                (self.first_refused, self.burst) = (Some(seen.now), self.admitted.saturating_sub(1));
                self.burst_s = self.began.map_or(0.0, |began| seen.started.saturating_sub(began) as f64 / SECOND);
            }
            self.empty_at = seen.now;
            self.admitted = 0;
            self.marks.clear();
        } else if self.first_refused.is_some_and(|at| seen.started < at) {
            self.burst = self.burst.saturating_sub(1);
        }
        if seen.retry_after_ns.is_some() || is_first {
            self.pause(seen);
        }
    }

    /// The least that the rate can be, by what was admitted in any time up to now: no more than a full bucket and what came
    /// into it meanwhile. While starts were slower than the rate the bucket was full, and nobody saw what ran over.
    fn least_rate(&self, now: u64) -> f64 {
        let burst = f64::from(self.burst.max(1));
        let of = |&(at, before): &(u64, u32)| {
            let seconds = now.saturating_sub(at) as f64 / SECOND;
            (f64::from(self.admitted.saturating_sub(1).saturating_sub(before)) - burst) / seconds.max(APART_LEAST)
        };
        self.marks.iter().map(of).fold(0.0, f64::max)
    }

    /// Whether a bucket into which `most` a second come at most could have run over since it was seen empty. It held what
    /// was admitted before the first refusal, less what came into it meanwhile.
    fn may_have_been_full(&self, most: f64) -> bool {
        let full = (f64::from(self.burst) - most * self.burst_s).max(1.0);
        let came = |at: u64| most * at.saturating_sub(self.empty_at) as f64 / SECOND;
        self.marks.iter().any(|&(at, before)| came(at) - f64::from(before) >= full)
    }

    /// Remember when how many had been started: few marks, further apart the longer it goes on.
    fn mark(&mut self, now: u64) {
        if self.marks.len() == MARKS {
            let mut nth = 0;
            self.marks.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        let every = self.admitted / (MARKS as u32 / 2);
        if self.marks.last().is_none_or(|&(_, before)| self.admitted - before > every) {
            self.marks.push((now, self.admitted));
        }
    }

    fn guess(&mut self, seen: &Observation) {
        let round_trip = seen.now.saturating_sub(seen.started) as f64 / SECOND;
        self.measured = self.remembered;
        self.rate = Some(self.remembered.unwrap_or(1.0 / round_trip.max(ROUND_TRIP_LEAST)));
    }

    fn measure(&mut self, rate: f64) {
        let rate = rate.max(RATE_LEAST);
        let agrees = self.measured.is_some_and(|before| (rate / before - 1.0).abs() < AGREE);
        self.caution = if agrees { (self.caution / 2.0).max(CREEP_LEAST) } else { 1.0 };
        (self.measured, self.least) = (Some(rate), rate);
        self.rate = Some(rate * self.config.take);
    }

    /// The rate is at least what came in, and less than what was refused. Where these are near each other, that is it; else it
    /// is sought from their middle (by ratio) on, which halves how far off it can be.
    fn narrow(&mut self, least: f64, refused: f64) {
        // What was seen earlier holds until it is refused itself: then the service has become slower.
        self.least = if self.least < refused { self.least.max(least) } else { least };
        if self.least * (1.0 + AGREE) >= refused {
            return self.measure(self.least);
        }
        (self.measured, self.too_fast, self.caution) = (None, Some(refused), 1.0);
        self.rate = Some((self.least * refused).sqrt());
    }

    fn pause(&mut self, seen: &Observation) {
        let most = ns(self.config.pause_most_s);
        let pause = seen.retry_after_ns.unwrap_or_else(|| {
            let long = self.config.pause_s * f64::from(self.pauses).exp2();
            self.pauses = (self.pauses + 1).min(16);
            ns(long.min(self.config.pause_most_s))
        });
        self.pause_until = self.pause_until.max(seen.now.saturating_add(pause.min(most)));
        self.next = self.next.max(self.pause_until);
        // What it waits for now isn't the rate.
        self.crept_at = self.crept_at.max(self.pause_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn pacer() -> Pacer {
        Pacer::new(&PacerConfig::default(), None)
    }

    fn refused(now: u64, started: u64, retry_after_ns: Option<u64>) -> Observation {
        Observation {
            now,
            attempt: 0,
            next_attempt: 0,
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

    /// A service that admits `per_s`, `burst` at once, and answers a refusal after 100 ms with `retry_after` s. Starts whatever
    /// the pacer lets start in `seconds`; how many were admitted and refused in the second half.
    fn served(pacer: &mut Pacer, per_s: f64, burst: f64, retry_after: u64, seconds: u64) -> (f64, f64) {
        let (mut now, mut tokens, mut at) = (0, burst, 0);
        let mut refusals = std::collections::VecDeque::new();
        let (mut admitted, mut rejected) = (0.0, 0.0);
        while now < seconds * S {
            let ready = pacer.ready_at(now).max(now + MS);
            let reply = refusals.front().map_or(u64::MAX, |&(_, reply)| reply);
            now = ready.min(reply);
            if reply == now {
                let (started, _) = refusals.pop_front().unwrap();
                pacer.observe(&refused(now, started, Some(retry_after * S)));
                continue;
            }
            if pacer.ready_at(now) > now {
                continue;
            }
            pacer.started(now);
            tokens = (tokens + (now - at) as f64 / S as f64 * per_s).min(burst);
            at = now;
            let counts = f64::from(u8::from(now > seconds * S / 2));
            if tokens >= 1.0 {
                tokens -= 1.0;
                admitted += counts;
            } else {
                refusals.push_back((now, now + 100 * MS));
                rejected += counts;
            }
        }
        (admitted / (seconds as f64 / 2.0), rejected)
    }

    #[test]
    fn nothing_is_held_back_before_the_first_refusal() {
        let mut pacer = pacer();
        (0..1_000).for_each(|_| {
            assert_eq!(pacer.ready_at(5), 5);
            pacer.started(5);
        });
        assert_eq!(pacer.rate(), None);
    }

    #[test]
    fn it_finds_the_rate_whatever_the_burst_and_is_refused_little() {
        // The last ones fill their bucket within a pause, and while the rate is being sought.
        for (per_s, burst) in
            [(1.0, 3.0), (5.0, 20.0), (12.0, 12.0), (50.0, 100.0), (12.0, 6.0), (20.0, 5.0), (60.0, 10.0)]
        {
            let (admitted, rejected) = served(&mut pacer(), per_s, burst, 1, 200);
            assert!((0.9 * per_s..1.02 * per_s).contains(&admitted), "{per_s}/s, burst {burst}: {admitted}/s admitted");
            assert!(rejected < 0.05 * admitted * 100.0 + 5.0, "{per_s}/s, burst {burst}: {rejected} refused in 100 s");
        }
    }

    #[test]
    fn a_bucket_that_is_full_again_after_each_pause_hides_the_rate_for_seconds_only() {
        for (per_s, burst) in [(60.0, 10.0), (20.0, 5.0)] {
            let (admitted, _) = served(&mut pacer(), per_s, burst, 1, 20);
            assert!(admitted > 0.6 * per_s, "{per_s}/s, burst {burst}: {admitted}/s");
        }
    }

    #[test]
    fn where_the_bucket_was_full_in_the_pause_the_rate_is_sought_between_what_was_let_in_and_what_was_refused() {
        let mut pacer = pacer();
        (0..2).for_each(|_| pacer.started(0));
        pacer.observe(&refused(2 * MS, 0, Some(S)));
        assert_eq!(pacer.rate(), Some(500.0));
        // One was let in after a second's pause, the next one refused: the rate is above 1/s and below 500/s.
        pacer.started(1_002 * MS);
        pacer.started(1_004 * MS);
        pacer.observe(&refused(1_006 * MS, 1_004 * MS, Some(S)));
        let middle = pacer.rate().unwrap();
        assert!((20.0..25.0).contains(&middle), "{middle}");
        // What was refused now is the new bound; what was let in tells no more than before.
        pacer.started(2_006 * MS);
        pacer.started(2_052 * MS);
        pacer.observe(&refused(2_054 * MS, 2_052 * MS, Some(S)));
        let nearer = pacer.rate().unwrap();
        assert!((4.0..6.0).contains(&nearer), "{nearer}");
    }

    #[test]
    fn a_bucket_too_large_to_be_full_in_the_pause_measures_at_the_second_refusal() {
        let mut pacer = pacer();
        (0..21).for_each(|_| pacer.started(0));
        pacer.observe(&refused(100 * MS, 0, Some(S)));
        let mut now = 1_100 * MS;
        (0..10).for_each(|_| {
            pacer.started(now);
            now += 100 * MS;
        });
        pacer.started(now);
        pacer.observe(&refused(now + 100 * MS, now, Some(S)));
        // Ten came in within two seconds.
        assert_eq!(pacer.rate(), Some(5.0 * 0.95));
    }

    #[test]
    fn the_rate_of_an_earlier_run_is_believed_at_the_first_refusal() {
        let mut pacer = Pacer::new(&PacerConfig::default(), Some(7.0));
        pacer.started(0);
        pacer.observe(&refused(100 * MS, 0, Some(S)));
        assert_eq!(pacer.rate(), Some(7.0));
    }

    #[test]
    fn the_service_says_how_long_to_wait_within_bounds_and_without_its_word_the_pause_doubles() {
        let mut pacer = pacer();
        pacer.started(0);
        pacer.observe(&refused(S, 0, Some(30 * S)));
        assert_eq!(pacer.ready_at(S), 31 * S);
        pacer.observe(&refused(2 * S, 0, Some(999_999 * S)));
        assert_eq!(pacer.ready_at(2 * S), 122 * S);

        let mut pacer = self::pacer();
        pacer.observe(&refused(S, S, None));
        assert_eq!(pacer.ready_at(S), S + S / 2);
        pacer.observe(&refused(2 * S, 2 * S, None));
        assert_eq!(pacer.ready_at(2 * S), 3 * S);
        pacer.observe(&Observation { signal: Signal::Success, ..refused(4 * S, 3 * S, None) });
        pacer.observe(&refused(5 * S, 5 * S, None));
        assert_eq!(pacer.ready_at(5 * S), 5 * S + S / 2);
    }

    #[test]
    fn a_burst_of_refusals_is_one() {
        let mut pacer = pacer();
        (0..20).for_each(|_| pacer.started(0));
        (0..10).for_each(|i| pacer.observe(&refused((100 + i) * MS, 0, Some(S))));
        assert_eq!(pacer.rate(), Some(10.0), "one start per round trip of a refusal");
    }

    #[test]
    fn two_refusals_with_nothing_let_in_between_bound_the_rate_and_do_not_end_it() {
        let mut pacer = pacer();
        (0..40).for_each(|_| pacer.started(0));
        pacer.observe(&refused(2 * S, 0, None));
        let guess = pacer.rate().unwrap();
        let again = pacer.ready_at(2 * S);
        pacer.started(again);
        pacer.observe(&refused(again + S / 10, again, Some(60 * S)));
        assert_eq!(pacer.rate(), Some(guess.min(2.0)));
        // What the service lets in after its minute isn't one start an hour.
        let (mut now, mut starts) = (pacer.ready_at(again + S / 10), 0);
        assert!(now >= again + 60 * S);
        let end = now + 60 * S;
        while now < end {
            pacer.started(now);
            starts += 1;
            now = pacer.ready_at(now).max(now + MS);
        }
        assert!(starts >= 30, "{starts}");
    }

    #[test]
    fn only_what_is_refused_for_its_rate_counts() {
        let mut pacer = pacer();
        pacer.observe(&Observation { status: 503, ..refused(S, 0, Some(S)) });
        pacer.observe(&Observation { signal: Signal::Failure, ..refused(S, 0, Some(S)) });
        assert_eq!((pacer.rate(), pacer.ready_at(S)), (None, S));
    }

    #[test]
    fn starts_are_scarce_while_the_rate_binds_and_the_line_is_long() {
        let mut pacer = pacer();
        pacer.started(0);
        pacer.observe(&refused(100 * MS, 0, Some(S)));
        assert!(!pacer.is_scarce(1_000, S), "nothing has waited yet");
        let ready = pacer.ready_at(200 * MS);
        assert_eq!(ready, 1_100 * MS);
        pacer.started(ready);
        assert!(pacer.is_scarce(1_000, S) && !pacer.is_scarce(3, S));
    }
}
