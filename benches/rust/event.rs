//! What an event costs where it happens: to encode and batch it, by kind, and to pass a flush to the publisher.
//!
//! `cargo bench --bench event`: nanoseconds of one event, the best and the median of many rounds.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use loadgen::event::{Batch, BatchLimits, Emitter, EventType, Outlets, event_queue};
use loadgen::record::{Detail, Failure, Finish, Row, Stamps};

/// Events of a round.
const EVENTS: u64 = 100_000;
const ROUNDS: usize = 50;

fn main() {
    println!("{:<44} {:>8} {:>8}", "ns/event", "best", "median");
    let mut batch = Batch::new(1, BatchLimits::default());
    let mut buffer = Vec::new();
    report("mark, batch of 1,000", |i| {
        if batch.mark(EventType::RecvFirst, 1_000_000 + i, 1 << 45) {
            batch.flush(|frame, _| std::mem::swap(frame, &mut buffer));
            buffer.clear();
        }
    });
    let mut emitter = kept();
    report("issued", |i| emitter.issued(1 << 45, 1_000_000 + i, 1, i % 1_000));
    report("first chunk", |i| emitter.read(1 << 45, 1_000_000 + i, 1, true, 1, 0));
    report("further chunk, one a read", |i| emitter.read(1 << 45, 1_000_000 + i, 1, false, 1, 0));
    report("further chunk, one a read, with tokens", |i| emitter.read(1 << 45, 1_000_000 + i, 1, false, 1, 3));
    report("further chunk, 128 a read", |i| {
        if i % 128 == 0 {
            emitter.read(1 << 45, 1_000_000 + i, 1, false, 128, 0);
        }
    });
    let stamps = Stamps { done: 1 << 45, ..Stamps::default() };
    let good = Row { stamps, finish: Finish::Length, tokens_out: Some(200), phase: 1, ..Row::default() };
    report("complete", |i| emitter.ended(&Row { id: 1_000_000 + i, ..good }));
    let bad = Row { failure: Failure::Http, detail: Detail::None, status: 503, ..good };
    report("error and complete (two events)", |i| emitter.ended(&Row { id: 1_000_000 + i, ..bad }));
    for send_threshold in [1, 10, 100, 1_000] {
        published(send_threshold);
    }
}

/// An emitter whose flushes go nowhere: what is left is encoding and batching.
fn kept() -> Emitter {
    Emitter::new(1, BatchLimits { max_age_ns: u64::MAX, ..BatchLimits::default() }, true, Outlets::default())
}

/// Further chunks through the ring, taken out on the same thread.
fn published(send_threshold: u32) {
    let (mut senders, queue) = event_queue(&[1]).unwrap();
    let limits = BatchLimits { send_threshold, max_age_ns: u64::MAX, ..BatchLimits::default() };
    let mut emitter = Emitter::new(1, limits, true, Outlets { log: None, publisher: Some(senders.remove(0)) });
    let mut bytes = 0;
    report(&format!("further chunk through the ring, batch of {send_threshold}"), |i| {
        emitter.read(1 << 45, 1_000_000 + i, 1, false, 1, 0);
        if i % 8_192 == 0 {
            bytes += queue.take(usize::MAX).iter().map(Vec::len).sum::<usize>();
        }
    });
    assert_eq!(queue.dropped(), 0);
    black_box(bytes);
}

fn report(name: &str, mut event: impl FnMut(u64)) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            (0..EVENTS).for_each(|i| event(black_box(i)));
            started.elapsed().as_nanos() as f64 / EVENTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<44} {:>8.1} {:>8.1}", rounds[0], rounds[ROUNDS / 2]);
}
