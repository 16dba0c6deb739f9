//! Exact values of chosen ranks by selection: the histogram says which few values can hold them, and only those are
//! looked at when the log is read again. Memory is bounded whatever the number of values.

use std::collections::BTreeMap;

use super::histogram::{Histogram, bucket_of, span_of};

/// Bytes that all values collected in one pass may take.
pub(super) const BUDGET: u64 = 12 << 20;
/// Cells of a stretch that is too wide to be counted and too crowded to be collected.
const CELLS: u64 = 4096;
/// Words of the filter before the targets: 1,024 bits for a few dozen buckets.
const FILTER_WORDS: usize = 16;

/// A stretch of values `first .. first + width` that holds wanted ranks.
#[derive(Clone, Debug)]
struct Target {
    first: u64,
    width: u64,
    /// Values below the stretch.
    below: u64,
    /// Values in it.
    count: u64,
    ranks: Vec<u64>,
    found: Found,
}

/// What a pass learns about a stretch.
#[derive(Clone, Debug)]
enum Found {
    /// Occurrences per cell of `1 << shift` values.
    Counts { cells: Vec<u64>, shift: u32 },
    /// The values themselves, with their numbers.
    Values(Vec<(u64, u64)>),
}

/// Looks for the values of chosen ranks of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    targets: Vec<Target>,
    /// A bit for each bucket number (modulo its size) that holds a target: most values are passed over by it alone.
    filter: [u64; FILTER_WORDS],
    /// Values found so far, by rank.
    values: BTreeMap<u64, u64>,
}

impl Selection {
    /// Look for `ranks` (1 is the least) of the series of `histogram`; ranks that do not exist are left out.
    pub fn new(histogram: &Histogram, ranks: impl IntoIterator<Item = u64>) -> Self {
        let mut buckets: BTreeMap<usize, Target> = BTreeMap::new();
        let mut selection = Self::default();
        for rank in ranks {
            let Some((bucket, below)) = histogram.locate(rank) else { continue };
            let (first, width) = span_of(bucket);
            match rank {
                1 => drop(selection.values.insert(1, histogram.min().unwrap_or(first))),
                _ if rank == histogram.count() => {
                    selection.values.insert(rank, histogram.max().unwrap_or(first));
                }
                _ if width == 1 => drop(selection.values.insert(rank, first)),
                _ => {
                    let count = histogram.count_in(bucket);
                    let target = buckets.entry(bucket).or_insert_with(|| Target::new(first, width, below, count));
                    target.ranks.push(rank);
                }
            }
        }
        selection.targets = buckets.into_values().collect();
        selection
    }

    /// Whether a pass over the values is still needed.
    pub fn is_open(&self) -> bool {
        !self.targets.is_empty()
    }

    /// The value of a rank, once it was found.
    pub fn value(&self, rank: u64) -> Option<u64> {
        self.values.get(&rank).copied()
    }

    /// Take part in a pass: a copy of what is looked for, with nothing found yet. One for each thread.
    pub fn begin(&self) -> Self {
        let mut part = self.clone();
        part.filter = [0; FILTER_WORDS];
        for target in &part.targets {
            let (word, bit) = place(target.first);
            part.filter[word] |= bit;
        }
        part
    }

    /// Show a value, which occurs `times` times.
    #[inline]
    pub fn see(&mut self, value: u64, times: u64) {
        let (word, bit) = place(value);
        if self.filter[word] & bit != 0 {
            self.take(value, times);
        }
    }

    fn take(&mut self, value: u64, times: u64) {
        let after = self.targets.partition_point(|target| target.first <= value);
        let Some(target) = after.checked_sub(1).and_then(|at| self.targets.get_mut(at)) else { return };
        if value - target.first < target.width {
            target.see(value, times);
        }
    }

    /// Add what one thread's part of a pass has found.
    pub fn absorb(&mut self, part: Self) {
        for (mine, theirs) in self.targets.iter_mut().zip(part.targets) {
            mine.found.merge(theirs.found);
        }
    }

    /// End a pass: what is still not exact is looked for in the next one.
    pub fn settle(&mut self) {
        let mut open = Vec::new();
        for target in std::mem::take(&mut self.targets) {
            target.resolve(&mut self.values, &mut open);
        }
        open.sort_by_key(|target| target.first);
        self.targets = open;
    }
}

/// The filter's bit for a value.
#[inline]
fn place(value: u64) -> (usize, u64) {
    let bucket = bucket_of(value);
    (bucket / 64 % FILTER_WORDS, 1 << (bucket % 64))
}

/// Decide, for all series together, which stretches are counted exactly and which are only narrowed down, so that
/// one pass takes at most about [`BUDGET`] on `threads` threads.
pub(super) fn plan<'a>(selections: impl IntoIterator<Item = &'a mut Selection>, threads: usize) {
    let mut targets: Vec<&mut Target> = selections.into_iter().flat_map(|s| s.targets.iter_mut()).collect();
    targets.sort_by_key(|target| target.cost(threads as u64));
    let mut spent = 0;
    for target in targets {
        let cost = target.cost(threads as u64);
        let exact = spent + cost <= BUDGET;
        spent += if exact { cost } else { 0 };
        target.found = target.collector(exact);
    }
}

impl Target {
    fn new(first: u64, width: u64, below: u64, count: u64) -> Self {
        Self { first, width, below, count, ranks: Vec::new(), found: Found::Values(Vec::new()) }
    }

    /// Bytes to resolve it in one pass: a count for each value it spans, or the values.
    fn cost(&self, threads: u64) -> u64 {
        self.width.saturating_mul(8 * threads).min(self.count.saturating_mul(16))
    }

    fn collector(&self, exact: bool) -> Found {
        let cells = |shift: u32| Found::Counts { cells: vec![0; (self.width >> shift).max(1) as usize], shift };
        match exact {
            true if self.width <= self.count.saturating_mul(2) => cells(0),
            true => Found::Values(Vec::new()),
            // Widths are powers of two.
            false => cells((self.width / CELLS.min(self.width)).trailing_zeros()),
        }
    }

    #[inline]
    fn see(&mut self, value: u64, times: u64) {
        match &mut self.found {
            Found::Counts { cells, shift } => cells[((value - self.first) >> *shift) as usize] += times,
            Found::Values(values) => values.push((value, times)),
        }
    }

    fn resolve(self, values: &mut BTreeMap<u64, u64>, open: &mut Vec<Self>) {
        let (spans, width): (Vec<(u64, u64)>, u64) = match self.found {
            Found::Values(mut seen) => {
                seen.sort_unstable();
                (seen, 1)
            }
            Found::Counts { cells, shift } => {
                let cells = cells.into_iter().enumerate().filter(|(_, times)| *times > 0);
                (cells.map(|(i, times)| (self.first + ((i as u64) << shift), times)).collect(), 1 << shift)
            }
        };
        for rank in self.ranks {
            let mut below = self.below;
            for &(first, times) in &spans {
                if below + times < rank {
                    below += times;
                    continue;
                }
                if width == 1 {
                    values.insert(rank, first);
                    break;
                }
                let same = open.iter_mut().find(|target| target.first == first);
                match same {
                    Some(target) => target.ranks.push(rank),
                    None => {
                        let mut target = Self::new(first, width, below, times);
                        target.ranks.push(rank);
                        open.push(target);
                    }
                }
                break;
            }
        }
    }
}

impl Found {
    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Counts { cells, .. }, Self::Counts { cells: theirs, .. }) => {
                cells.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
            }
            (Self::Values(mine), Self::Values(theirs)) => mine.extend(theirs),
            _ => debug_assert!(false, "parts of one pass collect alike"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of `ranks`, and how many passes they took, with `budget`-free planning when `exact`.
    fn select(values: &[u64], ranks: &[u64], exact: bool) -> (Vec<Option<u64>>, u32) {
        let mut histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.record(value));
        let mut selection = Selection::new(&histogram, ranks.iter().copied());
        let mut passes = 0;
        while selection.is_open() {
            passes += 1;
            assert!(passes < 10, "every pass narrows what is left");
            if exact {
                plan([&mut selection], 2);
            } else {
                selection.targets.iter_mut().for_each(|target| target.found = target.collector(false));
            }
            let (mut left, mut right) = (selection.begin(), selection.begin());
            values.iter().enumerate().for_each(|(i, &v)| if i % 2 == 0 { left.see(v, 1) } else { right.see(v, 1) });
            selection.absorb(left);
            selection.absorb(right);
            selection.settle();
        }
        (ranks.iter().map(|&rank| selection.value(rank)).collect(), passes)
    }

    proptest! {
        #[test]
        fn selected_values_are_those_of_a_sort(
            values in prop::collection::vec(prop_oneof![0u64..3000, 9_000_000u64..9_100_000, any::<u64>()], 1..300),
            shares in prop::collection::vec(0.0f64..1.0, 1..8),
            exact in any::<bool>(),
        ) {
            let ranks: Vec<u64> = shares.iter().map(|share| 1 + (share * (values.len() - 1) as f64) as u64).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let expected: Vec<Option<u64>> = ranks.iter().map(|&rank| Some(sorted[rank as usize - 1])).collect();
            prop_assert_eq!(select(&values, &ranks, exact).0, expected);
        }
    }

    #[test]
    fn ordinary_values_take_one_pass_after_the_histogram() {
        let values: Vec<u64> = (0..10_000u64).map(|i| 50_000_000 + i * 997 % 1_000_000).collect();
        assert_eq!(select(&values, &[5_000, 9_900, 9_990], true).1, 1);
    }

    #[test]
    fn a_wide_and_crowded_stretch_is_narrowed_down_first() {
        let (values, _) = (vec![(1u64 << 40) + 77; 50], ());
        let (found, passes) = select(&values, &[25], false);
        assert_eq!((found, passes), (vec![Some((1 << 40) + 77)], 3));
    }

    #[test]
    fn a_rank_beyond_the_series_is_left_out() {
        assert_eq!(select(&[5_000, 6_000], &[3], true), (vec![None], 0));
        assert_eq!(select(&[], &[1], true), (vec![None], 0));
    }
}
