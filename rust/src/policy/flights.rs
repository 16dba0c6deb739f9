//! Who is in flight, since when, and how crowded it was then. Starts and ends are constant in time; to look at all is one
//! walk over what is in flight.

use std::collections::VecDeque;

use super::AttemptId;
use super::slots::NONE;

/// An attempt in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flight {
    /// Its number.
    pub(super) attempt: AttemptId,
    /// How many were in flight just after it was started, itself included.
    pub(super) crowd: u32,
    /// When that was.
    pub(super) started: u64,
}

/// All attempts in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    flights: Vec<Flight>,
    /// Where each attempt since the oldest in flight stands in `flights`; `NONE` once it has ended.
    places: VecDeque<u32>,
    /// The attempt of the first place.
    oldest: AttemptId,
}

impl Flights {
    /// An attempt starts. Attempts start in the order of their numbers.
    pub(super) fn started(&mut self, attempt: AttemptId, now: u64, crowd: u32) {
        if self.places.is_empty() {
            self.oldest = attempt;
        }
        debug_assert_eq!(attempt, self.oldest + self.places.len() as u32, "attempts are dense");
        self.places.push_back(self.flights.len() as u32);
        self.flights.push(Flight { attempt, crowd, started: now });
    }

    /// An attempt is over: how it was. `None` where it isn't in flight.
    pub(super) fn ended(&mut self, attempt: AttemptId) -> Option<Flight> {
        let at = attempt.checked_sub(self.oldest)? as usize;
        let place = std::mem::replace(self.places.get_mut(at)?, NONE);
        if place == NONE {
            return None;
        }
        let flight = self.flights.swap_remove(place as usize);
        if let Some(moved) = self.flights.get(place as usize) {
            self.places[(moved.attempt - self.oldest) as usize] = place;
        }
        while self.places.front() == Some(&NONE) {
            self.places.pop_front();
            self.oldest += 1;
        }
        Some(flight)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_has_started_and_not_ended_is_in_flight(steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..200)) {
            let mut flights = Flights::default();
            let mut model = Vec::new();
            let mut next = 0;
            for (start, which) in steps {
                if start {
                    flights.started(next, u64::from(next) * 10, which);
                    model.push(Flight { attempt: next, crowd: which, started: u64::from(next) * 10 });
                    next += 1;
                } else {
                    let at = model.iter().position(|f: &Flight| f.attempt == which);
                    prop_assert_eq!(flights.ended(which), at.map(|at| model.remove(at)));
                }
                let mut all: Vec<Flight> = flights.iter().copied().collect();
                all.sort_by_key(|f| f.attempt);
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(flights.places.is_empty(), model.is_empty());
            }
        }
    }
}
