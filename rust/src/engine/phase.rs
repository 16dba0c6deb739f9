//! A phase as all workers share it: one plan to claim from, one reason to stop, one count of who is still at it.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::balance::Balance;
use super::bodies::Bodies;
use super::config::PhaseConfig;
use super::dispatch::PolicyTold;
use super::early::FirstAnswers;
use super::error::EngineError;
use super::flight::SWEEP_MS;
use super::manual::{Asked, Gate, WorkerGone};
use super::reason::StopReason;
use super::settings::Settings;
use crate::record::{Failure, Row};
use crate::schedule::{Arrivals, SampleOrder};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Not cancelled, and never will be as it stands.
const NEVER: u64 = u64::MAX;

/// How requests of a phase ended, counted by one worker and added up when it is through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub issued: u64,
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub reconnects: u64,
}

impl Tally {
    /// A request has ended.
    pub(super) fn ended(&mut self, failure: Failure) {
        match failure {
            Failure::None => self.ok += 1,
            Failure::Cancelled => self.cancelled += 1,
            _ => self.failed += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.issued += other.issued;
        self.ok += other.ok;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.reconnects += other.reconnects;
    }
}

/// One phase of a run.
pub struct Phase {
    /// Its index in the session.
    pub index: u16,
    /// What was asked for.
    pub config: PhaseConfig,
    /// How its requests are made.
    pub settings: Settings,
    /// Which node a request goes to, where no policy decides that.
    pub(super) balance: Balance,
    /// Session-wide index of its first request.
    pub first_id: u64,
    /// Where requests of a manual load come in; no other load has one.
    gate: Option<Gate>,
    start_ns: OnceLock<u64>,
    next: AtomicU64,
    reason: AtomicU32,
    stopped: AtomicBool,
    issue_end_ns: AtomicU64,
    issued: AtomicU64,
    cancel_at_ns: AtomicU64,
    issuing: AtomicU32,
    first_answers: FirstAnswers,
    open: Mutex<Open>,
    changed: Condvar,
    /// Of a phase whose policy decides.
    pub(super) policy: PolicyTold,
}

/// What a phase is made of.
pub struct Ways {
    /// What was asked for.
    pub config: PhaseConfig,
    /// How its requests are made.
    pub settings: Settings,
    /// Where requests of a manual load come in.
    pub gate: Option<Gate>,
    /// Which node a request goes to, where no policy decides that.
    pub(super) balance: Balance,
}

/// What the end of a phase is decided on; touched once per worker and phase.
#[derive(Debug)]
struct Open {
    workers: u16,
    tally: Tally,
    end_ns: u64,
}

impl Phase {
    /// A phase that `workers` workers will run.
    pub fn new(index: u16, first_id: u64, ways: Ways, workers: u16) -> Self {
        let Ways { config, settings, gate, balance } = ways;
        let nodes = 0..settings.nodes().len() as u16;
        let first_answers = FirstAnswers::new(&config, nodes.map(|node| balance.reaches(node)));
        Self {
            index,
            config,
            settings,
            balance,
            first_id,
            gate,
            start_ns: OnceLock::new(),
            next: AtomicU64::new(0),
            reason: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            issue_end_ns: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            cancel_at_ns: AtomicU64::new(NEVER),
            issuing: AtomicU32::new(u32::from(workers)),
            first_answers,
            open: Mutex::new(Open { workers, tally: Tally::default(), end_ns: 0 }),
            changed: Condvar::new(),
            policy: PolicyTold::default(),
        }
    }

    /// The moment it starts: `now` of the first worker that asks once all are connected.
    pub fn start(&self, now: u64) -> u64 {
        *self.start_ns.get_or_init(|| now)
    }

    /// All workers are connected: it starts at `now` at the latest.
    pub fn connected(&self, now: u64) {
        self.start(now);
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Wait for its start; `None` when `timeout` came first.
    pub fn wait_started(&self, timeout: Duration) -> Option<u64> {
        let guard = self.lock();
        let waited = self.changed.wait_timeout_while(guard, timeout, |_| self.started().is_none());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.started()
    }

    /// Its start, once it has started.
    pub fn started(&self) -> Option<u64> {
        self.start_ns.get().copied()
    }

    /// Nanoseconds after its start when it stops issuing.
    pub fn duration_ns(&self) -> u64 {
        self.config.duration_s.map_or(NEVER, |s| (s * 1e9) as u64)
    }

    /// Take the next index of the plan; `None` when the phase has stopped or this was the last.
    #[inline]
    pub fn claim(&self) -> Option<u64> {
        if self.stopped() {
            return None;
        }
        // Relaxed: the index itself is all that is shared; the plan it points into was there before the workers.
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if self.config.requests.is_some_and(|n| index >= n) {
            self.end(StopReason::Requests);
            return None;
        }
        Some(index)
    }

    /// Whether its requests are asked for from outside.
    pub fn is_manual(&self) -> bool {
        self.gate.is_some()
    }

    /// Ask a worker for one request now; its index in the session. `None` when the phase takes no more, or takes none from
    /// outside.
    pub fn issue(&self, asked: Asked) -> Result<Option<u64>, WorkerGone> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let passed = gate.pass(asked, |now| {
            if now.saturating_sub(self.start(now)) >= self.duration_ns() {
                self.end(StopReason::Duration);
                return None;
            }
            self.claim()
        })?;
        if passed.is_none_or(|index| self.is_last(index)) {
            // Whatever ended the claims has left its reason, but for the last request of all.
            self.stop(StopReason::Requests);
        }
        Ok(passed.map(|index| self.first_id + index))
    }

    /// What it sends, in its own API: of what it speaks to other nodes in, there are as many.
    pub fn bodies(&self) -> &Bodies {
        &self.settings.node(0).bodies
    }

    /// Refuse a sample or a node that there isn't, and a body that is none.
    pub fn check(&self, asked: &Asked) -> Result<(), EngineError> {
        let (samples, nodes) = (u64::from(self.bodies().count().get()), self.settings.nodes().len());
        if let Some(sample) = asked.sample.filter(|&sample| sample >= samples) {
            return Err(EngineError::Phase(format!("sample {sample} of {samples}: they are counted from 0")));
        }
        if let Some(node) = asked.node.filter(|&node| usize::from(node) >= nodes) {
            return Err(EngineError::Phase(format!("node {node} of {nodes}: they are counted from 0")));
        }
        match &asked.body {
            Some(body) if !Bodies::is_object(body) => {
                Err(EngineError::Phase("a body is not a JSON object with at least one key".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Nobody waits any more for the request with this index in the session: it is cut off.
    pub fn give_up(&self, request: u64) {
        if let (Some(gate), Some(index)) = (&self.gate, request.checked_sub(self.first_id)) {
            gate.give_up(index);
        }
    }

    /// Its samples' order, from the start.
    pub fn order(&self) -> SampleOrder {
        SampleOrder::new(self.config.order, self.bodies().count(), self.config.seed)
    }

    /// What makes the prompt of the request with this index in the session unlike every other; empty unless asked for.
    pub fn marker(&self, request: u64) -> String {
        if self.config.unique_prompts && self.bodies().has_holes() {
            format!("#{:x}.{request} ", self.config.seed)
        } else {
            String::new()
        }
    }

    /// A body for a node: what the engine opens it with, the sample's, and a marker in the sample's hole.
    pub fn pieces<'a>(&'a self, node: u16, sample: u64, ask_usage: bool, marker: &'a str) -> [&'a [u8]; 4] {
        let settings = self.settings.node(node);
        let (before, after) = settings.bodies.parts(sample as usize);
        [settings.opening(ask_usage), before, marker.as_bytes(), after]
    }

    /// Whether `index` is the last that can be claimed.
    pub fn is_last(&self, index: u64) -> bool {
        self.config.requests == Some(index + 1)
    }

    /// How many indices have been claimed, the last ones past the limit left out.
    pub fn claimed(&self) -> u64 {
        // Relaxed: a count, read after the phase has ended.
        self.next.load(Ordering::Relaxed).min(self.config.requests.unwrap_or(NEVER))
    }

    /// One worker has come to the plan's end; what others have claimed still goes out. The first reason stays.
    pub fn end(&self, reason: StopReason) {
        // Relaxed: pairs with the load in `reason`; nothing else is published with it.
        let _ = self.reason.compare_exchange(0, reason as u32, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Stop issuing at once: what is claimed and not yet due stays unsent, but for what somebody outside was promised. The
    /// first reason stays.
    pub fn stop(&self, reason: StopReason) {
        self.end(reason);
        // Relaxed: pairs with the load in `stopped`.
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(gate) = &self.gate {
            gate.close();
        }
    }

    /// Whether it was stopped.
    #[inline]
    pub fn stopped(&self) -> bool {
        // Relaxed: pairs with the store in `stop`; a request later is early enough.
        self.stopped.load(Ordering::Relaxed)
    }

    /// Why issuing ended.
    pub fn reason(&self) -> Option<StopReason> {
        // Relaxed: pairs with the exchange in `end`.
        StopReason::from_code(self.reason.load(Ordering::Relaxed))
    }

    /// The sweep's look: stop where the disk is `behind`, or where the time is over and nobody has noticed.
    pub fn look(&self, now: u64, behind: bool) {
        let elapsed = self.started().map_or(0, |start| now.saturating_sub(start));
        if behind {
            self.stop(StopReason::Disk);
        } else if elapsed >= self.duration_ns().saturating_add(SWEEP_MS * 1_000_000) {
            // A schedule ends by itself; what is busy or waits doesn't. A sweep later, nothing due is left unsent.
            self.stop(StopReason::Duration);
        }
    }

    /// What is in flight at `ns` is to be cancelled; the earliest wish counts.
    pub fn cancel_at(&self, ns: u64) {
        // Relaxed: pairs with the load in `cancelled`.
        self.cancel_at_ns.fetch_min(ns, Ordering::Relaxed);
    }

    /// Whether what is in flight is to be cancelled now.
    pub fn cancelled(&self, now: u64) -> bool {
        // Relaxed: pairs with `cancel_at`; a sweep later is early enough.
        now >= self.cancel_at_ns.load(Ordering::Relaxed)
    }

    /// Learn from an answer whether the phase can succeed at all.
    pub fn learn(&self, row: &Row) {
        if self.first_answers.are_hopeless(row) {
            // It outranks the plan's end: whether or not all was sent by now, this is why nothing came of it.
            // Relaxed: pairs with the load in `reason`.
            self.reason.store(StopReason::Early as u32, Ordering::Relaxed);
            self.stop(StopReason::Early);
        }
    }

    /// A worker has issued its last request at `now`, the last of so many.
    pub fn issued_last(&self, now: u64, issued: u64) {
        // Relaxed: the maximum is read under the lock's ordering after the last worker's AcqRel below.
        self.issue_end_ns.fetch_max(now, Ordering::Relaxed);
        // Relaxed: as above; whoever asks has waited for the phase's end.
        self.issued.fetch_add(issued, Ordering::Relaxed);
        // AcqRel: the worker that brings it to 0 sees what every other worker stored above; pairs with itself.
        if self.issuing.fetch_sub(1, Ordering::AcqRel) == 1 {
            if self.config.drain {
                self.cancel_at(now.saturating_add((self.config.drain_timeout_s * 1e9) as u64));
            }
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Whether requests of it may still be issued.
    pub fn is_issuing(&self) -> bool {
        // Acquire: pairs with the AcqRel in `issued_last`.
        self.issuing.load(Ordering::Acquire) > 0
    }

    /// A worker is through: nothing of the phase is in flight on it any more.
    pub fn leave(&self, tally: Tally, now: u64) {
        let mut open = self.lock();
        open.workers -= 1;
        open.end_ns = open.end_ns.max(now);
        open.tally.add(tally);
        self.changed.notify_all();
    }

    /// Wait until it is over: all drained, or, without a drain, all issued. False when `timeout` came first.
    pub fn wait(&self, timeout: Duration) -> bool {
        let guard = self.lock();
        let (_guard, result) = self
            .changed
            .wait_timeout_while(guard, timeout, |open| !self.over(open))
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// The counts, once every worker is through (a phase that was not drained may end before), and when the last of
    /// those that are was.
    pub fn tally(&self) -> (Option<Tally>, u64) {
        let open = self.lock();
        ((open.workers == 0).then_some(open.tally), open.end_ns)
    }

    /// When the last worker stopped issuing; 0 before.
    pub fn issue_end_ns(&self) -> u64 {
        // Relaxed: read after `wait`, whose lock orders it.
        self.issue_end_ns.load(Ordering::Relaxed)
    }

    /// How many requests were issued, whatever became of them, by the workers that issue no more.
    pub fn issued(&self) -> u64 {
        // Relaxed: read after `wait`, whose lock orders it.
        self.issued.load(Ordering::Relaxed)
    }

    /// Arrivals that were due before issuing ended and never went out: what a cap held back.
    pub fn never_issued(&self) -> u64 {
        let (Some(start), Some(mut arrivals)) = (self.started(), Arrivals::new(&self.config.load, self.config.seed))
        else {
            return 0;
        };
        let end = self.issue_end_ns().saturating_sub(start).min(self.duration_ns());
        let limit = self.config.requests.unwrap_or(NEVER);
        let Some(issued) = self.tally().0.map(|t| t.issued) else { return 0 };
        let mut due = issued;
        while due < limit && arrivals.offset_ns(due).is_some_and(|at| at < end) {
            due += 1;
        }
        due - issued
    }

    fn over(&self, open: &Open) -> bool {
        open.workers == 0 || (!self.config.drain && !self.is_issuing())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // A poisoned lock means that a worker panicked between two additions; the counts are still worth having.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A phase shared between its workers and the session.
pub type SharedPhase = Arc<Phase>;

#[cfg(test)]
mod tests;
