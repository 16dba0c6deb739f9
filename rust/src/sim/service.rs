//! What stands behind a simulated call: how long it takes, when it stalls or fails, and what the service admits.

use serde::{Deserialize, Serialize};

use super::draw::{Draws, PROMPT};

/// A service. Times are seconds; `None` and 0 mean that there is no such limit or fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// How long an ordinary call is served.
    pub latency: Latency,
    /// Calls that take much longer than ordinary ones.
    #[serde(default)]
    pub stall: Option<Stall>,
    /// Calls that fail by themselves.
    #[serde(default)]
    pub error: Option<Failing>,
    /// Calls served at once; the rest wait in line at the service.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Calls that may be with the service, waiting ones included; more are refused with a 500.
    #[serde(default)]
    pub most: Option<u32>,
    /// Calls admitted per second; more are refused with a 429.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Windows in which every call is refused with a 503.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// How long a refusal takes to come back.
    #[serde(default = "refusal")]
    pub refuse_s: f64,
    /// How much later than it was made a call reaches the service; at once where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Latency>,
    /// When it begins to admit another number of calls a second, where there is a rate; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_changes: Vec<RateChange>,
}

/// How long an ordinary call takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Always this long.
    Constant {
        /// Seconds.
        seconds: f64,
    },
    /// Evenly between the two.
    Uniform {
        /// Shortest, seconds.
        low_s: f64,
        /// Longest, seconds.
        high_s: f64,
    },
    /// The exponential of a bell curve.
    Lognormal {
        /// Half of the calls are faster, seconds.
        median_s: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of these, each as likely as the others: what a run has measured, stalls included.
    Recorded {
        /// Seconds.
        seconds: Vec<f64>,
    },
}

/// Calls that take evenly between `low_s` and `high_s`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// Share of calls.
    pub share: f64,
    /// Shortest, seconds.
    pub low_s: f64,
    /// Longest, seconds.
    pub high_s: f64,
    /// Share of the stalls that belong to the item: then every copy of it stalls, each for its own time.
    #[serde(default)]
    pub of_item: f64,
}

/// Calls that fail soon after they began, whatever the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// Share of calls.
    pub share: f64,
    /// When the failure comes back, seconds.
    #[serde(default = "failure")]
    pub after_s: f64,
    /// HTTP status.
    #[serde(default = "internal")]
    pub status: u16,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls per second.
    pub per_s: f64,
    /// Calls at once after a rest; at least 1.
    pub burst: f64,
    /// Whether a 429 says when to come back, in whole seconds as the header does.
    #[serde(default = "yes")]
    pub retry_after: bool,
    /// Whether it says so to the millisecond, as `retry-after-ms` does.
    #[serde(default)]
    pub retry_after_ms: bool,
}

/// Another number of calls admitted per second, from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateChange {
    /// When, seconds.
    pub at_s: f64,
    /// Calls per second.
    pub per_s: f64,
}

/// A time in which the service is down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its start, seconds.
    pub from_s: f64,
    /// Its end, seconds.
    pub to_s: f64,
}

/// Why a service could not be simulated.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ServiceError {
    /// A number that can't be.
    #[error("{what} must be {rule}, not {value}")]
    Number {
        /// Which one.
        what: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it was.
        value: f64,
    },
    /// Nothing to draw from.
    #[error("recorded latencies must hold at least one value")]
    NoLatencies,
}

/// How an ordinary call would go, before the service's limits are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Course {
    /// It is served this long, nanoseconds.
    Served(u64),
    /// It fails after so long, nanoseconds, with this status.
    Fails(u64, u16),
}

const fn refusal() -> f64 {
    0.1
}
const fn failure() -> f64 {
    0.2
}
const fn internal() -> u16 {
    500
}
const fn yes() -> bool {
    true
}

impl Service {
    /// A service of this latency and nothing else.
    pub fn of(latency: Latency) -> Self {
        Self {
            latency,
            stall: None,
            error: None,
            slots: None,
            most: None,
            rate: None,
            outages: Vec::new(),
            refuse_s: refusal(),
            late: None,
            rate_changes: Vec::new(),
        }
    }

    /// Check every number.
    ///
    /// # Errors
    /// [`ServiceError`] names the first that can't be.
    pub fn check(&self) -> Result<(), ServiceError> {
        self.latency.check(["latency", "latency.seconds", "latency.median_s", "latency.sigma"])?;
        if let Some(late) = &self.late {
            late.check(["late", "late.seconds", "late.median_s", "late.sigma"])?;
        }
        if let Some(stall) = &self.stall {
            share("stall.share", stall.share)?;
            share("stall.of_item", stall.of_item)?;
            between("stall", stall.low_s, stall.high_s)?;
        }
        if let Some(error) = &self.error {
            share("error.share", error.share)?;
            not_negative("error.after_s", error.after_s)?;
        }
        if let Some(rate) = &self.rate {
            positive("rate.per_s", rate.per_s)?;
            ensure("rate.burst", "at least 1", rate.burst, rate.burst >= 1.0)?;
        }
        let mut before = 0.0;
        for change in &self.rate_changes {
            let at = change.at_s;
            ensure("rate_changes.at_s", "0 or more, and no sooner than the one before it", at, at >= before)?;
            before = at;
            positive("rate_changes.per_s", change.per_s)?;
        }
        for (what, n) in [("slots", self.slots), ("most", self.most)] {
            if let Some(n) = n {
                ensure(what, "at least 1", f64::from(n), n >= 1)?;
            }
        }
        for outage in &self.outages {
            between("outages", outage.from_s, outage.to_s)?;
        }
        not_negative("refuse_s", self.refuse_s)
    }

    /// How the `copy`-th attempt of `item` goes if it is admitted.
    pub(super) fn course(&self, seed: u64, item: u32, copy: u32) -> Course {
        let draws = Draws::new(seed, item, copy);
        if let Some(error) = self.error.filter(|e| draws.unit(0) < e.share) {
            return Course::Fails(ns(error.after_s), error.status);
        }
        let seconds = match self.stall {
            Some(stall) if stall.takes(seed, item, draws) => stall.low_s + (stall.high_s - stall.low_s) * draws.unit(2),
            _ => self.latency.draw(draws),
        };
        Course::Served(ns(seconds).max(1))
    }

    /// How much later than it was made the `copy`-th attempt of `item` reaches the service, nanoseconds.
    pub(super) fn lateness(&self, seed: u64, item: u32, copy: u32) -> u64 {
        // Another series of draws than those of its course.
        self.late.as_ref().map_or(0, |late| ns(late.draw(Draws::new(!seed, item, copy))))
    }

    /// Whether the service is down at `now`.
    pub(super) fn is_down(&self, now: u64) -> bool {
        self.outages.iter().any(|o| (ns(o.from_s)..ns(o.to_s)).contains(&now))
    }
}

impl Stall {
    fn takes(&self, seed: u64, item: u32, draws: Draws) -> bool {
        let of_item = self.share * self.of_item;
        Draws::new(seed, item, PROMPT).unit(0) < of_item || draws.unit(1) < self.share - of_item
    }
}

impl Latency {
    /// Check its numbers, which are called so: all of it, constant, median, deviation.
    fn check(&self, [whole, constant, median, deviation]: [&'static str; 4]) -> Result<(), ServiceError> {
        match self {
            Self::Constant { seconds } => positive(constant, *seconds),
            Self::Uniform { low_s, high_s } => between(whole, *low_s, *high_s),
            Self::Lognormal { median_s, sigma } => {
                positive(median, *median_s)?;
                not_negative(deviation, *sigma)
            }
            Self::Recorded { seconds } if seconds.is_empty() => Err(ServiceError::NoLatencies),
            Self::Recorded { seconds } => seconds.iter().try_for_each(|s| not_negative(constant, *s)),
        }
    }

    fn draw(&self, draws: Draws) -> f64 {
        match self {
            Self::Constant { seconds } => *seconds,
            Self::Uniform { low_s, high_s } => low_s + (high_s - low_s) * draws.unit(3),
            Self::Lognormal { median_s, sigma } => median_s * (sigma * draws.normal(3)).exp(),
            Self::Recorded { seconds } => seconds[(draws.unit(3) * seconds.len() as f64) as usize],
        }
    }
}

/// Seconds as nanoseconds.
pub(super) fn ns(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

fn ensure(what: &'static str, rule: &'static str, value: f64, holds: bool) -> Result<(), ServiceError> {
    if holds && value.is_finite() { Ok(()) } else { Err(ServiceError::Number { what, rule, value }) }
}

fn positive(what: &'static str, value: f64) -> Result<(), ServiceError> {
    ensure(what, "above 0", value, value > 0.0)
}

fn not_negative(what: &'static str, value: f64) -> Result<(), ServiceError> {
    ensure(what, "0 or more", value, value >= 0.0)
}

fn share(what: &'static str, value: f64) -> Result<(), ServiceError> {
    ensure(what, "between 0 and 1", value, (0.0..=1.0).contains(&value))
}

fn between(what: &'static str, low: f64, high: f64) -> Result<(), ServiceError> {
    not_negative(what, low)?;
    ensure(what, "at least its lower end", high, high >= low)
}
