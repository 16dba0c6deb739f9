//! Which node takes the next item: the fastest free one, unless the others would be through before it has finished one; and
//! at the end, which item is worth a copy on a node that has nothing left to do.
//!
//! It knows times, not addresses. Whoever drives it tells it what started and ended where.

mod node;
mod speed;

use serde::{Deserialize, Serialize};

pub use node::{NodeView, Spent};
use node::Node;
pub use speed::SPREAD;

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
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { slots: 1, service_s: None, weight: 4.0 }
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
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self { nodes: vec![NodeConfig::default()], spread: Spread::Auto, half_life_s: 60.0 }
    }
}

/// While free nodes wait for busier, faster ones, the choice is made again after this share of the fastest node's time, since
/// an item that doesn't end makes its node look slower.
const AGAIN: f64 = 0.1;
const AGAIN_LEAST_NS: f64 = 1e6;

/// Chooses nodes. A function of what it is told, and of nothing else.
#[derive(Clone, Debug)]
pub struct Route {
    nodes: Vec<Node>,
    spread: Spread,
    /// The nodes by speed, the fastest first; made anew for each choice.
    order: Vec<(f64, u16)>,
}

impl Route {
    /// For these nodes, none of which is at work.
    pub fn new(config: &RouteConfig) -> Self {
        let half_life = (config.half_life_s * 1e9) as u64;
        let nodes: Vec<Node> = config.nodes.iter().map(|node| Node::new(node, half_life)).collect();
        let order = Vec::with_capacity(nodes.len());
        Self { nodes, spread: config.spread, order }
    }

    /// How many nodes there are, working or not.
    pub fn count(&self) -> u16 {
        self.nodes.len() as u16
    }

    /// An attempt at `item` has started on `node`.
    pub fn started(&mut self, now: u64, node: u16, item: u32) {
        self.nodes[usize::from(node)].started(now, item);
    }

    /// The attempt at `item` on `node` has ended.
    pub fn ended(&mut self, now: u64, node: u16, item: u32, spent: Spent) {
        let fastest = self.fastest_ns(now);
        self.nodes[usize::from(node)].ended(now, item, spent, fastest);
    }

    /// Take a node out, or in again: its circuit breaker or its health check says so.
    pub fn set_up(&mut self, node: u16, up: bool) {
        self.nodes[usize::from(node)].up = up;
    }

    /// The node for the next of `waiting` items, where one should take it now. `not` is the node that the item has just
    /// failed on: another takes it if there is one.
    pub fn choose(&mut self, now: u64, waiting: u32, not: Option<u16>) -> Option<u16> {
        let best = self.sort(now);
        let alone = self.order.iter().all(|&(_, node)| Some(node) == not);
        let all = self.spread != Spread::Auto;
        self.order.iter().copied().find_map(|(takes, node)| {
            let free = self.nodes[usize::from(node)].is_free(now) && (alone || Some(node) != not);
            (free && (all || self.is_worth_it(now, node, takes, best, waiting))).then_some(node)
        })
    }

    /// The item that is most worth a copy, and the node that has time for it. Only for when nothing waits. `may` says of an
    /// item whether it may have one more.
    pub fn choose_copy(&mut self, now: u64, may: impl Fn(u32) -> bool) -> Option<(u32, u16)> {
        self.sort(now);
        let best = self.order.first()?.0;
        self.order.iter().copied().find_map(|(takes, node)| {
            let here = &self.nodes[usize::from(node)];
            let (item, left) = here.is_free(now).then(|| self.last_to_end(now, best, here, &may))??;
            (takes < left).then_some((item, node))
        })
    }

    /// When to ask again if nothing happens before.
    pub fn again_at(&mut self, now: u64) -> Option<u64> {
        let best = self.sort(now);
        let pause = best.is_finite().then(|| now + (best * AGAIN).max(AGAIN_LEAST_NS) as u64);
        let held = self.nodes.iter().filter_map(|node| node.held(now)).min();
        pause.into_iter().chain(held).min()
    }

    /// What is known of a node.
    pub fn view(&self, node: u16) -> NodeView {
        self.nodes[usize::from(node)].view()
    }

    /// Put the nodes that may work in order of what the next item would take there, and return the least time known
    /// (infinite if none is).
    fn sort(&mut self, now: u64) -> f64 {
        let best = self.fastest_ns(now);
        self.order.clear();
        let up = self.nodes.iter().enumerate().filter(|(_, node)| node.up);
        self.order.extend(up.map(|(i, node)| (node.takes_ns(now, best), i as u16)));
        self.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Spread::Fastest(most) = self.spread {
            self.order.truncate(usize::from(most));
        }
        best
    }

    fn fastest_ns(&self, now: u64) -> f64 {
        let known = self.nodes.iter().filter(|node| node.up).filter_map(|node| node.known_ns(now));
        known.fold(f64::INFINITY, f64::min)
    }

    /// Whether `node`, which takes so long, would have an item done before the others are through with all of them. Nobody knows
    /// the speed of a node that hasn't finished anything: it is tried while there is more to do than one item's worth.
    fn is_worth_it(&self, now: u64, node: u16, takes: f64, best: f64, waiting: u32) -> bool {
        if best.is_infinite() {
            return true;
        }
        let mut others = 0.0;
        for &(time, other) in &self.order {
            let there = &self.nodes[usize::from(other)];
            others += there.ends_within(now, takes, time, best, other == node);
            if others >= f64::from(waiting) {
                return false;
            }
        }
        true
    }

    /// Of what is under way elsewhere, the item that will end last, and in how long.
    fn last_to_end(&self, now: u64, best: f64, here: &Node, may: &impl Fn(u32) -> bool) -> Option<(u32, f64)> {
        let flights = self.nodes.iter().flat_map(Node::flights);
        let others = flights.map(|f| f.item).filter(|&item| may(item) && !here.flights().any(|h| h.item == item));
        others
            .map(|item| (item, self.ends_in(now, best, item)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// In how long the first of an item's copies ends.
    fn ends_in(&self, now: u64, best: f64, item: u32) -> f64 {
        let copies = self.nodes.iter().flat_map(|node| node.flights().map(move |f| (f, node))).filter(|(f, _)| f.item == item);
        copies.map(|(f, node)| node.left_ns(now, f, best)).fold(f64::INFINITY, f64::min)
    }
}
