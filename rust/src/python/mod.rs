//! The bindings: the only importer of pyo3, and thin.

mod dispatch;
mod engine;
mod event;
mod hints;
mod mock;
mod nodes;
mod record;
mod schedule;
mod series;
mod simulate;
mod sink;
mod stats;
mod table;

use pyo3::prelude::*;

/// The compiled core of `loadgen`. Its types are declared in `python/loadgen/_core.pyi`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::dispatch::{Policy, policy_config, replay_policy};
    #[pymodule_export]
    use super::engine::{Bodies, Engine, now_ns};
    #[pymodule_export]
    use super::event::{EventBatch, EventQueue, EventReader, read_events};
    #[pymodule_export]
    use super::hints::{rate_hints, retry_after};
    #[pymodule_export]
    use super::nodes::simulate_nodes;
    #[pymodule_export]
    use super::record::{RowReader, TextReader, read_rows, read_texts};
    #[pymodule_export]
    use super::schedule::{Delays, Plan, SampleOrder};
    #[pymodule_export]
    use super::series::{
        Counter, Segment, SegmentReader, Series, clean_segments, read_hdr, segment_directories, segments,
    };
    #[pymodule_export]
    use super::simulate::{random_regime, regime, simulate, simulate_whole};
    #[pymodule_export]
    use super::sink::Sink;
    #[pymodule_export]
    use super::stats::summarise;
    #[pymodule_export]
    use super::table::{arrow_rows, arrow_rows_schema, row_columns};

    use super::*;

    #[pymodule_export]
    use super::mock::{MockServer, mock_faults};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let odd = if crate::series::RECORDS_NOTHING { "+no-series" } else { "" };
        module.add("__version__", format!("{}{odd}", env!("CARGO_PKG_VERSION")))
    }
}
