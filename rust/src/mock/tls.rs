//! TLS in front of a mock: a thread that takes the encryption off and passes the bytes on, faults included.
//!
//! The mock behind it stays what it is; its `/truth` tells of the inner connection, one hop later than the client's.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::config::Tls;

/// Why TLS could not be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file that cannot be read.
    #[error("{path:?}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A certificate and a key that do not belong together, or cannot be used.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// Authorities that no client's certificate can come from.
    #[error("client_ca: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// The running front. It ends with [`Front::stop`], or when it is dropped.
#[derive(Debug)]
pub(super) struct Front {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Serve TLS on `listener` for the mock at `inner`.
    pub(super) fn start(config: &Tls, listener: std::net::TcpListener, inner: SocketAddr) -> Result<Self, StartError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(config)?));
        let relay = Relay { acceptor, inner, close_notify: !config.no_close_notify };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mock-tls".to_owned()).spawn(move || {
            runtime.block_on(async {
                let accepting = tokio::spawn(relay.accept(listener));
                // An error is a `Front` that was dropped: as good as being told.
                let _ = stopped.await;
                accepting.abort();
            });
            // Dropping the runtime drops every connection.
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Close everything and wait for the thread.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        // If nobody listens any more the thread has ended.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| io::Error::other("the TLS thread panicked"))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`.
        let _ = self.stop();
    }
}

/// Why the front could not be started.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn server_config(config: &Tls) -> Result<ServerConfig, TlsError> {
    let at = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&config.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(at(&config.cert))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(at(&config.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(at(path))? {
                roots.add(certificate.map_err(at(path))?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// What a connection needs.
#[derive(Clone)]
struct Relay {
    acceptor: TlsAcceptor,
    inner: SocketAddr,
    close_notify: bool,
}

impl Relay {
    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    tokio::spawn(self.clone().serve(socket));
                }
                // No descriptor left, or a client that is gone already: worth another try, but not without end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// One connection from its handshake to its end. Errors end it; there is nobody to tell but the client.
    async fn serve(self, socket: TcpStream) {
        let raw = SockRef::from(&socket).try_clone();
        let Ok(raw) = raw else { return };
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let Ok(outer) = self.acceptor.accept(socket).await else { return };
        let Ok(inner) = TcpStream::connect(self.inner).await else { return };
        if inner.set_nodelay(true).is_err() {
            return;
        }
        let (from_client, mut to_client) = tokio::io::split(outer);
        let (from_mock, to_mock) = inner.into_split();
        let up = tokio::spawn(pass(from_client, to_mock));
        match pass(from_mock, &mut to_client).await {
            Ok(()) if self.close_notify => {
                // It fails when the client is gone: just as well.
                let _ = to_client.shutdown().await;
            }
            Ok(()) => {}
            // The mock reset its side: so does the front.
            Err(_) => {
                let _ = SockRef::from(&raw).set_linger(Some(Duration::ZERO));
            }
        }
        up.abort();
        // Its end of the connection is dropped with it.
        let _ = up.await;
    }
}

/// Pass bytes on until they end.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}
