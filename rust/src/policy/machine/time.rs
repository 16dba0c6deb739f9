//! Time: what is due by itself. Attempts and calls that take too long, and calls that have backed off.

use std::cmp::Reverse;

use super::super::slots::NONE;
use super::super::{CancelWhy, ItemId, Verdict};
use super::Policy;
use super::call::Phase;

impl Policy {
    /// When the first of these is due.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let attempt = self.running.first().map(|slot| self.times_out_at(slot));
        let call = self.under_way.first().and_then(|slot| self.call_times_out_at(slot));
        let backed_off = self.backing_off.peek().map(|Reverse((due, _))| *due);
        let put_off = self.put_off.front().map(|_| self.budget.ready_at());
        [attempt, call, backed_off, put_off].into_iter().flatten().min()
    }

    /// Do what is due.
    pub(super) fn expire(&mut self) {
        while let Some(slot) = self.running.first().filter(|&slot| self.times_out_at(slot) <= self.now) {
            self.time_out(slot);
        }
        while let Some(slot) = self.under_way.first()
            && self.call_times_out_at(slot).is_some_and(|due| due <= self.now)
        {
            self.drop_flights(slot, CancelWhy::CallTimedOut);
            let last = self.items.row(self.calls[slot].item).last;
            self.resolve(slot, (last != NONE).then_some(last), Verdict::TimedOut);
        }
        while let Some(&Reverse((due, item))) = self.backing_off.peek() {
            let backs_off = self.backs_off(item, Phase::BackingOff).filter(|&slot| self.calls[slot].due == due);
            if backs_off.is_some() && due > self.now {
                break;
            }
            self.backing_off.pop();
            if let Some(slot) = backs_off {
                self.return_from_backing_off(slot);
            }
        }
        while let Some(&item) = self.put_off.front() {
            let slot = self.backs_off(item, Phase::PutOff);
            let given_up = slot.is_some() && self.nodes.are_dead(self.now);
            if slot.is_some() && !given_up && !self.budget.take(self.now) {
                break;
            }
            self.put_off.pop_front();
            match slot {
                // As those in line are: the budget would let them come back one by one, each to be given up then.
                Some(_) if given_up => self.give_up(item),
                Some(slot) => self.join_line(slot, true),
                None => {}
            }
        }
    }

    /// Let a call without attempts in flight back off before its next try.
    pub(super) fn back_off(&mut self, slot: u32, owes: bool) {
        let call = &mut self.calls[slot];
        let tries = call.failures + call.push_backs;
        call.phase = Phase::BackingOff;
        call.owes = owes;
        call.since = self.now;
        call.due = self.now.saturating_add(self.backoff.after(tries, call.retry_after));
        self.backing_off.push(Reverse((call.due, call.item)));
        self.sums.backing_off += 1;
        self.watch_silence(slot);
    }

    /// Let a call without attempts in flight go back to the line: everybody waits as long as it does.
    pub(super) fn step_back(&mut self, slot: u32) {
        let call = &mut self.calls[slot];
        call.phase = Phase::BackingOff;
        call.owes = false;
        call.since = self.now;
        self.sums.backing_off += 1;
        self.watch_silence(slot);
        self.join_line(slot, false);
    }

    /// It backs off no longer, whatever for.
    pub(super) fn left_backing_off(&mut self, slot: u32) {
        let call = &self.calls[slot];
        let ns = self.now - call.since;
        self.items.backed_off(call.item, ns);
        self.sums.backoff_ns += ns;
        self.sums.backing_off -= 1;
    }

    fn return_from_backing_off(&mut self, slot: u32) {
        let call = &mut self.calls[slot];
        // Whoever is put off already comes first.
        if call.owes && !(self.put_off.is_empty() && self.budget.take(self.now)) {
            call.phase = Phase::PutOff;
            self.put_off.push_back(call.item);
        } else {
            let owes = call.owes;
            self.join_line(slot, owes);
        }
    }

    /// Back to the one line there is, at its end. But a call that was refused when its turn came goes where it was, only once:
    /// what is refused again may be at fault itself, and the others don't wait for it. And what a node has failed goes ahead
    /// of the line where another one may do it: that shows soon which of them is at fault.
    fn join_line(&mut self, slot: u32, paid: bool) {
        self.left_backing_off(slot);
        let call = &mut self.calls[slot];
        call.phase = Phase::InLine;
        call.paid = paid;
        call.retry_after = None;
        call.hopeless = false;
        call.chosen = false;
        let (item, blamed) = (call.item, call.blamed);
        let refused = call.push_backs == 1 && call.failures == 0;
        let held = self.held.at(self.now);
        let waited = self.items.join_line(item, held);
        self.sums.limit_wait_ns -= waited.limit;
        self.sums.rate_wait_ns -= waited.rate;
        self.sums.waiting += 1;
        if refused {
            self.line.rejoin(item);
        } else if blamed != 0 && self.nodes.has_another(self.now, blamed) {
            self.urgent.push_back(item);
        } else {
            self.line.join(item, 1);
        }
    }

    /// The slot of an item's call, if that is in this phase.
    fn backs_off(&self, item: ItemId, phase: Phase) -> Option<u32> {
        self.items.call(item).filter(|&slot| self.calls[slot].phase == phase)
    }

    fn times_out_at(&self, flight: u32) -> u64 {
        self.flights[flight].started.saturating_add(self.rules.attempt_timeout)
    }

    fn call_times_out_at(&self, call: u32) -> Option<u64> {
        Some(self.calls[call].first_started.saturating_add(self.rules.call_timeout?))
    }
}
