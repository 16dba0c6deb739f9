//! A log-linear histogram of nanoseconds with one writer and any number of readers.

use crate::sync::{AtomicU64, Ordering};

/// Buckets per octave, as a power of two: a relative error of at most 1/64.
const SUB_BITS: u32 = 5;
const SUBS: u64 = 1 << SUB_BITS;
/// Values up to 2⁴⁵ ns, just under ten hours; larger ones land in the last bucket.
const BUCKETS: usize = ((45 - SUB_BITS as usize) + 1) << SUB_BITS;

/// Counts of nanoseconds by size. One thread records; others may copy at any time.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Count one value. Only ever called by the owning worker, so a load and a store are enough.
    #[inline]
    pub fn record(&self, ns: u64) {
        let count = &self.counts[index(ns)];
        // Relaxed, and paired with the Relaxed load in `add_to`: each count stands alone, nothing is published by it.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Forget everything. By the owning worker, between phases.
    pub fn clear(&self) {
        // Relaxed: see `record`.
        self.counts.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    }

    /// Add the counts of now to `copy`.
    pub fn add_to(&self, copy: &mut HistogramCopy) {
        for (sum, count) in copy.counts.iter_mut().zip(&self.counts) {
            // Relaxed: pairs with the store in `record`; a reader may miss the newest values, never tear one.
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// A reader's sum of several workers' histograms.
#[derive(Clone, Debug)]
pub struct HistogramCopy {
    counts: Vec<u64>,
}

impl Default for HistogramCopy {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl HistogramCopy {
    /// Values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The value at `quantile` (0..=1), nearest rank, to within the bucket's width; `None` when empty.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let n = self.count();
        let rank = ((quantile * n as f64).ceil() as u64).clamp(1, n.max(1));
        let mut seen = 0;
        for (i, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && count > 0 {
                return Some(middle(i));
            }
        }
        None
    }
}

/// Values below 32 have a bucket each; above, the octave and the five bits below its leading one name the bucket.
#[inline]
fn index(ns: u64) -> usize {
    if ns < SUBS {
        return ns as usize;
    }
    let shift = ns.ilog2() - SUB_BITS;
    ((((u64::from(shift) + 1) << SUB_BITS) + (ns >> shift) - SUBS) as usize).min(BUCKETS - 1)
}

fn middle(index: usize) -> u64 {
    let (octave, sub) = ((index as u64) >> SUB_BITS, index as u64 & (SUBS - 1));
    if octave == 0 {
        return sub;
    }
    let shift = octave - 1;
    ((SUBS + sub) << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(HistogramCopy::default().quantile_ns(0.5), None);
    }

    #[test]
    fn values_past_the_last_bucket_are_counted_in_it() {
        let h = Histogram::default();
        h.record(u64::MAX);
        let mut copy = HistogramCopy::default();
        h.add_to(&mut copy);
        assert_eq!(copy.count(), 1);
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_a_sixty_fourth_of_its_values(ns in 0u64..(1 << 44)) {
            let m = middle(index(ns));
            prop_assert!(m.abs_diff(ns) * 64 <= ns.max(m), "{} {}", ns, m);
        }

        #[test]
        fn buckets_are_in_the_order_of_their_values(a in 0u64..(1 << 46), b in 0u64..(1 << 46)) {
            prop_assert_eq!(index(a.min(b)) <= index(a.max(b)), true);
        }
    }
}
