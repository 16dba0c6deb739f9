//! A histogram to look at: few bins that span exactly what was recorded.

use serde::Serialize;

use super::shard::Merged;

/// Up to this ratio of greatest to least, bins are equally wide; above, each is a constant factor wider than the last.
const LINEAR_RATIO: f64 = 4.0;

/// A histogram of few bins. Of nothing it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bins {
    /// The borders between bins: the first is the least value recorded, the last the greatest.
    pub edges: Vec<f64>,
    /// The values in each bin: one fewer than edges.
    pub counts: Vec<u64>,
}

impl Bins {
    /// At most `wanted` bins of `merged`, never more than the values could fill.
    pub fn of(merged: &Merged, wanted: usize) -> Self {
        let (Some(min), Some(max)) = (merged.stats.min(), merged.stats.max()) else { return Self::default() };
        // Bins narrower than the buckets they are counted from would stay empty; values below the bounds share a bucket.
        let bins = if min >= max { 1 } else { wanted.min(merged.counts.len()).max(1) };
        let edges = edges(min as f64, max as f64, merged.bounds.low() as f64, bins);
        let mut counts = Vec::with_capacity(bins);
        let mut rest = &merged.counts[..];
        for edge in &edges[1..bins] {
            let (bin, after) = rest.split_at(below(merged, merged.counts.len() - rest.len(), *edge));
            counts.push(sum(bin));
            rest = after;
        }
        counts.push(sum(rest));
        Self { edges, counts }
    }
}

/// How many buckets from `from` on have their middle below `edge`.
fn below(merged: &Merged, from: usize, edge: f64) -> usize {
    let (mut low, mut high) = (from, merged.counts.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let index = merged.first + middle;
        let (least, greatest) = (merged.bounds.lowest(index), merged.bounds.highest(index));
        if (merged.within(least + (greatest - least) / 2) as f64) < edge {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - from
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, n| sum.wrapping_add(*n))
}

/// `bins + 1` ascending borders from `min` to `max`. Where values below `low` were recorded, the first bin is theirs.
fn edges(min: f64, max: f64, low: f64, bins: usize) -> Vec<f64> {
    let from = if min < low && max > low * LINEAR_RATIO && bins > 1 { low } else { min };
    let mut edges = Vec::with_capacity(bins + 1);
    edges.push(min);
    let steps = if from > min { bins - 1 } else { bins };
    let logarithmic = from > 0.0 && max > from * LINEAR_RATIO;
    let first = usize::from(from == min);
    for step in first..steps {
        let share = step as f64 / steps as f64;
        edges.push(if logarithmic { from * (max / from).powf(share) } else { from + (max - from) * share });
    }
    edges.push(max);
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::bounds::Bounds;
    use crate::series::stats::Stats;
    use proptest::prelude::*;

    fn merged(values: &[u64], bounds: Bounds) -> Merged {
        let mut stats = Stats::default();
        values.iter().for_each(|&v| stats.add(v, false, false));
        let indices: Vec<usize> = values.iter().map(|&v| bounds.index(v)).collect();
        let first = indices.iter().copied().min().unwrap_or(0);
        let mut counts = vec![0; indices.iter().map(|i| i + 1 - first).max().unwrap_or(0)];
        indices.iter().for_each(|i| counts[i - first] += 1);
        Merged { bounds, stats, torn: 0, first, counts }
    }

    #[test]
    fn nothing_has_no_bins_and_one_value_one() {
        assert_eq!(Bins::of(&merged(&[], Bounds::TIMES), 30), Bins::default());
        let one = Bins::of(&merged(&[5_000; 3], Bounds::TIMES), 30);
        assert_eq!(one, Bins { edges: vec![5_000.0, 5_000.0], counts: vec![3] });
    }

    #[test]
    fn bins_widen_over_decades_and_are_equal_over_little() {
        let decades = Bins::of(&merged(&[1_000_000, 3_000_000, 100_000_000], Bounds::TIMES), 2);
        assert_eq!(decades.edges.iter().map(|e| e.round()).collect::<Vec<_>>(), [1e6, 1e7, 1e8]);
        assert_eq!(decades.counts, [2, 1]);
        let little = Bins::of(&merged(&[1_000_000, 1_400_000, 2_000_000], Bounds::TIMES), 2);
        assert_eq!((little.edges, little.counts), (vec![1e6, 1.5e6, 2e6], vec![2, 1]));
    }

    #[test]
    fn no_more_bins_than_the_values_could_fill() {
        let close = Bins::of(&merged(&[1_000_000, 1_001_000], Bounds::TIMES), 30);
        assert_eq!(close.counts, [1, 0, 1], "as many as HDR's buckets between them");
    }

    #[test]
    fn what_lies_below_the_bounds_has_a_bin_of_its_own() {
        let low = Bins::of(&merged(&[0, 10, 50_000, 1_000_000], Bounds::TIMES), 4);
        assert_eq!((low.edges[0], low.edges[1], low.counts[0]), (0.0, 1_000.0, 2));
        assert_eq!(low.counts.iter().sum::<u64>(), 4);
    }

    proptest! {
        #[test]
        fn bins_span_exactly_what_was_recorded_and_hold_all_of_it(
            values in prop::collection::vec(prop_oneof![0u64..5_000, 1_000u64..10_000_000_000, any::<u64>()], 1..80),
            wanted in 1usize..40,
        ) {
            let bins = Bins::of(&merged(&values, Bounds::TIMES), wanted);
            prop_assert_eq!(bins.edges[0], *values.iter().min().unwrap() as f64);
            prop_assert_eq!(*bins.edges.last().unwrap(), *values.iter().max().unwrap() as f64);
            prop_assert!(bins.edges.windows(2).all(|e| e[0] <= e[1]), "{:?}", bins.edges);
            prop_assert_eq!(bins.edges.len(), bins.counts.len() + 1);
            prop_assert!(bins.counts.len() <= wanted);
            prop_assert_eq!(bins.counts.iter().sum::<u64>(), values.len() as u64);
        }
    }
}
