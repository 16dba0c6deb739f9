//! A run: its workers, its log, and the phases one after the other.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc};

use super::account::{Account, session_of, tell_end, tell_run_end};
use super::balance::Balance;
use super::bodies::Renderings;
use super::completions::{Completion, Taker};
use super::config::{PhaseConfig, PhaseType, RunConfig};
use super::dispatch::{Decider, NodeTold};
use super::error::EngineError;
use super::events::flush_all;
use super::in_flight::InFlight;
use super::manual::{Asked, Gate, Orders};
use super::nodes::Node;
use super::phase::{SharedPhase, Ways};
use super::reason::StopReason;
use super::settings::Settings;
use super::worker::{Command, Outfit, work};
use crate::event::{EventQueue, RunEvents};
use crate::policy::{self, Policy, Totals};
use crate::record::Backlog;
use crate::schedule::Load;
use crate::series::{LiveCopy, Segment};
use crate::sync::Arc;

/// What all workers of a run may look at.
pub(super) struct RunShared {
    pub(super) config: RunConfig,
    pub(super) nodes: Box<[Node]>,
    /// Of plain loads: what a policy sends it counts itself.
    pub(super) in_flight: Arc<InFlight>,
    pub(super) backlog: Backlog,
    failure: Mutex<Option<String>>,
}

/// A run under way.
pub struct Engine {
    run: Arc<RunShared>,
    process: u32,
    completions: Taker,
    events: Option<RunEvents>,
    /// What the control side changes: never touched by a worker, never held while waiting.
    control: Mutex<Control>,
}

struct Control {
    account: Account,
    workers: Vec<(mpsc::UnboundedSender<Command>, JoinHandle<()>)>,
}

impl Control {
    fn senders(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        self.workers.iter().map(|(sender, _)| sender.clone()).collect()
    }
}

impl Engine {
    /// Create the run's log and start its workers. Nothing is sent yet.
    pub fn start(config: RunConfig) -> Result<Self, EngineError> {
        let nodes = Node::all(&config)?;
        let mut account = Account::open(&config, config.workers)?;
        let (log, live) = (account.log()?, Arc::clone(account.live()));
        let in_flight = Arc::new(InFlight::new(nodes.len() as u16));
        let run = Arc::new(RunShared { nodes, in_flight, backlog: log.backlog(), failure: Mutex::new(None), config });
        let (completions, teller) = Taker::new()?;
        let sources: Vec<u16> = (0..run.config.workers).collect();
        let events = run.config.events.as_ref();
        let events =
            events.map(|config| RunEvents::start(config, log, session_of(&run.config), &sources)).transpose()?;
        let (events, emitters) = events.unzip();
        let mut emitters = emitters.into_iter().flatten();
        let workers = (0..run.config.workers)
            .map(|id| {
                let (sender, commands) = mpsc::unbounded_channel();
                let run = Arc::clone(&run);
                let emitter = emitters.next().map(|emitter| emitter.over(run.nodes.len()));
                let turns = Arc::clone(&live.turns()[usize::from(id)]);
                let outfit = Outfit { id, shard: log.shard(id), completed: teller.clone(), turns, emitter };
                let thread = std::thread::Builder::new().name(format!("loadgen-{id}"));
                Ok((sender, thread.spawn(move || work(outfit, run, commands))?))
            })
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        account.tick()?;
        let control = Control { account, workers };
        Ok(Self { run, process: std::process::id(), completions, events, control: Mutex::new(control) })
    }

    /// Start a phase. The one before must have stopped issuing; what it has in flight goes on.
    ///
    /// `bodies` are what it sends, in each API that is spoken.
    pub fn begin(&self, config: PhaseConfig, bodies: impl Into<Renderings>) -> Result<(), EngineError> {
        self.check_process()?;
        let mut decider = policy_of(&config, self.run.nodes.len())?.map(Box::new);
        let (ways, orders) = self.ways(config, &bodies.into())?;
        let mut control = self.control();
        let (phase, lives) = control.account.begin(ways)?;
        let barrier = Arc::new(Barrier::new(usize::from(self.run.config.workers)));
        let workers = control.senders();
        drop(control);
        if let Some(events) = self.events.as_ref().filter(|_| phase.config.kind == PhaseType::Performance) {
            events.start_tracking(phase.index, &phase.config.name, || flush_all(&workers));
        }
        let mut orders = orders.into_iter();
        for (worker, live) in workers.into_iter().zip(lives) {
            let (phase, barrier, orders) = (Arc::clone(&phase), Arc::clone(&barrier), orders.next());
            // The first worker gets the policy, and makes all of its requests.
            let (live, decider) = (Box::new(live), decider.take());
            // A closed channel means that the worker failed; `wait` reports that.
            let _ = worker.send(Command::Begin { phase, barrier, live, orders, decider });
        }
        Ok(())
    }

    /// Send one request of a manual phase now: its index in the session. `None` when the phase takes no more: its limits
    /// are reached, or it was stopped.
    pub fn issue(&self, asked: Asked) -> Result<Option<u64>, EngineError> {
        self.check_process()?;
        let phase = self.manual()?;
        phase.check(&asked)?;
        phase.issue(asked).map_err(|gone| EngineError::Worker(self.run.failure().unwrap_or_else(|| gone.to_string())))
    }

    /// Nobody waits any more for this request of the manual phase: its connection is closed, and it ends as cancelled. One
    /// that has ended stays as it is.
    pub fn give_up(&self, request: u64) -> Result<(), EngineError> {
        self.check_process()?;
        self.manual()?.give_up(request);
        Ok(())
    }

    /// Nothing more will be issued in the manual phase: it drains and ends.
    pub fn end_issue(&self) -> Result<(), EngineError> {
        self.check_process()?;
        self.manual()?.stop(StopReason::Plan);
        Ok(())
    }

    /// Wait up to `timeout` for the newest phase's start, when its connections are there: that moment, in monotonic
    /// nanoseconds. A manual phase also starts with its first request.
    pub fn start_ns(&self, timeout: Duration) -> Option<u64> {
        let phase = self.control().account.latest().cloned();
        phase.and_then(|phase| phase.wait_started(timeout))
    }

    /// A descriptor that is readable while completions wait. It is the engine's, and closed with it.
    pub fn completions_fd(&self) -> RawFd {
        self.completions.fd()
    }

    /// Requests that have ended since the last call, of phases that ask for it: in the order in which each worker ended
    /// them, none of them lost. What a drained phase brought is there before `wait` tells its end.
    pub fn take_completions(&self) -> Vec<Completion> {
        self.completions.take()
    }

    /// Finished frames of events for a publisher; `None` unless they are asked for.
    pub fn event_queue(&self) -> Option<Arc<EventQueue>> {
        self.events.as_ref()?.queue()
    }

    /// Wait up to `timeout` for the current phase's end; what became of it, or `None` while it runs.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Value>, EngineError> {
        self.check_process()?;
        let (phase, log) = self.control().account.current()?;
        let over = phase.wait(timeout);
        if let Some(failure) = self.run.failure() {
            return Err(EngineError::Worker(failure));
        }
        if !over {
            return Ok(None);
        }
        if let Some(events) = &self.events {
            let workers = self.control().senders();
            events.stop_tracking(phase.index, || flush_all(&workers));
        }
        let asked = phase.settings.nodes().iter().zip(&self.run.nodes);
        let usage_refused = asked.into_iter().any(|(s, node)| s.wants_usage() && node.usage_refusals.has(s.api));
        let mut more = json!({"usage_refused": usage_refused});
        if let Some(account) = phase.policy.account() {
            more["dispatch"] = account;
        }
        let end = tell_end(&phase, &log, more)?;
        self.control().account.reported();
        Ok(Some(end))
    }

    /// The sum over all workers at this moment, and the seconds since the current phase started.
    pub fn live(&self) -> (LiveCopy, f64) {
        self.control().account.now()
    }

    /// The live metrics, as they are shared with other processes.
    pub fn segment(&self) -> Arc<Segment> {
        Arc::clone(self.control().account.live().segment())
    }

    /// Whether the newest phase may still issue requests; what was issued may be in flight for longer.
    pub fn is_issuing(&self) -> bool {
        self.control().account.is_issuing()
    }

    /// How many requests the phase with this index in the session has issued, whatever became of them: a phase that has
    /// ended issues no more.
    pub fn issued(&self, phase: u16) -> Result<u64, EngineError> {
        self.control().account.issued(phase)
    }

    /// What the policy of the phase with this index counts: told some times a second, and exact once it has ended. Zeros
    /// where no policy decides.
    pub fn policy_totals(&self, phase: u16) -> Result<Totals, EngineError> {
        Ok(self.control().account.phase(phase)?.policy.totals())
    }

    /// Have a node take so many items at the same time, of the phase with this index that a policy spreads; none while it
    /// can't be used. Without effect once the phase has ended.
    pub fn room(&self, phase: u16, node: u16, slots: u16) -> Result<(), EngineError> {
        self.check_process()?;
        // The first worker has the policy; a closed channel means that the run has ended.
        let worker = self.control().senders().into_iter().next();
        worker.into_iter().for_each(|worker| drop(worker.send(Command::Room { phase, node, slots })));
        Ok(())
    }

    /// What the policy of the phase with this index knows of each node, as current as its totals. Empty where no policy decides.
    pub fn policy_nodes(&self, phase: u16) -> Result<Vec<NodeTold>, EngineError> {
        Ok(self.control().account.phase(phase)?.policy.nodes())
    }

    /// The policy of the phase with this index, once that has ended: what it knows of each item and attempt. `None` before,
    /// where no policy decided, and the second time.
    pub fn take_policy(&self, phase: u16) -> Result<Option<Policy>, EngineError> {
        Ok(self.control().account.phase(phase)?.policy.take())
    }

    /// Stop issuing; what is in flight, of earlier phases too, may go on for `grace`.
    pub fn stop(&self, grace: Duration) {
        self.control().account.stop(grace, None);
    }

    /// Stop the phase with this index in the session, and leave the others alone; what it has in flight may go on for
    /// `grace`.
    pub fn stop_phase(&self, phase: u16, grace: Duration) {
        self.control().account.stop(grace, Some(phase));
    }

    /// End the run: cancel what is left in flight, close the log. Again and again does no harm.
    ///
    /// `status` and `reason` are what the log says of the run's end.
    pub fn finish(&self, status: &str, reason: &str) -> Result<(), EngineError> {
        self.check_process()?;
        let (log, live, workers) = {
            let mut control = self.control();
            let live = Arc::clone(control.account.live());
            (control.account.close(), live, std::mem::take(&mut control.workers))
        };
        for (sender, thread) in workers {
            drop(sender);
            if thread.join().is_err() {
                self.run.fail("a worker panicked; its last rows may be missing".to_owned());
            }
        }
        live.finish(status == "complete");
        let Some(log) = log else { return Ok(()) };
        tell_run_end(log, status, reason, self.events.as_ref(), json!({}))?;
        self.run.failure().map_or(Ok(()), |failure| Err(EngineError::Worker(failure)))
    }

    /// What a phase is made of, and each worker's orders where it is a manual one.
    fn ways(&self, config: PhaseConfig, bodies: &Renderings) -> Result<(Ways, Vec<Orders>), EngineError> {
        let RunShared { config: run, nodes, in_flight, .. } = &*self.run;
        let settings = Settings::new(run, nodes, &config, bodies)?;
        let (gate, orders) = match config.load {
            Load::Dispatch { .. } if config.max_concurrency.is_some() => {
                let why = "max_concurrency beside a policy: its limit says how many are in flight";
                return Err(EngineError::Phase(why.to_owned()));
            }
            Load::Manual if config.max_concurrency.is_some() => {
                let why = "max_concurrency on a manual load: whoever issues decides how many are in flight";
                return Err(EngineError::Phase(why.to_owned()));
            }
            Load::Manual => {
                let (gate, orders) = Gate::new(run.workers);
                (Some(gate), orders)
            }
            _ => (None, Vec::new()),
        };
        let balance = match (&config.load, &config.balance) {
            (Load::Dispatch { .. }, Some(_)) => {
                let why = "balance beside a policy: that says where each attempt goes";
                return Err(EngineError::Phase(why.to_owned()));
            }
            (Load::Dispatch { .. }, None) => Balance::elsewhere(),
            (_, balance) => {
                let way = balance.clone().unwrap_or_default();
                Balance::new(&way, nodes.len() as u16, &settings.node(0).bodies, in_flight)
                    .map_err(|error| EngineError::Phase(error.to_string()))?
            }
        };
        Ok((Ways { config, settings, gate, balance }, orders))
    }

    fn manual(&self) -> Result<SharedPhase, EngineError> {
        let phase = self.control().account.latest().filter(|phase| phase.is_manual()).cloned();
        phase.ok_or(EngineError::State("only a phase whose load is manual is issued from outside: begin one first"))
    }

    /// After a fork the child has this object, but none of its threads.
    fn check_process(&self) -> Result<(), EngineError> {
        if self.process == std::process::id() { Ok(()) } else { Err(EngineError::Forked) }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A poisoned lock means that a caller panicked between two steps; closing the log is still worth trying.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policy that decides when a phase's requests start, if its load is one.
fn policy_of(phase: &PhaseConfig, nodes: usize) -> Result<Option<Decider>, EngineError> {
    let Load::Dispatch { policy, record, .. } = &phase.load else { return Ok(None) };
    let refused = |error: String| EngineError::Phase(format!("the policy: {error}"));
    let config: policy::Config = serde_json::from_value(policy.clone()).map_err(|e| refused(e.to_string()))?;
    let mut policy = Policy::new(&config, phase.seed).map_err(|e| refused(e.to_string()))?;
    let known = config.route.as_ref().map_or(usize::from(config.nodes), |route| route.nodes.len());
    if known > nodes {
        return Err(refused(format!("it knows {known} nodes, and the run has {nodes}")));
    }
    if *record {
        policy.record();
    }
    Ok(Some(Decider { config, policy }))
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // The threads that these would be joined with are in the other process.
            if let Ok(mut control) = self.control.try_lock() {
                control.account.forget();
                std::mem::forget(std::mem::take(&mut control.workers));
            }
            return;
        }
        // An engine that nobody finished ends like a killed one: the log keeps what was written.
        let _ = self.finish("interrupted", "abandoned");
    }
}

impl RunShared {
    /// Something that should not happen did: the run ends with it. The first one stays.
    pub(super) fn fail(&self, what: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
