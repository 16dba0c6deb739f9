//! `simulate_nodes`: a batch over nodes of unequal speed in virtual time, for whoever compares ways to spread it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::policy::Spread;
use crate::sim::SimError;
use crate::sim::nodes::{Batch, NodeService, optimum_s, policy, run};

/// Seconds to the last item's end, items answered, items that weren't, copies, and answers by node.
type PlainBatch = (f64, u64, u64, u64, Vec<u64>);

/// The least time that whole items allow, and what came of the batch for each seed.
#[pyfunction]
#[pyo3(signature = (nodes, items, seeds, *, spread="\"auto\"", known=false))]
pub(super) fn simulate_nodes(
    py: Python<'_>,
    nodes: &str,
    items: u32,
    seeds: Vec<u64>,
    spread: &str,
    known: bool,
) -> PyResult<(f64, Vec<PlainBatch>)> {
    let wrong = |what: &str, e: serde_json::Error| PyValueError::new_err(format!("{what} can't be read: {e}"));
    let nodes: Vec<NodeService> = serde_json::from_str(nodes).map_err(|e| wrong("the nodes", e))?;
    let spread: Spread = serde_json::from_str(spread).map_err(|e| wrong("the spread", e))?;
    nodes.iter().try_for_each(NodeService::check).map_err(SimError::from)?;
    let config = policy(&nodes, spread, known)?;
    let batches =
        py.detach(|| seeds.into_iter().map(|seed| run(&config, &nodes, items, seed)).collect::<Result<Vec<_>, _>>())?;
    Ok((optimum_s(&nodes, items), batches.into_iter().map(plain).collect()))
}

fn plain(batch: Batch) -> PlainBatch {
    (batch.makespan_s, batch.ok, batch.failed, batch.copies, batch.served)
}
