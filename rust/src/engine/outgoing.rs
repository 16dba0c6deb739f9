//! A request's bytes on their way out: what the socket takes at once, and the rest as it takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use crate::http::Stream;

/// The bytes of one request after the other, over one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    state: State,
}

/// How far a request is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Going,
    /// The socket has all of it: TLS holds back what it was given.
    Gone,
    /// No more of it is sent.
    GivenUp,
}

impl Outgoing {
    /// Forget the last request: where the next one's bytes go.
    pub(super) fn anew(&mut self) -> &mut Vec<u8> {
        self.written = 0;
        self.state = State::Going;
        self.bytes.clear();
        &mut self.bytes
    }

    /// How many bytes the request has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many of them the connection has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether nothing of it is left here.
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Send no more of it.
    pub(super) fn give_up(&mut self) {
        self.state = State::GivenUp;
    }

    /// Write what `stream` takes at once, without a task of its own; the rest follows in [`Self::poll_send`].
    pub(super) fn write_now(&mut self, stream: &mut Stream) {
        // A failed or partial write shows again in `poll_send`, which knows what to make of it.
        if let Poll::Ready(Ok(n)) = self.poll_write(stream, &mut Context::from_waker(Waker::noop())) {
            self.written += n;
        }
    }

    /// Send the rest. False while the socket is full, and for good where it breaks or this was given up. A broken pipe is no
    /// verdict: the server may have answered before it closed, so reading decides.
    pub(super) fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> bool {
        if self.state == State::GivenUp {
            return false;
        }
        while self.written < self.bytes.len() {
            match self.poll_write(stream, cx) {
                Poll::Ready(Ok(n)) if n > 0 => self.written += n,
                Poll::Ready(_) => {
                    self.give_up();
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        // TLS may hold bytes back, and sends them only when it is asked to; plain sockets make this free.
        if Pin::new(stream).poll_flush(cx).is_ready() {
            self.state = State::Gone;
        }
        self.is_gone()
    }

    fn poll_write(&self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_write(cx, &self.bytes[self.written..])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::ServerConfig;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::PrivateKeyDer;
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::http::{Connector, Target, TlsOptions};

    /// Long enough for any machine; a test that reaches it has failed.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a server reads at a time.
    const SIP: usize = 16 << 10;

    fn server() -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap()))
    }

    #[test]
    fn tls_is_asked_for_what_it_holds_back_until_the_socket_has_it_all() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::parse(&format!("https://{}", listener.local_addr().unwrap()), "/v1", false).unwrap();
            let tls = TlsOptions { insecure: true, ..TlsOptions::default() };
            let connector = Connector::new(&target, &tls.into(), None, PATIENCE).unwrap();
            let serving = tokio::spawn(async move {
                let mut stream = server().accept(listener.accept().await.unwrap().0).await.unwrap();
                let mut sip = vec![0; SIP];
                // The socket is full whenever this side has more than a few sips to send.
                while let Ok(read) = stream.read(&mut sip).await {
                    stream.write_all(&(read as u32).to_be_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut stream = connector.connect().await.unwrap();
            let Stream::Tls(tls) = &stream else { panic!("not TLS") };
            SockRef::from(tls.get_ref().0).set_send_buffer_size(2 * SIP).unwrap();
            let mut outgoing = Outgoing::default();
            // Sizes that end anywhere between what a socket takes at once and what TLS takes on top.
            for step in 0..40 {
                let size = 20 * SIP + step * SIP / 4;
                outgoing.anew().resize(size, 1);
                outgoing.write_now(&mut stream);
                let sent = std::future::poll_fn(|cx| {
                    if outgoing.is_gone() || outgoing.poll_send(&mut stream, cx) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                });
                timeout(PATIENCE, sent).await.expect("all of it leaves");
                let mut arrived = 0;
                while arrived < size {
                    let more = timeout(PATIENCE, stream.read_u32()).await.expect("all of it arrives");
                    arrived += more.unwrap() as usize;
                }
            }
            drop(stream);
            serving.await.unwrap();
        });
    }
}
