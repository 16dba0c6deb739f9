//! The engine against a scripted server: what is sent, how often, and what the log says of it.

#![allow(clippy::unwrap_used)]

mod engine_http2;
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loadgen::record::{AttemptKind, Detail, Failure, TextKind, TextReader, TokenSource, UNSET, WhichLog};
use serde_json::{Value, json};
use support::http2;
use support::run::{PATIENCE, Run, assert_ordered, closed, read, until};
use support::{Latch, Reply, Server, answer, chat, stream};

/// So many side by side are more than a worker reads in a row.
const STREAMS: usize = 100;

#[test]
fn a_closed_loop_sends_each_request_once_and_keeps_its_connections() {
    for workers in [1, 3] {
        let server = Server::new(|_, _| Reply::Keep(chat()));
        let run = Run::new(&server.url, json!({"workers": workers}));
        let end = run.phase(closed(4, 50));
        assert_eq!(end["counts"]["ok"], 50, "{end}");
        assert_eq!(end["reason"], "requests");
        let rows = run.rows();
        assert_eq!(rows.iter().map(|(r, _)| r.id).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        assert_eq!(rows.iter().map(|(r, _)| r.sample).collect::<Vec<_>>(), (0..50).map(|i| i % 3).collect::<Vec<_>>());
        for (row, attempts) in &rows {
            assert_ordered(row);
            assert_eq!((row.failure, row.status, row.tokens_out), (Failure::None, 200, Some(2)));
            assert_eq!((row.stamps.planned, row.stamps.first_token), (row.stamps.issued, UNSET));
            assert!(attempts.is_empty() && !row.streamed);
        }
        assert_eq!(server.seen.connections.load(Ordering::SeqCst), 4);
        assert!(server.seen.most_in_flight.load(Ordering::SeqCst) <= 4);
    }
}

#[test]
fn a_closed_loop_holds_exactly_its_number_in_flight() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server =
        Server::new(move |n, _| if n < 6 { Reply::After(Arc::clone(&held), chat()) } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({"workers": 4}));
    run.begin(closed(6, 100));
    while server.seen.in_flight.load(Ordering::SeqCst) < 6 {
        std::thread::yield_now();
    }
    assert_eq!(run.engine.live().0.in_flight(), 6);
    latch.open();
    assert_eq!(run.wait()["counts"]["ok"], 100);
    assert_eq!(server.seen.most_in_flight.load(Ordering::SeqCst), 6);
}

#[test]
fn a_stream_is_stamped_token_by_token_and_its_usage_is_believed() {
    let server = Server::new(|_, body| {
        assert!(body.starts_with(r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m""#), "{body}");
        Reply::Keep(stream(5))
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    run.phase(closed(2, 10));
    for (row, _) in run.rows() {
        assert_ordered(&row);
        assert_eq!((row.failure, row.chunks, row.tokens_out, row.tokens_in), (Failure::None, 5, Some(5), Some(5)));
        assert_eq!(row.token_source, TokenSource::Usage);
        assert!(row.streamed && row.stamps.first_token != UNSET && row.stamps.first_output != UNSET);
    }
}

/// A streamed answer of so many tokens of so many bytes each, an event a piece.
fn pieces(tokens: usize, bytes: usize) -> Vec<Vec<u8>> {
    let text = "x".repeat(bytes);
    let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len()).into_bytes();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let mut pieces = vec![head.as_bytes().to_vec()];
    pieces.extend((0..tokens).map(|_| chunk(&event)));
    pieces.extend([chunk(end), b"0\r\n\r\n".to_vec()]);
    pieces
}

#[test]
fn of_many_streams_at_once_small_and_big_each_gets_its_own_bytes() {
    // All at once are more than a worker reads in a row, and the big ones more than its buffer holds.
    let shape = |n: usize| (n % 9 + 1, if n.is_multiple_of(5) { 50_000 } else { 3 });
    let all_here = Arc::new(std::sync::Barrier::new(STREAMS));
    let here = Arc::clone(&all_here);
    let server = Server::new(move |n, _| {
        here.wait();
        let (tokens, bytes) = shape(n);
        Reply::Pieces(pieces(tokens, bytes))
    });
    let run = Run::new(&server.url, json!({"stream": true, "workers": 1}));
    let end = run.phase(closed(STREAMS as u32, 2 * STREAMS as u64));
    assert_eq!(end["counts"]["ok"], 2 * STREAMS, "{end}");
    let mut got: Vec<(u32, u64)> = run
        .rows()
        .iter()
        .map(|(row, _)| {
            assert_ordered(row);
            (row.chunks, row.bytes_in)
        })
        .collect();
    let mut sent: Vec<(u32, u64)> = (0..2 * STREAMS)
        .map(|n| {
            let (tokens, bytes) = shape(n);
            (tokens as u32, pieces(tokens, bytes).concat().len() as u64)
        })
        .collect();
    got.sort_unstable();
    sent.sort_unstable();
    assert_eq!(got, sent);
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), STREAMS, "all were read to their ends, and used again");
}

#[test]
fn an_answer_that_never_pauses_holds_up_neither_the_others_nor_an_interrupt() {
    let server = Server::new(|n, _| match n {
        0 => {
            let mut endless = pieces(1, 60_000);
            endless.truncate(2);
            // Many at once: who reads as much as there is finds no end of it.
            Reply::Endless(vec![endless[0].clone(), endless[1].repeat(64)])
        }
        _ => Reply::Keep(stream(3)),
    });
    let run = Run::new(&server.url, json!({"stream": true, "workers": 1}));
    run.begin(closed(2, 9));
    // The others bring a few chunks each; what is more is of the endless one, which may begin last.
    until(|| {
        let (live, _) = run.engine.live();
        live.ok == 8 && live.chunks > 1_000
    });
    run.engine.stop(Duration::ZERO);
    let end = run.wait();
    assert_eq!((&end["counts"]["ok"], &end["counts"]["cancelled"]), (&json!(8), &json!(1)), "{end}");
    let rows = run.rows();
    let (endless, _) = rows.iter().find(|(row, _)| row.failure == Failure::Cancelled).unwrap();
    assert_ordered(endless);
    assert!(endless.chunks > 0, "{} bytes", endless.bytes_in);
}

/// A stream of these deltas, with or without usage at its end.
fn stream_of(deltas: &[&str], usage: bool) -> Vec<u8> {
    let events =
        deltas.iter().map(|delta| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}\n\n"));
    let mut body: String = events.collect();
    body += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    body += if usage { "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n" } else { "" };
    answer(200, "text/event-stream", &(body + "data: [DONE]\n\n"))
}

/// What a run of these five answers leaves in its `answers.log`.
fn answers_of(config: Value) -> Vec<(u64, TextKind, String)> {
    const CALL: &str = r#""tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]"#;
    let server = Server::new(|n, _| match n {
        0 => Reply::Keep(stream_of(&[r#""content":"told""#], true)),
        1 => Reply::Keep(stream_of(&[r#""reasoning":"hm, ""#, r#""reasoning":"so""#, r#""content":"o\u006b""#], false)),
        2 => Reply::Keep(stream_of(&[r#""content":"calls""#, CALL], false)),
        3 => Reply::Keep(answer(200, "application/json", r#"{"choices":[{"message":{"content":"whole"}}]}"#)),
        _ => Reply::Keep(answer(200, "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"cut")),
    });
    let mut told = json!({"stream": true});
    told.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let run = Run::new(&server.url, told);
    let end = run.phase(closed(1, 5));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(4), &json!(1)));
    run.engine.finish("complete", "").unwrap();
    let mut reader = TextReader::open(run.dir.path(), WhichLog::Answers).unwrap();
    let mut texts = Vec::new();
    while let Some((request, kind, text)) = reader.next_text().unwrap() {
        texts.push((request, kind, String::from_utf8(text).unwrap()));
    }
    texts
}

#[test]
fn only_good_answers_that_nobody_counted_are_kept_for_a_tokenizer() {
    let text = |request, kind, text: &str| (request, kind, text.to_owned());
    let expected = [
        text(1, TextKind::Reasoning, "hm, so"),
        text(1, TextKind::Answer, "ok"),
        text(2, TextKind::Answer, "calls"),
        text(2, TextKind::Unkept, ""),
        text(3, TextKind::Answer, "whole"),
    ];
    assert_eq!(answers_of(json!({"keep_uncounted": true})), expected);
    let all = answers_of(json!({"keep_uncounted": true, "save_responses": true}));
    assert_eq!(all[0], text(0, TextKind::Answer, "told"));
    assert_eq!(all[1..6], expected);
}

#[test]
fn an_open_loop_sends_its_whole_plan_in_order_and_says_when_it_was_due() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"workers": 2}));
    let load = json!({"kind": "rate", "rate": 500.0, "arrival": {"kind": "constant"}});
    let end = run.phase(json!({"load": load, "requests": 60}));
    assert_eq!((&end["counts"]["ok"], &end["reason"]), (&json!(60), &json!("requests")));
    let rows = run.rows();
    let start = rows[0].0.stamps.planned;
    for (i, (row, _)) in rows.iter().enumerate() {
        assert_ordered(row);
        assert_eq!(row.stamps.planned - start, i as u64 * 2_000_000);
        assert!(row.stamps.issued >= row.stamps.planned);
    }
}

#[test]
fn a_burst_goes_out_at_once() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let run = Run::new(&server.url, json!({"workers": 2}));
    run.begin(json!({"load": {"kind": "burst", "n": 40}}));
    while server.seen.in_flight.load(Ordering::SeqCst) < 40 {
        std::thread::yield_now();
    }
    latch.open();
    assert_eq!(run.wait()["counts"]["ok"], 40);
}

#[test]
fn a_cap_on_a_rate_is_kept_and_what_it_delays_is_in_the_row() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"workers": 2}));
    let load = json!({"kind": "rate", "rate": 100_000.0, "arrival": {"kind": "constant"}});
    let end = run.phase(json!({"load": load, "requests": 200, "max_concurrency": 3}));
    assert_eq!(end["counts"]["ok"], 200);
    assert!(server.seen.most_in_flight.load(Ordering::SeqCst) <= 3);
    for (row, _) in run.rows() {
        assert!(row.stamps.free >= row.stamps.planned && row.stamps.issued >= row.stamps.free);
    }
}

#[test]
fn a_kept_alive_connection_that_was_closed_is_replaced_and_no_error() {
    let server = Server::new(|n, _| if n % 5 == 4 { Reply::Close(chat()) } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(closed(1, 20));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(20), &json!(0)));
    let reconnects = end["counts"]["reconnects"].as_u64().unwrap();
    assert!(reconnects > 0);
    let rows = run.rows();
    let replaced: Vec<_> = rows.iter().filter(|(_, attempts)| !attempts.is_empty()).collect();
    assert_eq!(replaced.len() as u64, reconnects);
    for (_, attempts) in replaced {
        let kinds: Vec<_> = attempts.iter().map(|a| a.kind).collect();
        assert_eq!(kinds, [AttemptKind::First, AttemptKind::Reconnect]);
    }
    assert_eq!(server.seen.bodies.lock().unwrap().len(), 20, "a request that was answered is never sent again");
}

#[test]
fn a_connection_made_ahead_that_was_closed_before_its_first_request_is_replaced_too() {
    let server = Server::closing_first(1, |_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(closed(1, 3));
    assert_eq!(
        end["counts"],
        json!({"issued": 3, "ok": 3, "failed": 0, "cancelled": 0, "reconnects": 1}),
        "idle servers close connections that nobody has used yet"
    );
}

#[test]
fn a_run_that_is_finished_in_the_middle_of_a_phase_sends_no_more() {
    for load in [
        json!({"load": {"kind": "concurrency", "n": 4}}),
        json!({"load": {"kind": "rate", "rate": 2000.0, "arrival": {"kind": "constant"}}}),
    ] {
        let server = Server::new(|_, _| Reply::Keep(chat()));
        let run = Run::new(&server.url, json!({"workers": 2}));
        run.begin(load);
        while server.seen.bodies.lock().unwrap().len() < 20 {
            std::thread::yield_now();
        }
        let (sender, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(run.rows()));
        let rows = finished.recv_timeout(PATIENCE).expect("the end does not wait for the plan's");
        assert!(rows.len() >= 20 - 4);
    }
}

#[test]
fn a_server_that_refuses_usage_is_asked_again_without_it() {
    let server = Server::new(|_, body| {
        if body.contains("stream_options") {
            Reply::Keep(answer(422, "application/json", r#"{"detail":"Extra inputs: stream_options"}"#))
        } else {
            Reply::Keep(stream(3))
        }
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    let end = run.phase(closed(1, 5));
    assert_eq!((&end["counts"]["ok"], &end["usage_refused"]), (&json!(5), &json!(true)));
    let rows = run.rows();
    assert_eq!(
        rows[0].1.iter().map(|a| (a.kind, a.status)).collect::<Vec<_>>(),
        [(AttemptKind::First, 422), (AttemptKind::Retry, 200)]
    );
    assert!(rows[1..].iter().all(|(_, attempts)| attempts.is_empty()));
}

#[test]
fn fatal_first_answers_stop_the_phase_early() {
    let server =
        Server::new(|_, _| Reply::Keep(answer(404, "application/json", r#"{"error":{"message":"no such model"}}"#)));
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(closed(1, 10_000));
    assert_eq!(
        (&end["reason"], &end["counts"]["issued"], &end["counts"]["failed"]),
        (&json!("early"), &json!(8), &json!(8))
    );
}

#[test]
fn a_refused_connection_is_a_row_with_its_class() {
    let url = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let run = Run::new(&url, json!({}));
    let end = run.phase(closed(2, 3));
    assert_eq!(end["counts"]["failed"], 3, "{end}");
    for (row, _) in run.rows() {
        assert_eq!((row.failure, row.detail, row.stamps.sent), (Failure::Connect, Detail::Refused, UNSET));
        assert_ordered(&row);
    }
}

#[test]
fn an_interrupt_lets_what_is_in_flight_finish_within_its_grace() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let run = Run::new(&server.url, json!({}));
    run.begin(closed(2, 1000));
    while server.seen.in_flight.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    run.engine.stop(PATIENCE);
    latch.open();
    let end = run.wait();
    assert_eq!(end["reason"], "stopped");
    assert_eq!(end["counts"], json!({"issued": 2, "ok": 2, "failed": 0, "cancelled": 0, "reconnects": 0}));
}

#[test]
fn a_second_interrupt_cancels_and_counts() {
    let server = Server::new(|_, _| Reply::Hang);
    let run = Run::new(&server.url, json!({}));
    run.begin(closed(3, 1000));
    while server.seen.in_flight.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    run.engine.stop(PATIENCE);
    run.engine.stop(Duration::ZERO);
    assert_eq!(run.wait()["counts"]["cancelled"], 3);
    assert!(run.rows().iter().all(|(row, _)| row.failure == Failure::Cancelled && row.stamps.done != UNSET));
}

#[test]
fn silence_before_the_first_byte_is_a_timeout_and_after_it_a_stall() {
    let server = Server::new(|n, _| match n {
        0 => Reply::Hang,
        _ => {
            let whole = stream(50);
            Reply::After(Arc::new(Latch::default()), whole)
        }
    });
    let run = Run::new(&server.url, json!({"timeout_s": 0.2}));
    let end = run.phase(closed(1, 2));
    assert_eq!(end["counts"]["failed"], 2);
    assert!(run.rows().iter().all(|(row, _)| row.failure == Failure::Timeout));

    let half = Server::new(|_, _| {
        let mut half = stream(50);
        half.truncate(half.len() / 2);
        Reply::Keep(half)
    });
    let run = Run::new(&half.url, json!({"stream": true, "stall_timeout_s": 0.2}));
    run.phase(closed(1, 1));
    let rows = run.rows();
    assert_eq!(rows[0].0.failure, Failure::Stall);
    assert!(rows[0].0.chunks > 0, "what came is kept");
    assert_ordered(&rows[0].0);
}

#[test]
fn a_warm_up_hands_its_requests_over_and_they_keep_their_slots() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server =
        Server::new(move |n, _| if n < 2 { Reply::After(Arc::clone(&held), chat()) } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({}));
    let warm = run.phase(json!({"name": "warm", "type": "warmup", "drain": false, "load": {"kind": "concurrency", "n": 2}, "requests": 2}));
    assert_eq!(warm["reason"], "requests");
    run.begin(closed(3, 5));
    while server.seen.bodies.lock().unwrap().len() < 7 {
        std::thread::yield_now();
    }
    assert!(server.seen.most_in_flight.load(Ordering::SeqCst) <= 3, "the warm-up's requests count against the slots");
    latch.open();
    assert_eq!(run.wait()["counts"]["ok"], 5);
    let rows = run.rows();
    assert_eq!(
        rows.iter().map(|(r, _)| (r.id, r.phase)).collect::<Vec<_>>(),
        [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]
    );
    // What the warm-up still has in flight when the run ends is cancelled.
    assert!(
        rows.iter().all(|(row, _)| row.failure == Failure::None || (row.phase, row.failure) == (0, Failure::Cancelled))
    );
}

#[test]
fn a_phase_ends_with_its_duration_in_both_loops() {
    for load in [
        json!({"kind": "concurrency", "n": 2}),
        json!({"kind": "rate", "rate": 300.0, "arrival": {"kind": "poisson"}}),
        json!({"kind": "stages", "stages": [{"from": 10.0, "to": 200.0, "seconds": 0.3}], "arrival": {"kind": "poisson"}}),
    ] {
        let server = Server::new(|_, _| Reply::Keep(chat()));
        let run = Run::new(&server.url, json!({"workers": 2}));
        let end = run.phase(json!({"load": load, "duration_s": 0.3}));
        assert!(matches!(end["reason"].as_str(), Some("duration" | "plan")), "{end}");
        assert_eq!(end["counts"]["ok"], end["counts"]["issued"]);
        assert!(end["counts"]["ok"].as_u64().unwrap() > 0);
    }
}

#[test]
fn unique_prompts_differ_in_every_request() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    run.phase(json!({"load": {"kind": "concurrency", "n": 1}, "requests": 9, "unique_prompts": true}));
    let mut bodies = server.seen.bodies.lock().unwrap().clone();
    assert!(bodies.iter().all(|b| serde_json::from_str::<Value>(b).is_ok()));
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 9);
}

#[test]
fn an_answer_that_stays_open_after_done_is_complete() {
    let server = Server::new(|_, _| {
        let mut open = stream(3);
        open.truncate(open.len() - 5);
        Reply::Keep(open)
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    assert_eq!(run.phase(closed(1, 2))["counts"]["ok"], 2);
    let rows = run.rows();
    for (row, _) in &rows {
        assert_ordered(row);
        assert_eq!(row.failure, Failure::None);
    }
    let waited = rows[1].0.stamps.planned - rows[0].0.stamps.done;
    assert!(waited >= 250_000_000, "the slot was free when we gave up waiting, not at the last byte: {waited} ns");
}

#[test]
fn usage_that_no_count_can_hold_does_not_end_the_worker() {
    let server = Server::new(|_, _| {
        let event = |tokens: u32| {
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w\"}}}}],\"usage\":{{\"completion_tokens\":{tokens}}}}}\n\n"
            )
        };
        let body = [u32::MAX, 0, u32::MAX].map(event).concat() + "data: [DONE]\n\n";
        Reply::Keep(answer(200, "text/event-stream", &body))
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    assert_eq!(run.phase(closed(1, 2))["counts"]["ok"], 2);
}

#[test]
fn a_phase_that_has_ended_has_all_its_rows_in_the_log() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"workers": 2}));
    run.phase(closed(4, 40));
    assert_eq!(read(run.dir.path()).len(), 40, "before the run is finished");
}

#[test]
fn a_kept_answer_does_not_hold_the_key_that_a_server_echoed() {
    let server = Server::new(|_, _| {
        let body = r#"{"choices":[{"index":0,"message":{"content":"you sent Bearer canary-key"}}]}"#;
        Reply::Keep(answer(200, "application/json", body))
    });
    let run = Run::new(&server.url, json!({"api_key": "canary-key", "save_responses": true}));
    run.phase(closed(1, 2));
    run.engine.finish("complete", "").unwrap();
    let kept = std::fs::read(run.dir.path().join("answers.log")).unwrap();
    assert!(kept.windows(8).any(|w| w == b"you sent"));
    assert!(!kept.windows(10).any(|w| w == b"canary-key"));
}
