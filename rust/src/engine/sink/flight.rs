//! One request that somebody else makes: its stamps and reads as they are told, and the row they become.

use super::requests::Issued;
use crate::record::{Failure, Finish, OpenReads, Read, Row, StampSource, Stamps, TokenSource, UNSET};

/// How a request ended, as its issuer tells it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending<'a> {
    /// Class of failure; `None` is success.
    pub failure: Failure,
    /// HTTP status, 0 where there is none.
    pub status: u16,
    /// Why the model stopped.
    pub finish: Finish,
    /// Prompt tokens, where somebody counted.
    pub tokens_in: Option<u32>,
    /// Output tokens, where somebody counted.
    pub tokens_out: Option<u32>,
    /// The answer.
    pub text: &'a str,
    /// The reasoning before it.
    pub reasoning: &'a str,
    /// The words of the failure.
    pub error: &'a str,
}

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Flight {
    phase: u16,
    sample: u64,
    stamps: Stamps,
    /// The reads that have not gone to the log yet.
    pub(super) reads: OpenReads,
    chunks: u32,
    /// Tokens in the chunks; `None` from the first chunk on that didn't tell.
    tokens: Option<u32>,
}

impl Flight {
    /// Issued at `now`; under a cap, its slot was free at `free`.
    pub(super) fn new(phase: u16, issued: &Issued, free: u64, now: u64) -> Self {
        let stamps = Stamps { planned: issued.planned_ns, free, issued: now, ..Stamps::default() };
        let reads = OpenReads::default();
        Self { phase, sample: issued.sample, stamps, reads, chunks: 0, tokens: Some(0) }
    }

    /// The phase it belongs to.
    pub(super) fn phase(&self) -> u16 {
        self.phase
    }

    /// The sample it sends.
    pub(super) fn sample(&self) -> u64 {
        self.sample
    }

    /// What is known of its times so far.
    pub(super) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// It is about to be sent.
    pub(super) fn sent(&mut self, now: u64, ns: Option<u64>) {
        self.stamps.sent = self.between(now, ns);
    }

    /// A piece of its answer came. Returns the time since the one before, or since `sent`, if it carried tokens.
    pub(super) fn chunk(&mut self, now: u64, tokens: Option<u32>, is_output: bool, ns: Option<u64>) -> Option<Gap> {
        let now = self.between(now, ns);
        if self.stamps.sent == UNSET {
            self.stamps.sent = self.stamps.issued;
        }
        if self.stamps.first_byte == UNSET {
            self.stamps.first_byte = now;
        }
        if tokens == Some(0) {
            return None;
        }
        let is_first = self.stamps.first_token == UNSET;
        let before = if is_first { self.stamps.sent } else { self.stamps.last_token };
        let delta_ns = now - before;
        if is_first {
            self.stamps.first_token = now;
        }
        if is_output && self.stamps.first_output == UNSET {
            self.stamps.first_output = now;
        }
        self.stamps.last_token = now;
        self.chunks = self.chunks.saturating_add(1);
        self.tokens = self.tokens.zip(tokens).map(|(sum, more)| sum.saturating_add(more));
        self.reads.add(Read { delta_ns, events: 1, chunks: 1, tokens: tokens.unwrap_or(0) });
        Some(Gap { at: now, ns: delta_ns, is_first })
    }

    /// The row it becomes at its end.
    pub(super) fn end(&mut self, request: u64, ending: &Ending<'_>, now: u64, ns: Option<u64>) -> Row {
        self.stamps.done = self.between(now, ns);
        if self.stamps.sent == UNSET && ending.failure != Failure::Cancelled {
            self.stamps.sent = self.stamps.issued;
        }
        self.reads.settle();
        let streamed = self.chunks > 0;
        let counted = ending.tokens_out.or(self.tokens.filter(|_| streamed));
        let (tokens_out, token_source) = match counted {
            Some(_) => (counted, TokenSource::Usage),
            None if streamed => (Some(self.chunks), TokenSource::Chunks),
            None => (None, TokenSource::None),
        };
        Row {
            id: request,
            phase: self.phase,
            sample: self.sample,
            node: Some(0),
            stamps: self.stamps,
            status: ending.status,
            failure: ending.failure,
            finish: ending.finish,
            streamed,
            tokens_in: ending.tokens_in,
            tokens_out,
            token_source,
            events: self.chunks,
            chunks: self.chunks,
            stamp_source: StampSource::Python,
            ..Row::default()
        }
    }

    /// A stamp that was given, kept between what came before it and the call: no row runs backwards or ahead.
    fn between(&self, now: u64, ns: Option<u64>) -> u64 {
        let Stamps { issued, sent, first_byte, last_token, .. } = self.stamps;
        let before = issued.max(sent).max(first_byte).max(last_token);
        ns.unwrap_or(now).clamp(before, now.max(before))
    }
}

/// The time between two pieces of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The later one's moment.
    pub(super) at: u64,
    pub(super) ns: u64,
    pub(super) is_first: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ReadIter;

    fn flight() -> Flight {
        Flight::new(3, &Issued { request: 7, sample: 2, planned_ns: 900 }, UNSET, 1_000)
    }

    #[test]
    fn a_streams_row_has_its_stamps_and_reads() {
        let mut f = flight();
        f.sent(1_100, None);
        assert_eq!(f.chunk(1_500, Some(0), true, None), None, "a piece without tokens is but the first byte");
        assert_eq!(f.chunk(2_000, Some(2), false, None), Some(Gap { at: 2_000, ns: 900, is_first: true }));
        assert_eq!(f.chunk(2_600, Some(1), true, None), Some(Gap { at: 2_600, ns: 600, is_first: false }));
        assert_eq!(f.chunk(2_600, Some(4), true, None), Some(Gap { at: 2_600, ns: 0, is_first: false }));
        let row = f.end(7, &Ending { finish: Finish::Stop, ..Ending::default() }, 3_000, None);
        let expected = Stamps {
            planned: 900,
            free: UNSET,
            issued: 1_000,
            sent: 1_100,
            first_byte: 1_500,
            first_token: 2_000,
            first_output: 2_600,
            last_token: 2_600,
            done: 3_000,
        };
        assert_eq!((row.stamps, row.stamp_source, row.streamed), (expected, StampSource::Python, true));
        assert_eq!((row.tokens_out, row.token_source, row.chunks), (Some(7), TokenSource::Usage, 3));
        let reads: Vec<Read> = ReadIter::new(f.reads.list().bytes()).map(Result::unwrap).collect();
        let read = |delta_ns, chunks, tokens| Read { delta_ns, events: chunks, chunks, tokens };
        assert_eq!(reads, [read(900, 1, 2), read(600, 2, 5)], "what came together is one read");
    }

    #[test]
    fn one_chunk_that_does_not_count_leaves_the_chunks_as_the_count() {
        let mut f = flight();
        f.chunk(2_000, Some(2), true, None);
        f.chunk(3_000, None, true, None);
        let row = f.end(7, &Ending::default(), 3_000, None);
        assert_eq!((row.tokens_out, row.token_source), (Some(2), TokenSource::Chunks));
        assert_eq!(row.stamps.sent, 1_000, "one that nobody called sent was sent when it was issued");
    }

    #[test]
    fn a_given_stamp_never_runs_backwards_nor_ahead_of_the_call() {
        let mut f = flight();
        f.sent(1_100, Some(50));
        assert_eq!(f.stamps.sent, 1_000);
        f.chunk(2_000, None, true, Some(9_999));
        assert_eq!(f.stamps.first_token, 2_000);
        let row = f.end(7, &Ending::default(), 2_500, Some(1_200));
        assert_eq!(row.stamps.done, 2_000);
    }

    #[test]
    fn an_answer_in_one_piece_has_no_first_token() {
        let mut f = flight();
        f.sent(1_100, None);
        let row = f.end(7, &Ending { tokens_out: Some(5), ..Ending::default() }, 4_000, None);
        assert_eq!((row.streamed, row.stamps.first_token, row.stamps.done), (false, UNSET, 4_000));
        assert_eq!((row.tokens_out, row.token_source), (Some(5), TokenSource::Usage));
    }
}
