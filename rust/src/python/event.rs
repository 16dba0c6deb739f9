//! Events for Python: a batch to record into, the queue of finished frames, and the event log's reader.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use pyo3::{Borrowed, ffi};

use super::record::next_of;
use super::stats::log_error;
use crate::event::{self, BatchLimits, Event, EventType, is_one_value};
use crate::sync::Arc;

/// Buffers the events of one source until a flush is due.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct EventBatch {
    held: Mutex<Held>,
    /// Called when a flush is due.
    on_due: Mutex<Option<Py<PyAny>>>,
    /// Called with the first event after a rest.
    on_first: Mutex<Option<Py<PyAny>>>,
}

struct Held {
    batch: event::Batch,
    /// Whether nobody looks at it until the next event tells.
    rests: bool,
    /// Since the batch was closed: raises what recording raises.
    refusal: Option<Py<PyAny>>,
}

#[pymethods]
impl EventBatch {
    #[new]
    #[pyo3(signature = (
        source, *, send_threshold=1_000, max_age_ns=10_000_000, max_bytes=65_536, on_due=None, on_first=None
    ))]
    fn new(
        source: u16,
        send_threshold: u32,
        max_age_ns: u64,
        max_bytes: usize,
        on_due: Option<Py<PyAny>>,
        on_first: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        if send_threshold == 0 || max_bytes == 0 {
            return Err(PyValueError::new_err(format!(
                "send_threshold ({send_threshold}) and max_bytes ({max_bytes}) must be at least 1; 1 means no batching"
            )));
        }
        let limits = BatchLimits { send_threshold, max_age_ns, max_bytes };
        let held = Held { batch: event::Batch::new(source, limits), rests: false, refusal: None };
        Ok(Self { held: Mutex::new(held), on_due: Mutex::new(on_due), on_first: Mutex::new(on_first) })
    }

    /// Add a mark of a request. True: a flush is due.
    #[pyo3(signature = (kind, request, ns, /))]
    fn record(&self, py: Python<'_>, kind: Word, request: Word, ns: Word) -> PyResult<bool> {
        let kind = event_type(kind.0)?;
        self.add(py, |batch| batch.mark(kind, request.0, ns.0))
    }

    /// Add any event. True: a flush is due.
    #[allow(clippy::too_many_arguments, reason = "the fields of an event, by name in Python")]
    #[pyo3(signature = (kind, ns, request=None, session=None, conversation=None, turn=None, data=None, finish_reason=None))]
    fn publish(
        &self,
        py: Python<'_>,
        kind: u64,
        ns: u64,
        request: Option<u64>,
        session: Option<&str>,
        conversation: Option<&str>,
        turn: Option<u64>,
        data: Option<&[u8]>,
        finish_reason: Option<&str>,
    ) -> PyResult<bool> {
        let kind = event_type(kind)?;
        if data.is_some_and(|data| !is_one_value(data)) {
            return Err(PyValueError::new_err("data must be exactly one MessagePack value: encode it with msgspec"));
        }
        let event = Event { kind, ns, request, session, conversation, turn, data, finish_reason };
        self.add(py, |batch| batch.push(&event))
    }

    /// Take no more events: from now on recording raises what `refusal` raises. What is buffered stays to be taken.
    fn close(&self, refusal: Py<PyAny>) {
        let before = self.held().refusal.replace(refusal);
        // Dropped when the lock is free: that may run Python.
        drop(before);
    }

    /// Nobody looks at it until `on_first` is called, with the next event. False if some are there already.
    fn rest(&self) -> bool {
        let mut held = self.held();
        held.rests = held.batch.buffered() == 0;
        held.rests
    }

    /// The buffered events as frames, in the order in which they must be sent. Nothing is buffered after it.
    fn take<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let mut frames = Vec::new();
        // Python's objects are made when the lock is free again.
        self.held().batch.flush(|frame, _| frames.push(std::mem::take(frame)));
        to_bytes(py, &frames)
    }

    /// Events that are buffered.
    #[getter]
    fn buffered(&self) -> u32 {
        self.held().batch.buffered()
    }

    /// Their bytes, without the heads of frames.
    #[getter]
    fn buffered_bytes(&self) -> usize {
        self.held().batch.buffered_bytes()
    }

    /// The earliest stamp among them.
    #[getter]
    fn oldest_ns(&self) -> Option<u64> {
        self.held().batch.oldest_ns()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is taken isn't waited for: what it holds is in use.
        for callback in [&self.on_due, &self.on_first] {
            if let Ok(callback) = callback.try_lock() {
                visit.call(&*callback)?;
            }
        }
        self.held.try_lock().map_or(Ok(()), |held| visit.call(&held.refusal))
    }

    fn __clear__(&self) {
        let [on_due, on_first] =
            [&self.on_due, &self.on_first].map(|call| call.lock().unwrap_or_else(PoisonError::into_inner).take());
        let refusal = self.held().refusal.take();
        drop((on_due, on_first, refusal));
    }
}

impl EventBatch {
    /// Held for some nanoseconds and never across a call into Python, so waiting for it while attached does no harm.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn add(&self, py: Python<'_>, put: impl FnOnce(&mut event::Batch) -> bool) -> PyResult<bool> {
        let mut held = self.held();
        if let Some(refusal) = &held.refusal {
            let refusal = refusal.clone_ref(py);
            drop(held);
            refusal.call0(py)?;
            return Err(PyRuntimeError::new_err("this batch is closed"));
        }
        let due = put(&mut held.batch);
        let first = std::mem::take(&mut held.rests);
        drop(held);
        if first {
            tell(py, &self.on_first)?;
        }
        if due {
            tell(py, &self.on_due)?;
        }
        Ok(due)
    }
}

#[cold]
fn tell(py: Python<'_>, callback: &Mutex<Option<Py<PyAny>>>) -> PyResult<()> {
    let call = callback.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|call| call.clone_ref(py));
    call.map_or(Ok(()), |call| call.call0(py).map(drop))
}

/// Finished frames of a run, for whoever publishes them.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct EventQueue(pub(super) Arc<event::EventQueue>);

#[pymethods]
impl EventQueue {
    fn fileno(&self) -> i32 {
        self.0.fileno()
    }

    #[pyo3(signature = (limit=256))]
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> Vec<Bound<'py, PyBytes>> {
        let frames = py.detach(|| self.0.take(limit));
        to_bytes(py, &frames)
    }

    #[getter]
    fn dropped(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.dropped())
    }

    fn dropped_by_source(&self, py: Python<'_>) -> std::collections::HashMap<u16, u64> {
        py.detach(|| self.0.dropped_by_source()).into_iter().collect()
    }
}

/// Iterates over the frames of an event log.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct EventReader(Mutex<event::EventReader>);

/// Open the `events.log` in `dir`: its frames, of some topics or of all, from `offset` on.
#[pyfunction]
#[pyo3(signature = (dir, topics=None, *, offset=0))]
pub(super) fn read_events(
    py: Python<'_>,
    dir: PathBuf,
    topics: Option<Vec<String>>,
    offset: u64,
) -> PyResult<EventReader> {
    let mut wanted = Vec::new();
    for filter in topics.iter().flatten() {
        let before = wanted.len();
        wanted.extend(EventType::ALL.into_iter().filter(|kind| kind.is_asked_for_by(filter)));
        if wanted.len() == before {
            let names: Vec<_> = EventType::ALL.into_iter().map(EventType::topic).collect();
            return Err(PyValueError::new_err(format!(
                "{filter:?} is no topic; choose of \"sample.\", \"error.\", \"session.\", {}",
                names.join(", ")
            )));
        }
    }
    if topics.is_some() && wanted.is_empty() {
        return Err(PyValueError::new_err("no topics were named: leave `topics` out for all of them"));
    }
    let reader = py.detach(|| event::EventReader::open(&dir, &wanted, offset)).map_err(log_error)?;
    Ok(EventReader(Mutex::new(reader)))
}

#[pymethods]
impl EventReader {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let frame = next_of(py, &self.0, event::EventReader::next_frame)?;
        Ok(frame.map(|frame| PyBytes::new(py, &frame)))
    }

    #[getter]
    fn offset(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).offset())
    }

    #[getter]
    fn damaged(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).damaged())
    }
}

/// An integer argument of the hot path. The general conversion of a 64-bit one takes a way over a byte array in CPython
/// 3.11 and costs several times as much.
pub(super) struct Word(pub(super) u64);

impl FromPyObject<'_, '_> for Word {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, '_, PyAny>) -> Result<Self, PyErr> {
        let int = object.cast::<PyInt>()?;
        // SAFETY: `int` is an int, borrowed for the call, and the thread is attached.
        let value = unsafe { ffi::PyLong_AsSize_t(int.as_ptr()) };
        if value == usize::MAX
            && let Some(error) = PyErr::take(object.py())
        {
            return Err(error);
        }
        u64::try_from(value).map(Self).map_err(|_| PyOverflowError::new_err("an integer beyond 64 bits"))
    }
}

#[inline]
fn event_type(code: u64) -> PyResult<EventType> {
    let kind = u8::try_from(code).ok().and_then(EventType::from_code);
    kind.ok_or_else(|| PyValueError::new_err(format!("{code} is no event type: use loadgen.event.EventType")))
}

fn to_bytes<'py>(py: Python<'py>, frames: &[Vec<u8>]) -> Vec<Bound<'py, PyBytes>> {
    frames.iter().map(|frame| PyBytes::new(py, frame)).collect()
}
