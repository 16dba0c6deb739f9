//! A run's rows and texts for Python, in batches.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::stats::log_error;
use crate::record::{self, LogError, TableOptions, WhichLog};

/// Iterates over a log's rows, a batch of columns at a time: `{name: (format, data, validity)}`.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct RowReader(Mutex<record::TableReader>);

/// Open the rows of the `run.log` in `dir`.
#[pyfunction]
#[pyo3(signature = (dir, *, phase=None, children=true, token_counts=None))]
pub(super) fn read_rows(
    py: Python<'_>,
    dir: PathBuf,
    phase: Option<u16>,
    children: bool,
    token_counts: Option<PathBuf>,
) -> PyResult<RowReader> {
    let options = TableOptions { phase, flat: !children, token_counts: token_counts.map(|name| dir.join(name)) };
    let reader = py.detach(|| record::TableReader::open(&dir, &options)).map_err(log_error)?;
    Ok(RowReader(Mutex::new(reader)))
}

#[pymethods]
impl RowReader {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(batch) = next_of(py, &self.0, record::TableReader::next_batch)? else { return Ok(None) };
        let columns = PyDict::new(py);
        for column in batch.columns {
            let validity = column.validity.map(|bits| PyBytes::new(py, &bits));
            let values = (column.format.to_string(), PyBytes::new(py, &column.data), validity);
            columns.set_item(column.name, values)?;
        }
        Ok(Some(columns))
    }
}

/// Iterates over a log's texts: `(request, "error", "answer", "reasoning" or "unkept", bytes)`.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct TextReader(Mutex<record::TextReader>);

/// Open the texts of a run: `"errors"` of its `run.log`, `"answers"` of its `answers.log`.
#[pyfunction]
pub(super) fn read_texts(py: Python<'_>, dir: PathBuf, which: &str) -> PyResult<TextReader> {
    let which = match which {
        "errors" => WhichLog::Run,
        "answers" => WhichLog::Answers,
        other => return Err(PyValueError::new_err(format!("texts are \"errors\" or \"answers\", not {other:?}"))),
    };
    let reader = py.detach(|| record::TextReader::open(&dir, which)).map_err(log_error)?;
    Ok(TextReader(Mutex::new(reader)))
}

#[pymethods]
impl TextReader {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(u64, &'static str, Bound<'py, PyBytes>)>> {
        let text = next_of(py, &self.0, record::TextReader::next_text)?;
        Ok(text.map(|(request, kind, bytes)| (request, kind.name(), PyBytes::new(py, &bytes))))
    }
}

/// Read on without holding Python's lock; the reader's own lock is never waited for while holding it.
pub(super) fn next_of<R: Send, T: Send>(
    py: Python<'_>,
    reader: &Mutex<R>,
    next: fn(&mut R) -> Result<Option<T>, LogError>,
) -> PyResult<Option<T>> {
    py.detach(|| next(&mut reader.lock().unwrap_or_else(PoisonError::into_inner))).map_err(log_error)
}
