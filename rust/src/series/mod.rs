//! Live metrics: what a running worker counts for whoever watches, in shared memory, at a few nanoseconds apiece.
//!
//! A `Segment` is the file that a run writes, a `Reader` what another process sees of it. `Counter` and `Series` are a
//! worker's share of an entry: one writer each, no lock, no allocation. What makes that right stands in `orders`,
//! `seqlock` and `stats`, over plain slices of atomics, so that a model checker can run the same code.

mod bins;
mod bounds;
mod counted;
mod directory;
mod error;
mod hdr;
mod header;
mod live;
#[cfg(all(test, loadgen_loom))]
mod model;
pub mod orders;
mod owner;
mod place;
mod rank;
mod reader;
mod region;
mod segment;
mod seqlock;
pub mod shard;
mod snapshot;
pub mod stats;

pub use bins::Bins;
pub use bounds::{Bounds, DIGITS};
pub use counted::{LiveCopy, LiveShard, RECORDS_NOTHING};
pub use directory::{ENTRIES, Kind, MAX_SHARDS, Spec};
pub use error::SeriesError;
pub use hdr::{Imported, read_hdr};
pub use header::State;
pub use live::{Live, LoopTurns};
pub use place::{SUFFIX, clean, directories, list};
pub use rank::nearest_rank;
pub use reader::Reader;
pub use segment::{Registered, Segment};
pub use shard::{Counter, Merged, Series};
pub use snapshot::{CounterStat, Detail, SeriesStat, Snapshot};
pub use stats::Stats;
