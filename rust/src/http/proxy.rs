//! An HTTP proxy on the way: CONNECT for encrypted targets, credentials for both kinds.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::addresses::connect_fault;
use super::base64::base64;
use super::connect::ConnectConfigError;
use super::head::{check_start, end_of_head, parse};
use super::target::Url;
use super::{Fault, Limits, Secrets};
use crate::record::{Detail, Failure};

/// Bytes of a proxy's answer to CONNECT.
const ANSWER_BYTES: usize = 16 << 10;

/// A proxy, as its URL names it.
pub(super) struct Proxy {
    name: String,
    port: u16,
    userinfo: Option<String>,
    authorization: Option<String>,
}

impl Proxy {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectConfigError> {
        let url = Url::parse(url).map_err(|e| ConnectConfigError::Proxy(e.to_string()))?;
        if url.tls {
            return Err(ConnectConfigError::Proxy("it is reached by http://; https:// to a proxy isn't spoken".into()));
        }
        let authorization = url.userinfo.as_ref().map(|userinfo| format!("Basic {}", base64(userinfo.as_bytes())));
        Ok(Self { name: url.name, port: url.port, userinfo: url.userinfo, authorization })
    }

    pub(super) fn address(&self) -> (String, u16) {
        (self.name.clone(), self.port)
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    pub(super) fn secrets(&self) -> Secrets {
        let password =
            self.userinfo.as_deref().and_then(|u| u.split_once(':')).map(|(_, password)| password.to_owned());
        let blob = self.userinfo.as_deref().map(|u| base64(u.as_bytes()));
        Secrets::new(self.userinfo.clone().into_iter().chain(password).chain(blob))
    }

    /// Ask for a tunnel to `authority` (`host:port`) on a fresh connection (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(&self, tcp: &mut TcpStream, authority: &str) -> Result<(), Fault> {
        let credentials =
            self.authorization.as_ref().map(|v| format!("Proxy-Authorization: {v}\r\n")).unwrap_or_default();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n");
        let broken = |e: std::io::Error| connect_fault(&e, "proxy");
        tcp.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::with_capacity(512);
        loop {
            // The server speaks first in no protocol that is tunnelled here, so nothing but the head can come.
            if tcp.read_buf(&mut answer).await.map_err(broken)? == 0 {
                let text = "the proxy closed the connection without an answer";
                return Err(Fault::new(Failure::Connect, Detail::EarlyEnd, text));
            }
            check_start(&answer).map_err(of_the_proxy)?;
            if let Ok(end) = end_of_head(&answer, 0) {
                let parsed = parse(&answer[..end], &Limits::default()).map_err(of_the_proxy)?;
                let status = parsed.head.status;
                return match status {
                    200..=299 => Ok(()),
                    407 => Err(refused("the proxy wants other credentials (407)".into())),
                    _ => Err(refused(format!("the proxy refused the tunnel to {authority} with status {status}"))),
                };
            }
            if answer.len() > ANSWER_BYTES {
                return Err(refused(format!("the proxy's answer is longer than {ANSWER_BYTES} bytes")));
            }
        }
    }
}

fn refused(text: String) -> Fault {
    Fault::new(Failure::Connect, Detail::Refused, text)
}

/// A proxy that breaks HTTP's rules is a connection that could not be made.
fn of_the_proxy(fault: Fault) -> Fault {
    Fault::new(Failure::Connect, fault.detail, format!("proxy: {}", fault.text))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::{Connector, RequestTemplate, Target, TlsOptions};
    use std::time::Duration;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Ask a proxy that answers with `answer` for a tunnel: what it was asked, and what came of it.
    fn tunnel_through(answer: &'static [u8]) -> (String, Result<(), Fault>) {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://me:canary@{}", listener.local_addr().unwrap());
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            server.write_all(answer).await.unwrap();
            server.shutdown().await.unwrap();
            let outcome = Proxy::parse(&url).unwrap().tunnel(&mut client, "h:443").await;
            drop(client);
            let mut asked = String::new();
            // What the client did not read makes its close a reset; what it sent is here all the same.
            let _ = server.read_to_string(&mut asked).await;
            (asked, outcome)
        })
    }

    #[test]
    fn a_tunnel_is_asked_for_with_credentials() {
        let (asked, outcome) = tunnel_through(b"HTTP/1.1 200 Connection established\r\n\r\n");
        assert_eq!(asked, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nProxy-Authorization: Basic bWU6Y2FuYXJ5\r\n\r\n");
        assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn a_refused_tunnel_is_a_failed_connection() {
        for (answer, detail) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], Detail::Refused),
            (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", Detail::Refused),
            (b"SSH-2.0-x\r\n", Detail::BadHead),
            (b"HTTP/1.1 200", Detail::EarlyEnd),
            (b"", Detail::EarlyEnd),
        ] {
            let fault = tunnel_through(answer).1.unwrap_err();
            assert_eq!((fault.failure, fault.detail), (Failure::Connect, detail), "{}", fault.text);
            assert!(!fault.text.contains("canary"));
        }
    }

    #[test]
    fn plain_requests_name_the_whole_url_to_the_proxy() {
        let target = Target::parse("http://api.example/v1", "/v1/chat/completions", false).unwrap();
        let proxy = Some("http://me:canary@127.0.0.1:3128");
        let connector = Connector::new(&target, &TlsOptions::default().into(), proxy, Duration::from_secs(1)).unwrap();
        let template = RequestTemplate::new(&target, &[], None, true).unwrap().through(&connector);
        let mut out = Vec::new();
        template.render(&[b"{}"], &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with(
                "POST http://api.example/v1/chat/completions HTTP/1.1\r\n\
                 Proxy-Authorization: Basic bWU6Y2FuYXJ5\r\nHost: api.example\r\n"
            ),
            "{text}"
        );
        assert_eq!(template.secrets().redact("bWU6Y2FuYXJ5 canary"), "[redacted] [redacted]");
    }

    #[test]
    fn proxies_that_cannot_be_used_are_refused() {
        assert!(matches!(Proxy::parse("https://h"), Err(ConnectConfigError::Proxy(_))));
        assert!(matches!(Proxy::parse("h:3128"), Err(ConnectConfigError::Proxy(_))));
    }
}
