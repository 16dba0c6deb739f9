//! The engine: workers that share nothing take requests from one plan, make them, and write what happened.

mod account;
mod bodies;
pub mod config;
mod connection;
mod flight;
mod issue;
mod multiplexed;
mod phase;
mod reception;
mod request;
mod run;
mod sink;
mod ticker;
mod timer;
mod usage;
mod worker;

pub use bodies::{Bodies, BodiesError};
pub use phase::StopReason;
pub use run::{Engine, EngineError};
pub use sink::{Completion, Issued, Sink};
