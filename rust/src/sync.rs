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

/// What a cell holds, as the one thread that ever stores into it asks: its own last value.
///
/// A model checks that claim here, and isn't misled: loom looks for another thread's access only behind the last access to a
/// cell, so a writer's own load before its store would hide the readers' loads, and with them all interleavings.
#[inline(always)]
pub fn own(cell: &AtomicU64) -> u64 {
    #[cfg(not(loadgen_loom))]
    return cell.load(Ordering::Relaxed);
    #[cfg(loadgen_loom)]
    // SAFETY: loom panics when another thread stores at the same time, which is what is asked of it here.
    return unsafe { cell.unsync_load() };
}
