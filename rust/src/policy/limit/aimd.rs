//! Additive increase, multiplicative decrease. Source: Chiu and Jain, "Analysis of the increase and decrease algorithms for
//! congestion avoidance", 1989; one cut per round trip as in TCP (RFC 5681, section 3.1, and RFC 6582 on recovery).

use serde::{Deserialize, Serialize};

use super::super::ConfigError;
use super::super::config::{share, whole};
use super::super::observation::{Observation, Signal};
use super::MOST;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AimdConfig {
    /// The limit at the start; a remembered one takes its place.
    pub start: u32,
    /// It never falls below.
    pub floor: u32,
    /// It never rises above.
    pub ceiling: u32,
    /// What a push-back leaves of it.
    #[serde(default = "half")]
    pub cut: f64,
    /// It rises by one after so many successes in a row.
    #[serde(default = "three")]
    pub rise_after: u32,
    /// Until the first cut it rises by one with every success: it doubles each round trip.
    #[serde(default)]
    pub slow_start: bool,
}

fn half() -> f64 {
    0.5
}

fn three() -> u32 {
    3
}

impl AimdConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        whole("limit.ceiling", self.ceiling, 1, MOST)?;
        whole("limit.floor", self.floor, 1, self.ceiling)?;
        whole("limit.start", self.start, self.floor, self.ceiling)?;
        whole("limit.rise_after", self.rise_after, 1, MOST)?;
        share("limit.cut", self.cut, false)
    }
}

#[derive(Clone, Debug)]
pub(in super::super) struct Aimd {
    config: AimdConfig,
    permits: u32,
    /// Successes in a row.
    streak: u32,
    slow_start: bool,
    /// The first attempt that was started under the present limit: what older ones are told was already acted on.
    epoch: u32,
}

impl Aimd {
    pub(super) fn new(config: &AimdConfig, remembered: Option<u32>) -> Self {
        let permits = remembered.unwrap_or(config.start).clamp(config.floor, config.ceiling);
        Self { config: config.clone(), permits, streak: 0, slow_start: config.slow_start, epoch: 0 }
    }

    #[inline]
    pub(super) fn permits(&self) -> u32 {
        self.permits
    }

    pub(super) fn can_shrink(&self) -> bool {
        self.permits > self.config.floor
    }

    #[inline]
    pub(super) fn observe(&mut self, seen: &Observation) {
        match seen.signal {
            Signal::Success => self.rise(),
            Signal::PushBack => self.cut(seen),
            Signal::Failure | Signal::TimedOut => self.streak = 0,
            Signal::Dropped => {}
        }
    }

    fn rise(&mut self) {
        self.streak += 1;
        if self.slow_start || self.streak >= self.config.rise_after {
            self.streak = 0;
            self.permits = (self.permits + 1).min(self.config.ceiling);
        }
    }

    fn cut(&mut self, seen: &Observation) {
        self.streak = 0;
        if seen.attempt < self.epoch {
            return;
        }
        self.slow_start = false;
        self.epoch = seen.next_attempt;
        self.permits = ((f64::from(self.permits) * self.config.cut) as u32).max(self.config.floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimd(start: u32, slow_start: bool) -> Aimd {
        let config = AimdConfig { start, floor: 1, ceiling: 64, cut: 0.5, rise_after: 3, slow_start };
        Aimd::new(&config, None)
    }

    fn seen(signal: Signal, attempt: u32, next_attempt: u32) -> Observation {
        Observation {
            now: 0,
            attempt,
            next_attempt,
            started: 0,
            first_byte: None,
            signal,
            status: 0,
            retry_after_ns: None,
            in_flight: 1,
            permits: 1,
            waiting: 0,
            key: 0,
        }
    }

    #[test]
    fn six_push_backs_of_one_round_trip_are_one_cut() {
        let mut limit = aimd(64, false);
        (0..6).for_each(|i| limit.observe(&seen(Signal::PushBack, i, 64)));
        assert_eq!(limit.permits(), 32);
        limit.observe(&seen(Signal::PushBack, 64, 70));
        limit.observe(&seen(Signal::PushBack, 69, 71));
        assert_eq!(limit.permits(), 16);
    }

    #[test]
    fn it_rises_by_one_after_three_successes_in_a_row_and_not_above_its_ceiling() {
        let mut limit = aimd(63, false);
        let mut tell = |signals: &[Signal]| {
            signals.iter().for_each(|&signal| limit.observe(&seen(signal, 0, 0)));
            limit.permits()
        };
        use Signal::{Dropped, Failure, Success};
        assert_eq!(tell(&[Success, Success, Failure, Success, Success]), 63);
        assert_eq!(tell(&[Dropped, Success]), 64);
        assert_eq!(tell(&[Success; 9]), 64);
    }

    #[test]
    fn slow_start_doubles_each_round_trip_until_the_first_cut() {
        let mut limit = aimd(4, true);
        (0..4).for_each(|i| limit.observe(&seen(Signal::Success, i, 8)));
        assert_eq!(limit.permits(), 8);
        limit.observe(&seen(Signal::PushBack, 8, 16));
        limit.observe(&seen(Signal::Success, 9, 16));
        assert_eq!(limit.permits(), 4);
    }

    #[test]
    fn it_begins_at_what_is_remembered_within_its_bounds() {
        let config = AimdConfig { start: 9, floor: 2, ceiling: 64, cut: 0.5, rise_after: 3, slow_start: false };
        let begin = |remembered| Aimd::new(&config, remembered).permits();
        assert_eq!((begin(None), begin(Some(40)), begin(Some(900)), begin(Some(0))), (9, 40, 64, 2));
    }
}
