//! A limit learned from the gradient of latency over load: it grows while answers come as fast as they did with few in flight,
//! and yields when they come slower. Source: Brakmo and Peterson, "TCP Vegas", 1995; Netflix, concurrency-limits (Gradient2).
//!
//! What differs: stalls aren't load. Latencies are compared by what comes when (the log-rank test; Mantel, "Evaluation of
//! survival data and two new rank order statistics", 1966) and by medians that count those in flight, never by means.

use serde::{Deserialize, Serialize};

use super::super::config::{positive, whole};
use super::super::flights::Flights;
use super::super::observation::{Observation, Signal};
use super::super::survival::Survival;
use super::super::{AttemptId, ConfigError, SECOND};
use super::MOST;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GradientConfig {
    /// It never falls below.
    #[serde(default = "one")]
    pub floor: u32,
    /// It never rises above.
    pub ceiling: u32,
    /// The limit at the start, or the ceiling if that is lower; a remembered one takes its place. The attempts of this first
    /// burst are what later ones are compared with.
    #[serde(default = "twenty")]
    pub start: u32,
    /// Before any answer has come it rises by so many a second …
    #[serde(default = "twenty_a_second")]
    pub ramp_per_s: f64,
    /// … up to this. Then each answer raises it by one, which doubles it each round trip.
    #[serde(default = "forty")]
    pub blind: u32,
    /// How much longer than the best the median may take before the limit yields.
    #[serde(default = "half_more")]
    pub tolerance: f64,
}

fn one() -> u32 {
    1
}

fn twenty() -> u32 {
    20
}

fn twenty_a_second() -> f64 {
    20.0
}

fn forty() -> u32 {
    40
}

fn half_more() -> f64 {
    1.5
}

/// In the slow start, so many answers must have been expected before their lack means anything, …
const EXPECTED_LEAST: f64 = 4.0;
/// … no more than this share of them may have come, …
const SLOWER: f64 = 0.7;
/// … and by chance it must be as rare as one in twenty: so many standard deviations below.
const DEVIATIONS: f64 = 1.6;
/// What is left of the limit beyond what the service turned out to serve at once, so that it never runs dry.
const ROOM: f64 = 1.2;
/// A service that looks slower than this by chance isn't believed.
const SERVED_LEAST: f64 = 0.4;
/// No single look takes more than this.
const CUT_MOST: f64 = 0.5;
/// What overload leaves of what is in flight.
const OVERLOAD_LEAVES: f64 = 0.9;
/// After overload the limit rises fast again up to this share of what it was.
const REGAIN: f64 = 0.4;
/// Answers that make a window: half of the limit, and so many at least.
const WINDOW_LEAST: f64 = 12.0;
/// A median within this of the best is as good.
const AS_GOOD: f64 = 1.1;
/// With no more in flight than there were then, the best is forgotten by so much with each window that is worse: it is the
/// service that has become slower.
const FORGOTTEN: f64 = 1.05;

#[derive(Clone, Debug)]
pub(in crate::policy) struct Gradient {
    config: GradientConfig,
    permits: f64,
    /// A pacer answers what is told of rates.
    paced: bool,
    phase: Phase,
    flights: Flights,
    /// The first burst: what this service is like with few in flight.
    first: Box<Survival>,
    /// Attempts started before this one belong to it.
    burst: AttemptId,
    /// Those that are compared with it.
    later: Box<Survival>,
    /// The first attempt of these.
    from: AttemptId,
    /// Answers since the last look.
    unseen: u32,
    /// The first attempt that was started under the present limit: what older ones are told was already acted on.
    epoch: AttemptId,
    /// The shortest median of a window, in nanoseconds, and the most in flight with which it was about as short.
    best: Option<(f64, f64)>,
    /// The limit was reached within the window.
    reached: bool,
    /// Up to here each answer raises it by one after a cut: half of what it was before.
    regain: f64,
    /// One that was started since the last cut was answered.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nothing was started yet.
    Idle,
    /// It rises with time, since then.
    Ramp(u64),
    /// It rises with each answer.
    SlowStart,
    /// It is near what the service bears.
    Steady,
}

impl GradientConfig {
    /// As the named strategy has it.
    pub(in crate::policy) fn with(ceiling: u32) -> Self {
        Self {
            floor: one(),
            ceiling,
            start: twenty(),
            ramp_per_s: twenty_a_second(),
            blind: forty(),
            tolerance: half_more(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        whole("limit.ceiling", self.ceiling, 1, MOST)?;
        whole("limit.floor", self.floor, 1, self.ceiling)?;
        whole("limit.start", self.start, 1, MOST)?;
        whole("limit.blind", self.blind, 1, MOST)?;
        positive("limit.ramp_per_s", self.ramp_per_s, true)?;
        positive("limit.tolerance", self.tolerance, false)
    }
}

impl Gradient {
    pub(super) fn new(config: &GradientConfig, paced: bool, remembered: Option<u32>) -> Self {
        let permits = remembered.unwrap_or(config.start).clamp(config.floor, config.ceiling);
        Self {
            config: config.clone(),
            permits: f64::from(permits),
            paced,
            phase: Phase::Idle,
            flights: Flights::default(),
            first: Box::new(Survival::new()),
            burst: permits,
            later: Box::new(Survival::new()),
            from: permits,
            unseen: 0,
            epoch: 0,
            best: None,
            reached: false,
            regain: 0.0,
            answered: true,
        }
    }

    #[inline]
    pub(super) fn permits(&self) -> u32 {
        self.permits as u32
    }

    pub(super) fn can_shrink(&self) -> bool {
        self.permits() > self.config.floor
    }

    /// Let time raise the limit.
    pub(super) fn tick(&mut self, now: u64) {
        if let Phase::Ramp(began) = self.phase {
            let risen = f64::from(self.burst) + (now - began) as f64 / SECOND * self.config.ramp_per_s;
            self.raise_to(risen.min(f64::from(self.config.blind)));
            if self.permits() >= self.blind() {
                self.phase = Phase::SlowStart;
            }
        }
    }

    /// When time raises it next.
    pub(super) fn next(&self) -> Option<u64> {
        let Phase::Ramp(began) = self.phase else { return None };
        let missing = self.permits.floor() + 1.0 - f64::from(self.burst);
        (self.config.ramp_per_s > 0.0).then(|| began + (missing / self.config.ramp_per_s * SECOND).ceil() as u64)
    }

    pub(super) fn started(&mut self, now: u64, attempt: AttemptId, crowd: u32) {
        if self.phase == Phase::Idle {
            self.phase = if self.permits() < self.blind() { Phase::Ramp(now) } else { Phase::SlowStart };
        }
        self.flights.started(attempt, now, crowd);
    }

    pub(super) fn observe(&mut self, seen: &Observation) {
        self.flights.ended(seen.attempt);
        let lasted = seen.now.saturating_sub(seen.started);
        match seen.signal {
            Signal::Success => self.answered(seen, lasted),
            Signal::Dropped | Signal::TimedOut => {
                if let Some(group) = self.group_of(seen.attempt) {
                    group.left(lasted);
                }
            }
            Signal::PushBack => self.pushed_back(seen),
            Signal::Failure => {}
        }
    }

    fn answered(&mut self, seen: &Observation, lasted: u64) {
        if let Some(group) = self.group_of(seen.attempt) {
            group.came(lasted);
        }
        let reached = seen.in_flight >= self.permits();
        self.answered |= seen.attempt >= self.epoch;
        if self.phase == Phase::Steady {
            self.reached |= reached;
            if reached && self.permits < self.regain {
                self.raise_to(self.permits + 1.0);
            }
            if f64::from(self.later.answers()) >= (self.permits / 2.0).max(WINDOW_LEAST) {
                self.close_window(seen);
            }
            return;
        }
        if reached {
            self.raise_to(self.permits + 1.0);
        }
        self.unseen += 1;
        if self.unseen > self.permits() / 16 {
            self.unseen = 0;
            self.look_for_queueing(seen);
        }
    }

    /// Do those started after the first burst answer as soon as those of it did? If not, they wait in line at the service.
    fn look_for_queueing(&mut self, seen: &Observation) {
        if f64::from(self.first.answers()) < (f64::from(self.burst) / 2.0).max(3.0) {
            return;
        }
        let age = |started: u64| seen.now.saturating_sub(started);
        let of_burst = self.flights.iter().filter(|f| f.attempt < self.burst).map(|f| age(f.started));
        let hazard = self.first.hazard(of_burst);
        let going = self.flights.iter().filter(|f| f.attempt >= self.from).map(|f| hazard.up_to(age(f.started)));
        let expected = self.later.expected(&hazard) + going.sum::<f64>();
        let came = f64::from(self.later.answers());
        // What is expected is itself known from few only.
        let deviation = (expected + expected * expected / f64::from(self.first.answers())).sqrt();
        let slower = came < SLOWER * expected && came < expected - DEVIATIONS * deviation;
        if expected >= EXPECTED_LEAST && slower {
            let served = f64::from(seen.in_flight) * (came / expected).max(SERVED_LEAST);
            let of_burst = self.flights.iter().filter(|f| f.attempt < self.burst).map(|f| age(f.started));
            self.best = self.first.median(of_burst).map(|median| (median, f64::from(self.burst)));
            self.settle_at((served * ROOM).min(self.permits), seen);
        }
    }

    /// One look a round trip: yield if the median is longer than it should be, rise if the limit was what held starts back.
    fn close_window(&mut self, seen: &Observation) {
        let going = self.flights.iter().filter(|f| f.attempt >= self.from);
        let median = self.later.median(going.map(|f| seen.now.saturating_sub(f.started)));
        if let Some(median) = median {
            let gradient = self.compare(median, f64::from(seen.in_flight)) * self.config.tolerance / median;
            if gradient < 1.0 {
                self.lower_to(self.permits * gradient.max(1.0 - CUT_MOST));
            } else if self.reached {
                self.raise_to(self.permits + self.permits.sqrt() / 2.0 + self.permits / 10.0);
            }
        }
        self.open_window(seen.next_attempt);
    }

    /// The best median, with this one taken into account.
    fn compare(&mut self, median: f64, in_flight: f64) -> f64 {
        let (best, at) = self.best.unwrap_or((median, in_flight));
        let (best, at) = if median <= best * AS_GOOD {
            (best.min(median), at.max(in_flight))
        } else if in_flight <= at {
            (best * FORGOTTEN, at)
        } else {
            (best, at)
        };
        self.best = Some((best, at));
        best
    }

    fn pushed_back(&mut self, seen: &Observation) {
        let of_rate = matches!(seen.status, 0 | 429);
        if of_rate && self.paced {
            // The pacer answers that. The limit only stops rising blindly.
            if matches!(self.phase, Phase::Idle | Phase::Ramp(_)) {
                self.phase = Phase::SlowStart;
            }
        } else if seen.attempt >= self.epoch {
            // A service that is down refuses again and again: what it bore before is what it bears when it is back.
            if std::mem::take(&mut self.answered) {
                self.regain = self.permits * REGAIN;
            }
            let bears = f64::from(seen.in_flight.saturating_sub(1));
            self.settle_at((bears * OVERLOAD_LEAVES).min(self.permits * OVERLOAD_LEAVES), seen);
        }
    }

    /// The slow start, if it still went on, is over: go on from here.
    fn settle_at(&mut self, permits: f64, seen: &Observation) {
        self.lower_to(permits);
        self.phase = Phase::Steady;
        self.epoch = seen.next_attempt;
        self.open_window(seen.next_attempt);
    }

    fn open_window(&mut self, from: AttemptId) {
        self.later.clear();
        self.from = from;
        self.reached = false;
    }

    fn group_of(&mut self, attempt: AttemptId) -> Option<&mut Survival> {
        if attempt >= self.from {
            return Some(&mut self.later);
        }
        (attempt < self.burst && self.phase != Phase::Steady).then_some(&mut *self.first)
    }

    fn blind(&self) -> u32 {
        self.config.blind.min(self.config.ceiling)
    }

    fn raise_to(&mut self, permits: f64) {
        self.permits = self.permits.max(permits).min(f64::from(self.config.ceiling));
    }

    fn lower_to(&mut self, permits: f64) {
        self.permits = self.permits.min(permits).max(f64::from(self.config.floor));
    }
}

#[cfg(test)]
mod tests;
