//! The line in which items wait for their next start: one for all, first come, first served.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::ItemId;

/// A queue of items, kept as runs of neighbours: a million items that were queued together take one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    runs: VecDeque<Run>,
    /// Those that had their turn and were sent back for it: before all others, and among themselves as they came.
    sent_back: BinaryHeap<Reverse<ItemId>>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: ItemId,
    count: u32,
}

impl Line {
    /// Let `count` items from `first` on join at the end.
    pub(super) fn join(&mut self, first: ItemId, count: u32) {
        if count == 0 {
            return;
        }
        match self.runs.back_mut() {
            Some(run) if run.first.checked_add(run.count) == Some(first) => run.count += count,
            _ => self.runs.push_back(Run { first, count }),
        }
    }

    /// Let an item that had its turn join again where it was.
    pub(super) fn rejoin(&mut self, item: ItemId) {
        self.sent_back.push(Reverse(item));
    }

    /// Take out the one that stands so far from the end, as a `share` of the line, if it is `wanted`; else the last one of its run
    /// that is, from the end on.
    pub(super) fn take_from_end(&mut self, share: f64, wanted: impl Fn(ItemId) -> bool) -> Option<ItemId> {
        let all: u64 = self.runs.iter().map(|run| u64::from(run.count)).sum();
        self.take_at((share * all as f64) as u64, &wanted).or_else(|| self.take_last(wanted))
    }

    /// Take out the one before which so many stand, counted from the end.
    fn take_at(&mut self, mut back: u64, wanted: impl Fn(ItemId) -> bool) -> Option<ItemId> {
        let at = self.runs.iter().rposition(|run| {
            let here = back < u64::from(run.count);
            back -= if here { 0 } else { u64::from(run.count) };
            here
        })?;
        let Run { first, count } = self.runs[at];
        let before = count - 1 - back as u32;
        let item = Some(first + before).filter(|&item| wanted(item))?;
        self.runs.remove(at);
        let rest = [Run { first, count: before }, Run { first: item + 1, count: back as u32 }];
        rest.into_iter().rev().filter(|run| run.count > 0).for_each(|run| self.runs.insert(at, run));
        Some(item)
    }

    /// Take out the last one of its run that is `wanted`, from the end of the line on.
    fn take_last(&mut self, wanted: impl Fn(ItemId) -> bool) -> Option<ItemId> {
        let last = |run: &Run| run.first + (run.count - 1);
        let at = self.runs.iter().rposition(|run| wanted(last(run)))?;
        let run = self.runs.get_mut(at)?;
        let item = last(run);
        run.count -= 1;
        if run.count == 0 {
            self.runs.remove(at);
        }
        Some(item)
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<ItemId> {
        let sent_back = self.sent_back.peek().map(|&Reverse(item)| item);
        sent_back.or_else(|| self.runs.front().map(|run| run.first))
    }

    /// Let the first one go.
    pub(super) fn leave(&mut self) {
        if self.sent_back.pop().is_some() {
            return;
        }
        let Some(run) = self.runs.front_mut() else { return };
        run.first += 1;
        run.count -= 1;
        if run.count == 0 {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_leaves_first_and_neighbours_share_an_entry() {
        let mut line = Line::default();
        line.join(0, 3);
        line.join(3, 1);
        line.join(9, 0);
        assert_eq!(line.runs.len(), 1);
        line.join(1, 1);
        line.join(4, 2);
        let mut left = Vec::new();
        while let Some(item) = line.first() {
            left.push(item);
            line.leave();
        }
        assert_eq!(left, [0, 1, 2, 3, 1, 4, 5]);
    }

    #[test]
    fn the_last_that_is_wanted_may_be_taken_out() {
        let mut line = Line::default();
        line.join(0, 3);
        line.join(7, 1);
        assert_eq!(line.take_last(|item| item < 7), Some(2));
        assert_eq!(line.take_last(|item| item == 7), Some(7));
        assert_eq!(line.take_last(|item| item == 5), None);
        assert_eq!((line.first(), line.runs.len()), (Some(0), 1));
    }

    #[test]
    fn whoever_stands_anywhere_may_be_taken_out_and_the_others_keep_their_places() {
        let mut line = Line::default();
        line.join(0, 4);
        line.join(10, 4);
        assert_eq!(line.take_from_end(0.0, |_| true), Some(13));
        assert_eq!(line.take_from_end(0.2, |_| true), Some(11), "the second of seven from the end");
        assert_eq!(line.take_from_end(0.999, |_| true), Some(0));
        assert_eq!(line.take_from_end(0.6, |item| item != 2), Some(12), "that one isn't wanted: the last");
        assert_eq!(line.take_from_end(0.3, |item| item > 99), None);
        let left = std::iter::from_fn(|| line.first().inspect(|_| line.leave()));
        assert_eq!(left.collect::<Vec<_>>(), [1, 2, 3, 10]);
        assert_eq!(line.take_from_end(0.0, |_| true), None);
    }

    #[test]
    fn who_is_sent_back_comes_before_the_others_in_the_order_of_coming() {
        let mut line = Line::default();
        line.join(0, 6);
        (0..4).for_each(|_| line.leave());
        [3, 1, 2].into_iter().for_each(|item| line.rejoin(item));
        let left = std::iter::from_fn(|| line.first().inspect(|_| line.leave()));
        assert_eq!(left.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}
