//! Models of the live metrics' lock-free parts: each holds with its orderings, and with any one of them weakened fails.
//!
//! Built with `--cfg loadgen_loom` only (`make test-loom`). Loom tries every interleaving, and every value that the
//! memory model lets a load return; the code it runs is that of the segment, over words of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;

use super::orders::{PublishOrders, SeqOrders, observe, publish};
use super::stats::{self, STAT_WORDS};
use super::{Bounds, seqlock, shard};
use crate::sync::{Arc, AtomicU64, Ordering};

type Cells = Arc<Vec<AtomicU64>>;

fn cells(n: usize) -> Cells {
    Arc::new((0..n).map(|_| AtomicU64::new(0)).collect())
}

/// `model` holds with `sound`, and fails, by an assertion that says `broken`, with each of `weakened`.
///
/// Every interleaving is tried, or, with `preemptions`, every one with so many switches that no thread asked for: of ten
/// words there are else too many.
fn each_is_needed<O: Copy + Send + Sync + 'static>(
    what: &str,
    preemptions: Option<usize>,
    (sound, weakened): (O, &[(&'static str, O)]),
    broken: &str,
    model: fn(O),
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || model(sound));
    println!("{what}: holds");
    for &(name, orders) in weakened {
        let found = catch_unwind(AssertUnwindSafe(|| builder.check(move || model(orders))));
        let Err(panic) = found else { panic!("{what}: holds without {name} too: the model proves nothing about it") };
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|&w| w.to_owned())).unwrap_or_default();
        assert!(words.contains(broken), "{what}: without {name} it failed otherwise: {words}");
        println!("{what}: rejected without {name}");
    }
}

/// One writer records a value, one reader copies: what it gets is a whole state.
fn statistics(orders: SeqOrders) {
    let shared = cells(STAT_WORDS);
    let writer = Arc::clone(&shared);
    let recording = thread::spawn(move || stats::record(&writer, 5, false, true, &orders));
    if let Some(seen) = stats::read(&shared, &orders, 1) {
        let found = (seen.count, seen.total, seen.min(), seen.max(), seen.squares, seen.above);
        assert!(
            found == (0, 0, None, None, 0, 0) || found == (1, 5, Some(5), Some(5), 25, 1),
            "a torn read: {found:?}"
        );
    }
    recording.join().unwrap();
}

#[test]
fn statistics_are_whole_and_each_ordering_of_the_seqlock_is_needed() {
    let weakened = SeqOrders::weakened();
    each_is_needed("statistics", Some(1), (SeqOrders::SOUND, &weakened[..]), "a torn read", statistics);
}

/// A value that is in the statistics is in the histogram: its bucket is counted before the writer enters.
fn buckets(orders: SeqOrders) {
    let bounds = Bounds::new(1, 2).unwrap();
    let shared = cells(STAT_WORDS + 4);
    let writer = Arc::clone(&shared);
    let recording = thread::spawn(move || shard::record(&writer, &bounds, 2, &orders));
    if let Some(seen) = stats::read(&shared, &orders, 1) {
        // Relaxed: as `Merged` reads buckets, after the statistics.
        let bucket = shared[STAT_WORDS + bounds.index(2)].load(Ordering::Relaxed);
        assert!(bucket >= seen.count, "a value without a bucket");
    }
    recording.join().unwrap();
}

/// Either of the writer's two orderings would do for this, so only without both it fails; likewise the reader's.
#[test]
fn what_the_statistics_hold_the_histogram_holds() {
    let weak = Ordering::Relaxed;
    let weakened = [
        ("the writer's orderings", SeqOrders { enter: weak, leave: weak, ..SeqOrders::SOUND }),
        ("the reader's orderings", SeqOrders { begin: weak, end: weak, ..SeqOrders::SOUND }),
    ];
    each_is_needed("buckets", Some(1), (SeqOrders::SOUND, &weakened), "a value without a bucket", buckets);
}

/// A new entry: memory, the size that covers it, what the entry says, then the number of entries.
fn growth(orders: PublishOrders) {
    const SIZE: usize = 0;
    const ENTRIES: usize = 1;
    const OFFSET: usize = 2;
    const CELL: usize = 3;
    let shared = cells(4);
    let writer = Arc::clone(&shared);
    let registering = thread::spawn(move || {
        // Relaxed, all of them: published by the number of entries.
        writer[CELL].store(7, Ordering::Relaxed);
        writer[SIZE].store(4, Ordering::Relaxed);
        writer[OFFSET].store(CELL as u64, Ordering::Relaxed);
        publish(&writer[ENTRIES], 1, &orders);
    });
    if observe(&shared[ENTRIES], &orders) == 1 {
        // Relaxed: as `Reader` reads them, after the number of entries.
        let offset = shared[OFFSET].load(Ordering::Relaxed);
        let size = shared[SIZE].load(Ordering::Relaxed);
        assert!(offset == CELL as u64 && size > offset, "an entry before what it names");
        assert_eq!(shared[CELL].load(Ordering::Relaxed), 7, "an entry before what it names");
    }
    registering.join().unwrap();
}

#[test]
fn an_entry_is_seen_with_its_memory_and_both_orderings_are_needed() {
    let orders = (PublishOrders::SOUND, &PublishOrders::weakened()[..]);
    each_is_needed("growth", None, orders, "an entry before what it names", growth);
}

/// A last state: whoever sees it sees all that any worker recorded, in the statistics and in plain counters.
fn ending(orders: PublishOrders) {
    let shared = cells(STAT_WORDS + 2);
    let (worker, control) = (Arc::clone(&shared), Arc::clone(&shared));
    let ending = thread::spawn(move || {
        let working = thread::spawn(move || {
            stats::record(&worker, 3, false, false, &SeqOrders::SOUND);
            worker[STAT_WORDS].store(1, Ordering::Relaxed);
        });
        working.join().unwrap();
        publish(&control[STAT_WORDS + 1], 2, &orders);
    });
    if observe(&shared[STAT_WORDS + 1], &orders) == 2 {
        let seen = stats::read(&shared, &SeqOrders::SOUND, 1).map(|s| s.count);
        let counter = shared[STAT_WORDS].load(Ordering::Relaxed);
        assert_eq!((seen, counter), (Some(1), 1), "an end before the last value");
    }
    ending.join().unwrap();
}

#[test]
fn a_last_state_comes_after_all_values_and_both_orderings_are_needed() {
    let orders = (PublishOrders::SOUND, &PublishOrders::weakened()[..]);
    each_is_needed("ending", Some(2), orders, "an end before the last value", ending);
}

/// An entry goes from phase 1, which counted 5, to phase 2, which has counted nothing: no reader sees a value of the one
/// as that of the other.
fn reuse(orders: SeqOrders) {
    const PHASE: usize = 0;
    const CELL: usize = 1;
    const GENERATION: usize = 2;
    let shared = cells(3);
    shared[PHASE].store(1, Ordering::Relaxed);
    shared[CELL].store(5, Ordering::Relaxed);
    let writer = Arc::clone(&shared);
    let giving = thread::spawn(move || {
        seqlock::write(&writer[GENERATION], &orders, || {
            // Relaxed: data of the seqlock.
            writer[PHASE].store(2, Ordering::Relaxed);
            writer[CELL].store(0, Ordering::Relaxed);
        });
    });
    let seen = seqlock::read(&shared[GENERATION], &orders, 1, || {
        // Relaxed: data of the seqlock. The cells first: either order must do.
        (shared[CELL].load(Ordering::Relaxed), shared[PHASE].load(Ordering::Relaxed))
    });
    if let Some(seen) = seen {
        assert!(seen == (5, 1) || seen == (0, 2), "another phase's value");
    }
    giving.join().unwrap();
}

#[test]
fn an_entry_given_to_another_phase_is_of_one_phase_and_each_ordering_is_needed() {
    let orders = (SeqOrders::SOUND, &SeqOrders::weakened()[..]);
    each_is_needed("reuse", None, orders, "another phase's value", reuse);
}
