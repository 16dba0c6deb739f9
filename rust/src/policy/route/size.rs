//! How many items one request to a node carries, learned: more as long as more items are done a second for it.
//!
//! Sizes are powers of two. One climbs to the next size while that does clearly more, and comes back when it doesn't: what is
//! hardly worth it makes a batch's end coarser. A hill climb as of old, with a memory of what its neighbours did.

/// One more step is worth it from so much more a second.
const GAIN: f64 = 1.1;
/// From so much more on, one request has shown it; else it takes …
const CLEAR: f64 = 1.5;
/// … so many.
const ENOUGH: u32 = 3;
/// What was seen of a size before counts as at most so many requests.
const REMEMBERED: u32 = 8;
/// After so many requests that changed nothing the next larger size gets another chance: the node may have changed.
const AGAIN: u32 = 64;
/// Far more or less than before.
const ODD: f64 = 2.0;
/// Two to this is more than any node takes.
const LEVELS: usize = 15;

/// The size of the requests to one node.
#[derive(Clone, Debug)]
pub(super) struct Size {
    most: u16,
    level: usize,
    rates: [Rate; LEVELS],
    /// Requests since it last changed.
    settled: u32,
    /// The last one took far more or far less than those before it. Two in a row, and the node isn't what it was.
    was_odd: bool,
}

/// What a size does.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// Mean logarithm of the items a nanosecond.
    log: f64,
    seen: u32,
    /// Nothing is known of it now: what was seen is of long ago.
    is_old: bool,
}

impl Rate {
    fn known(&self) -> Option<f64> {
        (self.seen > 0).then_some(self.log)
    }

    fn is_far_from(&self, log: f64) -> bool {
        self.seen > 0 && !self.is_old && (log - self.log).abs() > ODD.ln()
    }

    fn observe(&mut self, log: f64) {
        if self.is_old {
            *self = Self::default();
        }
        self.seen = (self.seen + 1).min(REMEMBERED);
        self.log += (log - self.log) / f64::from(self.seen);
    }
}

impl Size {
    /// Between one and `most`, to begin with at `start`.
    pub(super) fn new(most: u16, start: u16) -> Self {
        let mut size = Self { most, level: 0, rates: [Rate::default(); LEVELS], settled: 0, was_odd: false };
        let top = size.top();
        size.level = if start >= most { top } else { (0..top).find(|&level| 2 << level > start).unwrap_or(top) };
        size
    }

    /// How many items the next request carries.
    pub(super) fn now(&self) -> u16 {
        (1u16 << self.level).min(self.most)
    }

    /// A request with so many items was answered. Whether the next one carries another number.
    pub(super) fn answered(&mut self, items: u16, elapsed_ns: u64) -> bool {
        // What is left over at a batch's end says nothing of the size.
        if items != self.now() {
            return false;
        }
        let log = f64::from(items).ln() - (elapsed_ns.max(1) as f64).ln();
        let is_odd = self.rates[self.level].is_far_from(log);
        if is_odd && self.was_odd {
            self.rates = [Rate::default(); LEVELS];
        }
        self.was_odd = is_odd;
        self.rates[self.level].observe(log);
        let before = self.level;
        self.climb();
        self.level != before
    }

    /// A request failed: it may have been too large. Whether the next one carries less.
    pub(super) fn failed(&mut self, items: u16) -> bool {
        if items != self.now() || self.level == 0 {
            return false;
        }
        self.rates[self.level] = Rate { log: f64::NEG_INFINITY, seen: 1, is_old: false };
        self.go(self.level - 1);
        true
    }

    /// The node has said that it takes no more than so many.
    pub(super) fn bound(&mut self, most: u16) {
        self.most = most.clamp(1, self.most);
        self.level = self.level.min(self.top());
    }

    fn climb(&mut self) {
        let here = self.rates[self.level];
        let gain = match self.level.checked_sub(1).and_then(|below| self.rates[below].known()) {
            Some(below) => here.log - below,
            None => f64::INFINITY,
        };
        if here.seen < ENOUGH && gain < CLEAR.ln() {
            return;
        }
        if gain < GAIN.ln() {
            return self.go(self.level - 1);
        }
        let above = (self.level < self.top()).then(|| self.rates[self.level + 1].known());
        match above {
            Some(None) => self.go(self.level + 1),
            Some(Some(above)) if above - here.log > GAIN.ln() => self.go(self.level + 1),
            // It began here: perhaps less would do as much.
            _ if gain.is_infinite() && self.level > 0 && here.seen >= ENOUGH => self.go(self.level - 1),
            _ => self.stay(),
        }
    }

    fn go(&mut self, level: usize) {
        self.level = level;
        self.settled = 0;
        self.rates[level].is_old = true;
    }

    fn stay(&mut self) {
        self.settled += 1;
        if self.settled >= AGAIN {
            self.settled = 0;
            if let Some(above) = self.rates.get_mut(self.level + 1) {
                *above = Rate::default();
            }
        }
    }

    /// The level of `most`.
    fn top(&self) -> usize {
        (u16::BITS - (self.most - 1).leading_zeros()) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Requests of a node that takes `request` for each and `item` for every item, in ms.
    fn after(size: &mut Size, requests: u32, request: f64, item: f64) -> u16 {
        for _ in 0..requests {
            let items = size.now();
            size.answered(items, ((request + item * f64::from(items)) * 1e6) as u64);
        }
        size.now()
    }

    #[test]
    fn it_grows_while_requests_cost_more_than_their_items() {
        let mut size = Size::new(64, 4);
        assert_eq!(size.now(), 4);
        assert_eq!(after(&mut size, 4, 100.0, 0.01), 64, "four clear gains: 4, 8, 16, 32, 64");
        assert_eq!(after(&mut size, 200, 100.0, 0.01), 64);
    }

    #[test]
    fn it_stays_small_where_more_items_take_as_much_longer() {
        let mut size = Size::new(64, 4);
        after(&mut size, 30, 0.0, 10.0);
        assert_eq!(size.now(), 1);
        // Now and then it looks whether that is still so.
        let grown = (0..200).filter(|_| after(&mut size, 1, 0.0, 10.0) > 1).count();
        assert!((3..20).contains(&grown), "{grown}");
    }

    #[test]
    fn it_stops_where_the_next_step_adds_less_than_a_tenth() {
        // 8 items take 18 ms and 16 take 26: 39 % more. From 64 (74 ms) to 128 (138) it is 7 %.
        let mut size = Size::new(1_000, 1);
        assert_eq!(after(&mut size, 40, 10.0, 1.0), 64);
    }

    #[test]
    fn the_most_need_be_no_power_of_two() {
        let mut size = Size::new(48, 4);
        assert_eq!(after(&mut size, 20, 100.0, 0.01), 48);
        assert_eq!(Size::new(1, 9).now(), 1);
        assert_eq!(Size::new(10_000, 16_000).now(), 10_000);
    }

    #[test]
    fn what_fails_is_halved_and_not_tried_again_soon() {
        let mut size = Size::new(64, 64);
        assert!(size.failed(64));
        assert_eq!(size.now(), 32);
        assert_eq!(after(&mut size, 40, 100.0, 0.01), 32);
        assert!(!size.failed(7), "a batch's last items say nothing of the size");
        let mut least = Size::new(64, 1);
        assert!(!least.failed(1));
    }

    #[test]
    fn what_the_node_refuses_is_never_tried_again() {
        let mut size = Size::new(64, 4);
        after(&mut size, 3, 100.0, 0.01);
        size.bound(16);
        assert_eq!(after(&mut size, 500, 100.0, 0.01), 16);
        size.bound(0);
        assert_eq!(size.now(), 1);
    }

    #[test]
    fn a_node_that_becomes_slow_is_measured_anew_at_each_size() {
        let mut size = Size::new(64, 4);
        after(&mut size, 20, 100.0, 0.01);
        assert_eq!(after(&mut size, 60, 1_000.0, 0.1), 64, "ten times slower, and the same is best");
        assert_eq!(after(&mut size, 60, 0.0, 200.0), 1, "nothing is gained any more");
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(
            most in 1u16..10_000,
            start in 1u16..10_000,
            steps in prop::collection::vec((0u8..8, 1u64..1_000_000), 0..300),
        ) {
            let mut size = Size::new(most, start);
            let mut bound = most;
            for (what, number) in steps {
                match what {
                    0 => { size.failed(size.now()); }
                    1 => {
                        bound = bound.min(number.min(10_000) as u16).max(1);
                        size.bound(number.min(10_000) as u16);
                    }
                    _ => { size.answered(size.now(), number); }
                }
                prop_assert!((1..=bound).contains(&size.now()));
            }
        }
    }
}
