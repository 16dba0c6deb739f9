//! The hot paths so often and no more, for whoever counts their instructions: `benches/instructions.py`.
//!
//! `counted NAME N` does one of them N times; `counted` alone names them. What N adds to a run of less is the path alone.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::path::Path;

use loadgen::endpoint::{Answer, AnswerOptions, Api};
use loadgen::event::{BatchLimits, Emitter, Outlets};
use loadgen::http::{Limits, Progress, ResponseParser};
use loadgen::policy::{Action, Config, End, Event, Outcome, Policy};
use loadgen::schedule::{Arrival, Delays, Order, SampleOrder};
use loadgen::series::{Bounds, Kind, Segment, Spec};

/// Takes a path so many times.
type Times = fn(u64);

const PATHS: [(&str, Times); 6] = [
    ("event of a chunk", event),
    ("value of a series", series),
    ("decisions of a call", policy),
    ("answer of 128 events, one a read", answer),
    ("gap of a Poisson process", delay),
    ("sample of a shuffled order", sample),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments[..] {
        [name, times] => {
            let (_, path) = PATHS.iter().find(|(known, _)| known == name).unwrap();
            path(times.parse().unwrap());
        }
        _ => PATHS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn event(times: u64) {
    let limits = BatchLimits { max_age_ns: u64::MAX, ..BatchLimits::default() };
    let mut emitter = Emitter::new(1, limits, true, Outlets::default());
    (0..times).for_each(|i| emitter.read(1 << 45, black_box(1_000_000 + i), 1, false, 1, 0));
}

fn series(times: u64) {
    let dir = tempfile::tempdir().unwrap();
    let segment = Segment::create("counted", &[dir.path().join("loadgen")], 0).unwrap();
    let kind = Kind::Series(Bounds::TIMES);
    let spec = Spec { name: "s".into(), unit: "ns".into(), help: String::new(), kind, phase: None, shards: 1 };
    let writer = segment.register(&[spec]).unwrap()[0].series().remove(0);
    (0..times).for_each(|i| writer.record(black_box(1_000_000 + i * 1_013)));
}

/// Calls one after the other: queued, started, first byte, ended, resolved, as a driver tells and polls them.
fn policy(times: u64) {
    let config = Config::named("auto", 64, None, None).unwrap();
    let mut policy = Policy::new(&config, 1).unwrap();
    for call in 0..times {
        let now = call * 1_000_000;
        policy.on_event(now, Event::Queued { count: 1, key: 0, tokens: 200 });
        while let Some(action) = policy.poll(now) {
            if let Action::Start { attempt, .. } = black_box(action) {
                policy.on_event(now + 500_000, Event::FirstByte { attempt });
                let end = End { outcome: Outcome::Ok, status: 200, ..End::default() };
                policy.on_event(now + 900_000, Event::Ended { attempt, end });
            }
        }
    }
    assert_eq!(policy.totals().ok, times);
}

fn answer(times: u64) {
    let stream = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/answer.sse")).unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let events = stream.split_inclusive("\n\n").map(|event| format!("{:x}\r\n{event}\r\n", event.len()));
    let reads: Vec<String> = std::iter::once(head.to_owned()).chain(events).chain(["0\r\n\r\n".to_owned()]).collect();
    let mut answer = Answer::new(Api::Chat, AnswerOptions::default());
    let mut parser = ResponseParser::new(Limits::default());
    for _ in 0..times {
        parser.reset();
        answer.reset(true);
        let mut last = Progress::More;
        for read in &reads {
            last = parser.feed(black_box(read.as_bytes()), &mut answer).unwrap();
            black_box(answer.take_read());
        }
        answer.end().unwrap();
        assert_eq!(last, Progress::Done { reusable: true });
    }
}

fn delay(times: u64) {
    let mut delays = Delays::new(1_000.0, Arrival::Poisson, 7).unwrap();
    (0..times).for_each(|_| {
        black_box(delays.next().unwrap());
    });
}

fn sample(times: u64) {
    let mut order = SampleOrder::new(Order::WithoutReplacement, NonZeroU32::new(1_000).unwrap(), 7);
    (0..times).for_each(|i| {
        black_box(order.sample(black_box(i)));
    });
}
