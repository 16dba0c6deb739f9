//! Where a call goes: the one place that chooses a node.

use super::breaker::{Breaker, Gate};
use super::route::{NodeView, Route, RouteConfig, Spent};
use super::{BreakerConfig, ItemId};

/// The most nodes there can be: a call remembers those it was sent to in a word of bits.
pub(super) const MOST: u16 = 64;

/// All nodes.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// Where their speeds matter.
    route: Option<Route>,
}

#[derive(Clone, Debug)]
struct Node {
    in_flight: u32,
    /// A health check left it out.
    is_out: bool,
    /// When it last answered.
    answered: Option<u64>,
    breaker: Option<Breaker>,
}

impl Node {
    /// Whether it takes calls.
    #[inline]
    fn gate(&self, now: u64) -> Gate {
        if self.is_out {
            return Gate::Dead(None);
        }
        self.breaker.as_ref().map_or(Gate::Open, |breaker| breaker.gate(now))
    }
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
    pub(super) fn new(count: u16, breaker: Option<&BreakerConfig>, route: Option<&RouteConfig>) -> Self {
        let count = route.map_or(usize::from(count), |route| route.nodes.len());
        // Where there are others it matters who is at fault: one item more shows it.
        let breaker = breaker.map(|config| Breaker::new(config, count > 1));
        let node = Node { in_flight: 0, is_out: false, answered: None, breaker };
        Self { nodes: vec![node; count], route: route.map(Route::new) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// What is known of a node, where speeds matter.
    pub(super) fn view(&self, now: u64, node: u16) -> Option<NodeView> {
        let view = self.route.as_ref().and_then(|route| route.view(node))?;
        let gate = self.nodes[usize::from(node)].gate(now);
        // A breaker that is shut until something ends has its probe under way.
        Some(NodeView { up: gate == Gate::Open, half_open: matches!(gate, Gate::Probe | Gate::Shut(None)), ..view })
    }

    /// At the end of a batch: an item that is worth a copy, and the node that has time for it. Or when to ask again.
    ///
    /// # Arguments
    /// - `now`: nanoseconds.
    /// - `started`: items and copies that were started.
    /// - `may`: whether an item may have one more copy.
    pub(super) fn worth_a_copy(
        &mut self,
        now: u64,
        started: (u64, u64),
        may: impl Fn(ItemId) -> bool,
    ) -> Result<(ItemId, u16), Option<u64>> {
        self.look(now);
        let Some(route) = &mut self.route else { return Err(None) };
        if !route.affords(started.0, started.1) {
            return Err(None);
        }
        route.choose_copy(now, may).ok_or_else(|| route.again_at(now))
    }

    /// A node takes so many items at the same time from now on; 0 for none. One that there isn't changes nothing.
    pub(super) fn set_room(&mut self, node: u16, slots: u16) {
        let Some(one) = self.nodes.get_mut(usize::from(node)) else { return };
        one.is_out = slots == 0;
        if let (Some(route), 1..) = (&mut self.route, slots) {
            route.set_room(node, slots);
        }
    }

    /// Choose where the next call goes: the least busy of those that take calls, one outside `avoid` if there is any.
    ///
    /// # Arguments
    /// - `now`: nanoseconds.
    /// - `waiting`: items in line, this one among them.
    /// - `avoid`: nodes, as bits, that have a copy of the call already, or have failed it.
    /// - `copy`: it is a copy of a live one, and never a probe.
    #[inline]
    pub(super) fn choose(&mut self, now: u64, waiting: u32, avoid: u64, copy: bool) -> Choice {
        let Self { nodes, route } = self;
        let mut best: Option<(bool, bool, u32, u16)> = None;
        let mut wait: Option<u64> = None;
        let mut dead = 0;
        for (i, node) in nodes.iter().enumerate() {
            let (i, gate) = (i as u16, node.gate(now));
            if let Some(route) = route {
                route.set_up(i, gate == Gate::Open);
            }
            let probe = match gate {
                Gate::Open => false,
                Gate::Probe if !copy => true,
                Gate::Probe => continue,
                Gate::Shut(until) => {
                    wait = wait.into_iter().chain(until).min();
                    continue;
                }
                Gate::Dead(until) => {
                    wait = wait.into_iter().chain(until).min();
                    dead += 1;
                    continue;
                }
            };
            // A probe goes first: it is due, and it is one.
            let rank = (avoid & bit(i) != 0, !probe, node.in_flight, i);
            best = Some(best.map_or(rank, |best| best.min(rank)));
        }
        if let (Some(route), Some((_, true, ..))) = (route, best) {
            return match route.choose(now, waiting, avoid) {
                Some(node) => Choice::Node { node, probe: false },
                None => Choice::Wait(wait.into_iter().chain(route.again_at(now)).min()),
            };
        }
        match best {
            Some((_, not_probe, _, node)) => Choice::Node { node, probe: !not_probe },
            None if dead == nodes.len() && !copy => Choice::GiveUp,
            None => Choice::Wait(wait),
        }
    }

    /// Whether a node may take an item that failed on these, as bits.
    pub(super) fn has_another(&mut self, now: u64, failed: u64) -> bool {
        self.look(now);
        match &mut self.route {
            Some(route) => route.has_another(now, failed),
            None => (0..self.nodes.len()).any(|i| failed & bit(i as u16) == 0 && self.nodes[i].gate(now) == Gate::Open),
        }
    }

    /// Tell the route which nodes take calls.
    fn look(&mut self, now: u64) {
        let Some(route) = &mut self.route else { return };
        for (i, node) in self.nodes.iter().enumerate() {
            route.set_up(i as u16, node.gate(now) == Gate::Open);
        }
    }

    /// A call was started on a node.
    pub(super) fn started(&mut self, now: u64, node: u16, item: ItemId, probe: bool) {
        if let Some(route) = &mut self.route {
            route.started(now, node, item);
        }
        let node = &mut self.nodes[usize::from(node)];
        node.in_flight += 1;
        if let (true, Some(breaker)) = (probe, &mut node.breaker) {
            breaker.probing();
        }
    }

    /// A call on a node is over.
    ///
    /// # Arguments
    /// - `now`: nanoseconds.
    /// - `says`: whether the node is well, if that can be said.
    pub(super) fn over(&mut self, now: u64, node: u16, item: ItemId, probe: bool, says: Says) {
        let mut is_new = true;
        if let Some(route) = &mut self.route {
            let spent = match says {
                Says::Well => Spent::Served,
                Says::Busy | Says::Ill { .. } | Says::Silent { .. } => Spent::Failed,
                Says::OfItem => Spent::Excused,
                Says::Nothing => Spent::Dropped,
            };
            is_new = route.ended(now, node, item, spent);
        }
        let node = &mut self.nodes[usize::from(node)];
        node.in_flight -= 1;
        if says == Says::Well {
            node.answered = Some(now);
        }
        let Some(breaker) = &mut node.breaker else { return };
        if probe {
            let alive = match says {
                Says::Well | Says::Busy => Some(true),
                Says::Ill { .. } | Says::Silent { .. } => Some(false),
                Says::OfItem | Says::Nothing => None,
            };
            breaker.probed(now, alive);
        }
        match says {
            Says::Well => breaker.ended(now, false),
            Says::Busy => breaker.lives(now),
            Says::Ill { counted: false } if is_new => breaker.ended(now, true),
            Says::Silent { counted: false } if is_new => breaker.silent(now),
            Says::Ill { .. } | Says::Silent { .. } | Says::OfItem | Says::Nothing => {}
        }
    }

    /// A call on a node ended; somebody was there who took it, or nobody.
    #[inline]
    pub(super) fn met(&mut self, node: u16, somebody: bool) {
        if let (true, Some(breaker)) = (somebody, &mut self.nodes[usize::from(node)].breaker) {
            breaker.met();
        }
    }

    /// Whether none will take a call soon enough to keep anybody waiting.
    pub(super) fn are_dead(&self, now: u64) -> bool {
        self.nodes.iter().all(|node| matches!(node.gate(now), Gate::Dead(_)))
    }

    /// Whether a node has answered since.
    pub(super) fn has_answered(&self, node: u16, since: u64) -> bool {
        self.nodes[usize::from(node)].answered.is_some_and(|at| at >= since)
    }

    /// An item that failed on these nodes, as bits, was at fault itself: its failures aren't theirs.
    pub(super) fn excuse(&mut self, now: u64, blamed: u64) {
        for (i, node) in self.nodes.iter_mut().enumerate().filter(|(i, _)| blamed & bit(*i as u16) != 0) {
            if let Some(breaker) = &mut node.breaker {
                breaker.excuse(now);
            }
            if let Some(route) = &mut self.route {
                route.excuse(now, i as u16);
            }
        }
    }

    /// Whether it says anything of a node that a call which began at `since` ran out of time there.
    pub(super) fn is_telling(&self, node: u16, since: u64) -> bool {
        self.nodes[usize::from(node)].breaker.as_ref().is_some_and(|breaker| breaker.is_telling(since))
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
    /// It failed for the item's own sake, which others have failed at that do all else.
    OfItem,
    /// It gave no answer in time. `counted` as above, or because it answered others meanwhile.
    Silent { counted: bool },
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
        let mut nodes = Nodes::new(3, None, None);
        let chosen = |nodes: &mut Nodes, avoid, copy| match nodes.choose(0, 1, avoid, copy) {
            Choice::Node { node, .. } => node,
            other => panic!("{other:?}"),
        };
        for expected in [0, 1, 2, 0] {
            assert_eq!(chosen(&mut nodes, 0, false), expected);
            nodes.started(0, expected, 0, false);
        }
        assert_eq!(chosen(&mut nodes, bit(1), true), 2);
        assert_eq!(chosen(&mut nodes, bit(1) | bit(2), true), 0);
        assert_eq!(chosen(&mut nodes, 7, true), 1);
    }

    #[test]
    fn a_node_that_failed_is_probed_at_once_and_then_left_out_until_its_time_has_come() {
        let config = BreakerConfig { failures: Some(1), probes: 2, ..BreakerConfig::default() };
        let mut nodes = Nodes::new(2, Some(&config), None);
        let ill = Says::Ill { counted: false };
        nodes.started(0, 0, 0, false);
        nodes.over(0, 0, 0, false, ill);
        let (due, cooldown) = (30_000_000_000, 30_000_000_000);
        // Perhaps it was the item; another one shows it.
        assert_eq!(nodes.choose(0, 1, 0, false), Choice::Node { node: 0, probe: true });
        nodes.started(0, 0, 1, true);
        nodes.over(0, 0, 1, true, ill);
        assert_eq!(nodes.choose(1, 1, 0, false), Choice::Node { node: 1, probe: false });
        for probe in [false, true] {
            nodes.started(1, 1, 0, probe);
            nodes.over(5, 1, 0, probe, ill);
        }
        assert_eq!(nodes.choose(6, 1, 0, false), Choice::Wait(Some(due)));
        assert_eq!(nodes.choose(due, 1, 0, false), Choice::Node { node: 0, probe: true });
        assert_eq!(nodes.choose(due, 1, 0, true), Choice::Wait(Some(due + 5)), "a copy is no probe");
        for (node, at) in [(0, due), (1, due + 5)] {
            nodes.started(at, node, 0, true);
            nodes.over(at, node, 0, true, ill);
        }
        assert_eq!(nodes.choose(due + 6, 1, 0, false), Choice::GiveUp);
        assert_eq!(nodes.choose(due + cooldown, 1, 0, false), Choice::Node { node: 0, probe: true });
    }

    #[test]
    fn a_probe_that_is_pushed_back_shows_that_the_node_lives() {
        let config = BreakerConfig { failures: Some(1), ..BreakerConfig::default() };
        let mut nodes = Nodes::new(1, Some(&config), None);
        nodes.started(0, 0, 0, false);
        nodes.over(0, 0, 0, false, Says::Ill { counted: false });
        nodes.started(0, 0, 0, true);
        assert_eq!(nodes.choose(u64::MAX, 1, 0, false), Choice::Wait(None));
        nodes.over(1, 0, 0, true, Says::Busy);
        assert_eq!(nodes.choose(1, 1, 0, false), Choice::Node { node: 0, probe: false });
    }

    /// Two nodes, the first of which is shut after one failure and due for a probe at the time that is returned.
    fn one_is_shut() -> (Nodes, u64) {
        let config = BreakerConfig { failures: Some(1), cooldown_s: 1.0, ..BreakerConfig::default() };
        let mut nodes = Nodes::new(2, Some(&config), None);
        nodes.started(0, 0, 0, false);
        nodes.over(0, 0, 0, false, Says::Ill { counted: false });
        (nodes, 1_000_000_000)
    }

    #[test]
    fn an_item_that_was_at_fault_itself_opens_its_nodes_again() {
        let (mut nodes, _) = one_is_shut();
        assert!(!nodes.has_answered(1, 0), "nobody knows yet");
        nodes.started(1, 1, 7, false);
        nodes.over(1, 1, 7, false, Says::Well);
        assert!(nodes.has_answered(1, 1) && !nodes.has_answered(1, 2));
        nodes.started(2, 1, 0, false);
        nodes.over(2, 1, 0, false, Says::OfItem);
        nodes.excuse(2, bit(0));
        assert_eq!(nodes.choose(2, 1, 0, false), Choice::Node { node: 0, probe: true }, "at once, not after a second");
    }

    #[test]
    fn a_node_that_is_left_out_gets_nothing_until_it_is_back() {
        let mut nodes = Nodes::new(2, None, None);
        nodes.set_room(0, 0);
        nodes.set_room(9, 0);
        assert_eq!(nodes.choose(0, 1, 0, false), Choice::Node { node: 1, probe: false });
        nodes.set_room(1, 0);
        assert_eq!(nodes.choose(0, 1, 0, false), Choice::GiveUp, "nobody is left");
        nodes.set_room(0, 4);
        assert_eq!(nodes.choose(0, 1, 0, false), Choice::Node { node: 0, probe: false });
    }
}
