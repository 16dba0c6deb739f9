//! A copy for what takes long beside the others: a multiple of the median, which counts those that haven't come yet.
//! Source: Dean and Barroso, "The tail at scale", 2013; the median of Kaplan and Meier (`survival`).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::config::{positive, share, whole};
use super::super::flights::{Flight, Flights};
use super::super::observation::{Observation, Signal};
use super::super::survival::Survival;
use super::super::{AttemptId, ConfigError};
use super::COPIES;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StragglerConfig {
    /// A call gets a copy once it has been silent for so many medians.
    #[serde(default = "multiple")]
    pub multiple: f64,
    /// Another one once its copy has been, too: a copy is needed so seldom that it may be doubted sooner.
    #[serde(default = "again")]
    pub again: f64,
    /// Copies that may be live beside the first attempt.
    #[serde(default = "copies")]
    pub copies: u32,
    /// Copies, at most, as a share of the items started …
    #[serde(default = "cap")]
    pub cap: f64,
    /// … plus this many.
    #[serde(default = "reserve")]
    pub reserve: u32,
}

fn multiple() -> f64 {
    2.5
}

fn again() -> f64 {
    1.7
}

fn copies() -> u32 {
    2
}

fn cap() -> f64 {
    0.2
}

fn reserve() -> u32 {
    2
}

impl Default for StragglerConfig {
    fn default() -> Self {
        Self { multiple: multiple(), again: again(), copies: copies(), cap: cap(), reserve: reserve() }
    }
}

impl StragglerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        positive("hedge.multiple", self.multiple, false)?;
        positive("hedge.again", self.again, false)?;
        whole("hedge.copies", self.copies, 1, COPIES)?;
        share("hedge.cap", self.cap, true)?;
        whole("hedge.reserve", self.reserve, 0, 1_000_000)
    }
}

/// Copies of a key that must have been decided on before they are judged, and the share of them that must have won.
const JUDGED_LEAST: f64 = 5.0;
const WON_LEAST: f64 = 0.3;
/// A key whose copies don't win gets one all the same, to look again, after so many medians.
const LOOK_AGAIN: f64 = 50.0;
/// What is known of a key fades by this with each verdict.
const FADES: f64 = 0.95;
/// Keys that are kept count of; what more there are is never judged.
const KEYS: usize = 65_536;
/// A third copy takes another's place only while at most this share of all copies were silent too: where most are, the
/// items themselves are slow.
const SILENT_MOST: f64 = 0.4;

#[derive(Clone, Debug)]
pub(in crate::policy) struct Straggler {
    config: StragglerConfig,
    seen: Box<Survival>,
    flights: Flights,
    /// The median as of the last look, in nanoseconds.
    median: Option<f64>,
    looked_at: u64,
    /// Attempts that were over since then.
    unseen: u32,
    /// Copies started, and those of them that were started because another one was silent too.
    copied: u64,
    silent: u64,
    keys: HashMap<u32, Record>,
    /// How often anything of this changed what a silence may be.
    changes: u32,
}

/// How the copies of a key did.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    won: f64,
    lost: f64,
    judged_at: u64,
}

impl Straggler {
    pub(super) fn new(config: &StragglerConfig) -> Self {
        Self {
            config: config.clone(),
            seen: Box::new(Survival::new()),
            flights: Flights::default(),
            median: None,
            looked_at: 0,
            unseen: 0,
            copied: 0,
            silent: 0,
            keys: HashMap::new(),
            changes: 0,
        }
    }

    /// Grows whenever a copy may have become due sooner than was told.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    pub(super) fn copies(&self) -> u32 {
        self.config.copies
    }

    /// The shortest silence after which any call gets a copy.
    pub(super) fn shortest(&self) -> Option<u64> {
        Some((self.median? * self.config.multiple.min(self.config.again)) as u64)
    }

    /// The silence after which a call gets its next copy.
    ///
    /// # Arguments
    /// - `live`: its attempts in flight.
    /// - `crowd`: how many were in flight when the last of them started.
    /// - `permits`: how many may be now.
    pub(super) fn silence(&mut self, now: u64, key: u32, live: u32, crowd: u32, permits: u32) -> Option<u64> {
        if self.is_stale(now) {
            self.look(now, permits);
        }
        let median = self.median?;
        if self.keys.get(&key).is_some_and(|record| !record.is_worth_it(now, median)) {
            return None;
        }
        let multiple = if live <= 1 { self.config.multiple } else { self.config.again };
        // Who started among more than the service takes at once first waited for its turn.
        let waited = (f64::from(crowd) / f64::from(permits.max(1)) - 1.0).max(0.0);
        Some((median * (multiple + waited)) as u64)
    }

    pub(super) fn affords(&self, items: u64, copies: u64) -> bool {
        ((copies + 1) as f64) <= self.config.cap * items as f64 + f64::from(self.config.reserve)
    }

    /// Whether a copy may take the place of another once all are silent.
    pub(super) fn replaces(&self) -> bool {
        self.silent as f64 <= SILENT_MOST * self.copied as f64
    }

    pub(super) fn started(&mut self, now: u64, attempt: AttemptId, crowd: u32) {
        self.flights.started(attempt, now, crowd);
    }

    /// A copy is made of a call that has so many attempts in flight already.
    pub(super) fn copied(&mut self, live: u32) {
        self.copied += 1;
        self.silent += u64::from(live > 1);
    }

    pub(super) fn observe(&mut self, seen: &Observation) {
        let Some(flight) = self.flights.ended(seen.attempt) else { return };
        if is_crowded(&flight, seen.permits) {
            return;
        }
        let lasted = seen.now.saturating_sub(flight.started);
        match seen.signal {
            Signal::Success => self.seen.came(lasted),
            Signal::Dropped | Signal::TimedOut => self.seen.left(lasted),
            Signal::PushBack | Signal::Failure => return,
        }
        self.unseen += 1;
        if self.median.is_none() || self.is_stale(seen.now) {
            self.look(seen.now, seen.permits);
        }
    }

    /// A copy won, or lost against another attempt.
    pub(super) fn judged(&mut self, now: u64, key: u32, won: bool) {
        if self.keys.len() >= KEYS && !self.keys.contains_key(&key) {
            return;
        }
        self.changes = self.changes.wrapping_add(1);
        let record = self.keys.entry(key).or_default();
        record.won = record.won * FADES + f64::from(u8::from(won));
        record.lost = record.lost * FADES + f64::from(u8::from(!won));
        record.judged_at = now;
    }

    /// Whether the median may have changed since the last look: by what ended, or by how long the others have lasted.
    fn is_stale(&self, now: u64) -> bool {
        let aged = self.median.is_some_and(|median| now.saturating_sub(self.looked_at) as f64 > median / 16.0);
        aged || self.unseen as f32 >= 1.0 + self.seen.answers() / 16.0
    }

    fn look(&mut self, now: u64, permits: u32) {
        let going = self.flights.iter().filter(|flight| !is_crowded(flight, permits));
        self.median = self.seen.median(going.map(|flight| now.saturating_sub(flight.started)));
        self.looked_at = now;
        self.unseen = 0;
        self.changes = self.changes.wrapping_add(1);
    }
}

impl Record {
    fn is_worth_it(&self, now: u64, median: f64) -> bool {
        let decided = self.won + self.lost;
        decided < JUDGED_LEAST
            || self.won >= WON_LEAST * decided
            || now.saturating_sub(self.judged_at) as f64 > LOOK_AGAIN * median
    }
}

/// An attempt that started among more than may be in flight now waited in line first: it tells little of latency.
fn is_crowded(flight: &Flight, permits: u32) -> bool {
    flight.crowd > permits
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn straggler() -> Straggler {
        Straggler::new(&StragglerConfig::default())
    }

    fn over(hedge: &mut Straggler, now: u64, attempt: u32, started: u64, signal: Signal) {
        hedge.observe(&Observation {
            now,
            attempt,
            next_attempt: attempt + 1,
            started,
            first_byte: None,
            signal,
            status: 0,
            retry_after_ns: None,
            in_flight: 20,
            permits: 20,
            waiting: 0,
            key: 0,
        });
    }

    /// Twenty start at once, and so many of them are answered after 2 s each.
    fn with_answers(answers: u32) -> Straggler {
        let mut hedge = straggler();
        (0..20).for_each(|i| hedge.started(0, i, i + 1));
        (0..answers).for_each(|i| over(&mut hedge, 2 * S, i, 0, Signal::Success));
        hedge
    }

    fn seconds(ns: Option<u64>) -> f64 {
        ns.unwrap() as f64 / S as f64
    }

    #[test]
    fn nobody_gets_a_copy_before_half_of_all_have_come() {
        let mut hedge = with_answers(9);
        assert_eq!(hedge.silence(3 * S, 0, 1, 20, 20), None);
        let mut hedge = with_answers(12);
        let silence = seconds(hedge.silence(3 * S, 0, 1, 20, 20));
        assert!((4.9..5.7).contains(&silence), "2.5 medians of 2 s: {silence}");
        assert!(seconds(hedge.shortest()) < silence);
    }

    #[test]
    fn a_copy_is_doubted_sooner_and_who_waited_in_line_later() {
        let mut hedge = with_answers(15);
        let first = seconds(hedge.silence(3 * S, 0, 1, 20, 20));
        let second = seconds(hedge.silence(3 * S, 0, 2, 20, 20));
        let crowded = seconds(hedge.silence(3 * S, 0, 1, 40, 20));
        assert!((second / first - 1.7 / 2.5).abs() < 0.01, "{second} {first}");
        assert!((crowded / first - 3.5 / 2.5).abs() < 0.01, "{crowded} {first}");
    }

    #[test]
    fn who_started_among_more_than_may_be_in_flight_tells_nothing() {
        let mut hedge = straggler();
        (0..40).for_each(|i| hedge.started(0, i, i + 1));
        (0..20).for_each(|i| over(&mut hedge, S, i, 0, Signal::Success));
        // They waited in line at the service for as long as the first twenty took.
        (20..40).for_each(|i| over(&mut hedge, 20 * S, i, 0, Signal::Success));
        assert!(seconds(hedge.silence(20 * S, 0, 1, 1, 20)) < 3.0);
    }

    #[test]
    fn copies_are_a_share_of_the_items_and_a_few() {
        let hedge = straggler();
        let most = |items| (0..).find(|&copies| !hedge.affords(items, copies)).unwrap();
        assert_eq!((most(0), most(10), most(63)), (2, 4, 14));
    }

    #[test]
    fn a_key_whose_copies_lose_gets_none_until_it_is_looked_at_again() {
        let mut hedge = with_answers(15);
        (0..8).for_each(|i| hedge.judged(3 * S, 1, i == 0));
        (0..8).for_each(|i| hedge.judged(3 * S, 2, i % 2 == 0));
        assert_eq!(hedge.silence(4 * S, 1, 1, 20, 20), None);
        assert!(hedge.silence(4 * S, 2, 1, 20, 20).is_some() && hedge.silence(4 * S, 3, 1, 20, 20).is_some());
        assert!(hedge.silence(200 * S, 1, 1, 20, 20).is_some());
    }

    #[test]
    fn copies_are_replaced_while_few_of_them_are_silent_too() {
        let mut hedge = straggler();
        (0..6).for_each(|_| hedge.copied(1));
        (0..4).for_each(|_| hedge.copied(2));
        assert!(hedge.replaces());
        hedge.copied(2);
        assert!(!hedge.replaces(), "where copies are slow too, it is the items");
    }

    #[test]
    fn those_in_flight_make_the_median_longer_while_nothing_comes() {
        let mut hedge = with_answers(11);
        over(&mut hedge, 9 * S, 11, 0, Signal::Success);
        let few = seconds(hedge.silence(9 * S, 0, 1, 20, 20));
        let mut all = with_answers(20);
        assert!(few > seconds(all.silence(9 * S, 0, 1, 20, 20)));
    }
}
