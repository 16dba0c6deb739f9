//! The run log's thread: it takes blocks over a channel, writes them, and gives their buffers back.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use super::backlog::Backlog;
use super::block::{BlockKind, FLAG_MORE, HEAD, Head, MAX_PAYLOAD, SESSION_WORKER};
use super::events::EventLogState;
use super::store::{LogFile, Syncing};
use super::{EventCounts, LogError, LogStats};
use crate::clock::{self, thread_cpu_ns};

/// While less than this waits to be written, buffers go back to their shard; a burst's buffers are freed.
const KEEP_BUFFERS_BELOW: u64 = 2 << 20;
/// Most bytes of blocks kept for another try after a failed write.
const MAX_HELD: usize = 64 << 20;
/// A failed write is tried again no sooner than this, and at the end.
const RETRY_NS: u64 = 200_000_000;

/// Which file a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Log,
    Answers,
}

/// A full block but for its checksums, which the writer fills in.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub target: Target,
    pub head: Head,
    /// Room for the head, then the payload.
    pub bytes: Vec<u8>,
    pub handed_over_ns: u64,
    /// Where the buffer is used again.
    pub home: Sender<Vec<u8>>,
}

/// Full blocks of events of one source, but for their checksums.
#[derive(Debug)]
pub(crate) struct SealedEvents {
    /// Where each begins, and its head.
    pub heads: Vec<(usize, Head)>,
    /// The blocks, each with room for its head.
    pub bytes: Vec<u8>,
    /// Where the buffer is used again.
    pub home: Sender<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Block(Sealed),
    Events(SealedEvents),
    Meta(Vec<u8>),
    /// From here on there is a file for answers.
    Answers(LogFile),
    /// From here on there is a file for events.
    EventFile(LogFile),
    CountEvents(SyncSender<EventCounts>),
    Sync(SyncSender<Result<(), String>>),
    Finish,
}

/// The files, what waits for them, and how they stand.
pub(super) struct Writing {
    sync: u64,
    dir: PathBuf,
    dir_synced: bool,
    log: LogFile,
    answers: Option<LogFile>,
    /// `None` also once it could not be written: then it has ended.
    event_file: Option<LogFile>,
    events: EventLogState,
    /// Blocks that the disk refused, oldest first.
    held: VecDeque<(Target, Head, Vec<u8>)>,
    held_bytes: usize,
    retry_ns: u64,
    meta_seq: u32,
    stats: LogStats,
    lost_rows: u64,
    /// Whether any block is gone for good.
    lost: bool,
    backlog: Backlog,
}

impl Writing {
    /// Before the first message: `log` is empty but for its header.
    pub(super) fn new(dir: &Path, sync: u64, log: LogFile, events: EventLogState, backlog: Backlog) -> Self {
        Self {
            sync,
            dir: dir.to_path_buf(),
            dir_synced: false,
            log,
            answers: None,
            event_file: None,
            events,
            held: VecDeque::new(),
            held_bytes: 0,
            retry_ns: 0,
            meta_seq: 0,
            stats: LogStats::default(),
            lost_rows: 0,
            lost: false,
            backlog,
        }
    }

    /// Write the log's first document, before anything is issued: a disk that refuses it, or has no room for more, refuses
    /// the run.
    pub(super) fn begin(&mut self, json: &[u8]) -> io::Result<()> {
        self.log.keep_room()?;
        for (mut head, mut bytes) in self.meta_blocks(json) {
            self.seal(&mut head, &mut bytes);
            self.write(Target::Log, &head, &bytes)?;
        }
        Ok(())
    }

    /// Take messages until the last one; what the log came to.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Result<LogStats, LogError> {
        self.keep_room();
        while let Ok(message) = messages.recv() {
            if !self.take(message) {
                // A worker that is still flushing is not forgotten.
                messages.try_iter().for_each(|message| {
                    self.take(message);
                });
                break;
            }
        }
        self.end()
    }

    /// Do what a message asks for; whether more are to come.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Block(sealed) => self.take_block(sealed),
            Message::Events(sealed) => self.take_events(sealed),
            Message::Meta(json) => self.take_meta(&json),
            Message::Answers(file) => self.take_answers(file),
            Message::EventFile(file) => self.event_file = Some(file),
            Message::Sync(reply) => self.sync_beside(reply),
            Message::CountEvents(reply) => self.count_events(&reply),
            Message::Finish => return false,
        }
        true
    }

    fn take_answers(&mut self, file: LogFile) {
        self.answers = Some(file);
        // A new name in the directory.
        self.dir_synced = false;
    }

    fn take_block(&mut self, sealed: Sealed) {
        let Sealed { target, head, bytes, handed_over_ns, home } = sealed;
        let size = bytes.len();
        self.backlog.writing(handed_over_ns);
        let back = self.put(target, head, bytes);
        let waiting = self.backlog.written(size);
        if let Some(buffer) = back
            && waiting < KEEP_BUFFERS_BELOW
        {
            // The shard may be gone; then the buffer is simply freed.
            let _ = home.send(buffer);
        }
        if target == Target::Log {
            self.keep_room();
        }
    }

    /// Events are observers: a file of theirs that can't be written ends, and the run goes on without.
    fn take_events(&mut self, sealed: SealedEvents) {
        let SealedEvents { heads, mut bytes, home } = sealed;
        let mut records = 0;
        for (at, mut head) in heads {
            let (room, payload) = bytes[at..][..HEAD + head.length as usize].split_at_mut(HEAD);
            head.payload_crc = crc32fast::hash(payload);
            room.copy_from_slice(&head.encode(self.sync));
            records += head.rows;
        }
        let written = match self.event_file.as_mut().map(|file| file.append(&bytes)) {
            Some(Ok(())) => true,
            Some(Err(e)) => {
                self.end_events(&e);
                false
            }
            None => false,
        };
        if self.events.settle(records, bytes.len(), written) < KEEP_BUFFERS_BELOW {
            // The shard may be gone; then the buffer is simply freed.
            let _ = home.send(bytes);
        }
    }

    fn end_events(&mut self, error: &io::Error) {
        self.events.fail(format!("events.log: {error}"));
        self.stats.event_bytes = self.event_file.take().map_or(0, |file| file.length());
    }

    fn count_events(&self, reply: &SyncSender<EventCounts>) {
        // Whoever asked may be gone.
        let _ = reply.send(self.events.counts());
    }

    fn take_meta(&mut self, json: &[u8]) {
        self.backlog.writing(clock::now_ns());
        for (head, bytes) in self.meta_blocks(json) {
            self.put(Target::Log, head, bytes);
        }
        self.backlog.written(json.len());
    }

    /// A document's blocks, in order and not sealed.
    fn meta_blocks(&mut self, json: &[u8]) -> Vec<(Head, Vec<u8>)> {
        let mut blocks = Vec::new();
        let mut parts = json.chunks(MAX_PAYLOAD).peekable();
        while let Some(part) = parts.next() {
            let mut bytes = Vec::with_capacity(HEAD + part.len());
            bytes.resize(HEAD, 0);
            bytes.extend_from_slice(part);
            let head = Head {
                kind: BlockKind::Meta,
                flags: if parts.peek().is_some() { FLAG_MORE } else { 0 },
                worker: SESSION_WORKER,
                length: part.len() as u32,
                rows: 0,
                seq: self.meta_seq,
                issued: 0,
                in_flight: 0,
                payload_crc: 0,
            };
            self.meta_seq = self.meta_seq.wrapping_add(1);
            blocks.push((head, bytes));
        }
        blocks
    }

    /// Write the head in front of a block's payload.
    fn seal(&self, head: &mut Head, bytes: &mut [u8]) {
        head.payload_crc = crc32fast::hash(&bytes[HEAD..]);
        bytes[..HEAD].copy_from_slice(&head.encode(self.sync));
    }

    /// Write a block, or hold it for later; the buffer comes back once it is written.
    fn put(&mut self, target: Target, mut head: Head, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.seal(&mut head, &mut bytes);
        // While some are held, later ones wait behind them: blocks keep their order.
        if !self.held.is_empty() && clock::now_ns() >= self.retry_ns {
            self.retry();
        }
        if self.held.is_empty() {
            match self.write(target, &head, &bytes) {
                Ok(()) => return Some(bytes),
                Err(e) => self.failed(target, &e),
            }
        }
        if self.held_bytes + bytes.len() > MAX_HELD {
            self.lose(&head);
        } else {
            self.held_bytes += bytes.len();
            self.held.push_back((target, head, bytes));
        }
        None
    }

    fn write(&mut self, target: Target, head: &Head, bytes: &[u8]) -> io::Result<()> {
        match (target, &mut self.answers) {
            (Target::Answers, Some(answers)) => answers.append(bytes)?,
            (Target::Answers, None) => {}
            (Target::Log, _) => {
                self.log.append(bytes)?;
                self.stats.blocks += 1;
                self.stats.rows += if head.kind == BlockKind::Rows { u64::from(head.rows) } else { 0 };
            }
        }
        Ok(())
    }

    fn retry(&mut self) {
        while let Some((target, head, bytes)) = self.held.pop_front() {
            if let Err(e) = self.write(target, &head, &bytes) {
                self.failed(target, &e);
                self.held.push_front((target, head, bytes));
                return;
            }
            self.held_bytes -= bytes.len();
        }
    }

    fn failed(&mut self, target: Target, error: &io::Error) {
        let file = if target == Target::Log { "run.log" } else { "answers.log" };
        self.backlog.fail(format!("{file}: {error}"));
        self.retry_ns = clock::now_ns() + RETRY_NS;
    }

    fn lose(&mut self, head: &Head) {
        self.lost = true;
        self.lost_rows += if head.kind == BlockKind::Rows { u64::from(head.rows) } else { 0 };
    }

    fn keep_room(&mut self) {
        if let Err(e) = self.log.keep_room() {
            self.backlog.fail(format!("run.log: no room is left beyond the next megabytes: {e}"));
        }
    }

    /// Sync on a thread of its own, so that rows which come meanwhile are written all the same.
    fn sync_beside(&mut self, reply: SyncSender<Result<(), String>>) {
        let syncing = self.syncing();
        let job = move || {
            // Whoever asked may have given up waiting; the data is synced all the same.
            let _ = reply.send(syncing());
        };
        let thread = std::thread::Builder::new().name("loadgen-sync".to_owned());
        if let Err(e) = thread.spawn(job) {
            // `job` is gone with the failed thread, and its end of the channel tells the caller so.
            self.backlog.fail(format!("run.log could not be synced: {e}"));
        }
    }

    /// What brings everything so far to the disk and says whether all of it is there.
    fn syncing(&mut self) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        self.retry();
        let mut syncs = vec![self.log.syncing()];
        syncs.extend(self.answers.as_ref().map(LogFile::syncing));
        if !std::mem::replace(&mut self.dir_synced, true) {
            // The name of a new file is on the disk only once its directory is.
            let dir = File::open(&self.dir);
            syncs.push(dir.map(|dir| Box::new(move || dir.sync_all()) as Syncing));
        }
        let (events, sync_events) = (self.events.clone(), self.event_file.as_ref().map(LogFile::syncing));
        let (backlog, whole) = (self.backlog.clone(), self.held.is_empty() && !self.lost);
        move || {
            if let Some(Err(e)) = sync_events.map(|sync| sync?()) {
                events.fail(format!("events.log: {e}"));
            }
            if let Err(e) = syncs.into_iter().try_for_each(|sync| sync?()) {
                backlog.fail(format!("run.log: {e}"));
                return Err(e.to_string());
            }
            if whole { Ok(()) } else { Err(backlog.error().unwrap_or_else(|| "blocks are missing".to_owned())) }
        }
    }

    fn end(mut self) -> Result<LogStats, LogError> {
        self.retry();
        let released = self.log.release();
        let synced = self.syncing()();
        while let Some((_, head, _)) = self.held.pop_front() {
            self.lose(&head);
        }
        self.stats.bytes = self.log.length();
        if let Some(file) = &self.event_file {
            self.stats.event_bytes = file.length();
        }
        self.stats.answer_bytes = self.answers.as_ref().map_or(0, LogFile::length);
        self.stats.writer_cpu_ns = thread_cpu_ns();
        match released.map_err(|e| e.to_string()).and(synced) {
            Ok(()) => Ok(self.stats),
            Err(reason) => Err(LogError::Disk { reason, lost_rows: self.lost_rows }),
        }
    }
}
