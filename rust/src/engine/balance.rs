//! Which of several nodes a request of the load generator goes to: a pure choice by its place in the plan, its session, or
//! what each node has in flight.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bodies::Bodies;
use super::in_flight::InFlight;
use crate::sync::Arc;

/// The longest round of weighted nodes, in requests.
const LONGEST_ROUND: u64 = 65_536;

/// How requests are spread over nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BalanceConfig {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest in flight, of which what has just failed is one; among several, the one whose turn it
    /// would be.
    LeastInFlight,
    /// All requests of a session to one.
    Session,
    /// In turn, each as often in a round as its weight says.
    Weighted {
        /// One for each node, in their order.
        weights: Vec<u32>,
    },
}

/// Why requests can't be spread so.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalanceError {
    /// As many weights as nodes.
    #[error("{weights} weights for {nodes} nodes: each node has one")]
    Count {
        /// Weights given.
        weights: usize,
        /// Nodes there are.
        nodes: u16,
    },
    /// A node that would never get a request.
    #[error("the weight of node {0} is 0: leave the node out instead")]
    Zero(usize),
    /// More requests in a round than are planned ahead.
    #[error("the weights add up to {0}, with nothing to divide them by; at most 65,536 requests make a round")]
    TooLong(u64),
    /// Samples that belong to no session.
    #[error("requests are balanced by session, and the samples have none")]
    NoSessions,
}

/// What a phase asks for each of its requests; shared by all workers.
#[derive(Debug)]
pub(super) struct Balance {
    way: Way,
    in_flight: Arc<InFlight>,
}

#[derive(Debug)]
enum Way {
    /// To the only one, or wherever somebody else says.
    Given,
    /// The nodes of one round, which goes on and on.
    Round(Box<[u16]>),
    Least {
        nodes: u16,
    },
    /// The node of each sample.
    Sessions(Box<[u16]>),
}

impl Balance {
    /// Over so many `nodes`, whose requests in flight are counted in `in_flight`, for requests of these `bodies`.
    pub(super) fn new(
        config: &BalanceConfig,
        nodes: u16,
        bodies: &Bodies,
        in_flight: &Arc<InFlight>,
    ) -> Result<Self, BalanceError> {
        let way = match config {
            BalanceConfig::Weighted { weights } => Way::Round(round(weights, nodes)?),
            _ if nodes < 2 => Way::Given,
            BalanceConfig::RoundRobin => Way::Round((0..nodes).collect()),
            BalanceConfig::LeastInFlight => Way::Least { nodes },
            BalanceConfig::Session if bodies.sessions().is_empty() => return Err(BalanceError::NoSessions),
            BalanceConfig::Session => Way::Sessions(bodies.sessions().iter().map(|key| node_of(*key, nodes)).collect()),
        };
        Ok(Self { way, in_flight: Arc::clone(in_flight) })
    }

    /// For requests whose node somebody else decides.
    pub(super) fn elsewhere() -> Self {
        Self { way: Way::Given, in_flight: Arc::new(InFlight::new(1)) }
    }

    /// The node of the request with this index in the phase's plan, of this sample. It counts as in flight there from `now`
    /// on, until [`InFlight::leave`].
    #[inline]
    pub(super) fn choose(&self, index: u64, sample: u64, now: u64) -> u16 {
        let node = match &self.way {
            Way::Given => return 0,
            Way::Round(round) => round[(index % round.len() as u64) as usize],
            Way::Least { nodes } => return self.in_flight.enter_least((index % u64::from(*nodes)) as u16, now),
            Way::Sessions(nodes) => nodes[sample as usize],
        };
        self.in_flight.enter(node);
        node
    }

    /// A request goes to this node because whoever asked for it named it; it counts there as one that was chosen.
    pub(super) fn named(&self, node: u16) -> u16 {
        self.in_flight.enter(node);
        node
    }

    /// Whether requests may go to this node.
    pub(super) fn reaches(&self, node: u16) -> bool {
        match &self.way {
            Way::Given => true,
            Way::Round(nodes) | Way::Sessions(nodes) => nodes.contains(&node),
            Way::Least { nodes } => node < *nodes,
        }
    }
}

/// The nodes of one round: each as often as its weight, spread as evenly as can be (smooth weighted round robin, as nginx
/// has it: the one that is furthest behind its share is next).
fn round(weights: &[u32], nodes: u16) -> Result<Box<[u16]>, BalanceError> {
    if weights.len() != usize::from(nodes) {
        return Err(BalanceError::Count { weights: weights.len(), nodes });
    }
    if let Some(node) = weights.iter().position(|weight| *weight == 0) {
        return Err(BalanceError::Zero(node));
    }
    let divisor = weights.iter().fold(0, |a, b| greatest_divisor(a, *b)).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    if total as u64 > LONGEST_ROUND {
        return Err(BalanceError::TooLong(total as u64));
    }
    let mut behind = vec![0; weights.len()];
    let next = |_| {
        behind.iter_mut().zip(&weights).for_each(|(behind, weight)| *behind += weight);
        let most = behind.iter().copied().max().unwrap_or_default();
        let node = behind.iter().position(|behind| *behind == most).unwrap_or_default();
        behind[node] -= total;
        node as u16
    };
    Ok((0..total).map(next).collect())
}

fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// The node of a session: the same one whoever asks, and with one node more only as many sessions move as that one gets
/// (jump consistent hash; Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014).
fn node_of(session: u64, nodes: u16) -> u16 {
    let (mut key, mut node, mut next) = (session, 0, 0);
    while next < i64::from(nodes) {
        node = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((node + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    node as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(sessions: &[u64]) -> Bodies {
        let count = sessions.len().max(1);
        let all = Bodies::new((0..count).map(|_| br#"{"a":1}"#.as_slice()), vec![]).unwrap();
        if sessions.is_empty() { all } else { all.with_sessions(sessions.to_vec()).unwrap() }
    }

    fn balance(config: &BalanceConfig, nodes: u16) -> Result<(Balance, Arc<InFlight>), BalanceError> {
        let in_flight = Arc::new(InFlight::new(nodes));
        Ok((Balance::new(config, nodes, &bodies(&[]), &in_flight)?, in_flight))
    }

    fn chosen(config: &BalanceConfig, nodes: u16, requests: u64) -> Vec<u16> {
        let (balance, _) = balance(config, nodes).unwrap();
        (0..requests).map(|index| balance.choose(index, 0, 0)).collect()
    }

    fn weighted(weights: &[u32]) -> BalanceConfig {
        BalanceConfig::Weighted { weights: weights.to_vec() }
    }

    #[test]
    fn the_plans_requests_go_to_one_node_after_the_other() {
        assert_eq!(chosen(&BalanceConfig::RoundRobin, 3, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(chosen(&BalanceConfig::RoundRobin, 1, 3), [0, 0, 0]);
    }

    #[test]
    fn weighted_nodes_take_turns_that_are_spread_over_the_round() {
        assert_eq!(chosen(&weighted(&[5, 1, 1]), 3, 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(chosen(&weighted(&[200, 100]), 2, 6), [0, 1, 0, 0, 1, 0], "weights are shares");
        assert_eq!(chosen(&weighted(&[7]), 1, 2), [0, 0]);
    }

    #[test]
    fn weights_that_make_no_round_are_refused_by_what_is_wrong() {
        let refused = |weights: &[u32]| balance(&weighted(weights), 2).unwrap_err();
        assert_eq!(refused(&[1, 2, 3]), BalanceError::Count { weights: 3, nodes: 2 });
        assert_eq!(refused(&[1, 0]), BalanceError::Zero(1));
        assert_eq!(refused(&[u32::MAX, 1]), BalanceError::TooLong(1 << 32));
        assert!(balance(&weighted(&[65_535, 1]), 2).is_ok());
    }

    #[test]
    fn the_node_with_the_fewest_in_flight_is_next() {
        let (balance, in_flight) = balance(&BalanceConfig::LeastInFlight, 3).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| balance.choose(index, 0, 0)), [0, 1, 2, 0]);
        in_flight.leave(2, 0, None);
        in_flight.leave(0, 0, None);
        in_flight.leave(0, 0, None);
        assert_eq!(in_flight.counts(), [0, 1, 0]);
        assert_eq!((balance.named(2), in_flight.counts()), (2, vec![0, 1, 1]), "who was named has one as well");
        in_flight.leave(2, 0, None);
        assert_eq!(
            [7, 8].map(|index| balance.choose(index, 0, 0)),
            [2, 0],
            "of those with as few, the one whose turn it would be"
        );
    }

    #[test]
    fn a_session_stays_at_its_node_and_moves_only_to_a_new_one() {
        let keys: Vec<u64> = (0..3_000).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let balance = Balance::new(&BalanceConfig::Session, 4, &bodies(&keys), &Arc::new(InFlight::new(4))).unwrap();
        for sample in [0, 1, 2_999] {
            let nodes: Vec<u16> = (0..5).map(|index| balance.choose(index, sample, 0)).collect();
            assert_eq!(nodes, [node_of(keys[sample as usize], 4); 5], "whatever its place in the plan");
        }
        let shares = |nodes: u16| {
            let mut shares = vec![0u32; usize::from(nodes)];
            keys.iter().for_each(|key| shares[usize::from(node_of(*key, nodes))] += 1);
            shares
        };
        assert!(shares(4).iter().all(|share| (600..900).contains(share)), "{:?}", shares(4));
        let moved = keys.iter().filter(|key| node_of(**key, 4) != node_of(**key, 5)).count() as u32;
        assert_eq!(moved, shares(5)[4], "who moves goes to the new node");
    }

    #[test]
    fn without_sessions_nothing_can_be_balanced_by_them() {
        assert_eq!(balance(&BalanceConfig::Session, 2).unwrap_err(), BalanceError::NoSessions);
    }

    #[test]
    fn only_nodes_that_a_session_leads_to_are_reached() {
        let reached = |balance: &Balance| (0..4).map(|node| balance.reaches(node)).collect::<Vec<_>>();
        let in_flight = Arc::new(InFlight::new(4));
        let by_session = Balance::new(&BalanceConfig::Session, 4, &bodies(&[7, 7, 7]), &in_flight).unwrap();
        let own = node_of(7, 4);
        assert_eq!(reached(&by_session), (0..4).map(|node| node == own).collect::<Vec<_>>());
        for config in [BalanceConfig::RoundRobin, BalanceConfig::LeastInFlight, weighted(&[1, 2, 3, 4])] {
            assert_eq!(reached(&balance(&config, 4).unwrap().0), [true; 4]);
        }
        assert_eq!(reached(&Balance::elsewhere()), [true; 4]);
    }

    proptest! {
        #[test]
        fn every_round_is_exact_and_no_node_ever_far_from_its_share(
            weights in prop::collection::vec(1u32..20, 1..6),
        ) {
            let total: u32 = weights.iter().sum();
            let chosen = chosen(&weighted(&weights), weights.len() as u16, u64::from(total));
            for (node, weight) in weights.iter().enumerate() {
                let mut got = 0;
                for (at, node_then) in chosen.iter().enumerate() {
                    got += u32::from(usize::from(*node_then) == node);
                    let share = (at + 1) as f64 * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(got) - share).abs() <= weights.len() as f64, "node {node} at {at}");
                }
                prop_assert_eq!(got, *weight);
            }
        }

        #[test]
        fn the_counts_never_differ_by_more_than_one_while_nothing_ends(nodes in 2u16..9, turns in prop::collection::vec(any::<u64>(), 0..80)) {
            let (balance, in_flight) = balance(&BalanceConfig::LeastInFlight, nodes).unwrap();
            for index in turns {
                balance.choose(index, 0, 0);
                let counts = in_flight.counts();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            }
        }
    }
}
