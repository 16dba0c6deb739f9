//! A seqlock over words: one writer that never waits, readers that notice when it was busy.
//!
//! Source: H.-J. Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012, the version with
//! explicit fences. The data are atomics, written and read Relaxed, so a reader that comes too early reads a mixture and
//! never undefined behaviour; the sequence number tells it to throw that away. Odd means that the writer is inside.

use super::orders::{SeqOrders, fence_at};
use crate::sync::{AtomicU64, Ordering, own};

/// Change the data under `seq`. Only its one writer calls this.
#[inline(always)]
pub fn write<R>(seq: &AtomicU64, orders: &SeqOrders, change: impl FnOnce() -> R) -> R {
    let even = own(seq);
    // Relaxed: the fence below orders it before the data.
    seq.store(even.wrapping_add(1), Ordering::Relaxed);
    // Release fence: pairs with the Acquire fence in `read`.
    fence_at(orders.enter);
    let result = change();
    // Release: pairs with the Acquire load in `read`.
    seq.store(even.wrapping_add(2), orders.leave);
    result
}

/// Copy the data under `seq`, in at most `attempts` tries; `None` when the writer was busy in all of them, as one is for
/// ever that was killed inside.
#[inline]
pub fn read<T>(seq: &AtomicU64, orders: &SeqOrders, attempts: u32, mut copy: impl FnMut() -> T) -> Option<T> {
    for _ in 0..attempts {
        // Acquire: pairs with the Release store in `write`.
        let before = seq.load(orders.begin);
        if before & 1 == 1 {
            crate::sync::pause();
            continue;
        }
        let data = copy();
        // Acquire fence: pairs with the Release fence in `write`.
        fence_at(orders.end);
        // Relaxed: the fence above orders it after the data.
        if seq.load(Ordering::Relaxed) == before {
            return Some(data);
        }
    }
    None
}
