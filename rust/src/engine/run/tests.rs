use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};

use super::*;
use crate::clock::now_ns;
use crate::engine::bodies::Bodies;
use crate::engine::nodes::tests::run;
use crate::engine::phase::Tally;
use crate::engine::phase_here::PhaseHere;
use crate::engine::reception::Chooser;
use crate::engine::request::{Contender, Request, Ticket};
use crate::engine::streams::read_forever;
use crate::engine::task;
use crate::engine::worker::Worker;
use crate::http::Stream;
use crate::record::{AttemptKind, Failure, Stamps};

/// Long enough for any machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(url: &str) -> Arc<Engine> {
    Arc::new(Engine::start(run(json!({"url": url, "dir": null}))).unwrap())
}

/// Make a phase, and the command that begins it on the only worker, which starts it when `meet` of them are there.
fn made(engine: &Engine, phase: Value, meet: usize) -> (SharedPhase, Command) {
    let mut told = json!({"name": "p", "drain_timeout_s": 240});
    told.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
    let config: PhaseConfig = serde_json::from_value(told).unwrap();
    let bodies = Arc::new(Bodies::new([br#"{"a":1}"#.as_slice()].into_iter(), vec![]).unwrap());
    let decider = policy_of(&config, 1).unwrap().map(Box::new);
    let (ways, mut orders) = engine.ways(config, &bodies.into()).unwrap();
    let mut control = engine.control();
    control.account.reported();
    let (phase, mut lives) = control.account.begin(ways).unwrap();
    let (live, barrier) = (Box::new(lives.remove(0)), Arc::new(Barrier::new(meet)));
    let begin = Command::Begin { phase: Arc::clone(&phase), barrier, live, orders: orders.pop(), decider };
    (phase, begin)
}

fn send(engine: &Engine, command: Command) {
    assert!(engine.control().senders()[0].send(command).is_ok());
}

/// Begin a phase that no worker is in any more: the task that finds it through panics when it leaves it once more.
fn begin_broken(engine: &Engine, phase: Value, meet: usize) -> SharedPhase {
    let (phase, begin) = made(engine, phase, meet);
    phase.leave(Tally::default(), 0);
    send(engine, begin);
    phase
}

/// What the run failed with, once it has.
fn failure(engine: &Engine) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match engine.run.failure() {
            Some(failure) => return failure,
            None => assert!(Instant::now() < until, "nobody learns of the panic"),
        }
        std::thread::yield_now();
    }
}

/// What ending the run comes to, in good time.
fn finished(engine: &Arc<Engine>) -> String {
    let (sender, finished) = mpsc::channel();
    let ending = Arc::clone(engine);
    std::thread::spawn(move || sender.send(ending.finish("complete", "")));
    finished.recv_timeout(PATIENCE).expect("the run ends").unwrap_err().to_string()
}

#[test]
fn a_task_that_panics_ends_the_run_whatever_it_was_at() {
    let requests = "a task that makes requests panicked on worker 0; rows are missing";
    let arrivals = "worker 0 panicked waiting for arrivals; rows may be missing";
    let beginning = "worker 0 panicked beginning a phase; rows may be missing";
    let policy = policy::Config::named("parallel", 1, None, None).unwrap();
    let rate = json!({"kind": "rate", "rate": 1.0, "arrival": {"kind": "constant"}});
    for (load, expected) in [
        (json!({"load": {"kind": "concurrency", "n": 1}, "requests": 0}), requests),
        (json!({"load": {"kind": "concurrency", "n": 0}}), beginning),
        (json!({"load": rate, "requests": 0}), arrivals),
        (json!({"load": {"kind": "dispatch", "policy": policy}, "requests": 0}), requests),
        (json!({"load": {"kind": "manual"}}), requests),
    ] {
        let engine = engine("http://127.0.0.1:9");
        let phase = begin_broken(&engine, load.clone(), 1);
        if phase.is_manual() {
            phase.stop(StopReason::Stopped);
        }
        assert_eq!(failure(&engine), expected, "{load}");
        let waited = engine.wait(Duration::ZERO).unwrap_err().to_string();
        assert_eq!((waited.as_str(), finished(&engine).as_str()), (expected, expected), "{load}");
    }
}

#[test]
fn a_sweep_that_panics_ends_the_run_though_nobody_is_left_to_cut_short_what_is_in_flight() {
    // It takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = engine(&format!("http://{}", silent.local_addr().unwrap()));
    let (_, begin) = made(&engine, json!({"load": {"kind": "concurrency", "n": 1}}), 1);
    send(&engine, begin);
    let until = Instant::now() + PATIENCE;
    while engine.live().0.in_flight() == 0 {
        assert!(Instant::now() < until, "nothing is issued");
        std::thread::yield_now();
    }
    // Nobody comes to meet this worker: of its tasks only the sweep learns that the phase was stopped.
    begin_broken(&engine, json!({"load": {"kind": "burst", "n": 1}}), 2).stop(StopReason::Stopped);
    let expected = "worker 0 panicked in its sweep; rows may be missing";
    assert_eq!(failure(&engine), expected);
    assert_eq!(finished(&engine), expected);
}

/// Counts the answers that have begun, and may panic at the first token.
struct Clumsy {
    began: Rc<Cell<u32>>,
    panics: bool,
}

impl Chooser for Clumsy {
    fn first_byte(&self, _: u64) {
        self.began.set(self.began.get() + 1);
    }

    fn first_token(&self, _: u64) {
        assert!(!self.panics, "clumsy");
    }
}

/// A worker of this engine's that lives on the test's own thread.
fn worker(engine: &Engine) -> Rc<Worker> {
    let control = engine.control();
    let (shard, turns) = (control.account.log().unwrap().shard(0), Arc::clone(&control.account.live().turns()[0]));
    let outfit = Outfit { id: 0, shard, completed: Taker::new().unwrap().1, turns, emitter: None };
    Worker::new(outfit, Arc::clone(&engine.run))
}

#[test]
fn a_panic_over_one_answer_ends_the_run_and_what_else_streams_in_can_still_be_cut_short() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    const EVENT: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let engine = engine("http://127.0.0.1:9");
    let (phase, begin) = made(&engine, json!({"load": {"kind": "manual"}}), 1);
    let Command::Begin { live, .. } = begin else { panic!("another command") };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let (worker, here) = (worker(&engine), Rc::new(PhaseHere::new(phase, live)));
        task::spawn(&worker, "reading answers", read_forever(Rc::clone(&worker)));
        let began = Rc::new(Cell::new(0));
        let (mut servers, mut requests) = (Vec::new(), Vec::new());
        for panics in [false, true, false] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.write_all(HEAD).unwrap();
            servers.push(theirs);
            let connection =
                Worker::connection(Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap()), &here.shared, 0);
            let chooser = Box::new(Clumsy { began: Rc::clone(&began), panics });
            let contender = Contender { kind: AttemptKind::First, chooser, stall_ns: u64::MAX };
            let flight = worker.flights.enter();
            let ticket = Ticket { index: 0, sample: 0, node: 0, stamps: Stamps::default() };
            let request = Request::contend(&worker, &here, &flight, ticket, contender);
            requests.push(spawn_local(async move { request.bring(&mut Some(connection)).await }));
        }
        while began.get() < 3 {
            yield_now().await;
        }
        servers.iter_mut().for_each(|server| server.write_all(EVENT).unwrap());
        while engine.run.failure().is_none() {
            yield_now().await;
        }
        worker.flights.sweep(now_ns(), |_| true);
        for request in requests {
            assert_eq!(request.await.unwrap().row.failure, Failure::Cancelled);
        }
    });
    assert_eq!(finished(&engine), "worker 0 panicked reading answers; rows may be missing");
}
