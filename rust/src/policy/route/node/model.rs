//! What a node says of itself, found by looking at everything that it works on: what the quick ways are compared with.

use super::Node;

impl Node {
    /// What the next item takes here, in ns.
    pub(in super::super) fn model_takes_ns(&self, now: u64, fastest_ns: f64) -> f64 {
        let oldest = self.flights.iter().map(|f| now.saturating_sub(f.started)).max().unwrap_or(0);
        let one = self.speed.next_ns(oldest).unwrap_or_else(|| {
            let age = oldest as f64 * 2.0;
            if fastest_ns.is_finite() { age.max(fastest_ns) } else { age }
        });
        one * super::FAILURE_FACTOR.powi(self.failures_in_a_row.min(super::FAILURE_DOUBLINGS) as i32)
    }

    /// The same where anything was ever finished, whatever has failed.
    pub(in super::super) fn model_known_ns(&self, now: u64) -> Option<f64> {
        let oldest = self.flights.iter().map(|f| now.saturating_sub(f.started)).max().unwrap_or(0);
        self.speed.next_ns(oldest)
    }

    /// How many more items it will have finished before `within_ns` is over, if each takes `takes_ns`; less one of its free
    /// slots if that is the one that asks.
    pub(in super::super) fn model_ends_within(
        &self,
        now: u64,
        within_ns: f64,
        takes_ns: f64,
        fastest_ns: f64,
        asks: bool,
    ) -> f64 {
        let each = takes_ns.max(1.0);
        let whole = |from: f64| ((within_ns - from) / each * (1.0 - 1e-9)).floor().max(0.0);
        let held = self.held_until.saturating_sub(now) as f64;
        if self.has_left(now) {
            let left = self.flights.iter().map(|f| self.left_ns(now, f, fastest_ns)).fold(held, f64::max);
            return whole(left) * self.slots() as f64;
        }
        let busy: f64 = self.flights.iter().map(|f| whole(self.left_ns(now, f, fastest_ns))).sum();
        let free = self.slots().saturating_sub(self.flights.len() + usize::from(asks));
        busy + whole(held) * free as f64
    }
}
