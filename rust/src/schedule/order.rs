//! Which sample request `i` sends.

use std::num::NonZeroU32;

use super::load::Order;
use super::random::{Purpose, Random};

/// An endless, seeded order over `n` samples.
#[derive(Clone, Debug)]
pub struct SampleOrder {
    order: Order,
    n: u64,
    random: Random,
    /// The current epoch's permutation, for draws without replacement.
    shuffled: Vec<u32>,
    epoch: u64,
}

impl SampleOrder {
    /// An order over `n` samples.
    pub fn new(order: Order, n: NonZeroU32, seed: u64) -> Self {
        let random = Random::new(seed, Purpose::Order);
        Self { order, n: u64::from(n.get()), random, shuffled: Vec::new(), epoch: u64::MAX }
    }

    /// The sample of request `i`, in 0..n.
    pub fn sample(&mut self, i: u64) -> u64 {
        match self.order {
            Order::Sequential => i % self.n,
            Order::Single => 0,
            Order::WithReplacement => {
                self.random.seek(i);
                self.random.below(self.n)
            }
            Order::WithoutReplacement => {
                if self.epoch != i / self.n {
                    self.shuffle(i / self.n);
                }
                u64::from(self.shuffled[(i % self.n) as usize])
            }
        }
    }

    /// Shuffle for `epoch` (Fisher and Yates), from that epoch's own draws so that epochs can be skipped.
    fn shuffle(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.shuffled.clear();
        self.shuffled.extend(0..self.n as u32);
        self.random.seek(epoch.wrapping_mul(self.n));
        for i in (1..self.n).rev() {
            let j = self.random.below(i + 1);
            self.shuffled.swap(i as usize, j as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(order: Order, n: u32, seed: u64) -> SampleOrder {
        SampleOrder::new(order, NonZeroU32::new(n).unwrap(), seed)
    }

    #[test]
    fn drawing_with_replacement_is_even() {
        let mut order = order(Order::WithReplacement, 10, 4);
        let mut seen = [0u32; 10];
        (0..100_000).for_each(|i| seen[order.sample(i) as usize] += 1);
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
    }

    proptest! {
        #[test]
        fn each_epoch_without_replacement_holds_every_sample_once(n in 1u32..200, seed: u64, epoch in 0u64..5) {
            let mut order = order(Order::WithoutReplacement, n, seed);
            let n = u64::from(n);
            let mut drawn: Vec<u64> = (0..n).map(|i| order.sample(epoch * n + i)).collect();
            drawn.sort_unstable();
            prop_assert_eq!(drawn, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn an_order_is_a_function_of_seed_and_index(seed: u64, i in 0u64..300) {
            for kind in [Order::Sequential, Order::WithReplacement, Order::WithoutReplacement, Order::Single] {
                let mut walked = order(kind, 7, seed);
                let expected = (0..=i).map(|i| walked.sample(i)).last();
                prop_assert_eq!(Some(order(kind, 7, seed).sample(i)), expected);
            }
        }
    }
}
