//! HTTP/2: many requests at once on one connection, each answer handed on frame by frame with the moment it came.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Fault, Head, Limits, Stream};
use crate::clock::now_ns;
use crate::record::{Detail, Failure};
use crate::sync::{Arc, AtomicU64, Ordering};

/// Bytes a server may send ahead on one stream: more than any answer's pace needs.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// The h2 crate takes many small DATA frames for an attack and closes the connection at 25,600 bytes of overhead that
/// are not read yet; tokens *are* small frames, of many streams at once.
const SMALL_FRAMES_BUDGET: usize = 64 << 20;

/// A part of an answer.
#[derive(Clone, Copy, Debug)]
pub enum H2Part<'a> {
    /// The final head.
    Head(Head<'a>),
    /// One DATA frame's bytes; never empty.
    Data(&'a [u8]),
}

/// A connection over which HTTP/2 is spoken. Its exchanges share it and run side by side on one thread.
pub struct H2Connection {
    sender: SendRequest<Bytes>,
    limits: Limits,
    reads: Reads,
    open: Rc<Cell<usize>>,
}

impl H2Connection {
    /// Agree on HTTP/2 over a fresh stream: h2 where ALPN chose it, prior knowledge without TLS.
    ///
    /// It is done when the server's settings have come, since they bound the number of streams. Needs a runtime of
    /// tokio, which then drives the connection until its last exchange and this handle are gone.
    pub async fn handshake(stream: Stream, limits: Limits) -> Result<Self, Fault> {
        if matches!(stream, Stream::Tls(_)) && stream.alpn() != Some(b"h2") {
            let text = "the server does not speak HTTP/2 here (it chose no protocol by ALPN)";
            return Err(Fault::new(Failure::Tls, Detail::None, text));
        }
        let reads = Reads::default();
        let stamped = Stamped { stream, reads: reads.clone() };
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_FRAMES_BUDGET)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .handshake(stamped)
            .await
            .map_err(|error| no_settings(&error))?;
        std::future::poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(no_settings(&error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(Fault::body(Detail::EarlyEnd, "it was closed at its start"))),
            // The first frame of a server is its settings (RFC 9113, section 3.4).
            Poll::Pending if reads.last_ns() != 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        tokio::spawn(async move {
            // Each exchange is told of the connection's failure by itself; an idle connection has nobody to tell.
            let _ = connection.await;
        });
        Ok(Self { sender, limits, reads, open: Rc::default() })
    }

    /// Whether another exchange can begin at once: the server allows as many streams, and nothing has closed.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.open.get() < self.sender.current_max_send_streams()
    }

    /// Whether the server allows no streams on it as its settings stand, as it may for a time (RFC 9113, section 6.5.2).
    pub fn allows_none(&self) -> bool {
        self.is_open() && self.sender.current_max_send_streams() == 0
    }

    /// Whether nothing has closed the connection, as far as is known.
    pub fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        !matches!(sender.poll_ready(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Send a request and hand every part of the answer to `on`, with the clock of the socket read that brought it.
    ///
    /// Without room the request waits until the server allows another stream. Dropping the future resets the stream; so
    /// does a fault from `on`, which ends the exchange. The connection stays usable after either.
    pub async fn exchange<F>(&self, request: Request<()>, body: Vec<u8>, on: &mut F) -> Result<(), Fault>
    where
        F: FnMut(H2Part<'_>, u64) -> Result<(), Fault>,
    {
        let _counted = Counted::new(&self.open);
        let fault = |error: h2::Error| fault_of(&error);
        let mut sender = self.sender.clone().ready().await.map_err(fault)?;
        let (response, mut upload) = sender.send_request(request, body.is_empty()).map_err(fault)?;
        let body = Bytes::from(body);
        if !body.is_empty() {
            upload.send_data(body.clone(), true).map_err(fault)?;
        }
        let ended = self.answer(response, on).await;
        if !body.is_empty() && !body.is_unique() {
            // It was answered before all of it was sent: what is left would hold its stream, of which the server allows only so
            // many, until the server takes that, which may be never.
            upload.send_reset(h2::Reason::CANCEL);
        }
        ended
    }

    /// Hand every part of the answer to `on`.
    async fn answer<F>(&self, response: ResponseFuture, on: &mut F) -> Result<(), Fault>
    where
        F: FnMut(H2Part<'_>, u64) -> Result<(), Fault>,
    {
        let fault = |error: h2::Error| fault_of(&error);
        let (head, mut download) = response.await.map_err(fault)?.into_parts();
        let fields = self.fields(&head.headers)?;
        on(H2Part::Head(Head::new(head.status.as_u16(), false, &fields)), self.reads.last_ns())?;
        let mut received = 0_u64;
        while let Some(data) = download.data().await {
            let data = data.map_err(fault)?;
            received += data.len() as u64;
            if received > self.limits.body_bytes {
                let text = format!("more than {} bytes", self.limits.body_bytes);
                return Err(Fault::protocol(Detail::BodyTooBig, text));
            }
            download.flow_control().release_capacity(data.len()).map_err(fault)?;
            if !data.is_empty() {
                on(H2Part::Data(&data), self.reads.last_ns())?;
            }
        }
        // Trailers say nothing that is recorded, but a reset in their place must not pass for an end.
        download.trailers().await.map_err(fault)?;
        Ok(())
    }

    /// The header fields as lines, in which a head looks its names up.
    fn fields(&self, headers: &HeaderMap) -> Result<Vec<u8>, Fault> {
        if headers.len() > self.limits.headers {
            let text = format!("more than {} header fields", self.limits.headers);
            return Err(Fault::protocol(Detail::HeadTooBig, text));
        }
        let mut lines = Vec::with_capacity(256);
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        Ok(lines)
    }
}

/// A connection that failed before the server's settings came: often HTTP/1.1 is what it speaks.
fn no_settings(error: &h2::Error) -> Fault {
    let Fault { failure, detail, text } = fault_of(error);
    Fault::new(failure, detail, format!("{text} (does the server speak HTTP/2 here?)"))
}

/// Counts an exchange for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// When the connection's socket was last read; 0 before that.
///
/// An exchange runs right after the driver has read all there was, so this is the moment its frame came, or, of a burst
/// of reads, the last one's.
#[derive(Clone, Default)]
struct Reads(Arc<AtomicU64>);

impl Reads {
    fn last_ns(&self) -> u64 {
        // Relaxed, pairs with the store in `note`: driver and exchanges are tasks of one thread, atomic only because
        // the runtime asks that what it drives could move.
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self) {
        // Relaxed, pairs with the load in `last_ns`.
        self.0.store(now_ns(), Ordering::Relaxed);
    }
}

/// A stream that notes when it was read.
struct Stamped {
    stream: Stream,
    reads: Reads,
}

impl AsyncRead for Stamped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.reads.note();
        }
        polled
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What the peer did, or what it got wrong.
fn fault_of(error: &h2::Error) -> Fault {
    match error.get_io() {
        // The h2 crate's word for a connection that ended while a stream was open.
        Some(io) if io.kind() == io::ErrorKind::BrokenPipe => return Fault::body(Detail::EarlyEnd, io.to_string()),
        Some(io) => return Fault::from_io(io),
        None => {}
    }
    let text = super::excerpt(error.to_string().as_bytes(), 200);
    if error.is_library() {
        // Found by this side: what came is not HTTP/2, or breaks its rules.
        return Fault::protocol(Detail::BadHead, format!("HTTP/2: {text}"));
    }
    Fault::body(Detail::H2Reset, text)
}

#[cfg(test)]
mod tests;
