//! Dispatch in virtual time: the policy that drives real calls, against a service that is a model. Seconds of a batch pass in
//! microseconds, and the same seed gives the same service to every strategy.

mod draw;
pub mod nodes;
mod regime;
mod run;
mod service;
mod world;

pub use regime::{Regime, random, regime, regimes};
pub use run::{SimError, Simulated, run, run_whole};
pub use service::{Failing, Latency, Outage, Rate, Service, ServiceError, Stall};
