//! A batch against one service, in virtual time.

use super::calls::Calls;
use super::drive::{SimError, drive};
use super::service::Service;
use crate::policy::{Config, Policy, Totals};

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
    let driven = drive(policy, Calls::new(service, seed, items), items)?;
    let outcome = Simulated {
        wall_ns: driven.wall_ns,
        call_ns: driven.call_ns,
        failed: driven.failed,
        refused: driven.world.refused,
        totals: driven.policy.totals(),
    };
    Ok((outcome, driven.policy))
}
