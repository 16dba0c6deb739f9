//! What a policy is given: the items of the phase, in lots, until there are no more or nobody wants them.

use std::cell::RefCell;

use super::Dispatch;
use crate::engine::config::Completions;
use crate::engine::reason::StopReason;
use crate::policy::{Event, ItemId, Policy};
use crate::schedule::{Load, SampleOrder};

/// So many items are handed to the policy at once; of more, the rest as these get under way.
const AHEAD: u32 = 1 << 16;

/// Of a load without a number of requests, so many items stand in line.
const AHEAD_ENDLESS: u32 = 256;

impl Dispatch {
    /// Hand items to the policy, or take back what it has: the phase decides.
    pub(super) fn supply(&self, now: u64) {
        if now.saturating_sub(self.start) >= self.phase.shared.duration_ns() {
            self.phase.shared.stop(StopReason::Duration);
        }
        if self.is_cancelled(now) {
            self.take_back(now);
            self.give_up(now);
        } else if self.phase.shared.stopped() {
            self.take_back(now);
        } else {
            self.queue(now);
        }
    }

    /// How many items may stand in line.
    fn ahead(&self) -> u32 {
        if self.phase.shared.config.requests.is_some() { AHEAD } else { AHEAD_ENDLESS }
    }

    /// Whether all that it has is under way, and more may come.
    pub(super) fn wants_more(&self) -> bool {
        !self.closed.get() && self.in_line.get() == 0
    }

    fn queue(&self, now: u64) {
        // In lots: an item at a time would be an event for each.
        let room = self.ahead() - self.in_line.get().min(self.ahead());
        if self.closed.get() || room < self.ahead() / 2 {
            return;
        }
        self.forget();
        // Those that are alike, in one event.
        let mut alike = (0, 0, 0);
        for _ in 0..room {
            let Some(index) = self.phase.shared.claim() else {
                self.closed.set(true);
                break;
            };
            let (key, tokens) = self.marks(index);
            if (key, tokens) != (alike.1, alike.2) {
                self.join(now, alike);
                alike = (0, key, tokens);
            }
            alike.0 += 1;
            if self.phase.shared.is_last(index) {
                self.closed.set(true);
                break;
            }
        }
        self.join(now, alike);
        if self.closed.get() {
            self.tell(now, Event::Closed);
        }
    }

    /// Let the policy forget what is over, unless whoever waits for the answers will ask what each call met: a load may go on
    /// for days, and its log has it all.
    fn forget(&self) {
        if self.phase.shared.config.completions != Completions::Answers
            && let Some(policy) = &mut *self.policy.borrow_mut()
        {
            policy.forget();
        }
    }

    /// So many items more stand in line, with this key and these tokens.
    fn join(&self, now: u64, (count, key, tokens): (u32, u32, u32)) {
        if count > 0 {
            self.in_line.set(self.in_line.get() + count);
            self.tell(now, Event::Queued { count, key, tokens });
        }
    }

    /// Whose hedges are judged with those of the item of this index, and how many tokens it will cost.
    fn marks(&self, index: u64) -> (u32, u32) {
        let Load::Dispatch { keys, tokens, .. } = &self.phase.shared.config.load else { return (0, 0) };
        let of = |marks: &[u32]| marks.get(index as usize).copied();
        let guess = |order: &RefCell<SampleOrder>| {
            self.phase.shared.bodies().tokens_about(order.borrow_mut().sample(index) as usize)
        };
        let tokens = of(tokens).or_else(|| self.weighed.as_ref().map(guess));
        (of(keys).unwrap_or(0), tokens.unwrap_or(0))
    }

    /// Nothing more starts that hasn't: what stands in line is nobody's wish any more.
    fn take_back(&self, now: u64) {
        if self.taken_back.replace(true) {
            return;
        }
        if !self.closed.replace(true) {
            self.tell(now, Event::Closed);
        }
        if self.in_line.get() > 0 {
            let in_line = self.policy.borrow().as_ref().map_or_else(Vec::new, in_line);
            in_line.into_iter().for_each(|item| self.tell(now, Event::Cancel { item }));
        }
    }

    /// What is under way is cut short. The sweep ends its flights; here the policy learns not to start others.
    fn give_up(&self, now: u64) {
        if !self.given_up.replace(true) {
            let under_way: Vec<ItemId> = self.items.borrow().keys().copied().collect();
            under_way.into_iter().for_each(|item| self.tell(now, Event::Cancel { item }));
        }
    }
}

/// The items that have neither an attempt nor a verdict.
fn in_line(policy: &Policy) -> Vec<ItemId> {
    let items = policy.items();
    let waits = |item: &ItemId| items.get(*item).is_some_and(|row| row.verdict.is_none() && row.last.is_none());
    (0..items.len()).filter(waits).collect()
}
