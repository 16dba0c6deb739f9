//! TLS by rustls: whom to trust, who we are, and what a failed handshake means.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::ConnectConfigError;
use super::{Fault, Target};
use crate::record::{Detail, Failure};

/// How to speak TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Believe any certificate.
    pub insecure: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub cacert: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file of the client's key.
    pub key: Option<PathBuf>,
}

/// The client's side of TLS, for every server that it is asked for: certificates are read once, and not before.
#[derive(Debug)]
pub struct TlsClient {
    options: TlsOptions,
    config: OnceCell<ClientConfig>,
}

impl From<TlsOptions> for TlsClient {
    fn from(options: TlsOptions) -> Self {
        Self { options, config: OnceCell::new() }
    }
}

impl TlsClient {
    fn config(&self) -> Result<&ClientConfig, ConnectConfigError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let read = self.options.read()?;
        Ok(self.config.get_or_init(|| read))
    }
}

impl TlsOptions {
    /// Read the certificates and build the configuration.
    fn read(&self) -> Result<ClientConfig, ConnectConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| ConnectConfigError::Identity(e.to_string()))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            builder.with_root_certificates(roots(self.cacert.as_deref())?)
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|e| ConnectConfigError::Identity(e.to_string())),
            (None, None) => Ok(builder.with_no_client_auth()),
            _ => Err(ConnectConfigError::HalfIdentity),
        }
    }
}

/// A configured client side of TLS for one server name.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For one target. HTTP/2 is offered, alone, where that wants it.
    pub(super) fn new(target: &Target, client: &TlsClient) -> Result<Self, ConnectConfigError> {
        let host = target.host().split('%').next().unwrap_or_default();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ConnectConfigError::ServerName(target.host().to_owned()))?;
        let mut config = client.config()?.clone();
        config.alpn_protocols = vec![if target.http2() { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn handshake(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        self.connector.connect(self.name.clone(), tcp).await.map_err(|error| handshake_fault(&error))
    }
}

/// The authorities to trust: those of the file, or the system's.
fn roots(cacert: Option<&Path>) -> Result<RootCertStore, ConnectConfigError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = cacert {
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|e| bad_pem(path, e.to_string()))?;
        }
        return Ok(store);
    }
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(ConnectConfigError::Roots(why));
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates = certificates.map_err(|e| bad_pem(path, pem_words(&e, "certificate")))?;
    if certificates.is_empty() { Err(bad_pem(path, "it holds no certificate".into())) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConnectConfigError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| bad_pem(path, pem_words(&e, "private key")))
}

fn bad_pem(path: &Path, reason: String) -> ConnectConfigError {
    ConnectConfigError::Pem { path: path.display().to_string(), reason }
}

/// Words that quote nothing of the file: it may hold a key.
fn pem_words(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => format!("it holds no {wanted}"),
        _ => "it is not valid PEM".to_owned(),
    }
}

fn handshake_fault(error: &io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (detail, text) = match tls {
        Some(rustls::Error::InvalidCertificate(_)) => (Detail::Certificate, error.to_string()),
        Some(rustls::Error::InvalidMessage(_)) => {
            (Detail::None, "the server does not speak TLS on this port: use http://".to_owned())
        }
        Some(other) => (Detail::None, other.to_string()),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof => (Detail::EarlyEnd, "within the TLS handshake".to_owned()),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                (Detail::Reset, "within the TLS handshake".to_owned())
            }
            _ => (Detail::Io, error.to_string()),
        },
    };
    Fault::new(Failure::Tls, detail, text)
}

/// Believes any certificate, because the user said so; signatures are still checked, so the peer has *a* key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::http::Connector;

    /// An authority of the test's own, and a directory for its files.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        dir: TempDir,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            Self { issuer, dir: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, pem: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        }

        fn trusted(&self) -> TlsOptions {
            TlsOptions { cacert: Some(self.write("ca.pem", &self.issuer.pem())), ..TlsOptions::default() }
        }

        fn issue(&self, name: &str, expired: bool) -> (rcgen::Certificate, KeyPair) {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            if expired {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }

        fn server(&self, name: &str, expired: bool, client_ca: bool) -> ServerConfig {
            let (cert, key) = self.issue(name, expired);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap();
            let builder = if client_ca {
                let mut roots = RootCertStore::empty();
                roots.add(self.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            } else {
                builder.with_no_client_auth()
            };
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let mut config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            config
        }
    }

    /// Connect to a server of this configuration on the loopback and read one byte from it.
    fn visit(server: ServerConfig, options: &TlsOptions, http2: bool) -> Result<Option<Vec<u8>>, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
            let target = Target::parse(&url, "/v1/chat/completions", http2).unwrap();
            let connector = Connector::new(&target, &options.clone().into(), None, Duration::from_secs(30)).unwrap();
            let serving = tokio::spawn(async move {
                let acceptor = TlsAcceptor::from(Arc::new(server));
                while let Ok((tcp, _)) = listener.accept().await {
                    if let Ok(mut stream) = acceptor.accept(tcp).await {
                        let _ = stream.write_all(b"x").await;
                        let _ = stream.shutdown().await;
                    }
                }
            });
            let outcome = match connector.connect().await {
                Ok(mut stream) => {
                    let alpn = stream.alpn().map(<[u8]>::to_vec);
                    stream.read_u8().await.map(|_| alpn).map_err(|e| Fault::from_io(&e))
                }
                Err(fault) => Err(fault),
            };
            serving.abort();
            outcome
        })
    }

    #[test]
    fn a_custom_authority_is_trusted_and_the_protocol_agreed() {
        let authority = Authority::new();
        let http1 = visit(authority.server("localhost", false, false), &authority.trusted(), false).unwrap();
        assert_eq!(http1.as_deref(), Some(&b"http/1.1"[..]));
        let http2 = visit(authority.server("localhost", false, false), &authority.trusted(), true).unwrap();
        assert_eq!(http2.as_deref(), Some(&b"h2"[..]));
    }

    #[test]
    fn expired_foreign_and_misnamed_certificates_are_refused_unless_insecure() {
        let (authority, stranger) = (Authority::new(), Authority::new());
        for (server, options) in [
            (authority.server("localhost", true, false), authority.trusted()),
            (authority.server("other.example", false, false), authority.trusted()),
            (authority.server("localhost", false, false), stranger.trusted()),
        ] {
            let fault = visit(server.clone(), &options, false).unwrap_err();
            assert_eq!((fault.failure, fault.detail), (Failure::Tls, Detail::Certificate), "{fault}");
            let insecure = TlsOptions { insecure: true, ..TlsOptions::default() };
            assert!(visit(server, &insecure, false).is_ok());
        }
    }

    #[test]
    fn a_client_certificate_opens_the_door() {
        let authority = Authority::new();
        let (cert, key) = authority.issue("client", false);
        let mut options = authority.trusted();
        let fault = visit(authority.server("localhost", false, true), &options, false).unwrap_err();
        assert_eq!(fault.failure, Failure::Tls, "{fault}");
        options.cert = Some(authority.write("cert.pem", &cert.pem()));
        options.key = Some(authority.write("key.pem", &key.serialize_pem()));
        assert!(visit(authority.server("localhost", false, true), &options, false).is_ok());
    }

    #[test]
    fn a_server_without_tls_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fault = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}", listener.local_addr().unwrap());
            let target = Target::parse(&url, "/v1/chat/completions", false).unwrap();
            let options = TlsOptions { insecure: true, ..TlsOptions::default() };
            let connector = Connector::new(&target, &options.into(), None, Duration::from_secs(30)).unwrap();
            let server = tokio::spawn(async move {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                tcp
            });
            let fault = connector.connect().await;
            drop(server.await.unwrap());
            fault.err().unwrap()
        });
        assert_eq!(fault.failure, Failure::Tls);
        assert!(fault.text.contains("does not speak TLS"), "{fault}");
    }

    #[test]
    fn certificates_are_read_once_for_all_targets_and_not_before_one_is_secure() {
        let authority = Authority::new();
        let options = authority.trusted();
        let path = options.cacert.clone().unwrap();
        let (client, missing) = (TlsClient::from(options.clone()), TlsClient::from(options));
        let connector = |url: &str, client: &TlsClient| {
            let target = Target::parse(url, "/v1/chat/completions", false).unwrap();
            Connector::new(&target, client, None, Duration::from_secs(1)).map(drop)
        };
        connector("https://a", &client).unwrap();
        std::fs::remove_file(path).unwrap();
        connector("https://b", &client).unwrap();
        connector("http://a", &missing).unwrap();
        assert!(connector("https://a", &missing).is_err());
    }

    #[test]
    fn bad_files_are_named_before_anything_is_sent() {
        let authority = Authority::new();
        let target = Target::parse("https://localhost", "/v1/chat/completions", false).unwrap();
        let error = |options: TlsOptions| {
            Connector::new(&target, &options.into(), None, Duration::from_secs(1)).err().unwrap().to_string()
        };
        let missing = TlsOptions { cacert: Some("/nowhere/ca.pem".into()), ..TlsOptions::default() };
        assert!(error(missing).starts_with("/nowhere/ca.pem: "));
        let empty = TlsOptions { cacert: Some(authority.write("empty.pem", "canary")), ..TlsOptions::default() };
        let text = error(empty);
        assert!(text.contains("holds no certificate") && !text.contains("canary"), "{text}");
        let mut half = authority.trusted();
        half.cert = half.cacert.clone();
        assert!(error(half).contains("needs both"));
    }
}
