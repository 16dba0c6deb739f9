//! What is known of items and attempts only while they are under way.

use super::super::slots::NONE;
use super::super::{AttemptId, AttemptKind, ItemId};

/// An item between its first start and its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) item: ItemId,
    pub(super) key: u32,
    pub(super) phase: Phase,
    /// The first of its live flights.
    pub(super) flights: u32,
    /// How many these are.
    pub(super) live: u32,
    /// Tries that failed and that were pushed back; copies of one are one.
    pub(super) failures: u32,
    pub(super) push_backs: u32,
    /// A copy failed in a way that no other try mends.
    pub(super) hopeless: bool,
    /// How many were in flight when the last of them started.
    pub(super) crowd: u32,
    /// Copies made of it that didn't fail.
    pub(super) copies: u32,
    /// A copy of it failed and was made again at once.
    pub(super) remade: bool,
    /// Its first token has come: there is nothing left to decide between copies.
    pub(super) chosen: bool,
    /// The next try is a retry of a failure, which has its price; and the running one has paid it.
    pub(super) owes: bool,
    pub(super) paid: bool,
    pub(super) first_started: u64,
    /// When its silence began, or its backing off.
    pub(super) since: u64,
    /// When it has backed off.
    pub(super) due: u64,
    /// The longest that the service wished it to wait.
    pub(super) retry_after: Option<u64>,
    /// The attempt whose error stands, should no other come.
    pub(super) stands: AttemptId,
    /// Nodes, as bits, that were blamed for its failures.
    pub(super) blamed: u64,
    /// It is at fault itself: nodes fail it that do all others.
    pub(super) is_at_fault: bool,
    /// When a node was first blamed for it.
    pub(super) first_failed: u64,
    /// Those to whose breakers one of these failures was told.
    pub(super) counted: u64,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// It has attempts in flight.
    InFlight,
    /// It backs off.
    BackingOff,
    /// It has backed off, and waits for the budget of retries.
    PutOff,
    /// It stands in line again.
    InLine,
}

impl Call {
    pub(super) fn new(item: ItemId, key: u32, now: u64) -> Self {
        Self {
            item,
            key,
            phase: Phase::InFlight,
            flights: NONE,
            live: 0,
            failures: 0,
            push_backs: 0,
            hopeless: false,
            crowd: 0,
            copies: 0,
            remade: false,
            chosen: false,
            owes: false,
            paid: false,
            first_started: now,
            since: now,
            due: 0,
            retry_after: None,
            stands: NONE,
            blamed: 0,
            is_at_fault: false,
            first_failed: 0,
            counted: 0,
        }
    }
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) attempt: AttemptId,
    /// The slot of its call.
    pub(super) call: u32,
    pub(super) node: u16,
    pub(super) kind: AttemptKind,
    pub(super) started: u64,
    /// The next live flight of the call.
    pub(super) next: u32,
}
