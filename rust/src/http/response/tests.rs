use proptest::prelude::*;

use super::*;
use crate::http::Head;

/// Everything that came out of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    statuses: Vec<u16>,
    body: Vec<u8>,
}

impl Sink for Seen {
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        self.statuses.push(head.status);
        Ok(())
    }
    fn data(&mut self, span: &[u8]) -> Result<(), Fault> {
        assert!(!span.is_empty());
        self.body.extend_from_slice(span);
        Ok(())
    }
}

fn small() -> Limits {
    Limits { head_bytes: 400, headers: 20, line_bytes: 1000, body_bytes: 1000 }
}

/// Feed pieces in turn, then the end of the connection if the answer wants more.
fn run<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Seen, Result<Progress, Detail>) {
    let (mut seen, mut parser) = (Seen::default(), ResponseParser::new(limits));
    let mut last = Ok(Progress::More);
    for piece in pieces {
        last = parser.feed(piece, &mut seen);
        if last.is_err() {
            break;
        }
    }
    if last == Ok(Progress::More) {
        last = parser.eof(&mut seen);
    }
    (seen, last.map_err(|fault| fault.detail))
}

fn whole(bytes: &[u8]) -> (Seen, Result<Progress, Detail>) {
    run(small(), [bytes])
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const REUSABLE: Result<Progress, Detail> = Ok(Progress::Done { reusable: true });
const CLOSED: Result<Progress, Detail> = Ok(Progress::Done { reusable: false });

fn chunked(body: &str) -> Vec<u8> {
    [CHUNKED, body.as_bytes()].concat()
}

#[test]
fn each_framing_yields_its_body() {
    for (bytes, body, end) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], &b"hello"[..], REUSABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", REUSABLE),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", CLOSED),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", b"hello", CLOSED),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", REUSABLE),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", REUSABLE),
    ] {
        let (seen, last) = whole(bytes);
        assert_eq!((&seen.body[..], last), (body, end));
    }
}

#[test]
fn chunks_extensions_and_trailers() {
    let (seen, end) = whole(&chunked("5\r\nhello\r\n0A;a=b;c=\"d\"\r\n, world!!!\r\n000 \r\nX: y\r\nZ: w\r\n\r\n"));
    assert_eq!((&seen.body[..], end), (&b"hello, world!!!"[..], REUSABLE));
}

#[test]
fn broken_chunks_are_named() {
    for bad in [
        "g\r\n",
        "\r\n",
        "-1\r\n",
        "0x5\r\nhello",
        "5\nhello",
        "5\r\nhelloX",
        "5\r\nhello\rX",
        "5\r\nhello\n",
        "5 ;\n\r\n",
        "5x\r\nhello\r\n",
        "5\rhello",
        "11111111111111111\r\n",
        "000000000000000000000000000000000\r\n",
        "0\r\n\rX",
    ] {
        assert_eq!(whole(&chunked(bad)).1, Err(Detail::BadChunk), "{bad:?}");
    }
    let endless = chunked(&format!("5;{}", "x".repeat(20_000)));
    assert_eq!(whole(&endless).1, Err(Detail::BadChunk));
}

#[test]
fn an_early_end_is_told_at_every_point() {
    let good = chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n");
    for n in 0..good.len() {
        assert_eq!(whole(&good[..n]).1, Err(Detail::EarlyEnd), "after {n} bytes");
    }
    let (seen, end) = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
    assert_eq!((&seen.body[..], end), (&b"hello"[..], Err(Detail::EarlyEnd)));
}

#[test]
fn a_length_too_short_shows_as_bytes_after_the_answer() {
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello").1, Err(Detail::BadLength));
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\r\n").1, CLOSED);
    assert_eq!(whole(b"HTTP/1.1 204 OK\r\n\r\nhi").1, Err(Detail::BadLength));
}

#[test]
fn interim_heads_are_skipped_but_not_without_end() {
    let (seen, end) = whole(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!((&seen.statuses[..], &seen.body[..], end), (&[200][..], &b"hi"[..], REUSABLE));
    let endless = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
    assert_eq!(whole(&endless).1, Err(Detail::HeadTooBig));
    assert_eq!(whole(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").1, Err(Detail::Upgrade));
}

#[test]
fn heads_lines_and_bodies_are_bounded() {
    let big = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(whole(big.as_bytes()).1, Err(Detail::HeadTooBig));
    assert_eq!(run(Limits::default(), big.as_bytes().chunks(1000)).1, Err(Detail::HeadTooBig));
    let trailers = chunked(&format!("0\r\n{}", "a: b\r\n".repeat(1000)));
    assert_eq!(whole(&trailers).1, Err(Detail::HeadTooBig));
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n").1, Err(Detail::BodyTooBig));
    assert_eq!(whole(&chunked("3e9\r\n")).1, Err(Detail::BodyTooBig));
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 2000]].concat();
    assert_eq!(run(small(), endless.chunks(100)).1, Err(Detail::BodyTooBig));
}

#[test]
fn one_parser_serves_many_answers_and_keeps_no_giant_head() {
    let mut parser = ResponseParser::new(Limits::default());
    let big = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nhi", "x".repeat(200_000));
    for _ in 0..3 {
        assert!(!parser.started);
        let mut seen = Seen::default();
        let mut last = Progress::More;
        for piece in big.as_bytes().chunks(60_000) {
            last = parser.feed(piece, &mut seen).unwrap();
            assert!(parser.started);
        }
        assert_eq!((last, &seen.body[..]), (Progress::Done { reusable: true }, &b"hi"[..]));
        parser.reset();
        assert!(parser.partial.capacity() <= KEPT_BYTES);
    }
}

#[test]
fn garbage_is_refused_at_its_first_bytes() {
    let (mut seen, mut parser) = (Seen::default(), ResponseParser::new(Limits::default()));
    assert_eq!(parser.feed(b"HT", &mut seen), Ok(Progress::More));
    assert_eq!(parser.feed(b"ML", &mut seen).unwrap_err().detail, Detail::BadHead);
}

/// Answers, good and broken, to be cut anywhere.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 C\r\n\r\n",
        "Content-Length: 9\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "\n",
        "5\r\nhello\r\n",
        "a;x=y\r\n0123456789\r\n",
        "0\r\n",
        "X: y\r\n",
        "\r",
        "7",
        ";",
        "data: x\n\n",
        "ffffffffffffffff\r\n",
    ]);
    (any::<bool>(), prop::collection::vec(piece, 0..12)).prop_map(|(framed, pieces)| {
        let start = if framed { CHUNKED } else { b"" };
        [start, pieces.concat().as_bytes()].concat()
    })
}

proptest! {
    #[test]
    fn how_an_answer_is_split_changes_nothing(bytes in answers(), cuts in prop::collection::vec(0_usize..200, 0..8)) {
        let unsplit = run(small(), [&bytes[..]]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let split = run(small(), cuts.windows(2).map(|w| &bytes[w[0]..w[1]]));
        prop_assert_eq!(&split, &unsplit);
        prop_assert_eq!(run(small(), bytes.chunks(1)), unsplit);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(&bytes);
        let _ = whole(&[CHUNKED, &bytes].concat());
    }
}
