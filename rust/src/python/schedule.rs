//! `Delays`, `SampleOrder` and `Plan` for Python: the code that the workers run.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::schedule::{self, Arrival, Load, LoadError, Order};

/// Values are made this many at a time, so that the next one is mostly at hand.
const BLOCK: usize = 256;

/// The longest block of a plan: 16 MiB of numbers.
const BLOCK_MOST: u64 = 1 << 20;

/// An endless iterator over nanoseconds.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Delays(Mutex<Ahead<schedule::Delays>>);

#[pymethods]
impl Delays {
    #[new]
    #[pyo3(signature = (kind, rate, seed=0, *, burstiness=None, low=None, high=None))]
    fn new(
        kind: &str,
        rate: f64,
        seed: i128,
        burstiness: Option<f64>,
        low: Option<f64>,
        high: Option<f64>,
    ) -> PyResult<Self> {
        let arrival = match (kind, burstiness, low, high) {
            ("constant", None, None, None) => Arrival::Constant,
            ("poisson", None, None, None) => Arrival::Poisson,
            ("gamma", Some(burstiness), None, None) => Arrival::Gamma { burstiness },
            ("uniform", None, Some(low), Some(high)) => Arrival::Uniform { low, high },
            _ => {
                let rule =
                    "delays are \"constant\", \"poisson\", \"gamma\" with burstiness, or \"uniform\" with low and high";
                return Err(PyValueError::new_err(format!("{rule}, not {kind:?} with what was given")));
            }
        };
        Ok(Self(Mutex::new(Ahead::of(schedule::Delays::new(rate, arrival, seed_of(seed)?)?))))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<u64> {
        next_of(py, &self.0).ok_or_else(|| {
            PyOverflowError::new_err("the delays add up to more than 584 years: stop before, or start anew")
        })
    }
}

/// An endless iterator over sample indices.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct SampleOrder {
    ahead: Mutex<Ahead<Samples>>,
    /// For single look-ups, which don't disturb the iteration.
    order: Mutex<schedule::SampleOrder>,
}

#[pymethods]
impl SampleOrder {
    #[new]
    #[pyo3(signature = (kind, n, seed=0))]
    fn new(kind: &str, n: i128, seed: i128) -> PyResult<Self> {
        let order = schedule::SampleOrder::new(order_of(kind)?, samples_of(n)?, seed_of(seed)?);
        Ok(Self { ahead: Mutex::new(Ahead::of(Samples { order: order.clone(), index: 0 })), order: Mutex::new(order) })
    }

    /// The sample of request `i`.
    fn sample(&self, py: Python<'_>, i: u64) -> u64 {
        // Detached: the first look into an epoch shuffles it.
        py.detach(|| lock(&self.order).sample(i))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<u64> {
        next_of(py, &self.ahead)
    }
}

/// What a phase sends when, in blocks.
#[pyclass(frozen, module = "loadgen._core")]
pub(super) struct Plan(Mutex<schedule::Plan>);

/// The due times and the samples of a block, each as little-endian u64.
type Block<'py> = (Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>);

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (load, order, samples, seed=0))]
    fn new(load: &str, order: &str, samples: i128, seed: i128) -> PyResult<Self> {
        let load: Load =
            serde_json::from_str(load).map_err(|e| PyValueError::new_err(format!("the load of a plan: {e}")))?;
        Ok(Self(Mutex::new(schedule::Plan::new(load, order_of(order)?, samples_of(samples)?, seed_of(seed)?)?)))
    }

    #[getter]
    fn length(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| {
            let plan = lock(&self.0).clone();
            plan.length()
        })
    }

    fn block<'py>(&self, py: Python<'py>, start: u64, count: u64) -> PyResult<Block<'py>> {
        if count > BLOCK_MOST {
            let words = format!("a block has at most {BLOCK_MOST} requests, not {count}: ask for several");
            return Err(PyValueError::new_err(words));
        }
        let block = py.detach(|| lock(&self.0).block(start, count));
        Ok((block.offsets_ns.map(|offsets| packed(py, &offsets)), packed(py, &block.samples)))
    }
}

impl From<LoadError> for PyErr {
    fn from(error: LoadError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// The next values of an iterator, made ahead.
struct Ahead<I> {
    values: I,
    made: VecDeque<u64>,
}

impl<I: Iterator<Item = u64>> Ahead<I> {
    fn of(values: I) -> Self {
        Self { values, made: VecDeque::with_capacity(BLOCK) }
    }

    fn next(&mut self) -> Option<u64> {
        if self.made.is_empty() {
            self.made.extend(self.values.by_ref().take(BLOCK));
        }
        self.made.pop_front()
    }
}

/// A sample order as an iterator.
struct Samples {
    order: schedule::SampleOrder,
    index: u64,
}

impl Iterator for Samples {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let sample = self.order.sample(self.index);
        self.index += 1;
        Some(sample)
    }
}

/// Take the next value. One at hand is taken attached to Python; making more, which may shuffle a whole data set, is
/// done detached. Nobody attaches while holding the lock, so waiting for it attached can't deadlock.
fn next_of<I: Iterator<Item = u64> + Send>(py: Python<'_>, ahead: &Mutex<Ahead<I>>) -> Option<u64> {
    let at_hand = lock(ahead).made.pop_front();
    at_hand.or_else(|| py.detach(|| lock(ahead).next()))
}

fn order_of(kind: &str) -> PyResult<Order> {
    match kind {
        "sequential" => Ok(Order::Sequential),
        "without_replacement" => Ok(Order::WithoutReplacement),
        "with_replacement" => Ok(Order::WithReplacement),
        "single" => Ok(Order::Single),
        other => Err(PyValueError::new_err(format!(
            "an order is sequential, without_replacement, with_replacement or single, not {other:?}"
        ))),
    }
}

fn samples_of(n: i128) -> PyResult<NonZeroU32> {
    u32::try_from(n)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| PyValueError::new_err(format!("an order needs from 1 to {} samples, not {n}", u32::MAX)))
}

fn seed_of(seed: i128) -> PyResult<u64> {
    u64::try_from(seed)
        .map_err(|_| PyValueError::new_err(format!("a seed is a whole number from 0 to 2**64 - 1, not {seed}")))
}

fn packed<'py>(py: Python<'py>, values: &[u64]) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    PyBytes::new(py, &bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Poisoned means that a panic has already been raised to Python; what is inside is only ever moved on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
