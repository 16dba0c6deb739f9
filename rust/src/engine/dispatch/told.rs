//! What a phase's policy comes to, for whoever watches from outside.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{NodeTold, account};
use crate::policy::{Policy, Totals};

/// Told some times a second while the policy works; and the policy itself, once it has done its work.
#[derive(Default)]
pub(in crate::engine) struct PolicyTold(Mutex<Told>);

#[derive(Default)]
struct Told {
    totals: Totals,
    nodes: Vec<NodeTold>,
    policy: Option<Policy>,
}

impl PolicyTold {
    /// The policy counts this by now, and knows this of each node. Whoever looks at it just then is not waited for.
    pub(super) fn tell(&self, totals: Totals, nodes: Vec<NodeTold>) {
        if let Ok(mut told) = self.0.try_lock() {
            (told.totals, told.nodes) = (totals, nodes);
        }
    }

    /// The policy has done its work, and left each node so.
    pub(in crate::engine) fn keep(&self, policy: Policy, nodes: Vec<NodeTold>) {
        *self.lock() = Told { totals: policy.totals(), nodes, policy: Some(policy) };
    }

    /// What it counts: exact once it has done its work, zeros where there is none.
    pub(in crate::engine) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// What it knows of each node, likewise.
    pub(in crate::engine) fn nodes(&self) -> Vec<NodeTold> {
        self.lock().nodes.clone()
    }

    /// What the log keeps of it, once it has done its work.
    pub(in crate::engine) fn account(&self) -> Option<Value> {
        self.lock().policy.as_ref().map(account)
    }

    /// The policy, once it has done its work; once.
    pub(in crate::engine) fn take(&self) -> Option<Policy> {
        self.lock().policy.take()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // A poisoned lock means that a caller panicked while it looked; nothing is half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
