//! Reads `events.log` frame by frame, past whatever is damaged in it, and on where it ended before.

use std::collections::VecDeque;
use std::path::Path;

use super::frame::Frame;
use super::kind::EventType;
use crate::record::{BlockKind, LogError, LogReader, WhichLog, get_varint};

/// Walks the frames of one event log.
#[derive(Debug)]
pub struct EventReader {
    log: LogReader,
    /// The topics asked for; empty for all.
    wanted: Vec<EventType>,
    /// Frames of the block that was read last.
    ready: VecDeque<Vec<u8>>,
    /// Where that block ends, and where those end whose frames have all been handed out.
    block_end: u64,
    offset: u64,
    /// Bytes of frames that aren't, in blocks that are whole.
    broken: u64,
}

impl EventReader {
    /// Open the `events.log` in `dir`, for the frames of these types (of all when there are none), from `offset` on: 0,
    /// or what [`EventReader::offset`] said.
    ///
    /// # Errors
    /// Those of [`LogReader::open`].
    pub fn open(dir: &Path, wanted: &[EventType], offset: u64) -> Result<Self, LogError> {
        let mut log = LogReader::open_log(dir, WhichLog::Events)?;
        if offset > 0 {
            log.go_on_at(offset)?;
        }
        let wanted = wanted.to_vec();
        Ok(Self { log, wanted, ready: VecDeque::new(), block_end: offset, offset, broken: 0 })
    }

    /// The next frame, or `None` at the end of what is written.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        while self.ready.is_empty() {
            self.offset = self.block_end;
            let Some(block) = self.log.next_wanted(|head| head.kind == BlockKind::Events)? else { return Ok(None) };
            self.block_end = block.offset + block.payload.len() as u64;
            let mut rest = block.payload;
            while !rest.is_empty() {
                let before = rest.len();
                let Some(frame) = take_frame(&mut rest) else {
                    self.broken += before as u64;
                    break;
                };
                match Frame::decode(frame) {
                    Ok(Frame { kind, .. }) if self.wanted.is_empty() || self.wanted.contains(&kind) => {
                        self.ready.push_back(frame.to_vec());
                    }
                    Ok(_) => {}
                    Err(_) => self.broken += frame.len() as u64,
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Where to go on reading: behind the last block whose frames have all been handed out.
    pub fn offset(&self) -> u64 {
        if self.ready.is_empty() { self.block_end } else { self.offset }
    }

    /// Bytes that were passed over because no frame could be made of them. An unfinished end is none of them: a log
    /// that is being written has one.
    pub fn damaged(&self) -> u64 {
        self.log.damaged_bytes() + self.broken
    }
}

fn take_frame<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(get_varint(rest)?).ok()?;
    let (frame, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(frame)
}
