//! What a policy's work shows of each node: what the policy knows of it, and why the latest attempt failed there.

use std::cell::RefCell;

use crate::engine::finish::masked;
use crate::engine::request::Given;
use crate::http::Secrets;
use crate::policy::{NodeView, Policy};
use crate::record::Failure;

/// One node, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTold {
    /// As the policy sees it; `None` where it spreads nothing over nodes.
    pub view: Option<NodeView>,
    /// Why the latest attempt failed there, secrets masked; empty if none has.
    pub failure: Box<str>,
}

/// The nodes of a phase that a policy spreads its items over.
pub(super) struct DispatchNodes {
    failures: RefCell<Box<[Box<str>]>>,
}

impl DispatchNodes {
    /// So many nodes, none of which has failed.
    pub(super) fn new(count: usize) -> Self {
        Self { failures: RefCell::new(vec![Box::default(); count].into_boxed_slice()) }
    }

    /// Whether an item may go to another.
    pub(super) fn are_several(&self) -> bool {
        self.failures.borrow().len() > 1
    }

    /// An attempt has ended: if it failed, that is its node's latest failure.
    pub(super) fn note(&self, given: &Given, secrets: &Secrets) {
        let (row, words) = (&given.row, &given.close.text);
        let Some(node) = row.node.filter(|_| !matches!(row.failure, Failure::None | Failure::Cancelled)) else {
            return;
        };
        let words = if words.is_empty() { row.failure.name() } else { words };
        let words = String::from_utf8_lossy(&masked(secrets, words.as_bytes())).into_owned();
        self.failures.borrow_mut()[usize::from(node)] = words.into();
    }

    /// All of them, in the run's order.
    pub(super) fn told(&self, policy: &Policy) -> Vec<NodeTold> {
        let failures = self.failures.borrow();
        (0..)
            .zip(failures.iter())
            .map(|(node, failure)| NodeTold { view: policy.node(node), failure: failure.clone() })
            .collect()
    }
}
