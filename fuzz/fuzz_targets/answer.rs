//! A whole answer, from the socket's reads to the verdict: no body makes it panic, and how it is split changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::endpoint::{Answer, AnswerOptions, Api, Outcome};
use loadgen::http::{Limits, Progress, ResponseParser};
use loadgen::record::{Detail, Failure};

const HEADS: [&[u8]; 4] = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\n\r\n",
];

type Seen = (Outcome, Result<(), (Failure, Detail)>, Vec<u8>, Vec<u8>, u32, bool);

fn run<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Seen {
    let limits = Limits { head_bytes: 2000, headers: 30, line_bytes: 1 << 20, body_bytes: 1 << 20 };
    let mut parser = ResponseParser::new(limits);
    let mut answer = Answer::new(Api::Chat, AnswerOptions { keep_text: true, keep_hints: true, limits });
    answer.reset(true);
    let (mut last, mut chunks, mut output) = (Ok(Progress::More), 0, false);
    for read in reads {
        last = parser.feed(read, &mut answer);
        let tally = answer.take_read();
        chunks += tally.chunks;
        output |= tally.output;
        if last.is_err() {
            break;
        }
    }
    if last == Ok(Progress::More) {
        last = parser.eof(&mut answer);
    }
    let verdict = last.and_then(|_| answer.end()).map_err(|fault| {
        assert!(fault.text.chars().count() < 1000 && !fault.text.chars().any(char::is_control));
        (fault.failure, fault.detail)
    });
    (answer.outcome(), verdict, answer.text().to_vec(), answer.reasoning().to_vec(), chunks, output)
}

fuzz_target!(|bytes: &[u8]| {
    let [size, head, body @ ..] = bytes else { return };
    let bytes = [HEADS[usize::from(*head) % HEADS.len()], body].concat();
    let whole = run(std::iter::once(&bytes[..]));
    assert_eq!(run(bytes.chunks(usize::from(*size) + 1)), whole);
    assert_eq!(run(bytes.chunks(1)), whole);
});
