//! The run log's writer: the one thread that touches the files. Blocks come over a channel, buffers go back.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use super::backlog::Backlog;
use super::block::{BlockKind, FLAG_MORE, FileHeader, HEAD, Head, LogHeader, MAX_PAYLOAD, SESSION_WORKER};
use super::events::EventLogState;
use super::store::{LogFile, Syncing};
use super::{EventCounts, EventShard, LogError, Shard};
use crate::clock;

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

/// What a finished log came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of `run.log`.
    pub bytes: u64,
    /// Bytes of `answers.log`.
    pub answer_bytes: u64,
    /// Bytes of `events.log`.
    pub event_bytes: u64,
    /// Rows written.
    pub rows: u64,
    /// Blocks written to `run.log`.
    pub blocks: u64,
    /// CPU time of the writer's thread.
    pub writer_cpu_ns: u64,
}

/// Owns `run.log` and the thread that writes it.
#[derive(Debug)]
pub struct LogWriter {
    /// `None` where nothing is kept.
    to_thread: Option<Sender<Message>>,
    thread: Option<JoinHandle<Result<LogStats, LogError>>>,
    backlog: Backlog,
    dir: PathBuf,
    header: FileHeader,
    /// Whether there is a file for answers. Taken when a phase begins.
    keeps_answers: Mutex<bool>,
    events: EventLogState,
}

impl LogWriter {
    /// Create `run.log` (and `answers.log`, if answers are kept) in `dir`, and start the thread "loadgen-log".
    ///
    /// # Errors
    /// [`LogError::Io`] when a file exists already or can't be made, [`LogError::Session`] for an id too long.
    pub fn create(dir: &Path, header: &LogHeader, keep_answers: bool) -> Result<Self, LogError> {
        let file_header = FileHeader::new(header)?;
        let log = new_file(dir, "run.log", &file_header)?;
        let writer = Self::start(dir, file_header, log)?;
        if keep_answers {
            writer.keep_answers()?;
        }
        writer.meta(&serde_json::json!({"event": "run_start", "session": header.session, "meta": header.meta}))?;
        Ok(writer)
    }

    /// A log that nobody will read: no file, no thread, and no disk that could refuse. What is handed to it is dropped.
    ///
    /// # Errors
    /// [`LogError::Session`] for an id too long, as everywhere.
    pub fn nowhere(header: &LogHeader) -> Result<Self, LogError> {
        Ok(Self {
            to_thread: None,
            thread: None,
            backlog: Backlog::new(),
            dir: PathBuf::new(),
            header: FileHeader::new(header)?,
            keeps_answers: Mutex::new(false),
            events: EventLogState::default(),
        })
    }

    fn start(dir: &Path, header: FileHeader, log: LogFile) -> Result<Self, LogError> {
        let (backlog, events) = (Backlog::new(), EventLogState::default());
        let (to_thread, messages) = channel();
        let writing = Writing {
            sync: header.sync,
            dir: dir.to_path_buf(),
            dir_synced: false,
            log,
            answers: None,
            event_file: None,
            events: events.clone(),
            held: VecDeque::new(),
            held_bytes: 0,
            retry_ns: 0,
            meta_seq: 0,
            stats: LogStats::default(),
            lost_rows: 0,
            lost: false,
            backlog: backlog.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("loadgen-log".to_owned())
            .spawn(move || writing.run(&messages))
            .map_err(|e| LogError::Thread(e.to_string()))?;
        let dir = dir.to_path_buf();
        Ok(Self {
            to_thread: Some(to_thread),
            thread: Some(thread),
            backlog,
            dir,
            header,
            keeps_answers: Mutex::new(false),
            events,
        })
    }

    /// The shard of one worker; at most one for each worker number.
    pub fn shard(&self, worker: u16) -> Shard {
        Shard::new(worker, self.to_thread.clone(), self.backlog.clone())
    }

    /// Create `answers.log` unless it is there already. Texts of answers that come before are not kept.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file exists already or can't be made, [`LogError::Nowhere`] where there is no log.
    pub fn keep_answers(&self) -> Result<(), LogError> {
        self.check_kept("answers")?;
        // A poisoned lock means that another caller panicked; what it has or hasn't made is known all the same.
        let mut keeps = self.keeps_answers.lock().unwrap_or_else(PoisonError::into_inner);
        if !*keeps {
            self.send(Message::Answers(new_file(&self.dir, "answers.log", &self.header)?))?;
            *keeps = true;
        }
        Ok(())
    }

    /// Create `events.log`. To be called once, before the first event.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file exists already or can't be made, [`LogError::Nowhere`] where there is no log.
    pub fn keep_events(&self) -> Result<(), LogError> {
        self.check_kept("events")?;
        self.send(Message::EventFile(new_file(&self.dir, "events.log", &self.header)?))
    }

    /// One source's share of `events.log`; at most one for each source. Without that file its events are missing.
    pub fn event_shard(&self, source: u16) -> EventShard {
        // Without a log, one that is closed already.
        let to_thread = self.to_thread.clone().unwrap_or_else(|| channel().0);
        EventShard::new(source, to_thread, self.events.clone())
    }

    /// What has become of all events that were handed over so far.
    ///
    /// # Errors
    /// [`LogError::Thread`] when the writer's thread is gone.
    pub fn count_events(&self) -> Result<EventCounts, LogError> {
        if self.to_thread.is_none() {
            return Ok(self.events.counts());
        }
        let (reply, answer) = sync_channel(1);
        self.send(Message::CountEvents(reply))?;
        answer.recv().map_err(|e| LogError::Thread(e.to_string()))
    }

    /// Append a META document, after everything this caller has submitted before.
    ///
    /// # Errors
    /// [`LogError::Thread`] when the writer's thread is gone.
    pub fn meta(&self, json: &serde_json::Value) -> Result<(), LogError> {
        if self.to_thread.is_none() {
            return Ok(());
        }
        let bytes = json.to_string().into_bytes();
        self.backlog.queue(bytes.len());
        self.send(Message::Meta(bytes))
    }

    /// Wait until everything submitted so far is written and on the disk.
    ///
    /// # Errors
    /// [`LogError::Disk`] when something of it is not; what is in the file stays readable.
    pub fn sync(&self) -> Result<(), LogError> {
        if self.to_thread.is_none() {
            return Ok(());
        }
        let (reply, answer) = sync_channel(1);
        self.send(Message::Sync(reply))?;
        match answer.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(LogError::Disk { reason, lost_rows: 0 }),
            Err(e) => Err(LogError::Thread(e.to_string())),
        }
    }

    /// A handle that tells whether the disk is behind.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Write and fsync what is left, close the files, end the thread. Shards must have been flushed before.
    ///
    /// # Errors
    /// [`LogError::Disk`] when rows could not be written.
    pub fn finish(mut self) -> Result<LogStats, LogError> {
        self.send(Message::Finish)?;
        self.join()
    }

    fn check_kept(&self, what: &'static str) -> Result<(), LogError> {
        if self.to_thread.is_some() { Ok(()) } else { Err(LogError::Nowhere(what)) }
    }

    fn send(&self, message: Message) -> Result<(), LogError> {
        let Some(to_thread) = &self.to_thread else { return Ok(()) };
        to_thread.send(message).map_err(|_| LogError::Thread("it ended early".to_owned()))
    }

    fn join(&mut self) -> Result<LogStats, LogError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(LogError::Thread("it panicked".to_owned())),
            None => Ok(LogStats::default()),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Not finished: an error is being handled elsewhere. What was submitted is written all the same.
        if self.thread.is_some() && self.send(Message::Finish).is_ok() {
            let _ = self.join();
        }
    }
}

/// The thread's own side.
struct Writing {
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
    fn run(mut self, messages: &Receiver<Message>) -> Result<LogStats, LogError> {
        self.keep_room();
        while let Ok(message) = messages.recv() {
            match message {
                Message::Block(sealed) => self.take_block(sealed),
                Message::Events(sealed) => self.take_events(sealed),
                Message::Meta(json) => self.take_meta(&json),
                Message::Answers(file) => self.take_answers(file),
                Message::EventFile(file) => self.event_file = Some(file),
                Message::Sync(reply) => self.sync_beside(reply),
                Message::CountEvents(reply) => self.count_events(&reply),
                Message::Finish => {
                    // A worker that is still flushing is not forgotten.
                    for message in messages.try_iter() {
                        match message {
                            Message::Block(sealed) => self.take_block(sealed),
                            Message::Events(sealed) => self.take_events(sealed),
                            Message::Meta(json) => self.take_meta(&json),
                            Message::Answers(file) => self.take_answers(file),
                            Message::EventFile(file) => self.event_file = Some(file),
                            Message::Sync(_) | Message::CountEvents(_) | Message::Finish => {}
                        }
                    }
                    break;
                }
            }
        }
        self.end()
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
            self.put(Target::Log, head, bytes);
        }
        self.backlog.written(json.len());
    }

    /// Write a block, or hold it for later; the buffer comes back once it is written.
    fn put(&mut self, target: Target, mut head: Head, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        head.payload_crc = crc32fast::hash(&bytes[HEAD..]);
        bytes[..HEAD].copy_from_slice(&head.encode(self.sync));
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

/// A file of the log with nothing but its header.
fn new_file(dir: &Path, name: &str, header: &FileHeader) -> Result<LogFile, LogError> {
    let mut file = LogFile::create(&dir.join(name))?;
    file.append(&header.encode()).map_err(|e| LogError::io("write", file.path(), e))?;
    Ok(file)
}

/// CPU time this thread has used.
fn thread_cpu_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec; CLOCK_THREAD_CPUTIME_ID exists on Linux and macOS.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut ts) };
    (ts.tv_sec as u64) * 1_000_000_000 + ts.tv_nsec as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::store::tests::SmallDisk;
    use crate::record::{ReadList, Row};

    fn on_disk(disk: &SmallDisk) -> LogWriter {
        let log = LogFile::over(Box::new(disk.clone()), Path::new("run.log"));
        let anchor = crate::clock::Anchor::now();
        let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: serde_json::Value::Null };
        LogWriter::start(&std::env::temp_dir(), FileHeader::new(&header).unwrap(), log).unwrap()
    }

    fn push(shard: &mut Shard, id: u64) {
        shard.push(&Row { id, ..Row::default() }, &ReadList::new(), &[]);
        shard.flush();
    }

    #[test]
    fn a_full_disk_stops_the_issuing_and_keeps_what_was_whole() {
        let disk = SmallDisk::with_room(250);
        let writer = on_disk(&disk);
        let mut shard = writer.shard(0);
        (1..11).for_each(|id| push(&mut shard, id));
        assert!(writer.sync().is_err());
        assert!(writer.backlog().is_behind());
        assert!(writer.backlog().error().is_some_and(|e| e.contains("run.log")));
        let whole = disk.bytes.lock().unwrap().len();
        assert!(whole <= 250 && whole.is_multiple_of(HEAD + payload_of_one_row()), "{whole} bytes");
        let LogError::Disk { lost_rows, .. } = writer.finish().unwrap_err() else { panic!("another error") };
        assert_eq!(lost_rows as usize, 10 - whole / (HEAD + payload_of_one_row()));
    }

    #[test]
    fn what_a_full_disk_refused_is_written_once_there_is_room() {
        let disk = SmallDisk::with_room(100);
        let writer = on_disk(&disk);
        let mut shard = writer.shard(0);
        (1..11).for_each(|id| push(&mut shard, id));
        assert!(writer.sync().is_err());
        *disk.room.lock().unwrap() = 1 << 20;
        let stats = writer.finish().unwrap();
        assert_eq!((stats.rows, stats.blocks), (10, 10));
        assert_eq!(stats.bytes as usize, disk.bytes.lock().unwrap().len());
    }

    #[test]
    fn rows_are_written_while_a_sync_takes_its_time() {
        let disk = SmallDisk::with_room(1 << 20);
        let (let_go, gate) = channel();
        *disk.sync_waits_for.lock().unwrap() = Some(gate);
        let writer = on_disk(&disk);
        let mut shard = writer.shard(0);
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| writer.sync());
            // The first sync took the gate; one that is asked for after the row answers when the row is written.
            while disk.sync_waits_for.lock().unwrap().is_some() {
                std::thread::yield_now();
            }
            push(&mut shard, 1);
            writer.sync().unwrap();
            assert_eq!(disk.bytes.lock().unwrap().len(), HEAD + payload_of_one_row());
            assert!(!sync.is_finished());
            let_go.send(()).unwrap();
            sync.join().unwrap().unwrap();
        });
        assert_eq!(writer.finish().unwrap().rows, 1);
    }

    #[test]
    fn a_disk_too_full_for_events_ends_their_file_and_nothing_else() {
        let disk = SmallDisk::with_room(1 << 20);
        let small = SmallDisk::with_room(250);
        let writer = on_disk(&disk);
        let file = LogFile::over(Box::new(small.clone()), Path::new("events.log"));
        writer.send(Message::EventFile(file)).unwrap();
        let (mut shard, mut events) = (writer.shard(0), writer.event_shard(0));
        for id in 1..11 {
            push(&mut shard, id);
            events.frame(&[7; 40], 3);
            events.flush();
        }
        writer.sync().unwrap();
        assert!(!writer.backlog().is_behind(), "issuing goes on");
        let block = HEAD + 1 + 40;
        let whole = 250 / block;
        let counts = writer.count_events().unwrap();
        assert_eq!((counts.logged, counts.missing), (3 * whole as u64, 3 * (10 - whole as u64)));
        assert!(counts.error.is_some_and(|e| e.starts_with("events.log: ") && e.contains("space")));
        // Even with room again: a file with a hole in it would look whole.
        *small.room.lock().unwrap() = 1 << 20;
        events.frame(&[7; 40], 3);
        events.flush();
        let stats = writer.finish().unwrap();
        assert_eq!((stats.rows, stats.event_bytes as usize), (10, whole * block));
        assert_eq!(small.bytes.lock().unwrap().len(), whole * block);
    }

    #[test]
    fn rows_after_the_end_are_an_error_that_shows() {
        let writer = on_disk(&SmallDisk::with_room(1 << 20));
        let (mut shard, backlog) = (writer.shard(0), writer.backlog());
        writer.finish().unwrap();
        push(&mut shard, 1);
        assert!(backlog.error().is_some_and(|e| e.contains("after the log was closed")));
    }

    fn payload_of_one_row() -> usize {
        let disk = SmallDisk::with_room(1 << 20);
        let writer = on_disk(&disk);
        push(&mut writer.shard(0), 1);
        writer.finish().unwrap();
        disk.bytes.lock().unwrap().len() - HEAD
    }
}
