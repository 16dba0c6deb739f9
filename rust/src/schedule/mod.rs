//! The plan of a phase: when request `i` is due and which sample it sends, both functions of (seed, i) alone.
//!
//! Every worker runs the same plan and takes from it only the indices it has claimed, so that the number of
//! workers changes nothing about what is sent when.

mod arrivals;
mod delays;
mod load;
mod order;
mod plan;
mod random;

pub use arrivals::Arrivals;
pub use delays::Delays;
pub use load::{Arrival, Load, LoadError, Order, Stage};
pub use order::SampleOrder;
pub use plan::{Block, Plan};
pub use random::{Purpose, Random};
