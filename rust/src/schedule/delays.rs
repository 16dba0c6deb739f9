//! The gaps of an open loop, one by one: what the plan's due times are apart.

use super::arrivals::Arrivals;
use super::load::{Arrival, Load, LoadError};

/// Above this rate the mean gap is shorter than the nanosecond that a delay has at least.
const RATE_MOST: f64 = 1e9;

/// Nanoseconds until the next start, at least 1, without end.
///
/// The delays add up to the plan's due times, so that their sum doesn't drift: where two of those are the same
/// nanosecond, the second start is one later, and the next delay makes up for it.
#[derive(Clone, Debug)]
pub struct Delays {
    arrivals: Arrivals,
    index: u64,
    at_ns: u64,
}

impl Delays {
    /// The delays of `rate` arrivals a second; the same seed gives the same ones.
    pub fn new(rate: f64, arrival: Arrival, seed: u64) -> Result<Self, LoadError> {
        let load = Load::Rate { rate, arrival };
        load.check()?;
        let arrivals = Arrivals::new(&load, seed).filter(|_| rate <= RATE_MOST).ok_or(LoadError::TooFast(rate))?;
        // A constant plan starts at 0 itself: its first gap ends at the second arrival.
        Ok(Self { arrivals, index: u64::from(arrival == Arrival::Constant), at_ns: 0 })
    }
}

impl Iterator for Delays {
    type Item = u64;

    /// The next delay; `None` once they add up to more than 2⁶⁴ ns, 584 years.
    fn next(&mut self) -> Option<u64> {
        let due = self.arrivals.offset_ns(self.index).filter(|&due| due < u64::MAX)?;
        let delay = due.saturating_sub(self.at_ns).max(1);
        self.index += 1;
        self.at_ns += delay;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(rate: f64, arrival: Arrival, n: usize) -> u64 {
        Delays::new(rate, arrival, 3).unwrap().take(n).sum()
    }

    #[test]
    fn constant_delays_add_up_without_drift() {
        assert_eq!(sum(300.0, Arrival::Constant, 300_000), 1_000_000_000_000);
        assert_eq!(sum(1e9, Arrival::Constant, 1000), 1000);
    }

    #[test]
    fn delays_of_about_a_nanosecond_keep_their_mean_and_never_rest() {
        for rate in [1e8, 5e8] {
            let mean = sum(rate, Arrival::Poisson, 200_000) as f64 / 200_000.0;
            assert!((mean * rate / 1e9 - 1.0).abs() < 0.02, "{rate}: {mean}");
        }
        assert!(Delays::new(1e9, Arrival::Poisson, 0).unwrap().take(10_000).all(|d| d >= 1));
    }

    #[test]
    fn a_rate_that_no_delay_can_have_is_refused() {
        assert_eq!(Delays::new(0.0, Arrival::Poisson, 0).unwrap_err(), LoadError::Rate(0.0));
        assert_eq!(Delays::new(2e9, Arrival::Poisson, 0).unwrap_err(), LoadError::TooFast(2e9));
    }

    #[test]
    fn delays_end_rather_than_wrap() {
        assert_eq!(Delays::new(1e-9, Arrival::Constant, 0).unwrap().count(), 18);
        assert_eq!(Delays::new(1e-300, Arrival::Constant, 0).unwrap().next(), None);
    }

    proptest! {
        #[test]
        fn delays_add_up_to_the_plans_due_times(seed: u64, rate in 0.01f64..1e5) {
            for arrival in [Arrival::Poisson, Arrival::Gamma { burstiness: 2.0 }, Arrival::Uniform { low: 0.5, high: 1.5 }] {
                let mut arrivals = Arrivals::new(&Load::Rate { rate, arrival }, seed).unwrap();
                let mut at = 0;
                for (i, delay) in Delays::new(rate, arrival, seed).unwrap().take(200).enumerate() {
                    at += delay;
                    let due = arrivals.offset_ns(i as u64).unwrap();
                    // Later only where arrivals fell into the same nanosecond.
                    prop_assert!(at >= due && at - due < 100, "{i}: {at} {due}");
                }
            }
        }
    }
}
