//! How many requests each node has in flight, over all workers; and for how many more a node counts that has just failed, for
//! who fails at once has the fewest.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A failure counts for half as much after so many nanoseconds, and for half of that after as many again.
const HALF_LIFE_NS: u64 = 1_000_000_000;
/// Bits of a [`Failing`] in its cell's word that hold the time.
const TIME_BITS: u32 = 48;

/// A counter a node. Nobody counts for a single one.
#[derive(Debug)]
pub(super) struct InFlight(Box<[Cell]>);

/// One node's, with a cache line of its own: it is written by every worker.
#[derive(Debug)]
#[repr(align(128))]
struct Cell {
    count: AtomicU32,
    /// [`Failing::word`] of its failures in a row; 0 while it has none.
    failing: AtomicU64,
}

impl InFlight {
    /// Nothing in flight at any of so many nodes.
    pub(super) fn new(nodes: u16) -> Self {
        let counted = if nodes > 1 { nodes } else { 0 };
        Self((0..counted).map(|_| Cell { count: AtomicU32::new(0), failing: AtomicU64::new(0) }).collect())
    }

    /// One more at `node`.
    #[inline]
    pub(super) fn enter(&self, node: u16) {
        if let Some(cell) = self.0.get(usize::from(node)) {
            // Relaxed: a count by itself, as in `leave` and `enter_least`; nothing is published with it.
            cell.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One less at `node`, which had entered it: it ended at `now`, well or not; or how it ended says nothing of the node.
    #[inline]
    pub(super) fn leave(&self, node: u16, now: u64, well: Option<bool>) {
        let Some(cell) = self.0.get(usize::from(node)) else { return };
        match well {
            Some(true) => cell.succeed(),
            Some(false) => cell.fail(now),
            None => {}
        }
        // Relaxed: as in `enter`.
        cell.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more at the node with the fewest at `now`; of several, at the first from `turn` on.
    pub(super) fn enter_least(&self, turn: u16, now: u64) -> u16 {
        let (nodes, turn) = (self.0.len(), usize::from(turn));
        loop {
            // Relaxed: as in `enter`. A count that has changed meanwhile fails the exchange, so two workers never take the
            // same place.
            let counts = (turn..turn + nodes).map(|at| (self.0[at % nodes].count.load(Ordering::Relaxed), at % nodes));
            let weighed =
                counts.map(|(count, node)| (u64::from(count) + u64::from(self.0[node].weight(now)), count, node));
            let Some((_, count, node)) = weighed.min_by_key(|(weight, ..)| *weight) else { return 0 };
            let cell = &self.0[node].count;
            if cell.compare_exchange_weak(count, count + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return node as u16;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> Vec<u32> {
        // Relaxed: as in `enter`.
        self.0.iter().map(|cell| cell.count.load(Ordering::Relaxed)).collect()
    }
}

impl Cell {
    /// What its failures count for at `now`.
    fn weight(&self, now: u64) -> u16 {
        // Relaxed: a heuristic by itself; nothing is published with it, here or below.
        match self.failing.load(Ordering::Relaxed) {
            0 => 0,
            word => Failing::of(word).weight_at(now),
        }
    }

    fn succeed(&self) {
        // Relaxed: as in `weight`. Looked at first: as long as all goes well the line isn't written twice.
        if self.failing.load(Ordering::Relaxed) != 0 {
            self.failing.store(0, Ordering::Relaxed);
        }
    }

    fn fail(&self, now: u64) {
        let again = |word| Some(Failing::of(word).again(now).word());
        // Relaxed: as in `weight`. It never refuses.
        let _ = self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, again);
    }
}

/// A node's failures in a row: for how many requests in flight they counted, and when. One counts for one, each further one for
/// as many again as those before it do by then, and one more; so a node that is away gets about one request in a half-life,
/// however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failing {
    /// At most 65,535, of which nothing is left after 16 half-lives.
    weight: u16,
    at_us: u64,
}

impl Failing {
    fn of(word: u64) -> Self {
        Self { weight: (word >> TIME_BITS) as u16, at_us: word & ((1 << TIME_BITS) - 1) }
    }

    fn word(self) -> u64 {
        u64::from(self.weight) << TIME_BITS | self.at_us & ((1 << TIME_BITS) - 1)
    }

    fn weight_at(self, now: u64) -> u16 {
        let halvings = now.saturating_sub(self.at_us * 1_000) / HALF_LIFE_NS;
        self.weight.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn again(self, now: u64) -> Self {
        let weight = self.weight_at(now);
        Self { weight: weight.saturating_mul(2).saturating_add(1), at_us: now / 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const S: u64 = HALF_LIFE_NS;

    #[test]
    fn a_failure_counts_for_a_request_and_fades() {
        let in_flight = InFlight::new(2);
        in_flight.enter(0);
        in_flight.leave(0, S, Some(false));
        assert_eq!(in_flight.counts(), [0, 0]);
        assert_eq!(in_flight.enter_least(0, S), 1, "it has none in flight, and counts for one");
        assert_eq!(in_flight.enter_least(0, S), 0, "now both have one");
        in_flight.leave(0, S, None);
        assert_eq!(in_flight.enter_least(1, 2 * S), 0, "a second later it counts for none");
    }

    #[test]
    fn failures_in_a_row_double_and_one_success_ends_them() {
        let failed = |times: &[u64]| times.iter().fold(Failing::of(0), |failing, at| failing.again(*at));
        assert_eq!([1, 2, 3].map(|many| failed(&vec![S; many]).weight_at(S)), [1, 3, 7]);
        assert_eq!([0, 1, 2, 3].map(|later| failed(&[S; 3]).weight_at(S + later * S)), [7, 3, 1, 0]);
        assert_eq!(failed(&[S; 99]).weight_at(S), u16::MAX);
        assert_eq!((failed(&[S; 99]).weight_at(16 * S), failed(&[S; 99]).weight_at(17 * S)), (1, 0));
        assert_eq!(failed(&[S, 4 * S]).weight_at(4 * S), 1, "what is long ago is forgotten");
        let cell = &InFlight::new(2).0[0];
        (0..9).for_each(|_| cell.fail(S));
        cell.succeed();
        assert_eq!(cell.weight(S), 0);
    }

    #[test]
    fn what_it_is_kept_as_holds_all_of_it() {
        for failing in [Failing { weight: u16::MAX, at_us: (1 << TIME_BITS) - 1 }, Failing { weight: 1, at_us: 0 }] {
            assert_eq!(Failing::of(failing.word()), failing);
        }
    }

    /// Requests to each node in a closed loop over two nodes, by second: the first takes from once to twice as long as `takes`,
    /// the second refuses at once until it is `back`, and then is as fast.
    fn asked(slots: usize, takes: u64, back: u64, seconds: u64) -> Vec<[u64; 2]> {
        let in_flight = InFlight::new(2);
        let mut asked = vec![[0; 2]; seconds as usize];
        let mut ends: BinaryHeap<Reverse<(u64, u16, bool)>> = BinaryHeap::new();
        let (mut now, mut free) = (0, slots);
        for index in 0u64.. {
            if free == 0 {
                let Some(Reverse((at, node, well))) = ends.pop() else { break };
                in_flight.leave(node, at, Some(well));
                (now, free) = (at, 1);
            }
            if now >= seconds * S {
                break;
            }
            let node = in_flight.enter_least((index % 2) as u16, now);
            asked[(now / S) as usize][usize::from(node)] += 1;
            let well = node == 0 || now >= back;
            // A refusal takes its time, too, though not much.
            let lasts = if well { takes + takes * (index * 7_919 % 1_000) / 1_000 } else { S / 10_000 };
            ends.push(Reverse((now + lasts, node, well)));
            free -= 1;
        }
        asked
    }

    #[test]
    fn a_node_that_refuses_at_once_gets_about_one_request_a_second() {
        for (slots, takes) in [(1, S / 20), (4, S / 20), (64, S / 2), (1_000, 5 * S)] {
            let asked = asked(slots, takes, u64::MAX, 60);
            // Half of what comes in the very first moment, before anybody can know.
            let refused: u64 = asked.iter().map(|[_, second]| second).sum::<u64>() - slots as u64 / 2;
            assert!((10..120).contains(&refused), "{slots} slots, {takes} ns: {refused} refused");
        }
    }

    #[test]
    fn a_node_that_is_back_gets_its_share_within_seconds() {
        let asked = asked(8, S / 20, 30 * S, 60);
        let [first, second] = asked[35..].iter().fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
        assert!(first.abs_diff(second) * 20 < first, "{first} and {second}");
    }
}

#[cfg(all(test, loadgen_loom))]
mod model {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn two_workers_never_take_the_same_place() {
        loom::model(|| {
            let in_flight = Arc::new(InFlight::new(2));
            let theirs = Arc::clone(&in_flight);
            let other = loom::thread::spawn(move || theirs.enter_least(0, 0));
            let mine = in_flight.enter_least(0, 0);
            assert_ne!(mine, other.join().unwrap(), "the second to come finds the first one's node fuller");
            assert_eq!(in_flight.counts(), [1, 1]);
        });
    }

    #[test]
    fn two_failures_at_a_time_are_two() {
        loom::model(|| {
            let in_flight = Arc::new(InFlight::new(2));
            let theirs = Arc::clone(&in_flight);
            let other = loom::thread::spawn(move || theirs.0[0].fail(0));
            in_flight.0[0].fail(0);
            other.join().unwrap();
            assert_eq!(in_flight.0[0].weight(0), 3);
        });
    }
}
