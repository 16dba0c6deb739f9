//! The loads a plan can be made of, as the configuration names them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a load can't be planned.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum LoadError {
    /// No rate, or one that no schedule can have.
    #[error("a rate must be finite and above 0, not {0}")]
    Rate(f64),
    /// A shape that gamma gaps can't have.
    #[error("burstiness must be finite and above 0, not {0}")]
    Burstiness(f64),
    /// Gaps whose mean would not be the stated one, or negative.
    #[error("uniform gaps must satisfy 0 <= low ({low}) <= high ({high}) and low + high = 2, in mean gaps")]
    Uniform {
        /// Shortest gap, in mean gaps.
        low: f64,
        /// Longest gap, in mean gaps.
        high: f64,
    },
    /// A stage that has no length, or a rate below 0.
    #[error("a stage's rates must be finite and 0 or more, and its seconds finite and above 0, not {0:?}")]
    Stage(Stage),
    /// Nothing would ever be sent.
    #[error("{0} sends nothing: give it 1 or more")]
    Nothing(&'static str),
    /// Delays of less than a nanosecond.
    #[error("delays are whole nanoseconds, at least 1: a rate must be at most 1e9 per second, not {0}")]
    TooFast(f64),
}

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
    /// As many as a policy lets start, each with as many attempts as it wants.
    Dispatch {
        /// The policy, as whoever makes it reads it.
        policy: serde_json::Value,
        /// Whether what it is told and asked is recorded.
        #[serde(default)]
        record: bool,
        /// Of each request, whose hedges are judged with its own; none where all are alike.
        #[serde(default, skip_serializing)]
        keys: Vec<u32>,
        /// Of each request, the tokens that it is expected to cost; none where its body tells.
        #[serde(default, skip_serializing)]
        tokens: Vec<u32>,
        /// Nodes that take nothing until they are given room.
        #[serde(default)]
        absent: Vec<u16>,
    },
}

impl Load {
    /// Check what came from outside: a load that passes has a plan.
    pub fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Concurrency { n: 0 } => Err(LoadError::Nothing("concurrency")),
            Self::Burst { n: 0 } => Err(LoadError::Nothing("a burst")),
            Self::Rate { rate, arrival } => {
                if !positive(*rate) {
                    return Err(LoadError::Rate(*rate));
                }
                arrival.check()
            }
            Self::Stages { stages, arrival } => {
                let odd =
                    |s: &&Stage| !(s.from >= 0.0 && s.to >= 0.0 && (s.from + s.to).is_finite() && positive(s.seconds));
                if let Some(stage) = stages.iter().find(odd) {
                    return Err(LoadError::Stage(*stage));
                }
                if stages.iter().all(|s| s.from == 0.0 && s.to == 0.0) {
                    return Err(LoadError::Nothing("a plan of stages"));
                }
                arrival.check()
            }
            // A policy is checked when it is made.
            Self::Concurrency { .. } | Self::Burst { .. } | Self::Manual | Self::Dispatch { .. } => Ok(()),
        }
    }
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
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

impl Arrival {
    fn check(self) -> Result<(), LoadError> {
        match self {
            Self::Gamma { burstiness } if !positive(burstiness) => Err(LoadError::Burstiness(burstiness)),
            // The sum's slack is for shares that were divided by their mean.
            Self::Uniform { low, high } if !(0.0 <= low && low <= high && (low + high - 2.0).abs() < 1e-9) => {
                Err(LoadError::Uniform { low, high })
            }
            _ => Ok(()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_has_no_plan_says_which_value_and_which_rule() {
        let poisson = Arrival::Poisson;
        let words = |load: Load| load.check().unwrap_err().to_string();
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(words(Load::Rate { rate, arrival: poisson }).contains(&format!("not {rate}")));
        }
        for burstiness in [0.0, -1e300, f64::NAN] {
            assert!(words(Load::Rate { rate: 1.0, arrival: Arrival::Gamma { burstiness } }).contains("burstiness"));
        }
        for (low, high) in [(0.5, 1.0), (-1.0, 3.0), (1.5, 0.5), (f64::NAN, 1.0)] {
            assert!(
                words(Load::Rate { rate: 1.0, arrival: Arrival::Uniform { low, high } }).contains("low + high = 2")
            );
        }
        for (from, to, seconds) in [(1.0, 1.0, 0.0), (-1.0, 1.0, 1.0), (1.0, f64::INFINITY, 1.0), (1.0, 1.0, f64::NAN)]
        {
            let stages = vec![Stage { from, to, seconds }];
            assert!(words(Load::Stages { stages, arrival: poisson }).contains("a stage's rates"));
        }
        let idle = Stage { from: 0.0, to: 0.0, seconds: 1.0 };
        assert!(words(Load::Stages { stages: vec![idle], arrival: poisson }).contains("sends nothing"));
        assert!(words(Load::Stages { stages: vec![], arrival: poisson }).contains("sends nothing"));
        assert!(words(Load::Concurrency { n: 0 }).contains("concurrency sends nothing"));
        assert!(words(Load::Burst { n: 0 }).contains("a burst sends nothing"));
    }

    #[test]
    fn a_sound_load_passes() {
        let arrival = Arrival::Uniform { low: 0.0, high: 2.0 };
        let stages = vec![Stage { from: 0.0, to: 0.0, seconds: 1.0 }, Stage { from: 0.0, to: 5.0, seconds: 1.0 }];
        for load in [
            Load::Concurrency { n: 1 },
            Load::Burst { n: 1 },
            Load::Rate { rate: 1e-6, arrival },
            Load::Stages { stages, arrival: Arrival::Poisson },
        ] {
            assert_eq!(load.check(), Ok(()));
        }
    }
}
