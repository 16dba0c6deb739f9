//! `Bodies` and `Engine` for Python.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PySequenceMethods, PyString, PyTuple};
use serde_json::json;

use super::dispatch::{PlainNode, Policy, plain_node, totals_dict};
use super::event::EventQueue;
use super::series::Segment;
use crate::engine::config::{PhaseConfig, RunConfig};
use crate::engine::{self, Asked, Completion, EngineError, Renderings};
use crate::event::EventsError;
use crate::record::{LogError, UNSET};
use crate::series::{LiveCopy, Merged};
use crate::sync::Arc;

/// The request bodies of a phase.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Bodies(pub(super) Arc<engine::Bodies>);

#[pymethods]
impl Bodies {
    #[new]
    #[pyo3(signature = (bodies, holes=None, sessions=None))]
    fn new(bodies: Vec<Bound<'_, PyBytes>>, holes: Option<Vec<u32>>, sessions: Option<Vec<u64>>) -> PyResult<Self> {
        let all = engine::Bodies::new(bodies.iter().map(|b| b.as_bytes()), holes.unwrap_or_default());
        let all = match sessions {
            Some(sessions) => all.and_then(|all| all.with_sessions(sessions)),
            None => all,
        };
        all.map(|all| Self(Arc::new(all))).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    fn __len__(&self) -> usize {
        self.0.count().get() as usize
    }
}

/// A run under way.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Engine(engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let config: RunConfig = parse("run", config)?;
        py.detach(|| engine::Engine::start(config)).map(Self).map_err(not_started)
    }

    #[pyo3(signature = (phase, bodies, others=None))]
    fn begin(
        &self,
        py: Python<'_>,
        phase: &str,
        bodies: &Bodies,
        others: Option<HashMap<String, Bound<'_, Bodies>>>,
    ) -> PyResult<()> {
        let config: PhaseConfig = parse("phase", phase)?;
        let bodies = renderings(bodies, others.unwrap_or_default())?;
        py.detach(|| self.0.begin(config, bodies)).map_err(to_python)
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<String>> {
        let timeout = duration(timeout)?;
        let end = py.detach(|| self.0.wait(timeout)).map_err(to_python)?;
        Ok(end.map(|end| end.to_string()))
    }

    fn live(&self, py: Python<'_>) -> String {
        let (live, seconds) = py.detach(|| self.0.live());
        live_json(&live, seconds)
    }

    fn event_queue(&self) -> Option<EventQueue> {
        self.0.event_queue().map(EventQueue)
    }

    /// The live metrics, as they are shared with other processes.
    fn segment(&self) -> Segment {
        Segment(self.0.segment())
    }

    #[getter]
    fn is_issuing(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.is_issuing())
    }

    fn stop(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = duration(grace)?;
        py.detach(|| self.0.stop(grace));
        Ok(())
    }

    fn stop_phase(&self, py: Python<'_>, phase: u16, grace: f64) -> PyResult<()> {
        let grace = duration(grace)?;
        py.detach(|| self.0.stop_phase(phase, grace));
        Ok(())
    }

    #[pyo3(signature = (timeout=0.0))]
    fn start_ns(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<u64>> {
        let timeout = duration(timeout)?;
        Ok(py.detach(|| self.0.start_ns(timeout)))
    }

    #[pyo3(signature = (sample=None, planned_ns=None, *, node=None, body=None))]
    fn issue(
        &self,
        py: Python<'_>,
        sample: Option<u64>,
        planned_ns: Option<u64>,
        node: Option<u16>,
        body: Option<&[u8]>,
    ) -> PyResult<Option<u64>> {
        let asked = Asked { sample, planned_ns, node, body: body.map(Arc::from) };
        py.detach(|| self.0.issue(asked)).map_err(to_python)
    }

    fn give_up(&self, py: Python<'_>, request: u64) -> PyResult<()> {
        py.detach(|| self.0.give_up(request)).map_err(to_python)
    }

    fn issued(&self, py: Python<'_>, phase: u16) -> PyResult<u64> {
        py.detach(|| self.0.issued(phase)).map_err(to_python)
    }

    fn policy_totals<'py>(&self, py: Python<'py>, phase: u16) -> PyResult<Bound<'py, PyDict>> {
        let totals = py.detach(|| self.0.policy_totals(phase)).map_err(to_python)?;
        totals_dict(py, &totals)
    }

    fn policy_nodes(&self, py: Python<'_>, phase: u16) -> PyResult<Vec<(Option<PlainNode>, String)>> {
        let nodes = py.detach(|| self.0.policy_nodes(phase)).map_err(to_python)?;
        Ok(nodes.into_iter().map(|node| (node.view.map(plain_node), node.failure.into())).collect())
    }

    fn room(&self, py: Python<'_>, phase: u16, node: u16, slots: u16) -> PyResult<()> {
        py.detach(|| self.0.room(phase, node, slots)).map_err(to_python)
    }

    fn take_policy(&self, py: Python<'_>, phase: u16) -> PyResult<Option<Policy>> {
        let policy = py.detach(|| self.0.take_policy(phase)).map_err(to_python)?;
        Ok(policy.map(|policy| Policy(Mutex::new(policy))))
    }

    fn end_issue(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.end_issue()).map_err(to_python)
    }

    fn fileno(&self) -> RawFd {
        self.0.completions_fd()
    }

    fn take_completions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let ended = py.detach(|| self.0.take_completions());
        ended.iter().map(|completion| completion_tuple(py, completion)).collect()
    }

    #[pyo3(signature = (status="complete", reason=""))]
    fn finish(&self, py: Python<'_>, status: &str, reason: &str) -> PyResult<()> {
        py.detach(|| self.0.finish(status, reason)).map_err(to_python)
    }
}

/// The bodies of a phase in each API that its nodes speak.
fn renderings(first: &Bodies, others: HashMap<String, Bound<'_, Bodies>>) -> PyResult<Renderings> {
    let others: Result<Vec<_>, PyErr> = others
        .into_iter()
        .map(|(api, bodies)| Ok((parse("bodies'", &json!(api).to_string())?, Arc::clone(&bodies.get().0))))
        .collect();
    Renderings::new(Arc::clone(&first.0), others?).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// The fields of one completion in the order that `_core.pyi` declares.
fn completion_tuple<'py>(py: Python<'py>, completion: &Completion) -> PyResult<Bound<'py, PyTuple>> {
    let Completion { row, made, texts, retry_after_ns } = completion;
    let stamp = |ns: u64| (ns != UNSET).then_some(ns);
    let word = |word: &str| PyString::intern(py, word).into_any();
    let first = (
        row.id,
        row.phase,
        row.sample,
        word(row.failure.name()),
        word(row.detail.name()),
        row.status,
        word(row.finish.name()),
        row.tokens_in,
        row.tokens_out,
        made.kind as u8,
        made.attempts,
        made.hedges,
    );
    let rest = (
        row.stamps.planned,
        stamp(row.stamps.sent),
        stamp(row.stamps.first_token),
        row.stamps.done,
        texts.text.as_deref(),
        texts.reasoning.as_deref(),
        texts.error.as_deref(),
        row.node,
        *retry_after_ns,
    );
    // Tuples of Rust end at twelve.
    let all = first.into_pyobject(py)?.as_sequence().concat(rest.into_pyobject(py)?.as_sequence())?;
    Ok(all.cast_into::<PyTuple>()?)
}

/// Monotonic nanoseconds on the engine's clock.
#[pyfunction]
pub(super) fn now_ns() -> u64 {
    crate::clock::now_ns()
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|e| PyValueError::new_err(format!("{what} configuration: {e}")))
}

pub(super) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(format!("{seconds} seconds: {e}")))
}

/// As [`to_python`]; what the system refused about the log's files keeps its number, so that a full disk is known as one.
pub(super) fn not_started(error: EngineError) -> PyErr {
    let refused = match &error {
        EngineError::Log(LogError::Io { source, .. })
        | EngineError::Events(EventsError::Log(LogError::Io { source, .. })) => source.raw_os_error(),
        _ => None,
    };
    match refused {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => to_python(error),
    }
}

pub(super) fn to_python(error: EngineError) -> PyErr {
    let text = error.to_string();
    match error {
        EngineError::Target(_) | EngineError::Connect(_) | EngineError::Nodes(_) | EngineError::Phase(_) => {
            PyValueError::new_err(text)
        }
        EngineError::Log(_) | EngineError::Events(_) | EngineError::Thread(_) => PyOSError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

pub(super) fn live_json(live: &LiveCopy, seconds: f64) -> String {
    let ended = live.ok + live.failed + live.cancelled;
    json!({
        "t_s": seconds,
        "issued": live.issued,
        "ok": live.ok,
        "failed": live.failed,
        "cancelled": live.cancelled,
        "in_flight": live.in_flight(),
        "reconnects": live.reconnects,
        "tokens": live.tokens,
        "chunks": live.chunks,
        "requests_per_s": if seconds > 0.0 { ended as f64 / seconds } else { 0.0 },
        "ttft_ms": quantiles(&live.ttft, 1e6),
        "gap_ms": quantiles(&live.gap, 1e6),
        "latency_ms": quantiles(&live.latency, 1e6),
        "send_late_us": quantiles(&live.send_late, 1e3),
    })
    .to_string()
}

fn quantiles(series: &Merged, unit: f64) -> Option<serde_json::Value> {
    let [p50, p99] = series.quantiles(&[0.5, 0.99])[..] else { return None };
    Some(json!({"p50": p50 as f64 / unit, "p99": p99 as f64 / unit}))
}
