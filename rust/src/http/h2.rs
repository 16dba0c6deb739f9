//! HTTP/2: many requests at once on one connection, each answer handed on frame by frame with the moment it came.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
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

    /// Whether nothing has closed the connection, as far as is known.
    pub fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        !matches!(sender.poll_ready(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Exchanges under way.
    pub fn in_flight(&self) -> usize {
        self.open.get()
    }

    /// Send a request and hand every part of the answer to `on`, with the clock of the socket read that brought it.
    ///
    /// Without room the request waits until the server allows another stream. Dropping the future resets the stream; so
    /// does a fault from `on`, which ends the exchange. The connection stays usable after either.
    pub async fn exchange<F>(&self, request: Request<()>, body: Bytes, on: &mut F) -> Result<(), Fault>
    where
        F: FnMut(H2Part<'_>, u64) -> Result<(), Fault>,
    {
        let _counted = Counted::new(&self.open);
        let fault = |error: h2::Error| fault_of(&error);
        let mut sender = self.sender.clone().ready().await.map_err(fault)?;
        let (response, mut upload) = sender.send_request(request, body.is_empty()).map_err(fault)?;
        if !body.is_empty() {
            upload.send_data(body, true).map_err(fault)?;
        }
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
mod tests {
    use std::time::Duration;

    use h2::Reason;
    use h2::server::{self, SendResponse};
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;
    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::endpoint::{Answer, AnswerOptions, Api};
    use crate::http::{RequestTemplate, Sink, Target};

    type Server = server::Connection<UnixStream, Bytes>;

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A bound on a test that hangs, not a measure of anything.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() })
    }

    async fn pair(max_streams: u32) -> (H2Connection, Server) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(max_streams);
        let accepting = tokio::spawn(async move {
            let mut server = builder.handshake(theirs).await.unwrap();
            // Its settings go out when it is first driven.
            std::future::poll_fn(|cx| {
                let _ = server.poll_accept(cx);
                Poll::Ready(())
            })
            .await;
            server
        });
        let client = H2Connection::handshake(Stream::Unix(ours), Limits::default()).await.unwrap();
        (client, accepting.await.unwrap())
    }

    fn request() -> Request<()> {
        let target = Target::parse("http://h", "/v1/chat/completions", true).unwrap();
        RequestTemplate::new(&target, &[], Some("sk-1"), true).unwrap().h2_request(2)
    }

    fn stream_head() -> http::Response<()> {
        http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap()
    }

    const EVENT: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

    /// One exchange into an answer; the stamps of its parts, and what came of it.
    async fn ask(client: &H2Connection) -> (Answer, Vec<u64>, Result<(), Fault>) {
        ask_aloud(client, &Notify::new()).await
    }

    /// The same, telling when data was heard.
    async fn ask_aloud(client: &H2Connection, heard: &Notify) -> (Answer, Vec<u64>, Result<(), Fault>) {
        let (mut answer, mut stamps) = (Answer::new(Api::Chat, AnswerOptions::default()), Vec::new());
        answer.reset(true);
        let outcome = client
            .exchange(request(), Bytes::from_static(b"{}"), &mut |part, at_ns| {
                stamps.push(at_ns);
                match part {
                    H2Part::Head(head) => answer.head(&head),
                    H2Part::Data(data) => {
                        heard.notify_one();
                        answer.data(data)
                    }
                }
            })
            .await;
        (answer, stamps, outcome)
    }

    /// Accept one request and go on driving the connection in the background.
    async fn accept(mut server: Server) -> (Request<h2::RecvStream>, SendResponse<Bytes>) {
        let accepted = server.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        accepted
    }

    #[test]
    fn frames_come_one_by_one_with_their_moments() {
        run(async {
            let (client, server) = pair(10).await;
            let began = now_ns();
            let serving = tokio::spawn(async move {
                let (request, mut respond) = accept(server).await;
                assert_eq!(request.uri().path(), "/v1/chat/completions");
                assert_eq!(request.headers()["authorization"], "Bearer sk-1");
                assert_eq!(request.headers()["content-length"], "2");
                let mut body = request.into_body();
                assert_eq!(body.data().await.unwrap().unwrap(), "{}");
                let mut stream = respond.send_response(stream_head(), false).unwrap();
                for _ in 0..3 {
                    stream.send_data(Bytes::from_static(EVENT), false).unwrap();
                    tokio::task::yield_now().await;
                }
                stream.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true).unwrap();
            });
            let (mut answer, stamps, outcome) = ask(&client).await;
            serving.await.unwrap();
            assert_eq!((outcome, answer.end(), answer.outcome().chunks), (Ok(()), Ok(()), 3));
            assert_eq!(stamps.len(), 5);
            assert!(stamps.windows(2).all(|w| w[0] <= w[1]) && stamps[0] >= began && stamps[4] <= now_ns());
            assert!(client.has_room() && client.in_flight() == 0);
        });
    }

    #[test]
    fn a_reset_stream_keeps_what_came_and_spares_the_connection() {
        run(async {
            let (client, server) = pair(10).await;
            let heard = Arc::new(Notify::new());
            let told = Arc::clone(&heard);
            tokio::spawn(async move {
                let (_request, mut respond) = accept(server).await;
                let mut stream = respond.send_response(stream_head(), false).unwrap();
                stream.send_data(Bytes::from_static(EVENT), false).unwrap();
                // A reset overtakes what was not sent yet.
                told.notified().await;
                stream.send_reset(Reason::INTERNAL_ERROR);
            });
            let (answer, _, outcome) = ask_aloud(&client, &heard).await;
            let fault = outcome.unwrap_err();
            assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::H2Reset), "{fault}");
            assert_eq!(answer.outcome().chunks, 1);
            assert!(client.has_room());
        });
    }

    #[test]
    fn a_connection_that_goes_away_takes_no_more_requests() {
        run(async {
            let (client, mut server) = pair(10).await;
            let serving = tokio::spawn(async move {
                // It has seen no request: the one that is on its way is told that it was not processed.
                server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                while server.accept().await.is_some() {}
            });
            let (answer, _, outcome) = ask(&client).await;
            let fault = outcome.unwrap_err();
            assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::H2Reset), "{fault}");
            assert_eq!(answer.outcome().status, 0);
            serving.await.unwrap();
            assert!(ask(&client).await.2.is_err());
            assert!(!client.is_open() && !client.has_room());
        });
    }

    #[test]
    fn the_servers_limit_on_streams_is_known_and_kept() {
        run(async {
            let (client, mut server) = pair(2).await;
            assert!(client.has_room());
            let (release, released) = oneshot::channel::<()>();
            let serving = tokio::spawn(async move {
                let mut held = Vec::new();
                for _ in 0..2 {
                    held.push(server.accept().await.unwrap().unwrap());
                }
                released.await.unwrap();
                for (_, mut respond) in held {
                    respond.send_response(stream_head(), true).unwrap();
                }
                let (_, mut respond) = server.accept().await.unwrap().unwrap();
                respond.send_response(stream_head(), true).unwrap();
                while server.accept().await.is_some() {}
            });
            let mut exchanges: Vec<Pin<Box<dyn Future<Output = _>>>> = Vec::new();
            for _ in 0..3 {
                exchanges.push(Box::pin(ask(&client)));
            }
            // Start all three; the server answers none yet.
            std::future::poll_fn(|cx| {
                assert!(exchanges.iter_mut().all(|exchange| exchange.as_mut().poll(cx).is_pending()));
                Poll::Ready(())
            })
            .await;
            assert!(client.in_flight() == 3 && !client.has_room());
            release.send(()).unwrap();
            for exchange in exchanges {
                assert_eq!(exchange.await.2, Ok(()));
            }
            assert!(client.has_room());
            drop(client);
            serving.await.unwrap();
        });
    }

    #[test]
    fn an_exchange_that_is_dropped_resets_its_stream() {
        run(async {
            let (client, server) = pair(10).await;
            let (told, mut respond) = {
                let mut exchange = Box::pin(ask(&client));
                let accepting = tokio::spawn(accept(server));
                // Drive the exchange until the server has it.
                let mut accepting = Box::pin(accepting);
                std::future::poll_fn(|cx| {
                    assert!(exchange.as_mut().poll(cx).is_pending());
                    accepting.as_mut().poll(cx).map(Result::unwrap)
                })
                .await
            };
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!((reason, client.in_flight()), (Reason::CANCEL, 0));
            drop(told);
        });
    }

    #[test]
    fn a_server_of_another_protocol_fails_the_handshake() {
        run(async {
            for (says, failure) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Failure::Protocol), (b"", Failure::Body)]
            {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                theirs.write_all(says).await.unwrap();
                theirs.shutdown().await.unwrap();
                let fault = H2Connection::handshake(Stream::Unix(ours), Limits::default()).await.err().unwrap();
                assert_eq!(fault.failure, failure, "{fault}");
            }
        });
    }

    #[test]
    fn a_connection_that_ends_in_the_middle_is_an_early_end() {
        run(async {
            let (client, server) = pair(10).await;
            let heard = Arc::new(Notify::new());
            let told = Arc::clone(&heard);
            tokio::spawn(async move {
                let mut server = server;
                let (_request, mut respond) = server.accept().await.unwrap().unwrap();
                let mut stream = respond.send_response(stream_head(), false).unwrap();
                stream.send_data(Bytes::from_static(EVENT), false).unwrap();
                // Drive the connection until the frame was heard, then drop the socket under it.
                let mut told = std::pin::pin!(told.notified());
                std::future::poll_fn(|cx| {
                    let _ = server.poll_accept(cx);
                    told.as_mut().poll(cx)
                })
                .await;
            });
            let (answer, _, outcome) = ask_aloud(&client, &heard).await;
            let fault = outcome.unwrap_err();
            assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::EarlyEnd), "{fault}");
            assert_eq!(answer.outcome().chunks, 1);
        });
    }

    #[test]
    fn thousands_of_small_frames_are_no_attack() {
        run(async {
            let (client, server) = pair(10).await;
            tokio::spawn(async move {
                let (_request, mut respond) = accept(server).await;
                let mut stream = respond.send_response(stream_head(), false).unwrap();
                for _ in 0..5000 {
                    stream.send_data(Bytes::from_static(EVENT), false).unwrap();
                }
                stream.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true).unwrap();
            });
            let (mut answer, _, outcome) = ask(&client).await;
            assert_eq!((outcome, answer.end(), answer.outcome().chunks), (Ok(()), Ok(()), 5000));
        });
    }
}
