use super::*;
use crate::engine::manual::{Order, Orders};
use crate::engine::settings::tests::settings;
use crate::record::Detail;
use serde_json::json;

fn phase(json: &str, workers: u16) -> Phase {
    let config: PhaseConfig = serde_json::from_str(json).unwrap();
    let settings = settings(json!({}), json!({}));
    Phase::new(0, 100, Ways { config, settings, gate: None, balance: Balance::elsewhere() }, workers)
}

/// A phase that is issued from outside, and its only worker's orders.
fn manual(limits: &str) -> (Phase, Orders) {
    let load = format!(r#"{{"name":"p","load":{{"kind":"manual"}},"drain_timeout_s":1{limits}}}"#);
    let (gate, mut orders) = Gate::new(1);
    (Phase { gate: Some(gate), ..phase(&load, 1) }, orders.remove(0))
}

fn closed(requests: u64) -> Phase {
    let json =
        format!(r#"{{"name":"p","load":{{"kind":"concurrency","n":2}},"requests":{requests},"drain_timeout_s":240}}"#);
    phase(&json, 2)
}

fn answer(failure: Failure, status: u16, detail: Detail) -> Row {
    Row { node: Some(0), failure, status, detail, ..Row::default() }
}

#[test]
fn claims_end_at_the_limit_and_say_so() {
    let p = closed(3);
    assert_eq!([p.claim(), p.claim(), p.claim(), p.claim()], [Some(0), Some(1), Some(2), None]);
    assert_eq!(p.reason(), Some(StopReason::Requests));
    assert_eq!(p.claimed(), 3);
}

#[test]
fn what_is_issued_from_outside_has_the_sessions_numbers_and_ends_at_the_limit() {
    let (p, mut orders) = manual(r#","requests":2"#);
    assert_eq!(
        [p.issue(Asked { sample: Some(7), ..Asked::default() }), p.issue(Asked::default()), p.issue(Asked::default())],
        [Ok(Some(100)), Ok(Some(101)), Ok(None)]
    );
    let taken: Vec<_> = std::iter::from_fn(|| orders.try_recv().ok())
        .map(|order| match order {
            Order::Make { index, asked, .. } => (index, asked.sample),
            Order::GiveUp(index) => panic!("nobody gave {index} up"),
        })
        .collect();
    assert_eq!(taken, [(0, Some(7)), (1, None)]);
    assert!(orders.is_closed(), "the last request closes the gate: nobody need say that it was the last");
    assert_eq!((p.reason(), p.claimed(), p.never_issued()), (Some(StopReason::Requests), 2, 0));
}

#[test]
fn nothing_is_issued_from_outside_once_the_phase_has_stopped_or_its_time_is_over() {
    let (p, orders) = manual("");
    assert_eq!(p.issue(Asked::default()), Ok(Some(100)));
    p.stop(StopReason::Stopped);
    assert_eq!((p.issue(Asked::default()), p.reason()), (Ok(None), Some(StopReason::Stopped)));
    assert!(!orders.is_empty() && orders.is_closed(), "what was promised is still made");
    let (p, orders) = manual(r#","duration_s":0"#);
    assert_eq!((p.issue(Asked::default()), p.reason()), (Ok(None), Some(StopReason::Duration)));
    assert!(orders.is_empty() && orders.is_closed());
}

#[test]
fn a_phase_with_a_plan_takes_nothing_from_outside() {
    let p = closed(3);
    assert_eq!((p.issue(Asked::default()), p.stopped()), (Ok(None), false));
}

#[test]
fn the_first_reason_to_stop_stays() {
    let p = closed(3);
    p.stop(StopReason::Disk);
    p.stop(StopReason::Stopped);
    assert_eq!((p.reason(), p.claim()), (Some(StopReason::Disk), None));
}

#[test]
fn it_is_over_when_every_worker_has_left() {
    let p = closed(1);
    p.issued_last(10, 1);
    assert!(p.is_issuing());
    p.issued_last(20, 0);
    assert!(!p.is_issuing());
    p.leave(Tally { issued: 1, ok: 1, ..Tally::default() }, 30);
    assert!(!p.wait(Duration::ZERO));
    p.leave(Tally::default(), 25);
    assert!(p.wait(Duration::ZERO));
    assert_eq!(p.tally(), (Some(Tally { issued: 1, ok: 1, ..Tally::default() }), 30));
    assert_eq!((p.issue_end_ns(), p.issued()), (20, 1));
    assert!(p.cancelled(20 + 240_000_000_000) && !p.cancelled(19 + 240_000_000_000), "the drain is bounded");
}

#[test]
fn eight_fatal_first_answers_stop_it_and_one_good_one_prevents_that() {
    let fatal = answer(Failure::Http, 404, Detail::None);
    let p = closed(1000);
    (0..7).for_each(|_| p.learn(&fatal));
    assert!(!p.stopped());
    p.learn(&answer(Failure::Connect, 0, Detail::Refused));
    assert_eq!(p.reason(), Some(StopReason::Early));

    let p = closed(1000);
    p.learn(&answer(Failure::None, 200, Detail::None));
    (0..50).for_each(|_| p.learn(&fatal));
    assert!(!p.stopped());
}

#[test]
fn arrivals_that_a_cap_held_back_are_counted() {
    let json = r#"{"name":"p","load":{"kind":"rate","rate":10.0,"arrival":{"kind":"constant"}},
                   "duration_s":2.0,"drain_timeout_s":1}"#;
    let p = phase(json, 1);
    p.start(1_000);
    p.issued_last(1_000 + 2_000_000_000, 15);
    p.leave(Tally { issued: 15, ..Tally::default() }, 0);
    assert_eq!(p.never_issued(), 5);
}
