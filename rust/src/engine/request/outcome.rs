//! What a request came to: its row for the log, or what it gave to whoever chooses between copies.

use super::Request;
use crate::clock::now_ns;
use crate::engine::completions::Made;
use crate::engine::connection::{Broken, Ended};
use crate::engine::finish::{Close, Finished, Said};
use crate::engine::flight::{Flight, Verdict};
use crate::engine::reception::Reception;
use crate::http::{Fault, Hints};
use crate::record::{Attempt, Detail, Failure, ReadList, Row, StampSource, Stamps, TokenSource, UNSET};

/// What a copy brought, kept until it is known whether it counts.
pub(in crate::engine) struct Given {
    /// Its row, as it stands if it counts.
    pub(in crate::engine) row: Row,
    pub(in crate::engine) close: Close,
    pub(in crate::engine) reads: ReadList,
    text: Box<[u8]>,
    reasoning: Box<[u8]>,
    holds_more: bool,
    /// Whether any answer began.
    answered: bool,
    /// Its tries on the wire, of which the last is what it came to.
    pub(in crate::engine) tries: Vec<Attempt>,
    pub(in crate::engine) hints: Hints,
}

impl Request {
    /// The attempt that just ended.
    pub(super) fn attempt(&self, status: u16, outcome: Failure) -> Attempt {
        let Stamps { sent, first_byte, done, .. } = self.stamps;
        let done = if done == UNSET { now_ns() } else { done };
        Attempt { kind: self.kind, node: self.ticket.node, sent, first_byte, done, status, outcome }
    }

    /// Write the row; the moment its slot was free.
    pub(super) fn write_row(mut self, mut reception: Option<&mut Reception>, close: Close) -> u64 {
        let row = self.row(reception.as_deref_mut(), &close);
        if !self.attempts.is_empty() {
            self.attempts.push(self.attempt(row.status, row.failure));
        }
        let finished = Finished {
            row: &row,
            attempts: &self.attempts,
            made: Made::ONCE,
            reads: reception.as_deref().map_or(&self.worker.no_reads, Reception::reads),
            said: reception.as_deref().map(Said::of),
            retry_after_ns: reception.as_deref().and_then(|reception| reception.answer.hints().retry_after_ns),
            error: &close.text,
        };
        finished.write_down(&self.worker, &self.phase);
        let well = (row.failure != Failure::Cancelled).then_some(row.failure == Failure::None);
        self.worker.run.in_flight.leave(self.ticket.node, row.stamps.done, well);
        self.phase.live.node_ended(self.ticket.node, row.failure);
        // A finished answer whose connection was waited for is done before its slot is free.
        if self.flight.verdict().is_some() { now_ns() } else { row.stamps.done }
    }

    /// Take everything out of the answer that its row and its reader may need.
    pub(super) fn into_given(mut self, mut reception: Option<&mut Reception>, close: Close) -> Given {
        let row = self.row(reception.as_deref_mut(), &close);
        self.attempts.push(self.attempt(row.status, row.failure));
        let mut given = Given {
            row,
            close,
            reads: ReadList::new(),
            text: Box::default(),
            reasoning: Box::default(),
            holds_more: false,
            answered: reception.is_some(),
            tries: self.attempts,
            hints: Hints::default(),
        };
        if let Some(reception) = reception {
            given.reads = reception.take_reads();
            let Said { text, reasoning, holds_more } = Said::of(reception);
            (given.text, given.reasoning, given.holds_more) = (text.into(), reasoning.into(), holds_more);
            given.hints = reception.answer.hints();
        }
        given
    }

    /// The row as this attempt leaves it.
    fn row(&mut self, reception: Option<&mut Reception>, close: &Close) -> Row {
        if self.stamps.done == UNSET {
            self.stamps.done = self.flight.ended_at();
        }
        let mut row = Row {
            id: self.id(),
            phase: self.phase.shared.index,
            worker: self.worker.id,
            sample: self.ticket.sample,
            node: Some(self.ticket.node),
            stamps: self.stamps,
            connect_ns: self.connect_ns,
            failure: close.failure,
            detail: close.detail,
            bytes_out: self.bytes_out,
            stamp_source: StampSource::Engine,
            ..Row::default()
        };
        if let Some(reception) = reception {
            reception.settle();
            fill_answer(&mut row, reception);
        }
        row
    }
}

impl Given {
    /// What it said, if an answer began.
    pub(in crate::engine) fn said(&self) -> Option<Said<'_>> {
        let said = Said { text: &self.text, reasoning: &self.reasoning, holds_more: self.holds_more };
        self.answered.then_some(said)
    }
}

/// A kept-alive connection that closed before any byte of the answer: not the request's fault, nor counted as one.
pub(super) fn is_stale(ended: &Result<Ended, Broken>, reception: &Reception) -> bool {
    let gone = |f: &Fault| matches!(f.detail, Detail::EarlyEnd | Detail::Reset | Detail::H2Reset);
    !reception.has_begun() && matches!(ended, Err(Broken::Fault(f)) if gone(f))
}

/// The outcome of an exchange, and whether its connection can serve another.
///
/// A stream that said `[DONE]` is complete however its connection ended; all else is for the answer to say.
pub(super) fn judge(ended: Result<Ended, Broken>, reception: &mut Reception, flight: &Flight) -> (Close, bool) {
    let complete = match ended {
        Ok(ended) => Ok(ended == Ended::Reusable),
        Err(Broken::Verdict(Verdict::Lingered)) => Ok(false),
        Err(Broken::Fault(_)) if flight.is_finished() => Ok(false),
        Err(Broken::Verdict(verdict)) => Err(Close::by(verdict)),
        Err(Broken::Fault(fault)) => Err(Close::of(fault)),
    };
    match complete {
        Ok(reusable) => (reception.answer.end().map_or_else(Close::of, |()| Close::good()), reusable),
        Err(close) => (close, false),
    }
}

/// What the answer brought, whether or not it was a good one.
fn fill_answer(row: &mut Row, reception: &Reception) {
    let outcome = reception.answer.outcome();
    row.status = outcome.status;
    row.finish = outcome.finish;
    row.streamed = outcome.streamed;
    row.tokens_in = outcome.tokens_in;
    row.events = outcome.events;
    row.chunks = outcome.chunks;
    row.bytes_in = reception.bytes_in;
    (row.tokens_out, row.token_source) = match outcome.tokens_out {
        Some(n) => (Some(n), TokenSource::Usage),
        None if outcome.streamed && outcome.chunks > 0 => (Some(outcome.chunks), TokenSource::Chunks),
        None => (None, TokenSource::None),
    };
}
