//! Faults of HTTP and TCP: statuses, heads, framing, and how connections stall and end.

use super::super::answer::End;
use super::super::config::{Flavour, RetryAfter, Usage};
use super::super::draft::{Draft, Framing, Item, Kind, Payload, Point};
use super::super::gzip;
use super::super::serve::retry_after;
use super::{Act, Fault, fault};

const HTML: &[u8] = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad \
Gateway</h1></center><hr><center>nginx</center></body>\r\n</html>\r\n";
/// A slow sender's pause between two bytes.
const SLOW_NS: u64 = 100_000_000;

pub(super) const FAULTS: &[Fault] = &[
    // Before the answer.
    fault("continue_100", "a 100 Continue nobody waited for", |d| interim(d, "100 Continue", "", 1)),
    fault("processing_102_many", "a hundred 102 Processing", |d| interim(d, "102 Processing", "", 100)),
    fault("early_hints_103", "a 103 Early Hints with headers of its own", |d| {
        interim(d, "103 Early Hints", "link: </style.css>; rel=preload\r\ncontent-length: 5\r\n", 1);
    }),
    fault("upgrade_101", "a 101 Switching Protocols and foreign bytes", |d| {
        d.items.clear();
        d.framing = Framing::UntilClose;
        d.end = End::Close;
        d.after = b"\x81\x05hello".to_vec();
        d.head_as =
            Some(|_| b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_vec());
    }),
    // Statuses.
    fault("redirect", "a 307 to another host", |d| {
        d.refuse(307, None, "moved");
        d.header("location", "http://localhost:1/v1/chat/completions");
    }),
    fault("redirect_301", "a 301 to another path", |d| {
        d.refuse(301, None, "moved");
        d.header("location", "/v2/chat/completions");
    }),
    fault("400", "a 400 with an error object", |d| d.refuse(400, None, "Bad request")),
    fault("401", "a 401 with an error object", |d| {
        d.refuse(401, Some("invalid_api_key"), "Incorrect API key provided")
    }),
    fault("403", "a 403 with an error object", |d| d.refuse(403, None, "Forbidden")),
    fault("404", "a 404 as for an unknown model", |d| {
        d.refuse(404, Some("model_not_found"), "The model does not exist");
    }),
    fault("usage_refused_400", "a 400 to who asks for include_usage", |d| refuse_usage(d, 400)),
    fault("usage_refused_422", "a 422 to who asks for include_usage", |d| refuse_usage(d, 422)),
    fault("429", "a 429 with Retry-After in seconds", |d| limited(d, RetryAfter::Seconds, None)),
    fault("429_date", "a 429 with Retry-After as a date", |d| limited(d, RetryAfter::Date, None)),
    fault("429_negative", "a 429 with a negative Retry-After", |d| limited(d, RetryAfter::Negative, None)),
    fault("429_huge", "a 429 with a Retry-After of 20 digits", |d| limited(d, RetryAfter::Huge, None)),
    fault("429_garbage", "a 429 with a Retry-After that says nothing", |d| limited(d, RetryAfter::Garbage, None)),
    fault("429_absent", "a 429 without Retry-After", |d| limited(d, RetryAfter::Absent, None)),
    fault("429_fraction", "a 429 with Retry-After in seconds and a fraction", |d| {
        limited(d, RetryAfter::Fraction, None);
    }),
    fault("429_ms", "a 429 with the hint in milliseconds, in retry-after-ms", |d| {
        limited(d, RetryAfter::Milliseconds, Some("retry-after-ms"));
    }),
    fault("429_other_name", "a 429 with the hint under LiteLLM's name", |d| {
        limited(d, RetryAfter::Seconds, Some("llm_provider-retry-after"));
    }),
    fault("500", "a 500 with an error object", |d| d.refuse(500, None, "Internal error")),
    fault("all_500", "the same as 500", |d| d.refuse(500, None, "Internal error")),
    fault("500_html", "a 500 with an HTML page", |d| d.replace(500, "text/html", HTML.to_vec())),
    fault("500_empty", "a 500 without a body", |d| d.replace(500, "text/plain", Vec::new())),
    fault("502_html", "a 502 with an HTML page, as a proxy makes it", |d| d.replace(502, "text/html", HTML.to_vec())),
    fault("503", "a 503 with an error object", |d| d.refuse(503, None, "Overloaded")),
    fault("204", "a 204, which has no body", |d| {
        d.status = 204;
        d.items.clear();
        d.framing = Framing::UntilClose;
    }),
    // Heads.
    fault("bad_status_line", "a status that is no number", |d| {
        d.head_as = Some(|head| first_line(head, b"HTTP/1.1 abc OK"))
    }),
    fault("bad_version", "HTTP/3.7", |d| d.version = "HTTP/3.7"),
    fault("not_http", "the greeting of another protocol", |d| {
        d.head_as = Some(|_| b"SSH-2.0-OpenSSH_9.6\r\n".to_vec());
        d.items.clear();
        d.chunks.no_last = true;
        d.end = End::Close;
    }),
    fault("lf_head", "lines of the head end with LF alone", |d| {
        d.head_as = Some(|head| head.into_iter().filter(|b| *b != b'\r').collect());
    }),
    fault("folded_header", "a header folded over two lines", |d| {
        d.head_as = Some(|head| before_end(head, b"x-folded: one\r\n two\r\n"));
    }),
    fault("header_without_colon", "a header line without a colon", |d| {
        d.head_as = Some(|head| before_end(head, b"no colon here\r\n"));
    }),
    fault("nul_header", "a header whose value has a NUL", |d| d.headers.push(("x-nul".to_owned(), b"a\0b".to_vec()))),
    fault("big_header", "a header of 1 MB", |d| d.headers.push(("x-big".to_owned(), vec![b'a'; 1_000_000]))),
    fault("many_headers", "10,000 headers", |d| (0..10_000).for_each(|n| d.header(&format!("x-{n}"), "1"))),
    fault("endless_headers", "headers without end", |d| {
        d.head_as = Some(|head| first_line(head, b"HTTP/1.1 200 OK").into_iter().take(17).collect());
        let pattern = b"x-more: 1\r\n".repeat(6_000);
        let payload = Payload::Long { open: Vec::new(), pattern, times: u64::MAX, close: Vec::new() };
        d.framing = Framing::UntilClose;
        d.items = vec![Item { due: d.start, kind: Kind::Extra, payload, tokens: 0, joins: false }];
    }),
    fault("wrong_content_type", "the right body as text/html", |d| d.set_header("content-type", "text/html")),
    fault("no_content_type", "no Content-Type", |d| d.headers.retain(|(name, _)| name != "content-type")),
    fault("http10", "an answer of HTTP/1.0, ended by the connection's end", |d| {
        d.version = "HTTP/1.0";
        until_close(d);
    }),
    fault("no_length", "neither length nor chunks: the connection's end ends the body", until_close),
    fault("gzip", "compressed, though nobody asked for it", |d| {
        d.gzip = true;
        d.header("content-encoding", "gzip");
    }),
    fault("gzip_bomb", "1 MiB of gzip that becomes 1 GiB of zeros", |d| {
        const PATTERN: u64 = 64 << 10;
        const TIMES: u64 = 16;
        let (open, close) = gzip::bomb(PATTERN * TIMES);
        let payload = Payload::Long { open, pattern: vec![0; PATTERN as usize], times: TIMES, close };
        d.items = vec![Item { due: d.start, kind: Kind::Extra, payload, tokens: 0, joins: false }];
        d.header("content-encoding", "gzip");
    }),
    // Framing.
    fault("short_length", "a Content-Length of half the body", |d| lengthy(d, |length| (length / 2).to_string())),
    fault("long_length", "a Content-Length longer than the body, then the connection's end", |d| {
        lengthy(d, |length| (length + 1000).to_string());
        d.end = End::Close;
    }),
    fault("negative_length", "a Content-Length of -1", |d| lengthy(d, |_| "-1".to_owned())),
    fault("huge_length", "a Content-Length of 30 digits", |d| lengthy(d, |_| "9".repeat(30))),
    fault("two_lengths", "two Content-Lengths that differ", |d| {
        d.framing = Framing::Length;
        d.header("content-length", "7");
    }),
    fault("length_and_chunked", "both a Content-Length and chunks", |d| d.framing = Framing::Both),
    fault("bad_chunk_size", "a chunk size that is no number", |d| {
        d.framing = Framing::Chunked;
        d.chunks.bad_size = Some("xyz");
    }),
    fault("huge_chunk_size", "a chunk size of 17 digits", |d| {
        d.framing = Framing::Chunked;
        d.chunks.bad_size = Some("fffffffffffffffff");
    }),
    fault("no_chunk_end", "a chunk without the line end after its data", |d| {
        d.framing = Framing::Chunked;
        d.chunks.no_end = true;
    }),
    fault("chunk_extensions", "chunk sizes with extensions", |d| {
        d.framing = Framing::Chunked;
        d.chunks.extension = ";name=\"a;b\";flag";
    }),
    fault("trailers", "trailers after the last chunk", |d| {
        d.framing = Framing::Chunked;
        d.header("trailer", "server-timing");
        d.chunks.trailers = "server-timing: total;dur=1\r\nx-checksum: 0\r\n";
    }),
    fault("extra_bytes", "bytes that belong to no answer after a good one", |d| {
        d.after = b"HTTP/1.1 200 OK\r\n".to_vec()
    }),
    // Connections.
    Fault {
        name: "reset_at_accept",
        what: "a reset as the connection is accepted (asked for by a request: as reset_at_headers)",
        act: Act::Accept(true),
    },
    Fault {
        name: "fin_at_accept",
        what: "the end of the connection as it is accepted (asked for by a request: as fin_at_headers)",
        act: Act::Accept(false),
    },
    fault("slowloris", "one byte at a time, a tenth of a second apart", |d| {
        d.grain = Some((1, d.pause.unwrap_or(SLOW_NS)));
    }),
    fault("stall_headers", "no byte, and the connection stays open", |d| stall(d, Point::BeforeHead)),
    fault("stall_first_token", "the head, and then no byte", |d| stall(d, Point::AfterHead)),
    fault("stall_midstream", "half of the answer, and then no byte", |d| stall(d, Point::Middle)),
    fault("reset_at_headers", "a reset before the first byte of the answer", |d| cut(d, Point::BeforeHead, End::Reset)),
    fault("reset_at_first_token", "a reset after the first token", |d| cut(d, Point::AfterFirstToken, End::Reset)),
    fault("reset_at_midstream", "a reset after half of the answer", |d| cut(d, Point::Middle, End::Reset)),
    fault("fin_at_headers", "the connection ends before the first byte", |d| cut(d, Point::BeforeHead, End::Close)),
    fault("fin_midhead", "the connection ends within the head", |d| cut(d, Point::InHead, End::Close)),
    fault("fin_midchunk", "the connection ends within a chunk", |d| cut(d, Point::InChunk, End::Close)),
    fault("close_idle", "the connection ends after the answer, without a word", |d| d.end = End::Close),
    Fault {
        name: "close_on_reuse",
        what: "a second request on a connection ends it without an answer",
        act: Act::Reuse,
    },
];

fn interim(d: &mut Draft, status: &str, headers: &str, times: usize) {
    let bytes = format!("HTTP/1.1 {status}\r\n{headers}\r\n").into_bytes();
    d.interim.extend(std::iter::repeat_n(bytes, times));
}

fn refuse_usage(d: &mut Draft, status: u16) {
    if d.plan.usage != Usage::None {
        d.refuse(status, None, "Unrecognized request argument supplied: stream_options");
    }
}

fn limited(d: &mut Draft, kind: RetryAfter, name: Option<&str>) {
    d.refuse(429, Some("rate_limit_exceeded"), "Rate limit reached");
    let name = name.unwrap_or(if d.flavour() == Flavour::Litellm { "llm_provider-retry-after" } else { "retry-after" });
    if let Some(value) = retry_after(kind, 2_000_000_000, d.unix) {
        d.header(name, &value);
    }
}

/// Exchange the first line.
fn first_line(head: Vec<u8>, line: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(b'\r', &head).unwrap_or(head.len());
    [line, &head[end..]].concat()
}

/// Add bytes before the empty line.
fn before_end(mut head: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let at = head.len().saturating_sub(2);
    head.splice(at..at, bytes.iter().copied());
    head
}

fn until_close(d: &mut Draft) {
    d.framing = Framing::UntilClose;
    d.end = End::Close;
}

fn lengthy(d: &mut Draft, length: fn(u64) -> String) {
    d.framing = Framing::Length;
    d.length = Some(length);
}

fn stall(d: &mut Draft, point: Point) {
    match d.pause {
        Some(pause) => d.stall = Some((point, pause)),
        None => d.cut = Some((point, End::Hold)),
    }
}

fn cut(d: &mut Draft, point: Point, end: End) {
    d.cut = Some((point, end));
}
