//! What deciding costs: nanoseconds of CPU per call, with everything on and with next to nothing.
//!
//! `cargo bench --bench policy`: a call is its queueing, start, first byte, end and resolution, told and polled one by one as
//! a driver does; the best and the median of many rounds.

#![allow(clippy::unwrap_used)]

mod cpu;

use std::collections::VecDeque;
use std::hint::black_box;

use loadgen::policy::{Action, AttemptId, AttemptKind, Config, End, Event, Outcome, Policy};

/// Calls of a round.
const CALLS: u32 = 200_000;
const ROUNDS: usize = 15;
const IN_FLIGHT: u32 = 256;

/// Everything that a call can meet: an adaptive limit, hedges, a breaker, both buckets, time limits.
const ALL: &str = r#"{"rates":{"rpm":1e9,"tpm":1e12},"call_timeout_s":600,"streaming":true}"#;

fn main() {
    println!("{:<58} {:>8} {:>8}", "ns/call", "best", "median");
    report("fixed limit, all at once", "parallel", r#"{"limit":{"n":256},"breaker":null}"#, 0);
    report("adaptive, hedged, breaker, rates, time limits", "hedged", ALL, 0);
    report("the same, every 20th call silent until its copy answers", "hedged", ALL, 20);
    report("auto: gradient, pacer, stragglers, and all of the above", "auto", ALL, 20);
}

fn report(name: &str, strategy: &str, overrides: &str, silent: u32) {
    let config = Config::named(strategy, IN_FLIGHT, None, Some(overrides)).unwrap();
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(&config, silent)).collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<58} {:>8.1} {:>8.1}", rounds[0], rounds[ROUNDS / 2]);
}

/// One batch from end to end; calls take 3 s, but every `silent`-th first attempt never ends by itself. Nanoseconds per call.
fn round(config: &Config, silent: u32) -> f64 {
    let mut policy = Policy::new(config, 1).unwrap();
    let mut running: VecDeque<(u64, AttemptId)> = VecDeque::with_capacity(2 * IN_FLIGHT as usize);
    let mut now = 0;
    let before = cpu::thread_ns();
    for _ in 0..CALLS {
        policy.on_event(now, Event::Queued { count: 1, key: 0, tokens: 200 });
    }
    policy.on_event(now, Event::Closed);
    while !policy.is_done() {
        while let Some(action) = policy.poll(now) {
            if let Action::Start { attempt, kind, .. } = black_box(action) {
                let never = kind == AttemptKind::First && silent > 0 && attempt % silent == 0;
                if !never {
                    running.push_back((now + 3_000_000_000, attempt));
                }
            }
        }
        let due = policy.next_deadline().unwrap_or(u64::MAX);
        match running.front().copied() {
            Some((at, attempt)) if at <= due => {
                running.pop_front();
                now = at.max(now + 1);
                policy.on_event(now, Event::FirstByte { attempt });
                let end = End { outcome: Outcome::Ok, status: 200, tokens_in: 100, tokens_out: 100, ..End::default() };
                policy.on_event(now, Event::Ended { attempt, end });
            }
            _ => now = due,
        }
    }
    let spent = (cpu::thread_ns() - before) as f64;
    assert_eq!(policy.totals().ok, u64::from(CALLS));
    spent / f64::from(CALLS)
}
