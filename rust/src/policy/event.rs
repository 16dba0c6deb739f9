//! What a driver tells the policy.

use serde::{Deserialize, Serialize};

/// An item: dense, from 0, in the order of queueing.
pub type ItemId = u32;
/// An attempt at an item: dense, from 0, in the order of start.
pub type AttemptId = u32;

/// Something that happened.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// More items wait.
    Queued {
        /// How many; they are alike.
        count: u32,
        /// Whose hedges are judged together.
        key: u32,
        /// Tokens that each is expected to cost, for a limit of tokens; 0 where unknown.
        tokens: u32,
    },
    /// No more items come.
    Closed,
    /// The first byte of an attempt's answer arrived.
    FirstByte {
        /// Whose.
        attempt: AttemptId,
    },
    /// The first token of an attempt's answer arrived. Where answers are streamed, it decides between copies.
    FirstToken {
        /// Whose.
        attempt: AttemptId,
    },
    /// An attempt ended. After a [`super::Action::Cancel`] this is welcome, and only adds its cost.
    Ended {
        /// Which.
        attempt: AttemptId,
        /// How.
        end: End,
    },
    /// Whoever asked for an item no longer wants it.
    Cancel {
        /// Which.
        item: ItemId,
    },
    /// An answer told what the service's rate limits are.
    Told {
        /// What it told.
        hint: RateHint,
    },
    /// A node takes so many items at the same time from now on.
    Room {
        /// Which.
        node: u16,
        /// How many; none while it is down, or can't do what is asked.
        slots: u16,
    },
    /// Time has passed.
    Tick,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct End {
    /// What came of it.
    pub outcome: Outcome,
    /// HTTP status, 0 where there is none.
    pub status: u16,
    /// How long the service asked to wait.
    pub retry_after_ns: Option<u64>,
    /// Tokens of the prompt, 0 where unknown.
    pub tokens_in: u32,
    /// Tokens of the answer, 0 where unknown.
    pub tokens_out: u32,
    /// Whether trying again can help.
    pub retryable: Retryable,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// An answer.
    #[default]
    Ok = 0,
    /// Pushed back, in the eyes of the driver; statuses are judged by the policy itself.
    Rejected = 1,
    /// An error.
    Failed = 2,
    /// The driver's own time limit.
    TimedOut = 3,
    /// Nothing more came for too long.
    Stalled = 4,
    /// The stream died after its first token.
    Broken = 5,
    /// Cancelled by somebody else than the policy.
    Cancelled = 6,
    /// Nobody was there to take it: no connection came about.
    Unreached = 7,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Retryable {
    /// The policy decides: by the status where there is one, yes where there is none.
    #[default]
    ByStatus = 0,
    /// It can.
    Yes = 1,
    /// It can't.
    No = 2,
}

impl End {
    /// Whether trying again can help, in the end. Source: RFC 9110 section 15 for what a client repeats: time-outs,
    /// conflicts that pass (409, 425), too many requests, and the server's own errors.
    pub(super) fn worth_retrying(&self) -> bool {
        match (self.retryable, self.outcome) {
            (Retryable::Yes, _) => true,
            (Retryable::No, _) | (Retryable::ByStatus, Outcome::Cancelled) => false,
            (Retryable::ByStatus, Outcome::Failed) => {
                matches!(self.status, 0 | 408 | 409 | 425 | 429 | 500 | 502..=504 | 507..=599)
            }
            (Retryable::ByStatus, _) => true,
        }
    }

    /// Tokens it cost, 0 where unknown.
    pub(super) fn tokens(&self) -> u32 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

/// What an answer's headers tell of the service's rate limits.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateHint {
    /// Of requests.
    pub requests: Option<Quota>,
    /// Of tokens.
    pub tokens: Option<Quota>,
}

/// One limit of a service, as it tells it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// How many a minute.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// Until all are there again.
    pub reset_ns: Option<u64>,
}
