//! One item: what its attempts brought, and the one row that comes of them.

use crate::clock::now_ns;
use crate::engine::completions::Made;
use crate::engine::finish::{Close, Finished};
use crate::engine::phase_here::PhaseHere;
use crate::engine::request::{Given, Ticket};
use crate::engine::worker::Worker;
use crate::policy::{AttemptId, Verdict};
use crate::record::{Attempt, AttemptKind, Failure, Row};

/// An item that was issued and has no row yet.
pub(super) struct Item {
    pub(super) ticket: Ticket,
    /// Attempts under way.
    pub(super) live: u32,
    /// What the others brought.
    pub(super) given: Vec<(AttemptId, Given)>,
    /// Its fate, once it is known: whose answer or error stands, and how it ended.
    pub(super) resolution: Option<(Option<AttemptId>, Verdict)>,
}

impl Item {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self { ticket, live: 0, given: Vec::new(), resolution: None }
    }

    /// Whether its row can be written.
    pub(super) fn is_over(&self) -> bool {
        self.live == 0 && self.resolution.is_some()
    }

    /// Write its row: of the attempt that gave the outcome, with all attempts beside it.
    pub(super) fn write_down(mut self, worker: &Worker, phase: &PhaseHere) {
        let Some((winner, verdict)) = self.resolution else { return };
        self.given.sort_unstable_by_key(|(attempt, _)| *attempt);
        let attempts = self.attempts();
        let standing = self.standing(winner, verdict);
        let mut row = standing.map_or_else(|| self.bare_row(worker, phase), |given| given.row.clone());
        if let Some(failure) = failure_of(verdict, row.failure) {
            row.failure = failure;
        }
        row.bytes_out = self.given.iter().map(|(_, given)| given.row.bytes_out).sum();
        if let Some(given) = standing {
            worker.observers(phase, row.id).tell_late(&given.reads, &row.stamps);
        }
        let finished = Finished {
            row: &row,
            attempts: &attempts,
            made: self.made(standing),
            reads: standing.map_or(&worker.no_reads, |given| &given.reads),
            said: standing.and_then(Given::said),
            retry_after_ns: standing.and_then(|given| given.hints.retry_after_ns),
            error: standing.map_or("", |given| &given.close.text),
        };
        finished.write_down(worker, phase);
    }

    /// All tries on the wire in the order of their attempts; none where there was but one.
    fn attempts(&self) -> Vec<Attempt> {
        let tries: Vec<Attempt> = self.given.iter().flat_map(|(_, given)| given.tries.iter().copied()).collect();
        if tries.len() > 1 { tries } else { Vec::new() }
    }

    /// How often it was tried, and what `standing` was for.
    fn made(&self, standing: Option<&Given>) -> Made {
        let kind = |given: &Given| given.tries.first().map_or(AttemptKind::First, |attempt| attempt.kind);
        let count = |of: fn(AttemptKind) -> bool| {
            u32::try_from(self.given.iter().filter(|(_, given)| of(kind(given))).count()).unwrap_or(u32::MAX)
        };
        Made {
            kind: standing.map_or(AttemptKind::First, kind),
            attempts: count(|_| true),
            hedges: count(|kind| kind == AttemptKind::Hedge),
        }
    }

    /// The attempt that the row is of. An item that was cut short has that of its last one, if that was cut short with it.
    fn standing(&self, winner: Option<AttemptId>, verdict: Verdict) -> Option<&Given> {
        let named = winner.and_then(|winner| self.given.iter().find(|(attempt, _)| *attempt == winner));
        let cut_short = |given: &Given| matches!(given.close.failure, Failure::Cancelled | Failure::Timeout);
        match (named, verdict) {
            (Some((_, given)), _) => Some(given),
            (None, Verdict::Cancelled | Verdict::TimedOut) => {
                self.given.last().map(|(_, given)| given).filter(|given| cut_short(given))
            }
            (None, _) => self.given.last().map(|(_, given)| given),
        }
    }

    /// The row of an item that ended between attempts, or before its first.
    fn bare_row(&self, worker: &Worker, phase: &PhaseHere) -> Row {
        let mut stamps = self.ticket.stamps;
        stamps.done = now_ns();
        Row {
            id: phase.shared.first_id + self.ticket.index,
            phase: phase.shared.index,
            worker: worker.id,
            sample: self.ticket.sample,
            // Where it was tried last; before that, it is nobody's.
            node: self.given.last().and_then(|(_, given)| given.row.node),
            stamps,
            failure: Close::good().failure,
            ..Row::default()
        }
    }
}

/// The failure that a verdict makes of an attempt's own; `None` where that stands.
fn failure_of(verdict: Verdict, own: Failure) -> Option<Failure> {
    match verdict {
        Verdict::Cancelled => Some(Failure::Cancelled),
        // An answer that came as its time ran out came too late.
        Verdict::TimedOut => Some(Failure::Timeout),
        Verdict::Failed | Verdict::GaveUp if own == Failure::None => Some(Failure::Http),
        Verdict::Ok | Verdict::Failed | Verdict::GaveUp => None,
    }
}
