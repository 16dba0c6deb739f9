//! One node: what it works on, how fast it is, and how long a failure keeps it out.

use super::NodeConfig;
use super::size::Size;
use super::speed::Speed;

/// How an attempt's time on a node was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Spent {
    /// It was answered.
    Served,
    /// It failed: the time says nothing of how fast the node is.
    Failed,
    /// It failed for the item's own sake, as far as anybody knows.
    Excused,
    /// Somebody else was first, or nobody wants it any more.
    Dropped,
}

/// What is known of a node, for people and for the next batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeView {
    /// Seconds an item takes, if any was seen.
    pub service_s: Option<f64>,
    /// Items it works on.
    pub in_flight: u32,
    /// Attempts that it answered.
    pub served: u64,
    /// Attempts that failed there, were pushed back or timed out.
    pub failed: u64,
    /// Attempts that were given up, because another was first or nobody wanted them.
    pub dropped: u64,
    /// Failures since the last answer.
    pub failures_in_a_row: u32,
    /// The most items that a request to it carries now.
    pub batch: u16,
    /// Whether it takes calls.
    pub up: bool,
    /// Whether its circuit breaker lets one call through, to see whether it is well.
    pub half_open: bool,
}

/// An item that a node works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) item: u32,
    started: u64,
}

/// What became of one request's items: those that started in the same instant.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    items: u16,
    served: u16,
    has_failed: bool,
}

/// A node that asks what the others would have done before it had finished one item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    pub(super) now: u64,
    /// In how many nanoseconds that is.
    pub(super) within_ns: f64,
    /// What an item takes on the fastest node.
    pub(super) fastest_ns: f64,
}

impl Asks {
    /// How many items that take `takes_ns` each end one after the other, the first of them begun in `from_ns`. What ends just
    /// when the one who asks would be done doesn't beat it.
    fn whole(&self, from_ns: f64, takes_ns: f64) -> f64 {
        ((self.within_ns - from_ns) / takes_ns.max(1.0) * (1.0 - 1e-9)).floor().max(0.0)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) up: bool,
    /// It works only while the others together do no more than this share of what they did at first.
    pub(super) spare: Option<f64>,
    /// Items a nanosecond, as it was known to do at first.
    pub(super) promised: f64,
    slots: u16,
    /// The most items of a request; where `size` learns it, that is what one carries.
    batch: u16,
    size: Option<Size>,
    request: Request,
    speed: Speed,
    /// The oldest first.
    flights: Vec<Flight>,
    /// The start of the items that failed last: those of one request are one failure.
    failed_start: Option<u64>,
    /// Takes nothing before: a failure costs as long as an answer would have, and twice that each time.
    held_until: u64,
    failures_in_a_row: u32,
    served: u64,
    failed: u64,
    dropped: u64,
}

/// What a failure costs while no node's speed is known.
const FAILURE_NS: f64 = 50e6;
/// With each failure in a row the price doubles, so many times. No more: whether the node is well at all is its breaker's
/// to say, and one that is must not stand idle when it was the items that failed.
const HELD_DOUBLINGS: u32 = 4;
const FAILURE_DOUBLINGS: u32 = 10;
/// How many times longer a node is taken to need for each failure in a row.
const FAILURE_FACTOR: f64 = 4.0;

impl Node {
    pub(super) fn new(config: &NodeConfig, half_life_ns: u64) -> Self {
        let speed = config
            .service_s
            .map_or_else(|| Speed::unknown(half_life_ns), |s| Speed::remembered(half_life_ns, s * 1e9, config.weight));
        let size = config.start.map(|start| Size::new(config.batch, start));
        let slots = config.slots.max(1);
        Self {
            up: true,
            spare: config.spare,
            promised: config.service_s.map_or(0.0, |s| f64::from(slots) / (s * 1e9)),
            slots,
            batch: config.batch,
            size,
            request: Request::default(),
            speed,
            flights: Vec::with_capacity(usize::from(slots)),
            failed_start: None,
            held_until: 0,
            failures_in_a_row: 0,
            served: 0,
            failed: 0,
            dropped: 0,
        }
    }

    pub(super) fn started(&mut self, now: u64, item: u32) {
        if self.flights.is_empty() {
            self.request = Request::default();
        }
        self.request.items = self.request.items.saturating_add(1);
        // Nearly always the end: time goes on.
        let place = self.flights.partition_point(|flight| flight.started <= now);
        self.flights.insert(place, Flight { item, started: now });
    }

    /// Whether it failed for the first time: what failed with another item of the same request did so before.
    pub(super) fn ended(&mut self, now: u64, item: u32, spent: Spent, fastest_ns: f64) -> bool {
        // One that was given up may be told of twice: once by whoever gave it up, once by whoever noticed.
        let Some(place) = self.flights.iter().position(|f| f.item == item) else { return false };
        let started = self.flights.remove(place).started;
        let elapsed = now.saturating_sub(started);
        let is_first = match spent {
            Spent::Served => {
                self.served += 1;
                self.request.served = self.request.served.saturating_add(1);
                self.failures_in_a_row = 0;
                self.held_until = self.held_until.min(now);
                self.speed.served(now, elapsed);
                false
            }
            Spent::Dropped => {
                self.dropped += 1;
                self.speed.dropped(now, elapsed);
                false
            }
            Spent::Excused => {
                self.failed += 1;
                false
            }
            Spent::Failed => {
                self.failed += 1;
                self.request.has_failed = true;
                let is_first = self.batch == 1 || self.failed_start != Some(started);
                self.failed_start = Some(started);
                if is_first {
                    self.hold(now, started, fastest_ns);
                }
                is_first
            }
        };
        if self.flights.is_empty() {
            self.learn_size(elapsed);
        }
        is_first
    }

    /// A failure costs as long as an answer would have, and twice that each time.
    fn hold(&mut self, now: u64, started: u64, fastest_ns: f64) {
        let doublings = self.failures_in_a_row.min(HELD_DOUBLINGS);
        self.failures_in_a_row += 1;
        let one = self.speed.mean_ns().unwrap_or(if fastest_ns.is_finite() { fastest_ns } else { FAILURE_NS });
        self.held_until = now.max(started + (one * f64::from(1u32 << doublings)) as u64);
    }

    /// It wasn't at fault: the last failure is taken back.
    pub(super) fn excuse(&mut self, now: u64) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_sub(1);
        self.held_until = self.held_until.min(now);
    }

    /// All items of a request have ended.
    fn learn_size(&mut self, elapsed_ns: u64) {
        let Request { items, served, has_failed } = self.request;
        let Some(size) = &mut self.size else { return };
        let is_new = match served {
            0 if has_failed => size.failed(items),
            0 => false,
            _ => size.answered(items, elapsed_ns),
        };
        if is_new {
            self.speed.shift();
        }
    }

    /// It takes so many items at the same time from now on.
    pub(super) fn set_room(&mut self, slots: u16) {
        match &mut self.size {
            Some(size) => size.bound(slots),
            None => self.slots = slots,
        }
    }

    /// How many items it works on at the same time.
    fn slots(&self) -> usize {
        usize::from(self.size.as_ref().map_or(self.slots, Size::now))
    }

    pub(super) fn is_free(&self, now: u64) -> bool {
        self.up && now >= self.held_until && self.flights.len() < self.slots() && !self.has_left(now)
    }

    /// Whether the request that carries its items is under way, and takes no more of them.
    fn has_left(&self, now: u64) -> bool {
        self.size.is_some() && self.flights.first().is_some_and(|flight| flight.started < now)
    }

    /// When a failure's price is paid, if that lies ahead.
    pub(super) fn held(&self, now: u64) -> Option<u64> {
        (self.up && self.held_until > now).then_some(self.held_until)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter()
    }

    /// What the next item takes here, where anything was ever finished.
    pub(super) fn known_ns(&self, now: u64) -> Option<f64> {
        self.speed.next_ns(self.oldest_ns(now))
    }

    /// What the next item takes here, in ns. A node that has finished nothing is as fast as the fastest, until what it has
    /// been at says otherwise. One that has just failed is taken to need several tries.
    pub(super) fn takes_ns(&self, now: u64, fastest_ns: f64) -> f64 {
        let one = self.known_ns(now).unwrap_or_else(|| {
            let age = self.oldest_ns(now) as f64 * 2.0;
            if fastest_ns.is_finite() { age.max(fastest_ns) } else { age }
        });
        one * FAILURE_FACTOR.powi(self.failures_in_a_row.min(FAILURE_DOUBLINGS) as i32)
    }

    /// How much longer one of its items takes, in ns.
    pub(super) fn left_ns(&self, now: u64, flight: &Flight, fastest_ns: f64) -> f64 {
        let elapsed = now.saturating_sub(flight.started);
        self.speed.left_ns(elapsed).unwrap_or_else(|| {
            let (elapsed, fastest) = (elapsed as f64, if fastest_ns.is_finite() { fastest_ns } else { 0.0 });
            elapsed.max(fastest - elapsed)
        })
    }

    /// The most items it could have finished for who asks, whatever it is at, if each takes `takes_ns`.
    pub(super) fn ends_at_most(&self, asks: &Asks, takes_ns: f64) -> f64 {
        asks.whole(0.0, takes_ns) * self.slots().max(self.flights.len()) as f64
    }

    /// How many more items it will have finished for who asks, if each takes `takes_ns`; less one of its free slots if that
    /// is the one that asks. The item it is at isn't one more. Where there are as many as are `enough` it stops counting.
    pub(super) fn ends_within(&self, asks: &Asks, takes_ns: f64, is_it: bool, enough: f64) -> f64 {
        if asks.whole(0.0, takes_ns) == 0.0 {
            return 0.0;
        }
        let Asks { now, fastest_ns, .. } = *asks;
        let held = self.held_until.saturating_sub(now) as f64;
        if self.has_left(now) {
            // One request after the other: each carries as many.
            let left = self.flights.iter().map(|f| self.left_ns(now, f, fastest_ns)).fold(held, f64::max);
            return asks.whole(left, takes_ns) * self.slots() as f64;
        }
        let free = self.slots().saturating_sub(self.flights.len() + usize::from(is_it));
        let mut ends = asks.whole(held, takes_ns) * free as f64;
        for flight in &self.flights {
            if ends >= enough {
                break;
            }
            ends += asks.whole(self.left_ns(now, flight, fastest_ns), takes_ns);
        }
        ends
    }

    /// Items a nanosecond, if each takes so long.
    pub(super) fn rate(&self, takes_ns: f64) -> f64 {
        self.slots() as f64 / takes_ns.max(1.0)
    }

    pub(super) fn view(&self) -> NodeView {
        NodeView {
            service_s: self.speed.mean_ns().map(|ns| ns / 1e9),
            in_flight: self.flights.len() as u32,
            served: self.served,
            failed: self.failed,
            dropped: self.dropped,
            failures_in_a_row: self.failures_in_a_row,
            batch: self.size.as_ref().map_or(self.batch, Size::now),
            up: self.up,
            half_open: false,
        }
    }

    fn oldest_ns(&self, now: u64) -> u64 {
        self.flights.first().map_or(0, |flight| now.saturating_sub(flight.started))
    }
}

#[cfg(test)]
mod model;
