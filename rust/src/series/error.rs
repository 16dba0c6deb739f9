//! What can go wrong with a segment of live metrics, in sentences that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::header::VERSION;

/// Why a segment could not be made, extended or attached to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The operating system refused something about the file.
    #[error("{verb} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: "create", "open", …
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bounds that no histogram can have.
    #[error("bounds of a series must satisfy 1 <= low ({low}) and 2 × low <= high ({high}), with low below 2^53")]
    Bounds {
        /// The lower one.
        low: u64,
        /// The higher one.
        high: u64,
    },
    /// Two entries of one name in one phase.
    #[error("{0} is registered already: give the counter or series a name of its own")]
    Taken(String),
    /// A name, unit or help text that its field has no room for, or that is empty.
    #[error("{what} {value:?} must have {least} to {room} bytes, none of them a control character")]
    Text {
        /// Which text.
        what: &'static str,
        /// What was given.
        value: String,
        /// How many bytes it must have.
        least: usize,
        /// How many bytes it may have.
        room: usize,
    },
    /// The directory is full.
    #[error("{asked} more entries don't fit: a segment has room for {room}, and {used} are taken", room = super::directory::ENTRIES)]
    Full {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        used: usize,
    },
    /// A number of shards that a segment can't have.
    #[error("{0} shards: an entry has 1 to {max}", max = super::directory::MAX_SHARDS)]
    Shards(usize),
    /// A run's id that can't be a file's name.
    #[error("{0:?} can't name a segment: letters, digits, '.', '_' and '-' only, 1 to 64 of them, and no '.' first")]
    Id(String),
    /// No shared memory anywhere.
    #[error("no place for a segment: {0}")]
    NoPlace(String),
    /// The state would go back, or leave its last one.
    #[error("a run that is {from} can't become {to}: states only go forward")]
    State {
        /// Where it is.
        from: &'static str,
        /// Where it should have gone.
        to: &'static str,
    },
    /// A file of somebody else, or one that others may change.
    #[error("{path} is not to be trusted: {why}", path = path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not one of our files.
    #[error("{path} is not a loadgen segment (no such header)", path = path.display())]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// Of a machine with the other byte order.
    #[error("{path} was written with the other byte order: read it on the machine that made it", path = path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// Of another layout.
    #[error("{path} has layout {version}, this loadgen reads {VERSION}: use the loadgen that runs it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its layout.
        version: u64,
    },
    /// Smaller than its header says: cut, or still being made.
    #[error("{path} has {found} bytes where {expected} are needed: it was cut, or is still being made", path = path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// Something in it that no writer writes.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No entry of that name.
    #[error("no series called {name:?}{phase}", phase = phase.map_or(String::new(), |p| format!(" in phase {p}")))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Of which phase.
        phase: Option<u16>,
    },
    /// Bytes that are no histogram.
    #[error("not a histogram in HDR's V2 format: {0}")]
    Hdr(String),
}

impl SeriesError {
    pub(super) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_path_buf(), source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    /// Whether the file system, or what this user may have of it, is full.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EFBIG)))
    }
}
