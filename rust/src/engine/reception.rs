//! An answer as it comes in, over whatever protocol: decoded, counted, stamped.

use std::cell::RefCell;

use super::events::WorkerEvents;
use super::flight::Flight;
use super::phase::Phase;
use crate::endpoint::Answer;
use crate::record::{OpenReads, Read, ReadIter, ReadList, Shard, Stamps, UNSET};
use crate::series::LiveShard;

/// What a worker lends to an exchange: its buffer, the request's flight, and who is told.
pub(super) struct Aids<'a> {
    pub(super) buffer: &'a RefCell<Box<[u8]>>,
    pub(super) flight: &'a Flight,
    pub(super) audience: Audience<'a>,
}

/// Who is told of an answer while it comes in.
pub(super) enum Audience<'a> {
    /// Of a request's only answer: everybody, and the log as well once it is long.
    All(Observers<'a>, &'a RefCell<Shard>),
    /// Of an answer that may not count: whoever chooses between copies. The others learn of the one that counts, all at
    /// once when it is over.
    Chooser(&'a dyn Chooser),
}

/// Who decides between copies of a request.
pub(super) trait Chooser {
    /// The first byte of this copy's answer came at `now`.
    fn first_byte(&self, now: u64);

    /// Its first token came at `now`.
    fn first_token(&self, now: u64);
}

/// Who follows a request's answer: the live counters, and the events if anybody asks for them.
#[derive(Clone, Copy)]
pub(super) struct Observers<'a> {
    pub(super) live: &'a LiveShard,
    pub(super) events: Option<&'a WorkerEvents>,
    pub(super) request: u64,
    pub(super) phase: u16,
}

impl Observers<'_> {
    /// A read brought tokens; the stamps know of it already.
    #[inline]
    fn read(&self, read: &Read, at: u64, first: bool, stamps: &Stamps) {
        if let Some(events) = self.events {
            events.tell(|e| e.read(at, self.request, self.phase, first, read.chunks, read.tokens));
        }
        if first {
            self.live.first(stamps, read.chunks);
        } else {
            self.live.gap(read.delta_ns, read.chunks);
        }
    }

    /// An answer that counts after all: tell of its reads as if they came now, with their own moments.
    pub(super) fn tell_late(&self, reads: &ReadList, stamps: &Stamps) {
        let mut at = stamps.sent;
        // Encoded by this process a moment ago: what doesn't decode isn't there.
        for (i, read) in ReadIter::new(reads.bytes()).map_while(Result::ok).enumerate() {
            at += read.delta_ns;
            self.read(&read, at, i == 0, stamps);
        }
    }
}

/// One answer's decoder and what it has brought so far. Reused from request to request.
pub(super) struct Reception {
    /// The decoder.
    pub(super) answer: Answer,
    /// The phase whose settings the decoder has.
    phase: u16,
    /// The node whose answers it reads.
    node: u16,
    /// Bytes received.
    pub(super) bytes_in: u64,
    reads: OpenReads,
}

impl Reception {
    /// For the answers of `node` to requests of `phase`.
    pub(super) fn new(phase: &Phase, node: u16) -> Self {
        let (answer, phase) = (phase.settings.answer(node), phase.index);
        Self { answer, phase, node, bytes_in: 0, reads: OpenReads::default() }
    }

    /// The node whose answers it reads.
    pub(super) fn node(&self) -> u16 {
        self.node
    }

    /// Forget the last answer; the next is to a request of `phase`.
    pub(super) fn reset(&mut self, phase: &Phase) {
        if self.phase != phase.index {
            // Another API, other secrets: nothing that the old decoder has learned is worth a mistake.
            (self.answer, self.phase) = (phase.settings.answer(self.node), phase.index);
        }
        self.answer.reset(phase.settings.node(self.node).stream);
        self.bytes_in = 0;
        self.reads.clear();
    }

    /// Whether any byte has come.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes_in > 0
    }

    /// Nothing more comes: the newest read is one as well.
    pub(super) fn settle(&mut self) {
        self.reads.settle();
    }

    /// The reads that carried tokens and have not gone to the log yet, once settled.
    pub(super) fn reads(&self) -> &ReadList {
        self.reads.list()
    }

    /// The same, to be kept.
    pub(super) fn take_reads(&mut self) -> ReadList {
        self.reads.take()
    }

    /// `bytes` came in at `now`; the decoder has not seen them yet.
    #[inline]
    pub(super) fn heard(&mut self, bytes: usize, now: u64, aids: &Aids<'_>, stamps: &mut Stamps) {
        aids.flight.heard(now);
        self.bytes_in += bytes as u64;
        if stamps.first_byte == UNSET {
            stamps.first_byte = now;
            if let Audience::Chooser(chooser) = aids.audience {
                chooser.first_byte(now);
            }
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
        let mut read = Read { delta_ns: 0, events: tally.events, chunks: tally.chunks, tokens: tally.tokens };
        if first {
            stamps.first_token = now;
            read.delta_ns = now.saturating_sub(stamps.sent);
        } else {
            read.delta_ns = now.saturating_sub(stamps.last_token);
        }
        match aids.audience {
            Audience::All(observers, _) => observers.read(&read, now, first, stamps),
            Audience::Chooser(chooser) if first => chooser.first_token(now),
            Audience::Chooser(_) => {}
        }
        stamps.last_token = now;
        if tally.output && stamps.first_output == UNSET {
            stamps.first_output = now;
        }
        self.note(read, aids);
    }

    fn note(&mut self, read: Read, aids: &Aids<'_>) {
        self.reads.add(read);
        // Reads that may not count stay here: the log could not take them back.
        if let Audience::All(Observers { request, phase, .. }, shard) = aids.audience
            && let Some(reads) = self.reads.to_spill()
        {
            shard.borrow_mut().spill(request, phase, reads);
        }
    }
}
