//! From a target to an established connection: name, TCP or Unix socket, proxy, TLS, each failure with its type.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::addresses::{connect_fault, first_of, resolve};
use super::proxy::Proxy;
use super::target::Place;
use super::tls::Tls;
use super::{Fault, H2Connection, Limits, Secrets, Stream, Target, TlsClient};
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

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
}
