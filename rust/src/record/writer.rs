//! The run log's writer, as whoever keeps a log has it: it makes the files, and hands them to the one thread that writes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use super::backlog::Backlog;
use super::block::{FileHeader, LogHeader};
use super::events::EventLogState;
use super::store::LogFile;
use super::writing::{Message, Writing};
use super::{EventCounts, EventShard, LogError, Shard};

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
    /// [`LogError::Io`] when a file exists already or can't be made, or the disk has no room for the log's beginning;
    /// [`LogError::Session`] for an id too long.
    pub fn create(dir: &Path, header: &LogHeader, keep_answers: bool) -> Result<Self, LogError> {
        let file_header = FileHeader::new(header)?;
        let log = new_file(dir, "run.log", &file_header)?;
        let begin = serde_json::json!({"event": "run_start", "session": header.session, "meta": header.meta});
        let writer = Self::start(dir, file_header, log, Some(&begin))?;
        if keep_answers {
            writer.keep_answers()?;
        }
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

    fn start(
        dir: &Path,
        header: FileHeader,
        log: LogFile,
        begin: Option<&serde_json::Value>,
    ) -> Result<Self, LogError> {
        let (backlog, events) = (Backlog::new(), EventLogState::default());
        let (to_thread, messages) = channel();
        let path = log.path().to_path_buf();
        let mut writing = Writing::new(dir, header.sync, log, events.clone(), backlog.clone());
        if let Some(begin) = begin {
            writing.begin(begin.to_string().as_bytes()).map_err(|e| LogError::io("write", &path, e))?;
        }
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

/// A file of the log with nothing but its header.
fn new_file(dir: &Path, name: &str, header: &FileHeader) -> Result<LogFile, LogError> {
    let mut file = LogFile::create(&dir.join(name))?;
    file.append(&header.encode()).map_err(|e| LogError::io("write", file.path(), e))?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::block::HEAD;
    use crate::record::store::tests::SmallDisk;
    use crate::record::{ReadList, Row};

    fn on_disk(disk: &SmallDisk) -> LogWriter {
        let log = LogFile::over(Box::new(disk.clone()), Path::new("run.log"));
        let anchor = crate::clock::Anchor::now();
        let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: serde_json::Value::Null };
        LogWriter::start(&std::env::temp_dir(), FileHeader::new(&header).unwrap(), log, None).unwrap()
    }

    fn push(shard: &mut Shard, id: u64) {
        shard.push(&Row { id, ..Row::default() }, &ReadList::new(), &[]);
        shard.flush();
    }

    #[test]
    fn a_disk_without_room_for_the_beginning_refuses_the_run() {
        let little = SmallDisk { reserves: true, ..SmallDisk::with_room(1 << 20) };
        for disk in [SmallDisk::with_room(20), little] {
            let log = LogFile::over(Box::new(disk), Path::new("run.log"));
            let anchor = crate::clock::Anchor::now();
            let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: serde_json::Value::Null };
            let header = FileHeader::new(&header).unwrap();
            let begin = serde_json::json!({"event": "run_start"});
            let refused = LogWriter::start(&std::env::temp_dir(), header, log, Some(&begin)).unwrap_err();
            let LogError::Io { verb: "write", source, .. } = refused else { panic!("another error: {refused}") };
            assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
        }
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
