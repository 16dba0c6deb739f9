//! The record of truth: one row per request, the columnar shard that gathers rows, the run log that keeps them.

mod arrow;
mod arrow_rows;
mod backlog;
mod block;
mod columns;
mod entries;
mod error;
mod reader;
mod reads;
mod row;
mod rows;
mod shard;
mod spilled;
mod store;
mod table;
mod texts;
mod token_counts;
mod varint;
mod writer;

pub use arrow::{ArrowArrayStream, ArrowSchema};
pub use arrow_rows::{arrow_rows, arrow_rows_schema, row_columns};
pub use backlog::Backlog;
pub use block::{Block, BlockHead, BlockKind, FORMAT_MAJOR, FORMAT_MINOR, LogHeader, MAX_BLOCK, SESSION_WORKER};
pub use entries::{Entries, Entry, MetaParts, TextKind};
pub use error::{BlockFault, LogError};
pub use reader::{Damage, LogPlaces, LogReader, ReaderHeader, WhichLog};
pub use reads::{ReadIter, ReadList};
pub use row::{Attempt, AttemptKind, Detail, Failure, Finish, Read, Row, StampSource, Stamps, TokenSource, UNSET};
pub use rows::{RowBlock, RowView};
pub use shard::Shard;
pub use spilled::SpilledReads;
pub use table::{RowBatch, TableColumn, TableOptions, TableReader, flat_columns};
pub use texts::TextReader;
pub use token_counts::TokenCounts;
pub use writer::{LogStats, LogWriter};
