//! Reads a run log block by block in bounded memory, and past whatever is damaged in it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::block::{BlockKind, FIRST_BLOCK, FLAG_MORE, FORMAT_MAJOR, FileHeader, HEAD, Head, MAX_BLOCK};
use super::{Block, BlockHead, LogError};
use crate::clock::Anchor;

/// Bytes read from the file at a time; a block always fits.
const WINDOW: usize = 4 * MAX_BLOCK;
/// Damaged places named; more are only counted.
const MAX_NAMED: usize = 100;

/// Which of a run's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichLog {
    /// `run.log`
    Run,
    /// `answers.log`
    Answers,
    /// `events.log`
    Events,
}

impl WhichLog {
    /// Its name in the run's directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Run => "run.log",
            Self::Answers => "answers.log",
            Self::Events => "events.log",
        }
    }
}

/// What the file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderHeader {
    /// Format version, major part.
    pub major: u16,
    /// Format version, minor part.
    pub minor: u16,
    /// Both clocks at the run's start.
    pub anchor: Anchor,
    /// The run's id.
    pub session: String,
}

/// A stretch of the file that holds no whole block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it starts.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// The worker whose block it was, where its head is still good.
    pub worker: Option<u16>,
    /// The rows it held, where its head is still good.
    pub rows: Option<u32>,
    /// Whether it is the file's end: a log that was cut off, or killed while it was written.
    pub tail: bool,
}

/// Streams the blocks of one log.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    path: PathBuf,
    header: ReaderHeader,
    sync: u64,
    window: Vec<u8>,
    /// Read position inside the window.
    at: usize,
    /// Where the window starts in the file.
    window_offset: u64,
    ended: bool,
    damage: Vec<Damage>,
    damaged: u64,
    damaged_bytes: u64,
}

impl LogReader {
    /// Open `run.log` in `dir`.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::NotALog`] when neither copy of the header is readable, [`LogError::TooNew`].
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_log(dir, WhichLog::Run)
    }

    /// Open one of the logs in `dir`. Errors: see [`LogReader::open`].
    pub fn open_log(dir: &Path, which: WhichLog) -> Result<Self, LogError> {
        let path = dir.join(which.file_name());
        let mut file = File::open(&path).map_err(|e| LogError::io("open", &path, e))?;
        let mut first = Vec::with_capacity(FIRST_BLOCK as usize);
        (&mut file).take(FIRST_BLOCK).read_to_end(&mut first).map_err(|e| LogError::io("read", &path, e))?;
        let Some(header) = FileHeader::decode(&first) else { return Err(LogError::NotALog { path }) };
        if header.major > FORMAT_MAJOR {
            return Err(LogError::TooNew { path, major: header.major, minor: header.minor });
        }
        let FileHeader { major, minor, anchor, sync, session } = header;
        Ok(Self {
            file,
            path,
            header: ReaderHeader { major, minor, anchor, session },
            sync,
            window: Vec::with_capacity(WINDOW),
            at: 0,
            window_offset: FIRST_BLOCK.min(first.len() as u64),
            ended: false,
            damage: Vec::new(),
            damaged: 0,
            damaged_bytes: 0,
        })
    }

    /// Go on at `offset`, where a reader that came this far found the end of the last whole block. From any other place
    /// what comes before the next block counts as damaged.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read there.
    pub fn go_on_at(&mut self, offset: u64) -> Result<(), LogError> {
        let offset = offset.max(FIRST_BLOCK);
        self.file.seek(SeekFrom::Start(offset)).map_err(|e| LogError::io("read", &self.path, e))?;
        self.window.clear();
        (self.at, self.window_offset, self.ended) = (0, offset, false);
        Ok(())
    }

    /// What the file says about itself.
    pub fn header(&self) -> &ReaderHeader {
        &self.header
    }

    /// Bytes of the file at this moment.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system doesn't tell.
    pub fn bytes(&self) -> Result<u64, LogError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|e| LogError::io("look at", &self.path, e))
    }

    /// The damaged places met so far, in the file's order; at most the first hundred.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How many damaged places were met so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Bytes of the damaged places met so far, an unfinished end left out: a log that is being written has one.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The next whole block, or `None` at the end. Blocks of unknown kinds are handed out too; skip them.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, LogError> {
        self.next_wanted(|_| true)
    }

    /// The next whole block whose head `wanted` says yes to. The others' payloads are neither verified nor touched, so
    /// several threads can share one log at little cost.
    ///
    /// # Errors
    /// See [`LogReader::next_block`].
    pub fn next_wanted(&mut self, mut wanted: impl FnMut(&BlockHead) -> bool) -> Result<Option<Block<'_>>, LogError> {
        let (head, offset) = loop {
            self.fill(HEAD)?;
            let start = self.offset();
            if self.ended && self.at == self.window.len() {
                return Ok(None);
            }
            let Some(head) = Head::decode(&self.window[self.at..], self.sync) else {
                self.resync(start)?;
                continue;
            };
            let size = HEAD + head.length as usize;
            self.fill(size)?;
            if self.window.len() - self.at < size {
                self.note_tail(start, Some(&head));
                return Ok(None);
            }
            let payload = self.at + HEAD..self.at + size;
            self.at += size;
            if !wanted(&head_of(&head, start + HEAD as u64)) {
                continue;
            }
            if crc32fast::hash(&self.window[payload]) == head.payload_crc {
                break (head, start + HEAD as u64);
            }
            let (worker, rows) = (Some(head.worker), rows_of(&head));
            self.note(Damage { offset: start, length: size as u64, worker, rows, tail: false });
        };
        let payload = &self.window[self.at - head.length as usize..self.at];
        Ok(Some(Block { head: head_of(&head, offset), payload }))
    }

    /// A handle to read places of the file again that have gone by: spilled reads, once their row has come.
    ///
    /// # Errors
    /// [`LogError::Io`] when no further descriptor can be had.
    pub fn again(&self) -> Result<LogPlaces, LogError> {
        let file = self.file.try_clone().map_err(|e| LogError::io("open", &self.path, e))?;
        Ok(LogPlaces { file, path: self.path.clone() })
    }

    /// Look for the next head after a place that holds none.
    fn resync(&mut self, start: u64) -> Result<(), LogError> {
        let marker = self.sync.to_le_bytes();
        self.at = (self.at + 1).min(self.window.len());
        loop {
            self.fill(HEAD)?;
            let rest = &self.window[self.at..];
            match memchr::memmem::find(rest, &marker) {
                Some(found) => {
                    self.at += found;
                    self.fill(HEAD)?;
                    if Head::decode(&self.window[self.at..], self.sync).is_some() {
                        let length = self.offset() - start;
                        self.note(Damage { offset: start, length, worker: None, rows: None, tail: false });
                        return Ok(());
                    }
                    self.at = (self.at + 1).min(self.window.len());
                }
                None if self.ended => {
                    self.note_tail(start, None);
                    return Ok(());
                }
                // The marker may lie across the window's end.
                None => self.at = self.window.len() - (marker.len() - 1).min(rest.len()),
            }
        }
    }

    /// The rest of the file from `start` on is no whole block; `head` is the one it was to be.
    fn note_tail(&mut self, start: u64, head: Option<&Head>) {
        self.at = self.window.len();
        let length = self.offset() - start;
        let (worker, rows) = (head.map(|h| h.worker), head.and_then(rows_of));
        self.note(Damage { offset: start, length, worker, rows, tail: true });
    }

    fn note(&mut self, damage: Damage) {
        self.damaged += 1;
        self.damaged_bytes += if damage.tail { 0 } else { damage.length };
        if self.damage.len() < MAX_NAMED {
            self.damage.push(damage);
        }
    }

    /// Where the read position is in the file.
    fn offset(&self) -> u64 {
        self.window_offset + self.at as u64
    }

    /// Have `need` bytes at the read position, unless the file ends before.
    fn fill(&mut self, need: usize) -> Result<(), LogError> {
        if self.ended || self.window.len() - self.at >= need {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.window_offset += self.at as u64;
        self.at = 0;
        while self.window.len() < need.max(WINDOW / 2) && !self.ended {
            let had = self.window.len();
            self.window.resize(WINDOW, 0);
            let read = self.file.read(&mut self.window[had..]);
            self.window.truncate(had + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::io("read", &self.path, e)),
            }
        }
        Ok(())
    }
}

fn rows_of(head: &Head) -> Option<u32> {
    (head.kind == BlockKind::Rows).then_some(head.rows)
}

fn head_of(head: &Head, offset: u64) -> BlockHead {
    BlockHead {
        kind: head.kind,
        worker: head.worker,
        seq: head.seq,
        rows: head.rows,
        issued: head.issued,
        in_flight: head.in_flight,
        more: head.flags & FLAG_MORE != 0,
        offset,
    }
}

/// Reads chosen places of a log.
#[derive(Debug)]
pub struct LogPlaces {
    file: File,
    path: PathBuf,
}

impl LogPlaces {
    /// Append the `length` bytes at `offset` to `out`.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read, or ends before.
    pub fn read(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<(), LogError> {
        let start = out.len();
        out.resize(start + length, 0);
        self.file.read_exact_at(&mut out[start..], offset).map_err(|e| LogError::io("read", &self.path, e))
    }
}
