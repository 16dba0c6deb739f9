//! What a source does with its events: batch them, then hand each flush to the event log and to the publisher.
//! One to a thread; it takes no lock and waits for nobody.

use super::batch::{Batch, BatchLimits};
use super::encode::{Event, put_optional, put_str, put_uint};
use super::kind::EventType;
use super::queue::FrameSender;
use crate::record::{EventShard, Failure, Finish, Row, UNSET};

/// A worker flushes at so many bytes at the latest: a block of the log holds a whole frame.
const MOST_BYTES: usize = 60 << 10;
/// The publisher is woken when so many bytes wait for it, if none of them comes of age before: to wake it costs two
/// switches between threads, and to pass on a frame a fraction of that.
const WAKE_BYTES: usize = 256 << 10;
/// Bytes of a text that an event keeps.
const MOST_TEXT: usize = 1_024;

/// Where a flush goes.
#[derive(Default)]
pub struct Outlets {
    /// The source's share of `events.log`.
    pub log: Option<EventShard>,
    /// Its ring to the publisher.
    pub publisher: Option<FrameSender>,
}

/// Frames that have left for the publisher before it was told so.
#[derive(Clone, Copy, Debug)]
struct Untold {
    bytes: usize,
    /// The earliest stamp among them; `u64::MAX` while there are none.
    oldest_ns: u64,
}

impl Untold {
    const NOTHING: Self = Self { bytes: 0, oldest_ns: u64::MAX };
}

/// The events of one source, and where they go.
pub struct Emitter {
    batch: Batch,
    limits: BatchLimits,
    untold: Untold,
    /// Whether chunks after the first are events, too.
    chunks: bool,
    /// Whether ends say at which node.
    nodes: bool,
    outlets: Outlets,
}

/// What a session event says of the phase or of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionData<'a> {
    /// Nothing further.
    None,
    /// It is about this phase.
    Phase(u16, &'a str),
    /// How the session ended.
    Status(&'a str),
}

impl Emitter {
    /// The events of `source`; with `chunks` those of every chunk.
    pub fn new(source: u16, limits: BatchLimits, chunks: bool, outlets: Outlets) -> Self {
        let limits = BatchLimits { max_bytes: limits.max_bytes.min(MOST_BYTES), ..limits };
        Self { batch: Batch::new(source, limits), limits, untold: Untold::NOTHING, chunks, nodes: false, outlets }
    }

    /// The same for a run over so many nodes: of several, what ends says at which.
    #[must_use]
    pub fn over(mut self, nodes: usize) -> Self {
        self.nodes = nodes > 1;
        self
    }

    /// A request was taken from the plan.
    #[inline]
    pub fn issued(&mut self, ns: u64, request: u64, phase: u16, sample: u64) {
        let due = self.batch.push_with(
            (EventType::SampleIssued, ns, request),
            |out| {
                put_phase(out, 2, phase);
                out.extend_from_slice(b"\xa6sample");
                put_uint(out, sample);
            },
            None,
        );
        self.flush_when(due, ns);
    }

    /// A read brought `chunks` chunks that carry tokens: an event for each, all of the read's moment. `first`: none came
    /// before. The read's tokens, where the server tells them, stand in the first one's data.
    #[inline]
    pub fn read(&mut self, ns: u64, request: u64, phase: u16, first: bool, chunks: u32, tokens: u32) {
        if !first && !self.chunks {
            return;
        }
        let kind = if first { EventType::RecvFirst } else { EventType::RecvNonFirst };
        let due = self.batch.push_with(
            (kind, ns, request),
            |out| {
                put_phase(out, if tokens > 0 { 2 } else { 1 }, phase);
                if tokens > 0 {
                    out.extend_from_slice(b"\xa6tokens");
                    put_uint(out, u64::from(tokens));
                }
            },
            None,
        );
        self.flush_when(due, ns);
        if self.chunks && chunks > 1 {
            self.more_of_a_read(ns, request, phase, chunks - 1);
        }
    }

    /// The further chunks of a read, which differ in nothing but their numbers.
    fn more_of_a_read(&mut self, ns: u64, request: u64, phase: u16, chunks: u32) {
        let (kind, mut left) = (EventType::RecvNonFirst, chunks);
        while left > 0 {
            let due = self.batch.push_with((kind, ns, request), |out| put_phase(out, 1, phase), None);
            self.flush_when(due, ns);
            left -= 1;
            if !due {
                let (told, due) = self.batch.again(kind, left);
                self.flush_when(due, ns);
                left -= told;
            }
        }
    }

    /// A request ended: its failure, if it is one, and then that it is complete.
    pub fn ended(&mut self, row: &Row) {
        let (ns, outcome) = (row.stamps.done, row.failure);
        let node = row.node.filter(|_| self.nodes);
        if outcome != Failure::None && outcome != Failure::Cancelled {
            let due =
                self.batch.push_with((EventType::ErrorClient, ns, row.id), |out| put_failure(out, row, node), None);
            self.flush_when(due, ns);
        }
        let finish = (row.finish != Finish::Unknown).then(|| row.finish.name());
        let due = self.batch.push_with(
            (EventType::SampleComplete, ns, row.id),
            |out| {
                put_phase(out, 5 + u8::from(node.is_some()), row.phase);
                out.extend_from_slice(b"\xa7outcome");
                put_str(out, if outcome == Failure::None { "ok" } else { outcome.name() });
                out.extend_from_slice(b"\xaatokens_out");
                put_optional(out, row.tokens_out.map(u64::from));
                // What times are counted from and to, so that whoever follows the events has the log's numbers.
                out.extend_from_slice(b"\xa4sent");
                put_optional(out, stamp(row.stamps.sent));
                out.extend_from_slice(b"\xaalast_token");
                put_optional(out, stamp(row.stamps.last_token));
                put_node(out, node);
            },
            finish,
        );
        self.flush_when(due, ns);
    }

    /// Something about the session: it leaves at once, after everything that is buffered.
    pub fn session(&mut self, kind: EventType, ns: u64, session: &str, data: SessionData<'_>) {
        let mut bytes = Vec::new();
        match data {
            SessionData::None => {}
            SessionData::Phase(index, name) => {
                put_phase(&mut bytes, 2, index);
                bytes.extend_from_slice(b"\xa4name");
                put_str(&mut bytes, shortened(name));
            }
            SessionData::Status(status) => {
                bytes.extend_from_slice(b"\x81\xa6status");
                put_str(&mut bytes, shortened(status));
            }
        }
        let data = (!bytes.is_empty()).then_some(&*bytes);
        self.batch.push(&Event { session: Some(shortened(session)), data, ..Event::new(kind, ns) });
        self.flush();
    }

    /// Send everything that is buffered on its way; the log's writer gets it at once.
    pub fn flush(&mut self) {
        self.flush_batch();
        self.wake();
        if let Some(log) = &mut self.outlets.log {
            log.flush();
        }
    }

    /// Send on its way what has become old by `now`.
    pub fn flush_if_due(&mut self, now: u64) {
        if self.batch.is_old(now) {
            self.flush_batch();
        }
        self.wake_when_due(now);
        if let Some(log) = &mut self.outlets.log {
            log.flush_if_due(now);
        }
    }

    /// When what is buffered is to leave, or the publisher to be told of what has, at the latest; `None` while there is
    /// nothing.
    #[inline]
    pub fn leaves_ns(&self) -> Option<u64> {
        let oldest = self.untold.oldest_ns.min(self.batch.oldest_ns().unwrap_or(u64::MAX));
        (oldest < u64::MAX).then(|| oldest.saturating_add(self.limits.max_age_ns))
    }

    #[inline]
    fn flush_when(&mut self, due: bool, now: u64) {
        if due {
            self.flush_batch();
            self.wake_when_due(now);
        }
    }

    /// Wake the publisher if much waits for it, or something for as long as it may; at once where nothing is batched.
    fn wake_when_due(&mut self, now: u64) {
        let Untold { bytes, oldest_ns } = self.untold;
        if bytes >= WAKE_BYTES
            || now.saturating_sub(oldest_ns) >= self.limits.max_age_ns
            || self.limits.send_threshold == 1
        {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(publisher) = &self.outlets.publisher
            && self.untold.bytes > 0
        {
            publisher.wake();
            self.untold = Untold::NOTHING;
        }
    }

    fn flush_batch(&mut self) {
        let Some(oldest_ns) = self.batch.oldest_ns() else { return };
        let Self { outlets: Outlets { log, publisher }, untold, .. } = self;
        if publisher.is_some() {
            untold.oldest_ns = untold.oldest_ns.min(oldest_ns);
        }
        self.batch.flush(|frame, records| {
            if let Some(log) = log {
                log.frame(frame, records);
            }
            if let Some(publisher) = publisher {
                untold.bytes += frame.len();
                // The next frame of this topic will be about as long.
                let next = Vec::with_capacity(frame.len());
                publisher.send(std::mem::replace(frame, next), records);
            }
        });
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        // A worker that panics has told of what was before: it is not lost with it.
        self.flush();
    }
}

/// A stamp, if it was taken.
#[inline]
fn stamp(ns: u64) -> Option<u64> {
    (ns != UNSET).then_some(ns)
}

/// Open a map of `entries` entries with the phase.
#[inline]
fn put_phase(out: &mut Vec<u8>, entries: u8, phase: u16) {
    out.extend_from_slice(&[0x80 | entries, 0xa5, b'p', b'h', b'a', b's', b'e']);
    put_uint(out, u64::from(phase));
}

fn put_failure(out: &mut Vec<u8>, row: &Row, node: Option<u16>) {
    put_phase(out, 4 + u8::from(node.is_some()), row.phase);
    out.extend_from_slice(b"\xa5class");
    put_str(out, row.failure.name());
    out.extend_from_slice(b"\xa6detail");
    put_str(out, row.detail.name());
    out.extend_from_slice(b"\xa6status");
    put_optional(out, (row.status != 0).then(|| u64::from(row.status)));
    put_node(out, node);
}

/// Append the last entry of a map, if there is one.
#[inline]
fn put_node(out: &mut Vec<u8>, node: Option<u16>) {
    if let Some(node) = node {
        out.extend_from_slice(b"\xa4node");
        put_uint(out, u64::from(node));
    }
}

/// The start of a text, for an event must fit its frame.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
