//! Whether a phase can succeed at all, learned from its first answers: not where nobody listens, nor where we are not let in.

use super::config::PhaseConfig;
use crate::record::{Failure, Row};
use crate::schedule::Load;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// So many first answers, all of them fatal, end a phase early.
const FATAL_ANSWERS: u64 = 8;

/// The first answers of a phase, over all workers.
pub(super) struct FirstAnswers {
    /// How many must be fatal; `None` where nobody wants to know.
    limit: Option<u64>,
    answered_well: AtomicBool,
    fatal: AtomicU64,
    /// Of each node: whether an answer of it was such a one. A node that no request goes to needn't say so.
    refused: Box<[AtomicBool]>,
}

impl FirstAnswers {
    /// Of a phase whose requests go to these nodes, each by whether it does.
    pub(super) fn new(config: &PhaseConfig, reached: impl Iterator<Item = bool>) -> Self {
        let planned = match config.load {
            Load::Burst { n } => n,
            _ => config.requests.unwrap_or(FATAL_ANSWERS),
        };
        Self {
            limit: config.stop_early.then_some(planned.clamp(1, FATAL_ANSWERS)),
            answered_well: AtomicBool::new(false),
            fatal: AtomicU64::new(0),
            refused: reached.map(|reached| AtomicBool::new(!reached)).collect(),
        }
    }

    /// Take one more. Whether it shows that the rest would fail as well: of several nodes, all must have said so.
    pub(super) fn are_hopeless(&self, row: &Row) -> bool {
        // Relaxed throughout: this is a heuristic on counts, and a few answers more or less don't matter.
        let Some(limit) = self.limit.filter(|_| !self.answered_well.load(Ordering::Relaxed)) else { return false };
        let Some(node) = row.node else { return false }; // nobody was asked
        let refused = matches!(row.failure, Failure::Connect | Failure::Tls);
        let forbidden = row.failure == Failure::Http && matches!(row.status, 401 | 403 | 404);
        if !(refused || forbidden) {
            if row.failure != Failure::Cancelled {
                self.answered_well.store(true, Ordering::Relaxed);
            }
            return false;
        }
        if let Some(refused) = self.refused.get(usize::from(node)) {
            refused.store(true, Ordering::Relaxed);
        }
        let enough = self.fatal.fetch_add(1, Ordering::Relaxed) + 1 >= limit;
        enough && self.refused.iter().all(|refused| refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(config: &str, reached: [bool; 2]) -> FirstAnswers {
        let config: PhaseConfig = serde_json::from_str(config).unwrap();
        FirstAnswers::new(&config, reached.into_iter())
    }

    fn fatal(node: u16) -> Row {
        Row { node: Some(node), failure: Failure::Http, status: 401, ..Row::default() }
    }

    const CLOSED: &str = r#"{"name":"p","load":{"kind":"concurrency","n":1},"requests":1000,"drain_timeout_s":1}"#;

    #[test]
    fn of_several_nodes_all_must_refuse() {
        let first = answers(CLOSED, [true, true]);
        assert!(!(0..50).any(|_| first.are_hopeless(&fatal(0))), "the other may be slow");
        assert!(first.are_hopeless(&fatal(1)));
    }

    #[test]
    fn a_node_that_nobody_asks_need_not_refuse_and_what_went_nowhere_says_nothing() {
        let first = answers(CLOSED, [true, false]);
        assert!(!(0..50).any(|_| first.are_hopeless(&Row { node: None, ..fatal(0) })));
        assert_eq!((0..8).map(|_| first.are_hopeless(&fatal(0))).position(|hopeless| hopeless), Some(7));
    }

    #[test]
    fn of_a_few_requests_all_must_be_fatal() {
        let first = answers(r#"{"name":"p","load":{"kind":"burst","n":3},"drain_timeout_s":1}"#, [true, false]);
        assert_eq!((0..3).map(|_| first.are_hopeless(&fatal(0))).position(|hopeless| hopeless), Some(2));
    }
}
