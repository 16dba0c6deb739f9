//! The only importer of atomics, so that a loom build can put its own in their place.

#[cfg(not(loadgen_loom))]
pub use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loadgen_loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
};

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
