//! A run: its workers, its log, and the phases one after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{Barrier, mpsc};

use super::bodies::{Bodies, BodiesError};
use super::config::{PhaseConfig, RunConfig};
use super::phase::{Phase, SharedPhase, StopReason};
use super::ticker::Ticker;
use super::worker::{Begin, work};
use crate::clock::{Anchor, now_ns};
use crate::http::{ConnectConfigError, Connector, RequestTemplate, Target, TargetError, TlsOptions};
use crate::record::{Backlog, LogError, LogHeader, LogWriter};
use crate::series::{LiveCopy, LiveShard};
use crate::sync::{Arc, AtomicBool, Ordering};

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
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A phase was begun while another was issuing, or on a run that has finished.
    #[error("{0}")]
    State(&'static str),
    /// A sample that the phase doesn't have.
    #[error("sample {sample} of a phase that has {samples}: the last one is {}", samples - 1)]
    Sample {
        /// The one asked for.
        sample: u64,
        /// How many there are.
        samples: u64,
    },
    /// A phase with nothing to send, or with too much.
    #[error(transparent)]
    Bodies(#[from] BodiesError),
    /// A call in a child of the process that started the run.
    #[error("this run belongs to the process that started it: after a fork, the child starts its own")]
    Forked,
    /// Something in a worker that should not happen.
    #[error("{0}")]
    Worker(String),
}

/// What all workers of a run may look at.
pub(super) struct RunShared {
    pub(super) config: RunConfig,
    pub(super) template: RequestTemplate,
    pub(super) connector: Connector,
    pub(super) lives: Vec<Arc<LiveShard>>,
    pub(super) backlog: Backlog,
    pub(super) timeout_ns: u64,
    pub(super) stall_timeout_ns: u64,
    asks_usage: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// A run under way.
pub struct Engine {
    run: Arc<RunShared>,
    process: u32,
    /// What the control side changes: never touched by a worker, never held while waiting.
    control: Mutex<Control>,
}

struct Control {
    log: Option<Arc<LogWriter>>,
    ticker: Option<Ticker>,
    workers: Vec<(mpsc::UnboundedSender<Begin>, JoinHandle<()>)>,
    phases: Vec<SharedPhase>,
    reported: usize,
}

impl Engine {
    /// Create the run's log and start its workers. Nothing is sent yet.
    pub fn start(config: RunConfig) -> Result<Self, EngineError> {
        let target = Target::parse(&config.url, config.api.path(), config.http2)?;
        let template = RequestTemplate::new(&target, &config.headers, config.api_key.as_deref(), config.stream)?;
        let tls = TlsOptions {
            cacert: config.cacert.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
            insecure: config.insecure,
        };
        let connect_timeout = Duration::from_secs_f64(config.connect_timeout_s);
        let connector = Connector::new(&target, &tls, config.proxy.as_deref(), connect_timeout)?;
        let template = template.through(&connector);
        let session = config.meta.get("id").and_then(Value::as_str).unwrap_or("run").to_owned();
        let header = LogHeader { anchor: Anchor::now(), session, meta: config.meta.clone() };
        let log = LogWriter::create(&config.dir, &header, config.reads_text())?;
        let run = Arc::new(RunShared {
            template,
            connector,
            lives: (0..config.workers).map(|_| Arc::default()).collect(),
            backlog: log.backlog(),
            timeout_ns: seconds(config.timeout_s),
            stall_timeout_ns: seconds(config.stall_timeout_s),
            asks_usage: AtomicBool::new(config.stream && config.include_usage),
            failure: Mutex::new(None),
            config,
        });
        let workers = (0..run.config.workers)
            .map(|id| {
                let (sender, commands) = mpsc::unbounded_channel();
                let (run, shard) = (Arc::clone(&run), log.shard(id));
                let thread = std::thread::Builder::new().name(format!("loadgen-{id}"));
                Ok((sender, thread.spawn(move || work(id, run, shard, commands))?))
            })
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        let log = Arc::new(log);
        let ticker = Some(Ticker::start(run.lives.clone(), Arc::clone(&log))?);
        let control = Control { log: Some(log), ticker, workers, phases: Vec::new(), reported: 0 };
        Ok(Self { run, process: std::process::id(), control: Mutex::new(control) })
    }

    /// Start a phase. The one before must have stopped issuing; what it has in flight goes on.
    pub fn begin(&self, config: PhaseConfig, bodies: Arc<Bodies>) -> Result<(), EngineError> {
        self.check_process()?;
        let mut control = self.control();
        if control.phases.len() > control.reported {
            return Err(EngineError::State("a phase is still running: wait for its end first"));
        }
        let log = control.log.as_ref().ok_or(EngineError::State("the run has finished"))?;
        let first_id = control.phases.last().map_or(0, |p| p.first_id + p.claimed());
        let index = u16::try_from(control.phases.len()).map_err(|_| EngineError::State("65,536 phases at most"))?;
        log.meta(&json!({
            "event": "phase_start", "phase": index, "ns": now_ns(), "first_id": first_id, "config": config
        }))?;
        let phase = Arc::new(Phase::new(index, first_id, config, bodies, self.run.config.workers));
        control.phases.push(Arc::clone(&phase));
        control.ticker.iter().for_each(|ticker| ticker.watch(index));
        let barrier = Arc::new(Barrier::new(usize::from(self.run.config.workers)));
        for (worker, _) in &control.workers {
            // A closed channel means that the worker failed; `wait` reports that.
            let _ = worker.send(Begin { phase: Arc::clone(&phase), barrier: Arc::clone(&barrier) });
        }
        Ok(())
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
        log.meta(&json!({"event": "run_end", "ns": now_ns(), "status": status, "reason": reason}))?;
        let log = Arc::try_unwrap(log).map_err(|_| EngineError::State("the log is still in use"))?;
        log.finish()?;
        self.run.failure().map_or(Ok(()), |failure| Err(EngineError::Worker(failure)))
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
        Err(EngineError::Forked)
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
            "usage_refused": self.run.config.stream && self.run.config.include_usage && !self.run.asks_usage(),
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
    /// Whether requests still ask for usage in the stream.
    #[inline]
    pub(super) fn asks_usage(&self) -> bool {
        // Relaxed: pairs with `refuse_usage`; a request that asks once more is asked again.
        self.asks_usage.load(Ordering::Relaxed)
    }

    /// The server does not know `stream_options`.
    pub(super) fn refuse_usage(&self) {
        // Relaxed: pairs with `asks_usage`.
        self.asks_usage.store(false, Ordering::Relaxed);
    }

    /// What every body opens with.
    #[inline]
    pub(super) fn opening(&self, ask_usage: bool) -> &'static [u8] {
        match (self.config.stream, ask_usage) {
            (true, true) => br#"{"stream":true,"stream_options":{"include_usage":true},"#,
            (true, false) => br#"{"stream":true,"#,
            (false, _) => b"{",
        }
    }

    /// Something that should not happen did: the run ends with it. The first one stays.
    pub(super) fn fail(&self, what: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn seconds(s: f64) -> u64 {
    (s * 1e9) as u64
}
