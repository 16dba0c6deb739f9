//! What a request must keep to for goodput: a metric and its limit.

use super::metric::METRICS;
use crate::record::Row;

/// An objective: a metric and its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objective {
    pub metric: usize,
    pub limit_ns: u64,
    /// Judge from the planned moment.
    pub from_planned: bool,
}

impl Objective {
    /// Whether a successful row meets it. A stream of one token meets any time per further token.
    pub fn is_met(&self, row: &Row, tokens: Option<u64>) -> bool {
        let metric = &METRICS[self.metric];
        let Some(ns) = (metric.value)(row, tokens) else {
            return metric.name == "tpot" && tokens.is_some_and(|tokens| tokens < 2);
        };
        let before = if self.from_planned { row.stamps.sent.saturating_sub(row.stamps.planned) } else { 0 };
        let ns = match metric.name {
            // The time between tokens doesn't know when the request was planned.
            "tpot" => ns,
            "ntpot" => ns.saturating_add(before / tokens.unwrap_or(1).max(1)),
            _ => ns.saturating_add(before),
        };
        ns <= self.limit_ns
    }
}
