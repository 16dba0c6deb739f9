//! An answer as it comes in, over whatever protocol: decoded, counted, stamped.

use std::cell::RefCell;

use super::events::WorkerEvents;
use super::flight::Flight;
use super::phase::Phase;
use crate::endpoint::Answer;
use crate::record::{Read, ReadList, Shard, Stamps, UNSET};
use crate::series::LiveShard;

/// The reads of one request are handed to the log in parts of about this size, so that a long stream stays small.
const SPILL_BYTES: usize = 8 * 1024;

/// What a worker lends to an exchange: its buffer, its counters, its log shard, and the request's flight and names.
pub(super) struct Aids<'a> {
    pub(super) buffer: &'a RefCell<Box<[u8]>>,
    pub(super) live: &'a LiveShard,
    pub(super) shard: &'a RefCell<Shard>,
    pub(super) flight: &'a Flight,
    pub(super) request: u64,
    pub(super) phase: u16,
    pub(super) events: Option<&'a WorkerEvents>,
}

/// One answer's decoder and what it has brought so far. Reused from request to request.
pub(super) struct Reception {
    /// The decoder.
    pub(super) answer: Answer,
    /// The phase whose settings the decoder has.
    phase: u16,
    /// Bytes received.
    pub(super) bytes_in: u64,
    reads: ReadList,
    /// The newest read, until another one shows that nothing more came with it.
    newest: Option<Read>,
}

impl Reception {
    /// For answers to requests of `phase`.
    pub(super) fn new(phase: &Phase) -> Self {
        Self { answer: phase.settings.answer(), phase: phase.index, bytes_in: 0, reads: ReadList::new(), newest: None }
    }

    /// Forget the last answer; the next is to a request of `phase`.
    pub(super) fn reset(&mut self, phase: &Phase) {
        if self.phase != phase.index {
            // Another API, other secrets: nothing that the old decoder has learned is worth a mistake.
            (self.answer, self.phase) = (phase.settings.answer(), phase.index);
        }
        self.answer.reset(phase.settings.stream);
        self.bytes_in = 0;
        self.reads.clear();
        self.newest = None;
    }

    /// Whether any byte has come.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes_in > 0
    }

    /// The reads that carried tokens and have not gone to the log yet.
    pub(super) fn reads(&mut self) -> &ReadList {
        if let Some(read) = self.newest.take() {
            self.reads.push(&read);
        }
        &self.reads
    }

    /// `bytes` came in at `now`; the decoder has not seen them yet.
    #[inline]
    pub(super) fn heard(&mut self, bytes: usize, now: u64, aids: &Aids<'_>, stamps: &mut Stamps) {
        aids.flight.heard(now);
        self.bytes_in += bytes as u64;
        if stamps.first_byte == UNSET {
            stamps.first_byte = now;
        }
    }

    /// Stamp what the decoder found in the bytes of `now`.
    #[inline]
    pub(super) fn stamp(&mut self, now: u64, aids: &Aids<'_>, stamps: &mut Stamps) {
        let tally = self.answer.take_read();
        if tally.finished {
            aids.flight.finish(now);
        }
        if tally.chunks == 0 || !self.answer.outcome().streamed {
            return;
        }
        let first = stamps.first_token == UNSET;
        if let Some(events) = aids.events {
            events.tell(|e| e.read(now, aids.request, aids.phase, first, tally.chunks, tally.tokens));
        }
        let mut read = Read { delta_ns: 0, events: tally.events, chunks: tally.chunks, tokens: tally.tokens };
        if first {
            stamps.first_token = now;
            read.delta_ns = now.saturating_sub(stamps.sent);
            aids.live.first(stamps, tally.chunks);
        } else {
            read.delta_ns = now.saturating_sub(stamps.last_token);
            aids.live.gap(read.delta_ns, tally.chunks);
        }
        stamps.last_token = now;
        if tally.output && stamps.first_output == UNSET {
            stamps.first_output = now;
        }
        self.note(read, aids);
    }

    fn note(&mut self, read: Read, aids: &Aids<'_>) {
        match &mut self.newest {
            // Frames of HTTP/2 that one socket read brought are one read.
            Some(newest) if read.delta_ns == 0 => {
                newest.events += read.events;
                newest.chunks += read.chunks;
                newest.tokens = newest.tokens.saturating_add(read.tokens);
            }
            newest => {
                if let Some(before) = newest.replace(read) {
                    self.reads.push(&before);
                }
            }
        }
        if self.reads.bytes().len() > SPILL_BYTES {
            aids.shard.borrow_mut().spill(aids.request, aids.phase, &mut self.reads);
        }
    }
}
