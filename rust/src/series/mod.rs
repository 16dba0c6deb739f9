//! Live metrics: what a running worker counts for whoever watches, at a nanosecond or two apiece.

mod histogram;
mod live;

pub use histogram::{Histogram, HistogramCopy};
pub use live::{LiveCopy, LiveShard};
