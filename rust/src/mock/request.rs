//! Reading requests: HTTP/1.x heads and bodies out of whatever bytes have come, bounded and strict.

use memchr::memmem;

/// Longest head, and longest trailers, that are read.
const MAX_HEAD: usize = 256 * 1024;
/// Longest line of a chunk's size that is read, extensions and all.
const MAX_CHUNK_LINE: usize = 1024;
/// Longest body that is read.
pub(super) const MAX_BODY: usize = 256 * 1024 * 1024;

/// A request's method, as far as the mock cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Other,
}

/// What of a request's head the mock needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub method: Method,
    /// Path and query as they came.
    pub target: String,
    /// HTTP/1.0 knows no chunks.
    pub http10: bool,
    pub keep_alive: bool,
    pub bearer: Option<String>,
    pub request_id: Option<Box<str>>,
    /// `x-mock-fault`: faults for this request alone.
    pub fault: Option<String>,
    length: usize,
    chunked: bool,
    expects: bool,
}

/// A whole request: its head, and where its body lies in the buffer that was parsed.
#[derive(Debug)]
pub(super) struct Request {
    pub head: Head,
    pub body: Vec<u8>,
}

/// Why bytes are no request; `status` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: u16,
    pub why: &'static str,
}

const fn refused(status: u16, why: &'static str) -> Refused {
    Refused { status, why }
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(super) enum Parsed {
    /// More bytes are needed.
    More,
    /// More bytes are needed, and the client waits for `100 Continue` before it sends them.
    Continue,
    /// A request; this many bytes of the buffer were its own.
    Request(Request, usize),
}

/// The state of reading one request; fresh again after each.
#[derive(Debug, Default)]
pub(super) struct Parser {
    scanned: usize,
    head: Option<(Head, usize)>,
    /// Where in the buffer the next chunk of a chunked body starts, and the body so far.
    chunk_at: usize,
    body: Vec<u8>,
}

impl Parser {
    /// Read on; `buf` holds every byte since the request's first.
    pub(super) fn parse(&mut self, buf: &[u8]) -> Result<Parsed, Refused> {
        let mut fresh = false;
        if self.head.is_none() {
            let from = self.scanned.saturating_sub(3);
            let Some(end) = memmem::find(&buf[from..], b"\r\n\r\n") else {
                self.scanned = buf.len();
                return if buf.len() > MAX_HEAD { Err(refused(431, "head too long")) } else { Ok(Parsed::More) };
            };
            let end = from + end + 4;
            // However it comes: what is refused in pieces is refused as a whole.
            if end > MAX_HEAD {
                return Err(refused(431, "head too long"));
            }
            self.head = Some((parse_head(&buf[..end - 4])?, end));
            self.chunk_at = end;
            fresh = true;
        }
        let Some((head, start)) = &self.head else { return Ok(Parsed::More) };
        let (expects, start) = (fresh && head.expects, *start);
        let end = if head.chunked { self.chunks(buf)? } else { plain_body(buf, start, head.length) };
        match (end, self.head.take()) {
            (Some(end), Some((head, _))) => {
                let body = if head.chunked { std::mem::take(&mut self.body) } else { buf[start..end].to_vec() };
                *self = Self::default();
                Ok(Parsed::Request(Request { head, body }, end))
            }
            (_, head) => {
                self.head = head;
                Ok(if expects { Parsed::Continue } else { Parsed::More })
            }
        }
    }

    /// Decode the chunks that are whole; the end of the body once its last chunk and trailers are there.
    fn chunks(&mut self, buf: &[u8]) -> Result<Option<usize>, Refused> {
        loop {
            let rest = &buf[self.chunk_at..];
            let Some(line) = memmem::find(rest, b"\r\n") else {
                return if rest.len() > MAX_CHUNK_LINE { Err(refused(400, "chunk size too long")) } else { Ok(None) };
            };
            if line >= MAX_CHUNK_LINE {
                return Err(refused(400, "chunk size too long"));
            }
            let size = chunk_size(&rest[..line]).ok_or(refused(400, "chunk size is no hexadecimal number"))?;
            if size > MAX_BODY || self.body.len() + size > MAX_BODY {
                return Err(refused(413, "body too long"));
            }
            let data = line + 2;
            if size == 0 {
                return Ok(trailers_end(&rest[line..])?.map(|end| self.chunk_at + line + end));
            }
            if rest.len() < data + size + 2 {
                return Ok(None);
            }
            if &rest[data + size..data + size + 2] != b"\r\n" {
                return Err(refused(400, "chunk without its line end"));
            }
            self.body.extend_from_slice(&rest[data..data + size]);
            self.chunk_at += data + size + 2;
        }
    }
}

/// The end of a body of known length, once it is there.
fn plain_body(buf: &[u8], start: usize, length: usize) -> Option<usize> {
    let end = start + length;
    (buf.len() >= end).then_some(end)
}

/// `rest` starts at the line end of the last chunk's size; an empty line ends the trailers.
fn trailers_end(rest: &[u8]) -> Result<Option<usize>, Refused> {
    let end = memmem::find(rest, b"\r\n\r\n").map(|at| at + 4);
    if end.unwrap_or(rest.len()) > MAX_HEAD { Err(refused(431, "trailers too long")) } else { Ok(end) }
}

/// The size that a chunk's first line says, extensions left out. A sign is none of its digits.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    usize::from_str_radix(digits, 16).ok()
}

fn parse_head(bytes: &[u8]) -> Result<Head, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| refused(400, "head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(refused(400, "no request line"));
    };
    let http10 = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(refused(505, "not HTTP/1.x")),
    };
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        _ => Method::Other,
    };
    let mut head = Head {
        method,
        target: target.to_owned(),
        http10,
        keep_alive: !http10,
        bearer: None,
        request_id: None,
        fault: None,
        length: 0,
        chunked: false,
        expects: false,
    };
    let mut has_length = false;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(refused(400, "header without a colon"))?;
        if name.is_empty() || name.ends_with([' ', '\t']) || name.starts_with([' ', '\t']) {
            return Err(refused(400, "header name with a space"));
        }
        let length = head.length;
        let is_length = head.take(name, value.trim_matches([' ', '\t']))?;
        if has_length && is_length && head.length != length {
            return Err(refused(400, "two lengths"));
        }
        has_length |= is_length;
    }
    if head.chunked && has_length {
        return Err(refused(400, "both a length and chunks"));
    }
    Ok(head)
}

impl Head {
    /// Take what a header says; true for a length.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Refused> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            self.length = value.parse().ok().filter(|_| digits).ok_or(refused(400, "content-length is no number"))?;
            if self.length > MAX_BODY {
                return Err(refused(413, "body too long"));
            }
            return Ok(true);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(refused(501, "only chunked is understood"));
            }
            self.chunked = true;
        } else if is("connection") {
            for word in value.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    self.keep_alive = false;
                } else if word.eq_ignore_ascii_case("keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if is("expect") {
            self.expects = value.eq_ignore_ascii_case("100-continue");
        } else if is("authorization") {
            let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
            self.bearer = scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
        } else if is("x-request-id") {
            self.request_id = Some(value.into());
        } else if is("x-mock-fault") {
            self.fault = Some(value.to_owned());
        }
        Ok(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feed the bytes one by one, and then all at once: both must give the same.
    fn read(bytes: &[u8]) -> Result<(Request, usize, usize), Refused> {
        let mut parser = Parser::default();
        let mut continues = 0;
        let mut one_by_one = None;
        for n in 1..=bytes.len() {
            match parser.parse(&bytes[..n])? {
                Parsed::More => {}
                Parsed::Continue => continues += 1,
                Parsed::Request(request, used) => {
                    one_by_one = Some((request, used, continues));
                    break;
                }
            }
        }
        let one_by_one = one_by_one.expect("a whole request");
        match Parser::default().parse(bytes)? {
            Parsed::Request(request, used) => {
                assert_eq!((&request.head, &request.body), (&one_by_one.0.head, &one_by_one.0.body));
                assert_eq!(used, one_by_one.1);
            }
            other => panic!("{other:?}"),
        }
        Ok(one_by_one)
    }

    #[test]
    fn a_request_with_a_length_is_read_however_it_comes() {
        let bytes = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-Request-Id:  r7 \r\n\
            Authorization: Bearer k\r\n\r\n{  }GET";
        let (request, used, continues) = read(bytes).unwrap();
        assert_eq!(request.body, b"{  }");
        assert_eq!(request.head.target, "/v1/chat/completions");
        assert_eq!(request.head.request_id.as_deref(), Some("r7"));
        assert_eq!(request.head.bearer.as_deref(), Some("k"));
        assert!(request.head.keep_alive && !request.head.http10);
        assert_eq!((used, continues), (bytes.len() - 3, 0));
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n\
            3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
        let (request, used, continues) = read(bytes).unwrap();
        assert_eq!(request.body, b"abc0123456789");
        assert_eq!((used, continues), (bytes.len(), 1));
        let bare = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(read(bare).unwrap().1, bare.len());
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_right_status() {
        let cases: [(&[u8], u16); 11] = [
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ];
        for (bytes, status) in cases {
            let got = Parser::default().parse(bytes).unwrap_err();
            assert_eq!(got.status, status, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(Parser::default().parse(&vec![b'a'; MAX_HEAD + 1]).unwrap_err().status, 431);
    }

    /// Every request on a connection that brings these pieces, and why it ended, if it was refused.
    fn read_all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(Head, Vec<u8>)>, Option<Refused>) {
        let (mut parser, mut buf, mut requests) = (Parser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            loop {
                match parser.parse(&buf) {
                    Ok(Parsed::Request(Request { head, body }, used)) => {
                        requests.push((head, body));
                        buf.drain(..used);
                    }
                    Ok(Parsed::More | Parsed::Continue) => break,
                    Err(why) => return (requests, Some(why)),
                }
            }
        }
        (requests, None)
    }

    #[test]
    fn what_is_too_long_is_refused_whether_it_comes_in_pieces_or_at_once() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = "x".repeat(MAX_HEAD);
        let cases = [
            (format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"), 431),
            (format!("{head}1;{}\r\na\r\n0\r\n\r\n", &long[..MAX_CHUNK_LINE]), 400),
            (format!("{head}0\r\nt: {long}\r\n\r\n"), 431),
        ];
        for (bytes, status) in cases {
            let bytes = bytes.as_bytes();
            for size in [bytes.len(), 100_000, 1_000] {
                let (requests, refused) = read_all(bytes.chunks(size));
                assert_eq!((requests.len(), refused.map(|why| why.status)), (0, Some(status)), "pieces of {size}");
            }
        }
    }

    /// A request, and the body that it has.
    fn some_request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let body = prop::collection::vec(any::<u8>(), 0..40);
        (body, prop::option::of(1usize..9), any::<bool>()).prop_map(|(body, chunk, closes)| {
            let connection = if closes { "connection: close\r\n" } else { "" };
            let Some(size) = chunk else {
                let head = format!("POST /a HTTP/1.1\r\n{connection}content-length: {}\r\n\r\n", body.len());
                return ([head.as_bytes(), &body].concat(), body);
            };
            let head = format!("POST /a HTTP/1.1\r\n{connection}transfer-encoding: chunked\r\n\r\n");
            let chunks =
                body.chunks(size).flat_map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
            (head.bytes().chain(chunks).chain(*b"0\r\n\r\n").collect(), body)
        })
    }

    /// Bytes that are nearly requests.
    fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(vec![
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n",
            "content-length: 3\r\n",
            "transfer-encoding: chunked\r\n",
            "\r\n",
            "\r\n\r\n",
            "expect: 100-continue\r\n",
            "3\r\nabc\r\n",
            "0\r\n",
            "connection: close\r\n",
            ":",
            "\n",
            "f;",
            "abc",
            "-1",
        ]);
        let part = prop_oneof![8 => parts.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 1..4)];
        prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn pipelined_requests_are_read_one_after_the_other_however_they_come(
            requests in prop::collection::vec(some_request(), 1..6),
            size in 1usize..200,
        ) {
            let bytes = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>();
            let (read, refused) = read_all(bytes.chunks(size));
            prop_assert_eq!(refused, None);
            let bodies: Vec<_> = read.into_iter().map(|(_, body)| body).collect();
            prop_assert_eq!(bodies, requests.into_iter().map(|(_, body)| body).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic_and_how_they_come_changes_nothing(bytes in nearly_requests(), size in 1usize..60) {
            let whole = read_all(std::iter::once(&bytes[..]));
            prop_assert_eq!(read_all(bytes.chunks(size)), whole);
        }
    }
}
