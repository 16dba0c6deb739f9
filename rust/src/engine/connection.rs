//! One HTTP/1.1 connection and the exchange on it: write a request, stamp every read of its answer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flight::{Flight, Verdict};
use crate::clock::now_ns;
use crate::endpoint::Answer;
use crate::http::{Fault, Progress, ResponseParser, Stream};
use crate::record::{Detail, Failure, Read, ReadList, Shard, Stamps, UNSET};
use crate::series::LiveShard;

/// The most that one read takes from a socket.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Where a finished exchange leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Ready for the next request.
    Reusable,
    /// To be closed.
    Closing,
}

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The sweep ended it.
    Verdict(Verdict),
    /// The bytes, or their absence.
    Fault(Fault),
}

/// The reads of one request are handed to the log in parts of about this size, so that a long stream stays small.
const SPILL_BYTES: usize = 8 * 1024;

/// What a worker lends to an exchange: its buffer, its counters, its log shard, and the request's flight and names.
pub(super) struct Aids<'a> {
    pub(super) buffer: &'a RefCell<Box<[u8]>>,
    pub(super) live: &'a LiveShard,
    pub(super) shard: &'a RefCell<Shard>,
    pub(super) flight: &'a Flight,
    pub(super) request: u64,
    pub(super) phase: u16,
}

/// A connection with everything that is reused from request to request.
pub(super) struct Connection {
    stream: Stream,
    parser: ResponseParser,
    /// The decoder of the current answer.
    pub(super) answer: Answer,
    /// The request's bytes.
    pub(super) out: Vec<u8>,
    written: usize,
    /// The current answer's reads so far.
    pub(super) reads: ReadList,
    /// Bytes received for the current request.
    pub(super) bytes_in: u64,
    /// Whether a request has been answered on it before.
    pub(super) used: bool,
}

impl Connection {
    /// Around a connected stream.
    pub(super) fn new(stream: Stream, parser: ResponseParser, answer: Answer) -> Self {
        let (out, reads) = (Vec::new(), ReadList::new());
        Self { stream, parser, answer, out, written: 0, reads, bytes_in: 0, used: false }
    }

    /// Forget the last request. `out` is for the caller to fill next.
    pub(super) fn reset(&mut self, streamed: bool) {
        self.parser.reset();
        self.answer.reset(streamed);
        self.out.clear();
        self.written = 0;
        self.reads.clear();
        self.bytes_in = 0;
    }

    /// Whether any byte of the current answer has come.
    pub(super) fn answered(&self) -> bool {
        self.bytes_in > 0
    }

    /// Write what the socket takes at once, without a task of its own; the rest follows in [`Self::exchange`].
    pub(super) fn write_now(&mut self, stamps: &mut Stamps) {
        stamps.sent = now_ns();
        // A failed or partial write shows again in `exchange`, which knows what to make of it.
        if let Poll::Ready(Ok(n)) = self.poll_write(&mut Context::from_waker(Waker::noop())) {
            self.written += n;
        }
    }

    /// Write the request (the rest of it) and read the answer to its end, stamping as it comes.
    pub(super) async fn exchange(&mut self, aids: &Aids<'_>, stamps: &mut Stamps) -> Result<Ended, Broken> {
        if stamps.sent == UNSET {
            stamps.sent = now_ns();
        }
        std::future::poll_fn(|cx| {
            if let Some(verdict) = aids.flight.verdict() {
                return Poll::Ready(Err(Broken::Verdict(verdict)));
            }
            aids.flight.wake_by(cx.waker());
            if self.written < self.out.len() && !self.poll_send(cx) {
                return Poll::Pending;
            }
            self.poll_answer(cx, aids, stamps)
        })
        .await
    }

    /// Send the rest of the request. False while the socket is full. A broken pipe is no verdict: the server may
    /// have answered before it closed, so reading decides.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        while self.written < self.out.len() {
            match self.poll_write(cx) {
                Poll::Ready(Ok(n)) if n > 0 => self.written += n,
                Poll::Ready(_) => self.written = self.out.len(),
                Poll::Pending => return false,
            }
        }
        // TLS may hold bytes back; plain sockets make this free.
        !matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Pending)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..])
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        aids: &Aids<'_>,
        stamps: &mut Stamps,
    ) -> Poll<Result<Ended, Broken>> {
        loop {
            let mut buffer = aids.buffer.borrow_mut();
            let mut window = ReadBuf::new(&mut buffer);
            let read = match Pin::new(&mut self.stream).poll_read(cx, &mut window) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read,
            };
            let now = now_ns();
            let progress = match read {
                Err(error) => Err(fault_of(&error)),
                Ok(()) if window.filled().is_empty() => self.parser.eof(&mut self.answer),
                Ok(()) => self.heard(window.filled(), now, aids, stamps),
            };
            match progress {
                Ok(Progress::More) => continue,
                _ => stamps.done = now,
            }
            return Poll::Ready(match progress {
                Ok(Progress::Done { reusable: true }) => Ok(Ended::Reusable),
                Ok(_) => Ok(Ended::Closing),
                Err(fault) => Err(Broken::Fault(fault)),
            });
        }
    }

    /// One read of the socket, all of it stamped `now`.
    fn heard(&mut self, bytes: &[u8], now: u64, aids: &Aids<'_>, stamps: &mut Stamps) -> Result<Progress, Fault> {
        aids.flight.heard(now);
        self.bytes_in += bytes.len() as u64;
        if stamps.first_byte == UNSET {
            stamps.first_byte = now;
        }
        let progress = self.parser.feed(bytes, &mut self.answer);
        let tally = self.answer.take_read();
        if tally.chunks > 0 && self.answer.outcome().streamed {
            let first = stamps.first_token == UNSET;
            let since = if first { stamps.sent } else { stamps.last_token };
            let delta_ns = now.saturating_sub(since);
            self.reads.push(&Read { delta_ns, events: tally.events, chunks: tally.chunks, tokens: tally.tokens });
            if first {
                stamps.first_token = now;
                aids.live.first(delta_ns, tally.chunks);
            } else {
                aids.live.gap(delta_ns, tally.chunks);
            }
            stamps.last_token = now;
            if self.reads.bytes().len() > SPILL_BYTES {
                aids.shard.borrow_mut().spill(aids.request, aids.phase, &mut self.reads);
            }
            if tally.output && stamps.first_output == UNSET {
                stamps.first_output = now;
            }
        }
        if tally.finished {
            aids.flight.finish(now);
        }
        progress
    }
}

/// What a failed read means.
fn fault_of(error: &io::Error) -> Fault {
    let reset = matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    );
    let early = error.kind() == io::ErrorKind::UnexpectedEof;
    let detail = match (reset, early) {
        (true, _) => Detail::Reset,
        (_, true) => Detail::EarlyEnd,
        _ => Detail::Io,
    };
    Fault { failure: Failure::Body, detail, text: error.to_string().into_boxed_str() }
}
