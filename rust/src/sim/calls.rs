//! The service at work: who is being served, who waits in line, and what ends when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::drive::{Start, World};
use super::service::{Course, Rate, RateChange, Service, ns};
use crate::policy::{AttemptId, End, Event, Outcome};

/// How an attempt ended at the service.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    /// Whose it is.
    attempt: u32,
    /// HTTP status; 200 is an answer.
    status: u16,
    /// What a 429 said.
    retry_after_ns: Option<u64>,
}

/// A service with the calls that are with it.
pub(super) struct Calls<'a> {
    service: &'a Service,
    seed: u64,
    calls: Vec<Call>,
    /// Attempts made of each item so far: which draws the next one takes.
    copies: Vec<u32>,
    line: VecDeque<u32>,
    serving: u32,
    waiting: u32,
    bucket: Option<Bucket<'a>>,
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    /// Calls refused, for the account.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Coming,
    Waiting,
    Served,
    Refused,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    state: State,
    course: Course,
    status: u16,
    retry_after_ns: Option<u64>,
}

impl Call {
    /// On its way to the service.
    fn coming(course: Course) -> Self {
        Self { state: State::Coming, course, status: 200, retry_after_ns: None }
    }
}

impl<'a> Calls<'a> {
    pub(super) fn new(service: &'a Service, seed: u64, items: u32) -> Self {
        Self {
            service,
            seed,
            calls: Vec::new(),
            copies: vec![0; items as usize],
            line: VecDeque::new(),
            serving: 0,
            waiting: 0,
            bucket: service.rate.map(|rate| Bucket::new(rate, &service.rate_changes)),
            ends: BinaryHeap::new(),
            refused: 0,
        }
    }

    /// The next attempt, one of `item`, is made. Attempts are numbered from 0 in the order of this call.
    fn begin(&mut self, now: u64, item: u32) {
        let attempt = self.calls.len() as u32;
        let copy = self.copies[item as usize];
        self.copies[item as usize] += 1;
        self.calls.push(Call::coming(self.service.course(self.seed, item, copy)));
        match self.service.lateness(self.seed, item, copy) {
            0 => self.arrive(now, attempt),
            late => self.ends.push(Reverse((now.saturating_add(late), attempt))),
        }
    }

    /// It reaches the service.
    fn arrive(&mut self, now: u64, attempt: u32) {
        let course = self.calls[attempt as usize].course;
        if let Some((status, retry_after_ns)) = self.refusal(now) {
            self.refused += 1;
            self.calls[attempt as usize] = Call { state: State::Refused, course, status, retry_after_ns };
            self.ends.push(Reverse((now.saturating_add(ns(self.service.refuse_s)), attempt)));
        } else if let Course::Fails(after, status) = course {
            self.calls[attempt as usize] = Call { state: State::Refused, course, status, retry_after_ns: None };
            self.ends.push(Reverse((now.saturating_add(after), attempt)));
        } else if self.service.slots.is_none_or(|slots| self.serving < slots) {
            self.serve(now, attempt);
        } else {
            self.calls[attempt as usize].state = State::Waiting;
            self.line.push_back(attempt);
            self.waiting += 1;
        }
    }

    /// The client has dropped this attempt's connection: its place is free at once.
    fn drop_attempt(&mut self, now: u64, attempt: u32) {
        let call = &mut self.calls[attempt as usize];
        let was = std::mem::replace(&mut call.state, State::Gone);
        match was {
            State::Served => self.free(now),
            // Its entry in the line is skipped when its turn comes.
            State::Waiting => self.waiting -= 1,
            State::Coming | State::Refused | State::Gone => {}
        }
    }

    /// When the next attempt arrives or ends; `None` while none is under way.
    fn next_end(&mut self) -> Option<u64> {
        while let Some(&Reverse((at, attempt))) = self.ends.peek() {
            if self.calls[attempt as usize].state != State::Gone {
                return Some(at);
            }
            self.ends.pop();
        }
        None
    }

    /// What ends next, to be asked once its time has come; `None` where it has only arrived.
    fn take_answer(&mut self) -> Option<Answer> {
        self.next_end()?;
        let Reverse((at, attempt)) = self.ends.pop()?;
        let call = self.calls[attempt as usize];
        if call.state == State::Coming {
            self.arrive(at, attempt);
            return None;
        }
        self.calls[attempt as usize].state = State::Gone;
        if call.state == State::Served {
            self.free(at);
        }
        Some(Answer { attempt, status: call.status, retry_after_ns: call.retry_after_ns })
    }

    fn refusal(&mut self, now: u64) -> Option<(u16, Option<u64>)> {
        if self.service.is_down(now) {
            return Some((503, None));
        }
        if self.service.most.is_some_and(|most| self.serving + self.waiting >= most) {
            return Some((500, None));
        }
        self.bucket.as_mut().and_then(|bucket| bucket.refuses(now)).map(|wait| (429, wait))
    }

    fn serve(&mut self, now: u64, attempt: u32) {
        let call = &mut self.calls[attempt as usize];
        call.state = State::Served;
        let (Course::Served(long) | Course::Fails(long, _)) = call.course;
        self.serving += 1;
        self.ends.push(Reverse((now.saturating_add(long), attempt)));
    }

    fn free(&mut self, now: u64) {
        self.serving -= 1;
        while let Some(attempt) = self.line.pop_front() {
            if self.calls[attempt as usize].state == State::Waiting {
                self.waiting -= 1;
                self.serve(now, attempt);
                return;
            }
        }
    }
}

impl World for Calls<'_> {
    fn start(&mut self, now: u64, start: Start) {
        self.begin(now, start.item);
    }

    fn cancel(&mut self, now: u64, attempt: AttemptId) {
        self.drop_attempt(now, attempt);
    }

    fn next(&mut self) -> Option<u64> {
        self.next_end()
    }

    fn take(&mut self) -> Option<Event> {
        let Answer { attempt, status, retry_after_ns } = self.take_answer()?;
        let outcome = if status == 200 { Outcome::Ok } else { Outcome::Failed };
        let end = End { outcome, status, retry_after_ns, ..End::default() };
        Some(Event::Ended { attempt, end })
    }
}

/// Tokens that come at a rate, up to a burst; a refused call takes none.
struct Bucket<'a> {
    rate: Rate,
    /// Those that are still to come.
    changes: &'a [RateChange],
    tokens: f64,
    at: u64,
}

impl<'a> Bucket<'a> {
    fn new(rate: Rate, changes: &'a [RateChange]) -> Self {
        Self { rate, changes, tokens: rate.burst, at: 0 }
    }

    /// `Some(what the header says)` where there is no token left.
    fn refuses(&mut self, now: u64) -> Option<Option<u64>> {
        while let [next, later @ ..] = self.changes
            && ns(next.at_s) <= now
        {
            self.fill(ns(next.at_s));
            self.rate.per_s = next.per_s;
            self.changes = later;
        }
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        let wait = (1.0 - self.tokens) / self.rate.per_s;
        let told = if self.rate.retry_after_ms { (wait * 1e3).ceil() / 1e3 } else { wait.ceil() };
        Some((self.rate.retry_after || self.rate.retry_after_ms).then(|| ns(told)))
    }

    fn fill(&mut self, now: u64) {
        self.tokens = (self.tokens + (now - self.at) as f64 / 1e9 * self.rate.per_s).min(self.rate.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::{Latency, Outage, Stall};
    use super::*;

    const S: u64 = 1_000_000_000;

    fn constant() -> Service {
        Service::of(Latency::Constant { seconds: 2.0 })
    }

    fn ends(world: &mut Calls<'_>) -> Vec<(u64, u32, u16)> {
        std::iter::from_fn(|| Some((world.next_end()?, world.take_answer()?)))
            .map(|(at, a)| (at, a.attempt, a.status))
            .collect()
    }

    #[test]
    fn so_many_are_served_at_once_and_the_rest_in_the_order_of_coming() {
        let service = Service { slots: Some(2), ..constant() };
        let mut world = Calls::new(&service, 1, 5);
        (0..5).for_each(|item| world.begin(0, item));
        assert_eq!(
            ends(&mut world),
            [(2 * S, 0, 200), (2 * S, 1, 200), (4 * S, 2, 200), (4 * S, 3, 200), (6 * S, 4, 200)]
        );
    }

    #[test]
    fn a_time_beyond_counting_never_lies_in_the_past() {
        let service = Service { slots: Some(1), ..Service::of(Latency::Constant { seconds: 1e300 }) };
        let mut world = Calls::new(&service, 1, 2);
        (0..2).for_each(|item| world.begin(S, item));
        world.drop_attempt(2 * S, 0);
        assert_eq!(world.next_end(), Some(u64::MAX));
    }

    #[test]
    fn who_is_cancelled_makes_room_at_once() {
        let service = Service { slots: Some(1), ..constant() };
        let mut world = Calls::new(&service, 1, 3);
        (0..3).for_each(|item| world.begin(0, item));
        world.drop_attempt(S, 1);
        world.drop_attempt(S, 0);
        world.drop_attempt(S, 0);
        assert_eq!(ends(&mut world), [(3 * S, 2, 200)]);
    }

    #[test]
    fn more_than_it_takes_in_are_refused() {
        let service = Service { slots: Some(1), most: Some(2), ..constant() };
        let mut world = Calls::new(&service, 1, 4);
        (0..3).for_each(|item| world.begin(0, item));
        world.drop_attempt(S / 20, 1);
        world.begin(S / 20, 3);
        assert_eq!(ends(&mut world), [(S / 10, 2, 500), (2 * S, 0, 200), (4 * S, 3, 200)]);
        assert_eq!(world.refused, 1);
    }

    #[test]
    fn a_rate_admits_a_burst_and_then_what_time_brings_and_says_when_to_return_in_whole_seconds() {
        let service = Service {
            rate: Some(Rate { per_s: 0.4, burst: 2.0, retry_after: true, retry_after_ms: false }),
            ..constant()
        };
        let mut world = Calls::new(&service, 1, 5);
        (0..3).for_each(|item| world.begin(0, item));
        assert_eq!(world.take_answer().map(|a| (a.attempt, a.status, a.retry_after_ns)), Some((2, 429, Some(3 * S))));
        world.begin(2 * S, 3);
        world.begin(2 * S + S / 2, 4);
        let statuses: Vec<_> = ends(&mut world).into_iter().map(|(_, attempt, status)| (attempt, status)).collect();
        assert_eq!(statuses, [(0, 200), (1, 200), (3, 429), (4, 200)]);
    }

    #[test]
    fn a_call_reaches_the_service_later_than_it_was_made_unless_it_is_dropped_on_its_way() {
        let service = Service { slots: Some(1), late: Some(Latency::Constant { seconds: 0.5 }), ..constant() };
        let mut world = Calls::new(&service, 1, 2);
        (0..2).for_each(|item| world.begin(0, item));
        world.drop_attempt(S / 4, 0);
        assert_eq!(world.next_end(), Some(S / 2));
        assert_eq!(world.take_answer(), None, "it has only arrived");
        assert_eq!(ends(&mut world), [(S / 2 + 2 * S, 1, 200)]);
    }

    #[test]
    fn a_rate_may_change_and_what_had_come_until_then_stays() {
        let rate = Rate { per_s: 1.0, burst: 4.0, retry_after: true, retry_after_ms: false };
        let rate_changes = vec![RateChange { at_s: 2.0, per_s: 0.5 }, RateChange { at_s: 4.0, per_s: 2.0 }];
        let service = Service { rate: Some(rate), rate_changes, ..constant() };
        let mut bucket = Bucket::new(rate, &service.rate_changes);
        (0..4).for_each(|_| assert_eq!(bucket.refuses(0), None));
        // Two came in two seconds, and half of one in the next.
        assert_eq!([bucket.refuses(3 * S), bucket.refuses(3 * S)], [None, None]);
        assert_eq!(bucket.refuses(3 * S), Some(Some(S)), "the half that lacks takes a second");
        // Another half until the fourth, two in the fifth.
        assert_eq!([bucket.refuses(5 * S), bucket.refuses(5 * S), bucket.refuses(5 * S)], [None, None, None]);
        assert_eq!(bucket.refuses(5 * S), Some(Some(S)));
    }

    #[test]
    fn a_refusal_may_say_when_to_return_to_the_millisecond() {
        let rate = Rate { per_s: 0.4, burst: 1.0, retry_after: false, retry_after_ms: true };
        let service = Service { rate: Some(rate), ..constant() };
        let mut world = Calls::new(&service, 1, 2);
        (0..2).for_each(|item| world.begin(0, item));
        assert_eq!(world.take_answer().and_then(|a| a.retry_after_ns), Some(2 * S + S / 2));
    }

    #[test]
    fn while_it_is_down_everybody_is_refused() {
        let service = Service { outages: vec![Outage { from_s: 1.0, to_s: 2.0 }], ..constant() };
        let mut world = Calls::new(&service, 1, 3);
        world.begin(0, 0);
        world.begin(S, 1);
        world.begin(2 * S, 2);
        let answers: Vec<_> = ends(&mut world).into_iter().map(|(_, attempt, status)| (attempt, status)).collect();
        assert_eq!(answers, [(1, 503), (0, 200), (2, 200)]);
    }

    #[test]
    fn every_copy_of_an_item_that_stalls_does_each_for_a_time_of_its_own() {
        let stall = |of_item| Some(Stall { share: 0.5, low_s: 20.0, high_s: 90.0, of_item });
        let long = |service: &Service, item, copy| match service.course(3, item, copy) {
            Course::Served(ns) if ns > 2 * S => Some(ns),
            _ => None,
        };
        let of_item = Service { stall: stall(1.0), ..constant() };
        let of_call = Service { stall: stall(0.0), ..constant() };
        let (mut alike, mut different) = (0, 0);
        for item in 0..200 {
            let (first, second) = (long(&of_item, item, 0), long(&of_item, item, 1));
            assert_eq!(first.is_some(), second.is_some());
            assert!(first.is_none() || first != second);
            alike += u32::from(first.is_some());
            different += u32::from(long(&of_call, item, 0).is_some() != long(&of_call, item, 1).is_some());
        }
        assert!((70..130).contains(&alike) && (70..130).contains(&different), "{alike} {different}");
    }
}
