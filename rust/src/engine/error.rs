//! Why a run could not start or go on.

use thiserror::Error;

use crate::event::EventsError;
use crate::http::{ConnectConfigError, TargetError};
use crate::record::LogError;
use crate::series::SeriesError;

/// Why a run could not start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The URL or a header.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A certificate, a key, a proxy.
    #[error(transparent)]
    Connect(#[from] ConnectConfigError),
    /// The nodes, or what a phase has for them.
    #[error("{0}")]
    Nodes(String),
    /// The run log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The live metrics: not even private memory could be had.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// The events.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// A thread, or the descriptor that tells of completions.
    #[error("no thread or descriptor could be had: {0}")]
    Thread(#[from] std::io::Error),
    /// A phase was begun while another was issuing, or on a run that has finished.
    #[error("{0}")]
    State(&'static str),
    /// Something that was asked of a phase can't be done.
    #[error("{0}")]
    Phase(String),
    /// A call in a child of the process that started the run.
    #[error("this run belongs to the process that started it: after a fork, the child starts its own")]
    Forked,
    /// Something in a worker that should not happen.
    #[error("{0}")]
    Worker(String),
}
