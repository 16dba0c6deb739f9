//! Trying again: how long to back off, and how many may.

use serde::{Deserialize, Serialize};

use super::config::{positive, seconds, share, whole};
use super::{ConfigError, SECOND, ns};
use crate::schedule::{Purpose, Random};

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Attempts at an item that may fail, the first included; copies of one count as one, push-backs don't count.
    pub attempts: u32,
    /// Push-backs that an item may meet. They are no fault of the item, and the limit answers them.
    pub push_backs: u32,
    /// Seconds of the first backing-off, doubled each time.
    pub base_s: f64,
    /// Seconds of backing off at most.
    pub most_s: f64,
    /// How that is spread.
    pub jitter: Jitter,
    /// Retries of failures, as a share of the items started; beyond it they are put off. A retry that succeeds costs nothing.
    pub budget: f64,
    /// Retries that may be made before the share counts.
    pub reserve: f64,
    /// Retries a second that may be made beyond the share.
    pub per_s: f64,
    /// Seconds that a service's own wish to wait is honoured for at most.
    pub retry_after_most_s: f64,
}

/// How backing off is spread.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Uniformly from 0 to all of it.
    Full,
    /// Not at all.
    None,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 4,
            push_backs: 30,
            base_s: 0.5,
            most_s: 30.0,
            jitter: Jitter::Full,
            budget: 0.2,
            reserve: 10.0,
            per_s: 1.0,
            retry_after_most_s: 120.0,
        }
    }
}

impl RetryConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        whole("retry.attempts", self.attempts, 1, 100)?;
        whole("retry.push_backs", self.push_backs, 0, 1_000)?;
        seconds("retry.base_s", self.base_s)?;
        seconds("retry.most_s", self.most_s)?;
        share("retry.budget", self.budget, true)?;
        positive("retry.reserve", self.reserve, true)?;
        positive("retry.per_s", self.per_s, false)?;
        positive("retry.retry_after_most_s", self.retry_after_most_s, true)?;
        match self.retry_after_most_s <= 86_400.0 {
            true => Ok(()),
            false => Err(ConfigError::Longest("retry.retry_after_most_s", self.retry_after_most_s, 86_400)),
        }
    }
}

/// Draws how long to back off. Source: full jitter, Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    base: f64,
    most: f64,
    jitter: Jitter,
    retry_after_most: u64,
    random: Random,
}

impl Backoff {
    pub(super) fn new(config: &RetryConfig, seed: u64) -> Self {
        Self {
            base: config.base_s * SECOND,
            most: config.most_s * SECOND,
            jitter: config.jitter,
            retry_after_most: ns(config.retry_after_most_s),
            random: Random::new(seed, Purpose::Backoff),
        }
    }

    /// Nanoseconds to wait after the `n`-th failure (from 1). The service's wish comes first: nobody returns before it, and
    /// those who were told the same don't return all at once.
    pub(super) fn after(&mut self, n: u32, retry_after: Option<u64>) -> u64 {
        let whole = (self.base * f64::from(n.saturating_sub(1)).exp2()).min(self.most);
        let jitter = match self.jitter {
            Jitter::Full => self.random.unit(),
            Jitter::None => 1.0,
        };
        match (retry_after, self.jitter) {
            (None, _) => (whole * jitter) as u64,
            (Some(wish), Jitter::Full) => wish.min(self.retry_after_most) + (self.base * jitter) as u64,
            (Some(wish), Jitter::None) => wish.min(self.retry_after_most),
        }
    }
}

/// What retries may cost: a bucket that every item's first start fills by a share, that time fills slowly, and that a retry
/// takes one from. Source: the retry budgets of Finagle and of gRPC (proposal A6), with waiting in place of giving up.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    share: f64,
    per_ns: f64,
    most: f64,
    level: f64,
    at: u64,
}

/// One, less what the rounding of many shares may have lost.
const WHOLE: f64 = 1.0 - 1e-6;

impl Budget {
    pub(super) fn new(config: &RetryConfig) -> Self {
        Self {
            share: config.budget,
            per_ns: config.per_s / SECOND,
            // What time brings may not pile up: after an idle hour there is no hour's worth of retries.
            most: config.reserve.max(1.0),
            level: config.reserve,
            at: 0,
        }
    }

    /// An item was started for the first time.
    pub(super) fn started(&mut self) {
        self.level += self.share;
    }

    /// A retry succeeded: it was worth what it cost.
    pub(super) fn refund(&mut self) {
        self.level += 1.0;
    }

    /// Take one, if there is one.
    pub(super) fn take(&mut self, now: u64) -> bool {
        self.pass(now);
        let there = self.level >= WHOLE;
        if there {
            self.level -= 1.0;
        }
        there
    }

    /// When the next one is there, if nothing but time brings it.
    pub(super) fn ready_at(&self) -> u64 {
        self.at.saturating_add(((WHOLE - self.level).max(0.0) / self.per_ns).ceil() as u64)
    }

    fn pass(&mut self, now: u64) {
        let brought = now.saturating_sub(self.at) as f64 * self.per_ns;
        self.at = self.at.max(now);
        self.level = (self.level + brought).min(self.level.max(self.most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn backing_off_doubles_to_its_most_and_jitter_only_shortens_it() {
        let plain = RetryConfig { jitter: Jitter::None, ..RetryConfig::default() };
        let mut backoff = Backoff::new(&plain, 1);
        let waits: Vec<u64> = (1..=8).map(|n| backoff.after(n, None) / (S / 2)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut full = Backoff::new(&RetryConfig::default(), 1);
        let drawn: Vec<u64> = (0..1_000).map(|_| full.after(3, None)).collect();
        assert!(drawn.iter().all(|&wait| wait < 2 * S));
        assert!(drawn.iter().any(|&wait| wait < S / 5) && drawn.iter().any(|&wait| wait > 9 * S / 5));
    }

    #[test]
    fn nobody_returns_before_the_service_wishes_and_nobody_waits_longer_than_allowed_for_it() {
        let mut backoff = Backoff::new(&RetryConfig::default(), 1);
        for n in 1..50 {
            assert!((7 * S..=7 * S + S / 2).contains(&backoff.after(n, Some(7 * S))));
            assert!((120 * S..=121 * S).contains(&backoff.after(n, Some(u64::MAX))));
        }
    }

    #[test]
    fn a_budget_holds_a_share_of_the_starts_plus_the_reserve_plus_what_time_brings() {
        let config = RetryConfig { budget: 0.2, reserve: 2.0, per_s: 1.0, ..RetryConfig::default() };
        let mut budget = Budget::new(&config);
        let taken = |budget: &mut Budget, now| std::iter::from_fn(|| budget.take(now).then_some(())).count();
        assert_eq!(taken(&mut budget, 0), 2);
        (0..50).for_each(|_| budget.started());
        assert_eq!(taken(&mut budget, 0), 10);
        let ready = budget.ready_at();
        assert!(!budget.take(ready - 10) && budget.take(ready));
        assert_eq!(taken(&mut budget, 1_000 * S), 2, "time must not pile up");
        budget.refund();
        assert_eq!(taken(&mut budget, 1_000 * S), 1);
    }
}
