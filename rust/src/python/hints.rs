//! What headers say of when to come again, read for Python by the code that reads them for the engine.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};

use crate::http::{Allowance, Hints};

/// Limit, remaining, nanoseconds until all of it is there again; each `None` where nothing was said.
type Told = (Option<u64>, Option<u64>, Option<u64>);

/// Nanoseconds that an answer's headers ask to wait; `None` where they don't.
#[pyfunction]
pub(super) fn retry_after(headers: &Bound<'_, PyAny>, wall_ns: u64) -> PyResult<Option<u64>> {
    Ok(hints_of(headers, wall_ns)?.retry_after_ns)
}

/// What an answer's headers say of its rate limits, of requests and of tokens; `None` where they say nothing.
#[pyfunction]
pub(super) fn rate_hints(headers: &Bound<'_, PyAny>, wall_ns: u64) -> PyResult<Option<(Told, Told)>> {
    let Hints { requests, tokens, .. } = hints_of(headers, wall_ns)?;
    let told = |a: Allowance| (a.limit, a.remaining, a.reset_ns);
    Ok((requests.is_told() || tokens.is_told()).then(|| (told(requests), told(tokens))))
}

fn hints_of(headers: &Bound<'_, PyAny>, wall_ns: u64) -> PyResult<Hints> {
    let pairs = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        // The header types of clients are mappings, but not all are registered as such.
        Err(_) if headers.hasattr("items")? => headers.call_method0("items")?,
        Err(_) => headers.clone(),
    };
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in pairs.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        fields.push((bytes_of(&name)?, bytes_of(&value)?));
    }
    Ok(Hints::of(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())), wall_ns))
}

/// A header's name or value: text, or bytes as some clients hand them out.
fn bytes_of(word: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = word.cast::<PyString>() {
        return Ok(text.to_string_lossy().as_bytes().to_vec());
    }
    let bytes = word.cast::<PyBytes>().map_err(|_| {
        PyTypeError::new_err(format!("a header is a pair of texts (or bytes), and this holds {}", word.get_type()))
    })?;
    Ok(bytes.as_bytes().to_vec())
}
