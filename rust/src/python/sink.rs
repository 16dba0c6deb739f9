//! `Sink` for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::{Bodies, duration, live_json, not_started, parse, to_python};
use super::event::EventQueue;
use super::series::Segment;
use crate::engine::config::{PhaseConfig, RunConfig};
use crate::engine::{self, Ending, Issued};
use crate::record::{Failure, Finish};
use crate::sync::Arc;

/// A run whose requests Python makes.
///
/// The calls made for each request stay attached: they hold a lock for a microsecond, and nobody who holds it waits.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Sink(engine::Sink);

#[pymethods]
impl Sink {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let config: RunConfig = parse("run", config)?;
        py.detach(|| engine::Sink::start(config)).map(Self).map_err(not_started)
    }

    fn begin(&self, py: Python<'_>, phase: &str, bodies: &Bodies) -> PyResult<()> {
        let config: PhaseConfig = parse("phase", phase)?;
        let bodies = Arc::clone(&bodies.0);
        py.detach(|| self.0.begin(config, bodies)).map_err(to_python)
    }

    fn start(&self) -> PyResult<u64> {
        self.0.start_phase().map_err(to_python)
    }

    #[pyo3(signature = (sample=None, planned_ns=None))]
    fn issue(&self, sample: Option<u64>, planned_ns: Option<u64>) -> PyResult<Option<(u64, u64, u64)>> {
        let issued = self.0.issue(sample, planned_ns).map_err(to_python)?;
        Ok(issued.map(|Issued { request, sample, planned_ns }| (request, sample, planned_ns)))
    }

    fn body<'py>(&self, py: Python<'py>, request: u64) -> Option<Bound<'py, PyBytes>> {
        self.0.body(request).map(|body| PyBytes::new(py, &body))
    }

    #[pyo3(signature = (request, ns=None))]
    fn sent(&self, request: u64, ns: Option<u64>) -> bool {
        self.0.sent(request, ns)
    }

    #[pyo3(signature = (request, tokens=None, output=true, ns=None))]
    fn chunk(&self, request: u64, tokens: Option<u32>, output: bool, ns: Option<u64>) -> bool {
        self.0.chunk(request, tokens, output, ns)
    }

    #[pyo3(signature = (
        request, failure="none", *, status=0, finish="", tokens_in=None, tokens_out=None, text="", reasoning="",
        error="", ns=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of one call, most of them left out")]
    fn complete(
        &self,
        request: u64,
        failure: &str,
        status: u16,
        finish: &str,
        tokens_in: Option<u32>,
        tokens_out: Option<u32>,
        text: &str,
        reasoning: &str,
        error: &str,
        ns: Option<u64>,
    ) -> PyResult<bool> {
        let failure = Failure::from_name(failure).ok_or_else(|| {
            let known = Failure::ALL.map(Failure::name).join(", ");
            PyValueError::new_err(format!("unknown failure {failure:?}: one of {known}"))
        })?;
        let finish = Finish::from_word(finish.as_bytes());
        let ending = Ending { failure, status, finish, tokens_in, tokens_out, text, reasoning, error };
        Ok(self.0.complete(request, &ending, ns))
    }

    fn take_cancelled(&self) -> Vec<u64> {
        self.0.take_cancelled()
    }

    fn end_issue(&self) {
        self.0.end_issue();
    }

    fn turn(&self, due_ns: u64) {
        self.0.turn(due_ns);
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<String>> {
        let timeout = duration(timeout)?;
        let end = py.detach(|| self.0.wait(timeout)).map_err(to_python)?;
        Ok(end.map(|end| end.to_string()))
    }

    fn event_queue(&self) -> Option<EventQueue> {
        self.0.event_queue().map(EventQueue)
    }

    fn live(&self, py: Python<'_>) -> String {
        let (live, seconds) = py.detach(|| self.0.live());
        live_json(&live, seconds)
    }

    fn segment(&self) -> Segment {
        Segment(self.0.segment())
    }

    #[getter]
    fn late(&self) -> u64 {
        self.0.late()
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

    #[pyo3(signature = (status="complete", reason=""))]
    fn finish(&self, py: Python<'_>, status: &str, reason: &str) -> PyResult<()> {
        py.detach(|| self.0.finish(status, reason)).map_err(to_python)
    }
}
