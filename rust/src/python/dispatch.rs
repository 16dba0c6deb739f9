//! `Policy` and `policy_config` for Python: the state machine that the engine and the simulator run, told of asyncio's world.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::policy;
use crate::policy::{
    Action, AttemptId, Config, ConfigError, End, Event, ItemId, NodeView, Outcome, Quota, RateHint, Retryable, Totals,
    replay,
};

/// Kind, attempt, item, what the kind needs, node, deadline; what there isn't is -1.
type PlainAction = (u8, i64, i64, u8, u16, u64);

const START: u8 = 0;
const CANCEL: u8 = 1;
const RESOLVE: u8 = 2;

/// Decides which item is called for when, and when its call is copied, tried again, dropped or given up.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Policy(pub(super) Mutex<policy::Policy>);

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (config, seed=0, *, record=false))]
    fn new(config: &str, seed: u64, record: bool) -> PyResult<Self> {
        let mut policy = policy::Policy::new(&Config::from_json(config)?, seed)?;
        if record {
            policy.record();
        }
        Ok(Self(Mutex::new(policy)))
    }

    #[pyo3(signature = (now, count, key=0, tokens=0))]
    fn queue(&self, now: u64, count: u32, key: u32, tokens: u32) -> PyResult<ItemId> {
        let mut policy = self.lock();
        let first = policy.items().len();
        if count > u32::MAX - 1 - first {
            let words = format!("a policy holds {} items, not {count} more: use another", u32::MAX - 1);
            return Err(PyValueError::new_err(words));
        }
        policy.on_event(now, Event::Queued { count, key, tokens });
        Ok(first)
    }

    fn close(&self, now: u64) {
        self.tell(now, Event::Closed);
    }

    fn first_byte(&self, now: u64, attempt: AttemptId) {
        self.tell(now, Event::FirstByte { attempt });
    }

    fn first_token(&self, now: u64, attempt: AttemptId) {
        self.tell(now, Event::FirstToken { attempt });
    }

    #[pyo3(signature = (now, attempt, outcome=0, status=0, retry_after_ns=None, tokens_in=0, tokens_out=0, retryable=0))]
    #[expect(clippy::too_many_arguments, reason = "a keyword each in Python, which packs none into a struct")]
    fn ended(
        &self,
        now: u64,
        attempt: AttemptId,
        outcome: u8,
        status: u16,
        retry_after_ns: Option<u64>,
        tokens_in: u32,
        tokens_out: u32,
        retryable: u8,
    ) -> PyResult<()> {
        let (outcome, retryable) = (outcome_of(outcome)?, retryable_of(retryable)?);
        let end = End { outcome, status, retry_after_ns, tokens_in, tokens_out, retryable };
        self.tell(now, Event::Ended { attempt, end });
        Ok(())
    }

    /// What most calls come to, in one crossing: an answer, and what is to be done then.
    #[pyo3(signature = (now, attempt, tokens_in=0, tokens_out=0))]
    fn ended_poll(&self, now: u64, attempt: AttemptId, tokens_in: u32, tokens_out: u32) -> Vec<PlainAction> {
        let mut policy = self.lock();
        let end = End { tokens_in, tokens_out, ..End::default() };
        policy.on_event(now, Event::Ended { attempt, end });
        polled(&mut policy, now)
    }

    fn cancel(&self, now: u64, item: ItemId) {
        self.tell(now, Event::Cancel { item });
    }

    #[pyo3(signature = (now, *, requests=None, tokens=None))]
    fn told(&self, now: u64, requests: Option<PlainQuota>, tokens: Option<PlainQuota>) {
        let hint = RateHint { requests: requests.map(quota), tokens: tokens.map(quota) };
        self.tell(now, Event::Told { hint });
    }

    fn room(&self, now: u64, node: u16, slots: u16) {
        self.tell(now, Event::Room { node, slots });
    }

    fn poll(&self, now: u64) -> Vec<PlainAction> {
        polled(&mut self.lock(), now)
    }

    fn next_deadline(&self) -> Option<u64> {
        self.lock().next_deadline()
    }

    fn is_done(&self) -> bool {
        self.lock().is_done()
    }

    fn forget(&self) {
        self.lock().forget();
    }

    fn item(&self, item: ItemId) -> PyResult<PlainItem> {
        let policy = self.lock();
        let row = policy.items().get(item).ok_or_else(|| {
            PyIndexError::new_err(format!("there are {} items: none has the number {item}", policy.items().len()))
        })?;
        let verdict = row.verdict.map(|verdict| verdict as u8);
        Ok((row.queued_ns, row.key, row.tokens, verdict, row.winner, row.limit_ns, row.rate_ns, row.backoff_ns))
    }

    fn attempts_of(&self, item: ItemId) -> Vec<PlainAttempt> {
        let policy = self.lock();
        let mut attempts = Vec::new();
        let mut next = policy.items().get(item).and_then(|row| row.last);
        while let Some((attempt, row)) = next.and_then(|attempt| Some((attempt, policy.attempts().get(attempt)?))) {
            attempts.push((
                attempt,
                row.kind as u8,
                row.node,
                row.fate as u8,
                row.status,
                row.started_ns,
                row.first_byte_ns,
                row.ended_ns,
                row.tokens_in,
                row.tokens_out,
            ));
            next = row.before;
        }
        attempts.reverse();
        attempts
    }

    fn nodes(&self) -> Vec<PlainNode> {
        let policy = self.lock();
        (0..).map_while(|node| policy.node(node)).map(plain_node).collect()
    }

    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        // Python's objects are made when the lock is free again: making one may run Python, or wait for all other threads.
        let totals = self.lock().totals();
        totals_dict(py, &totals)
    }

    fn trace(&self) -> PlainTrace {
        let points: Vec<_> = self.lock().trace().points().collect();
        (
            points.iter().map(|point| point.at_ns).collect(),
            points.iter().map(|point| point.limit).collect(),
            points.iter().map(|point| (!point.rate.is_nan()).then_some(point.rate)).collect(),
            points.iter().map(|point| point.in_flight).collect(),
            points.iter().map(|point| point.hedges).collect(),
        )
    }

    fn recording(&self) -> PyResult<Option<String>> {
        let policy = self.lock();
        policy.recording().map(|it| serde_json::to_string(it).map_err(unreadable)).transpose()
    }
}

impl Policy {
    fn tell(&self, now: u64, event: Event) {
        self.lock().on_event(now, event);
    }

    fn lock(&self) -> MutexGuard<'_, policy::Policy> {
        // Poisoned means that a panic has already been raised to Python; and nobody attaches while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A policy's sums, by their names.
pub(super) fn totals_dict<'py>(py: Python<'py>, totals: &Totals) -> PyResult<Bound<'py, PyDict>> {
    let totals = serde_json::to_value(totals).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let dict = PyDict::new(py);
    for (name, value) in totals.as_object().into_iter().flatten() {
        dict.set_item(name, value.as_u64())?;
    }
    Ok(dict)
}

/// Queued at, key, tokens expected, verdict, winner, and nanoseconds of waiting for a permit, for a rate, and of backing off.
type PlainItem = (u64, u32, u32, Option<u8>, Option<AttemptId>, u64, u64, u64);

/// Number, kind, node, fate, status, started, first byte, ended, tokens in and out.
type PlainAttempt = (AttemptId, u8, u16, u8, u16, u64, Option<u64>, Option<u64>, u32, u32);

/// Seconds an item takes, attempts in flight, answered, failed and dropped, failures in a row, state, items of a request.
pub(super) type PlainNode = (Option<f64>, u32, u64, u64, u64, u32, u8, u16);

const UP: u8 = 0;
const HALF_OPEN: u8 = 1;
const DOWN: u8 = 2;

/// What is known of a node, as it goes to Python.
pub(super) fn plain_node(view: NodeView) -> PlainNode {
    let state = match (view.up, view.half_open) {
        (true, _) => UP,
        (false, true) => HALF_OPEN,
        (false, false) => DOWN,
    };
    let NodeView { service_s, in_flight, served, failed, dropped, failures_in_a_row, batch, .. } = view;
    (service_s, in_flight, served, failed, dropped, failures_in_a_row, state, batch)
}

/// Times, limits, rates, attempts in flight, copies among them.
type PlainTrace = (Vec<u64>, Vec<u32>, Vec<Option<f32>>, Vec<u32>, Vec<u32>);

/// Limit a minute, what remains, nanoseconds until all is there again.
type PlainQuota = (Option<u64>, Option<u64>, Option<u64>);

fn quota((limit, remaining, reset_ns): PlainQuota) -> Quota {
    Quota { limit, remaining, reset_ns }
}

fn polled(policy: &mut policy::Policy, now: u64) -> Vec<PlainAction> {
    std::iter::from_fn(|| policy.poll(now)).map(plain).collect()
}

fn plain(action: Action) -> PlainAction {
    match action {
        Action::Start { attempt, item, kind, node, deadline_ns } => {
            (START, attempt.into(), item.into(), kind as u8, node, deadline_ns)
        }
        Action::Cancel { attempt, why } => (CANCEL, attempt.into(), -1, why as u8, 0, 0),
        Action::Resolve { item, winner, verdict } => {
            (RESOLVE, winner.map_or(-1, i64::from), item.into(), verdict as u8, 0, 0)
        }
    }
}

fn outcome_of(code: u8) -> PyResult<Outcome> {
    Ok(match code {
        0 => Outcome::Ok,
        1 => Outcome::Rejected,
        2 => Outcome::Failed,
        3 => Outcome::TimedOut,
        4 => Outcome::Stalled,
        5 => Outcome::Broken,
        6 => Outcome::Cancelled,
        7 => Outcome::Unreached,
        other => return Err(PyValueError::new_err(format!("an outcome is a number from 0 to 7, not {other}"))),
    })
}

fn retryable_of(code: u8) -> PyResult<Retryable> {
    Ok(match code {
        0 => Retryable::ByStatus,
        1 => Retryable::Yes,
        2 => Retryable::No,
        other => return Err(PyValueError::new_err(format!("retryable is a number from 0 to 2, not {other}"))),
    })
}

/// The JSON of a policy: a strategy by its name, with what is wanted otherwise.
#[pyfunction]
#[pyo3(signature = (strategy, max_concurrency, overrides=None, *, profile=None))]
pub(super) fn policy_config(
    strategy: &str,
    max_concurrency: i64,
    overrides: Option<&str>,
    profile: Option<&str>,
) -> PyResult<String> {
    // What is out of bounds of the type is out of those of the rule, which then says so.
    let most = u32::try_from(max_concurrency).unwrap_or(if max_concurrency < 0 { 0 } else { u32::MAX });
    Ok(Config::named(strategy, most, profile, overrides)?.to_json()?)
}

/// Do again what a driver did: the actions that come of its recording now, and those that came then.
#[pyfunction]
pub(super) fn replay_policy(
    config: &str,
    seed: u64,
    recording: &str,
) -> PyResult<(Vec<PlainAction>, Vec<PlainAction>)> {
    let recording: policy::Recording = serde_json::from_str(recording).map_err(unreadable)?;
    let now = replay(&Config::from_json(config)?, seed, &recording)?;
    Ok((now.into_iter().map(plain).collect(), recording.actions.into_iter().map(plain).collect()))
}

fn unreadable(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(format!("the recording of a policy: {error}"))
}

impl From<ConfigError> for PyErr {
    fn from(error: ConfigError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}
