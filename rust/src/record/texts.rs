//! The texts of a log, put together from their pieces.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use super::{BlockKind, Entries, Entry, LogError, LogReader, TextKind, WhichLog};

/// Reads the texts of one log: errors of `run.log`, answers of `answers.log`.
#[derive(Debug)]
pub struct TextReader {
    reader: LogReader,
    unfinished: HashMap<(u64, TextKind), Vec<u8>>,
    ready: VecDeque<(u64, TextKind, Vec<u8>)>,
}

impl TextReader {
    /// Open one of the logs in `dir`.
    ///
    /// # Errors
    /// Those of [`LogReader::open`].
    pub fn open(dir: &Path, which: WhichLog) -> Result<Self, LogError> {
        Ok(Self { reader: LogReader::open_log(dir, which)?, unfinished: HashMap::new(), ready: VecDeque::new() })
    }

    /// The next text: its request, what it is, and its bytes. `None` at the end. A text that lost its end is left out.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read.
    pub fn next_text(&mut self) -> Result<Option<(u64, TextKind, Vec<u8>)>, LogError> {
        while self.ready.is_empty() {
            let Some(block) = self.reader.next_wanted(|head| head.kind == BlockKind::Text)? else { break };
            for entry in Entries::new(&block).flatten() {
                let Entry::Text { request, kind, more, bytes } = entry else { continue };
                let mut text = self.unfinished.remove(&(request, kind)).unwrap_or_default();
                text.extend_from_slice(bytes);
                if more {
                    self.unfinished.insert((request, kind), text);
                } else {
                    self.ready.push_back((request, kind, text));
                }
            }
        }
        Ok(self.ready.pop_front())
    }
}
