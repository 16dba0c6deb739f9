//! The service at work: who is being served, who waits in line, and what ends when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::service::{Course, Rate, Service, ns};

/// How an attempt ended at the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    /// Whose it is.
    pub attempt: u32,
    /// HTTP status; 200 is an answer.
    pub status: u16,
    /// What a 429 said.
    pub retry_after_ns: Option<u64>,
}

/// A service with the calls that are with it.
pub(super) struct World<'a> {
    service: &'a Service,
    seed: u64,
    calls: Vec<Call>,
    /// Attempts made of each item so far: which draws the next one takes.
    copies: Vec<u32>,
    line: VecDeque<u32>,
    serving: u32,
    waiting: u32,
    bucket: Option<Bucket>,
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    /// Calls refused, for the account.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
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

impl<'a> World<'a> {
    pub(super) fn new(service: &'a Service, seed: u64, items: u32) -> Self {
        Self {
            service,
            seed,
            calls: Vec::new(),
            copies: vec![0; items as usize],
            line: VecDeque::new(),
            serving: 0,
            waiting: 0,
            bucket: service.rate.map(Bucket::new),
            ends: BinaryHeap::new(),
            refused: 0,
        }
    }

    /// The next attempt, one of `item`, arrives. Attempts are numbered from 0 in the order of this call.
    pub(super) fn start(&mut self, now: u64, item: u32) {
        let attempt = self.calls.len() as u32;
        let copy = self.copies[item as usize];
        self.copies[item as usize] += 1;
        let course = self.service.course(self.seed, item, copy);
        self.calls.push(Call { state: State::Refused, course, status: 200, retry_after_ns: None });
        if let Some((status, retry_after_ns)) = self.refusal(now) {
            self.refused += 1;
            self.calls[attempt as usize] = Call { state: State::Refused, course, status, retry_after_ns };
            self.ends.push(Reverse((now + ns(self.service.refuse_s), attempt)));
        } else if let Course::Fails(after, status) = course {
            self.calls[attempt as usize] = Call { state: State::Refused, course, status, retry_after_ns: None };
            self.ends.push(Reverse((now + after, attempt)));
        } else if self.service.slots.is_none_or(|slots| self.serving < slots) {
            self.serve(now, attempt);
        } else {
            self.calls[attempt as usize].state = State::Waiting;
            self.line.push_back(attempt);
            self.waiting += 1;
        }
    }

    /// The client has dropped this attempt's connection: its place is free at once.
    pub(super) fn cancel(&mut self, now: u64, attempt: u32) {
        let call = &mut self.calls[attempt as usize];
        let was = std::mem::replace(&mut call.state, State::Gone);
        match was {
            State::Served => self.free(now),
            // Its entry in the line is skipped when its turn comes.
            State::Waiting => self.waiting -= 1,
            State::Refused | State::Gone => {}
        }
    }

    /// When the next attempt ends; `None` while none is under way.
    pub(super) fn next(&mut self) -> Option<u64> {
        while let Some(&Reverse((at, attempt))) = self.ends.peek() {
            if self.calls[attempt as usize].state != State::Gone {
                return Some(at);
            }
            self.ends.pop();
        }
        None
    }

    /// What ends next, to be asked once its time has come.
    pub(super) fn take(&mut self) -> Option<Answer> {
        self.next()?;
        let Reverse((at, attempt)) = self.ends.pop()?;
        let call = self.calls[attempt as usize];
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
        self.ends.push(Reverse((now + long, attempt)));
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

/// Tokens that come at a rate, up to a burst; a refused call takes none.
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, tokens: rate.burst, at: 0 }
    }

    /// `Some(what the header says)` where there is no token left.
    fn refuses(&mut self, now: u64) -> Option<Option<u64>> {
        self.tokens = (self.tokens + (now - self.at) as f64 / 1e9 * self.rate.per_s).min(self.rate.burst);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        let wait = ((1.0 - self.tokens) / self.rate.per_s).ceil();
        Some(self.rate.retry_after.then(|| ns(wait)))
    }
}
