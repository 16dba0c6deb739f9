//! Where a call goes: the one place that chooses a node.

use super::BreakerConfig;
use super::breaker::{Breaker, Gate};

/// The most nodes there can be: a call remembers those it was sent to in a word of bits.
pub(super) const MOST: u16 = 64;

/// All nodes.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    in_flight: u32,
    breaker: Option<Breaker>,
}

/// What the choice came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// This one; as its probe, or as usual.
    Node { node: u16, probe: bool },
    /// None takes a call before this; never, if it depends on what is in flight.
    Wait(Option<u64>),
    /// None will take one soon enough to keep anybody waiting.
    GiveUp,
}

impl Nodes {
    pub(super) fn new(count: u16, breaker: Option<&BreakerConfig>) -> Self {
        let node = Node { in_flight: 0, breaker: breaker.map(Breaker::new) };
        Self { nodes: vec![node; usize::from(count)] }
    }

    /// Choose where the next call goes: the least busy of those that take calls, one outside `taken` if there is any.
    ///
    /// # Arguments
    /// - `now`: nanoseconds.
    /// - `taken`: nodes, as bits, that have a copy of the call already.
    /// - `copy`: it is a copy of a live one, and never a probe.
    #[inline]
    pub(super) fn choose(&self, now: u64, taken: u64, copy: bool) -> Choice {
        let mut best: Option<(bool, bool, u32, u16)> = None;
        let mut wait: Option<u64> = None;
        let mut dead = 0;
        for (i, node) in self.nodes.iter().enumerate() {
            let i = i as u16;
            let probe = match node.breaker.as_ref().map_or(Gate::Open, |breaker| breaker.gate(now)) {
                Gate::Open => false,
                Gate::Probe if !copy => true,
                Gate::Probe => continue,
                Gate::Shut(until) => {
                    wait = wait.into_iter().chain(until).min();
                    continue;
                }
                Gate::Dead(until) => {
                    wait = wait.into_iter().chain([until]).min();
                    dead += 1;
                    continue;
                }
            };
            // A probe goes first: it is due, and it is one.
            let rank = (taken & bit(i) != 0, !probe, node.in_flight, i);
            best = Some(best.map_or(rank, |best| best.min(rank)));
        }
        match best {
            Some((_, not_probe, _, node)) => Choice::Node { node, probe: !not_probe },
            None if dead == self.nodes.len() && !copy => Choice::GiveUp,
            None => Choice::Wait(wait),
        }
    }

    /// A call was started on a node.
    pub(super) fn started(&mut self, node: u16, probe: bool) {
        let node = &mut self.nodes[usize::from(node)];
        node.in_flight += 1;
        if let (true, Some(breaker)) = (probe, &mut node.breaker) {
            breaker.probing();
        }
    }

    /// A call on a node is over. `says` whether the node is well, if that can be said.
    pub(super) fn over(&mut self, now: u64, node: u16, probe: bool, says: Says) {
        let node = &mut self.nodes[usize::from(node)];
        node.in_flight -= 1;
        let Some(breaker) = &mut node.breaker else { return };
        if probe {
            let alive = match says {
                Says::Well | Says::Busy => Some(true),
                Says::Ill { .. } => Some(false),
                Says::Nothing => None,
            };
            breaker.probed(now, alive);
        }
        match says {
            Says::Well => breaker.ended(now, false),
            Says::Ill { counted: false } => breaker.ended(now, true),
            Says::Ill { counted: true } | Says::Busy | Says::Nothing => {}
        }
    }
}

/// What the end of a call says of its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Says {
    /// It answered.
    Well,
    /// It wants less: it lives.
    Busy,
    /// It failed; for this item not for the first time, if `counted`: an item that fails everywhere is one failure.
    Ill { counted: bool },
    /// Nothing: the call was dropped, or was itself at fault.
    Nothing,
}

/// A node as a bit.
#[inline]
pub(super) fn bit(node: u16) -> u64 {
    1 << (node % MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_the_least_busy_and_copies_elsewhere() {
        let mut nodes = Nodes::new(3, None);
        let chosen = |nodes: &Nodes, taken, copy| match nodes.choose(0, taken, copy) {
            Choice::Node { node, .. } => node,
            other => panic!("{other:?}"),
        };
        for expected in [0, 1, 2, 0] {
            assert_eq!(chosen(&nodes, 0, false), expected);
            nodes.started(expected, false);
        }
        assert_eq!(chosen(&nodes, bit(1), true), 2);
        assert_eq!(chosen(&nodes, bit(1) | bit(2), true), 0);
        assert_eq!(chosen(&nodes, 7, true), 1);
    }

    #[test]
    fn a_shut_node_is_left_out_and_probed_when_its_time_has_come() {
        let config = BreakerConfig { failures: Some(1), probes: 1, ..BreakerConfig::default() };
        let mut nodes = Nodes::new(2, Some(&config));
        let ill = Says::Ill { counted: false };
        nodes.started(0, false);
        nodes.over(0, 0, false, ill);
        assert_eq!(nodes.choose(1, 0, false), Choice::Node { node: 1, probe: false });
        nodes.started(1, false);
        nodes.over(5, 1, false, ill);
        let due = 30_000_000_000;
        assert_eq!(nodes.choose(6, 0, false), Choice::Wait(Some(due)));
        assert_eq!(nodes.choose(due, 0, false), Choice::Node { node: 0, probe: true });
        assert_eq!(nodes.choose(due, 0, true), Choice::Wait(Some(due + 5)), "a copy is no probe");
        nodes.started(0, true);
        nodes.over(due, 0, true, ill);
        nodes.started(1, true);
        nodes.over(due + 5, 1, true, ill);
        assert_eq!(nodes.choose(due + 6, 0, false), Choice::GiveUp);
    }

    #[test]
    fn a_probe_that_is_pushed_back_shows_that_the_node_lives() {
        let config = BreakerConfig { failures: Some(1), ..BreakerConfig::default() };
        let mut nodes = Nodes::new(1, Some(&config));
        nodes.started(0, false);
        nodes.over(0, 0, false, Says::Ill { counted: false });
        nodes.started(0, true);
        assert_eq!(nodes.choose(u64::MAX, 0, false), Choice::Wait(None));
        nodes.over(1, 0, true, Says::Busy);
        assert_eq!(nodes.choose(1, 0, false), Choice::Node { node: 0, probe: false });
    }
}
