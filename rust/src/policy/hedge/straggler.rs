//! A copy for what takes long beside the others. Not built yet: a configuration that names it is refused.

use serde::{Deserialize, Serialize};

use super::super::ConfigError;
use super::super::observation::Observation;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StragglerConfig {
    /// Copies that may be live beside the first attempt.
    pub copies: u32,
    /// Copies, at most, as a share of the items started …
    pub cap: f64,
    /// … plus this many.
    pub reserve: u32,
}

impl StragglerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        Err(ConfigError::NotBuilt("hedge", "straggler"))
    }
}

#[derive(Clone, Debug)]
pub(in super::super) struct Straggler {
    config: StragglerConfig,
}

impl Straggler {
    pub(super) fn new(config: &StragglerConfig) -> Self {
        Self { config: config.clone() }
    }

    pub(super) fn copies(&self) -> u32 {
        self.config.copies
    }

    pub(super) fn shortest(&self) -> Option<u64> {
        None
    }

    pub(super) fn silence(&self, _key: u32) -> Option<u64> {
        None
    }

    pub(super) fn affords(&self, _now: u64, items: u64, copies: u64) -> bool {
        ((copies + 1) as f64) <= self.config.cap * items as f64 + f64::from(self.config.reserve)
    }

    pub(super) fn observe(&mut self, _seen: &Observation) {}

    pub(super) fn judged(&mut self, _key: u32, _won: bool) {}
}
