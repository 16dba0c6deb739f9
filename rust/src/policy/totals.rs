//! What happened so far, in numbers.

use serde::{Deserialize, Serialize};

/// Sums over all items and attempts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Totals {
    /// Items queued.
    pub queued: u64,
    /// Items started.
    pub items_started: u64,
    /// Items that stand in line for a start: first starts and retries.
    pub waiting: u64,
    /// Items that back off.
    pub backing_off: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// The most that ever were.
    pub in_flight_most: u64,
    /// Items with an answer.
    pub ok: u64,
    /// Items that failed.
    pub failed: u64,
    /// Items that took too long.
    pub timed_out: u64,
    /// Items that nobody wanted any more.
    pub cancelled: u64,
    /// Items that were given up.
    pub gave_up: u64,
    /// Attempts started, of every kind.
    pub attempts: u64,
    /// First attempts.
    pub firsts: u64,
    /// Retries.
    pub retries: u64,
    /// Copies of silent attempts.
    pub hedges: u64,
    /// Attempts that looked whether a node is well again.
    pub probes: u64,
    /// Copies that won.
    pub hedges_won: u64,
    /// Copies that were dropped because another won.
    pub hedges_lost: u64,
    /// Attempts that were pushed back.
    pub push_backs: u64,
    /// Attempts that took too long.
    pub attempts_timed_out: u64,
    /// Times that the limit fell.
    pub cuts: u64,
    /// The limit now.
    pub limit: u64,
    /// The least it ever was.
    pub limit_least: u64,
    /// The most it ever was.
    pub limit_most: u64,
    /// Tokens of attempts whose answer stands.
    pub tokens_used: u64,
    /// Tokens of all others.
    pub tokens_wasted: u64,
    /// Nanoseconds that items stood in line while no permit was free, summed over those that have left it.
    pub limit_wait_ns: u64,
    /// Nanoseconds that they did while a rate held everybody back.
    pub rate_wait_ns: u64,
    /// Nanoseconds that items backed off.
    pub backoff_ns: u64,
}
