//! What the policy asks a driver to do.

use serde::{Deserialize, Serialize};

use super::{AttemptId, ItemId};

/// Something to do, at once and in this order.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make a call.
    Start {
        /// Its number, by which the driver tells what becomes of it.
        attempt: AttemptId,
        /// What is asked.
        item: ItemId,
        /// Why it is made.
        kind: AttemptKind,
        /// Where.
        node: u16,
        /// When it is over, on the driver's clock. The policy cancels it then, if the driver didn't.
        deadline_ns: u64,
    },
    /// Drop a call now: close its connection, cancel its task. Its permit is free already.
    Cancel {
        /// Which.
        attempt: AttemptId,
        /// Why.
        why: CancelWhy,
    },
    /// An item is done. Comes once for each.
    Resolve {
        /// Which.
        item: ItemId,
        /// The attempt whose answer stands; where the item failed, whose error stands.
        winner: Option<AttemptId>,
        /// How.
        verdict: Verdict,
    },
}

/// Why a call is made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AttemptKind {
    /// The item's first.
    First = 0,
    /// All copies before it failed.
    Retry = 1,
    /// A copy of one that is silent.
    Hedge = 2,
    /// Looks whether a node that failed is well again.
    Probe = 3,
}

/// Why a call is dropped.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum CancelWhy {
    /// Another copy won.
    Lost = 0,
    /// It took too long.
    TimedOut = 1,
    /// Nobody wants the item any more.
    CallerLeft = 2,
    /// The item took too long in all.
    CallTimedOut = 3,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Verdict {
    /// It has an answer.
    Ok = 0,
    /// Its last attempt failed, and no other is due.
    Failed = 1,
    /// Its last attempt took too long, or all of them together did.
    TimedOut = 2,
    /// Nobody wanted it any more.
    Cancelled = 3,
    /// The service pushed it back too often, or is gone.
    GaveUp = 4,
}
