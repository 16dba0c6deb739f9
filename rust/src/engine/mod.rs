//! The engine: workers that share nothing take requests from one plan, make them, and write what happened.

mod account;
mod balance;
mod bodies;
mod completions;
pub mod config;
mod connection;
mod dispatch;
mod early;
mod events;
mod finish;
mod flight;
mod in_flight;
mod issue;
mod manual;
mod multiplexed;
mod nodes;
mod phase;
mod reception;
mod request;
mod run;
mod settings;
mod sink;
mod ticker;
mod timer;
mod usage;
mod worker;

pub use balance::{BalanceConfig, BalanceError};
pub use bodies::{Bodies, BodiesError, Renderings};
pub use completions::{Completion, Made, Texts};
pub use dispatch::NodeTold;
pub use manual::Asked;
pub use phase::StopReason;
pub use run::{Engine, EngineError};
pub use sink::{Ending, Issued, Sink};
