//! What a policy is made of, as JSON: one definition for Rust, Python and the command line.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    BreakerConfig, HedgeConfig, LimitConfig, PROFILES, PacerConfig, PushBackConfig, RatesConfig, RetryConfig,
    RouteConfig, STRATEGIES, node,
};

/// Why a policy can't be made.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no strategy of this name.
    #[error("no strategy is named {0:?}: the choices are {choices}", choices = STRATEGIES.join(", "))]
    Strategy(String),
    /// There is no profile of this name.
    #[error("no profile is named {0:?}: the choices are {choices}", choices = PROFILES.join(", "))]
    Profile(String),
    /// What was given isn't JSON, or has a key or a value that nothing has a use for.
    #[error("the policy can't be read: {0}")]
    Json(String),
    /// A whole number out of its bounds.
    #[error("{0} must be a whole number from {2} to {3}, not {1}")]
    Whole(&'static str, u32, u32, u32),
    /// A duration that is none.
    #[error("{0} must be finite and above 0 seconds, not {1}")]
    Seconds(&'static str, f64),
    /// A duration that is longer than is kept count of.
    #[error("{0} must be at most {2} seconds, not {1}")]
    Longest(&'static str, f64, u64),
    /// A share that is none.
    #[error("{0} must be a share from 0 to 1, not {1}")]
    Share(&'static str, f64),
    /// Something that must not be 0 or negative, or isn't a number.
    #[error("{0} must be finite and {bound} 0, not {1}", bound = if *.2 { "at least" } else { "above" })]
    Positive(&'static str, f64, bool),
    /// A status that isn't an error.
    #[error("{0} holds statuses from 400 to 599, not {1}")]
    Status(&'static str, u16),
}

/// A policy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What people call it.
    pub strategy: String,
    /// How many may be in flight.
    pub limit: LimitConfig,
    /// At which pace they start; none for as fast as the limit lets them.
    #[serde(default)]
    pub pacer: Option<PacerConfig>,
    /// When a silent one gets a copy.
    #[serde(default)]
    pub hedge: HedgeConfig,
    /// When a failed one is tried again.
    #[serde(default)]
    pub retry: RetryConfig,
    /// When a node gets no calls; none for never.
    #[serde(default = "breaker")]
    pub breaker: Option<BreakerConfig>,
    /// What counts as the service wanting less.
    #[serde(default)]
    pub push_back: PushBackConfig,
    /// Seconds that an attempt may take.
    #[serde(default = "ninety")]
    pub attempt_timeout_s: f64,
    /// Seconds that an item may take from its first start; none for as long as its attempts do.
    #[serde(default)]
    pub call_timeout_s: Option<f64>,
    /// Seconds that a stream may be silent between chunks. Only a driver sees chunks: it keeps to this, and tells.
    #[serde(default)]
    pub stall_timeout_s: Option<f64>,
    /// Requests and tokens a minute.
    #[serde(default)]
    pub rates: RatesConfig,
    /// Answers are streamed: the first token decides between copies.
    #[serde(default)]
    pub streaming: bool,
    /// Nodes that calls can go to, all alike; with `route`, its own count.
    #[serde(default = "one")]
    pub nodes: u16,
    /// How they are spread over nodes of unequal speed; none for the least busy one.
    #[serde(default)]
    pub route: Option<RouteConfig>,
    /// Where an earlier run at the same service ended.
    #[serde(default)]
    pub remembered: Option<Remembered>,
}

/// What an earlier run learned.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remembered {
    /// The limit.
    pub limit: Option<u32>,
    /// Starts per second that were admitted.
    pub rate: Option<f64>,
}

fn breaker() -> Option<BreakerConfig> {
    Some(BreakerConfig::default())
}

fn ninety() -> f64 {
    90.0
}

fn one() -> u16 {
    1
}

/// The longest that an attempt or a call may take: an hour, and a day. Rows keep an attempt's stamps in 32 bits of microseconds.
const ATTEMPT_MOST_S: u64 = 3_600;
const CALL_MOST_S: u64 = 86_400;

impl Config {
    /// A policy with these limits and otherwise the contract's values.
    pub(super) fn of(strategy: &str, limit: LimitConfig) -> Self {
        Self {
            strategy: strategy.to_owned(),
            limit,
            pacer: None,
            hedge: HedgeConfig::default(),
            retry: RetryConfig::default(),
            breaker: breaker(),
            push_back: PushBackConfig::default(),
            attempt_timeout_s: ninety(),
            call_timeout_s: None,
            stall_timeout_s: None,
            rates: RatesConfig::default(),
            streaming: false,
            nodes: 1,
            route: None,
            remembered: None,
        }
    }

    /// Read a policy from JSON and check it.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(json).map_err(|e| ConfigError::Json(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The policy as JSON, with every value spelled out.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        serde_json::to_string(self).map_err(|e| ConfigError::Json(e.to_string()))
    }

    /// Check what came from outside: a policy that passes can be made.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limit.check()?;
        self.pacer.as_ref().map_or(Ok(()), PacerConfig::check)?;
        self.hedge.check()?;
        self.retry.check()?;
        self.breaker.as_ref().map_or(Ok(()), BreakerConfig::check)?;
        self.push_back.check()?;
        self.rates.check()?;
        longest("attempt_timeout_s", self.attempt_timeout_s, ATTEMPT_MOST_S)?;
        self.call_timeout_s.map_or(Ok(()), |s| longest("call_timeout_s", s, CALL_MOST_S))?;
        self.stall_timeout_s.map_or(Ok(()), |s| longest("stall_timeout_s", s, CALL_MOST_S))?;
        whole("nodes", u32::from(self.nodes), 1, u32::from(node::MOST))?;
        self.route.as_ref().map_or(Ok(()), RouteConfig::check)?;
        let rate = self.remembered.and_then(|remembered| remembered.rate);
        rate.map_or(Ok(()), |rate| positive("remembered.rate", rate, false))
    }
}

pub(super) fn whole(name: &'static str, value: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::Whole(name, value, least, most)),
    }
}

/// A duration: above 0, and at most a day.
pub(super) fn seconds(name: &'static str, value: f64) -> Result<(), ConfigError> {
    longest(name, value, CALL_MOST_S)
}

fn longest(name: &'static str, value: f64, most: u64) -> Result<(), ConfigError> {
    match value.is_finite() && value > 0.0 {
        false => Err(ConfigError::Seconds(name, value)),
        true if value > most as f64 => Err(ConfigError::Longest(name, value, most)),
        true => Ok(()),
    }
}

/// A share from 0 to 1; 0 only if it is allowed.
pub(super) fn share(name: &'static str, value: f64, zero: bool) -> Result<(), ConfigError> {
    match (0.0..=1.0).contains(&value) && (zero || value > 0.0) {
        true => Ok(()),
        false if value == 0.0 => Err(ConfigError::Positive(name, value, false)),
        false => Err(ConfigError::Share(name, value)),
    }
}

pub(super) fn positive(name: &'static str, value: f64, zero: bool) -> Result<(), ConfigError> {
    match value.is_finite() && (value > 0.0 || (zero && value == 0.0)) {
        true => Ok(()),
        false => Err(ConfigError::Positive(name, value, zero)),
    }
}
