//! A run: its workers, its log, and the phases one after the other.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{Barrier, mpsc};

use super::bodies::Bodies;
use super::completions::{Completion, Taker};
use super::config::{PhaseConfig, PhaseType, RunConfig};
use super::events::flush_all;
use super::manual::{Gate, Orders};
use super::phase::{Phase, SharedPhase, StopReason, Ways};
use super::settings::{Settings, UsageRefusals};
use super::ticker::Ticker;
use super::worker::{Command, Outfit, work};
use crate::clock::{Anchor, now_ns};
use crate::event::{EventQueue, EventsError, RunEvents};
use crate::http::{ConnectConfigError, Connector, Target, TargetError, TlsOptions};
use crate::record::{Backlog, LogError, LogHeader, LogWriter};
use crate::schedule::Load;
use crate::series::{LiveCopy, LiveShard};
use crate::sync::Arc;

/// Why a run could not start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The URL or a header.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A certificate, a key, a proxy.
    #[error(transparent)]
    Connect(#[from] ConnectConfigError),
    /// The run log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The events.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// A thread, or the descriptor that tells of completions.
    #[error("no thread or descriptor could be had: {0}")]
    Thread(#[from] std::io::Error),
    /// A phase was begun while another was issuing, or on a run that has finished.
    #[error("{0}")]
    State(&'static str),
    /// Something that was asked of a phase can't be done.
    #[error("{0}")]
    Phase(String),
    /// Something in a worker that should not happen.
    #[error("{0}")]
    Worker(String),
}

/// What all workers of a run may look at.
pub(super) struct RunShared {
    pub(super) config: RunConfig,
    target: Target,
    pub(super) connector: Connector,
    pub(super) lives: Vec<Arc<LiveShard>>,
    pub(super) backlog: Backlog,
    pub(super) usage_refusals: UsageRefusals,
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
    log: Option<Arc<LogWriter>>,
    ticker: Option<Ticker>,
    workers: Vec<(mpsc::UnboundedSender<Command>, JoinHandle<()>)>,
    phases: Vec<SharedPhase>,
    reported: usize,
}

impl Control {
    fn senders(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        self.workers.iter().map(|(sender, _)| sender.clone()).collect()
    }
}

impl Engine {
    /// Create the run's log and start its workers. Nothing is sent yet.
    pub fn start(config: RunConfig) -> Result<Self, EngineError> {
        let target = Target::parse(&config.url, config.api.path(), config.http2)?;
        let tls = TlsOptions {
            cacert: config.cacert.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
            insecure: config.insecure,
        };
        let connect_timeout = Duration::from_secs_f64(config.connect_timeout_s);
        let connector = Connector::new(&target, &tls, config.proxy.as_deref(), connect_timeout)?;
        let session = config.meta.get("id").and_then(Value::as_str).unwrap_or("run").to_owned();
        let header = LogHeader { anchor: Anchor::now(), session, meta: config.meta.clone() };
        let log = LogWriter::create(&config.dir, &header, config.save_responses || config.keep_uncounted)?;
        let run = Arc::new(RunShared {
            target,
            connector,
            lives: (0..config.workers).map(|_| Arc::default()).collect(),
            backlog: log.backlog(),
            usage_refusals: UsageRefusals::default(),
            failure: Mutex::new(None),
            config,
        });
        let (completions, teller) = Taker::new()?;
        let sources: Vec<u16> = (0..run.config.workers).collect();
        let events = run.config.events.as_ref();
        let events = events.map(|config| RunEvents::start(config, &log, &header.session, &sources)).transpose()?;
        let (events, emitters) = events.unzip();
        let mut emitters = emitters.into_iter().flatten();
        let workers = (0..run.config.workers)
            .map(|id| {
                let (sender, commands) = mpsc::unbounded_channel();
                let run = Arc::clone(&run);
                let emitter = emitters.next();
                let outfit = Outfit { id, shard: log.shard(id), completed: teller.clone(), emitter };
                let thread = std::thread::Builder::new().name(format!("loadgen-{id}"));
                Ok((sender, thread.spawn(move || work(outfit, run, commands))?))
            })
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        let log = Arc::new(log);
        let ticker = Some(Ticker::start(Arc::clone(&run), Arc::clone(&log))?);
        let control = Control { log: Some(log), ticker, workers, phases: Vec::new(), reported: 0 };
        Ok(Self { run, process: std::process::id(), completions, events, control: Mutex::new(control) })
    }

    /// Start a phase. The one before must have stopped issuing; what it has in flight goes on.
    pub fn begin(&self, config: PhaseConfig, bodies: Arc<Bodies>) -> Result<(), EngineError> {
        self.check_process()?;
        let (ways, orders) = self.ways(config, bodies)?;
        let mut control = self.control();
        if control.phases.len() > control.reported {
            return Err(EngineError::State("a phase is still running: wait for its end first"));
        }
        let log = control.log.as_ref().ok_or(EngineError::State("the run has finished"))?;
        let first_id = control.phases.last().map_or(0, |p| p.first_id + p.claimed());
        let index = u16::try_from(control.phases.len()).map_err(|_| EngineError::State("65,536 phases at most"))?;
        if ways.settings.keep_answers() {
            log.keep_answers()?;
        }
        let mut told = json!(ways.config);
        told["request"] = ways.settings.account();
        log.meta(&json!({
            "event": "phase_start", "phase": index, "ns": now_ns(), "first_id": first_id, "config": told
        }))?;
        let phase = Arc::new(Phase::new(index, first_id, ways, self.run.config.workers));
        control.phases.push(Arc::clone(&phase));
        control.ticker.iter().for_each(|ticker| ticker.watch(index));
        let barrier = Arc::new(Barrier::new(usize::from(self.run.config.workers)));
        let workers = control.senders();
        drop(control);
        if let Some(events) = self.events.as_ref().filter(|_| phase.config.kind == PhaseType::Performance) {
            events.start_tracking(index, &phase.config.name, || flush_all(&workers));
        }
        let mut orders = orders.into_iter();
        for worker in workers {
            let (phase, barrier, orders) = (Arc::clone(&phase), Arc::clone(&barrier), orders.next());
            // A closed channel means that the worker failed; `wait` reports that.
            let _ = worker.send(Command::Begin { phase, barrier, orders });
        }
        Ok(())
    }

    /// Send one request of a manual phase now, of this sample or of the order's next: its index in the session. `None`
    /// when the phase takes no more: its limits are reached, or it was stopped.
    pub fn issue(&self, sample: Option<u64>) -> Result<Option<u64>, EngineError> {
        self.check_process()?;
        let phase = self.manual()?;
        let count = u64::from(phase.bodies.count().get());
        if let Some(sample) = sample.filter(|&sample| sample >= count) {
            return Err(EngineError::Phase(format!("sample {sample} of {count}: they are counted from 0")));
        }
        phase.issue(sample).map_err(|gone| EngineError::Worker(self.run.failure().unwrap_or_else(|| gone.to_string())))
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
        let phase = self.control().phases.last().cloned();
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
        let (phase, log) = self.current()?;
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
        let mut end = self.phase_end(&phase);
        log.meta(&end)?;
        log.sync()?;
        let mut control = self.control();
        control.reported = control.phases.len();
        if let Some(fields) = end.as_object_mut() {
            fields.insert("name".into(), phase.config.name.clone().into());
        }
        Ok(Some(end))
    }

    /// The sum over all workers at this moment, and the seconds since the current phase started.
    pub fn live(&self) -> (LiveCopy, f64) {
        let mut copy = LiveCopy::default();
        self.run.lives.iter().for_each(|live| live.add_to(&mut copy));
        let started = self.control().phases.last().and_then(|p| p.started());
        (copy, started.map_or(0.0, |s| now_ns().saturating_sub(s) as f64 / 1e9))
    }

    /// Stop issuing; what is in flight may go on for `grace`.
    pub fn stop(&self, grace: Duration) {
        if let Some(phase) = self.control().phases.last() {
            phase.stop(StopReason::Stopped);
            phase.cancel_at(now_ns().saturating_add(grace.as_nanos() as u64));
        }
    }

    /// End the run: cancel what is left in flight, close the log. Again and again does no harm.
    ///
    /// `status` and `reason` are what the log says of the run's end.
    pub fn finish(&self, status: &str, reason: &str) -> Result<(), EngineError> {
        self.check_process()?;
        let (log, ticker, workers) = {
            let mut control = self.control();
            for phase in &control.phases {
                // Without a stop each request that is cancelled would only make room for the plan's next.
                phase.stop(StopReason::Stopped);
                phase.cancel_at(0);
            }
            (control.log.take(), control.ticker.take(), std::mem::take(&mut control.workers))
        };
        drop(ticker);
        for (sender, thread) in workers {
            drop(sender);
            if thread.join().is_err() {
                self.run.fail("a worker panicked; its last rows may be missing".to_owned());
            }
        }
        let Some(log) = log else { return Ok(()) };
        let mut end = json!({"event": "run_end", "ns": now_ns(), "status": status, "reason": reason});
        if let Some(events) = &self.events {
            events.end(status);
            end["events"] = events.account(&log)?;
        }
        log.meta(&end)?;
        let log = Arc::try_unwrap(log).map_err(|_| EngineError::State("the log is still in use"))?;
        log.finish()?;
        self.run.failure().map_or(Ok(()), |failure| Err(EngineError::Worker(failure)))
    }

    /// What a phase is made of, and each worker's orders where it is a manual one.
    fn ways(&self, config: PhaseConfig, bodies: Arc<Bodies>) -> Result<(Ways, Vec<Orders>), EngineError> {
        let RunShared { config: run, target, connector, .. } = &*self.run;
        let settings = Settings::new(run, target, connector, &config)?;
        let (gate, orders) = match config.load {
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
        Ok((Ways { config, settings, bodies, gate }, orders))
    }

    fn manual(&self) -> Result<SharedPhase, EngineError> {
        let phase = self.control().phases.last().filter(|phase| phase.is_manual()).cloned();
        phase.ok_or(EngineError::State("only a phase whose load is manual is issued from outside: begin one first"))
    }

    fn current(&self) -> Result<(SharedPhase, Arc<LogWriter>), EngineError> {
        let control = self.control();
        let begin = EngineError::State("no phase is running: begin one first");
        let phase = control.phases.get(control.reported).ok_or(begin)?;
        let log = control.log.as_ref().ok_or(EngineError::State("the run has finished"))?;
        Ok((Arc::clone(phase), Arc::clone(log)))
    }

    /// After a fork the child has this object, but none of its threads.
    fn check_process(&self) -> Result<(), EngineError> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(EngineError::State(
            "this run belongs to the process that started it: after a fork, the child starts its own",
        ))
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A poisoned lock means that a caller panicked between two steps; closing the log is still worth trying.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase_end(&self, phase: &Phase) -> Value {
        let (tally, end_ns) = phase.tally();
        let counts = tally.map(|t| {
            json!({
                "issued": t.issued, "ok": t.ok, "failed": t.failed, "cancelled": t.cancelled,
                "reconnects": t.reconnects,
            })
        });
        json!({
            "event": "phase_end",
            "phase": phase.index,
            "ns": now_ns(),
            "start_ns": phase.started(),
            "issue_end_ns": phase.issue_end_ns(),
            "end_ns": end_ns,
            "reason": phase.reason().map_or("requests", StopReason::name),
            "counts": counts,
            "usage_refused": phase.settings.wants_usage() && self.run.usage_refusals.has(phase.settings.api),
            "never_issued": phase.never_issued(),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // The threads that these would be joined with are in the other process.
            if let Ok(mut control) = self.control.try_lock() {
                std::mem::forget((control.log.take(), control.ticker.take(), std::mem::take(&mut control.workers)));
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
