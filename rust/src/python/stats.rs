//! `summarise` for Python.

use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::record::LogError;
use crate::stats::{self, Options, StatsError};

/// Derive a summary from the `run.log` of a run's directory. `options` and the result are JSON.
#[pyfunction]
pub(super) fn summarise(py: Python<'_>, dir: PathBuf, options: &str) -> PyResult<String> {
    let options: Options =
        serde_json::from_str(options).map_err(|e| PyValueError::new_err(format!("options of a summary: {e}")))?;
    let summary = py.detach(|| stats::summarise(&dir, &options)).map_err(to_python)?;
    serde_json::to_string(&summary).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// The system's errors are `OSError`s with their number and file, all others `ValueError`s.
fn to_python(error: StatsError) -> PyErr {
    match error {
        StatsError::Log(error) => log_error(error),
        other => PyValueError::new_err(other.to_string()),
    }
}

/// A log's error as Python has it: `OSError` with number and file where the system gave one, else `ValueError`.
pub(super) fn log_error(error: LogError) -> PyErr {
    match error {
        LogError::Io { verb, path, source } => match source.raw_os_error() {
            Some(number) => {
                // Python shows the number itself.
                let words = source.to_string().replace(&format!(" (os error {number})"), "");
                PyOSError::new_err((number, format!("can't {verb}: {words}"), path.display().to_string()))
            }
            None => PyOSError::new_err(format!("{verb} {}: {source}", path.display())),
        },
        other => PyValueError::new_err(other.to_string()),
    }
}
