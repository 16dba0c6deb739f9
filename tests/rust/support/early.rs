//! A server that answers a request as soon as it has its head, over TCP or TLS, of which a test says what it does with the body.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What its socket holds of what it hasn't read: far less than a test sends.
const HELD_BYTES: usize = 64 << 10;

/// What a slow reader takes at a time, and in all.
const SIP: usize = 16;
const SIPS: usize = (1 << 20) / SIP;

/// What it does once it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read nothing more, and keep the connection.
    Holds,
    /// Close with all of the body unread, which resets the connection.
    Closes,
    /// Say no more, and read a mebibyte of the body, a sip at a time.
    Sips,
    /// Read the body, say this as well, and wait for the next request.
    Goes(&'static [u8]),
}

/// Listens on a free port of loopback until the test's process ends.
pub struct EarlyServer {
    pub url: String,
    pub connections: Arc<AtomicUsize>,
    /// Bytes of bodies that were read to their end.
    pub taken: Arc<AtomicUsize>,
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl EarlyServer {
    /// To each head it says `first`, and goes on as in `then`.
    pub fn new(tls: bool, first: &'static [u8], then: Then) -> Self {
        let (sender, address) = std::sync::mpsc::channel::<SocketAddr>();
        let (connections, taken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (seen, read) = (Arc::clone(&connections), Arc::clone(&taken));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                SockRef::from(&listener).set_recv_buffer_size(HELD_BYTES).unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let acceptor = tls.then(acceptor);
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    seen.fetch_add(1, Ordering::SeqCst);
                    let (acceptor, read) = (acceptor.clone(), Arc::clone(&read));
                    tokio::spawn(async move {
                        let wire: Box<dyn Wire> = match acceptor {
                            Some(acceptor) => Box::new(acceptor.accept(stream).await.unwrap()),
                            None => Box::new(stream),
                        };
                        serve(wire, first, then, &read).await;
                    });
                }
            });
        });
        let scheme = if tls { "https" } else { "http" };
        Self { url: format!("{scheme}://{}", address.recv().unwrap()), connections, taken }
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap()))
}

async fn serve(mut wire: Box<dyn Wire>, first: &[u8], then: Then, taken: &AtomicUsize) {
    while let Some((length, had)) = head(&mut wire).await {
        wire.write_all(first).await.unwrap();
        wire.flush().await.unwrap();
        match then {
            Then::Holds => std::future::pending().await,
            // Over TLS it says goodbye; where the client was faster than that it has said its own.
            Then::Closes => drop(wire.shutdown().await),
            Then::Sips => {
                for _ in 0..SIPS {
                    if !matches!(wire.read(&mut [0; SIP]).await, Ok(1..)) {
                        return;
                    }
                }
                std::future::pending().await
            }
            Then::Goes(last) => {
                let mut body = (&mut wire).take((length - had) as u64);
                let rest = tokio::io::copy(&mut body, &mut tokio::io::sink()).await.unwrap();
                taken.fetch_add(had + rest as usize, Ordering::SeqCst);
                wire.write_all(last).await.unwrap();
                wire.flush().await.unwrap();
                continue;
            }
        }
        return;
    }
}

/// Read a head: how long its body is, and how much of that came with it. Nothing where the client has gone.
async fn head(wire: &mut Box<dyn Wire>) -> Option<(usize, usize)> {
    let mut bytes = Vec::new();
    loop {
        if wire.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
            return Some((length, bytes.len() - end - 4));
        }
    }
}
