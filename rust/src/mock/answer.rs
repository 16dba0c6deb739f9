//! An answer on its way: bytes with the moments they are due, filled into one write after the other.

use std::collections::VecDeque;

use super::api::Endpoint;
use super::json::{put, put_number};
use super::request::Head;
use super::stream::Stream;
use crate::sync::Arc;

/// The most that is rendered for one write.
const FILL: usize = 256 * 1024;

/// An answer, and what happens to the connection after it.
#[derive(Debug)]
pub(super) struct Answer {
    /// The head, until it was written, and when it is due.
    head: Option<(u64, Vec<u8>)>,
    body: Body,
    pub end: End,
    coalesce: bool,
    /// HTTP chunks, or bytes until the connection closes.
    chunked: bool,
    /// Lines of JSON rather than events.
    lines: bool,
    piece: Vec<u8>,
}

#[derive(Debug)]
enum Body {
    Stream(Box<Stream>),
    Script(VecDeque<Step>),
}

/// Bytes that are due at a moment.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub due: u64,
    pub data: Data,
    /// Token-carrying events in it, and their tokens; they count when its last byte goes out.
    pub chunks: u32,
    pub tokens: u32,
    /// The most that goes into one write, and how long the next write then waits.
    pub grain: usize,
    pub pause: u64,
}

/// A step's bytes.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Bytes {
        bytes: Vec<u8>,
        at: usize,
    },
    /// A pattern, so often: what is too long to keep in memory, or endless.
    Repeat {
        pattern: Arc<[u8]>,
        times: u64,
    },
}

impl Step {
    /// Bytes without tokens.
    pub(super) fn plain(due: u64, bytes: Vec<u8>) -> Self {
        Self { due, data: Data::Bytes { bytes, at: 0 }, chunks: 0, tokens: 0, grain: FILL, pause: 0 }
    }

    /// Let more bytes, with these token-carrying events and tokens, go out with it.
    pub(super) fn append(&mut self, more: &[u8], (chunks, tokens): (u32, u32)) {
        if let Data::Bytes { bytes, .. } = &mut self.data {
            bytes.extend_from_slice(more);
        }
        self.chunks += chunks;
        self.tokens += tokens;
    }

    /// Lose the second half, and with it the tokens.
    pub(super) fn lose_half(&mut self) {
        self.data.halve();
        (self.chunks, self.tokens) = (0, 0);
    }

    /// Break it in two where `at` says; the second part is due two milliseconds after the first, so that a reader
    /// meets the border.
    pub(super) fn split(mut self, at: fn(&[u8]) -> Option<usize>) -> Vec<Self> {
        let Data::Bytes { bytes, .. } = &mut self.data else { return vec![self] };
        let Some(at) = at(bytes).filter(|at| *at < bytes.len()) else { return vec![self] };
        let rest = bytes.split_off(at);
        let first = Self::plain(self.due, std::mem::take(bytes));
        vec![first, Self { data: Data::Bytes { bytes: rest, at: 0 }, due: self.due + 2_000_000, ..self }]
    }
}

/// What happens when the last byte is with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The connection serves the next request.
    KeepAlive,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
    /// It stays open and silent until the client leaves.
    Hold,
}

/// What was put into a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fill {
    pub chunks: u32,
    pub tokens: u32,
    /// The earliest moment that any of it was due.
    pub due: u64,
}

impl Answer {
    /// A stream; its head is due at `head_due`, or was sent already.
    pub(super) fn stream(stream: Stream, head: Option<(u64, Vec<u8>)>, reply: &Reply, coalesce: bool) -> Self {
        Self {
            head,
            lines: stream.voice.endpoint.is_ollama(),
            body: Body::Stream(Box::new(stream)),
            end: reply.end(),
            coalesce,
            chunked: !reply.http10,
            piece: Vec::with_capacity(320),
        }
    }

    /// Steps as they are, head included.
    pub(super) fn script(steps: impl IntoIterator<Item = Step>, end: End) -> Self {
        Self {
            head: None,
            body: Body::Script(steps.into_iter().collect()),
            end,
            coalesce: false,
            chunked: false,
            lines: false,
            piece: Vec::new(),
        }
    }

    /// The same, with tokens that count when its last byte goes out.
    pub(super) fn with_tokens(mut self, tokens: u32) -> Self {
        if let Body::Script(steps) = &mut self.body
            && let Some(last) = steps.back_mut()
        {
            last.tokens = tokens;
        }
        self
    }

    /// When the next write is due; `None` when everything was written.
    pub(super) fn next_due(&self) -> Option<u64> {
        let body = match &self.body {
            Body::Stream(stream) => stream.next_due(),
            Body::Script(steps) => steps.front().map(|step| step.due),
        };
        match &self.head {
            Some((due, _)) => Some(body.map_or(*due, |body| body.min(*due))),
            None => body,
        }
    }

    /// Append what is due at `now` and belongs into one write.
    pub(super) fn fill(&mut self, now: u64, out: &mut Vec<u8>) -> Fill {
        let mut fill = Fill { due: self.next_due().unwrap_or(now), ..Fill::default() };
        if let Some((_, head)) = self.head.take() {
            out.extend_from_slice(&head);
        }
        match &mut self.body {
            Body::Stream(stream) => {
                while stream.next_due().is_some_and(|due| due <= now) && out.len() < FILL {
                    self.piece.clear();
                    let (before, after) = if self.lines { ("", "\n") } else { ("data: ", "\n\n") };
                    put(&mut self.piece, before);
                    let told = stream.tell(&mut self.piece);
                    put(&mut self.piece, after);
                    frame(out, &self.piece, self.chunked);
                    fill.chunks += u32::from(told.tokens > 0);
                    fill.tokens += told.tokens;
                    if !(told.joins || self.coalesce) {
                        break;
                    }
                }
                if self.chunked && stream.next_due().is_none() {
                    put(out, "0\r\n\r\n");
                }
            }
            Body::Script(steps) => {
                if let Some(step) = steps.front_mut().filter(|step| step.due <= now) {
                    if step.data.take(out, step.grain) {
                        (fill.chunks, fill.tokens) = (step.chunks, step.tokens);
                        let next_due = step.due + step.pause;
                        steps.pop_front();
                        if let Some(next) = steps.front_mut() {
                            next.due = next.due.max(next_due);
                        }
                    } else {
                        step.due += step.pause;
                    }
                }
            }
        }
        fill
    }
}

impl Data {
    /// Append the next piece; true when it was the last.
    fn take(&mut self, out: &mut Vec<u8>, grain: usize) -> bool {
        match self {
            Self::Bytes { bytes, at } => {
                let end = bytes.len().min(*at + grain);
                out.extend_from_slice(&bytes[*at..end]);
                *at = end;
                end == bytes.len()
            }
            Self::Repeat { pattern, times } => {
                while *times > 0 && out.len() < grain {
                    out.extend_from_slice(pattern);
                    *times -= 1;
                }
                *times == 0
            }
        }
    }

    /// How many bytes it is.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes { bytes, .. } => bytes.len() as u64,
            Self::Repeat { pattern, times } => times.saturating_mul(pattern.len() as u64),
        }
    }

    /// Keep the first half only.
    pub(super) fn halve(&mut self) {
        match self {
            Self::Bytes { bytes, .. } => bytes.truncate(bytes.len() / 2),
            Self::Repeat { times, .. } => *times /= 2,
        }
    }
}

/// Append a piece of a body as one HTTP chunk, or as it is.
pub(super) fn frame(out: &mut Vec<u8>, piece: &[u8], chunked: bool) {
    if !chunked {
        return out.extend_from_slice(piece);
    }
    put_chunk_size(out, piece.len());
    put(out, "\r\n");
    out.extend_from_slice(piece);
    put(out, "\r\n");
}

pub(super) fn put_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - (size | 1).leading_zeros()).div_ceil(4);
    for n in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (4 * n)) & 15]);
    }
}

/// How to answer a request: its protocol version, whether the connection lives on, and the id to echo.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub http10: bool,
    pub keep_alive: bool,
    pub request_id: Option<Box<str>>,
}

impl Reply {
    pub(super) fn to(head: &Head) -> Self {
        Self { http10: head.http10, keep_alive: head.keep_alive, request_id: head.request_id.clone() }
    }

    fn end(&self) -> End {
        // Without chunks only the connection's end ends a stream.
        if self.keep_alive && !self.http10 { End::KeepAlive } else { End::Close }
    }

    /// The head of a stream.
    pub(super) fn stream_head(&self, endpoint: Endpoint) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        let kind = if endpoint.is_ollama() {
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        };
        put(&mut out, kind);
        self.own_headers(&mut out, !self.keep_alive || self.http10);
        put(&mut out, if self.http10 { "\r\n" } else { "transfer-encoding: chunked\r\n\r\n" });
        out
    }

    /// A whole answer of JSON, as one step.
    pub(super) fn json(&self, due: u64, status: u16, extra: &[(String, String)], body: &[u8]) -> Answer {
        let mut out = Vec::with_capacity(192 + body.len());
        put(&mut out, "HTTP/1.1 ");
        put_number(&mut out, u64::from(status));
        put(&mut out, " ");
        put(&mut out, reason(status));
        put(&mut out, "\r\ncontent-type: application/json\r\n");
        for (name, value) in extra {
            put(&mut out, name);
            put(&mut out, ": ");
            put(&mut out, value);
            put(&mut out, "\r\n");
        }
        self.own_headers(&mut out, !self.keep_alive);
        put(&mut out, "content-length: ");
        put_number(&mut out, body.len() as u64);
        put(&mut out, "\r\n\r\n");
        out.extend_from_slice(body);
        Answer::script([Step::plain(due, out)], if self.keep_alive { End::KeepAlive } else { End::Close })
    }

    fn own_headers(&self, out: &mut Vec<u8>, close: bool) {
        if let Some(id) = &self.request_id {
            put(out, "x-request-id: ");
            put(out, id);
            put(out, "\r\n");
        }
        if close {
            put(out, "connection: close\r\n");
        } else if self.http10 {
            put(out, "connection: keep-alive\r\n");
        }
    }
}

/// The words of a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_plain_hexadecimal() {
        for size in [0usize, 1, 15, 16, 220, 4096, 65_535, 1 << 20] {
            let mut out = Vec::new();
            put_chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}"));
        }
    }

    #[test]
    fn a_grain_is_a_write_and_tokens_count_with_the_last_byte() {
        let step = Step { chunks: 1, tokens: 2, grain: 1, pause: 10, ..Step::plain(5, b"abc".to_vec()) };
        let mut answer = Answer::script([step, Step::plain(6, b"d".to_vec())], End::Close);
        let mut writes = Vec::new();
        while let Some(due) = answer.next_due() {
            let mut out = Vec::new();
            let fill = answer.fill(due, &mut out);
            writes.push((due, String::from_utf8(out).unwrap(), fill.tokens));
        }
        let want = [(5, "a", 0), (15, "b", 0), (25, "c", 2), (35, "d", 0)];
        assert_eq!(writes, want.map(|(due, text, tokens)| (due, text.to_owned(), tokens)));
    }

    #[test]
    fn a_repeated_pattern_is_made_piece_by_piece() {
        let data = Data::Repeat { pattern: Arc::from(&[b'a'; 1000][..]), times: 1000 };
        let step = Step { data, chunks: 1, tokens: 1, ..Step::plain(5, Vec::new()) };
        let mut answer = Answer::script([step], End::Close);
        let (mut total, mut chunks, mut writes) = (0, 0, 0);
        while let Some(due) = answer.next_due() {
            let mut out = Vec::new();
            let fill = answer.fill(due, &mut out);
            assert!(out.len() <= FILL + 1000);
            (total, chunks, writes) = (total + out.len(), chunks + fill.chunks, writes + 1);
        }
        assert_eq!((total, chunks), (1_000_000, 1));
        assert!(writes > 2);
    }
}
