//! One source's part of the event log: finished frames gather here and leave as blocks, like rows, but never hold
//! anything up. What can't be kept is counted.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::block::{BlockKind, HEAD, Head, MAX_BLOCK, MAX_PAYLOAD};
use super::varint;
use super::writing::{Message, SealedEvents};
use crate::clock;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Longest frame that a block has room for, beside its length.
pub const MAX_EVENT_FRAME: usize = MAX_PAYLOAD - 3;
/// Blocks leave when their oldest frame is this old, looked at every 10 ms by the engine.
const MAX_AGE_NS: u64 = 50_000_000;
/// Full blocks leave together when they have so many bytes: a page of the file costs half as much in a long write, and the
/// writer is woken a fraction as often.
const TOGETHER: usize = 256 << 10;
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
    /// Blocks, each with room for its head and then its frames, each after its length. The last may still be open.
    bytes: Vec<u8>,
    /// The heads of those that are full, and where they lie.
    heads: Vec<(usize, Head)>,
    /// Where the open one begins.
    open_at: usize,
    /// Records in the open one; 0 while there is none.
    records: u32,
    seq: u32,
    /// When the oldest frame came; 0 while there is none.
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
            bytes: Vec::new(),
            heads: Vec::new(),
            open_at: 0,
            records: 0,
            seq: 0,
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
        if self.bytes.len() - self.open_at + 3 + frame.len() > MAX_BLOCK {
            self.seal();
            if self.bytes.len() >= TOGETHER {
                self.hand_over();
            }
        }
        if self.records == 0 {
            self.open();
        }
        varint::put(&mut self.bytes, frame.len() as u64);
        self.bytes.extend_from_slice(frame);
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

    fn open(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(TOGETHER + MAX_BLOCK));
            self.bytes.clear();
            self.born_ns = clock::now_ns();
        }
        self.open_at = self.bytes.len();
        self.bytes.resize(self.open_at + HEAD, 0);
    }

    fn seal(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return;
        }
        let head = Head {
            kind: BlockKind::Events,
            flags: 0,
            worker: self.source,
            length: (self.bytes.len() - self.open_at - HEAD) as u32,
            rows: records,
            seq: self.seq,
            issued: 0,
            in_flight: 0,
            payload_crc: 0,
        };
        self.seq = self.seq.wrapping_add(1);
        self.heads.push((self.open_at, head));
        self.open_at = self.bytes.len();
    }

    fn hand_over(&mut self) {
        let (bytes, heads) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.heads));
        (self.born_ns, self.open_at) = (0, 0);
        let (size, records) = (bytes.len(), heads.iter().map(|(_, head)| head.rows).sum());
        if size == 0 {
            return;
        }
        if !self.state.admit(size) {
            self.state.miss(records);
            return;
        }
        let home = self.home.clone();
        if self.to_writer.send(Message::Events(SealedEvents { heads, bytes, home })).is_err() {
            self.state.settle(records, size, false);
            self.state.fail("events came after the log was closed".to_owned());
        }
    }
}
