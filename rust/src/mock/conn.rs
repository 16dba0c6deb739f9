//! A connection: its socket, the bytes it has not read or written yet, and what it is about.

use std::io::{self, Read};

use socket2::{SockRef, Socket};

use super::answer::{Answer, End};
use super::request::Parser;
use super::serve::Job;
use super::truth::Row;

/// One client's connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub socket: Socket,
    pub key: u64,
    /// Bytes read and not yet part of a request that was taken.
    pub input: Vec<u8>,
    pub parser: Parser,
    /// Bytes that the kernel would not take yet.
    pub output: Vec<u8>,
    pub state: State,
    /// It holds one of the slots that `capacity` bounds.
    pub has_slot: bool,
    /// Requests it has served.
    pub served: u64,
    /// What the poller watches.
    pub watch_read: bool,
    pub watch_write: bool,
    /// The moment its timer is set to; older entries of the heap do not match it and are ignored.
    pub alarm: Option<u64>,
}

/// What a connection is about.
#[derive(Debug)]
pub(super) enum State {
    /// Waiting for a request.
    Idle,
    /// A request waits for its slot.
    Queued(Box<(Job, Row)>),
    /// An answer is being written. The row is absent for what is not counted.
    Answering(Answer, Option<Box<Row>>),
    /// Everything was said; the client's end is awaited until the alarm.
    Lingering,
}

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The kernel has all of it.
    Written,
    /// The client must read first.
    Blocked,
    /// The client is gone.
    Gone,
}

/// A client that is gone must give an error here, not a SIGPIPE to a process that does not ignore it. Elsewhere than
/// on Linux the socket itself is told so when it is made.
const NO_SIGNAL: i32 = if cfg!(target_os = "linux") { libc::MSG_NOSIGNAL } else { 0 };

/// How much pipelined input is kept while an answer is written.
const MAX_AHEAD: usize = 1 << 20;

impl Conn {
    pub(super) fn new(socket: Socket, key: u64) -> Self {
        Self {
            socket,
            key,
            input: Vec::new(),
            parser: Parser::default(),
            output: Vec::new(),
            state: State::Idle,
            has_slot: false,
            served: 0,
            watch_read: true,
            watch_write: false,
            alarm: None,
        }
    }

    /// Read what is there, once. `false` when the client has ended or is gone.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> bool {
        match self.socket.read(scratch) {
            Ok(0) => false,
            Ok(n) => {
                if !matches!(self.state, State::Lingering) {
                    self.input.extend_from_slice(&scratch[..n]);
                }
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Whether reading should pause: a client that sends ahead without reading its answers.
    pub(super) fn is_ahead(&self) -> bool {
        !matches!(self.state, State::Idle | State::Lingering) && self.input.len() > MAX_AHEAD
    }

    /// Write new bytes, and keep what the kernel does not take. Only called while nothing is kept.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Flow {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.socket.send_with_flags(rest, NO_SIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.output.extend_from_slice(rest);
                    return Flow::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flow::Gone,
            }
        }
        Flow::Written
    }

    /// Write on what was kept.
    pub(super) fn flush(&mut self) -> Flow {
        let kept = std::mem::take(&mut self.output);
        self.write(&kept)
    }

    /// The row of an answer that is written to its end, taken out.
    pub(super) fn finished_row(&mut self) -> Option<Box<Row>> {
        match &mut self.state {
            State::Answering(answer, row) if answer.next_due().is_none() && answer.end != End::Hold => row.take(),
            _ => None,
        }
    }
}

/// Make the close that follows a reset instead of an orderly end.
pub(super) fn reset_on_close(socket: &Socket) {
    // A Unix socket has no reset; its close is all there is.
    let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}
