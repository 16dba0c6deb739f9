//! How far a client's own numbers are believed: what it must have done, and what is said where it didn't.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
#[path = "support/told_log.rs"]
mod told_log;

use loadgen::record::{Detail, Failure, Row, Stamps};
use loadgen::stats::{Options, Verdict};
use serde_json::{Value, json};
use told_log::{Log, MS, S, one, stream};

/// Ticks a second apart from 1 s to 9 s, changed by `change(second, tick)`.
fn ticks(log: &Log, change: impl Fn(u64, &mut Value)) {
    for second in 1..=9 {
        let mut tick = json!({
            "event": "tick", "phase": 0, "ns": second * S, "cpu_ns": second * S / 10,
            "worker_cpu_ns": [second * S / 20, second * S / 20], "loop_stall_ns": [0, 0],
            "steal_ticks": 0, "throttled_ns": 0, "in_flight": 4,
        });
        change(second, &mut tick);
        log.meta(tick);
    }
}

/// A hundred good requests over 7 s under `change`d ticks, the first `late` of them sent 8 ms after their time.
fn judged(late: u64, change: impl Fn(u64, &mut Value)) -> loadgen::stats::Trust {
    judged_under(&json!({"kind": "rate", "rate": 14.0}), late, change)
}

fn judged_under(load: &Value, late: u64, change: impl Fn(u64, &mut Value)) -> loadgen::stats::Trust {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a", "load": load}));
    ticks(&log, change);
    for id in 0..100 {
        let mut told = stream(id, 2 * S + id * 70 * MS, 50 * MS, &[]);
        told.row.stamps.planned -= if id < late { 8 * MS } else { 0 };
        log.push(&told);
    }
    log.end(0, 100);
    let dir = log.finish();
    one(dir.path(), Options::default()).0.phases.remove(0).trust
}

#[test]
fn a_client_that_kept_up_is_trusted() {
    let trust = judged(0, |_, _| {});
    assert_eq!((trust.verdict, trust.reasons.len(), trust.distrust.len()), (Verdict::Ok, 0, 0));
    assert_eq!((trust.cpu_share, trust.cpu_cores, trust.steal), (Some(0.05), Some(0.1), Some(0.0)));
    assert_eq!(trust.send_lateness_us.unwrap().p50, 2.0);
    assert_eq!((trust.late_share, trust.loop_stall_ms), (Some(0.0), Some(0.0)));
    assert!((trust.offered_per_s.unwrap() - 1e9 / (70.0 * MS as f64)).abs() < 1e-9);
}

#[test]
fn times_from_planned_are_named_only_where_they_are_shown() {
    let reason = |load| judged_under(&load, 2, |_, _| {}).reasons.remove(0);
    let scheduled = reason(json!({"kind": "rate", "rate": 14.0}));
    assert!(scheduled.contains("Times from planned hold that wait"), "{scheduled}");
    let by_itself = reason(json!({"kind": "manual"}));
    assert!(by_itself.ends_with("left more than 5 ms late. The times don't hold that wait"), "{by_itself}");
}

#[test]
fn each_sign_of_a_limited_client_is_said_in_its_own_words() {
    let late = judged(2, |_, _| {});
    assert_eq!((late.verdict, late.late_share), (Verdict::ClientLimited, Some(0.02)));
    assert!(late.reasons[0].contains("left more than 5 ms late"), "{}", late.reasons[0]);
    assert!(late.distrust.contains(&"ttft") && !late.distrust.contains(&"response_ttft"));
    assert_eq!(late.suggestion.as_deref(), Some("--workers 4"));
    assert_eq!(judged(1, |_, _| {}).verdict, Verdict::Ok, "one in a hundred is not above the limit");

    let hot = judged(0, |second, tick| tick["worker_cpu_ns"] = json!([second * S * 95 / 100, 0]));
    assert_eq!(hot.verdict, Verdict::ClientLimited);
    assert!(hot.reasons[0].contains("90 % of its core") && hot.distrust.contains(&"response_ttft"));

    let stalled = judged(0, |_, tick| tick["loop_stall_ns"] = json!([0, 40 * MS]));
    assert!(stalled.reasons[0].contains("up to 40 ms"), "{}", stalled.reasons[0]);

    let stolen = judged(0, |second, tick| tick["steal_ticks"] = json!(second * 30));
    assert!(stolen.reasons[0].contains("30 % of a core"), "{}", stolen.reasons[0]);
    assert_eq!(stolen.suggestion.as_deref(), Some("give the client more CPU, or a machine of its own"));

    let throttled = judged(0, |second, tick| tick["throttled_ns"] = json!(second * S / 5));
    assert!(throttled.reasons[0].contains("20 % of the time"), "{}", throttled.reasons[0]);
}

#[test]
fn only_requests_that_were_sent_can_have_opened_a_connection() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "performance", "load": {"kind": "rate"}}));
    for id in 0..40 {
        let mut told = stream(id, 2 * S + id * MS, 5 * MS, &[]);
        told.row.connect_ns = u64::from((10..12).contains(&id)) * 500;
        if id >= 20 {
            let Stamps { planned, issued, done, .. } = told.row.stamps;
            let stamps = Stamps { planned, issued, done, ..Stamps::default() };
            let (failure, detail) = (Failure::Connect, Detail::Refused);
            told.row = Row { id, stamps, failure, detail, connect_ns: 70_000, ..Row::default() };
            told.reads.clear();
        }
        log.push(&told);
    }
    log.end(0, 40);
    let dir = log.finish();
    assert_eq!(one(dir.path(), Options::default()).0.phases[0].trust.connect_share, Some(0.1));
}

#[test]
fn one_stall_is_a_note_and_no_verdict() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    for second in 0..30 {
        let stall = if second == 7 { 25 * MS } else { 0 };
        log.meta(json!({"event": "tick", "phase": 0, "ns": (second + 1) * S, "loop_stall_ns": [stall]}));
    }
    log.push(&stream(0, 2 * S, 50 * MS, &[]));
    let dir = log.finish();
    let trust = one(dir.path(), Options::default()).0.phases.remove(0).trust;
    assert_eq!(trust.verdict, Verdict::Ok);
    assert!(trust.notes[0].contains("25 ms"), "{:?}", trust.notes);
}

#[test]
fn what_cannot_be_judged_is_unknown_and_says_why() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    let mut told = stream(5, 2 * S, 50 * MS, &[]);
    told.row.stamps.done = told.row.stamps.sent;
    log.push(&told);
    let dir = log.finish();
    let trust = one(dir.path(), Options::default()).0.phases.remove(0).trust;
    assert_eq!((trust.verdict, trust.invariant_violations), (Verdict::Unknown, 1));
    assert!(trust.reasons[0].contains("not sampled"), "{:?}", trust.reasons);
    assert!(trust.reasons[1].contains("request 5: done before last_token"), "{:?}", trust.reasons);
}
