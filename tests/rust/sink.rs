//! The sink: whoever makes the requests, the log and the report are the same.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::config::RunConfig;
use loadgen::engine::{Bodies, Ending, Sink};
use loadgen::event::{EventReader, EventType, Frame};
use loadgen::record::{Failure, Finish};
use loadgen::stats::{Options, Phase, Summary, summarise};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn sink(dir: &Path) -> Sink {
    sink_with(dir, json!({}))
}

fn sink_with(dir: &Path, more: Value) -> Sink {
    let mut config = json!({
        "url": "python:issuer", "timeout_s": 60, "connect_timeout_s": 5, "stall_timeout_s": 60, "workers": 1,
        "dir": dir, "meta": {"id": "s"}
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Sink::start(serde_json::from_value::<RunConfig>(config).unwrap()).unwrap()
}

fn begin(sink: &Sink, more: Value) {
    let mut phase = json!({
        "name": "p", "load": {"kind": "concurrency", "n": 4}, "drain_timeout_s": 240, "stop_early": false
    });
    phase.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sink.begin(serde_json::from_value(phase).unwrap(), bodies()).unwrap();
}

fn bodies() -> Arc<Bodies> {
    let all: Vec<String> = (0..5).map(|i| format!(r#"{{"prompt":"{i}"}}"#)).collect();
    Arc::new(Bodies::new(all.iter().map(|b| b.as_bytes()), vec![11; 5]).unwrap())
}

fn issue(sink: &Sink) -> u64 {
    sink.issue(None, None).unwrap().unwrap().request
}

fn ok(sink: &Sink, request: u64) -> bool {
    sink.complete(request, &Ending { tokens_out: Some(3), ..Ending::default() }, None)
}

fn end(sink: &Sink) -> Value {
    sink.wait(PATIENCE).unwrap().expect("the phase ends")
}

fn counts(end: &Value) -> [u64; 4] {
    ["issued", "ok", "failed", "cancelled"].map(|name| end["counts"][name].as_u64().unwrap())
}

fn summary(dir: &Path) -> Summary {
    summarise(dir, &Options::default()).unwrap()
}

fn phase(dir: &Path) -> Phase {
    summary(dir).phases.into_iter().next().unwrap()
}

#[test]
fn a_stream_and_a_failure_make_the_same_report_with_pythons_stamps() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 2, "order": "sequential"}));
    let start = sink.start_phase().unwrap();
    let first = sink.issue(None, None).unwrap().unwrap();
    assert!((first.request, first.sample) == (0, 0) && first.planned_ns >= start);
    assert!(sink.sent(0, None) && sink.chunk(0, Some(2), true, None) && sink.chunk(0, Some(1), true, None));
    let second = issue(&sink);
    assert!(sink.issue(None, None).unwrap().is_none(), "two requests were asked for");
    assert!(sink.complete(0, &Ending { finish: Finish::Stop, tokens_in: Some(7), ..Ending::default() }, None));
    let failed = Ending { failure: Failure::Http, status: 503, error: "busy", ..Ending::default() };
    assert!(sink.complete(second, &failed, None));
    let told = end(&sink);
    assert_eq!(
        (counts(&told), told["reason"].as_str(), told["name"].as_str()),
        ([2, 1, 1, 0], Some("requests"), Some("p"))
    );
    sink.finish("complete", "").unwrap();

    let phase = phase(dir.path());
    assert_eq!((phase.counts.issued, phase.counts.ok, phase.counts.failed), (2, 1, 1));
    assert_eq!(phase.trust.invariant_violations, 0);
    let note = "2 requests carry stamps taken in Python";
    assert!(phase.trust.notes.iter().any(|n| n.contains(note)), "{:?}", phase.trust.notes);
    let report = serde_json::to_value(&phase).unwrap();
    assert_eq!(report["metrics"]["ttft"]["count"], 1);
    assert_eq!(report["tokens"]["output"], 3);
    assert!(report.to_string().contains("busy"), "{report}");
}

#[test]
fn an_answer_that_nobody_waits_for_is_counted_as_late_and_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 1}));
    let request = issue(&sink);
    assert!(ok(&sink, request));
    assert!(!ok(&sink, request), "it has ended already");
    assert!(!ok(&sink, 99) && !sink.chunk(99, None, true, None) && !sink.sent(99, None));
    assert_eq!((sink.late(), counts(&end(&sink))), (3, [1, 1, 0, 0]));
    sink.finish("complete", "").unwrap();
    assert_eq!(summary(dir.path()).phases[0].counts.ok, 1);
}

#[test]
fn a_stop_without_grace_cancels_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 10}));
    let requests = [issue(&sink), issue(&sink)];
    assert!(ok(&sink, requests[0]));
    sink.stop(Duration::ZERO);
    let told = end(&sink);
    assert_eq!((counts(&told), told["reason"].as_str()), ([2, 1, 0, 1], Some("stopped")));
    assert!(sink.issue(None, None).unwrap().is_none());
    assert!(!ok(&sink, requests[1]), "its row is written");
    assert_eq!(sink.late(), 1);
    sink.finish("interrupted", "SIGINT").unwrap();
}

#[test]
fn a_stop_of_a_phase_that_is_over_leaves_the_next_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 1}));
    let request = issue(&sink);
    assert!(ok(&sink, request));
    end(&sink);
    begin(&sink, json!({"name": "q", "requests": 2}));
    sink.stop_phase(0, Duration::ZERO);
    let requests = [issue(&sink), issue(&sink)];
    assert!(requests.iter().all(|&request| ok(&sink, request)), "nothing was cancelled");
    assert_eq!(end(&sink)["reason"], "requests");
    begin(&sink, json!({"name": "r", "requests": 2}));
    sink.stop_phase(2, Duration::ZERO);
    assert_eq!(end(&sink)["reason"], "stopped");
}

#[test]
fn a_stop_reaches_what_a_warm_up_has_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"name": "w", "type": "warmup", "requests": 1, "drain": false}));
    let warm = issue(&sink);
    end(&sink);
    begin(&sink, json!({"requests": 2}));
    let request = issue(&sink);
    sink.stop(Duration::ZERO);
    let mut cancelled = sink.take_cancelled();
    cancelled.sort_unstable();
    assert_eq!(cancelled, [warm, request]);
    assert_eq!(end(&sink)["reason"], "stopped");
}

#[test]
fn a_drain_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 2, "drain_timeout_s": 0.0}));
    issue(&sink);
    issue(&sink);
    assert_eq!(counts(&end(&sink)), [2, 0, 0, 2]);
}

#[test]
fn a_phase_that_issues_no_more_and_has_nothing_in_flight_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"load": {"kind": "burst", "n": 9}}));
    let request = issue(&sink);
    sink.end_issue();
    assert!(sink.wait(Duration::ZERO).unwrap().is_none(), "one is in flight");
    ok(&sink, request);
    let told = end(&sink);
    assert_eq!((counts(&told), told["reason"].as_str()), ([1, 1, 0, 0], Some("plan")));
}

#[test]
fn what_waits_for_a_slot_under_a_cap_is_not_late() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(
        &sink,
        json!({
            "load": {"kind": "rate", "rate": 1e9, "arrival": {"kind": "constant"}}, "max_concurrency": 1, "requests": 2
        }),
    );
    let start = sink.start_phase().unwrap();
    let first = sink.issue(None, Some(start)).unwrap().unwrap().request;
    std::thread::sleep(Duration::from_millis(10));
    ok(&sink, first);
    let second = sink.issue(None, Some(start)).unwrap().unwrap().request;
    ok(&sink, second);
    end(&sink);
    sink.finish("complete", "").unwrap();
    let report = serde_json::to_value(phase(dir.path())).unwrap();
    let response = report["metrics"]["response_latency"]["max"].as_f64().unwrap();
    let late = report["trust"]["send_lateness_us"]["max"].as_f64().unwrap() / 1e3;
    assert!(response >= 10.0 && late < response - 9.0, "{response} ms from planned, {late} ms late");
}

#[test]
fn the_duration_counts_from_the_phases_start_and_by_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"duration_s": 3600.0}));
    let start = sink.start_phase().unwrap();
    assert_eq!(sink.issue(None, Some(start)).unwrap().unwrap().planned_ns, start);
    ok(&sink, 0);
    sink.end_issue();
    assert_eq!(end(&sink)["reason"], "plan");

    begin(&sink, json!({"name": "short", "duration_s": 1e-9}));
    sink.start_phase().unwrap();
    assert!(sink.issue(None, None).unwrap().is_none());
    assert_eq!(end(&sink)["reason"], "duration");
}

#[test]
fn a_strategy_that_only_waits_does_not_outlast_the_duration() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"duration_s": 0.001}));
    sink.start_phase().unwrap();
    assert_eq!(end(&sink)["reason"], "duration");
}

#[test]
fn a_warm_up_hands_over_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"name": "w", "type": "warmup", "drain": false, "requests": 2}));
    let warm = [issue(&sink), issue(&sink)];
    assert_eq!(end(&sink)["counts"], Value::Null, "two are in flight");
    begin(&sink, json!({"requests": 1}));
    let measured = issue(&sink);
    assert_eq!(measured, 2);
    assert!(ok(&sink, warm[0]) && ok(&sink, measured));
    assert_eq!(counts(&end(&sink)), [1, 1, 0, 0]);
    sink.finish("complete", "").unwrap();
    let found: Vec<[u64; 4]> = summary(dir.path())
        .phases
        .iter()
        .map(|p| [p.counts.issued, p.counts.ok, p.counts.failed, p.counts.cancelled])
        .collect();
    assert_eq!(found, [[2, 1, 0, 1], [1, 1, 0, 0]], "what was left at the end is cancelled");
}

#[test]
fn a_sample_of_ones_own_is_taken_and_one_that_is_not_there_named() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 1}));
    let error = sink.issue(Some(5), None).unwrap_err().to_string();
    assert_eq!(error, "sample 5 of 5: they are counted from 0");
    assert_eq!(sink.issue(Some(4), None).unwrap().unwrap().sample, 4);
}

#[test]
fn a_body_is_what_the_engine_would_send_by_the_phases_own_settings() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    let body = |sink: &Sink, request| sink.body(request).map(|b| String::from_utf8(b).unwrap());
    begin(&sink, json!({"order": "sequential", "unique_prompts": true, "seed": 10}));
    issue(&sink);
    let streamed = r#"{"stream":true,"stream_options":{"include_usage":true},"prompt":"#;
    assert_eq!(body(&sink, 0).unwrap(), format!(r##"{streamed}"#a.0 0"}}"##));
    ok(&sink, 0);
    assert_eq!(body(&sink, 0), None, "it has ended");
    sink.end_issue();
    end(&sink);
    begin(&sink, json!({"name": "q", "order": "sequential", "request": {"stream": false}}));
    issue(&sink);
    assert_eq!(body(&sink, 1).unwrap(), r#"{"prompt":"0"}"#);
}

#[test]
fn what_an_issuer_tells_is_kept_without_the_phases_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink_with(dir.path(), json!({"api_key": "canary-key"}));
    begin(&sink, json!({"requests": 1, "request": {"headers": [["x-token", "canary-header"]]}}));
    let request = issue(&sink);
    let error = "refused canary-key and canary-header";
    sink.complete(request, &Ending { failure: Failure::Body, error, ..Ending::default() }, None);
    end(&sink);
    sink.finish("complete", "").unwrap();
    let log = std::fs::read(dir.path().join("run.log")).unwrap();
    let holds = |what: &str| log.windows(what.len()).any(|w| w == what.as_bytes());
    assert!(holds("refused") && !holds("canary"));
}

#[test]
fn calls_out_of_turn_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    assert!(sink.issue(None, None).unwrap_err().to_string().contains("begin one first"));
    assert!(sink.wait(Duration::ZERO).unwrap_err().to_string().contains("begin one first"));
    begin(&sink, json!({}));
    let again = serde_json::from_value(json!({"name": "q", "load": {"kind": "burst", "n": 1}, "drain_timeout_s": 1}));
    assert!(sink.begin(again.unwrap(), bodies()).unwrap_err().to_string().contains("still running"));
    sink.finish("complete", "").unwrap();
    sink.finish("complete", "").unwrap();
    assert!(sink.issue(None, None).unwrap().is_none(), "a finished run issues nothing");
}

#[test]
fn threads_that_issue_together_make_exactly_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path());
    begin(&sink, json!({"requests": 2_000}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(issued) = sink.issue(None, None).unwrap() {
                    sink.sent(issued.request, None);
                    assert!(sink.chunk(issued.request, None, true, None) && ok(&sink, issued.request));
                }
            });
        }
    });
    assert_eq!(counts(&end(&sink)), [2_000, 2_000, 0, 0]);
    sink.finish("complete", "").unwrap();
    let phase = phase(dir.path());
    assert_eq!((phase.counts.ok, phase.trust.invariant_violations), (2_000, 0));
}

#[test]
fn an_abandoned_sink_leaves_a_readable_log() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink_with(dir.path(), json!({"save_responses": true}));
    begin(&sink, json!({"requests": 5}));
    let request = issue(&sink);
    sink.complete(request, &Ending { text: "forty-two", ..Ending::default() }, None);
    issue(&sink);
    drop(sink);
    let summary = summary(dir.path());
    assert_eq!((summary.status.as_str(), summary.reason.as_deref()), ("interrupted", Some("abandoned")));
    assert_eq!((summary.phases[0].counts.ok, summary.phases[0].counts.cancelled), (1, 1));
    let answers = std::fs::read(dir.path().join("answers.log")).unwrap();
    assert!(answers.windows(9).any(|w| w == b"forty-two"));
}

#[test]
fn its_events_tell_of_the_same_requests_as_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink_with(dir.path(), json!({"events": {"log": true, "publish": true, "chunks": true}}));
    begin(&sink, json!({"requests": 4, "drain_timeout_s": 0.0}));
    let requests: Vec<u64> = (0..3).map(|_| issue(&sink)).collect();
    assert!(sink.chunk(requests[0], Some(1), true, None) && sink.chunk(requests[0], None, true, None));
    ok(&sink, requests[0]);
    sink.complete(requests[1], &Ending { failure: Failure::Body, ..Ending::default() }, None);
    issue(&sink);
    assert_eq!(counts(&end(&sink)), [4, 1, 1, 2]);
    let queue = sink.event_queue().unwrap();
    sink.finish("complete", "").unwrap();

    let frames = queue.take(usize::MAX);
    let kinds: Vec<EventType> = frames
        .iter()
        .flat_map(|frame| Frame::decode(frame).unwrap().iter().map(|r| r.unwrap().event.kind).collect::<Vec<_>>())
        .collect();
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!((kinds.first(), kinds.last()), (Some(&EventType::SessionStarted), Some(&EventType::SessionEnded)));
    assert_eq!((count(EventType::SampleIssued), count(EventType::SampleComplete)), (4, 4));
    assert_eq!((count(EventType::RecvFirst), count(EventType::RecvNonFirst)), (1, 1));
    assert_eq!(count(EventType::ErrorClient), 1);
    let at = |kind| kinds.iter().position(|k| *k == kind).unwrap();
    assert!(
        at(EventType::StopPerformanceTracking) > kinds.iter().rposition(|k| *k == EventType::SampleComplete).unwrap()
    );
    assert!(at(EventType::StartPerformanceTracking) < at(EventType::SampleIssued));
    let (logged, mut reader) = (kinds.len(), EventReader::open(dir.path(), &[], 0).unwrap());
    let mut found = 0;
    while let Some(frame) = reader.next_frame().unwrap() {
        found += Frame::decode(&frame).unwrap().iter().count();
    }
    assert_eq!(found, logged, "the log has them all");
}
