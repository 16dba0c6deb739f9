//! The memory orderings of this room's lock-free parts, each once, so that a model can weaken one at a time.
//!
//! Two protocols carry everything. A *seqlock* (`seqlock.rs`) guards what is more than a word: a shard's statistics, and
//! an entry that is being given to another phase. A *publication* makes known that something is ready: entries of the
//! directory, and the last state of a run. Code takes its orderings from the `SOUND` constants, which the compiler
//! folds away; the loom models (`model.rs`) take each of the `weakened` ones, and must fail with it.

use crate::sync::{AtomicU64, Ordering, fence};

/// The four orderings of a seqlock.
#[derive(Clone, Copy, Debug)]
pub struct SeqOrders {
    /// Writer's fence after the odd number is stored, before the data: whoever sees new data then sees the odd number.
    /// Pairs with `end`.
    pub enter: Ordering,
    /// Writer's store of the even number, after the data: whoever sees the number sees the data. Pairs with `begin`.
    pub leave: Ordering,
    /// Reader's first load of the number, before the data. Pairs with `leave`.
    pub begin: Ordering,
    /// Reader's fence after the data, before it looks at the number again. Pairs with `enter`.
    pub end: Ordering,
}

impl SeqOrders {
    /// As small as it may be: each is needed.
    pub const SOUND: Self =
        Self { enter: Ordering::Release, leave: Ordering::Release, begin: Ordering::Acquire, end: Ordering::Acquire };

    /// [`Self::SOUND`] with one ordering weakened to Relaxed (for a fence: none at all), by the name of that one.
    #[cfg(all(test, loadgen_loom))]
    pub fn weakened() -> [(&'static str, Self); 4] {
        let weak = Ordering::Relaxed;
        [
            ("the writer's fence (enter)", Self { enter: weak, ..Self::SOUND }),
            ("the writer's store (leave)", Self { leave: weak, ..Self::SOUND }),
            ("the reader's load (begin)", Self { begin: weak, ..Self::SOUND }),
            ("the reader's fence (end)", Self { end: weak, ..Self::SOUND }),
        ]
    }
}

/// The two orderings of a publication.
#[derive(Clone, Copy, Debug)]
pub struct PublishOrders {
    /// The store that makes it known. Pairs with `observe`.
    pub publish: Ordering,
    /// The load that learns of it. Pairs with `publish`.
    pub observe: Ordering,
}

impl PublishOrders {
    /// As small as it may be: each is needed.
    pub const SOUND: Self = Self { publish: Ordering::Release, observe: Ordering::Acquire };

    /// [`Self::SOUND`] with one ordering weakened to Relaxed, by the name of that one.
    #[cfg(all(test, loadgen_loom))]
    pub fn weakened() -> [(&'static str, Self); 2] {
        [
            ("the store that publishes", Self { publish: Ordering::Relaxed, ..Self::SOUND }),
            ("the load that observes", Self { observe: Ordering::Relaxed, ..Self::SOUND }),
        ]
    }
}

/// Make known by `value` that all stored before is ready.
#[inline(always)]
pub fn publish(word: &AtomicU64, value: u64, orders: &PublishOrders) {
    // Release: pairs with the load in `observe`.
    word.store(value, orders.publish);
}

/// Learn what was published; what was stored before it is visible from here on.
#[inline(always)]
pub fn observe(word: &AtomicU64, orders: &PublishOrders) -> u64 {
    // Acquire: pairs with the store in `publish`.
    word.load(orders.observe)
}

/// A fence, or with `Relaxed` none.
#[inline(always)]
pub(super) fn fence_at(order: Ordering) {
    if order != Ordering::Relaxed {
        fence(order);
    }
}
