//! The state machine that takes an HTTP/1.x answer out of the bytes of a connection, however they are split.

use memchr::memchr;

use super::head::{self, Framing};
use super::{Fault, Limits, Progress, Sink};
use crate::record::Detail;

/// Buffers above this are given back when a request ends: one giant head shall not stay for the connection's life.
const KEPT_BYTES: usize = 64 << 10;
/// Bytes of a chunk's size line, extensions included.
const CHUNK_LINE_BYTES: u32 = 16 << 10;

/// Parses one answer after the other from a connection's bytes; see [`Sink`] for what it hands on.
///
/// It copies nothing but heads that came in pieces, and allocates only for those.
pub struct ResponseParser {
    limits: Limits,
    state: State,
    /// Any byte of this answer was seen.
    started: bool,
    /// The connection may be used again after this answer.
    keep_alive: bool,
    /// Bytes left of the body, or of the chunk; while a chunk's size is read, the size so far.
    left: u64,
    /// Body bytes announced or received so far.
    body: u64,
    /// Bytes of the line (chunk size, trailers) read so far.
    line: u32,
    /// A head that came in pieces.
    partial: Vec<u8>,
    /// Where to go on looking for its end.
    scanned: usize,
    /// Bytes of interim heads and trailers.
    spent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// `left` bytes of a body of known length.
    Length,
    /// All bytes until the connection ends.
    Close,
    /// The digits of a chunk's size.
    Size,
    /// What follows the digits: white space and extensions, up to CR.
    Extension,
    /// The LF of the size line.
    SizeLf,
    /// `left` bytes of a chunk.
    Chunk,
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkLf,
    /// The start of a trailer line, or of the last CRLF.
    Trailer,
    /// Within a trailer line.
    TrailerLine,
    /// The last LF.
    LastLf,
    /// The answer is complete; a byte more is one too many.
    Done,
}

impl ResponseParser {
    /// A parser for the answers of one connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            started: false,
            keep_alive: false,
            left: 0,
            body: 0,
            line: 0,
            partial: Vec::new(),
            scanned: 0,
            spent: 0,
        }
    }

    /// Make ready for the answer to the next request.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.started = false;
        self.keep_alive = false;
        self.left = 0;
        self.body = 0;
        self.line = 0;
        self.drop_partial();
        self.spent = 0;
    }

    /// Take the bytes of one read. After an error, the connection is of no more use.
    pub fn feed<S: Sink>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<Progress, Fault> {
        self.started |= !bytes.is_empty();
        while !bytes.is_empty() {
            match self.state {
                State::Size => bytes = self.size(bytes)?,
                State::Chunk => bytes = self.chunk(bytes, sink)?,
                State::Head => match self.head(bytes, sink)? {
                    Some(rest) => bytes = rest,
                    None => return Ok(Progress::More),
                },
                State::Length => {
                    let (now, rest) = split(bytes, self.left);
                    sink.data(now)?;
                    self.left -= now.len() as u64;
                    bytes = rest;
                    if self.left == 0 {
                        self.state = State::Done;
                    }
                }
                State::Close => {
                    self.count_body(bytes.len() as u64)?;
                    sink.data(bytes)?;
                    return Ok(Progress::More);
                }
                State::Done => return self.leftover(bytes),
                _ => bytes = self.framing(bytes)?,
            }
        }
        Ok(if self.state == State::Done { Progress::Done { reusable: self.keep_alive } } else { Progress::More })
    }

    /// The connection ended.
    pub fn eof<S: Sink>(&mut self, sink: &mut S) -> Result<Progress, Fault> {
        let text: Box<str> = match self.state {
            State::Close | State::Done => {
                self.state = State::Done;
                return Ok(Progress::Done { reusable: false });
            }
            State::Head if self.started => "it was closed within the head".into(),
            State::Head => "it was closed without an answer".into(),
            State::Length => format!("{} bytes of the body are missing", self.left).into(),
            State::Trailer | State::TrailerLine | State::LastLf => "it was closed within the last chunk".into(),
            _ => "it was closed between or within chunks".into(),
        };
        Err(sink.cut(Fault::body(Detail::EarlyEnd, text)))
    }

    /// Take a head from the bytes, or keep them until it is whole. The rest is the body's.
    fn head<'b, S: Sink>(&mut self, bytes: &'b [u8], sink: &mut S) -> Result<Option<&'b [u8]>, Fault> {
        if self.partial.is_empty() {
            head::check_start(bytes)?;
            return match head::end_of_head(bytes, 0) {
                Ok(end) => {
                    self.take_head(&bytes[..end], sink)?;
                    Ok(Some(&bytes[end..]))
                }
                Err(scanned) => {
                    self.bound_head(bytes.len())?;
                    self.partial.extend_from_slice(bytes);
                    self.scanned = scanned;
                    Ok(None)
                }
            };
        }
        // Only as much as may be kept is ever copied: a read is larger than what a small limit allows.
        let before = self.partial.len();
        let room = (self.limits.head_bytes - self.spent).saturating_sub(before).saturating_add(1);
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        head::check_start(&self.partial)?;
        match head::end_of_head(&self.partial, self.scanned) {
            Ok(end) => {
                let whole = std::mem::take(&mut self.partial);
                let taken = self.take_head(&whole[..end], sink);
                self.partial = whole;
                self.drop_partial();
                taken?;
                Ok(Some(&bytes[end - before..]))
            }
            Err(scanned) => {
                self.bound_head(self.partial.len())?;
                self.scanned = scanned;
                Ok(None)
            }
        }
    }

    /// Read a whole head: skip an interim one, show the final one, and know the framing.
    fn take_head<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), Fault> {
        self.bound_head(bytes.len())?;
        let parsed = head::parse(bytes, &self.limits)?;
        match parsed.head.status {
            101 => return Err(Fault::protocol(Detail::Upgrade, "status 101")),
            100..=199 => {
                self.spent += bytes.len();
                return Ok(());
            }
            _ => {}
        }
        self.keep_alive = parsed.keep_alive;
        self.state = match parsed.framing {
            Framing::Bodiless => State::Done,
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
            Framing::Length(length) => {
                self.count_body(length)?;
                self.left = length;
                State::Length
            }
        };
        sink.head(&parsed.head)
    }

    fn bound_head(&self, bytes: usize) -> Result<(), Fault> {
        if self.spent + bytes <= self.limits.head_bytes {
            return Ok(());
        }
        Err(Fault::protocol(Detail::HeadTooBig, format!("more than {} bytes", self.limits.head_bytes)))
    }

    fn drop_partial(&mut self) {
        self.scanned = 0;
        self.partial.clear();
        self.partial.shrink_to(KEPT_BYTES);
    }

    /// The digits of a chunk's size. Nearly always the whole line is here: the loop ends at its CR.
    #[inline]
    fn size<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        for (i, &b) in bytes.iter().enumerate() {
            let digit = HEX[b as usize];
            if digit > 15 {
                if self.line == 0 {
                    return Err(bad_chunk("a size was expected"));
                }
                if b == b'\r' && bytes.get(i + 1) == Some(&b'\n') {
                    self.begin_chunk()?;
                    return Ok(&bytes[i + 2..]);
                }
                self.state = State::Extension;
                return Ok(&bytes[i..]);
            }
            self.line += 1;
            if self.left >> 60 != 0 || self.line > 32 {
                return Err(bad_chunk("a size beyond 64 bits"));
            }
            self.left = self.left << 4 | u64::from(digit);
        }
        Ok(&[])
    }

    /// The size line is complete.
    #[inline]
    fn begin_chunk(&mut self) -> Result<(), Fault> {
        self.line = 0;
        if self.left == 0 {
            self.state = State::Trailer;
            return Ok(());
        }
        self.state = State::Chunk;
        self.count_body(self.left)
    }

    #[inline]
    fn chunk<'b, S: Sink>(&mut self, bytes: &'b [u8], sink: &mut S) -> Result<&'b [u8], Fault> {
        let (now, rest) = split(bytes, self.left);
        self.left -= now.len() as u64;
        sink.data(now)?;
        if self.left > 0 {
            return Ok(rest);
        }
        match rest {
            [b'\r', b'\n', next @ ..] => {
                self.state = State::Size;
                Ok(next)
            }
            _ => {
                self.state = State::ChunkCr;
                Ok(rest)
            }
        }
    }

    #[inline]
    fn count_body(&mut self, more: u64) -> Result<(), Fault> {
        self.body = self.body.saturating_add(more);
        if self.body <= self.limits.body_bytes {
            return Ok(());
        }
        Err(Fault::protocol(Detail::BodyTooBig, format!("more than {} bytes", self.limits.body_bytes)))
    }

    /// The bytes between chunks, where they came in pieces, and trailers.
    fn framing<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let byte = bytes[0];
        match (self.state, byte) {
            (State::Extension, _) => return self.extension(bytes),
            (State::TrailerLine, _) => return self.trailer(bytes),
            (State::SizeLf, b'\n') => self.begin_chunk()?,
            (State::ChunkCr, b'\r') => self.state = State::ChunkLf,
            (State::ChunkLf, b'\n') => self.state = State::Size,
            (State::Trailer, b'\r') => self.state = State::LastLf,
            (State::LastLf, b'\n') => self.state = State::Done,
            (State::Trailer, _) => {
                self.state = State::TrailerLine;
                return Ok(bytes);
            }
            _ => return Err(bad_chunk("a line end was expected")),
        }
        Ok(&bytes[1..])
    }

    /// RFC 9112, section 7.1.1: unknown extensions are ignored.
    fn extension<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let (line, rest) = match memchr(b'\r', bytes) {
            Some(cr) => {
                self.state = State::SizeLf;
                (&bytes[..cr], &bytes[cr + 1..])
            }
            None => (bytes, &[][..]),
        };
        let fits =
            u32::try_from(line.len()).ok().and_then(|n| self.line.checked_add(n)).filter(|&n| n <= CHUNK_LINE_BYTES);
        // Directly after the digits only white space or `;` may stand; 33 marks that this was checked.
        let begins_well = self.line > 32 || line.first().is_none_or(|b| matches!(b, b';' | b' ' | b'\t'));
        match fits {
            Some(n) if begins_well && memchr(b'\n', line).is_none() => {
                self.line = n.max(33);
                Ok(rest)
            }
            _ => Err(bad_chunk("a size line that is no size line")),
        }
    }

    fn trailer<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let (taken, state) = match memchr(b'\n', bytes) {
            Some(lf) => (lf + 1, State::Trailer),
            None => (bytes.len(), State::TrailerLine),
        };
        self.bound_head(taken)?;
        self.spent += taken;
        self.state = state;
        Ok(&bytes[taken..])
    }

    /// Bytes after the answer: line ends are forgiven, but the connection is not used again.
    fn leftover(&mut self, bytes: &[u8]) -> Result<Progress, Fault> {
        self.keep_alive = false;
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return Ok(Progress::Done { reusable: false });
        }
        Err(Fault::protocol(Detail::BadLength, "bytes came after the end of the answer"))
    }
}

fn bad_chunk(text: &'static str) -> Fault {
    Fault::protocol(Detail::BadChunk, text)
}

#[inline]
fn split(bytes: &[u8], left: u64) -> (&[u8], &[u8]) {
    let n = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    bytes.split_at(n)
}

/// The value of a hexadecimal digit; 255 for any other byte.
static HEX: [u8; 256] = {
    let mut table = [255_u8; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i as u8 {
            b @ b'0'..=b'9' => b - b'0',
            b @ b'a'..=b'f' => b - b'a' + 10,
            b @ b'A'..=b'F' => b - b'A' + 10,
            _ => 255,
        };
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests;
