//! What can go wrong with a run log, in sentences that say what to do.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a log could not be created, written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused something about the file.
    #[error("{verb} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: "create", "read", …
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The header's session id does not fit its field.
    #[error("session id of {0} bytes; a run log has room for {max}", max = super::block::MAX_SESSION)]
    Session(usize),
    /// The writer's thread could not be started, or is gone.
    #[error("the log writer's thread is gone: {0}")]
    Thread(String),
    /// Something is to be kept of a run that has no log.
    #[error("the run has no log, so that its {0} can't be kept: name a directory")]
    Nowhere(&'static str),
    /// Rows could not be written; what was written before stays readable.
    #[error("the log could not be written ({reason}); {lost_rows} rows are missing from it")]
    Disk {
        /// What the system said first.
        reason: String,
        /// Rows that were complete and are not in the file.
        lost_rows: u64,
    },
    /// Not one of our files, or nothing of its header is left.
    #[error("{path} is not a loadgen run log (no readable header)", path = path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A file of counts that holds something else.
    #[error("{path} holds no counts of tokens: its length is not that of whole records", path = path.display())]
    NotCounts {
        /// The file.
        path: PathBuf,
    },
    /// Written by a loadgen whose format this one does not know.
    #[error("{path} has log format {major}.{minor}, this loadgen reads {ours}.x: use a newer loadgen", path = path.display(), ours = super::block::FORMAT_MAJOR)]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
}

impl LogError {
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { verb, path: path.into(), source }
    }
}

/// Why a block with a good checksum still could not be decoded: a writer that does not keep to the format.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockFault {
    /// A column or entry ends before its last value.
    #[error("a column ends too early")]
    Short,
    /// A code that this version has no name for.
    #[error("a code of a newer version")]
    Code,
}
