//! What a run's control side keeps, whoever makes its requests: the log, the ticker, the phases and their documents.

use std::time::Duration;

use serde_json::{Value, json};

use super::config::{PhaseType, RunConfig};
use super::error::EngineError;
use super::phase::{Phase, SharedPhase, Ways};
use super::reason::StopReason;
use super::ticker::Ticker;
use crate::clock::{Anchor, now_ns};
use crate::event::RunEvents;
use crate::record::{LogHeader, LogWriter};
use crate::series::{self, Live, LiveCopy, LiveShard};
use crate::sync::Arc;

/// A run's log, its live metrics and its phases, one after the other.
pub(super) struct Account {
    live: Arc<Live>,
    log: Option<Arc<LogWriter>>,
    ticker: Option<Ticker>,
    phases: Vec<SharedPhase>,
    reported: usize,
}

impl Account {
    /// Create the log, and the live metrics, of a run of `workers` workers.
    pub(super) fn open(run: &RunConfig, workers: u16) -> Result<Self, EngineError> {
        let session = session_of(run).to_owned();
        let header = LogHeader { anchor: Anchor::now(), session, meta: run.meta.clone() };
        let log = match &run.dir {
            Some(dir) => LogWriter::create(dir, &header, false)?,
            None => LogWriter::nowhere(&header)?,
        };
        if run.save_responses || run.keep_uncounted {
            log.keep_answers()?;
        }
        let log = Arc::new(log);
        let live = Arc::new(Live::start(session_of(run), workers, run.nodes.len().max(1), &series::directories())?);
        Ok(Self { live, log: Some(log), ticker: None, phases: Vec::new(), reported: 0 })
    }

    /// The log, until the run has finished.
    pub(super) fn log(&self) -> Result<&Arc<LogWriter>, EngineError> {
        self.log.as_ref().ok_or(EngineError::State("the run has finished"))
    }

    /// The live metrics.
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The latest phase as a progress line shows it, and the seconds since it started.
    pub(super) fn now(&self) -> (LiveCopy, f64) {
        let started = self.phases.last().and_then(|p| p.started());
        (self.live.copy(), started.map_or(0.0, |s| now_ns().saturating_sub(s) as f64 / 1e9))
    }

    /// From now on the log has a tick each second.
    pub(super) fn tick(&mut self) -> Result<(), EngineError> {
        self.ticker = Some(Ticker::start(Arc::clone(&self.live), Arc::clone(self.log()?))?);
        Ok(())
    }

    /// Start a phase, with live counters for each worker that will run it. The one before must have stopped issuing.
    pub(super) fn begin(&mut self, ways: Ways) -> Result<(SharedPhase, Vec<LiveShard>), EngineError> {
        if self.phases.len() > self.reported {
            return Err(EngineError::State("a phase is still running: wait for its end first"));
        }
        let log = self.log()?;
        let first_id = self.phases.last().map_or(0, |p| p.first_id + p.claimed());
        let index = u16::try_from(self.phases.len()).map_err(|_| EngineError::State("65,536 phases at most"))?;
        if ways.settings.keep_answers() {
            log.keep_answers()?;
        }
        // Who has left a phase on every worker writes none of its live metrics any more.
        self.phases.iter().filter(|p| p.tally().0.is_some()).for_each(|p| self.live.over(p.index));
        let shards = self.live.begin(index, ways.config.kind == PhaseType::Warmup)?;
        let mut told = json!(ways.config);
        told["request"] = ways.settings.account();
        log.meta(&json!({
            "event": "phase_start", "phase": index, "ns": now_ns(), "first_id": first_id, "config": told
        }))?;
        let workers = u16::try_from(shards.len()).map_err(|_| EngineError::State("65,535 workers at most"))?;
        let phase = Arc::new(Phase::new(index, first_id, ways, workers));
        self.phases.push(Arc::clone(&phase));
        self.ticker.iter().for_each(|ticker| ticker.watch(index));
        Ok((phase, shards))
    }

    /// The phase that runs, and the log.
    pub(super) fn current(&self) -> Result<(SharedPhase, Arc<LogWriter>), EngineError> {
        let begin = EngineError::State("no phase is running: begin one first");
        let phase = self.phases.get(self.reported).ok_or(begin)?;
        Ok((Arc::clone(phase), Arc::clone(self.log()?)))
    }

    /// The end of the phase that runs is told; another may begin.
    pub(super) fn reported(&mut self) {
        self.reported = self.phases.len();
    }

    /// The latest phase, whether it runs or not.
    pub(super) fn latest(&self) -> Option<&SharedPhase> {
        self.phases.last()
    }

    /// Nothing more is issued; what any phase has in flight may go on for `grace`. `only` stops the phase with that index,
    /// and no other: by the time that it is asked for, the next may have begun.
    pub(super) fn stop(&self, grace: Duration, only: Option<u16>) {
        let until = now_ns().saturating_add(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX));
        for phase in self.phases.iter().filter(|phase| only.is_none_or(|index| index == phase.index)) {
            phase.stop(StopReason::Stopped);
            phase.cancel_at(until);
        }
    }

    /// Whether the newest phase may still issue requests.
    pub(super) fn is_issuing(&self) -> bool {
        self.phases.last().is_some_and(|phase| phase.is_issuing())
    }

    /// How many requests the phase with this index has issued; exact once it has ended.
    pub(super) fn issued(&self, index: u16) -> Result<u64, EngineError> {
        Ok(self.phase(index)?.issued())
    }

    /// The phase with this index.
    pub(super) fn phase(&self, index: u16) -> Result<&SharedPhase, EngineError> {
        self.phases.get(usize::from(index)).ok_or(EngineError::State("there is no phase with this index yet"))
    }

    /// Stop every phase, cancel what any has in flight, and give the log away for its end. `None` the second time.
    pub(super) fn close(&mut self) -> Option<Arc<LogWriter>> {
        for phase in &self.phases {
            // Without a stop each request that is cancelled would only make room for the plan's next.
            phase.stop(StopReason::Stopped);
            phase.cancel_at(0);
        }
        self.ticker = None;
        self.log.take()
    }

    /// Let go of everything without waiting for a thread: after a fork there is none to wait for.
    pub(super) fn forget(&mut self) {
        std::mem::forget((self.log.take(), self.ticker.take()));
    }
}

/// What the session is called.
pub(super) fn session_of(run: &RunConfig) -> &str {
    run.meta.get("id").and_then(Value::as_str).unwrap_or("run")
}

/// Write what `phase` came to into the log, and return it with the phase's name. `more` is what else is to be said.
pub(super) fn tell_end(phase: &Phase, log: &LogWriter, more: Value) -> Result<Value, EngineError> {
    let (tally, end_ns) = phase.tally();
    let counts = tally.map(|t| {
        json!({
            "issued": t.issued, "ok": t.ok, "failed": t.failed, "cancelled": t.cancelled,
            "reconnects": t.reconnects,
        })
    });
    let mut end = json!({
        "event": "phase_end",
        "phase": phase.index,
        "ns": now_ns(),
        "start_ns": phase.started(),
        "issue_end_ns": phase.issue_end_ns(),
        "end_ns": end_ns,
        "reason": phase.reason().map_or("requests", StopReason::name),
        "counts": counts,
        "never_issued": phase.never_issued(),
    });
    add(&mut end, more);
    log.meta(&end)?;
    log.sync()?;
    add(&mut end, json!({"name": phase.config.name}));
    Ok(end)
}

/// Write how the run ended, and close its log. All sources of its `events` have flushed; `more` is what else is to be
/// said.
pub(super) fn tell_run_end(
    log: Arc<LogWriter>,
    status: &str,
    reason: &str,
    events: Option<&RunEvents>,
    more: Value,
) -> Result<(), EngineError> {
    let mut end = json!({"event": "run_end", "ns": now_ns(), "status": status, "reason": reason});
    if let Some(events) = events {
        events.end(status);
        end["events"] = events.account(&log)?;
    }
    add(&mut end, more);
    log.meta(&end)?;
    let log = Arc::try_unwrap(log).map_err(|_| EngineError::State("the log is still in use"))?;
    log.finish()?;
    Ok(())
}

fn add(document: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (document, more) {
        fields.extend(more);
    }
}
