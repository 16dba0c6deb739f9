//! The loads a plan can be made of, as the configuration names them.

use serde::{Deserialize, Serialize};

/// When requests of a phase start.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Load {
    /// Closed loop: exactly `n` in flight.
    Concurrency {
        /// Requests in flight.
        n: u32,
    },
    /// Open loop on an absolute schedule.
    Rate {
        /// Requests per second.
        rate: f64,
        /// How the gaps are spread.
        arrival: Arrival,
    },
    /// Open loop, Poisson or constant, whose rate changes.
    Stages {
        /// The stages in order.
        stages: Vec<Stage>,
        /// How the gaps are spread.
        arrival: Arrival,
    },
    /// `n` requests at once.
    Burst {
        /// Requests.
        n: u64,
    },
    /// Nothing by itself: somebody outside asks for each request.
    Manual,
}

/// The spread of the gaps between arrivals; every one has the mean `1 / rate`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Arrival {
    /// Equal gaps.
    Constant,
    /// Exponential gaps.
    Poisson,
    /// Gamma gaps of this shape: 1 is Poisson, below 1 burstier.
    Gamma {
        /// The shape.
        burstiness: f64,
    },
    /// Uniform gaps between `low` and `high` times the mean gap (their mean must be 1).
    Uniform {
        /// Shortest gap, as a share of the mean.
        low: f64,
        /// Longest gap, as a share of the mean.
        high: f64,
    },
}

/// One stage of a load: the rate runs linearly from `from` to `to` within `seconds`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stage {
    /// Requests per second at its start.
    pub from: f64,
    /// Requests per second at its end; equal to `from` for a step.
    pub to: f64,
    /// Its length.
    pub seconds: f64,
}

/// In which order samples are drawn.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// 0, 1, 2, … and again.
    #[default]
    Sequential,
    /// Shuffled anew in each epoch.
    WithoutReplacement,
    /// Drawn independently.
    WithReplacement,
    /// Always the first.
    Single,
}
