//! The head of an answer: status line, header fields, and what they say of the body's framing (RFC 9112).

use memchr::memchr;

use super::{Fault, Limits, excerpt};
use crate::record::Detail;

/// The final head of an answer, as a [`super::Sink`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The status code, 200 to 999.
    pub status: u16,
    /// The body ends where the connection does: nothing else proves it complete.
    pub close_delimited: bool,
    fields: &'a [u8],
}

impl<'a> Head<'a> {
    /// A head from lines `name: value\r\n` that are known to be well formed.
    pub(crate) fn new(status: u16, close_delimited: bool, fields: &'a [u8]) -> Self {
        Self { status, close_delimited, fields }
    }

    /// The value of the first field of this name, whatever its case; white space around it is gone.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        Lines(self.fields).find_map(|line| {
            let (field, rest) = line.split_at_checked(name.len())?;
            (rest.first() == Some(&b':') && field.eq_ignore_ascii_case(name.as_bytes())).then(|| rest[1..].trim_ascii())
        })
    }

    /// Every field's name and value in order; white space around a value is gone.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        Lines(self.fields).filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The media type without its parameters, as it was sent.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        let value = self.header("content-type")?;
        Some(value.split(|&b| b == b';').next().unwrap_or(value).trim_ascii())
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Bodiless,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What a head says beyond its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<'a> {
    pub head: Head<'a>,
    pub framing: Framing,
    pub keep_alive: bool,
}

/// Where the head that starts `bytes` ends (after its blank line), searching from line feed `from` on.
///
/// Err: not yet there; go on from that offset when more bytes have come.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    while let Some(n) = memchr(b'\n', &bytes[at..]) {
        let lf = at + n;
        match &bytes[lf + 1..] {
            [b'\n', ..] => return Ok(lf + 2),
            [b'\r', b'\n', ..] => return Ok(lf + 3),
            [] | [b'\r'] => return Err(lf),
            _ => at = lf + 1,
        }
    }
    Err(bytes.len())
}

/// Refuse at once what cannot become a status line, instead of reading on for a line feed that never comes.
pub(super) fn check_start(bytes: &[u8]) -> Result<(), Fault> {
    const START: &[u8] = b"HTTP/1.";
    let n = bytes.len().min(START.len());
    if bytes[..n] == START[..n] {
        return Ok(());
    }
    let text = match bytes {
        [0x15 | 0x16, 0x03, ..] => "the server speaks TLS on this port: use https://".to_owned(),
        b if b.starts_with(b"\0\0\x12\x04") || b.starts_with(b"PRI") => "the server speaks HTTP/2 only".to_owned(),
        b => format!("the answer begins with `{}`", excerpt(b, 24)),
    };
    Err(Fault::protocol(Detail::BadHead, text))
}

/// Parse a whole head, its blank line included.
pub(super) fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, Fault> {
    let mut lines = Lines(bytes);
    let (minor, status) = lines.next().and_then(status_line).ok_or_else(|| {
        let line = Lines(bytes).next().unwrap_or_default();
        Fault::protocol(Detail::BadHead, format!("status line `{}`", excerpt(line, 60)))
    })?;
    let fields = lines.0;
    let mut seen = Seen::default();
    let mut count = 0_usize;
    for line in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > limits.headers {
            return Err(Fault::protocol(Detail::HeadTooBig, format!("more than {} header fields", limits.headers)));
        }
        let (name, value) = field(line)?;
        seen.note(name, value)?;
    }
    let framing = seen.framing(status)?;
    let keep_alive = !seen.close && (minor >= 1 || seen.keep_alive) && framing != Framing::Close;
    Ok(Parsed { head: Head::new(status, framing == Framing::Close, fields), framing, keep_alive })
}

/// The minor version and the code of `HTTP/1.1 200 OK`.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor @ b'0'..=b'9', b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return None;
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    matches!(reason, [] | [b' ', ..]).then_some((minor - b'0', code))
}

/// Name and value of one header line.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let bad = || Fault::protocol(Detail::BadHead, format!("header line `{}`", excerpt(name_only(line), 60)));
    let colon = memchr(b':', line).ok_or_else(bad)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let well_formed = !name.is_empty() && name.iter().all(|&b| TOKEN[b as usize]) && !value.contains(&0);
    if well_formed { Ok((name, value.trim_ascii())) } else { Err(bad()) }
}

/// A broken line's part before a colon: a value may hold a cookie, which no error shows.
fn name_only(line: &[u8]) -> &[u8] {
    line.split(|&b| b == b':').next().unwrap_or(line)
}

/// RFC 9110, section 5.6.2: what a field's name may consist of.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        i += 1;
    }
    table
};

/// The fields that decide on framing and on the connection's fate.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Seen {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        // Lengths first: of a dozen fields, two or three are compared at all.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// RFC 9110, section 8.6: a list is fine when all its members are the same.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        for member in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            let length = decimal(member).ok_or_else(|| {
                Fault::protocol(Detail::BadLength, format!("Content-Length `{}`", excerpt(value, 40)))
            })?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Fault::protocol(Detail::BadLength, "two Content-Length that differ"));
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if coding.eq_ignore_ascii_case(b"chunked") && !self.chunked {
                self.chunked = true;
            } else if !coding.eq_ignore_ascii_case(b"identity") {
                return Err(Fault::protocol(Detail::Encoding, format!("Transfer-Encoding `{}`", excerpt(value, 40))));
            }
        }
        Ok(())
    }

    /// RFC 9112, section 6.3; a message with both length and chunks is refused, as a proxy that disagrees would cut it
    /// elsewhere.
    fn framing(&self, status: u16) -> Result<Framing, Fault> {
        match (self.chunked, self.length) {
            _ if status < 200 || status == 204 || status == 304 => Ok(Framing::Bodiless),
            (true, Some(_)) => {
                Err(Fault::protocol(Detail::BadLength, "both Content-Length and Transfer-Encoding: chunked"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(0)) => Ok(Framing::Bodiless),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::Close),
        }
    }
}

/// Digits only, within 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, &b| {
        b.is_ascii_digit().then_some(())?;
        n.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    })
}

/// The lines of a head without their ends; a bare line feed ends one too (RFC 9112, section 2.2).
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let lf = memchr(b'\n', self.0)?;
        let line = &self.0[..lf];
        self.0 = &self.0[lf + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_ok(bytes: &[u8]) -> Parsed<'_> {
        parse(bytes, &Limits::default()).unwrap()
    }

    fn detail(bytes: &[u8]) -> Detail {
        parse(bytes, &Limits::default()).unwrap_err().detail
    }

    #[test]
    fn fields_are_found_whatever_their_case() {
        let parsed = parse_ok(b"HTTP/1.1 200 OK\r\nContent-TYPE:  text/event-stream; charset=utf-8 \r\nX: 1\r\n\r\n");
        assert_eq!(parsed.head.content_type(), Some(&b"text/event-stream"[..]));
        assert_eq!(parsed.head.header("x"), Some(&b"1"[..]));
        assert_eq!(parsed.head.header("content"), None);
        assert_eq!(parsed.framing, Framing::Close);
        assert!(parsed.head.close_delimited && !parsed.keep_alive);
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let cases: [(&[u8], bool); 5] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: foo, Close\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n", true),
            (b"HTTP/1.1 200 OK\n\n", false),
        ];
        for (head, keep_alive) in cases {
            assert_eq!(parse_ok(head).keep_alive, keep_alive, "{}", excerpt(head, 100));
        }
    }

    #[test]
    fn contradictions_of_length_are_refused() {
        assert_eq!(detail(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n"), Detail::BadLength);
        assert_eq!(
            detail(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Detail::BadLength
        );
        for bad in ["-1", "+5", "0x10", "", "99999999999999999999", "1 2"] {
            assert_eq!(
                detail(format!("HTTP/1.1 200 OK\r\nContent-Length: {bad}\r\n\r\n").as_bytes()),
                Detail::BadLength
            );
        }
        assert_eq!(
            parse_ok(b"HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\nContent-Length: 7\r\n\r\n").framing,
            Framing::Length(7)
        );
    }

    #[test]
    fn codings_nobody_asked_for_are_refused() {
        assert_eq!(detail(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), Detail::Encoding);
        assert_eq!(detail(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"), Detail::Encoding);
    }

    #[test]
    fn what_is_not_a_head_is_refused() {
        for bad in [
            &b"HTTP/1.1 20 OK\r\n\r\n"[..],
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: nul\0\r\n\r\n",
        ] {
            assert_eq!(detail(bad), Detail::BadHead, "{}", excerpt(bad, 100));
        }
        assert_eq!(parse_ok(b"HTTP/1.1 200\r\n\r\n").head.status, 200);
    }

    #[test]
    fn a_wrong_protocol_is_named_from_its_first_bytes() {
        assert!(check_start(b"\x15\x03\x01\x00").unwrap_err().text.contains("TLS"));
        assert!(check_start(b"SSH-2.0").unwrap_err().text.contains("SSH-2.0"));
        assert!(check_start(b"HTT").is_ok() && check_start(b"HTTP/1.1 2").is_ok());
    }

    #[test]
    fn too_many_fields_are_refused() {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1001));
        assert_eq!(detail(head.as_bytes()), Detail::HeadTooBig);
    }

    #[test]
    fn an_error_shows_no_header_value() {
        let fault = parse(b"HTTP/1.1 200 OK\r\nbad name: s3cret\r\n\r\n", &Limits::default()).unwrap_err();
        assert!(!fault.text.contains("s3cret"));
    }
}
