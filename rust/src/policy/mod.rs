//! When a call starts, waits, is tried again, copied, or given up: a pure function of what happened and when.
//!
//! No clock, socket or Python in here: a driver tells [`Policy`] what happened ([`Event`], with the time in nanoseconds of
//! whatever clock it has), does what [`Policy::poll`] says ([`Action`]), and polls again at [`Policy::next_deadline`] at the
//! latest. The engine, the asyncio driver and the simulator run this same code; a [`Recording`] of one replays in another.

mod action;
mod attempts;
mod breaker;
mod buckets;
mod config;
mod event;
mod flights;
mod hedge;
mod items;
mod limit;
mod line;
mod machine;
mod named;
mod node;
mod observation;
mod pacer;
mod push_back;
mod recording;
mod retry;
mod route;
mod rows;
mod slots;
mod survival;
mod totals;
mod trace;

pub use action::{Action, AttemptKind, CancelWhy, Verdict};
pub use attempts::{Attempt, Attempts, Fate};
pub use breaker::BreakerConfig;
pub use buckets::RatesConfig;
pub use config::{Config, ConfigError, Remembered};
pub use event::{AttemptId, End, Event, ItemId, Outcome, Quota, RateHint, Retryable};
pub use hedge::{AfterConfig, HedgeConfig, StragglerConfig};
pub use items::{Item, Items};
pub use limit::{AimdConfig, FixedConfig, GradientConfig, LimitConfig};
pub use machine::Policy;
pub use named::{PROFILES, STRATEGIES};
pub use pacer::PacerConfig;
pub use push_back::PushBackConfig;
pub use recording::{Recording, Step, replay};
pub use retry::{Jitter, RetryConfig};
pub use route::{NodeConfig, NodeView, RouteConfig, Spread};
pub use totals::Totals;
pub use trace::{Point, Trace};

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// Seconds as whole nanoseconds; what came in is checked to be finite and not negative.
fn ns(seconds: f64) -> u64 {
    (seconds * SECOND).round() as u64
}
