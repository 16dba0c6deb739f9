//! Where requests go: a URL, the API's path on it, and the credentials in it, which are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a URL or a header cannot be used. No message holds a credential.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// Neither `http://` nor `https://` nor `unix:`.
    #[error("the URL must begin with http://, https:// or unix:, not with `{0}`")]
    Scheme(String),
    /// No host, or one that cannot be one.
    #[error("`{0}` is not a host name or an address")]
    Host(String),
    /// A port that is no port.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// A character in the path that has no place there.
    #[error("the URL's path holds a character that must be percent-encoded: {0:?}")]
    Path(char),
    /// `unix:` without a path.
    #[error("unix: needs the path of a socket, as in unix:/run/server.sock")]
    Socket,
    /// A header that would break the request.
    #[error("header `{0}`: its name or value holds a character that is not allowed there")]
    Header(String),
    /// A header that the engine itself has to set.
    #[error("header `{0}` is set by loadgen itself and can't be given")]
    Reserved(String),
    /// A key that would break the request.
    #[error("the API key holds a character that is not allowed in a header (a line break at its end?)")]
    Key,
}

/// Where the other end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host and a port; IPv6 addresses without brackets.
    Host { name: String, port: u16 },
    /// A Unix socket.
    Socket(PathBuf),
}

/// The parts of `scheme://user:password@host:port/path?query`.
pub(super) struct Url {
    pub tls: bool,
    pub userinfo: Option<String>,
    pub name: String,
    pub port: u16,
    /// With its query; empty, or begins with `/` or `?`.
    pub path: String,
}

/// The endpoint that requests go to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    place: Place,
    tls: bool,
    http2: bool,
    path: String,
    authority: String,
    userinfo: Option<String>,
}

impl Target {
    /// The target of `url` for the API at `api_path` (`/v1/chat/completions`).
    ///
    /// A URL that ends in `/v1` gets what follows it in `api_path`, one that names the endpoint stays as it is, and any
    /// other is a base to which `api_path` is appended. A query is kept, a fragment is not.
    pub fn parse(url: &str, api_path: &str, http2: bool) -> Result<Self, TargetError> {
        if let Some(socket) = url.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket);
            if socket.is_empty() || socket.contains('\0') {
                return Err(TargetError::Socket);
            }
            return Ok(Self {
                place: Place::Socket(PathBuf::from(socket)),
                tls: false,
                http2,
                path: api_path.to_owned(),
                authority: "localhost".to_owned(),
                userinfo: None,
            });
        }
        let url = Url::parse(url)?;
        let authority = url.authority();
        Ok(Self {
            path: full_path(&url.path, api_path),
            place: Place::Host { name: url.name, port: url.port },
            tls: url.tls,
            http2,
            authority,
            userinfo: url.userinfo,
        })
    }

    /// This target of the API at `from`, for the one at `to`: only the path's end differs.
    pub fn with_api(&self, from: &str, to: &str) -> Self {
        let (path, query) = self.path.split_at(self.path.find('?').unwrap_or(self.path.len()));
        let base = path.strip_suffix(after_v1(from)).unwrap_or(path);
        let path = match (from.starts_with("/v1"), to.starts_with("/v1")) {
            (true, true) => format!("{base}{}{query}", after_v1(to)),
            // Only OpenAI's paths begin with a version: one of Ollama's takes the place of all of it.
            (true, false) => format!("{}{to}{query}", base.strip_suffix("/v1").unwrap_or(base)),
            (false, _) => format!("{base}{to}{query}"),
        };
        Self { path, ..self.clone() }
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether HTTP/2 is spoken: by ALPN over TLS, with prior knowledge otherwise.
    pub fn http2(&self) -> bool {
        self.http2
    }

    /// The host's name or address, without brackets; `localhost` for a socket.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Host { name, .. } => name,
            Place::Socket(_) => "localhost",
        }
    }

    /// The port; `None` for a socket.
    pub fn port(&self) -> Option<u16> {
        match &self.place {
            Place::Host { port, .. } => Some(*port),
            Place::Socket(_) => None,
        }
    }

    /// The Unix socket's path.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Host { .. } => None,
            Place::Socket(path) => Some(path),
        }
    }

    /// What the request line asks for: path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the Host header says: the port only if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// `user:password`, decoded.
    pub(super) fn userinfo(&self) -> Option<&str> {
        self.userinfo.as_deref()
    }
}

/// The address as a person may see it: no userinfo, and no query, since some services take their key there.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        match &self.place {
            Place::Socket(socket) => write!(f, "unix:{} {path}", socket.display()),
            Place::Host { .. } => {
                write!(f, "{}://{}{path}", if self.tls { "https" } else { "http" }, self.authority)
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl Url {
    /// Take an `http` or `https` URL apart (RFC 3986).
    pub(super) fn parse(url: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| TargetError::Scheme(beginning(url)))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(TargetError::Scheme(beginning(scheme))),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(TargetError::Path(bad));
        }
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(percent_decoded(userinfo)), host),
            None => (None, authority),
        };
        let (name, port) = host_and_port(host)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, userinfo: userinfo.filter(|u| !u.is_empty()), name, port, path: path.to_owned() })
    }

    /// Host, and port where it is not the scheme's own; the zone of an IPv6 address stays at home (RFC 6874).
    pub(super) fn authority(&self) -> String {
        let bare = self.name.split('%').next().unwrap_or_default();
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// What a person needs to see of a wrong URL to know it, without what may be a password.
fn beginning(url: &str) -> String {
    let safe = url.rsplit_once('@').map_or(url, |(_, host)| host);
    super::excerpt(safe.as_bytes(), 40)
}

fn host_and_port(host: &str) -> Result<(String, Option<u16>), TargetError> {
    let bad = || TargetError::Host(beginning(host));
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (literal, rest) = rest.split_once(']').ok_or_else(bad)?;
        let (address, zone) = literal.split_once('%').map_or((literal, None), |(a, z)| (a, Some(z)));
        address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
        let zone = zone.map(|z| format!("%{}", z.strip_prefix("25").unwrap_or(z))).unwrap_or_default();
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) };
        (format!("{address}{zone}"), port)
    } else {
        let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(fits) {
            return Err(bad());
        }
        (name.to_ascii_lowercase(), port)
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return Err(TargetError::Port(beginning(digits))),
        },
    };
    Ok((name, port))
}

/// The base-URL rule; see [`Target::parse`].
fn full_path(given: &str, api_path: &str) -> String {
    let (path, query) = given.split_at(given.find('?').unwrap_or(given.len()));
    let path = path.trim_end_matches('/');
    let after_v1 = after_v1(api_path);
    if path.ends_with(after_v1) {
        format!("{path}{query}")
    } else if let Some(base) = path.strip_suffix("/v1") {
        // What isn't OpenAI's has no version: its path takes that one's place.
        format!("{base}{api_path}{query}")
    } else {
        format!("{path}{api_path}{query}")
    }
}

/// The part of an API's path that every base URL lacks.
fn after_v1(api_path: &str) -> &str {
    api_path.strip_prefix("/v1").unwrap_or(api_path)
}

/// Percent-decoding; what is not a valid escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while i < bytes.len() {
        let decoded = match (bytes[i], bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex))
        {
            (b'%', Some(high), Some(low)) => Some(high << 4 | low),
            _ => None,
        };
        out.push(decoded.unwrap_or(bytes[i]));
        i += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn parse(url: &str) -> Target {
        Target::parse(url, CHAT, false).unwrap()
    }

    #[test]
    fn the_path_of_the_api_is_appended_unless_it_is_there() {
        for (url, path) in [
            ("http://h", "/v1/chat/completions"),
            ("http://h/", "/v1/chat/completions"),
            ("http://h/v1", "/v1/chat/completions"),
            ("http://h/v1/", "/v1/chat/completions"),
            ("http://h/openai", "/openai/v1/chat/completions"),
            ("http://h/openai/v1", "/openai/v1/chat/completions"),
            ("http://h/v1/chat/completions", "/v1/chat/completions"),
            ("http://h/x/chat/completions?api-version=2", "/x/chat/completions?api-version=2"),
            ("http://h?a=b", "/v1/chat/completions?a=b"),
            ("http://h/v1#frag", "/v1/chat/completions"),
        ] {
            assert_eq!(parse(url).path(), path, "{url}");
        }
    }

    #[test]
    fn one_base_leads_to_every_api() {
        const OLLAMA: &str = "/api/chat";
        for base in ["http://h/x", "http://h/x/v1"] {
            assert_eq!(Target::parse(base, OLLAMA, false).unwrap().path(), "/x/api/chat", "{base}");
            let [openai, ollama] = [CHAT, OLLAMA].map(|api| Target::parse(base, api, false).unwrap());
            assert_eq!(openai.with_api(CHAT, OLLAMA).path(), "/x/api/chat", "{base}");
            assert_eq!(openai.with_api(CHAT, "/v1/embeddings").path(), "/x/v1/embeddings", "{base}");
            assert_eq!(ollama.with_api(OLLAMA, CHAT).path(), "/x/v1/chat/completions", "{base}");
            assert_eq!(ollama.with_api(OLLAMA, "/api/embed").path(), "/x/api/embed", "{base}");
        }
        let own = parse("http://h/x/chat/completions?key=1");
        assert_eq!(own.with_api(CHAT, "/v1/completions").path(), "/x/completions?key=1");
    }

    #[test]
    fn hosts_ports_and_literals() {
        for (url, host, port, authority) in [
            ("http://Example.com", "example.com", 80, "example.com"),
            ("https://example.com", "example.com", 443, "example.com"),
            ("https://example.com:80", "example.com", 80, "example.com:80"),
            ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000"),
            ("http://[::1]:8000", "::1", 8000, "[::1]:8000"),
            ("http://[fe80::1%25eth0]", "fe80::1%eth0", 80, "[fe80::1]"),
            ("HTTP://h:", "h", 80, "h"),
        ] {
            let target = parse(url);
            assert_eq!((target.host(), target.port(), target.authority()), (host, Some(port), authority), "{url}");
        }
        assert!(parse("https://h").is_tls() && !parse("http://h").is_tls());
    }

    #[test]
    fn unix_sockets() {
        for url in ["unix:/run/x.sock", "unix:///run/x.sock"] {
            let target = parse(url);
            assert_eq!(target.socket(), Some(Path::new("/run/x.sock")));
            assert_eq!((target.authority(), target.path()), ("localhost", CHAT));
            assert_eq!(target.to_string(), "unix:/run/x.sock /v1/chat/completions");
        }
    }

    #[test]
    fn what_cannot_be_a_target_is_named() {
        for (url, wanted) in [
            ("127.0.0.1:8000", "must begin with http://"),
            ("ftp://h", "must begin with http://"),
            ("http://", "is not a host"),
            ("http://ho st", "is not a host"),
            ("http://h\u{e9}", "is not a host"),
            ("http://[::1", "is not a host"),
            ("http://[::g]", "is not a host"),
            ("http://[::1]x", "is not a host"),
            ("http://h:0", "is not a port"),
            ("http://h:65536", "is not a port"),
            ("http://h:+80", "is not a port"),
            ("http://h/a b", "percent-encoded"),
            ("http://h/a\r\nX: y", "percent-encoded"),
            ("unix:", "needs the path"),
        ] {
            let error = Target::parse(url, CHAT, false).unwrap_err().to_string();
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }

    #[test]
    fn credentials_are_kept_but_never_shown() {
        let target = parse("https://us%40er:p%3Aw@h/v1?key=canary");
        assert_eq!(target.userinfo(), Some("us@er:p:w"));
        for shown in [target.to_string(), format!("{target:?}")] {
            assert_eq!(shown.trim_start_matches("Target(").trim_end_matches(')'), "https://h/v1/chat/completions");
        }
        for url in ["https://me:canary@h:x", "ftp//me:canary@h", "https://me:canary@", "me:canary@h://x"] {
            let error = Target::parse(url, CHAT, false).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{url}: {error:?}");
        }
    }
}
