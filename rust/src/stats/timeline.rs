//! The series of a phase: completions, errors, requests in flight and the median TTFT, second by second.

use std::collections::BTreeMap;

use super::occupancy::Curve;

/// A sketch keeps this many leading bits of a value: its buckets are 1.6 % wide.
const KEPT_BITS: u32 = 7;

/// A small histogram: how often each rounded value came, sorted by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    counts: Vec<(u64, u32)>,
}

impl Sketch {
    pub fn record(&mut self, value: u64) {
        self.add(rounded(value), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        other.counts.iter().for_each(|&(value, times)| self.add(value, times));
    }

    /// The median to within 1 %.
    pub fn median(&self) -> Option<u64> {
        let total: u64 = self.counts.iter().map(|(_, times)| u64::from(*times)).sum();
        let mut below = 0;
        self.counts.iter().find_map(|&(value, times)| {
            below += u64::from(times);
            (2 * below >= total).then_some(value)
        })
    }

    fn add(&mut self, value: u64, times: u32) {
        match self.counts.binary_search_by_key(&value, |(value, _)| *value) {
            Ok(at) => self.counts[at].1 += times,
            Err(at) => self.counts.insert(at, (value, times)),
        }
    }
}

/// The middle of the bucket that `value` lies in.
fn rounded(value: u64) -> u64 {
    let bits = u64::BITS - value.leading_zeros();
    let Some(cut) = bits.checked_sub(KEPT_BITS).filter(|cut| *cut > 0) else { return value };
    (value >> cut << cut) + (1 << (cut - 1))
}

/// A phase's series in the making.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub curve: Curve,
    /// TTFT by bin; widened along with the curve.
    ttft: BTreeMap<u64, Sketch>,
    ttft_width: u64,
    origin: u64,
}

impl Timeline {
    pub fn new(origin: u64, width: u64) -> Self {
        Self { curve: Curve::new(origin, width), ttft: BTreeMap::new(), ttft_width: width, origin }
    }

    /// Count a first token at `at` that took `ttft`.
    pub fn first_token(&mut self, at: u64, ttft: u64) {
        self.curve.at(at);
        self.widen(self.curve.width());
        let bin = at.saturating_sub(self.origin) / self.ttft_width;
        self.ttft.entry(bin).or_default().record(ttft);
    }

    pub fn merge(&mut self, mut other: Self) {
        self.curve.merge(other.curve);
        self.widen(self.curve.width());
        other.ttft_width = self.bring_along(&mut other.ttft, other.ttft_width);
        for (bin, sketch) in other.ttft {
            self.ttft.entry(bin).or_default().merge(&sketch);
        }
    }

    /// Median TTFT of each of the first `points` bins of the curve; what came after them counts with the last.
    pub fn ttft_p50(&mut self, points: usize) -> Vec<Option<u64>> {
        self.widen(self.curve.width());
        for sketch in self.ttft.split_off(&(points as u64)).into_values() {
            self.ttft.entry(points.saturating_sub(1) as u64).or_default().merge(&sketch);
        }
        (0..points as u64).map(|bin| self.ttft.get(&bin).and_then(Sketch::median)).collect()
    }

    fn widen(&mut self, width: u64) {
        if self.ttft_width != width {
            let mut all = std::mem::take(&mut self.ttft);
            let was = std::mem::replace(&mut self.ttft_width, width);
            self.bring_along(&mut all, was);
            self.ttft = all;
        }
    }

    /// Put sketches of a narrower width into bins of this timeline's.
    fn bring_along(&self, sketches: &mut BTreeMap<u64, Sketch>, width: u64) -> u64 {
        let factor = self.ttft_width / width;
        if factor > 1 {
            for (bin, sketch) in std::mem::take(sketches) {
                sketches.entry(bin / factor).or_default().merge(&sketch);
            }
        }
        self.ttft_width
    }
}

/// Nanoseconds as the report's milliseconds.
pub(super) fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_within_one_percent() {
        let mut sketch = Sketch::default();
        let values: Vec<u64> = (0..1001).map(|i| 50_000_000 + i * 30_000).collect();
        values.iter().for_each(|&value| sketch.record(value));
        let median = sketch.median().unwrap_or_default() as f64;
        assert!((median / values[500] as f64 - 1.0).abs() < 0.01, "{median}");
        assert_eq!(Sketch::default().median(), None);
    }

    #[test]
    fn first_tokens_stay_in_their_bin_when_bins_widen() {
        let mut timeline = Timeline::new(0, 1);
        timeline.first_token(3, 100);
        // 4,096 bins hold until 4,095; then two and two are one.
        timeline.first_token(5_000, 50);
        let mut other = Timeline::new(0, 1);
        other.first_token(2, 100);
        timeline.merge(other);
        let p50 = timeline.ttft_p50(timeline.curve.bins().len());
        assert_eq!((timeline.curve.width(), p50[1], p50[2_500]), (2, Some(100), Some(50)));
        assert_eq!(p50.iter().flatten().count(), 2);
    }
}
