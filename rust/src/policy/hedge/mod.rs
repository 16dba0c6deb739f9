//! When a silent attempt gets a copy.

mod straggler;

use serde::{Deserialize, Serialize};

use super::config::{seconds, whole};
use super::observation::Observation;
use super::{AttemptId, ConfigError, ns};
use straggler::Straggler;
pub use straggler::StragglerConfig;

/// The most copies that can be live beside an attempt.
pub(super) const COPIES: u32 = 8;

/// Which hedge.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HedgeConfig {
    /// Never.
    #[default]
    None,
    /// After a time of silence.
    After(AfterConfig),
    /// When it takes long beside the others.
    Straggler(StragglerConfig),
}

/// A copy after a time of silence.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AfterConfig {
    /// Seconds of silence.
    pub after_s: f64,
    /// Copies that may be live beside the first attempt.
    #[serde(default = "one")]
    pub copies: u32,
}

fn one() -> u32 {
    1
}

impl HedgeConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::None => Ok(()),
            Self::After(after) => {
                seconds("hedge.after_s", after.after_s)?;
                whole("hedge.copies", after.copies, 1, COPIES)
            }
            Self::Straggler(straggler) => straggler.check(),
        }
    }
}

/// Decides when a silent attempt gets a copy. Silence is counted from the call's latest start or failure.
#[derive(Clone, Debug)]
pub(super) enum Hedge {
    None,
    After { silence: u64, copies: u32 },
    Straggler(Straggler),
}

impl Hedge {
    pub(super) fn new(config: &HedgeConfig) -> Self {
        match config {
            HedgeConfig::None => Self::None,
            HedgeConfig::After(after) => Self::After { silence: ns(after.after_s), copies: after.copies },
            HedgeConfig::Straggler(straggler) => Self::Straggler(Straggler::new(straggler)),
        }
    }

    /// Copies that may be live beside a call's first attempt; 0 when there are none ever.
    #[inline]
    pub(super) fn copies(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::After { copies, .. } => *copies,
            Self::Straggler(straggler) => straggler.copies(),
        }
    }

    /// The shortest silence after which any call gets a copy; none while none does.
    #[inline]
    pub(super) fn shortest(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::After { silence, .. } => Some(*silence),
            Self::Straggler(straggler) => straggler.shortest(),
        }
    }

    /// The silence after which a call with this key gets a copy; none while it gets none. Never below the shortest.
    ///
    /// # Arguments
    /// - `live`: its attempts in flight.
    /// - `crowd`: how many were in flight when the last of them started.
    /// - `permits`: how many may be now.
    #[inline]
    pub(super) fn silence(&mut self, now: u64, key: u32, live: u32, crowd: u32, permits: u32) -> Option<u64> {
        match self {
            Self::None => None,
            Self::After { silence, .. } => Some(*silence),
            Self::Straggler(straggler) => straggler.silence(now, key, live, crowd, permits),
        }
    }

    /// Grows whenever a copy may have become due sooner than was told: by an answer, or a verdict.
    pub(super) fn changes(&self) -> u32 {
        match self {
            Self::None | Self::After { .. } => 0,
            Self::Straggler(straggler) => straggler.changes(),
        }
    }

    /// Whether another copy may be paid for, after so many items and copies were started.
    #[inline]
    pub(super) fn affords(&self, items: u64, copies: u64) -> bool {
        match self {
            Self::None => false,
            Self::After { .. } => true,
            Self::Straggler(straggler) => straggler.affords(items, copies),
        }
    }

    /// Whether a call that has all its copies, and all of them silent, may have one of them replaced, and one that failed
    /// made again at once.
    pub(super) fn replaces(&self) -> bool {
        match self {
            Self::None | Self::After { .. } => false,
            Self::Straggler(straggler) => straggler.replaces(),
        }
    }

    /// An attempt was started; `crowd` are in flight with it.
    #[inline]
    pub(super) fn started(&mut self, now: u64, attempt: AttemptId, crowd: u32) {
        if let Self::Straggler(straggler) = self {
            straggler.started(now, attempt, crowd);
        }
    }

    /// A copy is about to be made of a call that has so many attempts in flight.
    pub(super) fn copied(&mut self, live: u32) {
        if let Self::Straggler(straggler) = self {
            straggler.copied(live);
        }
    }

    /// Learn from an attempt that is over: how long an answer took, or how long none came.
    #[inline]
    pub(super) fn observe(&mut self, seen: &Observation) {
        if let Self::Straggler(straggler) = self {
            straggler.observe(seen);
        }
    }

    /// Learn whether a copy was worth it: it won, or it lost against another.
    pub(super) fn judged(&mut self, now: u64, key: u32, won: bool) {
        if let Self::Straggler(straggler) = self {
            straggler.judged(now, key, won);
        }
    }
}
