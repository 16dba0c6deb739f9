//! A phase's plan as a value: due times and samples of any run of requests, the same that the workers compute.

use std::num::NonZeroU32;

use super::arrivals::Arrivals;
use super::load::{Load, LoadError, Order};
use super::order::SampleOrder;

/// The plan of one phase. Blocks may be asked for in any order; going back walks the arrivals again.
#[derive(Clone, Debug)]
pub struct Plan {
    load: Load,
    seed: u64,
    arrivals: Option<Arrivals>,
    /// The first index that `arrivals` may still be asked for.
    next: u64,
    order: SampleOrder,
}

/// A run of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// When each is due, in nanoseconds after the phase's start; `None` for a closed loop.
    pub offsets_ns: Option<Vec<u64>>,
    /// The sample each sends.
    pub samples: Vec<u64>,
}

impl Plan {
    /// The plan of `load` over `samples` samples.
    pub fn new(load: Load, order: Order, samples: NonZeroU32, seed: u64) -> Result<Self, LoadError> {
        load.check()?;
        let arrivals = Arrivals::new(&load, seed);
        Ok(Self { load, seed, arrivals, next: 0, order: SampleOrder::new(order, samples, seed) })
    }

    /// Requests `start` to `start + count`, fewer where the plan ends before.
    ///
    /// A random arrival process is walked up to `start`, which costs some 20 ns for each request skipped.
    pub fn block(&mut self, start: u64, count: u64) -> Block {
        let end = start.saturating_add(count);
        let offsets_ns = self.walk(start, end);
        let end = offsets_ns.as_ref().map_or(end, |offsets| start + offsets.len() as u64);
        Block { offsets_ns, samples: (start..end).map(|i| self.order.sample(i)).collect() }
    }

    /// How many requests it has; `None` where it has no end. Stages are walked to their end.
    pub fn length(&self) -> Option<u64> {
        match &self.load {
            Load::Burst { n } => Some(*n),
            Load::Stages { .. } => {
                let mut arrivals = Arrivals::new(&self.load, self.seed)?;
                (0..).find(|&i| arrivals.offset_ns(i).is_none())
            }
            _ => None,
        }
    }

    fn walk(&mut self, start: u64, end: u64) -> Option<Vec<u64>> {
        if start < self.next {
            self.arrivals = Arrivals::new(&self.load, self.seed);
        }
        self.next = end;
        let arrivals = self.arrivals.as_mut()?;
        Some((start..end).map_while(|i| arrivals.offset_ns(i)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrival, Stage};
    use proptest::prelude::*;

    fn plan(load: &Load, seed: u64) -> Plan {
        Plan::new(load.clone(), Order::WithoutReplacement, NonZeroU32::new(7).unwrap(), seed).unwrap()
    }

    fn loads() -> [Load; 5] {
        let stages = vec![Stage { from: 0.0, to: 50.0, seconds: 2.0 }, Stage { from: 9.0, to: 9.0, seconds: 3.0 }];
        [
            Load::Concurrency { n: 3 },
            Load::Burst { n: 60 },
            Load::Rate { rate: 10.0, arrival: Arrival::Constant },
            Load::Rate { rate: 10.0, arrival: Arrival::Gamma { burstiness: 0.5 } },
            Load::Stages { stages, arrival: Arrival::Poisson },
        ]
    }

    #[test]
    fn a_plan_ends_where_its_load_does() {
        let [closed, burst, constant, _, stages] = loads();
        assert_eq!((plan(&closed, 0).length(), plan(&constant, 0).length()), (None, None));
        assert_eq!((plan(&burst, 0).length(), plan(&burst, 0).block(58, 10).samples.len()), (Some(60), 2));
        let mut ramp = plan(&stages, 4);
        let length = ramp.length().unwrap();
        assert_eq!(ramp.block(0, 1000).offsets_ns.unwrap().len() as u64, length);
        assert_eq!(ramp.block(length, 5), Block { offsets_ns: Some(vec![]), samples: vec![] });
    }

    #[test]
    fn a_closed_loop_has_samples_and_no_times() {
        let block = plan(&Load::Concurrency { n: 3 }, 0).block(5, 4);
        assert_eq!((block.offsets_ns, block.samples.len()), (None, 4));
    }

    #[test]
    fn a_load_without_a_plan_is_refused() {
        let one = NonZeroU32::MIN;
        let refused = Plan::new(Load::Burst { n: 0 }, Order::Single, one, 0).unwrap_err();
        assert_eq!(refused, LoadError::Nothing("a burst"));
    }

    proptest! {
        #[test]
        fn blocks_join_seamlessly_in_any_order(seed: u64, cuts in prop::collection::vec(0u64..60, 1..12)) {
            for load in loads() {
                let whole = plan(&load, seed).block(0, 120);
                let mut cut = plan(&load, seed);
                for &start in &cuts {
                    let block = cut.block(start, 9);
                    let from = (start as usize).min(whole.samples.len());
                    let to = (from + 9).min(whole.samples.len());
                    prop_assert_eq!(&block.samples, &whole.samples[from..to]);
                    prop_assert_eq!(block.offsets_ns.as_deref(), whole.offsets_ns.as_deref().map(|all| &all[from..to]));
                }
            }
        }
    }
}
