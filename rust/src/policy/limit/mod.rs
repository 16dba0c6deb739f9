//! How many attempts may be in flight: fixed, or learned from what comes back.

mod aimd;
mod gradient;

use serde::{Deserialize, Serialize};

use super::config::whole;
use super::observation::Observation;
use super::{AttemptId, ConfigError};
use aimd::Aimd;
pub use aimd::AimdConfig;
use gradient::Gradient;
pub use gradient::GradientConfig;

/// The most permits there can be.
pub(super) const MOST: u32 = 1_000_000;

/// Which limit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LimitConfig {
    /// Always the same.
    Fixed(FixedConfig),
    /// Additive increase, multiplicative decrease.
    Aimd(AimdConfig),
    /// From the gradient of latency over load.
    Gradient(GradientConfig),
}

/// A limit that never changes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FixedConfig {
    /// Attempts in flight, at most.
    pub n: u32,
}

impl LimitConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Fixed(fixed) => whole("limit.n", fixed.n, 1, MOST),
            Self::Aimd(aimd) => aimd.check(),
            Self::Gradient(gradient) => gradient.check(),
        }
    }
}

/// How many may be in flight. Shrinking is forgetting: whoever is in flight stays, and no one enters until enough have left.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    Fixed(u32),
    Aimd(Aimd),
    Gradient(Gradient),
}

impl Limit {
    /// A limit as configured (and checked), which may begin where an earlier run ended. If starts are `paced`, the pacer
    /// answers what the service says of its rate.
    pub(super) fn new(config: &LimitConfig, paced: bool, remembered: Option<u32>) -> Self {
        match config {
            LimitConfig::Fixed(fixed) => Self::Fixed(fixed.n),
            LimitConfig::Aimd(aimd) => Self::Aimd(Aimd::new(aimd, remembered)),
            LimitConfig::Gradient(gradient) => Self::Gradient(Gradient::new(gradient, paced, remembered)),
        }
    }

    /// How many may be in flight now.
    #[inline]
    pub(super) fn permits(&self) -> u32 {
        match self {
            Self::Fixed(n) => *n,
            Self::Aimd(aimd) => aimd.permits(),
            Self::Gradient(gradient) => gradient.permits(),
        }
    }

    /// Whether a push-back can still make it smaller. Where it can't, failing isn't a matter of load.
    pub(super) fn can_shrink(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Aimd(aimd) => aimd.can_shrink(),
            Self::Gradient(gradient) => gradient.can_shrink(),
        }
    }

    /// Let time change it.
    #[inline]
    pub(super) fn tick(&mut self, now: u64) {
        if let Self::Gradient(gradient) = self {
            gradient.tick(now);
        }
    }

    /// When time changes it next; none if only what comes back does.
    pub(super) fn next(&self) -> Option<u64> {
        match self {
            Self::Fixed(_) | Self::Aimd(_) => None,
            Self::Gradient(gradient) => gradient.next(),
        }
    }

    /// An attempt was started; `crowd` are in flight with it.
    #[inline]
    pub(super) fn started(&mut self, now: u64, attempt: AttemptId, crowd: u32) {
        if let Self::Gradient(gradient) = self {
            gradient.started(now, attempt, crowd);
        }
    }

    /// Learn from an attempt that is over.
    #[inline]
    pub(super) fn observe(&mut self, seen: &Observation) {
        match self {
            Self::Fixed(_) => {}
            Self::Aimd(aimd) => aimd.observe(seen),
            Self::Gradient(gradient) => gradient.observe(seen),
        }
    }
}
