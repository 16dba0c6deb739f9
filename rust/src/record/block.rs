//! The frame of the run log: the file's header, kept twice, and the head of each block. Layout: `docs/formats.md`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;

use super::LogError;
use crate::clock::Anchor;

/// First bytes of every log: not text, broken by a transfer that changes line ends.
pub(crate) const MAGIC: [u8; 8] = *b"\x89LGLOG\r\n";
/// The format this code writes; a reader refuses a newer major and skips what a newer minor added.
pub const FORMAT_MAJOR: u16 = 1;
/// See [`FORMAT_MAJOR`].
pub const FORMAT_MINOR: u16 = 2;
/// Reads as itself only in little-endian order, the one order that is written.
const BYTE_ORDER: u32 = 0x0A0B_0C0D;
/// Bytes of one copy of the file's header.
const HEADER_COPY: usize = 128;
/// Where the first block starts: after both copies.
pub(crate) const FIRST_BLOCK: u64 = 2 * HEADER_COPY as u64;
const SESSION_AT: usize = 42;
/// Longest session id, in bytes.
pub(crate) const MAX_SESSION: usize = HEADER_COPY - 4 - SESSION_AT;

/// Bytes of a block's head.
pub(crate) const HEAD: usize = 48;
/// Most bytes of a block, its head included.
pub const MAX_BLOCK: usize = 64 * 1024;
/// Most bytes of a block's payload.
pub(crate) const MAX_PAYLOAD: usize = MAX_BLOCK - HEAD;
/// The `worker` of blocks that no worker wrote: the session's own META blocks.
pub const SESSION_WORKER: u16 = u16::MAX;
/// Flag: the same META document goes on in the next META block.
pub(crate) const FLAG_MORE: u8 = 1;

/// What a new log says about itself.
#[derive(Clone, Debug)]
pub struct LogHeader {
    /// Both clocks at the run's start.
    pub anchor: Anchor,
    /// The run's id, at most 82 bytes.
    pub session: String,
    /// What a later report must know of the run; kept as the first META block's `meta`.
    pub meta: serde_json::Value,
}

/// The file's header as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub major: u16,
    pub minor: u16,
    pub anchor: Anchor,
    /// Starts every block of this file. Random, so that no text a server sends can look like a block.
    pub sync: u64,
    pub session: String,
}

impl FileHeader {
    pub fn new(header: &LogHeader) -> Result<Self, LogError> {
        if header.session.len() > MAX_SESSION {
            return Err(LogError::Session(header.session.len()));
        }
        // The standard library's hash keys are the operating system's randomness; no other source is needed for 8 bytes.
        let sync = RandomState::new().build_hasher().finish();
        let (major, minor) = (FORMAT_MAJOR, FORMAT_MINOR);
        Ok(Self { major, minor, anchor: header.anchor, sync, session: header.session.clone() })
    }

    /// Both copies, ready to be written.
    pub fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(2 * HEADER_COPY);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&self.major.to_le_bytes());
        copy.extend_from_slice(&self.minor.to_le_bytes());
        copy.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        copy.extend_from_slice(&self.anchor.mono_ns.to_le_bytes());
        copy.extend_from_slice(&self.anchor.wall_ns.to_le_bytes());
        copy.extend_from_slice(&self.sync.to_le_bytes());
        copy.extend_from_slice(&(self.session.len() as u16).to_le_bytes());
        copy.extend_from_slice(self.session.as_bytes());
        copy.resize(HEADER_COPY - 4, 0);
        let checksum = crc32fast::hash(&copy);
        copy.extend_from_slice(&checksum.to_le_bytes());
        copy.extend_from_within(..);
        copy
    }

    /// The header from the file's first bytes: the first copy that is whole.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.chunks_exact(HEADER_COPY).take(2).find_map(Self::decode_copy)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let whole = copy[..8] == MAGIC && crc32fast::hash(&copy[..HEADER_COPY - 4]) == u32_at(copy, HEADER_COPY - 4);
        if !whole || u32_at(copy, 12) != BYTE_ORDER {
            return None;
        }
        let session = copy.get(SESSION_AT..SESSION_AT + u16_at(copy, 40) as usize)?;
        Some(Self {
            major: u16_at(copy, 8),
            minor: u16_at(copy, 10),
            anchor: Anchor { mono_ns: u64_at(copy, 16), wall_ns: u64_at(copy, 24) },
            sync: u64_at(copy, 32),
            session: String::from_utf8(session.to_vec()).ok()?,
        })
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// JSON: the run, its phases, ticks, its end.
    Meta,
    /// Finished requests.
    Rows,
    /// Reads of long streams, ahead of their rows.
    Reads,
    /// Texts: errors in `run.log`, answers in `answers.log`.
    Text,
    /// Frames of events, in `events.log`.
    Events,
    /// Something a newer minor version added; to be skipped.
    Unknown(u8),
}

impl BlockKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Meta => 1,
            Self::Rows => 2,
            Self::Reads => 3,
            Self::Text => 4,
            Self::Events => 5,
            Self::Unknown(code) => code,
        }
    }

    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Meta,
            2 => Self::Rows,
            3 => Self::Reads,
            4 => Self::Text,
            5 => Self::Events,
            other => Self::Unknown(other),
        }
    }
}

/// A block's head: who wrote how much of what, and how far its worker was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub kind: BlockKind,
    pub flags: u8,
    pub worker: u16,
    /// Payload bytes.
    pub length: u32,
    /// Rows, entries or event records in the payload.
    pub rows: u32,
    /// Number of the block among its worker's, from 0: a gap is a lost block.
    pub seq: u32,
    /// Requests the worker had issued when it closed the block.
    pub issued: u64,
    /// Those of them that were not finished.
    pub in_flight: u64,
    pub payload_crc: u32,
}

impl Head {
    pub fn encode(&self, sync: u64) -> [u8; HEAD] {
        let mut head = [0u8; HEAD];
        head[..8].copy_from_slice(&sync.to_le_bytes());
        head[8] = self.kind.code();
        head[9] = self.flags;
        head[10..12].copy_from_slice(&self.worker.to_le_bytes());
        head[12..16].copy_from_slice(&self.length.to_le_bytes());
        head[16..20].copy_from_slice(&self.rows.to_le_bytes());
        head[20..24].copy_from_slice(&self.seq.to_le_bytes());
        head[24..32].copy_from_slice(&self.issued.to_le_bytes());
        head[32..40].copy_from_slice(&self.in_flight.to_le_bytes());
        head[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let checksum = crc32fast::hash(&head[..44]);
        head[44..].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    /// The head at the start of `bytes`, if there is a whole one of this file.
    pub fn decode(bytes: &[u8], sync: u64) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let length = u32_at(head, 12);
        if u64_at(head, 0) != sync || length as usize > MAX_PAYLOAD || crc32fast::hash(&head[..44]) != u32_at(head, 44)
        {
            return None;
        }
        Some(Self {
            kind: BlockKind::from_code(head[8]),
            flags: head[9],
            worker: u16_at(head, 10),
            length,
            rows: u32_at(head, 16),
            seq: u32_at(head, 20),
            issued: u64_at(head, 24),
            in_flight: u64_at(head, 32),
            payload_crc: u32_at(head, 40),
        })
    }
}

/// What a block's head says, as the reader hands it out.
#[derive(Clone, Copy, Debug)]
pub struct BlockHead {
    /// What it holds.
    pub kind: BlockKind,
    /// The worker that wrote it, or [`SESSION_WORKER`].
    pub worker: u16,
    /// Its number among its worker's blocks.
    pub seq: u32,
    /// Rows, entries or event records in it.
    pub rows: u32,
    /// Requests its worker had issued when it closed the block.
    pub issued: u64,
    /// Those of them that were in flight then.
    pub in_flight: u64,
    /// Whether the META document goes on in the next META block.
    pub more: bool,
    /// Where its payload starts in the file.
    pub offset: u64,
}

/// One whole block: its head's fields, and the payload.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    pub(crate) head: BlockHead,
    /// Its payload, checksum verified.
    pub payload: &'a [u8],
}

impl Deref for Block<'_> {
    type Target = BlockHead;

    fn deref(&self) -> &BlockHead {
        &self.head
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(session: &str) -> LogHeader {
        let anchor = Anchor { mono_ns: 7, wall_ns: 9 };
        LogHeader { anchor, session: session.to_owned(), meta: serde_json::Value::Null }
    }

    #[test]
    fn a_header_survives_any_one_flipped_byte() {
        let written = FileHeader::new(&header("20261120T211405Z-7f3a")).unwrap();
        let bytes = written.encode();
        assert_eq!(bytes.len() as u64, FIRST_BLOCK);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(FileHeader::decode(&flipped).as_ref(), Some(&written), "byte {at}");
        }
    }

    #[test]
    fn a_session_id_too_long_is_refused_and_the_longest_fits() {
        assert!(matches!(FileHeader::new(&header(&"x".repeat(83))), Err(LogError::Session(83))));
        let longest = FileHeader::new(&header(&"x".repeat(82))).unwrap();
        assert_eq!(FileHeader::decode(&longest.encode()), Some(longest));
    }

    #[test]
    fn a_head_with_any_flipped_bit_is_no_head() {
        let head = Head {
            kind: BlockKind::Rows,
            flags: 0,
            worker: 3,
            length: 100,
            rows: 7,
            seq: 2,
            issued: 10,
            in_flight: 3,
            payload_crc: 0xDEAD_BEEF,
        };
        let bytes = head.encode(42);
        assert_eq!(Head::decode(&bytes, 42), Some(head));
        assert_eq!(Head::decode(&bytes, 43), None);
        for bit in 0..HEAD * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&flipped, 42), None, "bit {bit}");
        }
    }
}
