//! The driver in virtual time: the clock jumps to whatever comes next.

use thiserror::Error;

use super::service::{Service, ServiceError};
use super::world::World;
use crate::policy::{Action, Config, ConfigError, End, Event, Outcome, Policy, Totals, Verdict};

/// What a batch came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulated {
    /// From its start to the last item's end, nanoseconds.
    pub wall_ns: u64,
    /// For each item, from its first start to its end, nanoseconds; 0 where it was never started.
    pub call_ns: Vec<u64>,
    /// Items without an answer.
    pub failed: u32,
    /// Calls that the service refused.
    pub refused: u64,
    /// What the policy counted.
    pub totals: Totals,
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

/// Make `items` calls of `service` as `config` says.
///
/// # Arguments
/// - `seed`: that of the service; the policy draws from it too.
///
/// # Errors
/// [`SimError`] names the number that can't be.
pub fn run(config: &Config, service: &Service, items: u32, seed: u64) -> Result<Simulated, SimError> {
    Ok(run_whole(config, service, items, seed, false)?.0)
}

/// The same; the policy comes with it, for what it knows of each item and attempt.
///
/// # Arguments
/// - `record`: keep what the policy is told and asked, for a replay.
///
/// # Errors
/// As [`run`].
pub fn run_whole(
    config: &Config,
    service: &Service,
    items: u32,
    seed: u64,
    record: bool,
) -> Result<(Simulated, Policy), SimError> {
    service.check()?;
    let mut policy = Policy::new(config, seed)?;
    if record {
        policy.record();
    }
    Driver::new(policy, service, items, seed).drive()
}

struct Driver<'a> {
    policy: Policy,
    world: World<'a>,
    now: u64,
    left: u32,
    failed: u32,
    /// First start of each item, then how long it took.
    began: Vec<Option<u64>>,
    call_ns: Vec<u64>,
}

impl<'a> Driver<'a> {
    fn new(policy: Policy, service: &'a Service, items: u32, seed: u64) -> Self {
        Self {
            policy,
            world: World::new(service, seed, items),
            now: 0,
            left: items,
            failed: 0,
            began: vec![None; items as usize],
            call_ns: vec![0; items as usize],
        }
    }

    fn drive(mut self) -> Result<(Simulated, Policy), SimError> {
        self.policy.on_event(0, Event::Queued { count: self.left, key: 0, tokens: 0 });
        self.policy.on_event(0, Event::Closed);
        loop {
            while let Some(action) = self.policy.poll(self.now) {
                self.act(action);
            }
            if self.left == 0 {
                break;
            }
            self.advance()?;
        }
        let outcome = Simulated {
            wall_ns: self.now,
            call_ns: self.call_ns,
            failed: self.failed,
            refused: self.world.refused,
            totals: self.policy.totals(),
        };
        Ok((outcome, self.policy))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { item, .. } => {
                self.began[item as usize].get_or_insert(self.now);
                self.world.start(self.now, item);
            }
            Action::Cancel { attempt, .. } => self.world.cancel(self.now, attempt),
            Action::Resolve { item, verdict, .. } => {
                self.left -= 1;
                self.failed += u32::from(verdict != Verdict::Ok);
                self.call_ns[item as usize] = self.began[item as usize].map_or(0, |began| self.now - began);
            }
        }
    }

    /// Go to what comes next: an end at the service, or what the policy waits for.
    fn advance(&mut self) -> Result<(), SimError> {
        let (answer, due) = (self.world.next(), self.policy.next_deadline());
        let Some(next) = answer.into_iter().chain(due).min() else {
            return Err(SimError::Stuck { at_s: self.now as f64 / 1e9, left: self.left });
        };
        self.now = next.max(self.now);
        if answer == Some(next)
            && let Some(answer) = self.world.take()
        {
            let outcome = if answer.status == 200 { Outcome::Ok } else { Outcome::Failed };
            let retry_after_ns = answer.retry_after_ns;
            let end = End { outcome, status: answer.status, retry_after_ns, ..End::default() };
            self.policy.on_event(self.now, Event::Ended { attempt: answer.attempt, end });
        }
        Ok(())
    }
}
