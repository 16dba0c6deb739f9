//! What records: the shard of a counter or of a series, each with one writer.

use std::time::{Duration, Instant};

use super::bounds::Bounds;
use super::orders::SeqOrders;
use super::rank::nearest_rank;
use super::region::Region;
use super::stats::{self, COUNT, STAT_WORDS, Stats};
use crate::sync::{Arc, AtomicU64, Ordering, own};

/// Words of a mapped region that one shard or one entry has.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    region: Arc<Region>,
    start: usize,
    words: usize,
}

impl Cells {
    /// `words` of `region` from `start` on; they must lie within it.
    pub(super) fn new(region: Arc<Region>, start: usize, words: usize) -> Self {
        assert!(start + words <= region.cells().len(), "cells beyond their region");
        Self { region, start, words }
    }

    #[inline(always)]
    pub(super) fn get(&self) -> &[AtomicU64] {
        &self.region.cells()[self.start..self.start + self.words]
    }

    /// Whether both are the same memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.region, &other.region) && self.start == other.start
    }

    /// The part that is shard `index` of shards of `stride` words.
    pub(super) fn shard(&self, index: usize, stride: usize) -> Self {
        Self::new(Arc::clone(&self.region), self.start + index * stride, stride)
    }
}

/// One writer's share of a counter. Whoever holds it is the only one to write it.
#[derive(Debug)]
pub struct Counter(pub(super) Cells);

impl Counter {
    /// Count `n` more.
    #[inline]
    pub fn add(&self, n: u64) {
        let cell = &self.0.get()[COUNT];
        // Relaxed: single writer, so a load and a store do; pairs with the Relaxed load in `count`. It orders nothing.
        cell.store(own(cell).wrapping_add(n), Ordering::Relaxed);
    }

    /// This shard's count.
    pub fn get(&self) -> u64 {
        // Relaxed: pairs with the store in `add`.
        self.0.get()[COUNT].load(Ordering::Relaxed)
    }

    /// Set it to a total that is counted elsewhere.
    #[inline]
    pub fn set(&self, total: u64) {
        // Relaxed: see `add`.
        self.0.get()[COUNT].store(total, Ordering::Relaxed);
    }
}

/// One writer's share of a series. Whoever holds it is the only one to write it.
#[derive(Debug)]
pub struct Series {
    pub(super) cells: Cells,
    pub(super) bounds: Bounds,
}

impl Series {
    /// Record one value.
    #[inline]
    pub fn record(&self, value: u64) {
        record(self.cells.get(), &self.bounds, value, &SeqOrders::SOUND);
    }
}

/// Record `value` in a shard: its bucket first, so that whoever sees it in the statistics finds it in the histogram.
#[inline(always)]
pub fn record(cells: &[AtomicU64], bounds: &Bounds, value: u64, orders: &SeqOrders) {
    count_bucket(&cells[STAT_WORDS..], bounds.index(value));
    stats::record(cells, value, value < bounds.low(), value > bounds.high(), orders);
}

/// Count one value in a bucket.
#[inline(always)]
pub fn count_bucket(buckets: &[AtomicU64], index: usize) {
    let cell = &buckets[index];
    // Relaxed: single writer; what the statistics publish next (Release, in `seqlock::write`) makes it visible too.
    cell.store(own(cell).wrapping_add(1), Ordering::Relaxed);
}

/// The sum of a counter's shards.
pub(super) fn count(cells: &[AtomicU64]) -> u64 {
    // Relaxed: pairs with the store in `Counter::add`; a reader may miss the newest, never tear one.
    cells.chunks_exact(STAT_WORDS).fold(0, |sum, shard| sum.wrapping_add(shard[COUNT].load(Ordering::Relaxed)))
}

/// Empty an entry's shards, by whoever stands in for their writers.
pub(super) fn clear(cells: &[AtomicU64], stride: usize) {
    for shard in cells.chunks_exact(stride) {
        stats::clear(shard, &SeqOrders::SOUND);
        // Relaxed: a counter's word was cleared with the statistics; the generation's seqlock orders the buckets.
        shard[STAT_WORDS..].iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }
}

/// Statistics and histogram of a series, of all its shards together.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Where it tells values apart.
    pub bounds: Bounds,
    /// The exact statistics.
    pub stats: Stats,
    /// Shards whose writer was inside at every look: their statistics may be half of a change, by a writer that was killed.
    pub torn: u32,
    /// The first bucket in `counts`.
    pub first: usize,
    /// The values in each bucket from `first` on, up to the last that is occupied: at least those in `stats`, and perhaps
    /// a few that came in between.
    pub counts: Vec<u64>,
}

impl Default for Merged {
    /// Nothing, in the bounds of times.
    fn default() -> Self {
        Self { bounds: Bounds::TIMES, stats: Stats::default(), torn: 0, first: 0, counts: Vec::new() }
    }
}

/// How long a reader waits for writers that are inside, over a whole snapshot: one may have lost its core in there, and
/// comes back; one that was killed or stopped doesn't.
#[derive(Debug)]
pub(super) struct Patience {
    until: Option<Instant>,
    limit: Duration,
}

/// Looks at a seqlock in a row, before it is worth while to wait.
pub(super) const ATTEMPTS: u32 = 1_000;

impl Patience {
    /// With a run that lives, or one that is dead and will change no more.
    pub(super) fn with(alive: bool) -> Self {
        Self { until: None, limit: Duration::from_millis(if alive { 200 } else { 0 }) }
    }

    /// Wait a moment; false when it has been long enough.
    pub(super) fn wait(&mut self) -> bool {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + self.limit) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
        true
    }
}

impl Merged {
    /// Merge the shards in `cells`, visiting only the buckets between the least and the greatest value.
    pub(super) fn of(cells: &[AtomicU64], bounds: &Bounds, patience: &mut Patience) -> Self {
        let stride = STAT_WORDS + bounds.buckets();
        let (mut all, mut torn) = (Stats::default(), 0);
        let mut occupied = Vec::with_capacity(cells.len() / stride);
        for shard in cells.chunks_exact(stride) {
            let stats = whole(shard, patience).unwrap_or_else(|| {
                torn += 1;
                stats::load(shard)
            });
            if let (Some(min), Some(max)) = (stats.min(), stats.max()) {
                // Only a torn shard or a hostile file has its least above its greatest.
                occupied.push((shard, bounds.index(min), bounds.index(max).max(bounds.index(min))));
            }
            all.merge(&stats);
        }
        let first = occupied.iter().map(|o| o.1).min().unwrap_or(0);
        let end = occupied.iter().map(|o| o.2 + 1).max().unwrap_or(0);
        let mut counts = Vec::with_capacity(end - first);
        for (shard, from, to) in occupied {
            let buckets = &shard[STAT_WORDS + from..=STAT_WORDS + to];
            // What is there already is added to; the rest, most often all of the first shard, only written.
            let skip = from - first;
            if counts.len() < skip {
                counts.resize(skip, 0u64);
            }
            let (known, new) = buckets.split_at((counts.len() - skip).min(buckets.len()));
            // Relaxed: what the statistics counted is visible since `stats::read`.
            for (sum, bucket) in counts[skip..].iter_mut().zip(known) {
                *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
            }
            counts.extend(new.iter().map(|bucket| bucket.load(Ordering::Relaxed)));
        }
        Self { bounds: *bounds, stats: all, torn, first, counts }
    }

    /// The values in the histogram.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// The values at `quantiles` (0 to 1, ascending) by nearest rank: each the highest of its bucket, but none outside the
    /// least and the greatest. Empty when nothing was recorded.
    pub fn quantiles(&self, quantiles: &[f64]) -> Vec<u64> {
        let count = self.count();
        let (mut values, mut seen, mut index) = (Vec::with_capacity(quantiles.len()), 0u64, 0);
        if count == 0 {
            return values;
        }
        for quantile in quantiles {
            let rank = nearest_rank(quantile * 100.0, count);
            // By eights: the sums of those that are passed over need no look at each.
            while let Some(eight) = self.counts.get(index..index + 8) {
                let sum = eight.iter().fold(0u64, |sum, n| sum.wrapping_add(*n));
                if seen.saturating_add(sum) >= rank {
                    break;
                }
                (seen, index) = (seen + sum, index + 8);
            }
            let mut at = (seen, index);
            while let Some(n) = self.counts.get(at.1)
                && at.0.saturating_add(*n) < rank
            {
                at = (at.0.saturating_add(*n), at.1 + 1);
            }
            values.push(self.within(self.bounds.highest(self.first + at.1)));
        }
        values
    }

    /// `value`, or the least or greatest recorded if it lies outside them.
    pub(super) fn within(&self, value: u64) -> u64 {
        let (min, max) = (self.stats.min().unwrap_or(0), self.stats.max().unwrap_or(0));
        value.min(max).max(min)
    }
}

/// A shard's statistics; `None` when its writer stayed inside.
fn whole(shard: &[AtomicU64], patience: &mut Patience) -> Option<Stats> {
    loop {
        if let Some(stats) = stats::read(shard, &SeqOrders::SOUND, ATTEMPTS) {
            return Some(stats);
        }
        if !patience.wait() {
            return None;
        }
    }
}
