//! When request `i` is due: a unit-rate arrival process, stretched over time by the stages' rates.

use super::load::{Arrival, Load, Stage};
use super::random::{Purpose, Random};

const NS: f64 = 1e9;

/// The due times of an open-loop load, in order. Walks forward only: each worker keeps one and skips what it did
/// not claim.
#[derive(Clone, Debug)]
pub struct Arrivals {
    gaps: Gaps,
    stages: Vec<Stage>,
    /// Arrivals expected before the current stage, and when it starts, in seconds.
    stage: usize,
    before: f64,
    starts: f64,
    /// The unit-rate process: its next index and its time.
    index: u64,
    units: f64,
    /// When the request before that index is due; `None` past the plan's end.
    last_ns: Option<u64>,
}

impl Arrivals {
    /// The arrivals of `load`; `None` where the load has no schedule (closed loop, or issued from outside).
    pub fn new(load: &Load, seed: u64) -> Option<Self> {
        let (arrival, stages) = match load {
            Load::Concurrency { .. } | Load::Manual | Load::Dispatch { .. } => return None,
            Load::Rate { rate, arrival } => (*arrival, vec![Stage { from: *rate, to: *rate, seconds: f64::INFINITY }]),
            Load::Stages { stages, arrival } => (*arrival, stages.clone()),
            Load::Burst { n } => return Some(Self::burst(*n)),
        };
        let gaps = Gaps { arrival, random: Random::new(seed, Purpose::Arrivals), burst: None };
        Some(Self { gaps, stages, stage: 0, before: 0.0, starts: 0.0, index: 0, units: 0.0, last_ns: None })
    }

    /// Nanoseconds after the phase's start at which request `i` is due; `None` past the plan's end.
    ///
    /// `i` must not decrease from call to call. A constant process starts at 0, a random one after its first gap.
    pub fn offset_ns(&mut self, i: u64) -> Option<u64> {
        debug_assert!(i + 1 >= self.index, "arrivals are walked forward");
        if let Some(n) = self.gaps.burst {
            return (i < n).then_some(0);
        }
        if i < self.index {
            return self.last_ns;
        }
        if self.gaps.arrival == Arrival::Constant {
            // Straight from the index: no sum, so no drift.
            self.index = i + 1;
            self.units = i as f64;
        }
        while self.index <= i {
            self.units += self.gaps.next();
            self.index += 1;
        }
        self.last_ns = self.invert().map(|seconds| (seconds * NS).round() as u64);
        self.last_ns
    }

    /// The mean gap where arrivals are fastest, in nanoseconds; what decides whether spinning pays.
    pub fn mean_gap_ns(&self) -> f64 {
        let fastest = self.stages.iter().map(|s| s.from.max(s.to)).fold(0.0, f64::max);
        if fastest > 0.0 { NS / fastest } else { 0.0 }
    }

    fn burst(n: u64) -> Self {
        let gaps = Gaps { arrival: Arrival::Constant, random: Random::new(0, Purpose::Arrivals), burst: Some(n) };
        Self { gaps, stages: Vec::new(), stage: 0, before: 0.0, starts: 0.0, index: 0, units: 0.0, last_ns: None }
    }

    /// The time at which the expected number of arrivals reaches `self.units`.
    fn invert(&mut self) -> Option<f64> {
        loop {
            let stage = self.stages.get(self.stage)?;
            let mass = (stage.from + stage.to) / 2.0 * stage.seconds;
            let wanted = self.units - self.before;
            if wanted < mass {
                return Some(self.starts + within(stage, wanted));
            }
            self.before += mass;
            self.starts += stage.seconds;
            self.stage += 1;
        }
    }
}

/// Seconds into `stage` after which `wanted` arrivals are expected: the root of `from·t + (to − from)/(2S)·t² = wanted`
/// in the form that does not cancel.
fn within(stage: &Stage, wanted: f64) -> f64 {
    if wanted <= 0.0 {
        // A ramp from 0 would divide 0 by 0.
        return 0.0;
    }
    if stage.from == stage.to || stage.seconds.is_infinite() {
        return wanted / stage.from;
    }
    let slope = (stage.to - stage.from) / stage.seconds;
    2.0 * wanted / (stage.from + (stage.from * stage.from + 2.0 * slope * wanted).max(0.0).sqrt())
}

/// Gaps of mean 1.
#[derive(Clone, Debug)]
struct Gaps {
    arrival: Arrival,
    random: Random,
    burst: Option<u64>,
}

impl Gaps {
    fn next(&mut self) -> f64 {
        match self.arrival {
            Arrival::Constant => 1.0,
            Arrival::Poisson => self.random.exponential(),
            Arrival::Gamma { burstiness } => self.random.gamma(burstiness) / burstiness,
            Arrival::Uniform { low, high } => low + (high - low) * self.random.unit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offsets(load: &Load, seed: u64, n: u64) -> Vec<u64> {
        let mut arrivals = Arrivals::new(load, seed).unwrap();
        (0..n).map_while(|i| arrivals.offset_ns(i)).collect()
    }

    fn rate(rate: f64, arrival: Arrival) -> Load {
        Load::Rate { rate, arrival }
    }

    fn cv(offsets: &[u64]) -> (f64, f64) {
        let gaps: Vec<f64> = offsets.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn a_constant_rate_has_no_drift_after_a_billion_requests() {
        let mut arrivals = Arrivals::new(&rate(300.0, Arrival::Constant), 0).unwrap();
        assert_eq!(arrivals.offset_ns(0), Some(0));
        assert_eq!(arrivals.offset_ns(1), Some(3_333_333));
        assert_eq!(arrivals.offset_ns(900_000_000), Some(3_000_000_000_000_000));
    }

    #[test]
    fn each_process_has_its_mean_and_its_spread() {
        for (arrival, spread) in [
            (Arrival::Poisson, 1.0),
            (Arrival::Gamma { burstiness: 1.0 }, 1.0),
            (Arrival::Gamma { burstiness: 0.25 }, 2.0),
            (Arrival::Gamma { burstiness: 4.0 }, 0.5),
            (Arrival::Uniform { low: 0.5, high: 1.5 }, 0.2887),
        ] {
            let (mean, cv) = cv(&offsets(&rate(1000.0, arrival), 5, 100_000));
            assert!((mean / 1e6 - 1.0).abs() < 0.03, "{arrival:?}: mean {mean}");
            assert!((cv / spread - 1.0).abs() < 0.05, "{arrival:?}: cv {cv}");
        }
    }

    #[test]
    fn a_ramp_puts_its_arrivals_where_its_rate_is() {
        let stages = vec![Stage { from: 0.0, to: 100.0, seconds: 10.0 }, Stage { from: 50.0, to: 50.0, seconds: 2.0 }];
        let load = Load::Stages { stages, arrival: Arrival::Constant };
        let all = offsets(&load, 0, 10_000);
        assert_eq!(all.len(), 600, "500 on the ramp and 100 on the step, then the plan ends");
        let mut arrivals = Arrivals::new(&load, 0).unwrap();
        assert_eq!([600, 600, 601].map(|i| arrivals.offset_ns(i)), [None; 3], "asked again as well");
        let half = all.iter().filter(|&&t| t < 5_000_000_000).count();
        assert_eq!(half, 125, "a quarter of a ramp's arrivals fall into its first half");
        assert!(all.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn the_first_arrival_of_a_later_ramp_from_zero_is_due_at_its_start() {
        let stages = vec![Stage { from: 10.0, to: 10.0, seconds: 1.0 }, Stage { from: 0.0, to: 10.0, seconds: 1.0 }];
        let all = offsets(&Load::Stages { stages, arrival: Arrival::Constant }, 0, 100);
        assert_eq!((all.len(), all[9], all[10]), (15, 900_000_000, 1_000_000_000));
    }

    #[test]
    fn a_burst_is_due_at_once_and_ends() {
        assert_eq!(offsets(&Load::Burst { n: 3 }, 0, 10), vec![0, 0, 0]);
    }

    proptest! {
        #[test]
        fn skipping_gives_the_times_that_walking_gives(seed: u64, skips in prop::collection::vec(1u64..40, 1..50)) {
            for arrival in [Arrival::Constant, Arrival::Poisson, Arrival::Gamma { burstiness: 0.5 }] {
                let load = rate(123.0, arrival);
                let walked = offsets(&load, seed, 40 * 51);
                let mut arrivals = Arrivals::new(&load, seed).unwrap();
                let mut i = 0;
                for &skip in &skips {
                    i += skip;
                    prop_assert_eq!(arrivals.offset_ns(i), Some(walked[i as usize]));
                }
            }
        }
    }
}
