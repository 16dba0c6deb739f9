//! One HTTP/1.1 connection and the exchange on it: write a request, stamp every read of its answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::flight::Verdict;
use super::outgoing::Outgoing;
use super::phase::Phase;
use super::reception::{Aids, Reception};
use crate::clock::now_ns;
use crate::http::{Fault, Progress, ResponseParser, Sink, Stream};
use crate::record::{Stamps, UNSET};

/// The most that one read takes from a socket.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// What a worker's reads go to: room for many small ones one after the other, and for a big one behind them.
pub(super) const BUFFER_BYTES: usize = 2 * READ_BYTES;

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

/// A connection with everything that is reused from request to request.
pub(super) struct Connection {
    stream: Stream,
    parser: ResponseParser,
    /// The current answer.
    pub(super) reception: Reception,
    outgoing: Outgoing,
    /// Whether it was there before its current request: the server may have closed it meanwhile.
    pub(super) kept: bool,
}

impl Connection {
    /// Around a connected stream.
    pub(super) fn new(stream: Stream, parser: ResponseParser, reception: Reception) -> Self {
        Self { stream, parser, reception, outgoing: Outgoing::default(), kept: false }
    }

    /// Forget the last request; the next is one of `phase`, whose bytes `render` makes: how many these are.
    pub(super) fn reset(&mut self, phase: &Phase, render: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.parser.reset();
        self.reception.reset(phase);
        render(self.outgoing.anew());
        self.outgoing.len()
    }

    /// The node at its other end.
    pub(super) fn node(&self) -> u16 {
        self.reception.node()
    }

    /// Write what the socket takes at once, without a task of its own; the rest follows in [`Self::exchange`].
    pub(super) fn write_now(&mut self, stamps: &mut Stamps) {
        stamps.sent = now_ns();
        self.outgoing.write_now(&mut self.stream);
    }

    /// Write the request (the rest of it) and take the first read of its answer: how it ended, if that was all of it.
    /// Where it doesn't go at once, more reads than the first may be taken, or none yet.
    pub(super) async fn exchange(&mut self, aids: &Aids<'_>, stamps: &mut Stamps) -> Option<Result<Ended, Broken>> {
        if stamps.sent == UNSET {
            stamps.sent = now_ns();
        }
        let ended = std::future::poll_fn(|cx| {
            if let Some(verdict) = aids.flight.verdict() {
                return Poll::Ready(Some(Err(Broken::Verdict(verdict))));
            }
            aids.flight.wake_by(cx.waker());
            if !self.outgoing.is_gone() && !self.outgoing.poll_send(&mut self.stream, cx) {
                return Poll::Ready(None);
            }
            self.poll_hear(cx, aids, stamps)
        })
        .await;
        match ended {
            None if !self.outgoing.is_gone() => {
                std::future::poll_fn(|cx| self.poll_send_and_hear(cx, aids, stamps)).await
            }
            ended => ended,
        }
    }

    /// Send the rest as it is taken, and hear what is said meanwhile: how the answer ended, if it did before all was sent.
    ///
    /// A server may answer before it has the whole request. Where it refuses it the rest stays here, for it may never take
    /// that; the connection is then of no use but for the answer (RFC 9112, sections 9.3 and 9.5).
    #[cold]
    fn poll_send_and_hear(
        &mut self,
        cx: &mut Context<'_>,
        aids: &Aids<'_>,
        stamps: &mut Stamps,
    ) -> Poll<Option<Result<Ended, Broken>>> {
        if let Some(verdict) = aids.flight.verdict() {
            return Poll::Ready(Some(Err(Broken::Verdict(verdict))));
        }
        aids.flight.wake_by(cx.waker());
        loop {
            // Before each write: one to a server that has answered and closed may make the system forget the answer.
            let heard = self.poll_hear(cx, aids, stamps);
            if let Poll::Ready(Some(ended)) = heard {
                return Poll::Ready(Some(ended.map(|_| Ended::Closing)));
            }
            if self.reception.answer.is_refusal() {
                self.outgoing.give_up();
            }
            let unsent = self.outgoing.unsent();
            if self.outgoing.poll_send(&mut self.stream, cx) {
                return Poll::Ready(None);
            }
            if self.outgoing.unsent() < unsent {
                aids.flight.taken(now_ns());
            }
            if heard.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// How many bytes of the request the connection hasn't taken.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.unsent()
    }

    /// Read once and take what that brought: how the answer ended, if it has.
    #[inline(always)] // into `exchange`, for which it is as good as written there
    fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        aids: &Aids<'_>,
        stamps: &mut Stamps,
    ) -> Poll<Option<Result<Ended, Broken>>> {
        let mut buffer = aids.buffer.borrow_mut();
        let read = self.poll_read(cx, &mut buffer[..READ_BYTES]);
        read.map(|read| self.take(read.map(|bytes| &buffer[..bytes]), now_ns(), aids, stamps))
    }

    /// Read from the socket: how many bytes there were, 0 at its end.
    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, window: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut window = ReadBuf::new(window);
        Pin::new(&mut self.stream).poll_read(cx, &mut window).map_ok(|()| window.filled().len())
    }

    /// Take what a read at `now` brought: how the answer ended, if it has.
    pub(super) fn take(
        &mut self,
        read: io::Result<&[u8]>,
        now: u64,
        aids: &Aids<'_>,
        stamps: &mut Stamps,
    ) -> Option<Result<Ended, Broken>> {
        let progress = match read {
            // TLS that ends without its goodbye is an end like any other: the framing knows whether it came too early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.parser.eof(&mut self.reception.answer),
            Err(error) => Err(self.reception.answer.cut(Fault::from_io(&error))),
            Ok([]) => self.parser.eof(&mut self.reception.answer),
            Ok(bytes) => self.heard(bytes, now, aids, stamps),
        };
        let ended = match progress {
            Ok(Progress::More) => return None,
            Ok(Progress::Done { reusable: true }) => Ok(Ended::Reusable),
            Ok(_) => Ok(Ended::Closing),
            Err(fault) => Err(Broken::Fault(fault)),
        };
        stamps.done = now;
        Some(ended)
    }

    /// One read of the socket, all of it stamped `now`.
    fn heard(&mut self, bytes: &[u8], now: u64, aids: &Aids<'_>, stamps: &mut Stamps) -> Result<Progress, Fault> {
        self.reception.heard(bytes.len(), now, aids, stamps);
        let progress = self.parser.feed(bytes, &mut self.reception.answer);
        self.reception.stamp(now, aids, stamps);
        progress
    }
}
