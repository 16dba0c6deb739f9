//! Requests and tokens a minute: two buckets that are taken from together, or not at all.

use serde::{Deserialize, Serialize};

use super::config::{positive, share};
use super::{ConfigError, Quota, RateHint, SECOND};

const MINUTE: f64 = 60.0 * SECOND;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatesConfig {
    /// Requests a minute; in no minute are more started.
    pub rpm: Option<f64>,
    /// Tokens a minute, of prompts and answers.
    pub tpm: Option<f64>,
    /// Take what the service's headers tell where nothing is given, and what they say is left in any case.
    pub learn: bool,
    /// How much of a minute's worth may go at once.
    pub burst: f64,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self { rpm: None, tpm: None, learn: true, burst: 0.1 }
    }
}

impl RatesConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, rate) in [("rates.rpm", self.rpm), ("rates.tpm", self.tpm)] {
            if let Some(rate) = rate {
                positive(name, rate, false)?;
            }
        }
        share("rates.burst", self.burst, false)
    }
}

/// The two buckets.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    learn: bool,
}

impl Buckets {
    pub(super) fn new(config: &RatesConfig) -> Self {
        Self {
            requests: config.rpm.map(|rpm| Bucket::new(rpm, (rpm * config.burst).floor().max(1.0), 1.0)),
            tokens: config.tpm.map(|tpm| Bucket::new(tpm, tpm * config.burst, 0.0)),
            learn: config.learn,
        }
    }

    /// When a call of so many tokens may start: now or earlier where nothing holds it back. Nothing is taken.
    #[inline]
    pub(super) fn ready_at(&self, tokens: u32) -> u64 {
        let requests = self.requests.as_ref().map_or(0, |bucket| bucket.ready_at(1.0));
        let tokens = self.tokens.as_ref().map_or(0, |bucket| bucket.ready_at(f64::from(tokens)));
        requests.max(tokens)
    }

    /// Take a call's worth of both.
    #[inline]
    pub(super) fn take(&mut self, now: u64, tokens: u32) {
        if let Some(bucket) = &mut self.requests {
            bucket.take(now, 1.0);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(now, f64::from(tokens));
        }
    }

    /// Give back what was expected and wasn't used, or take what was used beyond it.
    pub(super) fn settle(&mut self, now: u64, expected: u32, used: u32) {
        if let Some(bucket) = &mut self.tokens {
            bucket.take(now, f64::from(used) - f64::from(expected));
        }
    }

    /// Learn from an answer's headers.
    pub(super) fn told(&mut self, now: u64, hint: &RateHint) {
        if self.learn {
            told(&mut self.requests, now, hint.requests);
            told(&mut self.tokens, now, hint.tokens);
        }
    }
}

fn told(bucket: &mut Option<Bucket>, now: u64, quota: Option<Quota>) {
    let Some(quota) = quota else { return };
    if bucket.is_none()
        && let Some(limit) = quota.limit.filter(|&limit| limit > 0)
    {
        *bucket = Some(Bucket::learned(limit as f64));
    }
    if let Some(bucket) = bucket {
        bucket.told(now, quota);
    }
}

/// A bucket that time fills.
#[derive(Clone, Debug)]
struct Bucket {
    most: f64,
    per_ns: f64,
    level: f64,
    at: u64,
    /// Nothing goes before this.
    shut_until: u64,
    learned: bool,
}

impl Bucket {
    /// A bucket from which no minute takes more than `per_minute`: what it holds at once it doesn't refill in that minute.
    /// `step` is the least that is taken: the last of it may be taken just when the minute ends.
    fn new(per_minute: f64, most: f64, step: f64) -> Self {
        let per_ns = (per_minute - most + step).max(per_minute * 0.01) / MINUTE;
        Self { most, per_ns, level: most, at: 0, shut_until: 0, learned: false }
    }

    /// A bucket as the service itself seems to keep it: it holds a minute's worth and says how much is left.
    fn learned(per_minute: f64) -> Self {
        Self { most: per_minute, per_ns: per_minute / MINUTE, level: per_minute, at: 0, shut_until: 0, learned: true }
    }

    fn ready_at(&self, amount: f64) -> u64 {
        // What is more than it ever holds waits for a full one, and leaves a debt.
        let missing = amount.min(self.most) - self.level;
        // Half a millionth of slack, so that rounding never asks to wait for a start that is due.
        let wait = if missing > 5e-7 { (missing / self.per_ns).ceil() as u64 } else { 0 };
        self.at.saturating_add(wait).max(self.shut_until)
    }

    fn take(&mut self, now: u64, amount: f64) {
        self.pass(now);
        self.level = (self.level - amount).min(self.most);
    }

    fn told(&mut self, now: u64, quota: Quota) {
        self.pass(now);
        if self.learned
            && let Some(limit) = quota.limit.filter(|&limit| limit > 0)
        {
            self.most = limit as f64;
            self.per_ns = self.most / MINUTE;
        }
        if let Some(remaining) = quota.remaining {
            self.level = self.level.min(remaining as f64);
            if let (0, Some(reset)) = (remaining, quota.reset_ns) {
                self.shut_until = self.shut_until.max(now.saturating_add(reset.min(MINUTE as u64 * 2)));
            }
        }
    }

    fn pass(&mut self, now: u64) {
        let brought = now.saturating_sub(self.at) as f64 * self.per_ns;
        self.at = self.at.max(now);
        self.level = (self.level + brought).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Start as early as allowed for `seconds`; the times.
    fn starts(buckets: &mut Buckets, tokens: u32, seconds: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let mut now = 0;
        loop {
            now = now.max(buckets.ready_at(tokens));
            if now >= seconds * S {
                return times;
            }
            buckets.take(now, tokens);
            times.push(now);
        }
    }

    #[test]
    fn no_minute_has_more_starts_than_allowed_and_a_long_run_has_most_of_them() {
        for rpm in [1.0, 7.0, 60.0, 500.0, 3_000.0] {
            let mut buckets = Buckets::new(&RatesConfig { rpm: Some(rpm), ..RatesConfig::default() });
            let times = starts(&mut buckets, 0, 600);
            let minute = |(i, &t): (usize, &u64)| times[i..].iter().take_while(|&&u| u < t + 60 * S).count();
            let most = times.iter().enumerate().step_by(7).map(minute).max();
            assert_eq!(most, Some(rpm as usize), "{rpm}");
            assert!(times.len() as f64 >= 9.0 * rpm, "{rpm}: {}", times.len());
        }
    }

    #[test]
    fn tokens_are_settled_by_what_was_used() {
        let mut buckets = Buckets::new(&RatesConfig { tpm: Some(6_000.0), ..RatesConfig::default() });
        buckets.take(0, 600);
        assert!(buckets.ready_at(600) > 0);
        buckets.settle(0, 600, 100);
        assert_eq!(buckets.ready_at(500), 0);
        assert!(buckets.ready_at(501) > 0);
        buckets.settle(0, 0, 5_000);
        assert!(buckets.ready_at(1) > 40 * S);
    }

    #[test]
    fn a_call_that_never_fits_goes_when_the_bucket_is_full_and_leaves_a_debt() {
        let mut buckets = Buckets::new(&RatesConfig { tpm: Some(600.0), ..RatesConfig::default() });
        assert_eq!(buckets.ready_at(10_000), 0);
        buckets.take(0, 10_000);
        assert!(buckets.ready_at(1) > 600 * S);
    }

    #[test]
    fn neither_bucket_is_taken_from_while_the_other_is_empty() {
        let config = RatesConfig { rpm: Some(60.0), tpm: Some(600.0), ..RatesConfig::default() };
        let mut buckets = Buckets::new(&config);
        buckets.take(0, 600);
        let wait = buckets.ready_at(60);
        assert!(wait > 50 * S);
        assert_eq!(buckets.requests.as_ref().map(|bucket| bucket.level), Some(5.0));
    }

    #[test]
    fn what_the_service_tells_is_learned_and_none_left_shuts_until_the_reset() {
        let mut buckets = Buckets::new(&RatesConfig::default());
        assert_eq!(buckets.ready_at(9), 0);
        let quota = |remaining| Quota { limit: Some(120), remaining: Some(remaining), reset_ns: Some(3 * S) };
        buckets.told(S, &RateHint { requests: Some(quota(1)), tokens: None });
        assert!(buckets.ready_at(9) <= S);
        buckets.take(S, 9);
        assert_eq!(buckets.ready_at(9), S + S / 2);
        buckets.told(S, &RateHint { requests: Some(quota(0)), tokens: None });
        assert_eq!(buckets.ready_at(9), 4 * S);
        let mut deaf = Buckets::new(&RatesConfig { learn: false, ..RatesConfig::default() });
        deaf.told(S, &RateHint { requests: Some(quota(0)), tokens: None });
        assert_eq!(deaf.ready_at(9), 0);
    }
}
