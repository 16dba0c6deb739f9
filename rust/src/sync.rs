//! The only importer of atomics, so that a loom build can put its own in their place.

#[cfg(not(loadgen_loom))]
pub use std::{
    hint::spin_loop as pause,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
};

#[cfg(loadgen_loom)]
pub use loom::{
    hint::spin_loop as pause,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
};
