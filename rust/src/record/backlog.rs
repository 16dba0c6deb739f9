//! How far the disk is behind: written by shards and the writer's thread, read by the engine before it issues.

use std::sync::OnceLock;

use crate::clock;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// Behind by this many bytes, issuing stops.
const MAX_BYTES: u64 = 64 << 20;
/// Behind by this long, issuing stops.
const MAX_AGE_NS: u64 = 2_000_000_000;

#[derive(Debug)]
struct State {
    /// Bytes handed over and not yet written.
    queued: AtomicU64,
    /// When what is being written was handed over; 0 while nothing is.
    oldest_ns: AtomicU64,
    failed: AtomicBool,
    error: OnceLock<String>,
}

/// A cheap handle on the writer's backlog; clone it into every worker.
#[derive(Clone, Debug)]
pub struct Backlog {
    state: Arc<State>,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        let state = State {
            queued: AtomicU64::new(0),
            oldest_ns: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            error: OnceLock::new(),
        };
        Self { state: Arc::new(state) }
    }

    /// Whether issuing must stop: the disk is 2 s or 64 MB behind, or it failed.
    pub fn is_behind(&self) -> bool {
        self.is_behind_at(clock::now_ns())
    }

    /// The writer's first error, once it had one.
    pub fn error(&self) -> Option<String> {
        self.state.error.get().cloned()
    }

    pub(crate) fn is_behind_at(&self, now_ns: u64) -> bool {
        // All three are advice that may be a moment old: Relaxed, they pair with nothing.
        let oldest = self.state.oldest_ns.load(Ordering::Relaxed);
        self.state.failed.load(Ordering::Relaxed)
            || self.state.queued.load(Ordering::Relaxed) > MAX_BYTES
            || (oldest != 0 && now_ns.saturating_sub(oldest) > MAX_AGE_NS)
    }

    pub(crate) fn queue(&self, bytes: usize) {
        // Relaxed: a counter of its own; the bytes themselves travel through the channel.
        self.state.queued.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn writing(&self, handed_over_ns: u64) {
        // Relaxed: see `is_behind_at`.
        self.state.oldest_ns.store(handed_over_ns, Ordering::Relaxed);
    }

    /// `bytes` are written, or given up; returns what still waits.
    pub(crate) fn written(&self, bytes: usize) -> u64 {
        // Relaxed: see `queue` and `is_behind_at`.
        self.state.oldest_ns.store(0, Ordering::Relaxed);
        self.state.queued.fetch_sub(bytes as u64, Ordering::Relaxed).saturating_sub(bytes as u64)
    }

    pub(crate) fn fail(&self, error: String) {
        // Only the first error is kept: the later ones follow from it.
        let _ = self.state.error.set(error);
        // Relaxed: the message has the OnceLock's own ordering.
        self.state.failed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_time_or_a_failure_stop_the_issuing() {
        let backlog = Backlog::new();
        backlog.queue(MAX_BYTES as usize);
        assert!(!backlog.is_behind_at(5));
        backlog.queue(1);
        assert!(backlog.is_behind_at(5));
        backlog.written(2);
        assert!(!backlog.is_behind_at(5));

        backlog.writing(100);
        assert!(!backlog.is_behind_at(100 + MAX_AGE_NS));
        assert!(backlog.is_behind_at(101 + MAX_AGE_NS));
        backlog.written(0);
        assert!(!backlog.is_behind_at(u64::MAX));

        backlog.fail("no space".to_owned());
        backlog.fail("second".to_owned());
        assert!(backlog.is_behind_at(5));
        assert_eq!(backlog.error().as_deref(), Some("no space"));
    }
}
