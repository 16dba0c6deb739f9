//! Events gather here by topic and leave together as frames: by count, by age, by bytes, or with a word of the session.

use super::encode::{Event, last_of_width, patch_uint, put_event, put_mark, put_with, uint_bytes};
use super::frame::{FRAME_HEAD, put_head};
use super::kind::{EventType, TYPES};

/// When what is buffered must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// So many records over all topics; 1 means no batching.
    pub send_threshold: u32,
    /// The oldest record is this old, in nanoseconds.
    pub max_age_ns: u64,
    /// So many bytes of records over all topics.
    pub max_bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { send_threshold: 1_000, max_age_ns: 10_000_000, max_bytes: 64 << 10 }
    }
}

/// The records of one topic on their way.
#[derive(Debug, Default)]
struct Topic {
    /// Room for the frame's head, then the records; empty while there are none.
    bytes: Vec<u8>,
    count: u32,
    /// Bytes of the last one.
    last: usize,
    /// How many have left before.
    sent: u64,
}

/// The buffered events of one source. Knows no clock: moments are those of the events, or the caller's.
#[derive(Debug)]
pub struct Batch {
    source: u16,
    limits: BatchLimits,
    topics: [Topic; TYPES],
    /// How many were recorded so far.
    seq: u64,
    records: u32,
    bytes: usize,
    /// The earliest stamp that is buffered; `u64::MAX` while nothing is.
    oldest_ns: u64,
}

impl Batch {
    /// An empty batch of `source`.
    pub fn new(source: u16, limits: BatchLimits) -> Self {
        let topics = std::array::from_fn(|_| Topic::default());
        Self { source, limits, topics, seq: 0, records: 0, bytes: 0, oldest_ns: u64::MAX }
    }

    /// Add an event. True: a flush is due.
    pub fn push(&mut self, event: &Event<'_>) -> bool {
        self.add(event.kind, event.ns, |out, source, seq| put_event(out, event, source, seq))
    }

    /// Add a mark of a request: what happened, and when. True: a flush is due.
    #[inline]
    pub fn mark(&mut self, kind: EventType, request: u64, ns: u64) -> bool {
        self.add(kind, ns, |out, source, seq| put_mark(out, kind, ns, request, source, seq))
    }

    /// Add an event of a request whose data, one value, `data` writes. True: a flush is due.
    #[inline]
    pub(super) fn push_with(
        &mut self,
        (kind, ns, request): (EventType, u64, u64),
        data: impl FnOnce(&mut Vec<u8>),
        finish_reason: Option<&str>,
    ) -> bool {
        self.add(kind, ns, |out, source, seq| {
            put_with(out, (kind, ns, request), data, finish_reason, (source, seq));
        })
    }

    /// Add the event that was just added again, up to `most` times: all but its number is copied. Returns how often,
    /// and whether a flush is due; not at all where none was, or the number changes its length.
    pub(super) fn again(&mut self, kind: EventType, most: u32) -> (u32, bool) {
        let topic = &mut self.topics[kind.place()];
        let (length, width) = (topic.last, uint_bytes(self.seq));
        if topic.count == 0 || uint_bytes(self.seq - 1) != width {
            return (0, false);
        }
        let by_count = u64::from(self.limits.send_threshold.saturating_sub(self.records).max(1));
        let by_bytes = (self.limits.max_bytes.saturating_sub(self.bytes)).div_ceil(length).max(1) as u64;
        let by_width = last_of_width(width) - self.seq + 1;
        let times = u64::from(most).min(by_count).min(by_bytes).min(by_width);
        let (end, size) = (topic.bytes.len(), times as usize * length);
        topic.bytes.reserve(size);
        // What is there is doubled: a few long copies instead of many short ones.
        while topic.bytes.len() < end + size {
            let there = topic.bytes.len() + length - end;
            let missing = end + size - topic.bytes.len();
            topic.bytes.extend_from_within(end - length..end - length + there.min(missing));
        }
        for record in topic.bytes[end..].chunks_exact_mut(length) {
            patch_uint(record, self.seq, width);
            self.seq += 1;
        }
        topic.count += times as u32;
        self.records += times as u32;
        self.bytes += size;
        (times as u32, self.records >= self.limits.send_threshold || self.bytes >= self.limits.max_bytes)
    }

    #[inline]
    fn add(&mut self, kind: EventType, ns: u64, put: impl FnOnce(&mut Vec<u8>, u16, u64)) -> bool {
        let topic = &mut self.topics[kind.place()];
        if topic.bytes.is_empty() {
            topic.bytes.resize(FRAME_HEAD, 0);
        }
        let before = topic.bytes.len();
        put(&mut topic.bytes, self.source, self.seq);
        topic.count += 1;
        self.seq += 1;
        self.records += 1;
        topic.last = topic.bytes.len() - before;
        self.bytes += topic.last;
        self.oldest_ns = self.oldest_ns.min(ns);
        self.records >= self.limits.send_threshold
            || self.bytes >= self.limits.max_bytes
            || kind.is_session()
            || self.is_old(ns)
    }

    /// Whether the oldest record is as old at `now` as one may become.
    #[inline]
    pub fn is_old(&self, now: u64) -> bool {
        now.saturating_sub(self.oldest_ns) >= self.limits.max_age_ns && self.records > 0
    }

    /// Show each topic's frame, in the order of [`EventType::ALL`], with the number of its records, and forget them.
    /// Whoever is shown a buffer may keep it and leave another.
    pub fn flush(&mut self, mut each: impl FnMut(&mut Vec<u8>, u32)) {
        if self.records == 0 {
            return;
        }
        for (topic, kind) in self.topics.iter_mut().zip(EventType::ALL) {
            if topic.count > 0 {
                put_head(&mut topic.bytes, kind, self.source, topic.count, topic.sent);
                each(&mut topic.bytes, topic.count);
                topic.bytes.clear();
                topic.sent += u64::from(topic.count);
                topic.count = 0;
            }
        }
        (self.records, self.bytes, self.oldest_ns) = (0, 0, u64::MAX);
    }

    /// Records that are buffered.
    pub fn buffered(&self) -> u32 {
        self.records
    }

    /// Their bytes, without the heads of frames.
    pub fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    /// The earliest stamp among them.
    #[inline]
    pub fn oldest_ns(&self) -> Option<u64> {
        (self.records > 0).then_some(self.oldest_ns)
    }
}
