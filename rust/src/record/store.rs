//! One log file being appended to: whole blocks or nothing, whatever the disk does.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LogError;

/// What a log needs of a file; a test's stand-in fails on demand.
pub(crate) trait Store: Send {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize>;
    fn set_len(&mut self, length: u64) -> io::Result<()>;
    /// What brings everything written so far to the disk, to be run on any thread.
    fn syncing(&self) -> io::Result<Syncing>;
    /// Make sure that the disk has room for everything below `end`, without growing the file.
    fn reserve(&mut self, end: u64) -> io::Result<()>;
}

/// A sync that has yet to be run.
pub(crate) type Syncing = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Store for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }

    fn syncing(&self) -> io::Result<Syncing> {
        let file = self.try_clone()?;
        Ok(Box::new(move || file.sync_data()))
    }

    #[cfg(target_os = "linux")]
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let length = libc::off_t::try_from(end).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a plain system call on a descriptor that `self` keeps open; no memory is passed.
        match unsafe { libc::fallocate(self.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&mut self, _end: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Room that is kept on the disk ahead of the log: what is in flight when it fills up still fits, and the end too.
const RESERVE: u64 = 4 << 20;

/// A log file that grows by whole blocks.
pub(crate) struct LogFile {
    store: Box<dyn Store>,
    path: PathBuf,
    /// Bytes of whole blocks, the header included.
    length: u64,
    /// Room is reserved up to here; `None` where the file system can't.
    reserved: Option<u64>,
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogFile({}, {} bytes)", self.path.display(), self.length)
    }
}

impl LogFile {
    /// Create `path`, which must not exist, readable by its owner only.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|e| LogError::io("create", path, e))?;
        Ok(Self::over(Box::new(file), path))
    }

    pub fn over(store: Box<dyn Store>, path: &Path) -> Self {
        Self { store, path: path.to_path_buf(), length: 0, reserved: Some(0) }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Append all of `bytes`, or nothing: after an error the file ends where it ended before.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = self.length;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.store.write_at(rest, at) {
                Ok(0) => return self.take_back(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    rest = &rest[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.take_back(e),
            }
        }
        self.length = at;
        Ok(())
    }

    /// Keep [`RESERVE`] of room ahead. An error means that the disk is about to be full: time to stop issuing, while
    /// what was reserved still takes what is in flight.
    pub fn keep_room(&mut self) -> io::Result<()> {
        let Some(reserved) = self.reserved else { return Ok(()) };
        if reserved >= self.length + RESERVE {
            return Ok(());
        }
        let end = self.length + 2 * RESERVE;
        match self.store.reserve(end) {
            Ok(()) => {
                self.reserved = Some(end);
                Ok(())
            }
            // A signal came: asked again with the next block.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => {
                self.reserved = None;
                // Any other error means that this file system cannot reserve; writing will tell.
                if is_full(&e) { Err(e) } else { Ok(()) }
            }
        }
    }

    pub fn syncing(&self) -> io::Result<Syncing> {
        self.store.syncing()
    }

    /// Give back the room that was not needed.
    pub fn release(&mut self) -> io::Result<()> {
        self.store.set_len(self.length)
    }

    fn take_back(&mut self, error: io::Error) -> io::Result<()> {
        // If even this fails the torn block stays behind; the next one overwrites it, and a reader skips it.
        let _ = self.store.set_len(self.length);
        Err(error)
    }
}

/// Whether the error says that the disk, the quota or the allowed file size is used up.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::sync::mpsc::Receiver;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk in memory with room for `room` bytes.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct SmallDisk {
        pub room: Arc<Mutex<usize>>,
        pub bytes: Arc<Mutex<Vec<u8>>>,
        pub reserves: bool,
        /// A signal comes while it reserves, once.
        pub signalled: Arc<Mutex<bool>>,
        pub sync_waits_for: Arc<Mutex<Option<Receiver<()>>>>,
    }

    impl SmallDisk {
        pub fn with_room(room: usize) -> Self {
            Self { room: Arc::new(Mutex::new(room)), ..Self::default() }
        }
    }

    fn full() -> io::Error {
        io::Error::from_raw_os_error(libc::ENOSPC)
    }

    impl Store for SmallDisk {
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
            let room = *self.room.lock().unwrap();
            let n = bytes.len().min(room.saturating_sub(at as usize));
            if n == 0 {
                return Err(full());
            }
            let mut all = self.bytes.lock().unwrap();
            let end = at as usize + n;
            let length = all.len().max(end);
            all.resize(length, 0);
            all[at as usize..end].copy_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn set_len(&mut self, length: u64) -> io::Result<()> {
            self.bytes.lock().unwrap().resize(length as usize, 0);
            Ok(())
        }

        fn syncing(&self) -> io::Result<Syncing> {
            let waits = self.sync_waits_for.lock().unwrap().take();
            Ok(Box::new(move || {
                // Whoever holds the other end decides when the disk is done.
                waits.map_or(Ok(()), |gate| gate.recv().map_err(io::Error::other))
            }))
        }

        fn reserve(&mut self, end: u64) -> io::Result<()> {
            if std::mem::take(&mut *self.signalled.lock().unwrap()) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match (self.reserves, end as usize > *self.room.lock().unwrap()) {
                (false, _) => Err(io::ErrorKind::Unsupported.into()),
                (true, true) => Err(full()),
                (true, false) => Ok(()),
            }
        }
    }

    #[test]
    fn a_block_that_does_not_fit_leaves_no_trace() {
        let disk = SmallDisk::with_room(10);
        let mut log = LogFile::over(Box::new(disk.clone()), Path::new("run.log"));
        log.append(b"12345678").unwrap();
        assert_eq!(log.append(b"abcdefgh").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(*disk.bytes.lock().unwrap(), b"12345678");
        *disk.room.lock().unwrap() = 100;
        log.append(b"abcdefgh").unwrap();
        assert_eq!(*disk.bytes.lock().unwrap(), b"12345678abcdefgh");
        assert_eq!(log.length(), 16);
    }

    #[test]
    fn a_disk_that_can_reserve_warns_before_it_is_full() {
        let disk = SmallDisk { reserves: true, ..SmallDisk::with_room(2 * RESERVE as usize + 5) };
        let mut log = LogFile::over(Box::new(disk), Path::new("run.log"));
        log.keep_room().unwrap();
        log.append(&vec![0; RESERVE as usize + 1]).unwrap();
        assert_eq!(log.keep_room().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        log.append(&vec![0; RESERVE as usize - 1]).unwrap();
    }

    #[test]
    fn a_signal_while_the_disk_reserves_is_no_reason_to_ask_it_no_more() {
        let disk = SmallDisk { reserves: true, signalled: Arc::new(Mutex::new(true)), ..SmallDisk::with_room(10) };
        let mut log = LogFile::over(Box::new(disk), Path::new("run.log"));
        log.keep_room().unwrap();
        assert_eq!(log.keep_room().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_file_system_that_cannot_reserve_is_no_error() {
        let mut log = LogFile::over(Box::new(SmallDisk::with_room(10)), Path::new("run.log"));
        log.keep_room().unwrap();
        log.keep_room().unwrap();
    }
}
