//! The Rust core of `loadgen`: everything that runs per request, per chunk or per event.
//!
//! Data flows one way: `schedule` and `http` and `endpoint` serve `engine`; `engine` writes rows to `record`;
//! `event` tells of transitions as they happen; `stats` reads rows back; `python` is the only module that knows of Python.

pub mod bell;
pub mod clock;
pub mod endpoint;
pub mod engine;
pub mod event;
pub mod http;
pub mod mock;
pub mod policy;
pub mod record;
pub mod schedule;
pub mod series;
pub mod sim;
pub mod stats;
pub mod sync;

#[cfg(feature = "python")]
mod python;
