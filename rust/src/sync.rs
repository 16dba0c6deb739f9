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
    cell::UnsafeCell,
    hint::spin_loop as pause,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

// Its own counting is not on trial, and loom's holds no slices.
#[cfg(loadgen_loom)]
pub use std::sync::Arc;

/// A cell whose content is reached through a pointer, as loom's is: that one knows who reaches it when.
#[cfg(not(loadgen_loom))]
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loadgen_loom))]
impl<T> UnsafeCell<T> {
    /// Around `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lend the content for reading and writing. Using the pointer is unsafe: nobody else may at the same time.
    #[inline]
    pub fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        use_it(self.0.get())
    }
}

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
