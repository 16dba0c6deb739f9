//! The run over time in bounded memory: what was in flight and what completed, in bins that widen as the run grows.

use super::metric::Tokens;

/// Most bins of a curve; with one more, two and two are put together.
const MAX_BINS: usize = 4096;

/// One bin's events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    /// Requests issued minus requests ended in this bin.
    change: i64,
    /// Nanoseconds in flight that requests issued here spent here, minus those that requests ended here did not.
    partial: i128,
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Output tokens of those that succeeded, by each source.
    pub tokens: [u64; Tokens::ALL.len()],
}

/// Bins of equal width from `origin` on.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    origin: u64,
    width: u64,
    bins: Vec<Bin>,
}

impl Curve {
    /// A curve that starts at `origin` with bins of `width` ns.
    pub fn new(origin: u64, width: u64) -> Self {
        Self { origin, width, bins: Vec::new() }
    }

    pub fn origin(&self) -> u64 {
        self.origin
    }

    pub fn width(&self) -> u64 {
        self.width
    }

    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// Count a request as in flight from `issued` to `done`.
    pub fn occupy(&mut self, issued: u64, done: u64) {
        for (at, sign) in [(issued, 1i64), (done.max(issued), -1)] {
            let index = self.place(at);
            let left = self.width - (at.saturating_sub(self.origin) - index as u64 * self.width);
            self.bins[index].change += sign;
            self.bins[index].partial += i128::from(sign) * i128::from(left);
        }
    }

    /// The bin of a moment.
    pub fn at(&mut self, ns: u64) -> &mut Bin {
        let index = self.place(ns);
        &mut self.bins[index]
    }

    /// Mean number in flight in each bin.
    pub fn in_flight(&self) -> Vec<f64> {
        let mut running = 0i64;
        let mean = |bin: &Bin| {
            let area = i128::from(running) * i128::from(self.width) + bin.partial;
            running += bin.change;
            area as f64 / self.width as f64
        };
        self.bins.iter().map(mean).collect()
    }

    /// Add another curve of the same origin.
    pub fn merge(&mut self, mut other: Self) {
        while self.width < other.width {
            self.widen();
        }
        while other.width < self.width {
            other.widen();
        }
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), Bin::default());
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(mine, theirs)| mine.add(theirs));
    }

    fn place(&mut self, ns: u64) -> usize {
        let after = ns.saturating_sub(self.origin);
        while after / self.width >= MAX_BINS as u64 {
            self.widen();
        }
        let index = (after / self.width) as usize;
        if index >= self.bins.len() {
            self.bins.resize(index + 1, Bin::default());
        }
        index
    }

    fn widen(&mut self) {
        let width = i128::from(self.width);
        let pairs = self.bins.chunks(2).map(|pair| {
            let mut bin = pair[0];
            // What was in flight at the end of the first half stays so for all of the second.
            bin.partial += i128::from(bin.change) * width;
            pair.get(1).into_iter().for_each(|second| bin.add(second));
            bin
        });
        self.bins = pairs.collect();
        self.width = self.width.saturating_mul(2);
    }
}

impl Bin {
    fn add(&mut self, other: &Self) {
        self.change += other.change;
        self.partial += other.partial;
        self.ok += other.ok;
        self.failed += other.failed;
        self.tokens.iter_mut().zip(other.tokens).for_each(|(mine, theirs)| *mine = mine.saturating_add(theirs));
    }
}

/// The stretch of a phase in which its load stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Steady {
    /// First bin of it.
    pub first: usize,
    /// Last bin of it.
    pub last: usize,
}

/// Fewest bins of issuing, and fewest of a steady stretch, that are worth a rate.
const FEWEST_BINS: usize = 10;

/// The steady stretch: from the first to the last bin whose mean in flight reaches 90 % of the plateau, which is the
/// median over the bins between the first and the last issue.
///
/// Only while requests are issued is the load the one asked for: one straggler after the last issue must not become
/// the plateau. In it, Little's law (in flight = rate × time) ties throughput and latency; while filling and draining
/// it doesn't. `None` when issuing was too short to have a plateau (a burst, a handful of requests).
pub(super) fn steady(curve: &Curve, first_issue: u64, last_issue: u64) -> Option<Steady> {
    let bin = |ns: u64| (ns.saturating_sub(curve.origin) / curve.width) as usize;
    let in_flight = curve.in_flight();
    let issuing = in_flight.get(bin(first_issue)..=bin(last_issue).min(in_flight.len().checked_sub(1)?))?;
    if issuing.len() < FEWEST_BINS {
        return None;
    }
    let mut sorted = issuing.to_vec();
    sorted.sort_by(f64::total_cmp);
    let floor = 0.9 * sorted[sorted.len() / 2];
    let (start, end) = (bin(first_issue), bin(last_issue));
    let stands = |i: &usize| in_flight[*i] >= floor && floor > 0.0;
    let first = (start..in_flight.len()).find(stands)?;
    let last = (first..in_flight.len()).rev().find(stands)?;
    // Past the last issue the bins only drain, whatever they still hold.
    let last = last.min(end);
    (last >= first + FEWEST_BINS - 1).then_some(Steady { first, last })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Mean in flight of `spans` between `from` and `to`, by definition.
    fn mean(spans: &[(u64, u64)], from: u64, to: u64) -> f64 {
        let area: u64 = spans.iter().map(|&(a, b)| b.min(to).saturating_sub(a.max(from))).sum();
        area as f64 / (to - from) as f64
    }

    proptest! {
        #[test]
        fn bins_hold_the_mean_in_flight_however_often_they_widened(
            spans in prop::collection::vec((0u64..100_000, 0u64..30_000), 1..40),
            split in any::<usize>(),
        ) {
            let spans: Vec<(u64, u64)> = spans.into_iter().map(|(a, length)| (1_000 + a, 1_000 + a + length)).collect();
            let (left, right) = spans.split_at(split % spans.len());
            let mut curve = Curve::new(1_000, 3);
            let mut other = Curve::new(1_000, 3);
            left.iter().for_each(|&(a, b)| curve.occupy(a, b));
            right.iter().for_each(|&(a, b)| other.occupy(a, b));
            curve.merge(other);
            for (i, found) in curve.in_flight().into_iter().enumerate() {
                let from = 1_000 + i as u64 * curve.width();
                let expected = mean(&spans, from, from + curve.width());
                prop_assert!((found - expected).abs() < 1e-9, "bin {i}: {found} {expected}");
            }
            prop_assert!(curve.bins().len() <= MAX_BINS);
        }
    }

    #[test]
    fn the_steady_stretch_leaves_out_ramp_and_drain() {
        // Ten in flight from 100 to 900, one straggler until 5,000; before, one after the other joins.
        let mut curve = Curve::new(0, 10);
        (0..9).for_each(|i| curve.occupy(i * 10, 900));
        curve.occupy(90, 5_000);
        let steady = steady(&curve, 0, 880);
        assert_eq!(steady, Some(Steady { first: 8, last: 88 }));
    }

    #[test]
    fn a_burst_has_no_steady_stretch() {
        let mut curve = Curve::new(0, 10);
        (0..100).for_each(|i| curve.occupy(0, 100 + i));
        assert_eq!(steady(&curve, 0, 0), None);
        assert_eq!(steady(&Curve::new(0, 10), 0, 0), None);
    }
}
