//! `simulate` for Python: batches in virtual time, and the services they are tried on.

use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::dispatch::Policy;
use crate::policy::Config;
use crate::sim::{Regime, Service, SimError, Simulated, random, regime as regime_of, regimes, run, run_whole};

/// Wall, attempts, copies, refused calls, items without an answer, times that the limit was cut.
type PlainBatch = (u64, u64, u64, u64, u32, u64);

/// Make `items` calls of a service as a policy says, once for each seed.
#[pyfunction]
pub(super) fn simulate(
    py: Python<'_>,
    config: &str,
    service: &str,
    items: i64,
    seeds: Vec<u64>,
) -> PyResult<Vec<PlainBatch>> {
    let (config, service, items) = (Config::from_json(config)?, read(service)?, items_of(items)?);
    // Detached from the start: thousands of batches take seconds. A signal is seen between two of them.
    let mut batches = Vec::with_capacity(seeds.len());
    for some in seeds.chunks(CHUNK) {
        let made: Result<Vec<_>, SimError> =
            py.detach(|| some.iter().map(|&seed| run(&config, &service, items, seed)).collect());
        batches.extend(made?.iter().map(plain));
        py.check_signals()?;
    }
    Ok(batches)
}

/// Batches between two looks for a signal.
const CHUNK: usize = 16;

/// Make them once, and return the time it took with the policy, which knows each item and attempt.
#[pyfunction]
#[pyo3(signature = (config, service, items, seed=0, *, record=false))]
pub(super) fn simulate_whole(
    py: Python<'_>,
    config: &str,
    service: &str,
    items: i64,
    seed: u64,
    record: bool,
) -> PyResult<(u64, Policy)> {
    let (config, service, items) = (Config::from_json(config)?, read(service)?, items_of(items)?);
    let (batch, policy) = py.detach(|| run_whole(&config, &service, items, seed, record))?;
    Ok((batch.wall_ns, Policy(Mutex::new(policy))))
}

/// Calls and service of a regime of the published experiment.
#[pyfunction]
pub(super) fn regime(name: &str) -> PyResult<(u32, String)> {
    let found = regime_of(name).ok_or_else(|| {
        let names: Vec<_> = regimes().iter().map(|regime| regime.name).collect();
        PyValueError::new_err(format!("no service is named {name:?}: the choices are {}", names.join(", ")))
    })?;
    told(&found)
}

/// Calls and service drawn at random.
#[pyfunction]
pub(super) fn random_regime(seed: u64) -> PyResult<(u32, String)> {
    told(&random(seed))
}

fn told(regime: &Regime) -> PyResult<(u32, String)> {
    let service = serde_json::to_string(&regime.service).map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok((regime.items, service))
}

fn read(service: &str) -> PyResult<Service> {
    let service: Service =
        serde_json::from_str(service).map_err(|e| PyValueError::new_err(format!("the service can't be read: {e}")))?;
    service.check().map_err(SimError::from)?;
    Ok(service)
}

fn items_of(items: i64) -> PyResult<u32> {
    u32::try_from(items)
        .ok()
        .filter(|n| (1..=MOST).contains(n))
        .ok_or_else(|| PyValueError::new_err(format!("items must be a whole number from 1 to {MOST}, not {items}")))
}

/// The most items of a batch in virtual time.
const MOST: u32 = 10_000_000;

fn plain(batch: &Simulated) -> PlainBatch {
    let totals = &batch.totals;
    (batch.wall_ns, totals.attempts, totals.hedges, batch.refused, batch.failed, totals.cuts)
}

impl From<SimError> for PyErr {
    fn from(error: SimError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}
