//! What the rate of the service's bucket can be, by what it let in and what it refused.
//!
//! The last starts are poured through a bucket of a guessed rate. Would it have refused what was let in, the guess is too low;
//! would it have let in what was refused, too high. A faster bucket is never emptier, so both bounds are found by halving. It
//! doesn't matter how starts were spread, or whether the bucket ran over meanwhile. No clock of the service enters. Of starts
//! that were made nearer to each other than their ways differ nobody knows which came first.
//! Source: the token bucket of RFC 2697, read backwards.

use std::collections::VecDeque;

use super::super::{AttemptId, SECOND};

/// Starts that are kept: enough to know a rate within a hundredth.
const KEPT: usize = 128;
/// So few are explained by some bucket, whatever they say.
const FEW: usize = 8;
/// A rate lies between a start an hour and as many as nobody makes.
pub(super) const SLOWEST: f64 = 1.0 / 3_600.0;
pub(super) const FASTEST: f64 = 1e6;
/// Bounds are found to this factor.
const EXACT: f64 = 1.005;
/// Seconds by which two starts may reach the service nearer to each other, or further apart, than they were made: at first, and
/// at most, where less explains nothing.
const JITTER_S: f64 = 1e-3;
const JITTER_MOST_S: f64 = 0.02;
/// A lower bound that rises by less isn't worth the look.
const RISES: f64 = 1.02;
/// What is left of a bound that was too high, at most.
const YIELDS: f64 = 0.95;
/// A full bucket is taken to hold so much less, at least, than was thought, when it refuses too early.
const SHRINKS: f64 = 1.0;
/// What a bucket holds at most that refused: less than one.
const REFUSES: f64 = 1.0 - 1e-6;

/// The bounds of a rate, and the starts that tell them.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    starts: VecDeque<Start>,
    /// Those that were let in before the first refusal, or with it, which tell what a full bucket holds: until this.
    opening: Vec<Start>,
    opening_ends: u64,
    /// It holds no more than this, whatever they tell: what came in while they arrived isn't known.
    holds_most: f64,
    /// Whether any was forgotten: then nobody knows how full it was before the first of them.
    forgot: bool,
    jitter_s: f64,
    /// What it may have held beyond what was seen.
    spare: f64,
    least: f64,
    most: f64,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    attempt: AttemptId,
    at: u64,
    /// The rate at which it was made.
    rate: f64,
    refused: bool,
}

/// A bucket of a guessed rate, and what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Poured {
    per_s: f64,
    /// What comes in while a start is under way, if it is as late as any.
    near: f64,
    /// As much as it can hold, and as little as it holds when it is full.
    more: f64,
    full: f64,
    /// What can be in it, at most, and what is in it for sure: at this time.
    high: f64,
    low: f64,
    at: u64,
    /// It would have refused what was let in.
    too_slow: bool,
    /// It would have let in what was refused.
    too_fast: bool,
}

impl Bucket {
    /// A bucket of which nothing is known.
    pub(super) fn new() -> Self {
        Self {
            starts: VecDeque::with_capacity(KEPT),
            opening: Vec::new(),
            opening_ends: u64::MAX,
            holds_most: f64::INFINITY,
            forgot: false,
            jitter_s: JITTER_S,
            spare: 0.0,
            least: SLOWEST,
            most: FASTEST,
        }
    }

    /// Starts a second that come into it at least.
    pub(super) fn least(&self) -> f64 {
        self.least
    }

    /// And at most.
    pub(super) fn most(&self) -> f64 {
        self.most
    }

    /// Believe that this is its rate, until something contradicts it.
    pub(super) fn believe(&mut self, rate: f64) {
        (self.least, self.most) = (rate, rate);
    }

    /// Believe that this is too fast. If it must not be, a full bucket held more than was seen of it, or others take from it.
    pub(super) fn doubt(&mut self, rate: f64, known: u64) {
        if rate <= self.least * EXACT * EXACT {
            self.spare = 2.0 * self.spare + 1.0;
            self.least = self.least_of(known).min(rate * YIELDS);
        }
        self.most = rate.min(self.most * YIELDS).max(self.least);
    }

    /// Whether any was let in of those started since then, up to `known`.
    pub(super) fn let_in(&self, since: u64, known: u64) -> bool {
        let mut late = self.starts.iter().rev().take_while(|start| start.at >= since);
        late.any(|start| !start.refused && start.at < known)
    }

    /// An attempt was started, at such a rate; their numbers rise.
    #[inline]
    pub(super) fn started(&mut self, attempt: AttemptId, at: u64, rate: f64) {
        if self.starts.len() == KEPT {
            self.starts.pop_front();
            self.forgot = true;
        }
        self.starts.push_back(Start { attempt, at, rate, refused: false });
    }

    /// It was refused; the rate at which it was made, if it isn't forgotten.
    pub(super) fn refused(&mut self, attempt: AttemptId) -> Option<f64> {
        let i = self.starts.binary_search_by_key(&attempt, |start| start.attempt).ok()?;
        self.starts[i].refused = true;
        self.refused_too_early(i);
        // Refusals may come in any order, and those that were let in may have arrived before who was started a moment earlier.
        let ends = self.starts[i].at.saturating_add((self.jitter_s * SECOND) as u64);
        if self.opening_ends == u64::MAX {
            let first = self.starts.iter().take_while(|start| start.at <= ends);
            self.opening.extend(first.filter(|start| !start.refused));
        }
        self.opening_ends = self.opening_ends.min(ends);
        self.opening.retain(|start| start.attempt != attempt && start.at <= self.opening_ends);
        Some(self.starts[i].rate)
    }

    /// Where a bucket that had rested for long enough to be full refuses the `i`-th start, it holds no more than what it let in
    /// since; but by one only, or by what came in while the first ones arrived: others may have taken the rest.
    fn refused_too_early(&mut self, i: usize) {
        let full = self.full(self.least);
        let rest = full / self.least * SECOND;
        let mut let_in = 0.0;
        for j in (1..=i).rev() {
            if (self.starts[j].at - self.starts[j - 1].at) as f64 >= rest {
                let less = full - (self.least * JITTER_MOST_S).max(SHRINKS);
                self.holds_most = self.holds_most.min(less.max(let_in)).max(1.0);
                return;
            }
            if self.starts[j - 1].refused {
                return;
            }
            let_in += 1.0;
        }
    }

    /// What it holds when it is full, if it has this rate: what was let in at first, less what came into it meanwhile.
    pub(super) fn full(&self, per_s: f64) -> f64 {
        let (mut taken, mut most, mut at) = (0.0, 1.0, 0);
        for start in &self.opening {
            taken = f64::max(taken - per_s * (start.at - at) as f64 / SECOND, 0.0) + 1.0;
            (most, at) = (f64::max(most, taken), start.at);
        }
        most.min(self.holds_most)
    }

    /// What is in it at least.
    pub(super) fn level(&self, now: u64) -> f64 {
        let poured = self.pour(self.least, u64::MAX);
        let since = now.saturating_sub(poured.at);
        (poured.low + self.least * since as f64 / SECOND).min(self.full(self.most))
    }

    /// Find both bounds anew. What was started after `known` may still be refused.
    pub(super) fn learn(&mut self, known: u64) {
        loop {
            let (least, most) = (self.least_of(known), halve(|rate| !self.pour(rate, known).too_fast));
            if least <= most * EXACT && most > SLOWEST {
                // What was known before holds until it is contradicted.
                let (was_least, was_most) = (self.least, self.most);
                self.least = if was_least <= most { was_least.max(least) } else { least };
                self.most = if least <= was_most { was_most.min(most) } else { most }.max(self.least);
                return;
            }
            if !self.doubts() {
                return;
            }
        }
    }

    /// No bucket explains what was seen. Perhaps it wasn't full at first, or starts arrive at other times than they are made;
    /// or the service has changed, and what is older tells nothing. Whether there is anything left to doubt.
    fn doubts(&mut self) -> bool {
        if !self.forgot {
            self.forgot = true;
        } else if self.jitter_s < JITTER_MOST_S {
            self.jitter_s = (self.jitter_s * 3.0).min(JITTER_MOST_S);
        } else if self.starts.len() > FEW {
            self.starts.drain(..self.starts.len() / 2);
            self.jitter_s = JITTER_S;
        } else {
            return false;
        }
        true
    }

    /// Raise the lower bound if what was let in up to `known` does; whether it did. Where it passes the upper one, the service
    /// has become faster, nobody knows by how much.
    pub(super) fn confirm(&mut self, known: u64) -> bool {
        let rises = self.pour(self.least * RISES, known).too_slow;
        if rises {
            self.least = self.least.max(self.least_of(known));
            self.most = if self.least > self.most * RISES { FASTEST } else { self.most.max(self.least) };
        }
        rises
    }

    fn least_of(&self, known: u64) -> f64 {
        halve(|rate| self.pour(rate, known).too_slow)
    }

    /// Pour the starts through a bucket of this rate. One that was refused may have come later than all that were let in
    /// within the time that starts are apart on their ways: it is looked at after these.
    fn pour(&self, per_s: f64, known: u64) -> Poured {
        let late = (self.jitter_s * SECOND) as u64;
        let refused = self.starts.iter().filter(|start| start.refused);
        let mut refused = refused.map(|start| start.at.saturating_add(late)).peekable();
        let mut poured = self.full_of(per_s);
        for start in self.starts.iter().filter(|start| !start.refused) {
            while let Some(at) = refused.next_if(|&at| at <= start.at) {
                poured.refuse(at);
            }
            poured.let_in(start.at, start.at < known);
        }
        refused.for_each(|at| poured.refuse(at));
        poured
    }

    /// As it is before the first start.
    fn full_of(&self, per_s: f64) -> Poured {
        let full = self.full(per_s);
        let more = (full - 1e-6).ceil() + self.spare;
        Poured {
            per_s,
            near: per_s * self.jitter_s,
            more,
            full,
            high: more,
            low: if self.forgot { 0.0 } else { full },
            at: self.starts.front().map_or(0, |first| first.at),
            too_slow: false,
            too_fast: false,
        }
    }
}

impl Poured {
    /// What has come by then since it was looked at last.
    fn came(&mut self, at: u64) -> f64 {
        let since = at - std::mem::replace(&mut self.at, at);
        self.per_s * since as f64 / SECOND
    }

    /// A start was let in; it `counts` if it can't be refused any more.
    fn let_in(&mut self, at: u64, counts: bool) {
        let came = self.came(at);
        self.too_slow |= counts && (self.high + came + self.near).min(self.more) < REFUSES;
        self.high = ((self.high + came).min(self.more) - 1.0).max(0.0);
        self.low = ((self.low + came).min(self.full) - 1.0).max(0.0);
    }

    /// A start was refused, at this time or less than a jitter earlier.
    fn refuse(&mut self, at: u64) {
        let came = self.came(at);
        self.too_fast |= (self.low + came - self.near).min(self.full) > REFUSES;
        self.high = (self.high + came).min(REFUSES + self.near);
        self.low = (self.low + came).min(REFUSES);
    }
}

/// The highest rate up to which this holds.
fn halve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (SLOWEST, FASTEST);
    if holds(high) {
        return high;
    }
    while high > low * EXACT {
        let middle = (low * high).sqrt();
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests;
