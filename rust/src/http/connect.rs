//! From a target to an established connection: name, TCP or Unix socket, proxy, TLS, each failure with its type.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::proxy::Proxy;
use super::target::Place;
use super::tls::Tls;
use super::{Fault, H2Connection, Limits, Secrets, Target, TlsClient};
use crate::record::{Detail, Failure};

/// Why connections cannot even be tried.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectConfigError {
    /// A PEM file that cannot be read, or holds nothing of what it is for.
    #[error("{path}: {reason}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("a client certificate needs both: the certificate and its key")]
    HalfIdentity,
    /// The certificate and the key don't fit, or rustls cannot use them.
    #[error("client certificate: {0}")]
    Identity(String),
    /// The system has no certificates to trust.
    #[error("the system's trusted certificates could not be read ({0}); give them as a PEM file (cacert)")]
    Roots(String),
    /// A host that no certificate can be for.
    #[error("`{0}` is not a name that a certificate can be checked against")]
    ServerName(String),
    /// A proxy's URL that is none.
    #[error("proxy: {0}")]
    Proxy(String),
}

/// Makes connections to one target. Cheap to clone: the clones share the resolved addresses and the TLS sessions.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    route: Route,
    tls: Option<Tls>,
    proxy: Option<Proxy>,
    secrets: Secrets,
    /// `host:port` of the target, for CONNECT.
    authority: String,
    timeout: Duration,
}

/// Where the first byte goes: to the target or to its proxy.
enum Route {
    Host { name: String, port: u16, addresses: Mutex<VecDeque<SocketAddr>> },
    Socket(std::path::PathBuf),
}

/// An established connection.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// Prepare connections to `target`, through `proxy` (an `http://` URL) if there is one; certificates are read here, if no target before had them read.
    ///
    /// `connect_timeout` bounds the whole of a connection: name, TCP, proxy and TLS together.
    pub fn new(
        target: &Target,
        tls: &TlsClient,
        proxy: Option<&str>,
        connect_timeout: Duration,
    ) -> Result<Self, ConnectConfigError> {
        let proxy = proxy.map(Proxy::parse).transpose()?;
        let (route, authority) = match (target.place(), &proxy) {
            (Place::Socket(_), Some(_)) => {
                return Err(ConnectConfigError::Proxy("a Unix socket is not reached through a proxy".into()));
            }
            (Place::Socket(path), None) => (Route::Socket(path.clone()), String::new()),
            (Place::Host { name, port }, proxy) => {
                let authority = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
                let (name, port) = proxy.as_ref().map_or((name.clone(), *port), Proxy::address);
                (Route::Host { name, port, addresses: Mutex::default() }, authority)
            }
        };
        let tls = target.is_tls().then(|| Tls::new(target, tls)).transpose()?;
        let secrets = proxy.as_ref().map(Proxy::secrets).unwrap_or_default();
        Ok(Self { shared: Arc::new(Shared { route, tls, proxy, secrets, authority, timeout: connect_timeout }) })
    }

    /// Make a connection that is ready for a request.
    pub async fn connect(&self) -> Result<Stream, Fault> {
        let shared = &*self.shared;
        let deadline = Instant::now() + shared.timeout;
        shared.in_time(deadline, shared.connect(deadline)).await
    }

    /// Make a connection that speaks HTTP/2; its handshake counts as connecting.
    pub async fn connect_http2(&self, limits: Limits) -> Result<H2Connection, Fault> {
        let shared = &*self.shared;
        let deadline = Instant::now() + shared.timeout;
        let connected = async { H2Connection::handshake(shared.connect(deadline).await?, limits).await };
        shared.in_time(deadline, connected).await
    }

    /// Where plain requests must name the whole URL: its origin, and the proxy's credentials.
    pub(super) fn forward_proxy(&self) -> Option<(String, Option<&str>)> {
        let proxy = self.shared.proxy.as_ref().filter(|_| self.shared.tls.is_none())?;
        let authority = self.shared.authority.strip_suffix(":80").unwrap_or(&self.shared.authority);
        Some((format!("http://{authority}"), proxy.authorization()))
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.shared.secrets
    }
}

impl Shared {
    async fn connect(&self, deadline: Instant) -> Result<Stream, Fault> {
        let mut tcp = match &self.route {
            Route::Socket(path) => {
                let unix = UnixStream::connect(path).await;
                return unix.map(Stream::Unix).map_err(|e| connect_fault(&e, &path.display().to_string()));
            }
            Route::Host { name, port, addresses } => {
                let known = addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let fresh = known.is_empty();
                let mut tried = if fresh { resolve(name, *port).await? } else { known };
                let mut connected = first_of(&mut tried, deadline).await;
                let exhausted = connected.as_ref().is_err_and(|fault| fault.detail == Detail::Exhausted);
                if connected.is_err() && !fresh && !exhausted {
                    // All that were known fail: perhaps the name has moved. An exhausted client is no reason to ask.
                    tried = resolve(name, *port).await?;
                    connected = first_of(&mut tried, deadline).await;
                }
                *addresses.lock().unwrap_or_else(PoisonError::into_inner) = tried;
                connected?
            }
        };
        let Some(tls) = &self.tls else { return Ok(Stream::Tcp(tcp)) };
        if let Some(proxy) = &self.proxy {
            proxy.tunnel(&mut tcp, &self.authority).await?;
        }
        Ok(Stream::Tls(Box::new(tls.handshake(tcp).await?)))
    }

    async fn in_time<T>(&self, deadline: Instant, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout_at(deadline, work).await.unwrap_or_else(|_| Err(self.too_slow()))
    }

    fn too_slow(&self) -> Fault {
        let place = match &self.route {
            Route::Socket(path) => path.display().to_string(),
            Route::Host { name, port, .. } => format!("{name}:{port}"),
        };
        let text = format!("no connection to {place} within {:?}", self.timeout);
        Fault::new(Failure::Connect, Detail::ConnectTimeout, text)
    }
}

/// The addresses of a name, in the resolver's order; of an address, itself without asking anyone.
async fn resolve(name: &str, port: u16) -> Result<VecDeque<SocketAddr>, Fault> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(VecDeque::from([SocketAddr::new(ip, port)]));
    }
    let unknown = |why: String| Fault::new(Failure::Connect, Detail::Resolve, format!("{name}: {why}"));
    let found = tokio::net::lookup_host((name, port)).await.map_err(|e| match os_detail(&e) {
        Detail::Exhausted => Fault::new(Failure::Connect, Detail::Exhausted, e.to_string()),
        _ => unknown(e.to_string()),
    })?;
    let found: VecDeque<SocketAddr> = found.collect();
    if found.is_empty() { Err(unknown("it has no address".into())) } else { Ok(found) }
}

/// Connect to the first address that answers, and move it to the front for the next time.
///
/// Each address gets its share of the time left, so that one which swallows packets leaves some for the others.
async fn first_of(addresses: &mut VecDeque<SocketAddr>, deadline: Instant) -> Result<TcpStream, Fault> {
    let mut last = None;
    for i in 0..addresses.len() {
        let now = Instant::now();
        let remaining = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / remaining;
        let address = addresses[i];
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request is one write: waiting to fill a segment could only delay it.
                stream.set_nodelay(true).map_err(|e| connect_fault(&e, &address.to_string()))?;
                addresses.rotate_left(i);
                return Ok(stream);
            }
            Ok(Err(e)) => last = Some(connect_fault(&e, &address.to_string())),
            Err(_) => {
                let text = format!("{address} did not answer");
                last = Some(Fault::new(Failure::Connect, Detail::ConnectTimeout, text));
            }
        }
        if last.as_ref().is_some_and(|fault| fault.detail == Detail::Exhausted) {
            break;
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Failure::Connect, Detail::Resolve, "no address to connect to")))
}

/// The fault of an attempt to connect to `place`.
pub(super) fn connect_fault(error: &io::Error, place: &str) -> Fault {
    Fault::new(Failure::Connect, os_detail(error), format!("{place}: {error}"))
}

fn os_detail(error: &io::Error) -> Detail {
    // No port, descriptor or buffer left on this side: the load is too much for the client, not for the server.
    if let Some(libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE | libc::ENOBUFS) = error.raw_os_error() {
        return Detail::Exhausted;
    }
    match error.kind() {
        // A socket's file that isn't there is a server that doesn't listen.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Detail::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Detail::Reset,
        io::ErrorKind::TimedOut => Detail::ConnectTimeout,
        io::ErrorKind::UnexpectedEof => Detail::EarlyEnd,
        _ => Detail::Io,
    }
}

impl Stream {
    /// The protocol that the server chose by ALPN, if TLS was spoken and it chose one.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Forward one method of the I/O traits to whatever the stream is.
macro_rules! forward {
    ($self:ident, $method:ident($($arg:expr),*)) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($arg),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($arg),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;
    use crate::http::TlsOptions;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn connector(url: &str, timeout: Duration) -> Connector {
        let target = Target::parse(url, "/v1/chat/completions", false).unwrap();
        Connector::new(&target, &TlsOptions::default().into(), None, timeout).unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn tcp_connects_without_delay() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let Stream::Tcp(stream) = connector(&url, LONG).connect().await.unwrap() else { panic!("not TCP") };
            assert!(stream.nodelay().unwrap());
        });
    }

    #[test]
    fn unix_sockets_carry_bytes_both_ways() {
        block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s.sock");
            let connector = connector(&format!("unix:{}", path.display()), LONG);
            let missing = connector.connect().await.err().unwrap();
            assert_eq!((missing.failure, missing.detail), (Failure::Connect, Detail::Refused));
            let listener = UnixListener::bind(&path).unwrap();
            let mut client = connector.connect().await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut got = [0; 4];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ping");
        });
    }

    #[test]
    fn a_closed_port_refuses() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let fault = connector(&format!("http://{address}"), LONG).connect().await.err().unwrap();
            assert_eq!((fault.failure, fault.detail), (Failure::Connect, Detail::Refused));
            assert!(fault.text.contains(&address.to_string()));
        });
    }

    #[test]
    fn a_name_that_does_not_exist_is_named() {
        // A label of 64 letters is one too long: the resolver knows that without asking anybody.
        let name = "x".repeat(64);
        let fault = block_on(connector(&format!("http://{name}"), LONG).connect()).err().unwrap();
        assert_eq!((fault.failure, fault.detail), (Failure::Connect, Detail::Resolve));
        assert!(fault.text.contains(&name));
    }

    #[test]
    fn addresses_are_tried_in_turn_and_the_good_one_comes_first_after() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            let dead = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), good.port());
            let dead6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), good.port());
            let mut addresses = VecDeque::from([dead, dead6, good]);
            let stream = first_of(&mut addresses, Instant::now() + LONG).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert_eq!(addresses, [good, dead, dead6]);
        });
    }

    #[test]
    fn a_name_is_asked_for_again_when_all_its_addresses_fail() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            let connector = connector(&format!("http://{good}"), LONG);
            let Route::Host { addresses, .. } = &connector.shared.route else { panic!("not a host") };
            addresses.lock().unwrap().push_back(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), good.port()));
            connector.connect().await.unwrap();
            assert_eq!(*addresses.lock().unwrap(), [good]);
        });
    }

    #[test]
    fn a_server_that_never_answers_runs_into_the_timeout() {
        block_on(async {
            tokio::time::pause();
            // It accepts, but does not say a word of TLS.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}", listener.local_addr().unwrap());
            let target = Target::parse(&url, "/v1/chat/completions", false).unwrap();
            let tls = TlsOptions { insecure: true, ..TlsOptions::default() };
            let connector = Connector::new(&target, &tls.into(), None, Duration::from_secs(5)).unwrap();
            let fault = connector.connect().await.err().unwrap();
            assert_eq!((fault.failure, fault.detail), (Failure::Connect, Detail::ConnectTimeout));
        });
    }

    #[test]
    fn http2_needs_a_server_that_says_something_in_time() {
        block_on(async {
            tokio::time::pause();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap()), "/v1", true).unwrap();
            let connector =
                Connector::new(&target, &TlsOptions::default().into(), None, Duration::from_secs(5)).unwrap();
            let silent = connector.connect_http2(Limits::default()).await.err().unwrap();
            assert_eq!((silent.failure, silent.detail), (Failure::Connect, Detail::ConnectTimeout));
        });
    }

    #[test]
    fn exhaustion_of_the_client_is_told_from_a_refusal() {
        for code in [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENFILE, libc::ENOBUFS] {
            assert_eq!(os_detail(&io::Error::from_raw_os_error(code)), Detail::Exhausted);
        }
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), Detail::Refused);
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::ETIMEDOUT)), Detail::ConnectTimeout);
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::EHOSTUNREACH)), Detail::Io);
    }
}
