//! A circuit breaker: a node that fails gets no calls for a while, then one, and all again when that one succeeds.
//! Source: Nygard, "Release It!", 2007.
//!
//! A call that ran out of time says less than one that failed: the node may be gone, or the limit too short for it. It
//! counts only if the node gave no answer since the call began, and until it gives one.

use serde::{Deserialize, Serialize};

use super::config::{seconds, share, whole};
use super::{ConfigError, ns};

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// It opens when at least so many items were called for …
    pub calls: u32,
    /// … and more than this share of them failed …
    pub share: f64,
    /// … within so many seconds. Or when so many ran out of time within them, and nothing was answered meanwhile.
    pub window_s: f64,
    /// Or after so many failures in a row.
    pub failures: Option<u32>,
    /// Seconds that it stays open.
    pub cooldown_s: f64,
    /// Probes that may fail in a row; after them, what waits is given up rather than kept waiting.
    pub probes: u32,
    /// Or one, when for so many seconds from the first failure on nobody was ever there: a wrong address stays wrong.
    pub absent_s: f64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { calls: 10, share: 0.5, window_s: 30.0, failures: None, cooldown_s: 30.0, probes: 20, absent_s: 30.0 }
    }
}

impl BreakerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        whole("breaker.calls", self.calls, 1, 1_000_000)?;
        share("breaker.share", self.share, true)?;
        seconds("breaker.window_s", self.window_s)?;
        seconds("breaker.cooldown_s", self.cooldown_s)?;
        whole("breaker.probes", self.probes, 1, 1_000_000)?;
        seconds("breaker.absent_s", self.absent_s)?;
        self.failures.map_or(Ok(()), |failures| whole("breaker.failures", failures, 1, 1_000_000))
    }
}

/// Whether a node takes calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gate {
    /// It does.
    Open,
    /// It takes one, to see whether it is well.
    Probe,
    /// It takes none before this; never, if it depends on a probe that is under way.
    Shut(Option<u64>),
    /// It takes none before this, and too many probes failed to keep anybody waiting; or none until somebody says otherwise.
    Dead(Option<u64>),
}

/// Slices of the window: calls leave it slice by slice.
const SLICES: usize = 10;

/// The breaker of one node.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    slices: [Slice; SLICES],
    slice_ns: u64,
    /// The number of the youngest slice.
    youngest: u64,
    in_a_row: u32,
    /// When the node last gave a sign of life.
    alive: Option<u64>,
    /// Somebody was there once, whatever came of it.
    is_met: bool,
    /// When it first failed.
    first_failed: Option<u64>,
    /// Nobody was ever there, for long enough.
    is_absent: bool,
    /// Whether any slice has silent calls.
    is_silent: bool,
    state: State,
    failed_probes: u32,
    /// It is probed as soon as it opens: perhaps it was the items that failed, and another one is done.
    in_doubt: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    calls: u32,
    failed: u32,
    /// Calls that ran out of time, none of them before the last sign of life.
    silent: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    OpenUntil(u64),
    Probing,
}

impl Breaker {
    /// # Arguments
    /// - `in_doubt`: when it opens it is probed at once, and shut for the cooldown when that fails too.
    pub(super) fn new(config: &BreakerConfig, in_doubt: bool) -> Self {
        Self {
            config: config.clone(),
            slices: [Slice::default(); SLICES],
            slice_ns: (ns(config.window_s) / SLICES as u64).max(1),
            youngest: 0,
            in_a_row: 0,
            alive: None,
            is_met: false,
            first_failed: None,
            is_absent: false,
            is_silent: false,
            state: State::Closed,
            failed_probes: 0,
            in_doubt,
        }
    }

    /// Whether the node takes a call now.
    #[inline]
    pub(super) fn gate(&self, now: u64) -> Gate {
        match self.state {
            State::Closed => Gate::Open,
            State::Probing => Gate::Shut(None),
            State::OpenUntil(until) if now >= until => Gate::Probe,
            State::OpenUntil(until) if self.is_absent || self.failed_probes >= self.config.probes => {
                Gate::Dead(Some(until))
            }
            State::OpenUntil(until) => Gate::Shut(Some(until)),
        }
    }

    /// A probe was started.
    pub(super) fn probing(&mut self) {
        self.state = State::Probing;
    }

    /// The probe came back with a sign of life, or with none; or it was dropped, and the next call is the probe.
    pub(super) fn probed(&mut self, now: u64, alive: Option<bool>) {
        match alive {
            Some(true) => self.close(),
            Some(false) => {
                self.failed_probes = self.failed_probes.saturating_add(1);
                let failing = self.first_failed.map_or(0, |first| now.saturating_sub(first));
                self.is_absent = !self.is_met && failing >= ns(self.config.absent_s);
                self.open(now);
            }
            None => self.state = State::OpenUntil(now),
        }
    }

    /// An item's call succeeded, or failed for the first time.
    #[inline]
    pub(super) fn ended(&mut self, now: u64, failed: bool) {
        let slice = self.slice(now);
        slice.calls += 1;
        slice.failed += u32::from(failed);
        if !failed {
            self.in_a_row = 0;
            self.lives(now);
            return;
        }
        self.failed_again(now);
    }

    /// The node gave a sign of life: silence until now wasn't its end.
    #[inline]
    pub(super) fn lives(&mut self, now: u64) {
        self.alive = Some(now);
        if std::mem::take(&mut self.is_silent) {
            self.slices.iter_mut().for_each(|slice| slice.silent = 0);
        }
    }

    /// Somebody was there: a call on it ended, and not for want of a connection.
    #[inline]
    pub(super) fn met(&mut self) {
        (self.is_met, self.is_absent) = (true, false);
    }

    /// Whether the silence of a call that began at `since` says anything: the node gave no sign of life meanwhile.
    pub(super) fn is_telling(&self, since: u64) -> bool {
        self.alive.is_none_or(|alive| alive < since)
    }

    /// An item's call ran out of time for the first time while the node gave no sign of life.
    pub(super) fn silent(&mut self, now: u64) {
        self.slice(now).silent += 1;
        self.is_silent = true;
        self.failed_again(now);
    }

    fn failed_again(&mut self, now: u64) {
        self.in_a_row += 1;
        self.first_failed.get_or_insert(now);
        let full = self.config.failures.is_some_and(|most| self.in_a_row >= most);
        if matches!(self.state, State::Closed) && (full || self.many_failed()) {
            self.open(now);
            if self.in_doubt {
                self.state = State::OpenUntil(now);
            }
        }
    }

    /// A failure that it counted wasn't the node's own. If it is shut, that is in doubt: the next call is a probe.
    pub(super) fn excuse(&mut self, now: u64) {
        self.in_a_row = self.in_a_row.saturating_sub(1);
        if let Some(slice) = self.slices.iter_mut().find(|slice| slice.failed > 0) {
            slice.failed -= 1;
        }
        if let State::OpenUntil(until) = &mut self.state {
            *until = now.min(*until);
        }
    }

    fn many_failed(&self) -> bool {
        let sum = |of: fn(&Slice) -> u32| self.slices.iter().map(of).sum::<u32>();
        let (calls, failed) = (sum(|s| s.calls), sum(|s| s.failed));
        let failing = calls >= self.config.calls && f64::from(failed) > self.config.share * f64::from(calls);
        failing || sum(|s| s.silent) >= self.config.calls
    }

    fn open(&mut self, now: u64) {
        self.state = State::OpenUntil(now.saturating_add(ns(self.config.cooldown_s)));
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.slices = [Slice::default(); SLICES];
        self.is_silent = false;
        self.in_a_row = 0;
        self.failed_probes = 0;
    }

    /// The slice of now, after those that have left the window are emptied.
    fn slice(&mut self, now: u64) -> &mut Slice {
        let number = now / self.slice_ns;
        let passed = number.saturating_sub(self.youngest).min(SLICES as u64);
        for i in 0..passed {
            self.slices[((number - i) % SLICES as u64) as usize] = Slice::default();
        }
        self.youngest = self.youngest.max(number);
        &mut self.slices[(self.youngest % SLICES as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Of a node where somebody was.
    fn breaker() -> Breaker {
        let mut breaker = Breaker::new(&BreakerConfig { probes: 2, ..BreakerConfig::default() }, false);
        breaker.met();
        breaker
    }

    #[test]
    fn it_opens_at_ten_calls_of_which_more_than_half_failed() {
        let mut breaker = breaker();
        (0..5).for_each(|_| breaker.ended(S, false));
        (0..5).for_each(|_| breaker.ended(S, true));
        assert_eq!(breaker.gate(S), Gate::Open);
        breaker.ended(S, true);
        assert_eq!(breaker.gate(S), Gate::Shut(Some(31 * S)));
        assert_eq!(breaker.gate(31 * S), Gate::Probe);
    }

    #[test]
    fn nine_failures_or_failures_of_long_ago_leave_it_closed() {
        let mut breaker = breaker();
        (0..9).for_each(|_| breaker.ended(S, true));
        assert_eq!(breaker.gate(S), Gate::Open);
        (0..9).for_each(|_| breaker.ended(32 * S, true));
        assert_eq!(breaker.gate(32 * S), Gate::Open);
        breaker.ended(40 * S, true);
        assert!(matches!(breaker.gate(40 * S), Gate::Shut(_)));
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = breaker();
        (0..10).for_each(|_| breaker.ended(0, true));
        breaker.probing();
        assert_eq!(breaker.gate(99 * S), Gate::Shut(None));
        breaker.probed(99 * S, None);
        assert_eq!(breaker.gate(99 * S), Gate::Probe);
        breaker.probed(100 * S, Some(false));
        assert_eq!(breaker.gate(100 * S), Gate::Shut(Some(130 * S)));
        breaker.probed(130 * S, Some(false));
        assert_eq!(breaker.gate(131 * S), Gate::Dead(Some(160 * S)));
        assert_eq!(breaker.gate(160 * S), Gate::Probe);
        breaker.probed(160 * S, Some(true));
        assert_eq!(breaker.gate(160 * S), Gate::Open);
        breaker.ended(160 * S, true);
        assert_eq!(breaker.gate(160 * S), Gate::Open, "what was before the probe is forgotten");
    }

    #[test]
    fn where_nobody_ever_was_one_probe_is_enough_once_the_time_is_over() {
        let mut breaker = Breaker::new(&BreakerConfig { absent_s: 40.0, ..BreakerConfig::default() }, false);
        (0..10).for_each(|_| breaker.ended(S, true));
        breaker.probed(31 * S, Some(false));
        assert_eq!(breaker.gate(31 * S), Gate::Shut(Some(61 * S)), "30 s are not 40");
        breaker.probed(61 * S, Some(false));
        assert_eq!(breaker.gate(61 * S), Gate::Dead(Some(91 * S)));
        assert_eq!(breaker.gate(91 * S), Gate::Probe, "who comes now is the next probe");
        breaker.met();
        breaker.probed(92 * S, Some(false));
        assert_eq!(breaker.gate(92 * S), Gate::Shut(Some(122 * S)), "somebody is there: it may come round");
    }

    #[test]
    fn what_wasnt_the_nodes_fault_is_taken_back() {
        let mut breaker = Breaker::new(&BreakerConfig { failures: Some(3), ..BreakerConfig::default() }, false);
        (0..2).for_each(|_| breaker.ended(0, true));
        breaker.excuse(0);
        breaker.ended(0, true);
        assert_eq!(breaker.gate(0), Gate::Open, "two of its own");
        breaker.ended(0, true);
        assert_eq!(breaker.gate(0), Gate::Shut(Some(30 * S)));
        breaker.excuse(S);
        assert_eq!(breaker.gate(S), Gate::Probe, "one call shows whether it is ill");
    }

    #[test]
    fn silence_counts_only_while_nothing_is_answered() {
        let mut breaker = breaker();
        assert!(breaker.is_telling(0));
        (0..9).for_each(|_| breaker.silent(S));
        breaker.ended(2 * S, false);
        assert!(!breaker.is_telling(2 * S) && breaker.is_telling(2 * S + 1));
        (0..9).for_each(|_| breaker.silent(3 * S));
        assert_eq!(breaker.gate(3 * S), Gate::Open, "there was an answer between them");
        breaker.lives(3 * S);
        (0..9).for_each(|_| breaker.silent(4 * S));
        breaker.silent(40 * S);
        assert_eq!(breaker.gate(40 * S), Gate::Open, "those of before have left the window");
        (0..9).for_each(|_| breaker.silent(40 * S));
        assert_eq!(breaker.gate(40 * S), Gate::Shut(Some(70 * S)));
    }

    #[test]
    fn failures_in_a_row_open_it_where_they_are_counted() {
        let mut breaker = Breaker::new(&BreakerConfig { failures: Some(3), ..BreakerConfig::default() }, false);
        [true, true, false, true, true].iter().for_each(|&failed| breaker.ended(0, failed));
        assert_eq!(breaker.gate(0), Gate::Open);
        breaker.ended(0, true);
        assert_eq!(breaker.gate(0), Gate::Shut(Some(30 * S)));
    }

    #[test]
    fn in_doubt_it_is_probed_before_it_is_shut() {
        let mut breaker = Breaker::new(&BreakerConfig { failures: Some(2), ..BreakerConfig::default() }, true);
        (0..2).for_each(|_| breaker.ended(S, true));
        assert_eq!(breaker.gate(S), Gate::Probe);
        breaker.probing();
        breaker.probed(2 * S, Some(true));
        assert_eq!(breaker.gate(2 * S), Gate::Open, "it was the items");
        (0..2).for_each(|_| breaker.ended(3 * S, true));
        breaker.probing();
        breaker.probed(4 * S, Some(false));
        assert_eq!(breaker.gate(4 * S), Gate::Shut(Some(34 * S)));
    }
}
