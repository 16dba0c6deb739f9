//! Every fault that the mock server knows, met by the engine: each request ends in time with a typed outcome.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::config::{PhaseConfig, RunConfig};
use loadgen::engine::{Bodies, Engine};
use loadgen::mock::{self, faults};
use loadgen::record::{BlockKind, LogReader, Row, RowBlock, UNSET};
use serde_json::json;

/// Requests of each fault's run: more than one, so that what a fault leaves behind on a connection shows.
const REQUESTS: u64 = 3;

fn rows_of(fault: &str, stream: bool) -> Vec<Row> {
    rows_over(fault, stream, None)
}

/// The same, over TLS where a certificate and its key are given: its connections end without TLS's goodbye.
fn rows_over(fault: &str, stream: bool, tls: Option<(&std::path::Path, &std::path::Path)>) -> Vec<Row> {
    let mut config = json!({"faults": [fault], "output_tokens": 8, "gap": 1});
    if let Some((cert, key)) = tls {
        config["tls"] = json!({"cert": cert, "key": key, "no_close_notify": true});
    }
    let server = mock::Server::start(serde_json::from_value(config).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Short where a time-out is the outcome; elsewhere none may come however slow the machine is.
    let timeout = if matches!(fault, "slowloris" | "stall_headers") { 1.0 } else { 50.0 };
    let stall_timeout = if fault.starts_with("stall_") || fault == "open_after_done" { 0.4 } else { 50.0 };
    let run: RunConfig = serde_json::from_value(json!({
        "url": server.url(), "insecure": tls.is_some(), "stream": stream, "timeout_s": timeout, "connect_timeout_s": 30.0,
        "stall_timeout_s": stall_timeout,
        "workers": 1, "dir": dir.path(), "meta": {"id": fault},
    }))
    .unwrap();
    let phase: PhaseConfig = serde_json::from_value(json!({
        "name": "main", "load": {"kind": "concurrency", "n": REQUESTS}, "requests": REQUESTS, "drain_timeout_s": 30.0,
        "stop_early": false,
    }))
    .unwrap();
    let body = br#"{"model":"mock","messages":[{"role":"user","content":"hi"}]}"#;
    let bodies = Bodies::new([body.as_slice()].into_iter(), vec![]).unwrap();
    let engine = Engine::start(run).unwrap();
    engine.begin(phase, Arc::new(bodies)).unwrap();
    assert!(engine.wait(Duration::from_secs(60)).unwrap().is_some(), "{fault}: the run ends in time");
    engine.finish("complete", "").unwrap();
    read(dir.path())
}

fn read(dir: &std::path::Path) -> Vec<Row> {
    let mut log = LogReader::open(dir).unwrap();
    let mut rows = Vec::new();
    while let Some(block) = log.next_block().unwrap() {
        if block.kind == BlockKind::Rows {
            let mut block = RowBlock::new(&block).unwrap();
            while let Some(view) = block.next_row().unwrap() {
                rows.push(view.row);
            }
        }
    }
    rows
}

/// Class and detail of every row.
fn outcomes(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|r| match (r.failure.name(), r.status) {
            ("none", _) if r.streamed => format!("ok {}", r.chunks),
            ("none", _) => "ok".to_owned(),
            ("http", status) if format!("{:?}", r.detail) == "None" => format!("http {status}"),
            (class, _) => format!("{class} {:?}", r.detail),
        })
        .collect()
}

/// What becomes of a request that meets the fault: as a stream, and as one answer. `ok N`: N chunks carried
/// tokens. Alternatives (`|`) are the network's choice: whether an end is seen before the reset that follows it.
#[rustfmt::skip]
const OUTCOMES: [(&str, &str, &str); faults::ALL.len()] = [
    ("crlf", "ok 8", "ok"),
    ("cr", "ok 8", "ok"),
    ("mixed_newlines", "ok 8", "ok"),
    ("crlf_split", "ok 8", "ok"),
    ("bom", "ok 8", "ok"),
    ("multi_line_data", "ok 8", "ok"),
    ("no_space", "ok 8", "ok"),
    ("sse_fields", "ok 8", "ok"),
    ("comments", "ok 8", "body BadJson"),
    ("pings", "ok 8", "body BadJson"),
    ("empty_data", "ok 8", "body BadJson"),
    ("one_byte_writes", "ok 8", "ok"),
    ("one_write", "ok 8", "ok"),
    ("split_utf8", "ok 8", "ok"),
    ("half_line_eof", "body EarlyEnd", "body BadJson"),
    ("long_line", "protocol LineTooLong", "ok"),
    ("endless_line", "protocol LineTooLong", "protocol BodyTooBig"),
    ("endless_stream", "protocol BodyTooBig", "protocol BodyTooBig"),
    ("invalid_utf8", "ok 8", "ok"),
    ("lone_surrogate", "ok 8", "ok"),
    ("nul", "ok 8", "ok"),
    ("nul_raw", "body BadJson", "body BadJson"),
    ("control_chars", "body BadJson", "body BadJson"),
    ("deep_json", "ok 8", "ok"),
    ("duplicate_keys", "ok 8", "ok"),
    ("reordered_keys", "ok 8", "ok"),
    ("huge_int", "ok 8", "ok"),
    ("nan", "body BadJson", "body BadJson"),
    ("broken_json", "body BadJson", "body BadJson"),
    ("not_json", "body BadJson", "body BadJson"),
    ("error_event", "body ErrorEvent", "body ErrorEvent"),
    ("error_event_done", "body ErrorEvent", "body ErrorEvent"),
    ("error_event_named", "body ErrorEvent", "body ErrorEvent"),
    ("no_done", "ok 8", "ok"),
    ("two_done", "ok 8", "ok"),
    ("bytes_after_done", "ok 8", "body BadJson"),
    ("open_after_done", "ok 8", "stall None"),
    ("role_only", "ok 0", "ok"),
    ("content_null", "ok 8", "ok"),
    ("empty_delta", "ok 8", "ok"),
    ("empty_content", "ok 8", "ok"),
    ("no_choices", "ok 8", "body BadJson"),
    ("empty_choices", "ok 8", "body BadJson"),
    ("no_finish_reason", "ok 8", "ok"),
    ("ndjson", "protocol ContentType", "protocol ContentType"),
    ("json_instead", "ok", "ok"),
    ("empty_200", "body Empty", "body Empty"),
    ("usage_own", "ok 8", "ok"),
    ("usage_delta", "ok 8", "ok"),
    ("usage_finish", "ok 8", "ok"),
    ("usage_continuous", "ok 8", "ok"),
    ("usage_absent", "ok 8", "ok"),
    ("usage_wrong", "ok 8", "ok"),
    ("reasoning", "ok 8", "ok"),
    ("tool_calls", "ok 8", "ok"),
    ("n_interleaved", "ok 24", "ok"),
    ("stop_midstream", "body EarlyEnd", "body EarlyEnd"),
    ("continue_100", "ok 8", "ok"),
    ("processing_102_many", "ok 8", "ok"),
    ("early_hints_103", "ok 8", "ok"),
    ("upgrade_101", "protocol Upgrade", "protocol Upgrade"),
    ("redirect", "http Redirect", "http Redirect"),
    ("redirect_301", "http Redirect", "http Redirect"),
    ("400", "http 400", "http 400"),
    ("401", "http 401", "http 401"),
    ("403", "http 403", "http 403"),
    ("404", "http 404", "http 404"),
    ("usage_refused_400", "ok 8", "ok"),
    ("usage_refused_422", "ok 8", "ok"),
    ("429", "http 429", "http 429"),
    ("429_date", "http 429", "http 429"),
    ("429_negative", "http 429", "http 429"),
    ("429_huge", "http 429", "http 429"),
    ("429_garbage", "http 429", "http 429"),
    ("429_absent", "http 429", "http 429"),
    ("429_fraction", "http 429", "http 429"),
    ("429_ms", "http 429", "http 429"),
    ("429_other_name", "http 429", "http 429"),
    ("500", "http 500", "http 500"),
    ("all_500", "http 500", "http 500"),
    ("500_html", "http 500", "http 500"),
    ("500_empty", "http 500", "http 500"),
    ("502_html", "http 502", "http 502"),
    ("503", "http 503", "http 503"),
    ("204", "body Empty", "body Empty"),
    ("bad_status_line", "protocol BadHead", "protocol BadHead"),
    ("bad_version", "protocol BadHead", "protocol BadHead"),
    ("not_http", "protocol BadHead", "protocol BadHead"),
    ("lf_head", "ok 8", "ok"),
    ("folded_header", "protocol BadHead", "protocol BadHead"),
    ("header_without_colon", "protocol BadHead", "protocol BadHead"),
    ("nul_header", "protocol BadHead", "protocol BadHead"),
    ("big_header", "protocol HeadTooBig", "protocol HeadTooBig"),
    ("many_headers", "protocol HeadTooBig", "protocol HeadTooBig"),
    ("endless_headers", "protocol HeadTooBig", "protocol HeadTooBig"),
    ("wrong_content_type", "protocol ContentType", "protocol ContentType"),
    ("no_content_type", "ok 8", "ok"),
    ("http10", "ok 8", "ok"),
    ("no_length", "ok 8", "ok"),
    ("gzip", "protocol Encoding", "protocol Encoding"),
    ("gzip_bomb", "protocol Encoding", "protocol Encoding"),
    ("short_length", "protocol BadLength", "protocol BadLength"),
    ("long_length", "ok 8", "body EarlyEnd"),
    ("negative_length", "protocol BadLength", "protocol BadLength"),
    ("huge_length", "protocol BadLength", "protocol BadLength"),
    ("two_lengths", "protocol BadLength", "protocol BadLength"),
    ("length_and_chunked", "protocol BadLength", "protocol BadLength"),
    ("bad_chunk_size", "protocol BadChunk", "protocol BadChunk"),
    ("huge_chunk_size", "protocol BadChunk", "protocol BadChunk"),
    ("no_chunk_end", "protocol BadChunk", "protocol BadChunk"),
    ("chunk_extensions", "ok 8", "ok"),
    ("trailers", "ok 8", "ok"),
    ("extra_bytes", "ok 8", "protocol BadLength"),
    ("reset_at_accept", "body EarlyEnd | body Reset | connect Reset", "body EarlyEnd | body Reset | connect Reset"),
    ("fin_at_accept", "body EarlyEnd | body Reset | connect Reset", "body EarlyEnd | body Reset | connect Reset"),
    ("slowloris", "timeout None", "timeout None"),
    ("stall_headers", "timeout None", "timeout None"),
    ("stall_first_token", "stall None", "stall None"),
    ("stall_midstream", "stall None", "stall None"),
    ("reset_at_headers", "body Reset", "body Reset"),
    ("reset_at_first_token", "body Reset", "ok"),
    ("reset_at_midstream", "body Reset", "body Reset"),
    ("fin_at_headers", "body EarlyEnd", "body EarlyEnd"),
    ("fin_midhead", "body EarlyEnd", "body EarlyEnd"),
    ("fin_midchunk", "body EarlyEnd", "body EarlyEnd"),
    ("close_idle", "ok 8", "ok"),
    ("close_on_reuse", "ok 8", "ok"),
];

/// Meet every second fault from `first` on: the halves run side by side.
fn meet(stream: bool, first: usize) {
    for (fault, &(name, streamed, whole)) in faults::ALL.iter().zip(&OUTCOMES).skip(first).step_by(2) {
        assert_eq!(fault.name, name, "a fault has no outcome here, or another place");
        let rows = rows_of(name, stream);
        assert_eq!(rows.len() as u64, REQUESTS, "{name}: every request has its row");
        let wanted: Vec<&str> = if stream { streamed } else { whole }.split(" | ").collect();
        for outcome in outcomes(&rows) {
            assert!(wanted.contains(&outcome.as_str()), "{name}: {outcome}, not {wanted:?}");
        }
        for row in &rows {
            let s = row.stamps;
            let all = [s.planned, s.issued, s.sent, s.first_byte, s.first_token, s.last_token, s.done];
            assert!(all.iter().filter(|&&t| t != UNSET).is_sorted(), "{name}: {s:?}");
            assert_ne!(s.done, UNSET, "{name}");
        }
    }
}

#[test]
fn every_second_fault_in_a_stream_has_its_outcome() {
    meet(true, 0);
}

#[test]
fn every_other_fault_in_a_stream_has_its_outcome() {
    meet(true, 1);
}

#[test]
fn every_second_fault_in_a_single_answer_has_its_outcome() {
    meet(false, 0);
}

#[test]
fn every_other_fault_in_a_single_answer_has_its_outcome() {
    meet(false, 1);
}

#[test]
fn tls_that_ends_without_its_goodbye_is_judged_by_the_framing() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    for (fault, wanted) in [("no_length", "ok 8"), ("fin_midchunk", "body EarlyEnd")] {
        let found = outcomes(&rows_over(fault, true, Some((&cert, &key))));
        assert!(found.iter().all(|outcome| outcome == wanted), "{fault}: {found:?}");
    }
}
