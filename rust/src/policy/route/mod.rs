//! Which node takes the next item: the fastest free one, unless the others would be through before it has finished one; and
//! at the end, which item is worth a copy on a node that has nothing left to do.
//!
//! It knows times, not addresses. Whoever drives it tells it what started and ended where.

mod node;
mod size;
mod speed;

use serde::{Deserialize, Serialize};

use super::config::{positive, seconds, share, whole};
use super::node::{MOST, bit};
use super::{ConfigError, ns};
pub use node::NodeView;
pub(super) use node::Spent;
use node::{Asks, Flight, Node};

/// One node, as it is known when a batch begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// How many items it works on at the same time.
    pub slots: u16,
    /// Seconds it takes for an item, where that was measured before.
    pub service_s: Option<f64>,
    /// How many observations that measurement weighs as much as.
    pub weight: f64,
    /// The most items that one request carries. Above one, items that start in the same instant are one request.
    pub batch: u16,
    /// It is learned how many a request carries, from this number on: up to `batch`, one request after the other.
    pub start: Option<u16>,
    /// It works only while the others together do no more than this share of what they did at first; 0: none of them.
    pub spare: Option<f64>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { slots: 1, service_s: None, weight: 4.0, batch: 1, start: None, spare: None }
    }
}

/// Which of the nodes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// All that help: a slow node isn't given what the others would finish sooner.
    #[default]
    Auto,
    /// All, whatever their speed.
    All,
    /// This many of the fastest, and really only those; the next one when one of them is down.
    Fastest(u16),
}

/// How a batch is spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// The nodes, numbered from 0.
    pub nodes: Vec<NodeConfig>,
    /// Which of them work.
    pub spread: Spread,
    /// Seconds in which what was seen of a node's speed loses half of its weight.
    pub half_life_s: f64,
    /// Copies at the end of a batch: at most this share of the items, and one a node.
    pub copies: f64,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self { nodes: vec![NodeConfig::default()], spread: Spread::Auto, half_life_s: 60.0, copies: 0.2 }
    }
}

impl RouteConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        whole("route.nodes", u32::try_from(self.nodes.len()).unwrap_or(u32::MAX), 1, u32::from(MOST))?;
        for node in &self.nodes {
            whole("route.nodes.slots", u32::from(node.slots), 1, SLOTS_MOST)?;
            node.service_s.map_or(Ok(()), |s| seconds("route.nodes.service_s", s))?;
            positive("route.nodes.weight", node.weight, false)?;
            whole("route.nodes.batch", u32::from(node.batch), 1, SLOTS_MOST)?;
            node.start.map_or(Ok(()), |n| whole("route.nodes.start", u32::from(n), 1, SLOTS_MOST))?;
            node.spare.map_or(Ok(()), |of| share("route.nodes.spare", of, true))?;
        }
        if let Spread::Fastest(most) = self.spread {
            whole("route.spread.fastest", u32::from(most), 1, u32::from(MOST))?;
        }
        share("route.copies", self.copies, true)?;
        seconds("route.half_life_s", self.half_life_s)
    }
}

/// While free nodes wait for busier, faster ones, the choice is made again after this share of the fastest node's time, since
/// an item that doesn't end makes its node look slower.
const AGAIN: f64 = 0.1;
const AGAIN_LEAST_NS: f64 = 1e6;

/// The most items that one node works on at the same time.
const SLOTS_MOST: u32 = 10_000;

/// Live copies of an item beside its first attempt.
pub(super) const COPIES: u32 = 2;

/// Chooses nodes. A function of what it is told, and of nothing else.
#[derive(Clone, Debug)]
pub(super) struct Route {
    nodes: Vec<Node>,
    spread: Spread,
    copies: f64,
    /// The nodes by speed, the fastest first; made anew for each choice.
    order: Vec<(f64, u16)>,
    /// What is under way, by item; made anew for each choice of a copy.
    under_way: Vec<UnderWay>,
}

/// An item that is under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    item: u32,
    /// The nodes, as bits, that have a copy of it.
    on: u64,
    /// In how many nanoseconds the first of them ends.
    left: f64,
}

impl Route {
    /// For these nodes, none of which is at work.
    pub(super) fn new(config: &RouteConfig) -> Self {
        let half_life = ns(config.half_life_s);
        let nodes: Vec<Node> = config.nodes.iter().map(|node| Node::new(node, half_life)).collect();
        let order = Vec::with_capacity(nodes.len());
        Self { nodes, spread: config.spread, copies: config.copies, order, under_way: Vec::new() }
    }

    /// Whether another copy may be paid for, after so many items and copies were started.
    pub(super) fn affords(&self, items: u64, copies: u64) -> bool {
        (copies as f64) < self.copies * items as f64 + self.nodes.len() as f64
    }

    /// An attempt at `item` has started on `node`.
    pub(super) fn started(&mut self, now: u64, node: u16, item: u32) {
        self.nodes[usize::from(node)].started(now, item);
    }

    /// The attempt at `item` on `node` has ended. Whether that is a failure that wasn't told before: the items of a request
    /// fail together.
    pub(super) fn ended(&mut self, now: u64, node: u16, item: u32, spent: Spent) -> bool {
        let fastest = self.fastest_ns(now);
        self.nodes[usize::from(node)].ended(now, item, spent, fastest)
    }

    /// A node's last failure wasn't its own.
    pub(super) fn excuse(&mut self, now: u64, node: u16) {
        self.nodes[usize::from(node)].excuse(now);
    }

    /// A node takes so many items at the same time from now on; at least one.
    pub(super) fn set_room(&mut self, node: u16, slots: u16) {
        self.nodes[usize::from(node)].set_room(slots.clamp(1, SLOTS_MOST as u16));
    }

    /// Take a node out, or in again: its circuit breaker or its health check says so.
    pub(super) fn set_up(&mut self, node: u16, up: bool) {
        self.nodes[usize::from(node)].up = up;
    }

    /// The node for the next of `waiting` items, where one should take it now. `failed` are the nodes, as bits, that the item
    /// has failed on: another one takes it, if there is any that works.
    pub(super) fn choose(&mut self, now: u64, waiting: u32, failed: u64) -> Option<u16> {
        let best = self.sort(now);
        let no_other = self.order.iter().all(|&(_, node)| failed & bit(node) != 0);
        let out = if no_other { 0 } else { failed };
        let takes_it = |node: u16| out & bit(node) == 0 && self.nodes[usize::from(node)].is_free(now);
        let (within_ns, node) = self.order.iter().copied().find(|&(_, node)| takes_it(node))?;
        // Where the fastest of those that could take it isn't worth it, no other is: the longer one takes, the more the others
        // get done meanwhile.
        let asks = Asks { now, within_ns, fastest_ns: best };
        (self.spread != Spread::Auto || self.is_worth_it(&asks, node, waiting, out)).then_some(node)
    }

    /// Whether a node that works may take an item that failed on these, as bits.
    pub(super) fn has_another(&mut self, now: u64, failed: u64) -> bool {
        self.sort(now);
        self.order.iter().any(|&(_, node)| failed & bit(node) == 0)
    }

    /// The item that is most worth a copy, and the node that has time for it. Only for when nothing waits. `may` says of an
    /// item whether it may have one more.
    pub(super) fn choose_copy(&mut self, now: u64, may: impl Fn(u32) -> bool) -> Option<(u32, u16)> {
        if self.spread != Spread::Auto {
            return None;
        }
        self.sort(now);
        let best = self.order.first()?.0;
        let is_free = |&(_, node): &(f64, u16)| self.nodes[usize::from(node)].is_free(now);
        if !self.order.iter().any(is_free) {
            return None;
        }
        self.see_under_way(now, best, may);
        self.order.iter().find_map(|&(takes, node)| {
            let (item, left) = self.nodes[usize::from(node)].is_free(now).then(|| self.last_to_end(node))??;
            (takes < left).then_some((item, node))
        })
    }

    /// When to ask again if nothing happens before.
    pub(super) fn again_at(&self, now: u64) -> Option<u64> {
        let best = self.fastest_ns(now);
        let waits = self.spread == Spread::Auto && best.is_finite() && self.nodes.iter().any(|node| node.is_free(now));
        let pause = waits.then(|| now + (best * AGAIN).max(AGAIN_LEAST_NS) as u64);
        let held = self.nodes.iter().filter_map(|node| node.held(now)).min();
        pause.into_iter().chain(held).min()
    }

    /// What is known of a node.
    pub(super) fn view(&self, node: u16) -> Option<NodeView> {
        self.nodes.get(usize::from(node)).map(Node::view)
    }

    /// Put the nodes that may work in order of what the next item would take there, and return the least time known
    /// (infinite if none is).
    fn sort(&mut self, now: u64) -> f64 {
        let best = self.fastest_ns(now);
        self.order.clear();
        let up = self.nodes.iter().enumerate().filter(|(_, node)| node.up);
        self.order.extend(up.map(|(i, node)| (node.takes_ns(now, best), i as u16)));
        self.leave_out_spares();
        self.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Spread::Fastest(most) = self.spread {
            self.order.truncate(usize::from(most));
        }
        best
    }

    /// Take those out of the order who aren't needed: the others do what they promised.
    fn leave_out_spares(&mut self) {
        let Self { nodes, order, .. } = self;
        if nodes.iter().all(|node| node.spare.is_none()) {
            return;
        }
        let promised: f64 = nodes.iter().filter(|node| node.spare.is_none()).map(|node| node.promised).sum();
        let others = order.iter().map(|&(takes, node)| (&nodes[usize::from(node)], takes));
        let done: f64 = others.filter(|(node, _)| node.spare.is_none()).map(|(node, takes)| node.rate(takes)).sum();
        order.retain(|&(_, node)| nodes[usize::from(node)].spare.is_none_or(|of| done <= of * promised));
    }

    fn fastest_ns(&self, now: u64) -> f64 {
        let known = self.nodes.iter().filter(|node| node.up).filter_map(|node| node.known_ns(now));
        known.fold(f64::INFINITY, f64::min)
    }

    /// Whether `node`, which asks, would have an item done before the others are through with all of them. Nobody knows the
    /// speed of a node that hasn't finished anything: it is tried while there is more to do than one item's worth.
    /// Nodes that are `out` don't count: the item can't go there.
    fn is_worth_it(&self, asks: &Asks, node: u16, waiting: u32, out: u64) -> bool {
        if asks.fastest_ns.is_infinite() {
            return true;
        }
        let waiting = f64::from(waiting);
        let others = || {
            let order = self.order.iter().filter(|(_, other)| out & bit(*other) == 0);
            order.map(|&(takes, other)| (takes, other, &self.nodes[usize::from(other)]))
        };
        // But for the end of a batch there is more to do than they could finish at best: what each item is at need not be known.
        if others().map(|(takes, _, there)| there.ends_at_most(asks, takes)).sum::<f64>() < waiting {
            return true;
        }
        let mut done = 0.0;
        for (takes, other, there) in others() {
            done += there.ends_within(asks, takes, other == node, waiting - done);
            if done >= waiting {
                return false;
            }
        }
        true
    }

    /// Look at what is under way, item by item: those that `may` have one more copy.
    fn see_under_way(&mut self, now: u64, best: f64, may: impl Fn(u32) -> bool) {
        let Self { nodes, under_way, .. } = self;
        under_way.clear();
        for (number, node) in nodes.iter().enumerate() {
            let on = bit(number as u16);
            let copy = |f: &Flight| UnderWay { item: f.item, on, left: node.left_ns(now, f, best) };
            under_way.extend(node.flights().map(copy));
        }
        under_way.sort_unstable_by_key(|copy| copy.item);
        under_way.dedup_by(|copy, item| {
            let is_of_it = copy.item == item.item;
            if is_of_it {
                item.on |= copy.on;
                item.left = item.left.min(copy.left);
            }
            is_of_it
        });
        under_way.retain(|item| may(item.item));
    }

    /// Of what is under way elsewhere, the item that will end last, and in how long.
    fn last_to_end(&self, node: u16) -> Option<(u32, f64)> {
        let others = self.under_way.iter().filter(|item| item.on & bit(node) == 0);
        let last = others.max_by(|a, b| a.left.total_cmp(&b.left).then(b.item.cmp(&a.item)))?;
        Some((last.item, last.left))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// In how long the first of an item's copies ends, asked of every node.
    fn ends_in(route: &Route, now: u64, best: f64, item: u32) -> f64 {
        let copies = route.nodes.iter().flat_map(|node| node.flights().map(move |f| (f, node)));
        let ends = copies.filter(|(f, _)| f.item == item).map(|(f, node)| node.left_ns(now, f, best));
        ends.fold(f64::INFINITY, f64::min)
    }

    /// The choice, found by asking every free node whether it is worth it, and every node of each of its items.
    fn chosen_by_asking_all(route: &Route, now: u64, waiting: u32, failed: u64) -> Option<u16> {
        let up = || route.nodes.iter().enumerate().filter(|(_, node)| node.up);
        let best = up().filter_map(|(_, node)| node.model_known_ns(now)).fold(f64::INFINITY, f64::min);
        let mut order: Vec<(f64, u16)> =
            up().map(|(number, node)| (node.model_takes_ns(now, best), number as u16)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let no_other = order.iter().all(|&(_, node)| failed & bit(node) != 0);
        let out = if no_other { 0 } else { failed };
        let may_go_to: Vec<_> = order.into_iter().filter(|&(_, node)| out & bit(node) == 0).collect();
        let is_worth_it = |takes: f64, node: u16| {
            let mut others = 0.0;
            best.is_infinite()
                || may_go_to.iter().all(|&(time, other)| {
                    let there = &route.nodes[usize::from(other)];
                    others += there.model_ends_within(now, takes, time, best, other == node);
                    others < f64::from(waiting)
                })
        };
        let free = may_go_to.iter().filter(|&&(_, node)| route.nodes[usize::from(node)].is_free(now));
        free.copied().find_map(|(takes, node)| is_worth_it(takes, node).then_some(node))
    }

    #[derive(Clone, Debug)]
    struct Step {
        passed: u64,
        waiting: u32,
        failed: u64,
        /// Starts, where the choice is followed.
        starts: u32,
        /// Which of what is under way ends, and how.
        ends: Option<(usize, Spent)>,
        /// A node that goes out or comes back, or is told what it may take.
        told: Option<(u16, bool, u16)>,
    }

    fn step() -> impl Strategy<Value = Step> {
        let spent = prop::sample::select(vec![Spent::Served, Spent::Served, Spent::Failed, Spent::Dropped]);
        let ends = prop::option::of((any::<usize>(), spent));
        let told = prop::option::weighted(0.1, (0u16..6, any::<bool>(), 1u16..20));
        let passed = prop_oneof![Just(0), 1u64..3_000_000_000];
        let failed = prop_oneof![4 => Just(0), 1 => 0u64..64];
        (passed, 0u32..60, failed, 0u32..8, ends, told).prop_map(|(passed, waiting, failed, starts, ends, told)| Step {
            passed,
            waiting,
            failed,
            starts,
            ends,
            told,
        })
    }

    fn some_node() -> impl Strategy<Value = NodeConfig> {
        let sizes = prop_oneof![3 => Just((1, None)), 1 => (1u16..20).prop_map(|most| (most, Some(2)))];
        (1u16..20, prop::option::of(0.05f64..4.0), sizes).prop_map(|(slots, service_s, (batch, start))| NodeConfig {
            slots,
            service_s,
            batch,
            start,
            ..NodeConfig::default()
        })
    }

    proptest! {
        #[test]
        fn the_choice_is_always_what_asking_all_says(
            nodes in prop::collection::vec(some_node(), 1..6),
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut route = Route::new(&RouteConfig { nodes, ..RouteConfig::default() });
            let count = route.nodes.len() as u16;
            let (mut now, mut item, mut under_way) = (0, 0, Vec::new());
            for Step { passed, waiting, failed, starts, ends, told } in steps {
                now += passed;
                if let Some((node, up, slots)) = told {
                    route.set_up(node % count, up);
                    route.set_room(node % count, slots);
                }
                if let Some((which, spent)) = ends && !under_way.is_empty() {
                    let (node, item) = under_way.swap_remove(which % under_way.len());
                    route.ended(now, node, item, spent);
                }
                for more in (0..=starts).rev() {
                    let chosen = route.choose(now, waiting + more, failed);
                    prop_assert_eq!(chosen, chosen_by_asking_all(&route, now, waiting + more, failed));
                    let Some(node) = chosen else { break };
                    route.started(now, node, item);
                    under_way.push((node, item));
                    item += 1;
                }
            }
        }

        #[test]
        fn what_ends_last_elsewhere_is_what_asking_every_node_of_every_item_says(
            services in prop::collection::vec(prop::option::of(0.01f64..2.0), 1..5),
            starts in prop::collection::vec((0u64..4_000_000_000, 0u16..5, 0u32..12), 0..40),
            barred in 0u32..12,
        ) {
            let nodes = services.iter().map(|&service_s| NodeConfig { slots: 64, service_s, ..NodeConfig::default() });
            let mut route = Route::new(&RouteConfig { nodes: nodes.collect(), ..RouteConfig::default() });
            let count = route.nodes.len() as u16;
            for (at, node, item) in starts {
                let is_there = route.nodes[usize::from(node % count)].flights().any(|f| f.item == item);
                if !is_there {
                    route.started(at, node % count, item);
                }
            }
            let (now, may) = (4_000_000_000, |item| item != barred);
            let best = route.fastest_ns(now);
            route.see_under_way(now, best, may);
            for node in 0..count {
                let here = &route.nodes[usize::from(node)];
                let others = route.nodes.iter().flat_map(Node::flights).map(|f| f.item);
                let others = others.filter(|&item| may(item) && !here.flights().any(|h| h.item == item));
                let left = others.map(|item| (item, ends_in(&route, now, best, item)));
                let last = left.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
                prop_assert_eq!(route.last_to_end(node), last);
            }
        }
    }
}
