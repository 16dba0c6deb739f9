//! Live metrics for Python: a run's segment, its counters and series, and other runs' segments to look into.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyLookupError, PyOSError, PyPermissionError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyBytes;

use super::event::Word;
use crate::series::{self, Bounds, Detail, Kind, Merged, SeriesError, Spec, State};
use crate::sync::Arc;

/// The live metrics of a run of this process.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Segment(pub(super) Arc<series::Segment>);

/// The live metrics of another process's run.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct SegmentReader(Mutex<series::Reader>);

/// A number that only grows.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Counter(series::Counter);

/// Values, of which statistics and a histogram are kept.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Series(series::Series);

#[pymethods]
impl Segment {
    #[staticmethod]
    #[pyo3(signature = (run, directories=None, *, reserve=4_194_304))]
    fn create(py: Python<'_>, run: &str, directories: Option<Vec<PathBuf>>, reserve: usize) -> PyResult<Self> {
        let directories = directories.unwrap_or_else(series::directories);
        let made = py.detach(|| series::Segment::create(run, &directories, reserve));
        made.map(|segment| Self(Arc::new(segment))).map_err(to_python)
    }

    #[staticmethod]
    fn attach(py: Python<'_>, path: PathBuf) -> PyResult<SegmentReader> {
        SegmentReader::around(py.detach(|| series::Reader::attach(&path)))
    }

    #[staticmethod]
    #[pyo3(signature = (run, directories=None))]
    fn find(py: Python<'_>, run: &str, directories: Option<Vec<PathBuf>>) -> PyResult<SegmentReader> {
        let directories = directories.unwrap_or_else(series::directories);
        SegmentReader::around(py.detach(|| series::Reader::find(run, &directories)))
    }

    #[pyo3(signature = (name, unit="1", help="", *, phase=None))]
    fn counter(&self, name: &str, unit: &str, help: &str, phase: Option<u16>) -> PyResult<Counter> {
        let writer = self.register(name, unit, help, phase, Kind::Counter)?.counters().pop();
        writer.map(Counter).ok_or_else(|| PyValueError::new_err("a counter without a shard"))
    }

    #[pyo3(signature = (
        name, unit="ns", help="", *, phase=None, low=1_000, high=3_600_000_000_000
    ))]
    fn series(&self, name: &str, unit: &str, help: &str, phase: Option<u16>, low: u64, high: u64) -> PyResult<Series> {
        let kind = Kind::Series(Bounds::new(low, high).map_err(to_python)?);
        let writer = self.register(name, unit, help, phase, kind)?.series().pop();
        writer.map(Series).ok_or_else(|| PyValueError::new_err("a series without a shard"))
    }

    fn begin(&self, phase: u16) {
        self.0.begin(phase);
    }

    fn advance(&self, state: &str) -> PyResult<()> {
        let to = State::from_name(state).ok_or_else(|| {
            PyValueError::new_err(format!("{state:?} is no state: live, draining, complete or interrupted"))
        })?;
        self.0.advance(to).map_err(to_python)
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.0.state().name()
    }

    fn describe(&self, about: &str) -> PyResult<()> {
        self.0.describe(about).map_err(to_python)
    }

    #[getter]
    fn about(&self) -> String {
        self.0.about()
    }

    #[getter]
    fn path(&self) -> Option<&Path> {
        self.0.path()
    }

    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }

    #[pyo3(signature = (*, percentiles=None, bins=30, phase=None))]
    fn snapshot(
        &self,
        py: Python<'_>,
        percentiles: Option<Vec<f64>>,
        bins: usize,
        phase: Option<u16>,
    ) -> PyResult<String> {
        let detail = detail(percentiles, bins, phase)?;
        py.detach(|| serde_json::to_string(&self.0.snapshot(&detail))).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[pyo3(signature = (name, phase=None))]
    fn hdr<'py>(&self, py: Python<'py>, name: &str, phase: Option<u16>) -> PyResult<Bound<'py, PyBytes>> {
        hdr(py, || self.0.merged(name, phase))
    }

    fn remove(&self) {
        self.0.remove();
    }
}

impl Segment {
    fn register(
        &self,
        name: &str,
        unit: &str,
        help: &str,
        phase: Option<u16>,
        kind: Kind,
    ) -> PyResult<series::Registered> {
        let spec = Spec { name: name.into(), unit: unit.into(), help: help.into(), kind, phase, shards: 1 };
        let mut entries = self.0.register(&[spec]).map_err(to_python)?;
        entries.pop().ok_or_else(|| PyValueError::new_err("nothing was registered"))
    }
}

#[pymethods]
impl SegmentReader {
    #[getter]
    fn path(&self) -> PathBuf {
        self.reader().path().to_path_buf()
    }

    #[getter]
    fn run(&self) -> String {
        self.reader().id().to_owned()
    }

    #[getter]
    fn about(&self) -> String {
        self.reader().about()
    }

    #[getter]
    fn alive(&self) -> bool {
        self.reader().is_alive()
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.reader().state().name()
    }

    #[pyo3(signature = (*, percentiles=None, bins=30, phase=None))]
    fn snapshot(
        &self,
        py: Python<'_>,
        percentiles: Option<Vec<f64>>,
        bins: usize,
        phase: Option<u16>,
    ) -> PyResult<String> {
        let detail = detail(percentiles, bins, phase)?;
        let seen = py.detach(|| self.reader().snapshot(&detail)).map_err(to_python)?;
        serde_json::to_string(&seen).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[pyo3(signature = (name, phase=None))]
    fn hdr<'py>(&self, py: Python<'py>, name: &str, phase: Option<u16>) -> PyResult<Bound<'py, PyBytes>> {
        hdr(py, || self.reader().merged(name, phase))
    }
}

impl SegmentReader {
    fn around(reader: Result<series::Reader, SeriesError>) -> PyResult<Self> {
        reader.map(|reader| Self(Mutex::new(reader))).map_err(to_python)
    }

    fn reader(&self) -> MutexGuard<'_, series::Reader> {
        // What a panic left is checked again before each look.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Counter {
    /// The critical section makes threads one writer: with the GIL they are that already, and it costs nothing.
    #[pyo3(signature = (n=Word(1), /), text_signature = "($self, n=1, /)")]
    fn increment(slf: &Bound<'_, Self>, n: Word) {
        with_critical_section(slf.as_any(), || slf.get().0.add(n.0));
    }
}

#[pymethods]
impl Series {
    /// As for `Counter.increment`.
    #[pyo3(signature = (value, /))]
    fn record(slf: &Bound<'_, Self>, value: Word) {
        with_critical_section(slf.as_any(), || slf.get().0.record(value.0));
    }
}

/// The directories that segments may lie in.
#[pyfunction]
pub(super) fn segment_directories() -> Vec<PathBuf> {
    series::directories()
}

/// The files of segments, of whatever run.
#[pyfunction]
#[pyo3(signature = (directories=None))]
pub(super) fn segments(py: Python<'_>, directories: Option<Vec<PathBuf>>) -> Vec<PathBuf> {
    py.detach(|| series::list(&directories.unwrap_or_else(series::directories)))
}

/// Remove the segments of dead runs.
#[pyfunction]
#[pyo3(signature = (directories=None))]
pub(super) fn clean_segments(py: Python<'_>, directories: Option<Vec<PathBuf>>) -> Vec<PathBuf> {
    py.detach(|| series::clean(&directories.unwrap_or_else(series::directories)))
}

/// Read a histogram in HDR's V2 format.
#[pyfunction]
pub(super) fn read_hdr(py: Python<'_>, data: &[u8]) -> PyResult<String> {
    let read = py.detach(|| series::read_hdr(data)).map_err(to_python)?;
    serde_json::to_string(&read).map_err(|e| PyValueError::new_err(e.to_string()))
}

fn detail(percentiles: Option<Vec<f64>>, bins: usize, phase: Option<u16>) -> PyResult<Detail> {
    let mut detail = Detail { bins, phase, ..Detail::default() };
    if let Some(asked) = percentiles {
        if let Some(odd) = asked.iter().find(|p| !(0.0..=100.0).contains(*p)) {
            return Err(PyValueError::new_err(format!("percentile {odd}: it must be from 0 to 100")));
        }
        if asked.windows(2).any(|two| two[0] > two[1]) {
            return Err(PyValueError::new_err(format!("percentiles {asked:?} must be in ascending order")));
        }
        detail.percentiles = asked;
    }
    Ok(detail)
}

fn hdr<'py>(
    py: Python<'py>,
    merged: impl Send + FnOnce() -> Result<Merged, SeriesError>,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = py.detach(|| merged()?.to_hdr()).map_err(to_python)?;
    Ok(PyBytes::new(py, &bytes))
}

/// The system's errors are `OSError`s, and so are those of a file that isn't what it should be, a foreign one's a
/// `PermissionError`; an unknown name's is a `LookupError`; all others are `ValueError`s.
fn to_python(error: SeriesError) -> PyErr {
    let text = error.to_string();
    match error {
        SeriesError::Io { verb, path, source } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, format!("can't {verb}"), path.display().to_string())),
            None => PyOSError::new_err(text),
        },
        SeriesError::NoPlace(_)
        | SeriesError::NotASegment { .. }
        | SeriesError::ByteOrder { .. }
        | SeriesError::Version { .. }
        | SeriesError::Truncated { .. }
        | SeriesError::Damaged { .. } => PyOSError::new_err(text),
        SeriesError::Foreign { .. } => PyPermissionError::new_err(text),
        SeriesError::Unknown { .. } => PyLookupError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
