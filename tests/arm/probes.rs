//! What publishes and what reads, each kept from being inlined, for `disassembly.py` to check the code it became.
//!
//! Beside each stand copies of it with one ordering less, which the check must tell from it. What the code must be stands
//! in `code.toml`, under the function's name.

use std::hint::black_box;

use loadgen::bell::Bell;
use loadgen::event::ring::{Consumer, Gauge, Orders, Producer, Proven};
use loadgen::series::orders::{PublishOrders, SeqOrders, observe, publish};
use loadgen::series::shard;
use loadgen::series::stats::{self, Stats};
use loadgen::sync::{AtomicU64, Ordering};

const WEAK: Ordering = Ordering::Relaxed;

/// Define functions with a body of their own in the program, and `keep`, without which nothing would call them.
macro_rules! probes {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(#[inline(never)] fn $name($($argument: $type),*) $(-> $result)? $body)*

        fn keep() -> usize {
            [$($name as *const ()),*].map(black_box).len()
        }
    };
}

macro_rules! ring_orders {
    ($($name:ident: $order:ident;)*) => {$(
        struct $name;
        impl Orders for $name {
            const $order: Ordering = WEAK;
        }
    )*};
}

ring_orders! {
    NoPublish: PUBLISH;
    NoSee: SEE;
    NoFree: FREE;
    NoReuse: REUSE;
}

probes! {
    // The statistics of a series, under their seqlock.
    fn stats_record(cells: &[AtomicU64; 16], value: u64) {
        stats::record(cells, value, false, false, &SeqOrders::SOUND);
    }
    fn stats_record_no_enter(cells: &[AtomicU64; 16], value: u64) {
        stats::record(cells, value, false, false, &const { SeqOrders { enter: WEAK, ..SeqOrders::SOUND } });
    }
    fn stats_record_no_leave(cells: &[AtomicU64; 16], value: u64) {
        stats::record(cells, value, false, false, &const { SeqOrders { leave: WEAK, ..SeqOrders::SOUND } });
    }
    fn stats_read(cells: &[AtomicU64; 16]) -> Option<Stats> {
        stats::read(cells, &SeqOrders::SOUND, 1)
    }
    fn stats_read_no_begin(cells: &[AtomicU64; 16]) -> Option<Stats> {
        stats::read(cells, &const { SeqOrders { begin: WEAK, ..SeqOrders::SOUND } }, 1)
    }
    fn stats_read_no_end(cells: &[AtomicU64; 16]) -> Option<Stats> {
        stats::read(cells, &const { SeqOrders { end: WEAK, ..SeqOrders::SOUND } }, 1)
    }

    // What makes entries of a segment known, after their data, and what learns of them, before it.
    fn publish_entry(data: &AtomicU64, entries: &AtomicU64) {
        data.store(7, Ordering::Relaxed);
        publish(entries, 1, &PublishOrders::SOUND);
    }
    fn publish_entry_no_publish(data: &AtomicU64, entries: &AtomicU64) {
        data.store(7, Ordering::Relaxed);
        publish(entries, 1, &const { PublishOrders { publish: WEAK, ..PublishOrders::SOUND } });
    }
    fn observe_entry(data: &AtomicU64, entries: &AtomicU64) -> (u64, u64) {
        (observe(entries, &PublishOrders::SOUND), data.load(Ordering::Relaxed))
    }
    fn observe_entry_no_observe(data: &AtomicU64, entries: &AtomicU64) -> (u64, u64) {
        (observe(entries, &const { PublishOrders { observe: WEAK, ..PublishOrders::SOUND } }), data.load(Ordering::Relaxed))
    }

    // A bucket: one writer, ordered by what comes after.
    fn count_bucket(buckets: &[AtomicU64; 64], index: usize) {
        shard::count_bucket(buckets, index & 63);
    }

    // The ring of finished frames.
    fn ring_push(producer: &mut Producer<u64, Proven>, value: u64) -> bool {
        producer.push(value).is_ok()
    }
    fn ring_push_no_publish(producer: &mut Producer<u64, NoPublish>, value: u64) -> bool {
        producer.push(value).is_ok()
    }
    fn ring_push_no_reuse(producer: &mut Producer<u64, NoReuse>, value: u64) -> bool {
        producer.push(value).is_ok()
    }
    fn ring_pop(consumer: &mut Consumer<u64, Proven>) -> Option<u64> {
        consumer.pop()
    }
    fn ring_pop_no_see(consumer: &mut Consumer<u64, NoSee>) -> Option<u64> {
        consumer.pop()
    }
    fn ring_pop_no_free(consumer: &mut Consumer<u64, NoFree>) -> Option<u64> {
        consumer.pop()
    }
    fn ring_reach(gauge: &Gauge<u64, Proven>) -> u64 {
        gauge.reach()
    }
    fn ring_reach_no_see(gauge: &Gauge<u64, NoSee>) -> u64 {
        gauge.reach()
    }

    // What wakes the taker of completions and of frames.
    fn bell_ring(bell: &Bell) {
        bell.ring();
    }
    fn bell_hush(bell: &Bell) {
        bell.hush();
    }
}

fn main() {
    println!("{} probes", keep());
}
