//! A policy's decisions carried out by the engine: what is sent, what is cut off, and what the log says of it.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loadgen::event::{EventReader, EventType, Frame};
use loadgen::mock;
use loadgen::policy::{Action, AttemptKind as Kind, Config, replay};
use loadgen::record::{AttemptKind, Failure, UNSET};
use serde_json::{Value, json};
use support::run::{PATIENCE, Run, assert_ordered, bodies, closed, documents, read, until};
use support::{Latch, Reply, Server, answer, chat, http2, stream};

/// A dispatch phase of so many requests by a policy of a fixed limit, with more of the policy's keys.
fn dispatch(n: u32, requests: u64, more: Value) -> Value {
    let mut policy = json!({
        "strategy": "test", "limit": {"kind": "fixed", "n": n}, "breaker": null,
        "retry": {"base_s": 0.001, "most_s": 0.002, "reserve": 1000.0},
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"load": {"kind": "dispatch", "policy": policy, "record": true}, "requests": requests, "stop_early": false})
}

fn hedged(after_s: f64) -> Value {
    json!({"hedge": {"kind": "after", "after_s": after_s}})
}

fn count(run: &Run, kind: EventType) -> u32 {
    let mut reader = EventReader::open(run.dir.path(), &[kind], 0).unwrap();
    let frames = std::iter::from_fn(|| reader.next_frame().unwrap());
    frames.map(|frame| Frame::decode(&frame).unwrap().count).sum()
}

#[test]
fn every_item_is_a_request_in_order_and_the_limit_holds() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server =
        Server::new(move |n, _| if n < 4 { Reply::After(Arc::clone(&held), chat()) } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({"workers": 2}));
    run.begin(dispatch(4, 50, json!({})));
    until(|| server.seen.in_flight.load(Ordering::SeqCst) == 4);
    assert_eq!(run.engine.live().0.in_flight(), 4);
    latch.open();
    let end = run.wait();
    assert_eq!((&end["counts"]["ok"], &end["counts"]["issued"]), (&json!(50), &json!(50)), "{end}");
    assert_eq!((&end["reason"], &end["dispatch"]["attempts"]), (&json!("requests"), &json!(50)));
    assert_eq!(server.seen.most_in_flight.load(Ordering::SeqCst), 4);
    let rows = run.rows();
    assert_eq!(rows.iter().map(|(row, _)| row.id).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert_eq!(rows.iter().map(|(row, _)| row.sample).collect::<Vec<_>>(), (0..50).map(|i| i % 3).collect::<Vec<_>>());
    for (row, attempts) in &rows {
        assert_ordered(row);
        assert_eq!((row.failure, row.tokens_out, attempts.len()), (Failure::None, Some(2), 0));
    }
}

#[test]
fn what_has_ended_is_told_before_what_takes_its_place() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"events": {"log": true}}));
    run.begin(dispatch(1, 30, json!({})));
    run.wait();
    run.engine.finish("complete", "").unwrap();
    let mut reader =
        EventReader::open(run.dir.path(), &[EventType::SampleIssued, EventType::SampleComplete], 0).unwrap();
    let mut told = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        let records = Frame::decode(&frame).unwrap().iter().map(Result::unwrap);
        told.extend(records.map(|r| (r.source, r.seq, r.event.kind, r.event.request)));
    }
    told.sort_unstable_by_key(|&(source, seq, ..)| (source, seq));
    // One at a time: whoever counts along never finds two in flight, though the next is sent before the last is written down.
    let in_turns = (0..30).flat_map(|n| [(EventType::SampleIssued, Some(n)), (EventType::SampleComplete, Some(n))]);
    assert_eq!(
        told.iter().map(|&(_, _, kind, request)| (kind, request)).collect::<Vec<_>>(),
        in_turns.collect::<Vec<_>>()
    );
}

#[test]
fn a_failure_is_tried_again_and_the_row_is_of_the_attempt_that_succeeded() {
    let met = Mutex::new(HashSet::new());
    let server = Server::new(move |_, body| match met.lock().unwrap().insert(body.to_owned()) {
        true => Reply::Keep(answer(500, "text/plain", "oops")),
        false => Reply::Keep(chat()),
    });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(1, 3, json!({})));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["issued"]), (&json!(3), &json!(3)), "{end}");
    assert_eq!((&end["dispatch"]["retries"], &end["dispatch"]["attempts"]), (&json!(3), &json!(6)));
    for (row, attempts) in run.rows() {
        assert_ordered(&row);
        let [first, retry] = attempts[..] else { panic!("{attempts:?}") };
        assert_eq!((first.kind, first.status, first.outcome), (AttemptKind::First, 500, Failure::Http));
        assert_eq!((retry.kind, retry.status, retry.outcome), (AttemptKind::Retry, 200, Failure::None));
        assert_eq!((row.stamps.sent, row.stamps.done, row.status), (retry.sent, retry.done, 200));
        assert!(first.done <= retry.sent && row.stamps.issued <= first.sent);
    }
}

#[test]
fn what_fails_to_the_last_attempt_is_one_failure_with_its_words() {
    let server = Server::new(|_, _| Reply::Keep(answer(500, "application/json", r#"{"error":{"message":"broken"}}"#)));
    let run = Run::new(&server.url, json!({}));
    let mut phase = dispatch(2, 4, json!({}));
    phase["completions"] = json!("answers");
    let end = run.phase(phase);
    assert_eq!((&end["counts"]["failed"], &end["dispatch"]["attempts"]), (&json!(4), &json!(16)), "{end}");
    let told = run.engine.take_completions();
    assert!(told.len() == 4 && told.iter().all(|c| c.texts.error.as_deref().unwrap().contains("broken")), "{told:?}");
    for (row, attempts) in run.rows() {
        assert_eq!((row.failure, row.status, attempts.len()), (Failure::Http, 500, 4));
    }
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    let server = Server::new(|n, _| match n {
        0 => Reply::Keep(answer(400, "text/plain", "bad request")),
        _ => Reply::Keep(answer(200, "text/html", "<html>")),
    });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(1, 2, json!({})));
    assert_eq!((&end["counts"]["failed"], &end["dispatch"]["attempts"]), (&json!(2), &json!(2)), "{end}");
    let failures: Vec<Failure> = run.rows().iter().map(|(row, _)| row.failure).collect();
    assert_eq!(failures, [Failure::Http, Failure::Protocol]);
}

#[test]
fn a_silent_attempt_gets_a_copy_and_the_loser_is_cut_off() {
    let server = Server::new(|n, _| if n == 0 { Reply::Hang } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(2, 1, hedged(0.02)));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["issued"]), (&json!(1), &json!(1)), "{end}");
    assert_eq!((&end["dispatch"]["hedges"], &end["dispatch"]["hedges_won"]), (&json!(1), &json!(1)));
    // The first connection never got an answer: that nothing is in flight there shows that it was closed.
    until(|| server.seen.in_flight.load(Ordering::SeqCst) == 0);
    let rows = run.rows();
    let (row, attempts) = &rows[0];
    assert_ordered(row);
    assert_eq!(attempts.iter().map(|a| a.kind).collect::<Vec<_>>(), [AttemptKind::First, AttemptKind::Hedge]);
    assert_eq!(attempts.iter().map(|a| a.outcome).collect::<Vec<_>>(), [Failure::Cancelled, Failure::None]);
    assert_eq!((row.stamps.sent, attempts[0].first_byte), (attempts[1].sent, UNSET));
}

#[test]
fn a_copy_that_fails_never_fails_the_one_that_lives() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |n, _| match n {
        0 => Reply::After(Arc::clone(&held), chat()),
        _ => {
            held.open();
            Reply::Keep(answer(500, "text/plain", "the copy fails"))
        }
    });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(2, 1, hedged(0.02)));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(1), &json!(0)), "{end}");
    let (row, attempts) = &run.rows()[0];
    assert_eq!((row.failure, row.stamps.sent), (Failure::None, attempts[0].sent));
}

#[test]
fn a_cancelled_call_is_seen_closed_while_the_server_would_still_wait_and_makes_no_token() {
    let config = r#"{"any_model": true, "stall_rate": 1, "stall_time": "60m", "seed": 3}"#;
    let server = mock::Server::start(mock::Config::from_json(config).unwrap()).unwrap();
    let truth = || serde_json::from_str::<Value>(&server.truth(true)).unwrap();
    let run = Run::new(server.url(), json!({"stream": true}));
    run.begin(dispatch(2, 1, hedged(0.01)));
    until(|| truth()["requests"] == 2);
    run.engine.stop(Duration::ZERO);
    let end = run.wait();
    assert_eq!(end["counts"]["cancelled"], 1, "{end}");
    until(|| truth()["left_waiting"] == 2);
    let truth = truth();
    assert_eq!((&truth["in_flight"], &truth["rows"]["tokens"]), (&json!(0), &json!([0, 0])));
}

#[test]
fn the_loser_of_a_stream_is_cut_off_at_the_first_token_and_its_tokens_are_nowhere() {
    let server = Server::new(|n, _| if n == 0 { Reply::Hang } else { Reply::Keep(stream(5)) });
    let run = Run::new(&server.url, json!({"stream": true, "events": {"log": true, "chunks": true}}));
    let mut policy = hedged(0.3);
    policy["streaming"] = true.into();
    let end = run.phase(dispatch(2, 3, policy));
    assert!(end["counts"]["ok"] == 3 && end["dispatch"]["hedges_won"].as_u64().unwrap() >= 1, "{end}");
    let live = run.engine.live().0;
    assert_eq!((live.chunks, live.ttft.count(), live.ok), (15, 3, 3));
    run.engine.finish("complete", "").unwrap();
    assert_eq!([EventType::SampleIssued, EventType::RecvFirst].map(|kind| count(&run, kind)), [3, 3]);
    assert_eq!([EventType::RecvNonFirst, EventType::SampleComplete].map(|kind| count(&run, kind)), [12, 3]);
    for (row, _) in read(run.dir.path()) {
        assert_ordered(&row);
        assert_eq!((row.failure, row.chunks, row.tokens_out), (Failure::None, 5, Some(5)));
    }
}

#[test]
fn a_stream_that_breaks_is_asked_for_again_and_only_the_whole_one_is_told() {
    let broken = || {
        let whole = stream(5);
        let end = whole.windows(3).position(|w| w == b" w2").unwrap();
        whole[..end].to_vec()
    };
    let server = Server::new(move |n, _| if n == 0 { Reply::Close(broken()) } else { Reply::Keep(stream(5)) });
    let run = Run::new(&server.url, json!({"stream": true, "events": {"log": true, "chunks": true}}));
    let end = run.phase(dispatch(1, 2, json!({"streaming": true})));
    assert_eq!((&end["counts"]["ok"], &end["dispatch"]["retries"]), (&json!(2), &json!(1)), "{end}");
    assert_eq!(run.engine.live().0.chunks, 10);
    run.engine.finish("complete", "").unwrap();
    assert_eq!(count(&run, EventType::RecvFirst) + count(&run, EventType::RecvNonFirst), 10);
    let rows = read(run.dir.path());
    assert_eq!(rows[0].1.iter().map(|a| a.outcome).collect::<Vec<_>>(), [Failure::Body, Failure::None]);
    assert_eq!(rows[0].0.chunks, 5);
}

#[test]
fn an_attempt_that_takes_too_long_is_cut_off_and_tried_again() {
    let server = Server::new(|n, _| if n == 0 { Reply::Hang } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(1, 1, json!({"attempt_timeout_s": 0.5})));
    assert_eq!(end["counts"]["ok"], 1, "{end}");
    let rows = run.rows();
    let outcomes: Vec<Failure> = rows[0].1.iter().map(|a| a.outcome).collect();
    // On a machine that is busy the second may take too long as well.
    assert_eq!((outcomes[0], outcomes[outcomes.len() - 1]), (Failure::Timeout, Failure::None));
    until(|| server.seen.in_flight.load(Ordering::SeqCst) == 0);
}

#[test]
fn an_item_whose_time_is_over_is_a_timeout_whatever_it_was_about() {
    let server = Server::new(|_, _| Reply::Hang);
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(2, 2, json!({"call_timeout_s": 0.05})));
    assert_eq!(end["counts"]["failed"], 2, "{end}");
    for (row, attempts) in run.rows() {
        assert_ordered(&row);
        assert_eq!((row.failure, attempts.len()), (Failure::Timeout, 0));
        assert!(row.stamps.sent != UNSET && row.stamps.done - row.stamps.issued >= 50_000_000);
    }
}

#[test]
fn a_hint_in_a_header_is_waited_for() {
    let head = "HTTP/1.1 429 Word\r\nRetry-After-Ms: 60\r\nContent-Length: 0\r\n\r\n";
    let server = Server::new(move |n, _| if n == 0 { Reply::Keep(head.into()) } else { Reply::Keep(chat()) });
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(1, 1, json!({})));
    assert_eq!((&end["counts"]["ok"], &end["dispatch"]["push_backs"]), (&json!(1), &json!(1)), "{end}");
    let rows = run.rows();
    let [refused, retry] = rows[0].1[..] else { panic!("{rows:?}") };
    assert!(retry.sent - refused.done >= 60_000_000, "{} ns", retry.sent - refused.done);
}

#[test]
fn what_a_service_says_is_left_is_kept_to() {
    let head = "HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 600\r\nx-ratelimit-remaining-requests: 0\r\n\
                x-ratelimit-reset-requests: 80ms\r\n";
    let told = String::from_utf8(chat()).unwrap().replacen("HTTP/1.1 200 Word\r\n", head, 1);
    let server = Server::new(move |n, _| Reply::Keep(if n == 0 { told.clone().into_bytes() } else { chat() }));
    let run = Run::new(&server.url, json!({}));
    let end = run.phase(dispatch(1, 2, json!({})));
    assert_eq!(end["counts"]["ok"], 2, "{end}");
    let rows = run.rows();
    let gap = rows[1].0.stamps.issued - rows[0].0.stamps.done;
    assert!(gap >= 79_000_000, "{gap} ns");
}

#[test]
fn a_call_over_http_2_is_reset_when_its_copy_wins() {
    let (url, resets) = h2_server();
    let run = Run::new(&url, json!({"http2": true, "stream": true}));
    let mut policy = hedged(0.02);
    policy["streaming"] = true.into();
    let end = run.phase(dispatch(2, 1, policy));
    assert_eq!((&end["counts"]["ok"], &end["dispatch"]["hedges_won"]), (&json!(1), &json!(1)), "{end}");
    until(|| resets.load(Ordering::SeqCst) == 1);
    let rows = run.rows();
    assert_eq!(rows[0].1.iter().map(|a| a.outcome).collect::<Vec<_>>(), [Failure::Cancelled, Failure::None]);
}

/// A server of HTTP/2 that never answers its first request and streams to the others; how many requests were reset.
fn h2_server() -> (String, Arc<AtomicUsize>) {
    let resets = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&resets);
    let url = http2::listen(move |_, stream| {
        let counted = Arc::clone(&counted);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut first = true;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if std::mem::take(&mut first) {
                    let counted = Arc::clone(&counted);
                    tokio::spawn(async move {
                        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
                        assert_eq!(reason, h2::Reason::CANCEL);
                        counted.fetch_add(1, Ordering::SeqCst);
                    });
                    continue;
                }
                let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"w\"}}]}\n\ndata: [DONE]\n\n";
                http2::answer(respond, "text/event-stream", event);
            }
        }
    });
    (url, resets)
}

#[test]
fn stopping_takes_back_what_is_in_line_and_lets_the_rest_end() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let run = Run::new(&server.url, json!({}));
    run.begin(dispatch(3, 100, json!({})));
    until(|| server.seen.in_flight.load(Ordering::SeqCst) == 3);
    run.engine.stop(PATIENCE);
    until(|| run.engine.issued(0).unwrap() == 3);
    latch.open();
    let end = run.wait();
    assert_eq!((&end["reason"], &end["counts"]["ok"]), (&json!("stopped"), &json!(3)), "{end}");
    assert_eq!((&end["dispatch"]["cancelled"], &end["dispatch"]["queued"]), (&json!(97), &json!(100)));
    assert_eq!(run.rows().len(), 3);
}

#[test]
fn a_stop_without_grace_cancels_also_what_backs_off() {
    let server = Server::new(|n, _| if n == 0 { Reply::Hang } else { Reply::Keep(answer(503, "text/plain", "busy")) });
    let run = Run::new(&server.url, json!({}));
    let slow = json!({"retry": {"base_s": 3600.0, "most_s": 3600.0, "jitter": "none"}});
    run.begin(dispatch(2, 2, slow));
    until(|| run.engine.policy_totals(0).unwrap().backing_off == 1);
    run.engine.stop(Duration::ZERO);
    let end = run.wait();
    assert_eq!((&end["counts"]["cancelled"], &end["counts"]["issued"]), (&json!(2), &json!(2)), "{end}");
    until(|| server.seen.in_flight.load(Ordering::SeqCst) == 0);
    let rows = run.rows();
    assert!(rows.iter().all(|(row, _)| row.failure == Failure::Cancelled));
    let under_way = rows.iter().filter(|(row, _)| row.stamps.sent != UNSET).count();
    assert_eq!(under_way, 1, "the other was between attempts: {rows:?}");
}

#[test]
fn a_policy_without_a_number_of_requests_goes_on_until_its_time_is_over() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    let mut phase = dispatch(8, 1, json!({}));
    phase["requests"] = Value::Null;
    phase["duration_s"] = json!(0.2);
    let end = run.phase(phase);
    let issued = end["counts"]["issued"].as_u64().unwrap();
    assert_eq!((&end["reason"], &end["counts"]["ok"]), (&json!("duration"), &json!(issued)), "{end}");
    let next = run.phase(closed(2, 6));
    assert_eq!(next["counts"]["ok"], 6, "another phase follows");
    assert_eq!(run.rows().len() as u64, issued + 6);
}

#[test]
fn the_log_tells_of_the_policy_and_a_recording_replays_to_the_same_decisions() {
    let server = Server::new(|n, _| match n % 7 {
        3 => Reply::Keep(answer(503, "text/plain", "busy")),
        5 => Reply::Keep(answer(500, "text/plain", "oops")),
        _ => Reply::Keep(chat()),
    });
    let run = Run::new(&server.url, json!({}));
    let limit = json!({"kind": "aimd", "start": 4, "floor": 1, "ceiling": 8, "cut": 0.5, "rise_after": 3});
    let phase = dispatch(1, 60, json!({"limit": limit, "hedge": {"kind": "after", "after_s": 5.0}}));
    let end = run.phase(phase.clone());
    assert_eq!(end["dispatch"]["ok"], 60, "{end}");
    let policy = run.engine.take_policy(0).unwrap().unwrap();
    assert!(run.engine.take_policy(0).unwrap().is_none());
    let recording = policy.recording().unwrap();
    let config: Config = serde_json::from_value(phase["load"]["policy"].clone()).unwrap();
    assert_eq!(replay(&config, 0, recording).unwrap(), recording.actions);
    let starts = recording.actions.iter().filter(|a| matches!(a, Action::Start { kind: Kind::First, .. })).count();
    assert_eq!(starts, 60);
    run.engine.finish("complete", "").unwrap();
    let told = &documents(run.dir.path(), "phase_end")[0]["dispatch"];
    let trace = &told["trace"];
    assert!(trace["limit"].as_array().unwrap().len() >= 2, "{trace}");
    assert_eq!(trace["t_ns"].as_array().unwrap().len(), trace["in_flight"].as_array().unwrap().len());
    assert!(told["cuts"].as_u64().unwrap() >= 1 && told["push_backs"].as_u64().unwrap() >= 1, "{told}");
    let all: usize = read(run.dir.path()).iter().map(|(_, attempts)| attempts.len().max(1)).sum();
    assert_eq!(all, policy.attempts().len() as usize);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    let begin = |phase: Value| {
        let mut config = json!({"name": "p", "drain_timeout_s": 1.0});
        config.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
        let config = serde_json::from_value(config).unwrap();
        run.engine.begin(config, support::run::bodies()).unwrap_err().to_string()
    };
    let words = begin(dispatch(0, 1, json!({})));
    assert!(words.contains("limit.n must be a whole number from 1"), "{words}");
    let words = begin(dispatch(1, 1, json!({"hedgy": 1})));
    assert!(words.contains("hedgy"), "{words}");
    let mut capped = dispatch(1, 1, json!({}));
    capped["max_concurrency"] = json!(3);
    assert!(begin(capped).contains("max_concurrency beside a policy"));
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn a_run_that_nobody_will_read_makes_no_file_and_tells_of_its_answers_all_the_same() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"dir": null}));
    let mut phase = dispatch(2, 5, json!({}));
    phase["completions"] = json!("answers");
    let end = run.phase(phase.clone());
    assert_eq!((&end["counts"]["ok"], run.engine.take_completions().len()), (&json!(5), 5), "{end}");
    phase["request"] = json!({"save_responses": true});
    phase["name"] = json!("kept");
    phase["drain_timeout_s"] = json!(1.0);
    let refused = run.engine.begin(serde_json::from_value(phase).unwrap(), bodies()).unwrap_err().to_string();
    assert!(refused.contains("its answers can't be kept"), "{refused}");
    run.engine.finish("complete", "").unwrap();
    assert_eq!(std::fs::read_dir(run.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_load_without_an_end_forgets_what_is_over_unless_somebody_will_ask_what_each_call_met() {
    for (completions, kept) in [("none", false), ("answers", true)] {
        let server = Server::new(|_, _| Reply::Keep(chat()));
        let run = Run::new(&server.url, json!({"dir": null}));
        let mut phase = dispatch(8, 0, json!({}));
        phase.as_object_mut().unwrap().retain(|key, _| key != "requests");
        phase["load"]["record"] = json!(false);
        phase["completions"] = json!(completions);
        run.begin(phase);
        // What is over is forgotten by the chunk, of 4,096.
        until(|| run.engine.live().0.ok >= 5_000);
        run.engine.stop(PATIENCE);
        run.wait();
        let policy = run.engine.take_policy(0).unwrap().unwrap();
        assert_eq!(
            (policy.items().get(0).is_some(), policy.attempts().get(0).is_some()),
            (kept, kept),
            "{completions}"
        );
        assert!(policy.totals().ok >= 5_000 && policy.items().len() >= 5_000);
    }
}
