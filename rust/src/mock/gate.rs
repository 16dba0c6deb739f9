//! Who may be served now: slots with a first-come queue, and a token bucket in front of them.

use std::collections::VecDeque;

use super::config::{Config, RateLimit};

/// A request that waits for a slot: which thread holds it, and under which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub thread: usize,
    pub key: u64,
}

/// What became of a request at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Go,
    Queued,
    Full,
}

/// The slots and the queue of all threads.
#[derive(Debug)]
pub(super) struct Gate {
    capacity: Option<u32>,
    longest: Option<u32>,
    busy: u32,
    queue: VecDeque<Ticket>,
    bucket: Option<Bucket>,
    /// Requests turned away, by the queue or by the rate limit.
    pub rejected: u64,
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            capacity: config.capacity,
            longest: config.queue,
            busy: 0,
            queue: VecDeque::new(),
            bucket: config.rate_limit.as_ref().map(Bucket::new),
            rejected: 0,
        }
    }

    /// Whether requests need to pass it at all.
    pub(super) fn is_open(&self) -> bool {
        self.capacity.is_none() && self.bucket.is_none()
    }

    /// Pass the rate limit, or learn how many nanoseconds until a token is free.
    pub(super) fn admit(&mut self, now: u64) -> Result<(), u64> {
        let passed = self.bucket.as_mut().map_or(Ok(()), |bucket| bucket.take(now));
        self.rejected += u64::from(passed.is_err());
        passed
    }

    /// Take a slot, or a place in the queue.
    pub(super) fn enter(&mut self, ticket: Ticket) -> Entry {
        let Some(capacity) = self.capacity else { return Entry::Go };
        if self.busy < capacity {
            self.busy += 1;
            return Entry::Go;
        }
        if self.longest.is_some_and(|longest| self.queue.len() >= longest as usize) {
            self.rejected += 1;
            return Entry::Full;
        }
        self.queue.push_back(ticket);
        Entry::Queued
    }

    /// Give a slot back; it goes to the first in the queue, who must be told.
    pub(super) fn leave(&mut self) -> Option<Ticket> {
        self.capacity?;
        let next = self.queue.pop_front();
        if next.is_none() {
            self.busy -= 1;
        }
        next
    }

    /// Leave the queue without having been served; false if a slot was already given and must be handed back.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> bool {
        let place = self.queue.iter().position(|waiting| *waiting == ticket);
        place.is_some_and(|at| self.queue.remove(at).is_some())
    }

    /// Requests that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }
}

/// A token bucket in exact integers: one token is `1e9 / rps` nanoseconds of credit.
#[derive(Debug)]
struct Bucket {
    price: u64,
    most: u64,
    credit: u64,
    at: u64,
}

impl Bucket {
    fn new(limit: &RateLimit) -> Self {
        // Casts saturate; configuration has made sure both are above zero.
        let price = ((1e9 / limit.rps) as u64).max(1);
        let most = (price as f64 * limit.burst.max(1.0)) as u64;
        Self { price, most, credit: most, at: 0 }
    }

    fn take(&mut self, now: u64) -> Result<(), u64> {
        self.credit = self.credit.saturating_add(now.saturating_sub(self.at)).min(self.most);
        // Another thread may have been here with a later clock.
        self.at = self.at.max(now);
        if self.credit < self.price {
            return Err(self.price - self.credit);
        }
        self.credit -= self.price;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gate(json: &str) -> Gate {
        Gate::new(&Config::from_json(json).unwrap())
    }

    fn ticket(key: u64) -> Ticket {
        Ticket { thread: 0, key }
    }

    #[test]
    fn slots_then_queue_then_no() {
        let mut gate = gate(r#"{"capacity": 1, "queue": 2}"#);
        let entries: Vec<Entry> = (0..4).map(|key| gate.enter(ticket(key))).collect();
        assert_eq!(entries, [Entry::Go, Entry::Queued, Entry::Queued, Entry::Full]);
        assert_eq!((gate.leave(), gate.leave(), gate.leave()), (Some(ticket(1)), Some(ticket(2)), None));
        assert_eq!(gate.rejected, 1);
        assert_eq!(gate.enter(ticket(9)), Entry::Go);
    }

    #[test]
    fn who_gives_up_frees_its_place() {
        let mut gate = gate(r#"{"capacity": 1}"#);
        (0..3).for_each(|key| assert_ne!(gate.enter(ticket(key)), Entry::Full));
        assert!(gate.give_up(ticket(1)));
        assert!(!gate.give_up(ticket(1)));
        assert_eq!(gate.leave(), Some(ticket(2)));
    }

    #[test]
    fn the_rate_limit_lets_a_burst_through_and_then_its_rate() {
        let mut gate = gate(r#"{"rate_limit": {"rps": 10, "burst": 2}}"#);
        let t = 5_000_000_000;
        assert_eq!((gate.admit(t), gate.admit(t)), (Ok(()), Ok(())));
        assert_eq!(gate.admit(t), Err(100_000_000));
        assert_eq!(gate.admit(t + 60_000_000), Err(40_000_000));
        assert_eq!(gate.admit(t + 100_000_000), Ok(()));
        assert_eq!(gate.rejected, 2);
    }

    #[test]
    fn a_thread_whose_clock_is_behind_gives_no_time_twice() {
        let mut gate = gate(r#"{"rate_limit": {"rps": 10, "burst": 1}}"#);
        let t = 5_000_000_000;
        assert_eq!(gate.admit(t), Ok(()));
        assert_eq!(gate.admit(t - 50_000_000), Err(100_000_000));
        assert_eq!(gate.admit(t + 60_000_000), Err(40_000_000));
    }
}
