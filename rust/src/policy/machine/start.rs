//! Starting: who is next, whether it may, and what is noted when it does.

use super::super::items::State;
use super::super::node::{Choice, bit};
use super::super::route::COPIES;
use super::super::slots::NONE;
use super::super::{Action, AttemptKind, ItemId, Verdict};
use super::call::{Call, Flight, Phase};
use super::held::By;
use super::{Policy, Quiet};

/// Of those ahead of the line so many are looked at.
const URGENT_LOOKED_AT: usize = 8;

/// The golden ratio's fraction.
const FAR_APART: f64 = 0.618_033_988_749_894_9;

/// Whether a call may start.
enum Admission {
    /// On this node; as its probe, or as usual.
    Go { node: u16, probe: bool },
    /// No permit is free.
    Limit,
    /// Not before this.
    Rate(u64),
    /// No node takes it before this; never, if that depends on what is in flight.
    Node(Option<u64>),
    /// No node will take it soon enough to keep it waiting.
    GiveUp,
}

impl Policy {
    /// Start what may start next: the copy of the call that is silent for longest, or else the first in line.
    pub(super) fn start_next(&mut self) -> Option<Action> {
        self.wake = None;
        self.held.by(self.now, By::Nothing);
        self.limit.tick(self.now);
        let is_waiting = self.is_somebody_waiting();
        if let Some(slot) = self.due_copy() {
            let call = self.calls[slot];
            match self.admit(call.item, self.nodes_of(&call), true) {
                Admission::Go { node, .. } => {
                    // What it takes the place of goes first: its permit is the copy's.
                    let start = self.start_copy(slot, node);
                    self.out.push_back(start);
                    return self.out.pop_front();
                }
                // The line may still go on: a copy is no probe, but the first in line can be one.
                Admission::Node(_) | Admission::GiveUp => {}
                Admission::Limit => return self.hold(By::Limit, None),
                Admission::Rate(until) => return self.hold(By::Rate, Some(until)),
            }
        }
        match is_waiting {
            true => self.start_waiting(),
            false => self.copy_on_a_free_node(),
        }
    }

    /// Start somebody who waits: of those ahead of the line the first that may go, or the first in line.
    fn start_waiting(&mut self) -> Option<Action> {
        let mut wait: Option<u64> = None;
        let mut place = 0;
        while place < self.urgent.len().min(URGENT_LOOKED_AT) {
            let item = self.urgent[place];
            if self.items.call(item).is_none() {
                self.urgent.remove(place);
                continue;
            }
            match self.admit_again(item) {
                Admission::Node(until) => {
                    wait = wait.into_iter().chain(until).min();
                    place += 1;
                }
                admission => return self.start_or_hold(item, Some(place), admission),
            }
        }
        let Some(item) = self.line.first() else { return self.hold(By::Limit, wait) };
        match self.admit_again(item) {
            Admission::Node(until) => self.hold(By::Limit, wait.into_iter().chain(until).min()),
            admission => self.start_or_hold(item, None, admission),
        }
    }

    /// Another node may do what some couldn't.
    fn admit_again(&mut self, item: ItemId) -> Admission {
        let failed = self.items.call(item).map_or(0, |slot| self.calls[slot].blamed);
        self.admit(item, failed, false)
    }

    /// Start an item that stands in line, or at this `place` ahead of it.
    fn start_or_hold(&mut self, item: ItemId, place: Option<usize>, admission: Admission) -> Option<Action> {
        match admission {
            Admission::Go { node, probe } => {
                let item = if probe { self.take_probe() } else { None }.unwrap_or_else(|| {
                    self.leave_place(place);
                    item
                });
                Some(self.start_item(item, node, probe))
            }
            Admission::Limit => self.hold(By::Limit, None),
            Admission::Rate(until) => self.hold(By::Rate, Some(until)),
            Admission::Node(until) => self.hold(By::Limit, until),
            Admission::GiveUp => {
                self.leave_place(place);
                self.give_up(item);
                self.out.pop_front()
            }
        }
    }

    fn leave_place(&mut self, place: Option<usize>) {
        match place {
            Some(place) => {
                self.urgent.remove(place);
            }
            None => self.line.leave(),
        }
    }

    /// Take the item that shows whether a node is well out of the line: one that was never started. One that has failed may be
    /// at fault itself; and so may its neighbours, which are often alike: so the first is the last in line, and each further
    /// one is far from all before it. Where there is one node nobody knows who is at fault, and whoever is first goes.
    fn take_probe(&mut self) -> Option<ItemId> {
        if self.nodes.count() < 2 {
            return None;
        }
        let Self { items, line, sums, .. } = self;
        // Multiples of the golden ratio's fraction, which leave no large gap anywhere.
        let share = (sums.probes as f64 * FAR_APART).fract();
        line.take_from_end(share, |item| items.state(item) == Some(State::Waiting))
    }

    /// Nothing starts: note what holds the line back, and when that may be over.
    fn hold(&mut self, by: By, until: Option<u64>) -> Option<Action> {
        if self.sums.waiting > 0 {
            self.held.by(self.now, by);
        }
        let risen = if by == By::Limit { self.limit.next() } else { None };
        self.wake_at(risen);
        self.wake_at(until);
        None
    }

    fn wake_at(&mut self, at: Option<u64>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }

    /// Whether somebody stands in line, or ahead of it. Those first who are done meanwhile are passed over.
    fn is_somebody_waiting(&mut self) -> bool {
        let Self { items, line, urgent, .. } = self;
        let is_done = |item| matches!(items.state(item), Some(State::Resolved(_)) | None);
        while urgent.front().is_some_and(|&item| is_done(item)) {
            urgent.pop_front();
        }
        while line.first().is_some_and(is_done) {
            line.leave();
        }
        !urgent.is_empty() || line.first().is_some()
    }

    /// The call that has been silent for longest among those that are due a copy.
    fn due_copy(&mut self) -> Option<u32> {
        let shortest = self.hedge.shortest()?;
        if !self.hedge.affords(self.sums.items_started, self.sums.hedges) {
            return None;
        }
        let permits = self.limit.permits();
        let waiting = self.sums.waiting;
        if self.pacer.as_ref().is_some_and(|pacer| pacer.is_scarce(waiting, shortest)) {
            return None;
        }
        let quiet = &self.quiet;
        let stale = self.now >= quiet.until || quiet.changes != self.hedge.changes() || quiet.permits != permits;
        if stale && let Some(slot) = self.find_due_copy(permits) {
            self.quiet.until = 0;
            return Some(slot);
        }
        self.wake_at((self.quiet.until < u64::MAX).then_some(self.quiet.until));
        None
    }

    /// Look at all calls that may be due a copy. Where there is none, note until when.
    fn find_due_copy(&mut self, permits: u32) -> Option<u32> {
        let mut until = u64::MAX;
        let mut next = self.silent.first();
        while let Some(slot) = next {
            let call = &self.calls[slot];
            let silent_until = |silence| call.since.saturating_add(silence);
            let earliest = self.hedge.shortest().map_or(u64::MAX, silent_until);
            if earliest > self.now {
                until = until.min(earliest);
                break;
            }
            let silence = self.hedge.silence(self.now, call.key, call.live, call.crowd, permits);
            match silence.map(silent_until) {
                Some(due) if due <= self.now => return Some(slot),
                Some(due) => until = until.min(due),
                None => {}
            }
            next = self.silent.after(slot);
        }
        self.quiet = Quiet { until, changes: self.hedge.changes(), permits };
        None
    }

    /// Whether a call may start now, on a node outside `avoid` if there is any. Nothing is taken: what is needed is all there,
    /// or nothing is held while the rest is awaited.
    fn admit(&mut self, item: ItemId, avoid: u64, copy: bool) -> Admission {
        if self.flights.used() >= self.limit.permits() {
            return Admission::Limit;
        }
        let waiting = u32::try_from(self.sums.waiting).unwrap_or(u32::MAX);
        let (node, probe) = match self.nodes.choose(self.now, waiting, avoid, copy) {
            Choice::Node { node, probe } => (node, probe),
            Choice::Wait(until) => return Admission::Node(until),
            Choice::GiveUp => return Admission::GiveUp,
        };
        match self.rate_ready_at(item) {
            ready if ready > self.now => Admission::Rate(ready),
            _ => Admission::Go { node, probe },
        }
    }

    /// When the rates let an item start.
    fn rate_ready_at(&mut self, item: ItemId) -> u64 {
        let paced = self.pacer.as_mut().map_or(0, |pacer| pacer.ready_at(self.now));
        paced.max(self.buckets.ready_at(self.items.row(item).tokens))
    }

    /// Nothing waits. A node that has nothing left to do takes a copy of what will end last elsewhere, if it would end sooner.
    fn copy_on_a_free_node(&mut self) -> Option<Action> {
        if self.flights.used() == 0 || self.flights.used() >= self.limit.permits() {
            return None;
        }
        let Self { nodes, items, calls, .. } = self;
        let may = |item| {
            let call = items.call(item).map(|slot| &calls[slot]);
            call.is_some_and(|call| call.live <= COPIES && !call.chosen && call.phase == Phase::InFlight)
        };
        match nodes.worth_a_copy(self.now, (self.sums.items_started, self.sums.hedges), may) {
            Ok((item, node)) => match (self.rate_ready_at(item), self.items.call(item)) {
                (ready, Some(slot)) if ready <= self.now => Some(self.start(slot, AttemptKind::Hedge, node)),
                (ready, _) => self.hold(By::Rate, Some(ready)),
            },
            Err(again) => self.hold(By::Nothing, again),
        }
    }

    /// Nodes, as bits, that have a copy of the call.
    fn nodes_of(&self, call: &Call) -> u64 {
        let mut nodes = 0;
        let mut flight = call.flights;
        while flight != NONE {
            nodes |= bit(self.flights[flight].node);
            flight = self.flights[flight].next;
        }
        nodes
    }

    /// Start an item that stood in line.
    fn start_item(&mut self, item: ItemId, node: u16, probe: bool) -> Action {
        self.left_line(item);
        let (slot, kind) = match self.items.call(item) {
            Some(slot) => (slot, AttemptKind::Retry),
            None => (self.first_call(item), AttemptKind::First),
        };
        self.start(slot, if probe { AttemptKind::Probe } else { kind }, node)
    }

    /// Start a copy of a call, in the place of an older one if it has all it may have.
    fn start_copy(&mut self, slot: u32, node: u16) -> Action {
        let live = self.calls[slot].live;
        self.hedge.copied(live);
        if live > self.hedge.copies() {
            self.drop_oldest_copy(slot);
        }
        self.calls[slot].copies += 1;
        self.start(slot, AttemptKind::Hedge, node)
    }

    fn first_call(&mut self, item: ItemId) -> u32 {
        let slot = self.calls.put(Call::new(item, self.items.row(item).key, self.now));
        self.items.get_under_way(item, slot);
        if self.rules.call_timeout.is_some() {
            self.under_way.put_last(slot);
        }
        self.budget.started();
        self.sums.items_started += 1;
        slot
    }

    fn start(&mut self, slot: u32, kind: AttemptKind, node: u16) -> Action {
        let now = self.now;
        let call = &mut self.calls[slot];
        let item = call.item;
        let attempt = self.attempts.len();
        let before = self.items.tried(item, attempt);
        self.attempts.push(item, before, kind, node, now);
        let flight = Flight { attempt, call: slot, node, kind, started: now, next: call.flights };
        call.flights = self.flights.put(flight);
        call.live += 1;
        call.since = now;
        call.phase = Phase::InFlight;
        call.crowd = self.flights.used();
        self.running.put_last(call.flights);
        self.watch_silence(slot);
        self.nodes.started(now, node, item, kind == AttemptKind::Probe);
        self.buckets.take(now, self.items.row(item).tokens);
        let crowd = self.flights.used();
        self.limit.started(now, attempt, crowd);
        self.hedge.started(now, attempt, crowd);
        if let Some(pacer) = &mut self.pacer {
            pacer.started(now, attempt);
        }
        self.count_start(kind);
        self.note();
        Action::Start { attempt, item, kind, node, deadline_ns: self.deadline_of(slot) }
    }

    /// Put the call among those that may get a copy, or take it out if it has all it may have.
    pub(super) fn watch_silence(&mut self, slot: u32) {
        let copies = self.hedge.copies();
        if copies == 0 {
            return;
        }
        let call = &self.calls[slot];
        // One of them may be replaced once, where it isn't the item that is slow.
        let replaced = call.live == copies + 1 && call.copies <= copies && self.hedge.replaces();
        match call.live > 0 && (call.live <= copies || replaced) && !call.chosen {
            true => self.put_by_silence(slot),
            false => self.silent.take(slot),
        }
    }

    /// Put the call among the silent, in the order in which their silence began. Nearly always that is the end.
    fn put_by_silence(&mut self, slot: u32) {
        let since = self.calls[slot].since;
        let earliest = self.hedge.shortest().map_or(u64::MAX, |silence| since.saturating_add(silence));
        self.quiet.until = self.quiet.until.min(earliest);
        self.silent.take(slot);
        if self.silent.last().is_none_or(|last| self.calls[last].since <= since) {
            return self.silent.put_last(slot);
        }
        let mut next = self.silent.first();
        while let Some(other) = next.filter(|&other| self.calls[other].since <= since) {
            next = self.silent.after(other);
        }
        self.silent.put_before(slot, next);
    }

    fn deadline_of(&self, slot: u32) -> u64 {
        let attempt = self.now.saturating_add(self.rules.attempt_timeout);
        let call = self.rules.call_timeout.map(|ns| self.calls[slot].first_started.saturating_add(ns));
        call.map_or(attempt, |call| call.min(attempt))
    }

    fn count_start(&mut self, kind: AttemptKind) {
        let sums = &mut self.sums;
        match kind {
            AttemptKind::First => sums.firsts += 1,
            AttemptKind::Retry => sums.retries += 1,
            AttemptKind::Hedge => {
                sums.hedges += 1;
                self.live_hedges += 1;
            }
            AttemptKind::Probe => sums.probes += 1,
        }
        sums.in_flight_most = sums.in_flight_most.max(u64::from(self.flights.used()));
    }

    /// An item leaves the line, whatever for.
    pub(super) fn left_line(&mut self, item: ItemId) {
        let held = self.held.at(self.now);
        let waited = self.items.leave_line(item, held);
        self.sums.limit_wait_ns += waited.limit;
        self.sums.rate_wait_ns += waited.rate;
        self.sums.waiting -= 1;
    }

    /// No node takes it, and none will soon enough.
    pub(super) fn give_up(&mut self, item: ItemId) {
        match self.items.call(item) {
            Some(slot) => {
                let stands = self.calls[slot].stands;
                self.resolve(slot, (stands != NONE).then_some(stands), Verdict::GaveUp);
            }
            None => self.resolve_unstarted(item, Verdict::GaveUp),
        }
    }
}
