//! One worker's part of the log: rows gather here in columns and leave as blocks. Never writes, never locks.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::backlog::Backlog;
use super::block::{BlockKind, HEAD, Head, MAX_BLOCK, MAX_PAYLOAD};
use super::columns::{ATTEMPT_BOUND, Columns, MAX_ATTEMPTS, ROW_BOUND};
use super::entries::{ENTRY_BOUND, TextKind, put_spill, put_text};
use super::writing::{Message, Sealed, Target};
use super::{Attempt, ReadIter, ReadList, Row};
use crate::clock;

/// A block leaves when its oldest row is this old. With the engine's 25 ms between looks and the writer's wake-up it
/// is in the kernel's hands before the 100 ms that the format promises.
const MAX_AGE_NS: u64 = 50_000_000;
/// Changed counters leave after this long, even when nothing was completed.
const MAX_COUNTER_AGE_NS: u64 = 250_000_000;
/// Reads beyond this leave their row and go ahead in READS blocks.
const MAX_INLINE_READS: usize = 16 * 1024;

/// Entries of one kind on their way into a block.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    entries: u32,
}

/// One worker's share of the log.
#[derive(Debug)]
pub struct Shard {
    worker: u16,
    columns: Columns,
    spills: Gathered,
    texts: Gathered,
    answers: Gathered,
    /// Reads that went ahead, by request in flight: only long streams have any.
    spilled: HashMap<u64, u64>,
    counters: (u64, u64),
    /// The counters of the last block.
    told: (u64, u64),
    told_ns: u64,
    /// When the oldest thing gathered was complete; 0 while there is nothing.
    born_ns: u64,
    log_seq: u32,
    answers_seq: u32,
    /// `None` where nothing is kept.
    to_writer: Option<Sender<Message>>,
    home: Sender<Vec<u8>>,
    returned: Receiver<Vec<u8>>,
    backlog: Backlog,
}

impl Shard {
    pub(crate) fn new(worker: u16, to_writer: Option<Sender<Message>>, backlog: Backlog) -> Self {
        let (home, returned) = channel();
        Self {
            worker,
            columns: Columns::new(),
            spills: Gathered::default(),
            texts: Gathered::default(),
            answers: Gathered::default(),
            spilled: HashMap::new(),
            counters: (0, 0),
            told: (0, 0),
            told_ns: clock::now_ns(),
            born_ns: 0,
            log_seq: 0,
            answers_seq: 0,
            to_writer,
            home,
            returned,
            backlog,
        }
    }

    /// Add a finished request. `attempts` is empty unless it had more than one; `row.worker` is the shard's own.
    pub fn push(&mut self, row: &Row, reads: &ReadList, attempts: &[Attempt]) {
        if self.to_writer.is_none() {
            return;
        }
        if reads.bytes().len() > MAX_INLINE_READS {
            self.gather_reads(row.id, row.phase, reads);
            self.push_bounded(row, &ReadList::new(), attempts);
        } else {
            self.push_bounded(row, reads, attempts);
        }
    }

    /// Send a long stream's reads so far ahead of its row, and clear them.
    pub fn spill(&mut self, request: u64, phase: u16, reads: &mut ReadList) {
        if self.to_writer.is_some() {
            self.gather_reads(request, phase, reads);
        }
        reads.clear();
    }

    /// Keep a text. Those of answers go to `answers.log`; see [`super::LogWriter::keep_answers`].
    pub fn text(&mut self, request: u64, kind: TextKind, bytes: &[u8]) {
        if self.to_writer.is_none() {
            return;
        }
        let target = if kind.is_of_answer() { Target::Answers } else { Target::Log };
        let mut pieces = bytes.chunks(MAX_PAYLOAD / 2).peekable();
        // An empty text is one empty piece.
        let mut piece = pieces.next().unwrap_or_default();
        loop {
            let next = pieces.next();
            if self.gathered(target).bytes.len() + piece.len() + ENTRY_BOUND > MAX_PAYLOAD {
                self.seal_texts(target);
            }
            let gathered = self.gathered(target);
            put_text(&mut gathered.bytes, request, kind, next.is_some(), piece);
            gathered.entries += 1;
            match next {
                Some(more) => piece = more,
                None => break,
            }
        }
        self.born(clock::now_ns());
    }

    /// Set this worker's running totals, which every block of it carries.
    pub fn counters(&mut self, issued: u64, in_flight: u64) {
        if self.to_writer.is_none() {
            return;
        }
        self.counters = (issued, in_flight);
    }

    /// Hand over what is old enough. The engine calls it at least every 25 ms.
    pub fn flush_if_due(&mut self, now_ns: u64) {
        let due = self.born_ns != 0 && now_ns.saturating_sub(self.born_ns) >= MAX_AGE_NS;
        let news = self.counters != self.told && now_ns.saturating_sub(self.told_ns) >= MAX_COUNTER_AGE_NS;
        if due || news {
            self.flush();
        }
    }

    /// Hand over everything gathered, and the counters if they changed.
    pub fn flush(&mut self) {
        self.seal_texts(Target::Log);
        self.seal_texts(Target::Answers);
        self.seal_spills();
        if self.columns.rows() > 0 || self.counters != self.told {
            self.seal_rows();
        }
        self.born_ns = 0;
    }

    fn push_bounded(&mut self, row: &Row, reads: &ReadList, attempts: &[Attempt]) {
        let bound = ROW_BOUND + reads.bytes().len() + attempts.len().min(MAX_ATTEMPTS) * ATTEMPT_BOUND;
        if self.columns.rows() > 0 && self.columns.size() + bound > MAX_PAYLOAD {
            self.seal_rows();
        }
        let spilled = if self.spilled.is_empty() { 0 } else { self.spilled.remove(&row.id).unwrap_or(0) };
        self.columns.push(row, reads, spilled, attempts);
        self.born(row.stamps.done);
    }

    fn gather_reads(&mut self, request: u64, phase: u16, reads: &ReadList) {
        if reads.is_empty() {
            return;
        }
        *self.spilled.entry(request).or_insert(0) += u64::from(reads.len());
        for (count, piece) in pieces(reads.bytes(), MAX_INLINE_READS) {
            if self.spills.bytes.len() + piece.len() + ENTRY_BOUND > MAX_PAYLOAD {
                self.seal_spills();
            }
            put_spill(&mut self.spills.bytes, request, phase, count, piece);
            self.spills.entries += 1;
        }
        self.born(clock::now_ns());
    }

    /// Remember when the oldest gathered thing was complete; a stamp from the future counts as now.
    fn born(&mut self, ns: u64) {
        if self.born_ns == 0 {
            self.born_ns = ns.clamp(1, clock::now_ns());
        }
    }

    fn seal_rows(&mut self) {
        // A row's early reads stand before it in the file.
        self.seal_spills();
        let mut block = self.buffer();
        let rows = self.columns.rows();
        self.columns.take(&mut block);
        self.hand_over(Target::Log, BlockKind::Rows, rows, block);
        (self.told, self.told_ns) = (self.counters, clock::now_ns());
    }

    fn seal_spills(&mut self) {
        if self.spills.entries == 0 {
            return;
        }
        let mut block = self.buffer();
        block.append(&mut self.spills.bytes);
        let entries = std::mem::take(&mut self.spills.entries);
        self.hand_over(Target::Log, BlockKind::Reads, entries, block);
    }

    /// The texts on their way to a file.
    fn gathered(&mut self, target: Target) -> &mut Gathered {
        match target {
            Target::Log => &mut self.texts,
            Target::Answers => &mut self.answers,
        }
    }

    fn seal_texts(&mut self, target: Target) {
        let entries = std::mem::take(&mut self.gathered(target).entries);
        if entries == 0 {
            return;
        }
        let mut block = self.buffer();
        block.append(&mut self.gathered(target).bytes);
        self.hand_over(target, BlockKind::Text, entries, block);
    }

    /// A buffer that starts with room for the head: one that came back, or a new one.
    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(MAX_BLOCK));
        buffer.clear();
        buffer.resize(HEAD, 0);
        buffer
    }

    fn hand_over(&mut self, target: Target, kind: BlockKind, rows: u32, bytes: Vec<u8>) {
        debug_assert!(bytes.len() <= MAX_BLOCK);
        let seq = match target {
            Target::Log => &mut self.log_seq,
            Target::Answers => &mut self.answers_seq,
        };
        let head = Head {
            kind,
            flags: 0,
            worker: self.worker,
            length: (bytes.len() - HEAD) as u32,
            rows,
            seq: *seq,
            issued: self.counters.0,
            in_flight: self.counters.1,
            payload_crc: 0,
        };
        *seq = seq.wrapping_add(1);
        let size = bytes.len();
        self.backlog.queue(size);
        let sealed = Sealed { target, head, bytes, handed_over_ns: clock::now_ns(), home: self.home.clone() };
        let Some(to_writer) = &self.to_writer else { return };
        if to_writer.send(Message::Block(sealed)).is_err() {
            self.backlog.fail("rows came after the log was closed".to_owned());
        }
    }
}

/// Cut encoded reads between two reads into pieces of at most `most` bytes, with the number of reads in each.
fn pieces(bytes: &[u8], most: usize) -> Vec<(u32, &[u8])> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut count, mut end) = (0, 0);
        let mut reads = ReadIter::new(rest);
        while let Some(Ok(_)) = reads.next() {
            let read_end = rest.len() - reads.rest().len();
            if read_end > most && count > 0 {
                break;
            }
            (count, end) = (count + 1, read_end);
        }
        let (piece, tail) = rest.split_at(end.max(1));
        pieces.push((count, piece));
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Read;

    #[test]
    fn pieces_are_cut_between_reads_and_lose_none() {
        let mut list = ReadList::new();
        (0..1000u32).for_each(|i| list.push(&Read { delta_ns: 1 << (i % 60), events: 1, chunks: 1, tokens: i % 2 }));
        let pieces = pieces(list.bytes(), 100);
        assert!(pieces.iter().all(|(count, piece)| piece.len() <= 100
            && ReadIter::new(piece).filter(Result::is_ok).count() == *count as usize));
        assert_eq!(pieces.iter().map(|(count, _)| count).sum::<u32>(), 1000);
        assert_eq!(pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect::<Vec<_>>(), list.bytes());
    }
}
