//! Phases of one run, each with its own requests; loads issued from outside; and who is told of a request's end.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadgen::engine::{Asked, Completion};
use loadgen::record::{Failure, Row, TextReader, UNSET, WhichLog};
use loadgen::series::{Detail, Reader, State};
use serde_json::{Value, json};
use support::run::{PATIENCE, Run, assert_ordered, closed, documents, read};
use support::{Latch, Reply, Server, answer, chat, stream};

/// `phase` with these words as well.
fn with(mut phase: Value, more: Value) -> Value {
    phase.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    phase
}

fn manual(more: Value) -> Value {
    with(json!({"load": {"kind": "manual"}}), more)
}

/// Streams where a stream was asked for, and else doesn't.
fn as_asked(body: &str) -> Reply {
    Reply::Keep(if body.contains(r#""stream":true"#) { stream(3) } else { chat() })
}

fn is_readable(fd: RawFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    (unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as i32) }) == 1
}

/// Wait, as an event loop does, until `n` completions have come.
fn completions(run: &Run, n: usize) -> Vec<Completion> {
    let (deadline, mut all) = (Instant::now() + PATIENCE, Vec::new());
    while all.len() < n {
        assert!(is_readable(run.engine.completions_fd(), deadline - Instant::now()), "{} of {n}", all.len());
        all.extend(run.engine.take_completions());
    }
    assert_eq!(all.len(), n);
    all
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|w| w == word.as_bytes())
}

fn texts(run: &Run) -> Vec<(u64, String)> {
    let mut reader = TextReader::open(run.dir.path(), WhichLog::Answers).unwrap();
    let text = std::iter::from_fn(|| reader.next_text().unwrap());
    text.map(|(request, _, text)| (request, String::from_utf8(text).unwrap())).collect()
}

#[test]
fn two_phases_with_their_own_requests_share_a_connection_and_no_row() {
    let server = Server::new(|_, body| as_asked(body));
    let run = Run::new(&server.url, json!({"headers": [["x-of", "the-run"]]}));
    run.phase(with(closed(1, 3), json!({"name": "a"})));
    let request = json!({"api": "completions", "stream": true, "include_usage": false, "timeout_s": 7.5,
        "headers": [["x-of", "canary-phase"]]});
    run.phase(with(closed(1, 4), json!({"name": "b", "request": request})));

    let heads = server.seen.heads.lock().unwrap().clone();
    let (a, b) = heads.split_at(3);
    assert!(a.iter().all(|h| h.starts_with("post /v1/chat/completions ") && h.contains("x-of: the-run")), "{a:?}");
    assert!(b.iter().all(|h| h.starts_with("post /v1/completions ") && h.contains("x-of: canary-phase")), "{b:?}");
    let bodies = server.seen.bodies.lock().unwrap().clone();
    assert!(bodies[..3].iter().all(|body| body.starts_with(r#"{"model""#)));
    assert!(bodies[3..].iter().all(|body| body.starts_with(r#"{"stream":true,"model""#)));
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 1, "connections are the run's, not the phase's");

    let told = documents(run.dir.path(), "phase_start");
    assert_eq!(
        told[1]["config"]["request"],
        json!({"api": "completions", "stream": true, "include_usage": false, "timeout_s": 7.5, "stall_timeout_s": 20.0,
               "save_responses": false})
    );
    assert_eq!((&told[0]["config"]["request"]["api"], &told[1]["first_id"]), (&json!("chat"), &json!(3)));
    assert!(!contains(&std::fs::read(run.dir.path().join("run.log")).unwrap(), "canary-phase"));
    for (row, _) in run.rows() {
        assert_ordered(&row);
        assert_eq!((row.failure, row.phase, row.streamed), (Failure::None, u16::from(row.id >= 3), row.id >= 3));
    }
}

#[test]
fn what_a_warm_up_hands_over_keeps_its_own_settings() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let (streams, others) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::new(move |_, body| match body.contains(r#""stream":true"#) {
        true if streams.fetch_add(1, Ordering::SeqCst) == 0 => Reply::After(Arc::clone(&held), stream(5)),
        true => Reply::Hang,
        // The first phase makes two of these.
        false if others.fetch_add(1, Ordering::SeqCst) == 2 => Reply::Hang,
        false => Reply::Keep(chat()),
    });
    // None of these requests may have the run's time-out: the test would not wait for it.
    let run = Run::new(&server.url, json!({"timeout_s": 600.0}));
    run.phase(with(closed(1, 2), json!({"name": "first"})));
    let warm = json!({"name": "warm", "type": "warmup", "drain": false, "completions": "ids",
        "request": {"stream": true, "api": "completions", "timeout_s": 1.0}});
    run.phase(with(closed(2, 2), warm));
    assert_eq!((run.engine.issued(0).unwrap(), run.engine.issued(1).unwrap()), (2, 2));
    assert!(run.engine.issued(2).is_err(), "there is no such phase yet");
    let second = json!({"name": "second", "request": {"timeout_s": 0.2}});
    let end = run.phase(with(closed(3, 5), second));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(4), &json!(1)), "{end}");
    latch.open();
    let ended = completions(&run, 2);
    assert!(ended.iter().all(|c| c.row.phase == 1));

    let rows: Vec<Row> = run.rows().into_iter().map(|(row, _)| row).collect();
    assert_eq!(rows.iter().map(|r| r.phase).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 2, 2, 2]);
    let lasted = |row: &Row| row.stamps.done - row.stamps.issued;
    let (handed_over, second) = (&rows[2..4], &rows[4..]);
    let streamed = handed_over.iter().find(|r| r.failure == Failure::None).unwrap();
    assert_eq!((streamed.streamed, streamed.chunks), (true, 5), "read as its phase asked");
    let silent = handed_over.iter().find(|r| r.failure == Failure::Timeout).unwrap();
    assert!(lasted(silent) >= 1_000_000_000, "the next phase's time-out is not this request's");
    assert!(second.iter().all(|r| !r.streamed));
}

#[test]
fn another_process_could_follow_a_run_phase_by_phase_to_its_end_and_nothing_is_left() {
    let server = Server::new(|_, body| as_asked(body));
    let run = Run::new(&server.url, json!({"stream": true}));
    run.phase(with(closed(2, 3), json!({"name": "warm", "type": "warmup"})));
    run.phase(closed(2, 5));
    let path = run.engine.segment().path().expect("some place takes it").to_path_buf();
    let mut reader = Reader::attach(&path).unwrap();
    let seen = reader.snapshot(&Detail::default()).unwrap();
    assert_eq!((seen.state, seen.phase, seen.alive), (State::Live, Some(1), true));
    run.engine.finish("complete", "").unwrap();
    assert!(!path.exists());
    let last = reader.snapshot(&Detail::default()).unwrap();
    assert_eq!(last.state, State::Complete);
    let count = |name: &str, phase| {
        let series = last.series.iter().find(|s| (s.name.as_str(), s.phase) == (name, Some(phase))).unwrap();
        (series.count, series.histogram.counts.iter().sum::<u64>())
    };
    let ok = |phase| last.counters.iter().find(|c| c.name == "ok" && c.phase == Some(phase)).unwrap().value;
    assert_eq!((ok(0), ok(1)), (3, 5));
    assert_eq!((count("ttft", 0), count("ttft", 1)), ((3, 3), (5, 5)));
    assert_eq!((count("latency", 1), count("send_late", 1), count("gap", 1).0 <= 10), ((5, 5), (5, 5), true));
}

#[test]
fn a_warm_up_that_answers_late_is_not_in_the_next_phases_live_figures() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, _| Reply::After(Arc::clone(&held), stream(5)));
    let run = Run::new(&server.url, json!({"stream": true}));
    let warm = json!({"name": "warm", "type": "warmup", "drain": false, "completions": "ids"});
    run.phase(with(closed(2, 2), warm));
    run.begin(manual(json!({})));
    run.engine.start_ns(PATIENCE).expect("the phase starts, and its counters are the workers' now");
    latch.open();
    assert!(completions(&run, 2).iter().all(|c| (c.row.chunks, c.row.failure) == (5, Failure::None)));
    let live = run.engine.live().0;
    assert_eq!((live.issued, live.ok, live.chunks, live.tokens), (0, 0, 0, 0));
    assert!(live.ttft.quantiles(&[0.5]).is_empty());
}

#[test]
fn a_server_that_dies_during_the_drain_ends_the_phase_within_its_bound_and_not_the_run() {
    let server = Server::new(|n, _| if n < 3 { Reply::Keep(chat()) } else { Reply::Hang });
    let run = Run::new(&server.url, json!({"timeout_s": 600.0}));
    let end = run.phase(with(closed(2, 5), json!({"drain_timeout_s": 0.2})));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["cancelled"]), (&json!(3), &json!(2)), "{end}");
    assert_eq!(end["reason"], "requests");
    let gone = Server::new(|_, _| Reply::Close(Vec::new()));
    let run = Run::new(&gone.url, json!({"timeout_s": 600.0}));
    let end = run.phase(with(closed(2, 4), json!({"drain_timeout_s": 600.0})));
    assert_eq!(end["counts"]["failed"], 4, "a connection that goes away is no reason to wait: {end}");
    drop(gone);
    assert_eq!(run.phase(closed(1, 2))["counts"]["failed"], 2, "the next phase has its own rows");
    assert_eq!(run.rows().iter().map(|(row, _)| row.phase).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1]);
}

#[test]
fn a_refusal_of_usage_is_learned_once_for_each_api() {
    let refusal = answer(400, "application/json", r#"{"error":{"message":"unknown field stream_options"}}"#);
    let server = Server::new(move |_, body| {
        Reply::Keep(if body.contains("stream_options") { refusal.clone() } else { stream(2) })
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    let completions = json!({"request": {"api": "completions"}});
    let ends = [run.phase(with(closed(1, 3), completions.clone())), run.phase(with(closed(1, 3), completions))];
    assert!(ends.iter().all(|end| end["usage_refused"] == true && end["counts"]["ok"] == 3), "{ends:?}");
    let asked = |seen: &[String]| seen.iter().filter(|body| body.contains("stream_options")).count();
    assert_eq!(asked(&server.seen.bodies.lock().unwrap()), 1, "what one phase learned the next one knows");
    let other = run.phase(with(closed(1, 2), json!({"request": {"include_usage": false}})));
    assert_eq!(other["usage_refused"], false, "it was never wanted");
    run.phase(closed(1, 2));
    assert_eq!(asked(&server.seen.bodies.lock().unwrap()), 2, "the other API is asked, and refuses on its own");
}

#[test]
fn only_the_phase_that_asks_for_it_keeps_its_answers_and_no_secret_in_them() {
    let server = Server::new(|_, _| {
        let body = r#"{"choices":[{"index":0,"message":{"content":"you sent canary-phase and canary-key"}}]}"#;
        Reply::Keep(answer(200, "application/json", body))
    });
    let run = Run::new(&server.url, json!({"api_key": "canary-key"}));
    run.phase(closed(1, 2));
    assert!(!run.dir.path().join("answers.log").exists());
    let request = json!({"save_responses": true, "headers": [["x-token", "canary-phase"]]});
    let told = json!({"request": request, "completions": "answers"});
    run.phase(with(closed(1, 2), told));
    run.phase(with(closed(1, 2), json!({"name": "third"})));
    run.engine.finish("complete", "").unwrap();
    let kept = |id| (id, "you sent [redacted] and [redacted]".to_owned());
    assert_eq!(texts(&run), [kept(2), kept(3)]);
    let told = run.engine.take_completions();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|c| c.texts.text.as_deref() == Some("you sent [redacted] and [redacted]")));
}

#[test]
fn what_is_issued_from_outside_is_sent_at_once_and_told_when_it_ends() {
    let server = Server::new(|n, _| match n {
        0 => Reply::Keep(stream(3)),
        1 => Reply::Keep(answer(503, "application/json", r#"{"error":{"message":"not now"}}"#)),
        _ => Reply::Keep(answer(200, "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"cut")),
    });
    let run = Run::new(&server.url, json!({"stream": true}));
    run.begin(manual(json!({"completions": "answers"})));
    let start = run.engine.start_ns(PATIENCE).unwrap();
    let mut ended = Vec::new();
    for (id, sample) in [(0, Some(2)), (1, None), (2, Some(0))] {
        assert_eq!(run.engine.issue(Asked { sample, ..Asked::default() }).unwrap(), Some(id));
        ended.extend(completions(&run, 1));
    }
    run.engine.end_issue().unwrap();
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), None);
    let end = run.wait();
    assert_eq!((&end["reason"], &end["never_issued"]), (&json!("plan"), &json!(0)));
    assert_eq!(end["counts"], json!({"issued": 3, "ok": 1, "failed": 2, "cancelled": 0, "reconnects": 0}));

    let rows = run.rows();
    assert_eq!(rows.iter().map(|(row, _)| row.sample).collect::<Vec<_>>(), [2, 1, 0], "index 1 of the order");
    for ((row, _), told) in rows.iter().zip(&ended) {
        assert_ordered(row);
        assert_eq!(&told.row, row, "what is told is what the log has");
        assert!(row.stamps.planned == row.stamps.issued && row.stamps.planned >= start);
    }
    let [good, refused, cut] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((good.texts.text.as_deref(), &good.texts.error), (Some(" w0 w1 w2"), &None));
    assert_eq!((&refused.texts.text, refused.texts.error.as_deref()), (&None, Some("HTTP 503: not now")));
    assert_eq!((cut.row.failure, &cut.texts.text), (Failure::Body, &None));
}

#[test]
fn many_threads_issue_each_request_once_and_all_are_told_before_the_phase_ends() {
    const THREADS: usize = 4;
    const EACH: usize = 100;
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"workers": 3}));
    run.begin(manual(json!({"completions": "ids"})));
    let mut ids: Vec<u64> = std::thread::scope(|scope| {
        let issue = || (0..EACH).map(|_| run.engine.issue(Asked::default()).unwrap().unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(issue)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    ids.sort();
    assert_eq!(ids, (0..400).collect::<Vec<_>>());
    run.engine.end_issue().unwrap();
    assert_eq!(run.wait()["counts"]["ok"], 400);
    let mut told: Vec<u64> = run.engine.take_completions().iter().map(|c| c.row.id).collect();
    told.sort();
    assert_eq!(told, ids, "none is on its way any more");
    let rows = run.rows();
    for worker in 0..3u16 {
        let share = rows.iter().filter(|(row, _)| row.worker == worker).count();
        assert!((133..=134).contains(&share), "worker {worker} made {share} of 400");
    }
}

#[test]
fn limits_end_a_phase_that_is_issued_from_outside() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({"workers": 2}));
    run.begin(manual(json!({"name": "a", "requests": 3})));
    let issued: Vec<_> = (0..5).map(|_| run.engine.issue(Asked::default()).unwrap()).collect();
    assert_eq!(issued, [Some(0), Some(1), Some(2), None, None]);
    let end = run.wait();
    assert_eq!((&end["reason"], &end["counts"]["ok"]), (&json!("requests"), &json!(3)));

    // Its time is over whether or not anybody asks.
    run.begin(manual(json!({"name": "b", "duration_s": 0.05})));
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), Some(3), "numbers go on from phase to phase");
    let end = run.wait();
    assert_eq!((&end["reason"], &end["counts"]["issued"]), (&json!("duration"), &json!(1)));
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), None);

    run.begin(manual(json!({"name": "c"})));
    run.engine.end_issue().unwrap();
    assert_eq!(run.wait()["counts"]["issued"], 0, "nothing in flight, nothing to wait for");
}

#[test]
fn a_stop_ends_a_phase_that_is_issued_from_outside_and_what_it_cancels_is_told() {
    let server = Server::new(|_, _| Reply::Hang);
    let run = Run::new(&server.url, json!({"workers": 2}));
    run.begin(manual(json!({"completions": "ids"})));
    (0..5).for_each(|id| assert_eq!(run.engine.issue(Asked::default()).unwrap(), Some(id)));
    run.engine.stop(Duration::ZERO);
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), None);
    let end = run.wait();
    assert_eq!((&end["reason"], &end["counts"]["cancelled"]), (&json!("stopped"), &json!(5)), "{end}");
    let told = run.engine.take_completions();
    assert!(told.len() == 5 && told.iter().all(|c| c.row.failure == Failure::Cancelled && c.row.stamps.done != UNSET));
}

#[test]
fn a_run_that_is_finished_takes_no_more_from_outside() {
    let server = Server::new(|_, _| Reply::Hang);
    let run = Run::new(&server.url, json!({}));
    run.begin(manual(json!({})));
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), Some(0));
    run.engine.finish("interrupted", "").unwrap();
    assert_eq!(run.engine.issue(Asked::default()).unwrap(), None);
    assert_eq!(read(run.dir.path()).len(), 1, "what was promised has its row");
}

#[test]
fn what_cannot_be_issued_from_outside_says_why() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    run.phase(closed(1, 1));
    assert!(run.engine.issue(Asked::default()).unwrap_err().to_string().contains("only a phase whose load is manual"));
    run.begin(manual(json!({})));
    assert_eq!(
        run.engine.issue(Asked { sample: Some(3), ..Asked::default() }).unwrap_err().to_string(),
        "sample 3 of 3: they are counted from 0"
    );
    run.engine.end_issue().unwrap();
    run.wait();
    assert_eq!(run.engine.take_completions(), [], "a phase that doesn't ask for it has nobody told");
}
