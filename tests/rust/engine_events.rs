//! The engine's events against its own rows: they tell of the same requests, in order, wherever they go.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loadgen::engine::{Asked, Engine};
use loadgen::event::{EventQueue, EventReader, EventType, Frame};
use loadgen::record::{Failure, Row};
use loadgen::stats::{Options, summarise};
use serde_json::{Value, json};
use support::run::{PATIENCE, Run, read};
use support::{Latch, Reply, Server, answer, chat, stream};

/// One event, as far as these tests look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    kind: EventType,
    ns: u64,
    source: u16,
    seq: u64,
    request: Option<u64>,
    data: Vec<u8>,
}

/// A run of two workers whose events are logged and published.
struct EventRun {
    run: Run,
    queue: Arc<EventQueue>,
}

impl EventRun {
    fn new(url: &str, events: Value, more: Value) -> Self {
        let mut asked = json!({"log": true, "publish": true, "chunks": true});
        asked.as_object_mut().unwrap().extend(events.as_object().unwrap().clone());
        let mut config = json!({"workers": 2, "stream": true, "events": asked});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let run = Run::new(url, config);
        let queue = run.engine.event_queue().unwrap();
        Self { run, queue }
    }

    fn begin(&self, mut phase: Value) {
        phase["stop_early"] = false.into();
        self.run.begin(phase);
    }

    fn phase(&self, phase: Value) -> Value {
        self.begin(phase);
        self.run.wait()
    }

    /// End the run: the events in the order in which the publisher gets them, which are those of the log, too.
    fn told(self) -> (Vec<Told>, tempfile::TempDir) {
        let Run { engine, dir } = self.run;
        engine.finish("complete", "").unwrap();
        let published: Vec<Told> = self.queue.take(usize::MAX).iter().flat_map(|frame| told(frame)).collect();
        assert_eq!(self.queue.dropped(), 0);
        let (mut logged, mut sorted) = (logged(dir.path()), published.clone());
        logged.sort();
        sorted.sort();
        assert_eq!(logged, sorted, "the log and the publisher are told the same");
        (published, dir)
    }
}

fn told(frame: &[u8]) -> Vec<Told> {
    let records = Frame::decode(frame).unwrap().iter().map(Result::unwrap);
    let told = records.map(|r| Told {
        kind: r.event.kind,
        ns: r.event.ns,
        source: r.source,
        seq: r.seq,
        request: r.event.request,
        data: r.event.data.unwrap_or_default().to_vec(),
    });
    told.collect()
}

fn logged(dir: &Path) -> Vec<Told> {
    let mut reader = EventReader::open(dir, &[], 0).unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        found.extend(told(&frame));
    }
    assert_eq!(reader.damaged(), 0);
    found
}

fn rows(dir: &Path) -> Vec<Row> {
    read(dir).into_iter().map(|(row, _)| row).collect()
}

/// How many events of each kind there are of the requests of each phase.
fn counts(events: &[Told], rows: &[Row]) -> BTreeMap<(u16, EventType), u64> {
    let phases: BTreeMap<u64, u16> = rows.iter().map(|row| (row.id, row.phase)).collect();
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| !event.kind.is_session()) {
        let phase = phases[&event.request.unwrap()];
        // A map of up to fifteen entries, the first of which is the phase.
        assert_eq!(event.data[1..8], [&b"\xa5phase"[..], &[phase as u8]].concat(), "{event:?}");
        *counts.entry((phase, event.kind)).or_insert(0) += 1;
    }
    counts
}

/// The same counts, as the rows have them.
fn counts_of_rows(rows: &[Row]) -> BTreeMap<(u16, EventType), u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let failed = !matches!(row.failure, Failure::None | Failure::Cancelled);
        let chunks = if row.streamed { u64::from(row.chunks) } else { 0 };
        for (kind, n) in [
            (EventType::SampleIssued, 1),
            (EventType::SampleComplete, 1),
            (EventType::ErrorClient, u64::from(failed)),
            (EventType::RecvFirst, chunks.min(1)),
            (EventType::RecvNonFirst, chunks.saturating_sub(1)),
        ] {
            if n > 0 {
                *counts.entry((row.phase, kind)).or_insert(0) += n;
            }
        }
    }
    counts
}

fn at(events: &[Told], kind: EventType) -> Vec<usize> {
    (0..events.len()).filter(|&i| events[i].kind == kind).collect()
}

fn assert_session(events: &[Told], expected: &[EventType]) {
    let session: Vec<EventType> = events.iter().map(|e| e.kind).filter(|kind| kind.is_session()).collect();
    assert_eq!(session, expected);
    assert_eq!((events[0].kind, events.last().unwrap().kind), (EventType::SessionStarted, EventType::SessionEnded));
}

const WHOLE: [EventType; 5] = [
    EventType::SessionStarted,
    EventType::StartPerformanceTracking,
    EventType::StopPerformanceTracking,
    EventType::StopLoadgen,
    EventType::SessionEnded,
];

#[test]
fn events_count_what_the_rows_count_with_failures_cancellations_and_a_handover() {
    for send_threshold in [1, 2, 1_000] {
        let (latch, hung) = (Arc::new(Latch::default()), Arc::new(Latch::default()));
        let (held, stuck) = (Arc::clone(&latch), Arc::clone(&hung));
        let server = Server::new(move |n, _| match n {
            0 | 1 => Reply::After(Arc::clone(&held), stream(4)),
            n if n % 7 == 3 => Reply::Keep(answer(503, "text/plain", "busy")),
            n if n % 7 == 5 => Reply::Close(stream(3)[..150].to_vec()),
            n if n > 60 => Reply::After(Arc::clone(&stuck), stream(1)),
            n => Reply::Keep(stream(n % 5)),
        });
        let run = EventRun::new(&server.url, json!({"send_threshold": send_threshold}), json!({}));
        let warm = json!({"name": "warm", "type": "warmup", "drain": false, "requests": 2});
        let closed = |n: u32| json!({"kind": "concurrency", "n": n});
        let with = |mut phase: Value, load: Value| {
            phase["load"] = load;
            phase
        };
        run.phase(with(warm, closed(2)));
        run.begin(with(json!({"requests": 1_000}), closed(6)));
        latch.open();
        while server.seen.in_flight.load(Ordering::SeqCst) < 6 || server.seen.bodies.lock().unwrap().len() < 62 {
            std::thread::yield_now();
        }
        run.run.engine.stop(Duration::ZERO);
        let end = run.run.wait();
        hung.open();
        let (events, dir) = run.told();
        let rows = rows(dir.path());
        assert_eq!(counts(&events, &rows), counts_of_rows(&rows), "at a threshold of {send_threshold}");
        let told = |kind| counts(&events, &rows).get(&(1, kind)).copied().unwrap_or(0);
        let count = |name: &str| end["counts"][name].as_u64().unwrap();
        assert_eq!(told(EventType::SampleIssued), count("issued"));
        assert_eq!(told(EventType::ErrorClient), count("failed"));
        assert!(count("failed") > 0 && count("cancelled") > 0 && count("ok") > 0, "{end}");
        let summary = summarise(dir.path(), &Options::default()).unwrap();
        let account = json!({"logged": events.len(), "missing": 0, "error": null, "dropped": 0});
        assert_eq!(summary.events, Some(account));
        assert_session(&events, &WHOLE);
    }
}

#[test]
fn each_event_comes_after_what_it_follows_from() {
    for send_threshold in [1, 3, 1_000] {
        let server = Server::new(|n, _| match n % 3 {
            0 => Reply::Keep(answer(500, "text/plain", "no")),
            _ => Reply::Keep(stream(3)),
        });
        let run = EventRun::new(&server.url, json!({"send_threshold": send_threshold}), json!({}));
        let load = json!({"kind": "concurrency", "n": 3});
        run.phase(json!({"name": "warm", "type": "warmup", "load": load, "requests": 12}));
        run.phase(json!({"name": "one", "load": load, "requests": 20}));
        run.phase(json!({"name": "two", "load": load, "requests": 20}));
        let (events, _dir) = run.told();
        for error in at(&events, EventType::ErrorClient) {
            let complete = at(&events, EventType::SampleComplete);
            let own = complete.into_iter().find(|&i| events[i].request == events[error].request).unwrap();
            assert!(error < own);
        }
        let (starts, stops) =
            (at(&events, EventType::StartPerformanceTracking), at(&events, EventType::StopPerformanceTracking));
        let (first, last) = (|id: u64| id == 12 || id == 32, |id: u64| id == 31 || id == 51);
        let issued = at(&events, EventType::SampleIssued);
        let of = |ids: &dyn Fn(u64) -> bool, among: &[usize]| -> Vec<usize> {
            among.iter().copied().filter(|&i| events[i].request.is_some_and(ids)).collect()
        };
        let (begun, complete) = (of(&first, &issued), of(&last, &at(&events, EventType::SampleComplete)));
        for phase in 0..2 {
            let order = [starts[phase], begun[phase], complete[phase], stops[phase]];
            assert!(order.is_sorted(), "phase {phase} at {send_threshold}: {order:?} of {events:#?}");
        }
        assert!(stops[0] < starts[1]);
        // A barrier: nothing that comes after a session's event is older than it.
        for (i, event) in events.iter().enumerate().filter(|(_, event)| event.kind.is_session()) {
            assert!(events[i..].iter().all(|after| after.ns >= event.ns), "{event:?}");
        }
        let mut by_source = BTreeMap::<u16, Vec<u64>>::new();
        events.iter().for_each(|event| by_source.entry(event.source).or_default().push(event.seq));
        for (source, mut seqs) in by_source {
            seqs.sort_unstable();
            assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "source {source}");
        }
    }
}

#[test]
fn a_run_that_is_finished_or_dropped_in_a_phase_still_tells_its_end() {
    for dropped in [false, true] {
        let server = Server::new(|_, _| Reply::Hang);
        let run = EventRun::new(&server.url, json!({}), json!({}));
        run.begin(json!({"load": {"kind": "concurrency", "n": 2}, "requests": 10}));
        while server.seen.in_flight.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        let EventRun { run: Run { engine, dir }, queue } = run;
        if dropped {
            drop(engine);
        } else {
            engine.finish("failed", "why not").unwrap();
            engine.finish("complete", "").unwrap();
        }
        let events: Vec<Told> = queue.take(usize::MAX).iter().flat_map(|frame| told(frame)).collect();
        let ends = [EventType::StopLoadgen, EventType::StopPerformanceTracking, EventType::SessionEnded];
        assert_session(&events, &[&WHOLE[..2], &ends].concat());
        let complete = at(&events, EventType::SampleComplete);
        assert_eq!(complete.len(), 2);
        assert!(complete.iter().all(|&i| i < at(&events, EventType::StopLoadgen)[0]));
        let status = if dropped { "interrupted" } else { "failed" };
        assert!(events.last().unwrap().data.ends_with(status.as_bytes()));
        assert_eq!(logged(dir.path()).last().unwrap().kind, EventType::SessionEnded);
    }
}

#[test]
fn a_lonely_event_leaves_by_itself() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let run = EventRun::new(&server.url, json!({"max_age_s": 0.001}), json!({"stream": false}));
    run.begin(json!({"load": {"kind": "concurrency", "n": 1}, "requests": 1}));
    let mut found = Vec::new();
    while !found.iter().any(|event: &Told| event.kind == EventType::SampleIssued) {
        let mut poll = libc::pollfd { fd: run.queue.fileno(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid, writable pollfd.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as i32) }, 1, "nothing more comes");
        found.extend(run.queue.take(10).iter().flat_map(|frame| told(frame)));
    }
    assert_eq!(found.iter().filter(|event| event.kind == EventType::SampleComplete).count(), 0);
    latch.open();
    assert_eq!(run.run.wait()["counts"]["ok"], 1);
    run.run.engine.finish("complete", "").unwrap();
}

#[test]
fn requests_that_are_issued_from_outside_are_told_with_the_sample_asked_for() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = EventRun::new(&server.url, json!({}), json!({"stream": false}));
    run.begin(json!({"load": {"kind": "manual"}}));
    for sample in [2, 0, 1] {
        run.run.engine.issue(Asked { sample: Some(sample), ..Asked::default() }).unwrap().unwrap();
    }
    run.run.engine.end_issue().unwrap();
    run.run.wait();
    let (events, _dir) = run.told();
    let mut samples: Vec<_> = at(&events, EventType::SampleIssued)
        .into_iter()
        .map(|i| (events[i].request, *events[i].data.last().unwrap()))
        .collect();
    samples.sort_unstable();
    assert_eq!(samples, [(Some(0), 2), (Some(1), 0), (Some(2), 1)]);
}

#[test]
fn a_run_that_publishes_nothing_has_no_queue_and_one_that_logs_nothing_no_log() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    for (log, publish) in [(true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "url": server.url, "timeout_s": 30.0, "connect_timeout_s": 5.0, "stall_timeout_s": 20.0, "workers": 1,
            "dir": dir.path(), "meta": {"id": "test"}, "events": {"log": log, "publish": publish},
        });
        let engine = Engine::start(serde_json::from_value(config).unwrap()).unwrap();
        assert_eq!(engine.event_queue().is_some(), publish);
        engine.finish("complete", "").unwrap();
        assert_eq!(dir.path().join("events.log").exists(), log);
        let summary = summarise(dir.path(), &Options::default()).unwrap();
        let logged = log.then_some(3);
        let expected = json!({
            "logged": logged, "missing": logged.map(|_| 0), "error": null, "dropped": publish.then_some(0),
        });
        assert_eq!(summary.events, Some(expected));
    }
}
