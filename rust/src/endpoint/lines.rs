//! Lines out of bytes that may be split anywhere (NDJSON): each is one JSON object.

use memchr::memchr;

use crate::http::Fault;
use crate::record::Detail;

/// A buffer above this is given back when a stream ends.
const KEPT_BYTES: usize = 64 << 10;

/// Finds the lines of one stream after the other.
pub(super) struct Lines {
    line_bytes: usize,
    /// A line whose end is still to come.
    line: Vec<u8>,
}

impl Lines {
    /// A splitter that refuses lines above `line_bytes`.
    pub(super) fn new(line_bytes: usize) -> Self {
        Self { line_bytes, line: Vec::new() }
    }

    /// Make ready for another stream.
    pub(super) fn reset(&mut self) {
        self.line.clear();
        self.line.shrink_to(KEPT_BYTES);
    }

    /// The line that has begun and not ended: a last one needs no line feed.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.line
    }

    /// Take the next bytes of the stream; `to` is given each line without its line feed.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut to: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while let Some(end) = memchr(b'\n', bytes) {
            self.fits(end)?;
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.line.is_empty() {
                to(line)?;
            } else {
                self.line.extend_from_slice(line);
                let told = to(&self.line);
                self.line.clear();
                told?;
            }
            bytes = rest;
        }
        self.fits(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn fits(&self, more: usize) -> Result<(), Fault> {
        if self.line.len() + more <= self.line_bytes {
            return Ok(());
        }
        Err(Fault::protocol(
            Detail::LineTooLong,
            format!("a line of the stream is longer than {} bytes", self.line_bytes),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> (Vec<String>, String) {
        let (mut lines, mut found) = (Lines::new(64), Vec::new());
        for part in parts {
            lines
                .feed(part, |line| {
                    found.push(String::from_utf8_lossy(line).into_owned());
                    Ok(())
                })
                .unwrap();
        }
        (found, String::from_utf8_lossy(lines.unfinished()).into_owned())
    }

    #[test]
    fn lines_are_the_same_however_they_are_split() {
        let stream = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
        let whole = lines(&[stream]);
        assert_eq!(whole.0, ["{\"a\":1}", "", "{\"b\":2}\r"]);
        assert_eq!(whole.1, "{\"c\"");
        for at in 0..=stream.len() {
            assert_eq!(lines(&[&stream[..at], &stream[at..]]), whole, "{at}");
        }
        assert_eq!(lines(&stream.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn endless_lines_are_refused_in_one_piece_and_in_many() {
        let mut lines = Lines::new(64);
        assert!(lines.feed(&[b'x'; 65], |_| Ok(())).is_err());
        let mut lines = Lines::new(64);
        lines.feed(&[b'x'; 64], |_| Ok(())).unwrap();
        assert!(lines.feed(b"x\n", |_| Ok(())).is_err());
    }
}
