//! Dispatch in virtual time: the policy that drives real calls, against a service that is a model. One driver, two worlds: a
//! service, and nodes of unequal speed. Seconds of a batch pass in microseconds, and the same seed gives the same service to
//! every strategy.

mod calls;
mod draw;
mod drive;
pub mod nodes;
mod regime;
mod run;
mod service;

pub use drive::SimError;
pub use regime::{Regime, random, regime, regimes};
pub use run::{Simulated, run, run_whole};
pub use service::{Failing, Latency, Outage, Rate, RateChange, Service, ServiceError, Stall};
