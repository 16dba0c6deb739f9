//! What deciding costs: nanoseconds of CPU per call, with everything on and with next to nothing.
//!
//! `cargo bench --bench policy`: a call is its queueing, start, first byte, end and resolution, told and polled one by one as
//! a driver does; the best and the median of many rounds.

#![allow(clippy::unwrap_used)]

mod cpu;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hint::black_box;

use loadgen::policy::{Action, AttemptId, AttemptKind, Config, End, Event, Outcome, Policy};

/// Calls of a round.
const CALLS: u32 = 200_000;
const ROUNDS: usize = 15;
const IN_FLIGHT: u32 = 256;
/// The same of a batch over nodes, so many times as many as are under way at once.
const BATCHES_SPREAD: u32 = 6;
const ROUNDS_SPREAD: usize = 5;

/// Everything that a call can meet: an adaptive limit, hedges, a breaker, both buckets, time limits.
const ALL: &str = r#"{"rates":{"rpm":1e9,"tpm":1e12},"call_timeout_s":600,"streaming":true}"#;

fn main() {
    println!("{:<58} {:>8} {:>8}", "ns/call", "best", "median");
    report("fixed limit, all at once", "parallel", r#"{"limit":{"n":256},"breaker":null}"#, 0);
    report("adaptive, hedged, breaker, rates, time limits", "hedged", ALL, 0);
    report("the same, every 20th call silent until its copy answers", "hedged", ALL, 20);
    report("auto: gradient, pacer, stragglers, and all of the above", "auto", ALL, 20);
    for (nodes, slots) in [(4, 8), (32, 32)] {
        for unlike in [1.0, 8.0] {
            let name = format!("{nodes} nodes of {slots} slots, the slowest {unlike} times slower");
            show(&name, (0..ROUNDS_SPREAD).map(|_| spread_round(nodes, slots, unlike)).collect());
        }
    }
}

fn report(name: &str, strategy: &str, overrides: &str, silent: u32) {
    let config = Config::named(strategy, IN_FLIGHT, None, Some(overrides)).unwrap();
    show(name, (0..ROUNDS).map(|_| round(&config, silent)).collect());
}

fn show(name: &str, mut rounds: Vec<f64>) {
    rounds.sort_by(f64::total_cmp);
    println!("{name:<58} {:>8.1} {:>8.1}", rounds[0], rounds[rounds.len() / 2]);
}

/// One batch over nodes whose speeds are known, evenly between the fastest's and that of the slowest; no two answers come at
/// once. Nanoseconds per call.
fn spread_round(nodes: u32, slots: u32, unlike: f64) -> f64 {
    let service_s = |node: u32| 3.0 * (1.0 + (unlike - 1.0) * f64::from(node) / f64::from(nodes - 1));
    let known: Vec<String> =
        (0..nodes).map(|node| format!(r#"{{"slots":{slots},"service_s":{}}}"#, service_s(node))).collect();
    let overrides = format!(r#"{{"limit":{{"n":{}}},"route":{{"nodes":[{}]}}}}"#, nodes * slots, known.join(","));
    let config = Config::named("parallel", nodes * slots, None, Some(&overrides)).unwrap();
    let (mut policy, calls) = (Policy::new(&config, 1).unwrap(), BATCHES_SPREAD * nodes * slots);
    let mut running = BinaryHeap::with_capacity((nodes * slots) as usize);
    let mut now = 0;
    let before = cpu::thread_ns();
    policy.on_event(now, Event::Queued { count: calls, key: 0, tokens: 200 });
    policy.on_event(now, Event::Closed);
    while !policy.is_done() {
        while let Some(action) = policy.poll(now) {
            if let Action::Start { attempt, node, .. } = black_box(action) {
                // A tenth more or less, so that what is under way differs in age.
                let part = f64::from(attempt.wrapping_mul(2_654_435_761) % 1_000) / 5_000.0 + 0.9;
                running.push(Reverse((now + (service_s(u32::from(node)) * part * 1e9) as u64, attempt)));
            }
        }
        let due = policy.next_deadline().unwrap_or(u64::MAX);
        match running.peek().copied() {
            Some(Reverse((at, attempt))) if at <= due => {
                running.pop();
                now = at.max(now + 1);
                let end = End { outcome: Outcome::Ok, status: 200, tokens_in: 100, tokens_out: 100, ..End::default() };
                policy.on_event(now, Event::Ended { attempt, end });
            }
            _ => now = due,
        }
    }
    let spent = (cpu::thread_ns() - before) as f64;
    assert_eq!(policy.totals().ok, u64::from(calls));
    spent / f64::from(calls)
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
