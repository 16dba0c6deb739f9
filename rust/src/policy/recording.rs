//! What a driver told the policy and asked of it, to be told and asked again: the same actions must come.

use serde::{Deserialize, Serialize};

use super::{Action, Config, ConfigError, Event, Policy};

/// One thing that a driver did.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It told of something.
    Told(u64, Event),
    /// It asked what to do.
    Polled(u64),
}

/// What a driver did, and what the policy had it do.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Recording {
    /// Steps in their order.
    pub steps: Vec<Step>,
    /// Actions in their order.
    pub actions: Vec<Action>,
}

/// Do again what a driver did, with a new policy; return what that one has it do.
pub fn replay(config: &Config, seed: u64, recording: &Recording) -> Result<Vec<Action>, ConfigError> {
    let mut policy = Policy::new(config, seed)?;
    let mut actions = Vec::with_capacity(recording.actions.len());
    for step in &recording.steps {
        match *step {
            Step::Told(now, event) => policy.on_event(now, event),
            Step::Polled(now) => actions.extend(policy.poll(now)),
        }
    }
    Ok(actions)
}
