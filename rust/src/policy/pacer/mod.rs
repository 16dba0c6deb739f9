//! The pace of starts, learned from what the service admits.
//!
//! Nothing is paced before the first 429. From then on starts go at a rate between the bounds that follow from what was let in
//! and what was refused (`bucket`): at their middle, by ratio, which halves how far off it can be with each refusal. What is let
//! in raises the lower one meanwhile, and the rate with it. Once they are near each other, that is the rate; it creeps up until
//! the next 429, the faster the more starts there were since the last one. What is in the service's bucket for sure, after a pause
//! or a time of few starts, goes at once.

mod bucket;

use serde::{Deserialize, Serialize};

use super::config::{positive, share};
use super::observation::{Observation, Signal};
use super::{AttemptId, ConfigError, SECOND, ns};
use bucket::{Bucket, FASTEST};

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PacerConfig {
    /// What is taken of the rate that was measured.
    pub take: f64,
    /// How fast the rate creeps up while it is what holds starts back: this share a second, or each 50 starts, and twice as
    /// much with each 50 more that weren't refused.
    pub creep: f64,
    /// Seconds without starts after a 429 that doesn't say for how long.
    pub pause_s: f64,
    /// Seconds that the service's own wish is honoured for at most.
    pub pause_most_s: f64,
}

impl Default for PacerConfig {
    fn default() -> Self {
        Self { take: 0.97, creep: 0.01, pause_s: 0.5, pause_most_s: 120.0 }
    }
}

/// Bounds within this factor are a measurement: starts go at what is taken of it, and the rate only creeps.
const NEAR: f64 = 1.15;
/// The nearer the bounds, the slower it creeps, down to this share.
const CREEP_LEAST: f64 = 0.2;
/// So many starts without a refusal double how fast it creeps, as what is long past says little of now; and as many as go in the
/// time in which pauses like the last one are this share. So neither the starts refused nor the time lost are many.
const CALM: f64 = 50.0;
const LOST: f64 = 0.05;
/// Doubled more often it would only be a number too large.
const DOUBLED_MOST: f64 = 16.0;
/// Until it is measured, the rate grows by this share a second while it is what holds starts back.
const SEEK: f64 = 1.0;
/// No start takes it up by more than to twice as much, however rare they are: that is this power of e.
const GROWTH_MOST: f64 = std::f64::consts::LN_2;
/// Where nothing is known of it, the lower bound is taken to be this share of the upper one.
const LEAST_GUESS: f64 = 0.25;
/// Where nothing is known of the upper bound, it may be this many times the lower one.
const SEEK_MOST: f64 = 2.0;
/// A bound that moved by less than this tells nothing new.
const NEWS: f64 = 1.01;
/// A refusal takes this long at least, and a pause.
const MOMENT_NS: u64 = 1_000_000;
/// Half a gap that went unused may be made up for: starts come when permits do. Not where the bucket has no room for that.
const MADE_UP: f64 = 0.5;
/// The line is long if it takes more than so many silences of a straggler to start it all.
const LONG: f64 = 2.0;

#[derive(Clone, Debug)]
pub(super) struct Pacer {
    config: PacerConfig,
    remembered: Option<f64>,
    bucket: Bucket,
    /// Starts per second; none before the first refusal.
    rate: Option<f64>,
    /// When it was chosen.
    chosen: u64,
    /// Up to when the bounds hold all that was told.
    learned: u64,
    /// There were refusals since: it is to be chosen anew.
    stale: bool,
    /// The slowest rate of those that were refused since the bounds were learned.
    too_fast: Option<f64>,
    /// No starts before this, whatever the rate: the service said so.
    pause_until: u64,
    /// The next start's time at the rate, and how many gaps before it starts may come: what may go at once, but for one.
    next: u64,
    ahead: f64,
    /// When the last refusal came that wasn't under way when another one did, and how long refusals take to come.
    refused_at: u64,
    round_trip: u64,
    /// Pauses in a row that the service didn't ask for.
    pauses: u32,
    /// Seconds from the start that was refused last to the end of the pause after it.
    lost_s: f64,
    /// Starts since then that the rate held back.
    calm: u32,
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
            bucket: Bucket::new(),
            rate: None,
            chosen: 0,
            learned: 0,
            stale: false,
            too_fast: None,
            pause_until: 0,
            next: 0,
            ahead: 0.0,
            refused_at: 0,
            round_trip: MOMENT_NS,
            pauses: 0,
            lost_s: 0.0,
            calm: 0,
            crept_at: 0,
            binds: false,
            bound: false,
        }
    }

    /// When the next attempt may start: now or earlier where nothing holds it back. To be asked when everything else lets it.
    #[inline]
    pub(super) fn ready_at(&mut self, now: u64) -> u64 {
        if self.rate.is_none() {
            return now;
        }
        // What is still under way may be refused during the pause: the rate is chosen when all is told.
        if self.stale && self.pause_until <= now {
            self.choose(now);
        }
        let ready = if self.stale { self.pause_until } else { self.next };
        if ready <= now {
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

    /// An attempt was started; their numbers rise.
    #[inline]
    pub(super) fn started(&mut self, now: u64, attempt: AttemptId) {
        self.bucket.started(attempt, now, self.rate.unwrap_or(FASTEST));
        self.bound = std::mem::take(&mut self.binds);
        self.calm = self.calm.saturating_add(u32::from(self.bound));
        let Some(rate) = self.rate.map(|rate| self.risen(rate, now)) else { return };
        self.rate = Some(rate);
        let gap = SECOND / rate;
        self.next = self.next.max(now.saturating_sub((self.ahead * gap) as u64)).saturating_add(gap as u64);
        if !self.is_measured() {
            self.ahead = (self.ahead - 1.0).max(self.made_up());
        }
    }

    /// The rate after a start: higher if what was let in says so, or if it was what held the start back.
    fn risen(&mut self, rate: f64, now: u64) -> f64 {
        let seeks = !self.is_measured() || rate > self.bucket.most();
        let confirmed = seeks && self.bucket.confirm(now.saturating_sub(self.round_trip));
        let rate = if confirmed { rate.max(self.middle()) } else { rate };
        if !self.bound {
            return rate;
        }
        let creep = if self.is_measured() { self.creep(rate).min(SEEK) } else { SEEK };
        let seconds = now.saturating_sub(self.crept_at) as f64 / SECOND;
        rate * (creep * seconds).min(GROWTH_MOST).exp()
    }

    /// The share by which the rate creeps up a second.
    fn creep(&self, rate: f64) -> f64 {
        let apart = (self.bucket.most() / self.bucket.least() - 1.0) / (NEAR - 1.0);
        let each = CALM.max(rate * self.lost_s / LOST);
        let calm = rate / each * (f64::from(self.calm) / each).min(DOUBLED_MOST).exp2();
        self.config.creep * apart.max(CREEP_LEAST).max(calm)
    }

    fn is_measured(&self) -> bool {
        self.bucket.most() <= self.bucket.least() * NEAR
    }

    /// The rate that is tried next.
    fn middle(&self) -> f64 {
        let (least, most) = (self.bucket.least(), self.bucket.most());
        match most < FASTEST {
            true if self.is_measured() => (least * most).sqrt() * self.config.take,
            true => (least.max(most * LEAST_GUESS) * most).sqrt(),
            false => least * SEEK_MOST,
        }
    }

    /// Choose the rate by all that was told.
    fn choose(&mut self, now: u64) {
        match self.remembered.take() {
            Some(rate) => self.bucket.believe(rate),
            None => self.learn(now),
        }
        let rate = if self.bucket.most() < FASTEST { self.middle() } else { self.middle().max(self.guess()) };
        let level = self.bucket.level(now);
        let (level, ahead) = match self.is_measured() {
            true => (level, self.bucket.full(self.bucket.most()) - 1.0),
            // One start after a pause is what the service asked for.
            false => (level.max(1.0), (level - 1.0).max(self.made_up())),
        };
        self.ahead = ahead;
        if self.rate.is_none_or(|before| rate > before * NEWS || rate * NEWS < before) {
            self.chosen = now;
        }
        (self.rate, self.stale) = (Some(rate), false);
        self.next = (now as f64 + (1.0 - level) * SECOND / rate) as u64;
        self.crept_at = now;
    }

    fn learn(&mut self, now: u64) {
        let known = now.saturating_sub(self.round_trip);
        // Nothing was let in: a service that counts by the minute does so to everybody who comes again too soon.
        if !self.bucket.let_in(self.learned, known) {
            return;
        }
        self.learned = known;
        let (least, most) = (self.bucket.least(), self.bucket.most());
        self.bucket.learn(known);
        let moved = self.bucket.least() > least * NEWS || self.bucket.most() * NEWS < most;
        // Refused again, and nothing new: less than the bounds allow is too much already.
        if let (false, Some(rate)) = (moved, self.too_fast.take()) {
            self.bucket.doubt(rate, known);
        }
    }

    /// The first rate while no upper bound is known: between a full bucket each pause, which may be all there is, and one start
    /// per round trip of a refusal, so that few are under way when the next one comes.
    fn guess(&self) -> f64 {
        let pause = self.pause_until.saturating_sub(self.refused_at).max(MOMENT_NS) as f64;
        let quick = SECOND / self.round_trip as f64;
        (self.bucket.full(self.bucket.least()) * SECOND / pause * quick).sqrt().min(quick)
    }

    fn made_up(&self) -> f64 {
        (self.bucket.full(self.bucket.most()) - 1.0).min(MADE_UP)
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
        // The longest of late: what is older and wasn't refused was let in.
        self.round_trip = seen.now.saturating_sub(seen.started).max(self.round_trip / 10 * 9).max(MOMENT_NS);
        let rate = self.bucket.refused(seen.attempt);
        let first_guess = self.remembered.unwrap_or(SECOND / self.round_trip as f64);
        self.rate.get_or_insert(first_guess);
        // One that was under way when the rate was chosen says nothing against a slower one.
        let counts = |&rate: &f64| rate < FASTEST && (seen.started >= self.chosen || rate > self.bucket.least() * NEAR);
        self.too_fast = rate.filter(counts).into_iter().chain(self.too_fast).reduce(f64::min);
        self.stale = true;
        // Of a burst the first refusal tells all: the others were under way when it came.
        let is_first = seen.started >= self.refused_at;
        if is_first {
            self.refused_at = seen.now;
            self.calm = 0;
        }
        if seen.retry_after_ns.is_some() || is_first {
            self.pause(seen);
        }
    }

    fn pause(&mut self, seen: &Observation) {
        let most = ns(self.config.pause_most_s);
        let pause = seen.retry_after_ns.unwrap_or_else(|| {
            // By then one more has come into the bucket.
            let enough = self.config.pause_s.min(1.0 / self.bucket.least());
            let long = enough * f64::from(self.pauses).exp2();
            self.pauses = (self.pauses + 1).min(16);
            ns(long.min(self.config.pause_most_s))
        });
        self.pause_until = self.pause_until.max(seen.now.saturating_add(pause.min(most)));
        self.lost_s = self.pause_until.saturating_sub(seen.started) as f64 / SECOND;
    }
}

#[cfg(test)]
mod tests;
