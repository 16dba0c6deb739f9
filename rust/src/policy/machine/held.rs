//! What holds back whoever is first in line, and for how long in all: an item's waits are differences of these clocks.

use super::super::items::HeldBack;

/// Why nobody starts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum By {
    /// Nothing does: the line is empty, or somebody starts now.
    #[default]
    Nothing,
    /// No permit is free, or no node takes calls.
    Limit,
    /// A rate: the pacer's, or requests and tokens a minute.
    Rate,
}

/// The clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    clocks: HeldBack,
    by: By,
    since: u64,
}

impl Held {
    /// The clocks by now.
    pub(super) fn at(&mut self, now: u64) -> HeldBack {
        let passed = now - self.since;
        self.since = now;
        match self.by {
            By::Nothing => {}
            By::Limit => self.clocks.limit += passed,
            By::Rate => self.clocks.rate += passed,
        }
        self.clocks
    }

    /// From now on it is this that holds them back.
    pub(super) fn by(&mut self, now: u64, by: By) {
        self.at(now);
        self.by = by;
    }
}
