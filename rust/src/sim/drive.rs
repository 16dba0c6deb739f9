//! The driver in virtual time: the clock jumps to whatever comes next, in whatever world the calls are made.

use thiserror::Error;

use super::service::ServiceError;
use crate::policy::{Action, AttemptId, ConfigError, Event, ItemId, Policy, Verdict};

/// Where attempts go, and when they end.
pub(super) trait World {
    /// An attempt begins. They come in the order of their numbers, from 0.
    fn start(&mut self, now: u64, start: Start);

    /// The client has dropped it. Of an attempt that has ended, it changes nothing.
    fn cancel(&mut self, now: u64, attempt: AttemptId);

    /// When something happens next; `None` while nothing will.
    fn next(&mut self) -> Option<u64>;

    /// What the policy is told of it, to be asked once its time has come.
    fn take(&mut self) -> Option<Event>;
}

/// An attempt, as it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Start {
    pub attempt: AttemptId,
    pub item: ItemId,
    pub node: u16,
}

/// What came of it.
pub(super) struct Driven<W> {
    pub policy: Policy,
    pub world: W,
    /// From the start to the last item's end, nanoseconds.
    pub wall_ns: u64,
    /// For each item, from its first start to its end, nanoseconds; 0 where it was never started.
    pub call_ns: Vec<u64>,
    /// Items without an answer.
    pub failed: u32,
}

/// Why a batch could not be simulated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimError {
    /// The policy can't be made.
    #[error(transparent)]
    Policy(#[from] ConfigError),
    /// The service can't be.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Nothing more would happen, and items are left.
    #[error("the policy waits for nothing at {at_s} s with {left} items left: a bug in it")]
    Stuck {
        /// Virtual time, seconds.
        at_s: f64,
        /// Items without a verdict.
        left: u32,
    },
}

/// Have a policy make the calls of `items` items in a world.
///
/// # Errors
/// [`SimError::Stuck`], which is a bug in the policy.
pub(super) fn drive<W: World>(policy: Policy, world: W, items: u32) -> Result<Driven<W>, SimError> {
    let driven = Driven { policy, world, wall_ns: 0, call_ns: vec![0; items as usize], failed: 0 };
    Driver { driven, left: items, began: vec![None; items as usize] }.drive()
}

struct Driver<W> {
    /// Its `wall_ns` is the clock.
    driven: Driven<W>,
    left: u32,
    /// First start of each item.
    began: Vec<Option<u64>>,
}

impl<W: World> Driver<W> {
    fn drive(mut self) -> Result<Driven<W>, SimError> {
        self.tell(Event::Queued { count: self.left, key: 0, tokens: 0 });
        self.tell(Event::Closed);
        loop {
            while let Some(action) = self.driven.policy.poll(self.driven.wall_ns) {
                self.act(action);
            }
            if self.left == 0 {
                return Ok(self.driven);
            }
            self.advance()?;
        }
    }

    fn tell(&mut self, event: Event) {
        self.driven.policy.on_event(self.driven.wall_ns, event);
    }

    fn act(&mut self, action: Action) {
        let now = self.driven.wall_ns;
        match action {
            Action::Start { attempt, item, node, .. } => {
                self.began[item as usize].get_or_insert(now);
                self.driven.world.start(now, Start { attempt, item, node });
            }
            Action::Cancel { attempt, .. } => self.driven.world.cancel(now, attempt),
            Action::Resolve { item, verdict, .. } => {
                self.left -= 1;
                self.driven.failed += u32::from(verdict != Verdict::Ok);
                self.driven.call_ns[item as usize] = self.began[item as usize].map_or(0, |began| now - began);
            }
        }
    }

    /// Go to what comes next: something in the world, or what the policy waits for.
    fn advance(&mut self) -> Result<(), SimError> {
        let (there, due) = (self.driven.world.next(), self.driven.policy.next_deadline());
        let Some(next) = there.into_iter().chain(due).min() else {
            return Err(SimError::Stuck { at_s: self.driven.wall_ns as f64 / 1e9, left: self.left });
        };
        self.driven.wall_ns = next.max(self.driven.wall_ns);
        if there == Some(next)
            && let Some(event) = self.driven.world.take()
        {
            self.tell(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Config;

    /// Takes attempts, and never ends one.
    struct Silence;

    impl World for Silence {
        fn start(&mut self, _: u64, _: Start) {}
        fn cancel(&mut self, _: u64, _: AttemptId) {}
        fn next(&mut self) -> Option<u64> {
            None
        }
        fn take(&mut self) -> Option<Event> {
            None
        }
    }

    fn policy() -> Policy {
        let mut config = Config::named("sequential", 1, None, None).unwrap();
        config.attempt_timeout_s = 60.0;
        config.retry.attempts = 1;
        Policy::new(&config, 0).unwrap()
    }

    #[test]
    fn a_world_that_never_answers_is_left_to_the_policys_own_clock() {
        let driven = drive(policy(), Silence, 2).unwrap();
        assert_eq!((driven.failed, driven.wall_ns), (2, 120_000_000_000));
    }

    #[test]
    fn a_policy_that_waits_for_nothing_with_items_left_is_an_error() {
        let driven =
            Driven { policy: policy(), world: Silence, wall_ns: 5_000_000_000, call_ns: vec![0; 2], failed: 0 };
        let error = Driver { driven, left: 2, began: vec![None; 2] }.advance().unwrap_err();
        assert_eq!(error.to_string(), "the policy waits for nothing at 5 s with 2 items left: a bug in it");
    }
}
