//! A limit learned from the gradient of latency over load. Not built yet: a configuration that names it is refused.

use serde::{Deserialize, Serialize};

use super::super::ConfigError;
use super::super::observation::Observation;
use super::MOST;

/// Parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GradientConfig {
    /// It never rises above.
    pub ceiling: u32,
}

impl GradientConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        Err(ConfigError::NotBuilt("limit", "gradient"))
    }
}

#[derive(Clone, Debug)]
pub(in super::super) struct Gradient {
    permits: u32,
}

impl Gradient {
    pub(super) fn new(config: &GradientConfig, remembered: Option<u32>) -> Self {
        Self { permits: remembered.unwrap_or(config.ceiling).clamp(1, config.ceiling.clamp(1, MOST)) }
    }

    #[inline]
    pub(super) fn permits(&self) -> u32 {
        self.permits
    }

    pub(super) fn can_shrink(&self) -> bool {
        self.permits > 1
    }

    pub(super) fn observe(&mut self, _seen: &Observation) {}
}
