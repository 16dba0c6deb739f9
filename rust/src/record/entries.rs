//! The payloads beside rows: spilled reads, texts, and META documents that take more than one block.

use super::{Block, BlockFault, BlockKind, varint};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TextKind {
    /// What a failed request was told; a bounded sample, in `run.log`.
    Error = 0,
    /// The text of an answer, in `answers.log`.
    Answer = 1,
    /// The reasoning before it, likewise.
    Reasoning = 2,
    /// Without bytes: the answer held more than is kept of it (tool calls, further choices, audio).
    Unkept = 3,
}

impl TextKind {
    /// Every kind, in code order.
    const ALL: [Self; 4] = [Self::Error, Self::Answer, Self::Reasoning, Self::Unkept];

    /// The name in files and in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Answer => "answer",
            Self::Reasoning => "reasoning",
            Self::Unkept => "unkept",
        }
    }

    /// Whether it belongs into `answers.log`.
    pub fn is_of_answer(self) -> bool {
        self != Self::Error
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Most bytes an entry takes beside its bytes.
pub(crate) const ENTRY_BOUND: usize = 3 * 10 + 2;

/// Append reads that left their row early.
pub(crate) fn put_spill(out: &mut Vec<u8>, request: u64, phase: u16, count: u32, bytes: &[u8]) {
    varint::put(out, request);
    varint::put(out, u64::from(phase));
    varint::put(out, u64::from(count));
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Append a piece of text; `more` when the next entry of the same request and kind continues it.
pub(crate) fn put_text(out: &mut Vec<u8>, request: u64, kind: TextKind, more: bool, bytes: &[u8]) {
    varint::put(out, request);
    out.push(kind as u8);
    out.push(u8::from(more));
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// One entry of a READS or TEXT block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The oldest reads of a long stream, before its row.
    Reads {
        /// The request's id.
        request: u64,
        /// Its phase.
        phase: u16,
        /// Reads in `bytes`.
        count: u32,
        /// The encoded reads.
        bytes: &'a [u8],
        /// Where `bytes` starts in the block's payload.
        at: usize,
    },
    /// A text, or a piece of one.
    Text {
        /// The request's id.
        request: u64,
        /// What it is.
        kind: TextKind,
        /// Whether the next entry of this request and kind continues it.
        more: bool,
        /// The bytes; UTF-8 unless the server's were not.
        bytes: &'a [u8],
    },
}

/// Walks the entries of a READS or TEXT block; of any other kind it finds none.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    kind: BlockKind,
    payload: &'a [u8],
    rest: &'a [u8],
    left: u32,
}

impl<'a> Entries<'a> {
    /// Walk `block`'s entries.
    pub fn new(block: &Block<'a>) -> Self {
        let walkable = matches!(block.kind, BlockKind::Reads | BlockKind::Text);
        let left = if walkable { block.rows } else { 0 };
        Self { kind: block.kind, payload: block.payload, rest: block.payload, left }
    }

    fn take(&mut self) -> Result<Entry<'a>, BlockFault> {
        let request = self.number()?;
        if self.kind == BlockKind::Reads {
            let phase = u16::try_from(self.number()?).map_err(|_| BlockFault::Code)?;
            let count = u32::try_from(self.number()?).map_err(|_| BlockFault::Code)?;
            let bytes = self.bytes()?;
            let at = self.payload.len() - self.rest.len() - bytes.len();
            return Ok(Entry::Reads { request, phase, count, bytes, at });
        }
        let (&[kind, more], rest) = self.rest.split_first_chunk().ok_or(BlockFault::Short)?;
        self.rest = rest;
        let kind = TextKind::from_code(kind).ok_or(BlockFault::Code)?;
        Ok(Entry::Text { request, kind, more: more != 0, bytes: self.bytes()? })
    }

    fn number(&mut self) -> Result<u64, BlockFault> {
        varint::get(&mut self.rest).ok_or(BlockFault::Short)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BlockFault> {
        let length = usize::try_from(self.number()?).map_err(|_| BlockFault::Short)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(BlockFault::Short)?;
        self.rest = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, BlockFault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.take();
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}

/// Puts META documents together that took more than one block.
#[derive(Debug, Default)]
pub struct MetaParts {
    bytes: Vec<u8>,
    /// The number of the block that goes on with them.
    next: u32,
}

impl MetaParts {
    /// Take a META block; the document's JSON if it is complete with it, `None` while more is to come.
    ///
    /// A document that lost a part comes out as a parse error, or not at all; those after it are whole.
    pub fn push(&mut self, block: &Block<'_>) -> Option<serde_json::Result<serde_json::Value>> {
        if block.seq != self.next {
            // What would have gone on with them is lost: they must not spoil the document that comes now.
            self.bytes.clear();
        }
        self.next = block.seq.wrapping_add(1);
        self.bytes.extend_from_slice(block.payload);
        if block.more {
            return None;
        }
        let value = serde_json::from_slice(&self.bytes);
        self.bytes.clear();
        Some(value)
    }
}
