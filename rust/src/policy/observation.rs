//! What an attempt that is over says of the service: the one thing that limits and rates learn from.

use super::AttemptId;

/// An attempt that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Observation {
    /// Now.
    pub(super) now: u64,
    /// Which. Attempts are numbered in the order of start: one with a number below the first of an epoch belongs to an older one.
    pub(super) attempt: AttemptId,
    /// The number that the next attempt will have: the first of an epoch that begins now.
    pub(super) next_attempt: AttemptId,
    /// When it was started.
    pub(super) started: u64,
    /// When its answer began, if it did and the driver told so.
    pub(super) first_byte: Option<u64>,
    /// What it says.
    pub(super) signal: Signal,
    /// HTTP status, 0 where there is none.
    pub(super) status: u16,
    /// How long the service asked to wait.
    pub(super) retry_after_ns: Option<u64>,
    /// Attempts in flight, this one included.
    pub(super) in_flight: u32,
    /// How many may be.
    pub(super) permits: u32,
    /// Items in line.
    pub(super) waiting: u32,
    /// Whose latencies are judged together.
    pub(super) key: u32,
}

/// What an attempt says of the service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// It answered.
    Success,
    /// It wants less.
    PushBack,
    /// It failed, which says nothing of load.
    Failure,
    /// It took too long.
    TimedOut,
    /// Nothing but that it lasted this long: the attempt was dropped.
    Dropped,
}
