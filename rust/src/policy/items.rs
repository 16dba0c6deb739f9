//! What is kept of each item, until it is to be forgotten: 48 bytes.

use super::rows::Rows;
use super::slots::NONE;
use super::{AttemptId, ItemId, Verdict};

/// All items that were ever queued.
#[derive(Clone, Debug)]
pub struct Items {
    rows: Rows<Row>,
}

/// What is known of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// When it was queued.
    pub queued_ns: u64,
    /// Whose hedges are judged together with its own.
    pub key: u32,
    /// Tokens it was expected to cost.
    pub tokens: u32,
    /// How it ended; none while it goes on.
    pub verdict: Option<Verdict>,
    /// The attempt whose answer or error stands.
    pub winner: Option<AttemptId>,
    /// Its latest attempt; the others are found from there.
    pub last: Option<AttemptId>,
    /// Nanoseconds in line while no permit was free.
    pub limit_ns: u64,
    /// Nanoseconds in line while a rate held everybody back.
    pub rate_ns: u64,
    /// Nanoseconds of backing off, in steps of a microsecond.
    pub backoff_ns: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    queued: u64,
    /// Time waited for a permit; while it stands in line, the clock of such waits less that.
    limit: u64,
    /// The same for the rate.
    rate: u64,
    backoff_us: u32,
    pub(super) key: u32,
    pub(super) tokens: u32,
    /// While it is under way: the slot of its call. Then: the attempt that stands.
    at: u32,
    pub(super) last: u32,
    pub(super) state: State,
    in_line: bool,
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// It was never started.
    Waiting,
    /// It has a call.
    UnderWay,
    /// It is done.
    Resolved(Verdict),
}

/// How long, in all, starts were held back by now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct HeldBack {
    /// By the limit.
    pub(super) limit: u64,
    /// By a rate.
    pub(super) rate: u64,
}

impl Items {
    pub(super) fn new() -> Self {
        Self { rows: Rows::new() }
    }

    /// How many there ever were.
    pub fn len(&self) -> u32 {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of an item; nothing of one that was forgotten.
    pub fn get(&self, item: ItemId) -> Option<Item> {
        let row = self.rows.get(item)?;
        let verdict = match row.state {
            State::Resolved(verdict) => Some(verdict),
            State::Waiting | State::UnderWay => None,
        };
        let waited = |ns| if row.in_line { 0 } else { ns };
        Some(Item {
            queued_ns: row.queued,
            key: row.key,
            tokens: row.tokens,
            verdict,
            winner: verdict.and((row.at != NONE).then_some(row.at)),
            last: (row.last != NONE).then_some(row.last),
            limit_ns: waited(row.limit),
            rate_ns: waited(row.rate),
            backoff_ns: u64::from(row.backoff_us) * 1_000,
        })
    }

    /// Forget the oldest ones that are done.
    pub(super) fn forget(&mut self) {
        self.rows.forget_while(|row| matches!(row.state, State::Resolved(_)));
    }

    /// Add one that is in line.
    pub(super) fn push(&mut self, queued: u64, key: u32, tokens: u32, held: HeldBack) {
        self.rows.push(Row {
            queued,
            limit: held.limit,
            rate: held.rate,
            backoff_us: 0,
            key,
            tokens,
            at: NONE,
            last: NONE,
            state: State::Waiting,
            in_line: true,
        });
    }

    pub(super) fn row(&self, item: ItemId) -> &Row {
        &self.rows[item]
    }

    pub(super) fn state(&self, item: ItemId) -> Option<State> {
        self.rows.get(item).map(|row| row.state)
    }

    /// The slot of an item's call, while it has one.
    pub(super) fn call(&self, item: ItemId) -> Option<u32> {
        let row = self.rows.get(item)?;
        (row.state == State::UnderWay).then_some(row.at)
    }

    /// It has got a call, in this slot.
    pub(super) fn get_under_way(&mut self, item: ItemId, slot: u32) {
        let row = &mut self.rows[item];
        row.at = slot;
        row.state = State::UnderWay;
    }

    /// It steps into the line; returns what it had waited in it before.
    pub(super) fn join_line(&mut self, item: ItemId, held: HeldBack) -> HeldBack {
        let before = self.waited(item);
        self.swap(item, true, held);
        before
    }

    /// It steps out of the line; returns what it has waited in it by now.
    pub(super) fn leave_line(&mut self, item: ItemId, held: HeldBack) -> HeldBack {
        self.swap(item, false, held);
        self.waited(item)
    }

    fn waited(&self, item: ItemId) -> HeldBack {
        let row = &self.rows[item];
        HeldBack { limit: row.limit, rate: row.rate }
    }

    /// From time waited to clock less time waited, and back: twice adds what the clock has moved on meanwhile.
    fn swap(&mut self, item: ItemId, in_line: bool, held: HeldBack) {
        let row = &mut self.rows[item];
        if row.in_line != in_line {
            row.limit = held.limit.wrapping_sub(row.limit);
            row.rate = held.rate.wrapping_sub(row.rate);
            row.in_line = in_line;
        }
    }

    /// It has an attempt more; returns the one before.
    pub(super) fn tried(&mut self, item: ItemId, attempt: AttemptId) -> u32 {
        std::mem::replace(&mut self.rows[item].last, attempt)
    }

    /// It has backed off.
    pub(super) fn backed_off(&mut self, item: ItemId, ns: u64) {
        let us = &mut self.rows[item].backoff_us;
        *us = us.saturating_add(u32::try_from(ns / 1_000).unwrap_or(u32::MAX));
    }

    /// It is done, and no longer in line.
    pub(super) fn resolve(&mut self, item: ItemId, winner: Option<AttemptId>, verdict: Verdict) {
        let row = &mut self.rows[item];
        row.at = winner.unwrap_or(NONE);
        row.state = State::Resolved(verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_line_add_up_over_returns_to_it() {
        let mut items = Items::new();
        let held = |limit, rate| HeldBack { limit, rate };
        items.push(5, 0, 0, held(100, 10));
        assert_eq!(items.leave_line(0, held(130, 10)), held(30, 0));
        assert_eq!(items.leave_line(0, held(999, 999)), held(30, 0));
        assert_eq!(items.join_line(0, held(200, 20)), held(30, 0));
        assert_eq!(items.leave_line(0, held(207, 25)), held(37, 5));
        let item = items.get(0).unwrap();
        assert_eq!((item.queued_ns, item.limit_ns, item.rate_ns), (5, 37, 5));
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<Row>(), 48);
    }
}
