//! What the sweep must know of a request in flight to end it: its deadlines, and whom to wake.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::clock::now_ns;
use crate::record::Failure;

/// Milliseconds between two sweeps of a worker over its requests in flight: how late a time-out may come.
pub(super) const SWEEP_MS: u64 = 10;

/// After `[DONE]` a server has this long to end its answer; then we do.
const LINGER_NS: u64 = 250_000_000;

/// Why the sweep ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A deadline passed, or the run was cut short.
    Failed(Failure),
    /// It had everything; only the connection stayed open.
    Lingered,
}

/// One request in flight, as the sweep sees it. Reused by the task that owns it.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Index of the request's phase.
    pub(super) phase: Cell<u16>,
    /// Index of the request in that phase's plan.
    pub(super) index: Cell<u64>,
    deadline: Cell<u64>,
    /// Nanoseconds of silence after the first byte that end it.
    stall_ns: Cell<u64>,
    /// The newest byte; 0 until the first.
    last_byte: Cell<u64>,
    /// When `[DONE]` was seen; 0 until then.
    finished: Cell<u64>,
    verdict: Cell<Option<Verdict>>,
    /// Where it stands among the live ones.
    at: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Flight {
    /// A request starts now and may last until `deadline`, and fall silent for less than `stall_ns`.
    pub(super) fn start(&self, phase: u16, deadline: u64, stall_ns: u64) {
        self.phase.set(phase);
        self.deadline.set(deadline);
        self.stall_ns.set(stall_ns);
        self.last_byte.set(0);
        self.finished.set(0);
        self.verdict.set(None);
    }

    /// Another attempt of the same request: the time-out runs on, the stall clock starts anew.
    pub(super) fn again(&self) {
        self.last_byte.set(0);
        self.finished.set(0);
    }

    /// Bytes came in at `now`.
    #[inline]
    pub(super) fn heard(&self, now: u64) {
        self.last_byte.set(now);
    }

    /// The server took more of the request at `now`: once its answer has begun that is as good as a byte of it.
    pub(super) fn taken(&self, now: u64) {
        if self.last_byte.get() != 0 && !self.is_finished() {
            self.last_byte.set(now);
        }
    }

    /// The answer is complete by its own word.
    pub(super) fn finish(&self, now: u64) {
        if self.finished.get() == 0 {
            self.finished.set(now);
        }
    }

    /// Whether the answer was complete by its own word.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.get() != 0
    }

    /// When a request that no read ended is over: with the last byte of a finished answer, else now.
    pub(super) fn ended_at(&self) -> u64 {
        if self.is_finished() { self.last_byte.get() } else { now_ns() }
    }

    /// What the sweep decided, if anything.
    #[inline]
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Whom the sweep shall wake. Cheap when it is the same task as before.
    pub(super) fn wake_by(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// End it now, whatever it has. The first verdict stays.
    pub(super) fn end(&self, failure: Failure) {
        if self.verdict.get().is_none() {
            self.decide(Verdict::Failed(failure));
        }
    }

    /// End it if its time is up: `cancel` says whether its phase wants it gone.
    fn judge(&self, now: u64, cancel: bool) {
        if self.verdict.get().is_some() {
            return;
        }
        let (heard, finished) = (self.last_byte.get(), self.finished.get());
        let over = cancel || now >= self.deadline.get();
        let verdict = if finished != 0 && (over || now.saturating_sub(finished) >= LINGER_NS) {
            Verdict::Lingered
        } else if cancel {
            Verdict::Failed(Failure::Cancelled)
        } else if now >= self.deadline.get() {
            Verdict::Failed(Failure::Timeout)
        } else if heard != 0 && now.saturating_sub(heard) >= self.stall_ns.get() {
            Verdict::Failed(Failure::Stall)
        } else {
            return;
        };
        self.decide(verdict);
    }

    fn decide(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
        self.wake();
    }

    /// Wake whoever waits for its end.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// All requests in flight of one worker.
#[derive(Debug, Default)]
pub(super) struct Flights {
    live: RefCell<Vec<Rc<Flight>>>,
    idle: RefCell<Vec<Rc<Flight>>>,
}

impl Flights {
    /// Take an idle one, or make one, and watch it.
    pub(super) fn enter(&self) -> Rc<Flight> {
        let flight = self.idle.borrow_mut().pop().unwrap_or_default();
        flight.start(0, u64::MAX, u64::MAX);
        let mut live = self.live.borrow_mut();
        flight.at.set(live.len());
        live.push(Rc::clone(&flight));
        flight
    }

    /// Stop watching `flight`.
    pub(super) fn leave(&self, flight: &Rc<Flight>) {
        flight.waker.borrow_mut().take();
        let mut live = self.live.borrow_mut();
        let at = flight.at.get();
        live.swap_remove(at);
        if let Some(moved) = live.get(at) {
            moved.at.set(at);
        }
        self.idle.borrow_mut().push(Rc::clone(flight));
    }

    /// End the one with this index of that phase, if it is among them.
    pub(super) fn end(&self, phase: u16, index: u64, failure: Failure) {
        let live = self.live.borrow();
        let found = live.iter().find(|flight| flight.phase.get() == phase && flight.index.get() == index);
        found.iter().for_each(|flight| flight.end(failure));
    }

    /// Judge every one; `cancel(phase)` says whether that phase wants its requests gone.
    pub(super) fn sweep(&self, now: u64, cancel: impl Fn(u16) -> bool) {
        for flight in self.live.borrow().iter() {
            flight.judge(now, cancel(flight.phase.get()));
        }
    }
}

/// Run `future` until it is done or the sweep ends `flight`.
pub(super) async fn guarded<F: Future>(flight: &Flight, future: F) -> Result<F::Output, Verdict> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Some(verdict) = flight.verdict() {
            return Poll::Ready(Err(verdict));
        }
        flight.wake_by(cx.waker());
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: u64 = 100;

    fn judged(set: impl Fn(&Flight), now: u64, cancel: bool) -> Option<Verdict> {
        let flights = Flights::default();
        let flight = flights.enter();
        flight.start(3, 1_000, STALL);
        set(&flight);
        flights.sweep(now, |phase| cancel && phase == 3);
        flight.verdict()
    }

    #[test]
    fn before_the_first_byte_only_the_request_timeout_rules() {
        assert_eq!(judged(|_| (), 999, false), None);
        assert_eq!(judged(|_| (), 1_000, false), Some(Verdict::Failed(Failure::Timeout)));
    }

    #[test]
    fn after_the_first_byte_silence_is_a_stall() {
        assert_eq!(judged(|f| f.heard(500), 599, false), None);
        assert_eq!(judged(|f| f.heard(500), 600, false), Some(Verdict::Failed(Failure::Stall)));
    }

    #[test]
    fn a_server_that_still_takes_the_request_is_not_silent() {
        let begun = |f: &Flight| {
            f.heard(500);
            f.taken(550);
        };
        assert_eq!(judged(begun, 649, false), None);
        assert_eq!(judged(begun, 650, false), Some(Verdict::Failed(Failure::Stall)));
        assert_eq!(judged(|f| f.taken(500), 999, false), None, "without an answer only the request's time-out rules");
    }

    #[test]
    fn each_request_has_its_own_patience() {
        let flights = Flights::default();
        let [short, long] = [flights.enter(), flights.enter()];
        short.start(0, 1_000, 50);
        long.start(1, 1_000, 500);
        short.heard(100);
        long.heard(100);
        flights.sweep(200, |_| false);
        assert_eq!((short.verdict(), long.verdict()), (Some(Verdict::Failed(Failure::Stall)), None));
    }

    #[test]
    fn a_finished_answer_whose_connection_stays_open_is_let_go() {
        let finished = |f: &Flight| {
            f.start(3, u64::MAX, STALL);
            f.finish(500);
        };
        assert_eq!(judged(finished, 500 + LINGER_NS - 1, false), None);
        assert_eq!(judged(finished, 500 + LINGER_NS, false), Some(Verdict::Lingered));
        assert_eq!(judged(finished, 501, true), Some(Verdict::Lingered), "complete beats cancelled");
        let overdue = |f: &Flight| {
            f.start(3, 501, STALL);
            f.finish(500);
        };
        assert_eq!(judged(overdue, 501, false), Some(Verdict::Lingered), "and timed out");
    }

    #[test]
    fn cancelling_reaches_only_the_phase_it_names() {
        assert_eq!(judged(|_| (), 1, true), Some(Verdict::Failed(Failure::Cancelled)));
        assert_eq!(judged(|f| f.start(4, 1_000, STALL), 1, true), None);
    }

    #[test]
    fn one_that_nobody_waits_for_ends_alone() {
        let flights = Flights::default();
        let all: Vec<_> = (0..3).map(|_| flights.enter()).collect();
        for (index, flight) in all.iter().enumerate() {
            flight.start(u16::from(index == 2), u64::MAX, STALL);
            flight.index.set(index as u64 % 2);
        }
        flights.end(0, 0, Failure::Cancelled);
        flights.end(0, 7, Failure::Cancelled);
        let ended: Vec<bool> = all.iter().map(|f| f.verdict().is_some()).collect();
        assert_eq!(ended, [true, false, false]);
    }

    #[test]
    fn those_that_stay_are_still_judged_when_one_leaves() {
        let flights = Flights::default();
        let all: Vec<_> = (0..4).map(|_| flights.enter()).collect();
        flights.leave(&all[1]);
        flights.leave(&all[3]);
        flights.sweep(1, |_| true);
        let ended: Vec<bool> = all.iter().map(|f| f.verdict().is_some()).collect();
        assert_eq!(ended, [true, false, true, false]);
    }

    #[test]
    fn a_flight_that_is_ended_stays_so_and_wakes_its_task() {
        let flight = Flights::default().enter();
        flight.end(Failure::Cancelled);
        flight.end(Failure::Timeout);
        flight.judge(u64::MAX, false);
        assert_eq!(flight.verdict(), Some(Verdict::Failed(Failure::Cancelled)));
    }

    #[test]
    fn a_flight_that_left_is_not_judged() {
        let flights = Flights::default();
        let flight = flights.enter();
        flights.leave(&flight);
        flights.sweep(u64::MAX, |_| true);
        assert_eq!(flight.verdict(), None);
    }
}
