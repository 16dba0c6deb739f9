//! One source's part of the event log: finished frames gather here and leave as blocks, like rows, but never hold
//! anything up. What can't be kept is counted.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};

use super::block::{BlockKind, HEAD, Head, MAX_BLOCK, MAX_PAYLOAD};
use super::varint;
use super::writer::{Message, SealedEvents};
use crate::clock;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Longest frame that a block has room for, beside its length.
pub const MAX_EVENT_FRAME: usize = MAX_PAYLOAD - 3;
/// Blocks leave when their oldest frame is this old, looked at every 10 ms by the engine.
const MAX_AGE_NS: u64 = 50_000_000;
/// So many full blocks are handed over together: to wake the writer costs as much as to write a quarter of a block.
const TOGETHER: usize = 4;
/// With so many bytes waiting for a slow disk, further events are counted instead of kept.
const MAX_QUEUED: u64 = 64 << 20;

#[derive(Debug, Default)]
struct State {
    /// Bytes handed over and not yet written.
    queued: AtomicU64,
    logged: AtomicU64,
    missing: AtomicU64,
    error: OnceLock<String>,
}

/// How the event log is doing: shared between its shards and the writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventLogState(Arc<State>);

/// What became of the events that were to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Records in `events.log`.
    pub logged: u64,
    /// Records that are not in it though they should be.
    pub missing: u64,
    /// Why, where the system said so.
    pub error: Option<String>,
}

impl EventLogState {
    /// Records were written, or not, and their block no longer waits; returns the bytes that still do.
    pub fn settle(&self, records: u32, bytes: usize, written: bool) -> u64 {
        let counter = if written { &self.0.logged } else { &self.0.missing };
        // Relaxed: counters of their own; they order nothing.
        counter.fetch_add(u64::from(records), Ordering::Relaxed);
        self.0.queued.fetch_sub(bytes as u64, Ordering::Relaxed).saturating_sub(bytes as u64)
    }

    /// The file could not be written. The first reason stays.
    pub fn fail(&self, error: String) {
        let _ = self.0.error.set(error);
    }

    /// The counts so far.
    pub fn counts(&self) -> EventCounts {
        EventCounts {
            // Relaxed: whoever needs them exact asks the writer's thread for them, after everything else.
            logged: self.0.logged.load(Ordering::Relaxed),
            missing: self.0.missing.load(Ordering::Relaxed),
            error: self.0.error.get().cloned(),
        }
    }

    /// Whether `bytes` more may wait; they count as waiting then.
    fn admit(&self, bytes: usize) -> bool {
        // Relaxed: a bound on memory, which a block more or less doesn't hurt.
        if self.0.queued.load(Ordering::Relaxed) > MAX_QUEUED {
            return false;
        }
        self.0.queued.fetch_add(bytes as u64, Ordering::Relaxed);
        true
    }

    fn miss(&self, records: u32) {
        // Relaxed: see `settle`.
        self.0.missing.fetch_add(u64::from(records), Ordering::Relaxed);
    }
}

/// One source's share of the event log.
#[derive(Debug)]
pub struct EventShard {
    source: u16,
    /// Room for the head, then the frames, each after its length; empty while there are none.
    block: Vec<u8>,
    records: u32,
    seq: u32,
    /// Full blocks that are still to be handed over.
    sealed: Vec<SealedEvents>,
    /// When the oldest frame came that is still here; 0 while there is none.
    born_ns: u64,
    to_writer: Sender<Message>,
    home: Sender<Vec<u8>>,
    returned: Receiver<Vec<u8>>,
    state: EventLogState,
}

impl EventShard {
    pub(crate) fn new(source: u16, to_writer: Sender<Message>, state: EventLogState) -> Self {
        let (home, returned) = channel();
        Self {
            source,
            block: Vec::new(),
            records: 0,
            seq: 0,
            sealed: Vec::new(),
            born_ns: 0,
            to_writer,
            home,
            returned,
            state,
        }
    }

    /// Keep a frame of `records` records, at most [`MAX_EVENT_FRAME`] bytes.
    pub fn frame(&mut self, frame: &[u8], records: u32) {
        if frame.len() > MAX_EVENT_FRAME {
            self.state.miss(records);
            return;
        }
        if self.block.len() + 3 + frame.len() > MAX_BLOCK {
            self.seal();
            if self.sealed.len() >= TOGETHER {
                self.hand_over();
            }
        }
        if self.block.is_empty() {
            self.block = self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(MAX_BLOCK));
            self.block.clear();
            self.block.resize(HEAD, 0);
        }
        if self.born_ns == 0 {
            self.born_ns = clock::now_ns();
        }
        varint::put(&mut self.block, frame.len() as u64);
        self.block.extend_from_slice(frame);
        self.records += records;
    }

    /// Hand over what is old enough.
    pub fn flush_if_due(&mut self, now_ns: u64) {
        if self.born_ns != 0 && now_ns.saturating_sub(self.born_ns) >= MAX_AGE_NS {
            self.flush();
        }
    }

    /// Hand over everything.
    pub fn flush(&mut self) {
        self.seal();
        self.hand_over();
    }

    /// Make a block of the frames that gather.
    fn seal(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.block);
        let head = Head {
            kind: BlockKind::Events,
            flags: 0,
            worker: self.source,
            length: (bytes.len() - HEAD) as u32,
            rows: records,
            seq: self.seq,
            issued: 0,
            in_flight: 0,
            payload_crc: 0,
        };
        self.seq = self.seq.wrapping_add(1);
        if !self.state.admit(bytes.len()) {
            self.state.miss(records);
            return;
        }
        self.sealed.push(SealedEvents { head, bytes, home: self.home.clone() });
    }

    fn hand_over(&mut self) {
        self.born_ns = 0;
        if self.sealed.is_empty() {
            return;
        }
        let blocks = std::mem::replace(&mut self.sealed, Vec::with_capacity(TOGETHER));
        if let Err(SendError(Message::Events(blocks))) = self.to_writer.send(Message::Events(blocks)) {
            for block in blocks {
                self.state.settle(block.head.rows, block.bytes.len(), false);
            }
            self.state.fail("events came after the log was closed".to_owned());
        }
    }
}
