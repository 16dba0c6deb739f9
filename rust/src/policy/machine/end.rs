//! Ending: what an attempt's end says of the service, and what it means for its item.

use super::super::attempts::Fate;
use super::super::node::{Says, bit};
use super::super::observation::{Observation, Signal};
use super::super::push_back::Class;
use super::super::slots::NONE;
use super::super::{Action, AttemptId, AttemptKind, CancelWhy, End, ItemId, Outcome, Verdict};
use super::Policy;
use super::call::{Flight, Phase};

impl Policy {
    /// A driver told how an attempt ended.
    pub(super) fn ended(&mut self, attempt: AttemptId, end: &End) {
        match self.flight_of(attempt) {
            Some(slot) => self.land(slot, end),
            None => self.settle_late(attempt, end),
        }
    }

    /// The first token of an answer has come.
    pub(super) fn first_token(&mut self, attempt: AttemptId) {
        let Some(slot) = self.flight_of(attempt) else { return };
        self.attempts.first_byte(attempt, self.now);
        if self.rules.streaming {
            self.choose(slot);
        }
    }

    fn flight_of(&self, attempt: AttemptId) -> Option<u32> {
        let item = self.attempts.live_item(attempt)?;
        let mut slot = self.calls[self.items.call(item)?].flights;
        while slot != NONE && self.flights[slot].attempt != attempt {
            slot = self.flights[slot].next;
        }
        (slot != NONE).then_some(slot)
    }

    /// The end of an attempt that was dropped only adds what it cost.
    fn settle_late(&mut self, attempt: AttemptId, end: &End) {
        if self.attempts.settle(attempt, end) {
            self.sums.tokens_wasted += u64::from(end.tokens());
            let item = self.attempts.get(attempt).and_then(|row| self.items.get(row.item));
            if let (Some(item), true) = (item, end.tokens() > 0) {
                self.buckets.settle(self.now, item.tokens, end.tokens());
            }
        }
    }

    /// An attempt in flight ended by itself.
    fn land(&mut self, slot: u32, end: &End) {
        let flight = self.flights[slot];
        if end.outcome == Outcome::Ok {
            self.choose(slot);
        }
        let class = self.conclude(slot, end);
        self.attempts.settle(flight.attempt, end);
        self.settle(flight.call, end, class);
        match class {
            None => self.succeed(flight.call, flight.attempt),
            Some(class) => self.fail(flight.call, flight.attempt, end, class),
        }
    }

    /// Time is up for an attempt.
    pub(super) fn time_out(&mut self, slot: u32) {
        let flight = self.flights[slot];
        let end = End { outcome: Outcome::TimedOut, ..End::default() };
        let class = self.conclude(slot, &end).unwrap_or(Class::Failure);
        self.out.push_back(Action::Cancel { attempt: flight.attempt, why: CancelWhy::TimedOut });
        self.fail(flight.call, flight.attempt, &end, class);
    }

    /// Close the attempt, free what it held, and let everybody learn from it. What kind of failure it was; none if it wasn't.
    fn conclude(&mut self, slot: u32, end: &End) -> Option<Class> {
        let flight = self.flights[slot];
        let item = self.calls[flight.call].item;
        let in_flight = self.flights.used();
        let cancelled = end.outcome == Outcome::Cancelled;
        if !cancelled {
            self.judge.ended(flight.attempt, self.attempts.len(), item, end);
            self.nodes.met(flight.node, end.outcome != Outcome::Unreached);
        }
        let class = (end.outcome != Outcome::Ok).then(|| self.judge.class(end, in_flight, self.limit.permits()));
        let signal = match (class, end.outcome) {
            (None, _) => Signal::Success,
            (_, Outcome::Cancelled) => Signal::Dropped,
            (Some(Class::PushBack | Class::Overload), _) => Signal::PushBack,
            (_, Outcome::TimedOut) => Signal::TimedOut,
            _ => Signal::Failure,
        };
        let says = self.says(&flight, end, class);
        let fate = if signal == Signal::PushBack { Fate::Rejected } else { Fate::from(end.outcome) };
        self.sums.push_backs += u64::from(signal == Signal::PushBack);
        self.sums.attempts_timed_out += u64::from(end.outcome == Outcome::TimedOut);
        self.learn(&flight, signal, end, in_flight);
        self.take_off(slot, fate, says);
        class
    }

    /// What an end says of the node it came from.
    fn says(&mut self, flight: &Flight, end: &End, class: Option<Class>) -> Says {
        let ill = match class {
            None => return Says::Well,
            Some(_) if end.outcome == Outcome::Cancelled => return Says::Nothing,
            // Where the limit can't give way any more, it isn't the load; nor is it with a 503 that doesn't say until when.
            Some(Class::Overload) => !self.limit.can_shrink(),
            Some(Class::PushBack) if end.status == 503 && end.retry_after_ns.is_none() => !self.limit.can_shrink(),
            Some(Class::PushBack) => false,
            Some(Class::Failure) => end.worth_retrying(),
        };
        match class {
            Some(Class::PushBack | Class::Overload) if !ill => return Says::Busy,
            _ if !ill => return Says::Nothing,
            _ => {}
        }
        let here = bit(flight.node);
        let silent = matches!(end.outcome, Outcome::TimedOut | Outcome::Stalled);
        let telling = !silent || self.nodes.is_telling(flight.node, flight.started);
        let call = &mut self.calls[flight.call];
        let elsewhere = call.blamed & !here;
        if call.blamed == 0 {
            call.first_failed = self.now;
        }
        call.blamed |= here;
        if call.is_at_fault {
            return Says::OfItem;
        }
        // Another node has failed it, and this one has done others since: it is the item.
        if elsewhere != 0 && self.nodes.has_answered(flight.node, call.first_failed) {
            call.is_at_fault = true;
            self.nodes.excuse(self.now, call.counted & elsewhere);
            return Says::OfItem;
        }
        let counted = !telling || call.counted & here != 0;
        if telling {
            call.counted |= here;
        }
        if silent { Says::Silent { counted } } else { Says::Ill { counted } }
    }

    fn learn(&mut self, flight: &Flight, signal: Signal, end: &End, in_flight: u32) {
        let seen = Observation {
            now: self.now,
            attempt: flight.attempt,
            next_attempt: self.attempts.len(),
            started: flight.started,
            first_byte: self.attempts.get(flight.attempt).and_then(|row| row.first_byte_ns),
            signal,
            status: end.status,
            retry_after_ns: end.retry_after_ns,
            in_flight,
            permits: self.limit.permits(),
            waiting: u32::try_from(self.sums.waiting).unwrap_or(u32::MAX),
            key: self.calls[flight.call].key,
        };
        let before = self.limit.permits();
        self.limit.observe(&seen);
        self.sums.cuts += u64::from(self.limit.permits() < before);
        if let Some(pacer) = &mut self.pacer {
            pacer.observe(&seen);
        }
        self.hedge.observe(&seen);
    }

    /// Free what an attempt held.
    fn take_off(&mut self, slot: u32, fate: Fate, says: Says) {
        let flight = self.flights[slot];
        self.attempts.close(flight.attempt, self.now, fate);
        let item = self.calls[flight.call].item;
        self.nodes.over(self.now, flight.node, item, flight.kind == AttemptKind::Probe, says);
        self.live_hedges -= u32::from(flight.kind == AttemptKind::Hedge);
        self.running.take(slot);
        let call = &mut self.calls[flight.call];
        call.live -= 1;
        if call.flights == slot {
            call.flights = flight.next;
        } else {
            let mut at = call.flights;
            while self.flights[at].next != slot {
                at = self.flights[at].next;
            }
            self.flights[at].next = flight.next;
        }
        self.flights.free(slot);
        self.note();
    }

    /// Settle what an attempt was expected to cost with what it did.
    fn settle(&mut self, call: u32, end: &End, class: Option<Class>) {
        let used = end.tokens();
        match class {
            None => self.sums.tokens_used += u64::from(used),
            Some(_) => self.sums.tokens_wasted += u64::from(used),
        }
        // An answer that doesn't tell what it cost is taken to have cost what was expected; push-back costs nothing.
        if used > 0 || class == Some(Class::PushBack) {
            self.buckets.settle(self.now, self.items.row(self.calls[call].item).tokens, used);
        }
    }

    /// This copy is the one: drop the others.
    fn choose(&mut self, slot: u32) {
        let flight = self.flights[slot];
        let call = &mut self.calls[flight.call];
        if std::mem::replace(&mut call.chosen, true) {
            return;
        }
        let key = call.key;
        if flight.kind == AttemptKind::Hedge {
            self.sums.hedges_won += 1;
            self.hedge.judged(self.now, key, true);
        }
        self.watch_silence(flight.call);
        let mut next = self.calls[flight.call].flights;
        while next != NONE {
            let other = self.flights[next];
            if next != slot {
                if other.kind == AttemptKind::Hedge {
                    self.sums.hedges_lost += 1;
                    self.hedge.judged(self.now, key, false);
                }
                self.drop_flight(next, CancelWhy::Lost);
            }
            next = other.next;
        }
    }

    /// Drop all that a call has in flight.
    pub(super) fn drop_flights(&mut self, call: u32, why: CancelWhy) {
        let mut next = self.calls[call].flights;
        while next != NONE {
            let after = self.flights[next].next;
            self.drop_flight(next, why);
            next = after;
        }
    }

    /// Drop the copy of a call that has been silent for longest.
    pub(super) fn drop_oldest_copy(&mut self, call: u32) {
        let mut oldest = NONE;
        let mut next = self.calls[call].flights;
        while next != NONE {
            // The latest comes first in the list.
            if self.flights[next].kind == AttemptKind::Hedge {
                oldest = next;
            }
            next = self.flights[next].next;
        }
        if oldest != NONE {
            self.sums.hedges_lost += 1;
            self.hedge.judged(self.now, self.calls[call].key, false);
            self.drop_flight(oldest, CancelWhy::Lost);
        }
    }

    fn drop_flight(&mut self, slot: u32, why: CancelWhy) {
        let flight = self.flights[slot];
        self.out.push_back(Action::Cancel { attempt: flight.attempt, why });
        self.learn(&flight, Signal::Dropped, &End::default(), self.flights.used());
        self.take_off(slot, Fate::from(why), Says::Nothing);
    }

    fn succeed(&mut self, slot: u32, attempt: AttemptId) {
        if self.calls[slot].paid {
            self.budget.refund();
        }
        self.resolve(slot, Some(attempt), Verdict::Ok);
    }

    fn fail(&mut self, slot: u32, attempt: AttemptId, end: &End, class: Class) {
        let now = self.now;
        let call = &mut self.calls[slot];
        call.stands = attempt;
        call.retry_after = call.retry_after.max(end.retry_after_ns);
        call.hopeless |= !end.worth_retrying();
        if call.live > 0 {
            // A failed copy never fails a live one: its silence begins anew; but a copy that failed is none, and is made again
            // without that, though only once: the item may be at fault.
            call.copies = call.live - 1;
            let again = !call.remade && self.hedge.replaces();
            call.remade |= again;
            call.since = if again { self.flights[call.flights].started } else { now };
            self.watch_silence(slot);
            return;
        }
        match class {
            Class::PushBack => call.push_backs += 1,
            Class::Overload | Class::Failure => call.failures += 1,
        }
        // One that is at fault itself has had each node's word, and one more in case of bad luck.
        call.hopeless |= call.is_at_fault && call.failures > self.nodes.count();
        let verdict = match end.outcome {
            Outcome::Cancelled if call.hopeless => Some(Verdict::Cancelled),
            _ if call.hopeless => Some(Verdict::Failed),
            _ if call.push_backs > self.rules.push_backs => Some(Verdict::GaveUp),
            Outcome::TimedOut if call.failures >= self.rules.attempts => Some(Verdict::TimedOut),
            _ if call.failures >= self.rules.attempts => Some(Verdict::Failed),
            _ => None,
        };
        match verdict {
            Some(verdict) => self.resolve(slot, Some(attempt), verdict),
            // The pacer holds all starts back for as long as the service wishes: who was refused goes back to the line.
            None if class == Class::PushBack && matches!(end.status, 0 | 429) && self.pacer.is_some() => {
                self.step_back(slot)
            }
            None => self.back_off(slot, class == Class::Failure),
        }
    }

    /// A call without attempts in flight is done.
    pub(super) fn resolve(&mut self, slot: u32, winner: Option<AttemptId>, verdict: Verdict) {
        let call = self.calls[slot];
        match call.phase {
            Phase::InFlight => {}
            Phase::InLine => self.left_line(call.item),
            Phase::BackingOff | Phase::PutOff => self.left_backing_off(slot),
        }
        self.under_way.take(slot);
        self.silent.take(slot);
        self.calls.free(slot);
        self.settled(call.item, winner, verdict);
    }

    /// An item that was never started is done.
    pub(super) fn resolve_unstarted(&mut self, item: ItemId, verdict: Verdict) {
        self.left_line(item);
        self.settled(item, None, verdict);
    }

    fn settled(&mut self, item: ItemId, winner: Option<AttemptId>, verdict: Verdict) {
        self.items.resolve(item, winner, verdict);
        let sum = match verdict {
            Verdict::Ok => &mut self.sums.ok,
            Verdict::Failed => &mut self.sums.failed,
            Verdict::TimedOut => &mut self.sums.timed_out,
            Verdict::Cancelled => &mut self.sums.cancelled,
            Verdict::GaveUp => &mut self.sums.gave_up,
        };
        *sum += 1;
        self.out.push_back(Action::Resolve { item, winner, verdict });
    }
}
