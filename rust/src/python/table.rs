//! A log's rows for whoever reads Arrow: capsules of the Arrow PyCapsule interface.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::stats::log_error;
use crate::record::{self, TableOptions};

/// The rows of the `run.log` in `dir` as an Arrow stream, without their reads and attempts.
#[pyfunction]
#[pyo3(signature = (dir, *, phase=None, token_counts=None))]
pub(super) fn arrow_rows(
    py: Python<'_>,
    dir: PathBuf,
    phase: Option<u16>,
    token_counts: Option<PathBuf>,
) -> PyResult<Bound<'_, PyCapsule>> {
    let options = TableOptions { phase, flat: true, token_counts: token_counts.map(|name| dir.join(name)) };
    let stream = py.detach(|| record::arrow_rows(&dir, options)).map_err(log_error)?;
    PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
}

/// The schema of `arrow_rows`.
#[pyfunction]
pub(super) fn arrow_rows_schema(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, record::arrow_rows_schema(), c"arrow_schema")
}

/// The columns of a row in order, each with the names of its codes where it has any.
#[pyfunction]
pub(super) fn row_columns() -> Vec<(&'static str, Option<Vec<&'static str>>)> {
    record::row_columns().collect()
}
