//! A frame: the records of one topic and one source, as one ZMQ message and as one unit of the event log.
//!
//! topic (NUL-padded) · version u8 · flags u8 · source u16 · count u32 · number of the first record in its topic u64 ·
//! the records. Little-endian. One record or a thousand have the same shape, so that ZMQ's filter on the first bytes
//! holds for both.

use super::decode::{FrameFault, Record};
use super::kind::{EventType, TOPIC_BYTES};

/// The layout this code writes and reads.
const VERSION: u8 = 1;
/// Bytes before the first record.
pub const FRAME_HEAD: usize = TOPIC_BYTES + 16;
/// The source of the session's own events.
pub const SESSION_SOURCE: u16 = u16::MAX;

/// A frame taken apart; its records are still to be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type of all its records.
    pub kind: EventType,
    /// Who recorded them.
    pub source: u16,
    /// How many.
    pub count: u32,
    /// The number of the first one among those of its source and topic: a gap is a loss.
    pub topic_seq: u64,
    /// The records, one after the other.
    pub records: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Take `bytes` apart.
    ///
    /// # Errors
    /// [`FrameFault::Head`], [`FrameFault::Topic`], [`FrameFault::Version`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        let (head, records) = bytes.split_at_checked(FRAME_HEAD).ok_or(FrameFault::Head(bytes.len()))?;
        let (topic, numbers) = head.split_at(TOPIC_BYTES);
        let end = topic.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        let topic = std::str::from_utf8(&topic[..end]).map_err(|_| FrameFault::Topic)?;
        let kind = EventType::from_topic(topic).ok_or(FrameFault::Topic)?;
        let &[version, _flags, s0, s1, c0, c1, c2, c3, q0, q1, q2, q3, q4, q5, q6, q7] = numbers else {
            return Err(FrameFault::Head(bytes.len()));
        };
        if version != VERSION {
            return Err(FrameFault::Version(version));
        }
        Ok(Self {
            kind,
            source: u16::from_le_bytes([s0, s1]),
            count: u32::from_le_bytes([c0, c1, c2, c3]),
            topic_seq: u64::from_le_bytes([q0, q1, q2, q3, q4, q5, q6, q7]),
            records,
        })
    }

    /// Walk the records. After a fault there is nothing more; bytes after the last record are one.
    pub fn iter(&self) -> Records<'a> {
        Records { frame: *self, rest: self.records, left: self.count }
    }
}

/// Write the head of a frame into its first [`FRAME_HEAD`] bytes.
pub(super) fn put_head(frame: &mut [u8], kind: EventType, source: u16, count: u32, topic_seq: u64) {
    let topic = kind.topic().as_bytes();
    frame[..topic.len()].copy_from_slice(topic);
    frame[topic.len()..TOPIC_BYTES].fill(0);
    let numbers = &mut frame[TOPIC_BYTES..FRAME_HEAD];
    numbers[..2].copy_from_slice(&[VERSION, 0]);
    numbers[2..4].copy_from_slice(&source.to_le_bytes());
    numbers[4..8].copy_from_slice(&count.to_le_bytes());
    numbers[8..].copy_from_slice(&topic_seq.to_le_bytes());
}

/// Walks the records of a frame.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    frame: Frame<'a>,
    rest: &'a [u8],
    left: u32,
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Result<Record<'a>, FrameFault> {
        let record = Record::take(&mut self.rest)?;
        if record.event.kind != self.frame.kind {
            return Err(FrameFault::Field("type, beside its topic,"));
        }
        if record.source != self.frame.source {
            return Err(FrameFault::Field("source, beside its frame's,"));
        }
        if self.left == 0 && !self.rest.is_empty() {
            return Err(FrameFault::Rest(self.rest.len()));
        }
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, FrameFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // Only a frame that claims to hold nothing comes here with bytes left.
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(FrameFault::Rest(rest.len())));
        }
        self.left -= 1;
        let record = self.take();
        if record.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(record)
    }
}
