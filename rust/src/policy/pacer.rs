//! The pace of starts, learned from what the service admits. Not built yet: a configuration that names one is refused.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::observation::Observation;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PacerConfig {}

impl PacerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        Err(ConfigError::NotBuilt("pacer", "a pacer"))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pacer {}

impl Pacer {
    /// A pacer as configured (and checked), which may begin at the rate (starts per second) at which an earlier run ended.
    pub(super) fn new(_config: &PacerConfig, _remembered: Option<f64>) -> Self {
        Self {}
    }

    /// When the next attempt may start: now or earlier where nothing holds it back.
    #[inline]
    pub(super) fn ready_at(&self, now: u64) -> u64 {
        now
    }

    /// Starts per second that it lets pass; none while it knows no bound.
    pub(super) fn rate(&self) -> Option<f64> {
        None
    }

    /// An attempt was started.
    #[inline]
    pub(super) fn started(&mut self, _now: u64) {}

    /// Learn from an attempt that is over.
    #[inline]
    pub(super) fn observe(&mut self, _seen: &Observation) {}
}
