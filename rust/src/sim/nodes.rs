//! A batch over nodes of unequal speed, in virtual time: the policy that drives real nodes, against nodes that are a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Deserialize;

use super::draw::Draws;
use super::drive::{Start, World, drive};
use super::{ServiceError, SimError};
use crate::policy::{
    AttemptId, Config, ConfigError, End, Event, FixedConfig, LimitConfig, NodeConfig, Outcome, Policy, RouteConfig,
    Spread, Verdict,
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
        self.slower.map_or(Ok(()), |(_, factor)| above_0("slower", factor))?;
        match (0.0..=3.0).contains(&self.noise) {
            true => Ok(()),
            false => Err(ServiceError::Number { what: "noise", rule: "from 0 to 3", value: self.noise }),
        }
    }

    /// A node that is always up and as fast as at first.
    pub fn steady(service_s: f64, noise: f64) -> Self {
        Self { service_s, noise, slots: 1, down: Vec::new(), fails_in_s: 0.001, slower: None }
    }

    fn is_down(&self, at_s: f64) -> bool {
        self.down.iter().any(|&(from, to)| from <= at_s && at_s < to)
    }

    /// When what starts now ends, and whether with an answer.
    fn serve(&self, now_s: f64, draws: Draws) -> (f64, bool) {
        let scatter = (self.noise * draws.normal(0) - self.noise * self.noise / 2.0).exp();
        if self.is_down(now_s) {
            return (now_s + self.fails_in_s, false);
        }
        let factor = self.slower.filter(|&(from, _)| now_s >= from).map_or(1.0, |(_, factor)| factor);
        let ends = now_s + self.service_s * factor * scatter;
        match self.down.iter().find(|&&(from, _)| now_s < from && from < ends) {
            Some(&(from, _)) => (from + self.fails_in_s, false),
            None => (ends, true),
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
}

/// The policy for these nodes.
///
/// # Arguments
/// - `known`: their speeds have been measured before.
pub fn policy(nodes: &[NodeService], spread: Spread, known: bool) -> Result<Config, ConfigError> {
    let slots: u32 = nodes.iter().map(|node| u32::from(node.slots)).sum();
    let nodes = nodes.iter().map(|node| NodeConfig {
        slots: node.slots,
        service_s: known.then_some(node.service_s),
        weight: 20.0,
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
    let driven = drive(policy, Pool { nodes, seed, ends: BinaryHeap::new() }, items)?;
    Ok(counted(&driven.policy, driven.wall_ns, nodes.len()))
}

fn counted(policy: &Policy, wall_ns: u64, nodes: usize) -> Batch {
    let (mut served, mut attempts) = (vec![0; nodes], vec![0; nodes]);
    for attempt in (0..policy.attempts().len()).filter_map(|attempt| policy.attempts().get(attempt)) {
        attempts[usize::from(attempt.node)] += 1;
    }
    let done = (0..policy.items().len()).filter_map(|item| policy.items().get(item));
    for winner in done.filter(|item| item.verdict == Some(Verdict::Ok)).filter_map(|item| item.winner) {
        if let Some(row) = policy.attempts().get(winner) {
            served[usize::from(row.node)] += 1;
        }
    }
    let ok = served.iter().sum();
    Batch {
        makespan_s: wall_ns as f64 / 1e9,
        copies: policy.totals().hedges,
        ok,
        failed: u64::from(policy.items().len()) - ok,
        served,
        attempts,
    }
}

/// The least seconds in which so many whole items can be done, if each takes its node's mean time.
pub fn optimum_s(nodes: &[NodeService], items: u32) -> f64 {
    let mut ends: Vec<(f64, f64)> =
        nodes.iter().flat_map(|node| (0..node.slots).map(|_| (node.service_s, node.service_s))).collect();
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
    /// When which attempt ends, and whether well.
    ends: BinaryHeap<Reverse<(u64, AttemptId, bool)>>,
}

impl World for Pool<'_> {
    fn start(&mut self, now: u64, start: Start) {
        let draws = Draws::new(self.seed, start.attempt, u32::from(start.node));
        let (ends_s, good) = self.nodes[usize::from(start.node)].serve(now as f64 / 1e9, draws);
        self.ends.push(Reverse(((ends_s * 1e9).round() as u64, start.attempt, good)));
    }

    fn cancel(&mut self, _: u64, _: AttemptId) {}

    fn next(&mut self) -> Option<u64> {
        self.ends.peek().map(|Reverse((at, ..))| *at)
    }

    fn take(&mut self) -> Option<Event> {
        let Reverse((_, attempt, good)) = self.ends.pop()?;
        let outcome = if good { Outcome::Ok } else { Outcome::Failed };
        Some(Event::Ended { attempt, end: End { outcome, ..End::default() } })
    }
}
