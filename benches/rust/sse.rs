//! What an event of a stream costs, HTTP framing included: nanoseconds of CPU per event, by how many come in a read.
//!
//! `cargo bench --bench sse`: over `benches/answer.sse`, the events that `benches/test_sse.py` has the baselines in Python
//! for, each in an HTTP chunk of its own as servers send them. Beside it, what any client pays that parses each event as
//! JSON, by serde_json's typed reader; the HTTP framing is not in that.

#![allow(clippy::unwrap_used)]

mod cpu;

use std::fs;
use std::hint::black_box;
use std::path::Path;

use loadgen::endpoint::{Answer, AnswerOptions, Api};
use loadgen::http::{Limits, Progress, ResponseParser};
use serde::Deserialize;

/// Answers of a round.
const ANSWERS: usize = 200;
const ROUNDS: usize = 50;
/// Tokens of the answer, each an event.
const TOKENS: u32 = 128;

fn main() {
    let stream = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/answer.sse")).unwrap();
    let (wire, borders) = chunked(&stream);
    let events = borders.len() - 1;
    println!("{:<52} {:>8} {:>8}", "ns/event", "best", "median");
    for keep_text in [false, true] {
        let text = if keep_text { ", text kept" } else { "" };
        for (name, pieces) in [
            ("a read of all", vec![&wire[..]]),
            ("reads of 16 events", reads(&wire, &borders, 16)),
            ("reads of one event", reads(&wire, &borders, 1)),
            ("reads of 1,448 bytes", wire.chunks(1_448).collect()),
        ] {
            let mut answer = Answer::new(Api::Chat, AnswerOptions { keep_text, ..AnswerOptions::default() });
            let mut parser = ResponseParser::new(Limits::default());
            report(&format!("{name}{text}"), events, || decode(&mut parser, &mut answer, &pieces));
        }
    }
    report("each event by serde_json, typed", events, || parse(&stream));
}

/// The response as it is on the wire, and where each of its HTTP chunks ends.
fn chunked(stream: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut wire = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut borders = Vec::new();
    for event in std::str::from_utf8(stream).unwrap().split_inclusive("\n\n") {
        wire.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        borders.push(wire.len());
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    borders.push(wire.len());
    (wire, borders)
}

/// The wire's bytes in reads of so many HTTP chunks.
fn reads<'a>(wire: &'a [u8], borders: &[usize], chunks: usize) -> Vec<&'a [u8]> {
    let mut start = 0;
    let ends = borders.chunks(chunks).map(|some| some[some.len() - 1]);
    ends.map(|end| &wire[std::mem::replace(&mut start, end)..end]).collect()
}

/// One answer from its first byte to the verdict.
fn decode(parser: &mut ResponseParser, answer: &mut Answer, pieces: &[&[u8]]) {
    parser.reset();
    answer.reset(true);
    let (mut chunks, mut last) = (0, Progress::More);
    for piece in pieces {
        last = parser.feed(black_box(piece), answer).unwrap();
        chunks += answer.take_read().chunks;
    }
    answer.end().unwrap();
    assert_eq!((last, chunks), (Progress::Done { reusable: true }, TOKENS));
    assert_eq!(answer.outcome().tokens_out, Some(TOKENS));
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u32,
}

/// The same counts, each event through a general parser.
fn parse(stream: &[u8]) {
    let (mut chunks, mut tokens) = (0, None);
    for line in black_box(stream).split(|&byte| byte == b'\n') {
        let Some(json) = line.strip_prefix(b"data: ").filter(|json| *json != b"[DONE]") else { continue };
        let chunk: Chunk<'_> = serde_json::from_slice(json).unwrap();
        let text = |choice: &Choice<'_>| choice.delta.content.as_ref().is_some_and(|content| !content.is_empty());
        chunks += u32::from(chunk.choices.iter().any(text));
        tokens = chunk.usage.map(|usage| usage.completion_tokens).or(tokens);
    }
    assert_eq!((chunks, tokens), (TOKENS, Some(TOKENS)));
}

fn report(name: &str, events: usize, mut answer: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let before = cpu::thread_ns();
            (0..ANSWERS).for_each(|_| answer());
            (cpu::thread_ns() - before) as f64 / (ANSWERS * events) as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<52} {:>8.1} {:>8.1}", rounds[0], rounds[ROUNDS / 2]);
}
