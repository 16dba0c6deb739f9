//! A batch over nodes of unequal speed, in virtual time: the policy that drives real nodes, against nodes that are a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Deserialize;

use super::draw::Draws;
use super::drive::{Start, World, drive};
use super::service::ns;
use super::{ServiceError, SimError};
use crate::policy::{
    AttemptId, Config, ConfigError, End, Event, FixedConfig, ItemId, LimitConfig, NodeConfig, Outcome, Policy,
    RouteConfig, Spread, Verdict,
};

/// A node as it is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct NodeService {
    /// Mean seconds for an item.
    pub service_s: f64,
    /// Standard deviation of the time's logarithm; 0 for always the same.
    pub noise: f64,
    /// Items at the same time.
    pub slots: u16,
    /// From when to when it is down, in seconds; what it has or is sent then fails, after so many more seconds.
    pub down: Vec<(f64, f64)>,
    /// Seconds after which a failure comes.
    pub fails_in_s: f64,
    /// From when on it takes so many times longer.
    pub slower: Option<(f64, f64)>,
    /// Items that it can't do: each fails at once.
    pub poison: Vec<ItemId>,
    /// The most items that a request to it carries: those that start in the same instant.
    pub batch: u16,
    /// How many that is is learned, from this number on.
    pub start: Option<u16>,
    /// Seconds that a request takes beside those of its items.
    pub request_s: f64,
    /// A request with more items is refused; its halves are sent one after the other, and the policy is told.
    pub refuses_above: Option<u16>,
    /// It isn't needed while the others do more than this share of what they did at first.
    pub spare: Option<f64>,
}

impl Default for NodeService {
    fn default() -> Self {
        Self::steady(1.0, 0.0)
    }
}

impl NodeService {
    /// Check what came from outside: that a time is one, and that there is room for an item.
    ///
    /// # Errors
    /// The value that breaks a rule.
    pub fn check(&self) -> Result<(), ServiceError> {
        let above_0 = |what, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(ServiceError::Number { what, rule: "finite and above 0", value }),
        };
        above_0("service_s", self.service_s)?;
        above_0("fails_in_s", self.fails_in_s)?;
        above_0("slots", f64::from(self.slots))?;
        above_0("refuses_above", self.refuses_above.map_or(1.0, f64::from))?;
        if !(self.request_s.is_finite() && self.request_s >= 0.0) {
            return Err(ServiceError::Number {
                what: "request_s",
                rule: "finite and 0 or more",
                value: self.request_s,
            });
        }
        self.slower.map_or(Ok(()), |(_, factor)| above_0("slower", factor))?;
        match (0.0..=3.0).contains(&self.noise) {
            true => Ok(()),
            false => Err(ServiceError::Number { what: "noise", rule: "from 0 to 3", value: self.noise }),
        }
    }

    /// A node that is always up and as fast as at first.
    pub fn steady(service_s: f64, noise: f64) -> Self {
        Self {
            service_s,
            noise,
            slots: 1,
            down: Vec::new(),
            fails_in_s: 0.001,
            slower: None,
            poison: Vec::new(),
            batch: 1,
            start: None,
            request_s: 0.0,
            refuses_above: None,
            spare: None,
        }
    }

    fn is_down(&self, at_s: f64) -> bool {
        self.down.iter().any(|&(from, to)| from <= at_s && at_s < to)
    }

    /// When a request with so many items that starts now ends, and whether with an answer.
    fn serve(&self, now_s: f64, items: u16, draws: Draws) -> (f64, bool) {
        let scatter = (self.noise * draws.normal(0) - self.noise * self.noise / 2.0).exp();
        if self.is_down(now_s) {
            return (now_s + self.fails_in_s, false);
        }
        let factor = self.slower.filter(|&(from, _)| now_s >= from).map_or(1.0, |(_, factor)| factor);
        let ends = now_s + self.seconds(items) * factor * scatter;
        match self.down.iter().find(|&&(from, _)| now_s < from && from < ends) {
            Some(&(from, _)) => (from + self.fails_in_s, false),
            None => (ends, true),
        }
    }

    /// Mean seconds of a request: with its halves, one after the other, where it is refused for its size.
    fn seconds(&self, items: u16) -> f64 {
        match self.refuses_above.filter(|&most| items > most) {
            Some(_) => self.request_s + self.seconds(items / 2) + self.seconds(items - items / 2),
            None => self.request_s + self.service_s * f64::from(items),
        }
    }
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Seconds to the last item's end.
    pub makespan_s: f64,
    /// Copies made beside the items.
    pub copies: u64,
    /// Items that were answered, and that were not.
    pub ok: u64,
    /// Those.
    pub failed: u64,
    /// Answers that stand, by node.
    pub served: Vec<u64>,
    /// Attempts, by node.
    pub attempts: Vec<u64>,
    /// The most items that a request carried at the end, by node.
    pub batch: Vec<u16>,
    /// Which items were answered by none, in their order.
    pub lost: Vec<ItemId>,
}

/// The policy for these nodes.
///
/// # Arguments
/// - `known`: their speeds have been measured before.
pub fn policy(nodes: &[NodeService], spread: Spread, known: bool) -> Result<Config, ConfigError> {
    let slots: u32 = nodes.iter().map(|node| u32::from(node.slots)).sum();
    let nodes = nodes.iter().map(|node| NodeConfig {
        slots: node.slots,
        service_s: known.then(|| node.seconds(1)),
        weight: 20.0,
        batch: node.batch,
        start: node.start,
        spare: node.spare,
    });
    let route = RouteConfig { nodes: nodes.collect(), spread, ..RouteConfig::default() };
    let mut config = Config::named("parallel", slots, None, None)?;
    config.limit = LimitConfig::Fixed(FixedConfig { n: slots });
    config.attempt_timeout_s = 3_600.0;
    config.route = Some(route);
    Ok(config)
}

/// Run a batch.
///
/// # Errors
/// A policy that is none, or a node that can't be.
pub fn run(config: &Config, nodes: &[NodeService], items: u32, seed: u64) -> Result<Batch, SimError> {
    nodes.iter().try_for_each(NodeService::check)?;
    let policy = Policy::new(config, seed)?;
    let driven = drive(policy, Pool::new(nodes, seed), items)?;
    Ok(counted(&driven.policy, driven.wall_ns, nodes.len()))
}

fn counted(policy: &Policy, wall_ns: u64, nodes: usize) -> Batch {
    let mut batch = Batch {
        makespan_s: wall_ns as f64 / 1e9,
        copies: policy.totals().hedges,
        served: vec![0; nodes],
        attempts: vec![0; nodes],
        batch: (0..).map_while(|node| policy.node(node)).map(|view| view.batch).collect(),
        ..Batch::default()
    };
    for attempt in (0..policy.attempts().len()).filter_map(|attempt| policy.attempts().get(attempt)) {
        batch.attempts[usize::from(attempt.node)] += 1;
    }
    for item in 0..policy.items().len() {
        let row = policy.items().get(item);
        let winner = row.filter(|row| row.verdict == Some(Verdict::Ok)).and_then(|row| row.winner);
        match winner.and_then(|winner| policy.attempts().get(winner)) {
            Some(attempt) => batch.served[usize::from(attempt.node)] += 1,
            None => batch.lost.push(item),
        }
    }
    batch.ok = batch.served.iter().sum();
    batch.failed = batch.lost.len() as u64;
    batch
}

/// The least seconds in which so many whole items can be done, if each takes its node's mean time.
pub fn optimum_s(nodes: &[NodeService], items: u32) -> f64 {
    let mut ends: Vec<(f64, f64)> =
        nodes.iter().flat_map(|node| (0..node.slots).map(|_| (node.seconds(1), node.seconds(1)))).collect();
    let mut last = 0.0;
    for _ in 0..items {
        if let Some(first) = ends.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0)) {
            last = first.0;
            first.0 += first.1;
        }
    }
    last
}

/// The nodes at work. What was cancelled goes on to its end there, which is news to nobody.
struct Pool<'a> {
    nodes: &'a [NodeService],
    seed: u64,
    /// By node: what starts in this instant, for one request.
    open: Vec<Vec<Start>>,
    opened: u64,
    ends: BinaryHeap<Reverse<(u64, What)>>,
}

/// What a policy is told of a node; in this order, if at the same time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    /// Which node takes no more than how many.
    Room(u16, u16),
    /// Which attempt ended, and whether well.
    Ended(AttemptId, bool),
}

impl<'a> Pool<'a> {
    fn new(nodes: &'a [NodeService], seed: u64) -> Self {
        Self { nodes, seed, open: vec![Vec::new(); nodes.len()], opened: 0, ends: BinaryHeap::new() }
    }

    /// Send the request that these are.
    fn send(&mut self, now: u64, starts: &[Start]) {
        let Some(&Start { attempt, node: number, .. }) = starts.first() else { return };
        let node = &self.nodes[usize::from(number)];
        let draws = Draws::new(self.seed, attempt, u32::from(number));
        let items = starts.len() as u16;
        let (ends_s, good) = node.serve(now as f64 / 1e9, items, draws);
        let ends = ns(ends_s);
        for start in starts {
            let what = match node.poison.contains(&start.item) {
                true => (now.saturating_add(ns(node.fails_in_s)), What::Ended(start.attempt, false)),
                false => (ends, What::Ended(start.attempt, good)),
            };
            self.ends.push(Reverse(what));
        }
        if let Some(most) = node.refuses_above.filter(|&most| good && items > most) {
            self.ends.push(Reverse((ends, What::Room(number, most))));
        }
    }
}

impl World for Pool<'_> {
    fn start(&mut self, now: u64, start: Start) {
        if self.nodes[usize::from(start.node)].batch == 1 {
            return self.send(now, &[start]);
        }
        self.opened = now;
        self.open[usize::from(start.node)].push(start);
    }

    fn cancel(&mut self, _: u64, _: AttemptId) {}

    fn next(&mut self) -> Option<u64> {
        for node in 0..self.open.len() {
            let starts = std::mem::take(&mut self.open[node]);
            for request in starts.chunks(usize::from(self.nodes[node].batch)) {
                self.send(self.opened, request);
            }
        }
        self.ends.peek().map(|Reverse((at, _))| *at)
    }

    fn take(&mut self) -> Option<Event> {
        let Reverse((_, what)) = self.ends.pop()?;
        Some(match what {
            What::Ended(attempt, good) => {
                let outcome = if good { Outcome::Ok } else { Outcome::Failed };
                Event::Ended { attempt, end: End { outcome, ..End::default() } }
            }
            What::Room(node, slots) => Event::Room { node, slots },
        })
    }
}
