//! The plan of a phase: when request `i` is due and which sample it sends, both functions of (seed, i) alone.
//!
//! Every worker runs the same plan and takes from it only the indices it has claimed, so that the number of
//! workers changes nothing about what is sent when.

mod arrivals;
mod load;
mod order;
mod random;

pub use arrivals::Arrivals;
pub use load::{Arrival, Load, Order, Stage};
pub use order::SampleOrder;
pub use random::{Purpose, Random};
