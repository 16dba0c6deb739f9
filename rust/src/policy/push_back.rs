//! What counts as the service wanting less: some statuses always, others only when there are many of them under load.

use serde::{Deserialize, Serialize};

use super::config::share;
use super::{AttemptId, ConfigError, End, ItemId, Outcome};

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushBackConfig {
    /// These always are push-back.
    pub statuses: Vec<u16>,
    /// These are when their share is high while more than half of the permits are taken. A lone one is just an error.
    pub overload: Vec<u16>,
    /// That share.
    pub share: f64,
}

impl Default for PushBackConfig {
    fn default() -> Self {
        Self { statuses: vec![429, 503, 529], overload: vec![500, 502, 504], share: 0.2 }
    }
}

impl PushBackConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        share("push_back.share", self.share, true)?;
        for (name, statuses) in [("push_back.statuses", &self.statuses), ("push_back.overload", &self.overload)] {
            if let Some(&status) = statuses.iter().find(|&status| !(400..=599).contains(status)) {
                return Err(ConfigError::Status(name, status));
            }
        }
        Ok(())
    }
}

/// What a failure says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// The service wants less, and said so.
    PushBack,
    /// It fails under load: it wants less, but the item may also be at fault, and its attempts count.
    Overload,
    /// Something else.
    Failure,
}

/// Tells push-back from failure. The share is that over the running and the last round trip: an epoch ends with the end of
/// the first attempt that was started in it.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    config: PushBackConfig,
    /// The first attempt of the running epoch.
    epoch: AttemptId,
    last: Count,
    running: Count,
    /// Whose error was counted last: one item that fails again and again is one error.
    culprit: Option<ItemId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    ended: u32,
    errors: u32,
}

/// Fewer different items than this failing are no sign of load.
const ERRORS_LEAST: u32 = 2;

impl Judge {
    pub(super) fn new(config: &PushBackConfig) -> Self {
        Self { config: config.clone(), epoch: 0, last: Count::default(), running: Count::default(), culprit: None }
    }

    /// Take note of an end, good or bad.
    pub(super) fn ended(&mut self, attempt: AttemptId, next_attempt: AttemptId, item: ItemId, end: &End) {
        if attempt >= self.epoch {
            self.epoch = next_attempt;
            self.last = std::mem::take(&mut self.running);
        }
        self.running.ended += 1;
        if self.is_overload(end) && self.culprit != Some(item) {
            self.culprit = Some(item);
            self.running.errors += 1;
        }
    }

    /// What a failure of which note was taken says, with `in_flight` of `permits` taken when it came.
    pub(super) fn class(&self, end: &End, in_flight: u32, permits: u32) -> Class {
        if end.outcome == Outcome::Rejected
            || (end.outcome == Outcome::Failed && self.config.statuses.contains(&end.status))
        {
            return Class::PushBack;
        }
        let errors = self.last.errors + self.running.errors;
        let ended = self.last.ended + self.running.ended;
        let many = errors >= ERRORS_LEAST && f64::from(errors) > self.config.share * f64::from(ended);
        match self.is_overload(end) && many && 2 * u64::from(in_flight) > u64::from(permits) {
            true => Class::Overload,
            false => Class::Failure,
        }
    }

    fn is_overload(&self, end: &End) -> bool {
        end.outcome == Outcome::Failed && self.config.overload.contains(&end.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16) -> End {
        End { outcome: Outcome::Failed, status, ..End::default() }
    }

    #[test]
    fn push_back_is_a_status_of_the_list_or_what_the_driver_calls_so() {
        let judge = Judge::new(&PushBackConfig::default());
        let class = |end| judge.class(&end, 1, 1);
        assert!([429, 503, 529].iter().all(|&status| class(failed(status)) == Class::PushBack));
        assert_eq!(class(End { outcome: Outcome::Rejected, ..End::default() }), Class::PushBack);
        assert!([0, 400, 404, 500, 502, 504].iter().all(|&status| class(failed(status)) == Class::Failure));
        assert_eq!(class(End { outcome: Outcome::TimedOut, status: 503, ..End::default() }), Class::Failure);
    }

    #[test]
    fn a_lone_500_and_one_item_that_always_fails_are_no_push_back() {
        let mut judge = Judge::new(&PushBackConfig::default());
        for attempt in 0..9 {
            judge.ended(attempt, attempt + 1, 7, &failed(500));
            assert_eq!(judge.class(&failed(500), 1, 1), Class::Failure);
        }
    }

    #[test]
    fn many_500s_are_push_back_while_more_than_half_of_the_permits_are_taken() {
        let mut judge = Judge::new(&PushBackConfig::default());
        (0..8).for_each(|i| judge.ended(i, 40, i, &End::default()));
        judge.ended(8, 40, 8, &failed(500));
        judge.ended(9, 40, 9, &failed(502));
        assert_eq!(judge.class(&failed(502), 30, 40), Class::Failure, "two of ten are 20 %, not above");
        judge.ended(10, 40, 10, &failed(504));
        assert_eq!(judge.class(&failed(504), 21, 40), Class::Overload);
        assert_eq!(judge.class(&failed(504), 20, 40), Class::Failure);
    }

    #[test]
    fn errors_of_two_epochs_ago_are_forgotten() {
        let mut judge = Judge::new(&PushBackConfig::default());
        (0..5).for_each(|i| judge.ended(i, 10, i, &failed(500)));
        judge.ended(10, 20, 10, &End::default());
        judge.ended(20, 30, 20, &End::default());
        judge.ended(21, 30, 21, &failed(500));
        assert_eq!(judge.class(&failed(500), 10, 10), Class::Failure);
    }
}
