//! The request's head, rendered once per run; per request only its length and its body are added.

use http::{HeaderName, HeaderValue};

use super::base64::base64;
use super::{Connector, Secrets, Target, TargetError};

/// Fields whose meaning is the engine's own: a user's value would contradict the body or the connection's handling.
const RESERVED: [&str; 8] =
    ["content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "keep-alive"];

/// Everything of a request but its body.
#[derive(Clone)]
pub struct RequestTemplate {
    /// From `Host:` up to and with `Content-Length: `.
    fields: Vec<u8>,
    /// The request line, and above all of it the fields: what goes before the length.
    head: Vec<u8>,
    path: String,
    h2: http::request::Parts,
    secrets: Secrets,
}

impl RequestTemplate {
    /// Render the head: the engine's own fields, overridden by `headers` of the same name; then the rest of `headers`.
    ///
    /// Credentials, the first of these that is there: an Authorization among `headers`, `api_key` as a bearer token,
    /// the URL's userinfo as Basic.
    pub fn new(
        target: &Target,
        headers: &[(String, String)],
        api_key: Option<&str>,
        streamed: bool,
    ) -> Result<Self, TargetError> {
        let fields = all_fields(target, headers, api_key, streamed)?;
        let mut rendered = Vec::with_capacity(512);
        for (name, value) in &fields {
            rendered.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        rendered.extend_from_slice(b"Content-Length: ");
        let mut template = Self {
            fields: rendered,
            head: Vec::new(),
            path: target.path().to_owned(),
            h2: h2_parts(target, &fields)?,
            secrets: secrets(target, headers, api_key),
        };
        template.begin_with("", "");
        Ok(template)
    }

    /// The same, as the connector's proxy wants it: with the absolute form of the URL and the proxy's credentials where
    /// a plain request passes through one; unchanged otherwise.
    pub fn through(mut self, connector: &Connector) -> Self {
        if let Some((origin, authorization)) = connector.forward_proxy() {
            self.begin_with(
                &origin,
                &authorization.map(|v| format!("Proxy-Authorization: {v}\r\n")).unwrap_or_default(),
            );
        }
        self.secrets = self.secrets.and(connector.secrets());
        self
    }

    /// Append a whole request to `out`: the head with its length, then the pieces of the body. One write sends it.
    pub fn render(&self, body: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(length);
        out.reserve(self.head.len() + digits.len() + 4 + length);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        for piece in body {
            out.extend_from_slice(piece);
        }
    }

    /// The same request for HTTP/2, with a body of `length` bytes.
    pub fn h2_request(&self, length: usize) -> http::Request<()> {
        let mut parts = self.h2.clone();
        parts.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        http::Request::from_parts(parts, ())
    }

    /// What must be taken out of any text that a server may have echoed it into.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Put the request line, and fields that are the proxy's, before the fields.
    fn begin_with(&mut self, origin: &str, fields: &str) {
        self.head = format!("POST {origin}{} HTTP/1.1\r\n{fields}", self.path).into_bytes();
        self.head.extend_from_slice(&self.fields);
    }
}

/// Names and values in the order in which they are sent.
fn all_fields(
    target: &Target,
    headers: &[(String, String)],
    api_key: Option<&str>,
    streamed: bool,
) -> Result<Vec<(String, String)>, TargetError> {
    for (name, value) in headers {
        check(name, value)?;
    }
    let accept = if streamed { "text/event-stream, application/json" } else { "application/json" };
    let authorization = match (api_key, target.userinfo()) {
        (Some(key), _) => {
            HeaderValue::from_str(key).map_err(|_| TargetError::Key)?;
            Some(format!("Bearer {key}"))
        }
        (None, Some(userinfo)) => Some(format!("Basic {}", base64(userinfo.as_bytes()))),
        (None, None) => None,
    };
    let own = [
        ("Host", Some(target.authority().to_owned())),
        ("User-Agent", Some(concat!("loadgen/", env!("CARGO_PKG_VERSION")).to_owned())),
        ("Accept", Some(accept.to_owned())),
        ("Accept-Encoding", Some("identity".to_owned())),
        ("Authorization", authorization),
        ("Content-Type", Some("application/json".to_owned())),
    ];
    let overridden = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut fields: Vec<(String, String)> =
        own.into_iter().filter(|(name, _)| !overridden(name)).filter_map(|(n, v)| Some((n.to_owned(), v?))).collect();
    fields.extend(headers.iter().map(|(name, value)| (name.clone(), value.trim().to_owned())));
    Ok(fields)
}

fn check(name: &str, value: &str) -> Result<(), TargetError> {
    let shown = || super::excerpt(name.as_bytes(), 40);
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(TargetError::Reserved(shown()));
    }
    let fits = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value.trim()).is_ok();
    if fits { Ok(()) } else { Err(TargetError::Header(shown())) }
}

/// The pseudo-header fields and fields of HTTP/2; Host is the authority there (RFC 9113, section 8.3.1).
fn h2_parts(target: &Target, fields: &[(String, String)]) -> Result<http::request::Parts, TargetError> {
    let host = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let authority = host.map_or(target.authority(), |(_, value)| value);
    let scheme = if target.is_tls() { "https" } else { "http" };
    let mut request =
        http::Request::post(format!("{scheme}://{authority}{}", target.path())).version(http::Version::HTTP_2);
    for (name, value) in fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        let mut value = HeaderValue::from_str(value).map_err(|_| TargetError::Header(name.clone()))?;
        value.set_sensitive(name.eq_ignore_ascii_case("authorization"));
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|_| TargetError::Host(super::excerpt(authority.as_bytes(), 40)))?;
    Ok(request.into_parts().0)
}

/// The credentials of the run and every header value a user gave, whole and without its scheme word.
fn secrets(target: &Target, headers: &[(String, String)], api_key: Option<&str>) -> Secrets {
    let mut words: Vec<String> = api_key.map(str::to_owned).into_iter().collect();
    for (_, value) in headers {
        let value = value.trim();
        words.push(value.to_owned());
        words.extend(value.split_once(' ').map(|(_, token)| token.trim().to_owned()));
    }
    if let Some(userinfo) = target.userinfo() {
        words.push(userinfo.to_owned());
        words.push(base64(userinfo.as_bytes()));
        words.extend(userinfo.split_once(':').map(|(_, password)| password.to_owned()));
    }
    let query = target.path().split_once('?').map_or("", |(_, query)| query);
    words.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
    Secrets::new(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url, "/v1/chat/completions", false).unwrap()
    }

    fn rendered(url: &str, headers: &[(&str, &str)], key: Option<&str>) -> String {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let template = RequestTemplate::new(&target(url), &headers, key, true).unwrap();
        let mut out = Vec::new();
        template.render(&[b"{\"a\":", b"1}"], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_one_piece_of_bytes() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            rendered("http://127.0.0.1:8000", &[], Some("sk-1")),
            format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: loadgen/{version}\r\n\
                 Accept: text/event-stream, application/json\r\nAccept-Encoding: identity\r\n\
                 Authorization: Bearer sk-1\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}"
            )
        );
    }

    #[test]
    fn render_appends() {
        let template = RequestTemplate::new(&target("http://h"), &[], None, false).unwrap();
        let mut out = b"before".to_vec();
        template.render(&[], &mut out);
        assert!(out.starts_with(b"beforePOST ") && out.ends_with(b"Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_users_header_replaces_ours() {
        let text =
            rendered("http://user:pw@h", &[("authorization", "Token t"), ("HOST", "other"), ("X-A", " b ")], Some("k"));
        assert!(text.contains("authorization: Token t\r\n") && !text.contains("Bearer") && !text.contains("Basic"));
        assert!(text.contains("HOST: other\r\n") && !text.contains("Host: h"));
        assert!(text.contains("X-A: b\r\n"));
        assert!(rendered("http://user:pass@h", &[], None).contains("Authorization: Basic dXNlcjpwYXNz\r\n"));
    }

    #[test]
    fn nothing_can_be_smuggled_into_the_head() {
        for (name, value) in
            [("X", "a\r\nY: b"), ("X\r\nY", "b"), ("X", "a\0"), ("X:", "b"), ("", "b"), ("X Y", "b"), ("X", "a\nb")]
        {
            let headers = [(name.to_owned(), value.to_owned())];
            let error = RequestTemplate::new(&target("http://h"), &headers, None, true).err().unwrap();
            assert!(matches!(error, TargetError::Header(_)), "{name:?}: {value:?}");
        }
        let error = RequestTemplate::new(&target("http://h"), &[], Some("sk-canary\n"), true).err().unwrap();
        assert_eq!(error, TargetError::Key);
        let reserved = [("content-LENGTH".to_owned(), "5".to_owned())];
        let error = RequestTemplate::new(&target("http://h"), &reserved, None, true).err().unwrap();
        assert_eq!(error, TargetError::Reserved("content-LENGTH".into()));
    }

    #[test]
    fn http2_gets_the_same_fields() {
        let headers = [("X-A".to_owned(), "b".to_owned())];
        let template = RequestTemplate::new(&target("http://h:81/v1?q=1"), &headers, Some("sk-1"), true).unwrap();
        let request = template.h2_request(2);
        assert_eq!(request.uri().to_string(), "http://h:81/v1/chat/completions?q=1");
        assert_eq!(
            (&request.headers()["x-a"], &request.headers()["content-length"]),
            (&HeaderValue::from_static("b"), &HeaderValue::from(2))
        );
        assert!(request.headers()["authorization"].is_sensitive() && !request.headers().contains_key("host"));
    }

    #[test]
    fn secrets_of_every_kind_are_known() {
        let headers = [("X-Token".to_owned(), "Key canary-2".to_owned())];
        let target = target("http://me:canary-3@h/v1?key=canary-4");
        let template = RequestTemplate::new(&target, &headers, Some("canary-1"), true).unwrap();
        let echoed = "canary-1 canary-2 canary-3 canary-4 bWU6Y2FuYXJ5LTM=";
        let clean = template.secrets().redact(echoed).into_owned();
        assert!(!clean.contains("canary") && !clean.contains("bWU6"), "{clean}");
    }
}
