//! The mock server behind TLS.

use std::sync::Arc;

use super::*;

/// A directory with a self-signed certificate for `localhost`, and the client that trusts it.
struct Tls {
    dir: tempfile::TempDir,
    client: Arc<rustls::ClientConfig>,
}

impl Tls {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth());
        Self { dir, client }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn config(&self, more: Value) -> String {
        let mut tls = json!({"cert": self.file("cert.pem"), "key": self.file("key.pem")});
        tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"host": "localhost", "tls": tls, "faults": [{"name": "reset_at_midstream", "every": 2}]}).to_string()
    }

    /// Ask for a stream and read until the end, or the error.
    fn ask(&self, server: &loadgen::mock::Server) -> (String, std::io::Result<usize>) {
        let address = server.url().strip_prefix("https://").expect("https");
        let tcp = TcpStream::connect(address).unwrap();
        let name = "localhost".try_into().unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        let body = with(json!({"stream": true})).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut text = Vec::new();
        let ended = stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut text));
        (String::from_utf8(text).unwrap(), ended)
    }
}

#[test]
fn tls_passes_answers_and_resets_on_and_says_goodbye() {
    let tls = Tls::new();
    let server = server(&tls.config(json!({})));
    let (text, ended) = tls.ask(&server);
    assert!(!text.ends_with("0\r\n\r\n") && ended.is_err(), "{ended:?}");
    let (text, ended) = tls.ask(&server);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("0\r\n\r\n"), "{text}");
    // read_to_end fails where close_notify is missing.
    assert_eq!(ended.unwrap(), text.len());
    server.stop().unwrap();
}

#[test]
fn tls_can_end_without_a_goodbye_and_ask_for_the_clients_certificate() {
    let tls = Tls::new();
    let rude = server(&tls.config(json!({"no_close_notify": true})));
    assert!(tls.ask(&rude).1.is_err());
    let (text, ended) = tls.ask(&rude);
    assert!(text.ends_with("0\r\n\r\n"));
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    let strict = server(&tls.config(json!({"client_ca": tls.file("cert.pem")})));
    let (text, ended) = tls.ask(&strict);
    assert!(text.is_empty() && ended.is_err());
    assert_eq!(truth(&strict)["requests"], 0);
}

#[test]
fn bad_tls_files_are_named() {
    let tls = Tls::new();
    let start = |config: String| loadgen::mock::Server::start(loadgen::mock::Config::from_json(&config).unwrap());
    let Err(error) = start(tls.config(json!({"key": tls.file("nowhere.pem")}))) else { panic!("it started") };
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
    let Err(error) = start(tls.config(json!({"cert": tls.file("key.pem")}))) else { panic!("it started") };
    assert!(error.to_string().contains("tls"), "{error}");
}
