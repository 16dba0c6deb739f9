//! The in-process mock server, for Python.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::mock::{Config, Server, StartError, faults};

/// A mock LLM server in this process, on threads of its own.
#[pyclass(frozen, module = "loadgen._core")]
pub struct MockServer {
    server: Server,
}

#[pymethods]
impl MockServer {
    /// Listen and serve. `config` is JSON; `{}` takes a free port on the loopback address.
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let config = Config::from_json(config).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let server = py.detach(|| Server::start(config)).map_err(|error| match error {
            StartError::Config(error) => PyValueError::new_err(error.to_string()),
            error => PyOSError::new_err(error.to_string()),
        })?;
        Ok(Self { server })
    }

    /// Where to reach it.
    #[getter]
    fn url(&self) -> &str {
        self.server.url()
    }

    /// What it did so far, as JSON; with `rows` a row for each finished request.
    #[pyo3(signature = (rows = false))]
    fn truth(&self, py: Python<'_>, rows: bool) -> String {
        py.detach(|| self.server.truth(rows))
    }

    /// Forget what it did so far.
    fn reset_truth(&self, py: Python<'_>) {
        py.detach(|| self.server.reset_truth());
    }

    /// Close everything and wait for its threads. Doing it twice is as good as once.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.server.stop()).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.stop(py)
    }
}

/// Every fault that the mock can be told to have: its name and what it does.
#[pyfunction]
pub fn mock_faults() -> Vec<(&'static str, &'static str)> {
    faults::ALL.iter().map(|fault| (fault.name, fault.what)).collect()
}
