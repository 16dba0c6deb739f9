//! The record of truth: one row per request, the columnar shard that gathers rows, the run log that keeps them.

mod row;

pub use row::{Attempt, AttemptKind, Detail, Failure, Finish, Read, Row, StampSource, Stamps, TokenSource, UNSET};
