//! The sink: a run whose requests somebody else makes, a Python issuer. It hands out the plan's requests, is told what
//! became of each, and leaves the same log as the engine.

mod flight;
mod requests;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::account::{Account, session_of, tell_end, tell_run_end};
use super::balance::Balance;
use super::bodies::{Bodies, Renderings};
use super::config::{PhaseConfig, PhaseType, RunConfig};
use super::error::EngineError;
use super::nodes::Node;
use super::phase::Ways;
use super::settings::Settings;
use crate::clock::{now_ns, thread_cpu_ns};
use crate::event::{EventQueue, RunEvents};
use crate::series::{LiveCopy, LoopTurns, Segment};
use crate::sync::Arc;

pub use flight::Ending;
pub use requests::Issued;
use requests::Requests;

/// A turn of the caller's loop that comes this late is on time: its timer is that coarse.
const COARSE_NS: u64 = 2_000_000;

/// A run whose requests are made elsewhere. Every call may come from any thread.
pub struct Sink {
    run: RunConfig,
    /// Nothing of ours goes there: it lets a phase have its settings, of which body, texts and secrets are used.
    nowhere: Box<[Node]>,
    shared: Arc<Shared>,
    process: u32,
    events: Option<RunEvents>,
    account: Mutex<Account>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    requests: Mutex<Requests>,
    turns: Vec<Arc<LoopTurns>>,
    closing: Mutex<bool>,
    closed: Condvar,
}

impl Sink {
    /// Create the run's log. The run's URL is for whoever makes the requests; here it isn't looked at.
    pub fn start(run: RunConfig) -> Result<Self, EngineError> {
        let nowhere = Node::nowhere(&run)?;
        let mut account = Account::open(&run, 1)?;
        let turns = account.live().turns().to_vec();
        let log = account.log()?;
        let asked = run.events.as_ref();
        let events = asked.map(|asked| RunEvents::start(asked, log, session_of(&run), &[0])).transpose()?;
        let (events, emitters) = events.unzip();
        let emitter = emitters.into_iter().flatten().next();
        let requests = Requests::new(log.shard(0), log.backlog(), emitter);
        account.tick()?;
        let (closing, closed) = (Mutex::new(false), Condvar::new());
        let shared = Arc::new(Shared { requests: Mutex::new(requests), turns, closing, closed });
        let sweeping = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("loadgen-sweep".into()).spawn(move || sweeping.sweep_forever())?;
        let (account, sweeper) = (Mutex::new(account), Mutex::new(Some(thread)));
        let process = std::process::id();
        Ok(Self { run, nowhere, shared, process, events, account, sweeper })
    }

    /// Start a phase. The one before must have stopped issuing; what it has in flight goes on.
    pub fn begin(&self, config: PhaseConfig, bodies: Arc<Bodies>) -> Result<(), EngineError> {
        self.check_process()?;
        let settings = Settings::new(&self.run, &self.nowhere, &config, &Renderings::from(bodies))?;
        let (phase, mut lives) =
            self.account().begin(Ways { config, settings, gate: None, balance: Balance::elsewhere() })?;
        if let Some(events) = self.events.as_ref().filter(|_| phase.config.kind == PhaseType::Performance) {
            events.start_tracking(phase.index, &phase.config.name, || self.requests().flush_events());
        }
        // One worker has one.
        lives.pop().into_iter().for_each(|live| self.requests().begin(Arc::clone(&phase), live));
        Ok(())
    }

    /// The phase's load begins now, if it hasn't: from here its duration and its schedule count.
    pub fn start_phase(&self) -> Result<u64, EngineError> {
        self.requests().start(now_ns())
    }

    /// Take the next request of the plan, to be made at once; `None` when the phase takes no more.
    ///
    /// `sample` in place of the one whose turn it is; `planned_ns`, if the moment it should have started is not now.
    pub fn issue(&self, sample: Option<u64>, planned_ns: Option<u64>) -> Result<Option<Issued>, EngineError> {
        self.requests().issue(now_ns(), sample, planned_ns)
    }

    /// The body of a request in flight: the very bytes that the engine would send. `None` if it isn't in flight.
    pub fn body(&self, request: u64) -> Option<Vec<u8>> {
        self.requests().body(request)
    }

    /// The request is about to be sent. False if it isn't in flight.
    pub fn sent(&self, request: u64, ns: Option<u64>) -> bool {
        self.requests().sent(now_ns(), request, ns)
    }

    /// A piece of its answer came, with so many tokens, if that is known; a piece of 0 tokens is but the first byte.
    /// False if the request isn't in flight: that is counted.
    pub fn chunk(&self, request: u64, tokens: Option<u32>, is_output: bool, ns: Option<u64>) -> bool {
        self.requests().chunk(now_ns(), request, tokens, is_output, ns)
    }

    /// The request has ended. False if it wasn't in flight (any more): that is counted, and nothing else.
    pub fn complete(&self, request: u64, ending: &Ending<'_>, ns: Option<u64>) -> bool {
        self.requests().complete(now_ns(), request, ending, ns)
    }

    /// The requests that the sink itself has ended since the last call, when a drain or a stop ran out of time.
    pub fn take_cancelled(&self) -> Vec<u64> {
        self.requests().take_cancelled()
    }

    /// Nothing more will be issued in this phase: it drains and ends.
    pub fn end_issue(&self) {
        self.requests().end_issue(now_ns());
    }

    /// The caller's loop has a turn, which was due at `due_ns`: what it cost so far, and for how long it was away.
    pub fn turn(&self, due_ns: u64) {
        let stalled = now_ns().saturating_sub(due_ns.saturating_add(COARSE_NS));
        self.shared.turns.iter().for_each(|turns| turns.loop_turn(thread_cpu_ns(), stalled));
    }

    /// Wait up to `timeout` for the current phase's end; what became of it, or `None` while it runs.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Value>, EngineError> {
        self.check_process()?;
        let (phase, log) = self.account().current()?;
        let over = phase.wait(timeout);
        if self.is_unswept() {
            return Err(unswept());
        }
        if !over {
            return Ok(None);
        }
        if let Some(events) = &self.events {
            events.stop_tracking(phase.index, || self.requests().flush_events());
        }
        let end = tell_end(&phase, &log, json!({"usage_refused": false}))?;
        self.account().reported();
        Ok(Some(end))
    }

    /// Finished frames of events for a publisher; `None` unless they are asked for.
    pub fn event_queue(&self) -> Option<Arc<EventQueue>> {
        self.events.as_ref()?.queue()
    }

    /// What it shows at this moment, and the seconds since the current phase started.
    pub fn live(&self) -> (LiveCopy, f64) {
        self.account().now()
    }

    /// The live metrics, as they are shared with other processes.
    pub fn segment(&self) -> Arc<Segment> {
        Arc::clone(self.account().live().segment())
    }

    /// Whether the newest phase may still issue requests; what was issued may be in flight for longer.
    pub fn is_issuing(&self) -> bool {
        self.account().is_issuing()
    }

    /// Answers so far for requests that were not in flight (any more).
    pub fn late(&self) -> u64 {
        self.requests().late()
    }

    /// Stop issuing; what is in flight, of earlier phases too, may go on for `grace`, then it is cancelled.
    pub fn stop(&self, grace: Duration) {
        self.account().stop(grace, None);
        self.requests().look(now_ns());
    }

    /// Stop the phase with this index in the session, and leave the others alone; what it has in flight may go on for
    /// `grace`, then it is cancelled.
    pub fn stop_phase(&self, phase: u16, grace: Duration) {
        self.account().stop(grace, Some(phase));
        self.requests().look(now_ns());
    }

    /// End the run: cancel what is left in flight, close the log. Again and again does no harm.
    ///
    /// `status` and `reason` are what the log says of the run's end.
    pub fn finish(&self, status: &str, reason: &str) -> Result<(), EngineError> {
        self.check_process()?;
        let (log, live) = {
            let mut account = self.account();
            (account.close(), Arc::clone(account.live()))
        };
        // First out of sight: from now on the sweep's end is no failure.
        let sweeper = self.sweeper().take();
        *self.shared.closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.closed.notify_all();
        let swept = sweeper.is_none_or(|thread| thread.join().is_ok());
        let Some(log) = log else { return Ok(()) };
        let late = self.requests().close(now_ns());
        live.finish(status == "complete");
        tell_run_end(log, status, reason, self.events.as_ref(), json!({"late_answers": late}))?;
        if swept { Ok(()) } else { Err(unswept()) }
    }

    /// After a fork the child has this object, but none of its threads.
    fn check_process(&self) -> Result<(), EngineError> {
        if self.process == std::process::id() { Ok(()) } else { Err(EngineError::Forked) }
    }

    /// Whether the sweep has panicked: nothing would end a drain that runs out, or a phase whose time is over.
    fn is_unswept(&self) -> bool {
        self.sweeper().as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn sweeper(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.sweeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // A poisoned lock means that a caller panicked between two steps; closing the log is still worth trying.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.shared.requests()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // The threads that these would be joined with are in the other process.
            if let Ok(mut account) = self.account.try_lock() {
                account.forget();
            }
            return;
        }
        // A sink that nobody finished ends like a killed run: the log keeps what was written.
        let _ = self.finish("interrupted", "abandoned");
    }
}

fn unswept() -> EngineError {
    EngineError::Worker("the sweep panicked; rows may be missing".to_owned())
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        // A poisoned lock means that a caller panicked within one request; the others are still worth having.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every [`SWEEP_MS`]: ends of phases, drains that ran out, the log's age.
    fn sweep_forever(&self) {
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        while !*closing {
            let now = now_ns();
            let pause = Duration::from_nanos(self.requests().next_look_ns(now) - now);
            (closing, _) = self.closed.wait_timeout(closing, pause).unwrap_or_else(PoisonError::into_inner);
            self.requests().look(now_ns());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::engine::nodes::tests::run;
    use crate::engine::phase::Tally;
    use crate::engine::reason::StopReason;

    #[test]
    fn a_sweep_that_panics_ends_the_run() {
        let sink = Sink::start(run(json!({"dir": null}))).unwrap();
        let config = json!({"name": "p", "load": {"kind": "concurrency", "n": 1}, "drain_timeout_s": 240});
        let bodies = Arc::new(Bodies::new([br#"{"a":1}"#.as_slice()].into_iter(), vec![]).unwrap());
        sink.begin(serde_json::from_value(config).unwrap(), bodies).unwrap();
        let phase = sink.account().latest().cloned().unwrap();
        // It finds the phase through, and panics when it leaves it once more.
        phase.leave(Tally::default(), 0);
        phase.stop(StopReason::Stopped);
        // A bound on a test that has failed, not a measure of anything.
        let until = Instant::now() + Duration::from_secs(60);
        while !sink.is_unswept() {
            assert!(Instant::now() < until, "the sweep goes on");
            std::thread::yield_now();
        }
        let expected = "the sweep panicked; rows may be missing";
        assert_eq!(sink.wait(Duration::ZERO).unwrap_err().to_string(), expected);
        assert_eq!(sink.finish("complete", "").unwrap_err().to_string(), expected);
    }
}
