//! What is kept of each attempt, for good: 40 bytes.

use super::rows::Rows;
use super::slots::NONE;
use super::{AttemptId, AttemptKind, CancelWhy, End, ItemId, Outcome};

/// All attempts that were ever started.
#[derive(Clone, Debug)]
pub struct Attempts {
    rows: Rows<Row>,
}

/// What is known of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// What was asked.
    pub item: ItemId,
    /// The attempt at the same item before it.
    pub before: Option<AttemptId>,
    /// Why it was made.
    pub kind: AttemptKind,
    /// Where.
    pub node: u16,
    /// When it was started.
    pub started_ns: u64,
    /// When its answer began, to the microsecond.
    pub first_byte_ns: Option<u64>,
    /// When it ended or was dropped, to the microsecond; none while it goes on.
    pub ended_ns: Option<u64>,
    /// What became of it.
    pub fate: Fate,
    /// HTTP status, 0 where there is none.
    pub status: u16,
    /// Tokens of the prompt, 0 where unknown.
    pub tokens_in: u32,
    /// Tokens of the answer, 0 where unknown.
    pub tokens_out: u32,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Fate {
    /// An answer.
    Ok = 0,
    /// Pushed back.
    Rejected = 1,
    /// An error.
    Failed = 2,
    /// It took too long.
    TimedOut = 3,
    /// Nothing more came for too long.
    Stalled = 4,
    /// The stream died after its first token.
    Broken = 5,
    /// It was cancelled: nobody wanted the item, or its time was up.
    Cancelled = 6,
    /// Another copy won.
    Lost = 7,
    /// It goes on.
    Live = 8,
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Rejected => Self::Rejected,
            Outcome::Failed | Outcome::Unreached => Self::Failed,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Stalled => Self::Stalled,
            Outcome::Broken => Self::Broken,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<CancelWhy> for Fate {
    fn from(why: CancelWhy) -> Self {
        match why {
            CancelWhy::Lost => Self::Lost,
            CancelWhy::TimedOut => Self::TimedOut,
            CancelWhy::CallerLeft | CancelWhy::CallTimedOut => Self::Cancelled,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    started: u64,
    item: u32,
    before: u32,
    /// Microseconds from its start, `NONE` for never. An attempt takes an hour at most (`Config`), so they fit.
    first_byte_us: u32,
    ended_us: u32,
    tokens_in: u32,
    tokens_out: u32,
    status: u16,
    node: u16,
    kind: AttemptKind,
    fate: Fate,
    /// The driver has told of its end.
    settled: bool,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { rows: Rows::new() }
    }

    /// How many there ever were.
    pub fn len(&self) -> u32 {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of an attempt; nothing of one that was forgotten.
    pub fn get(&self, attempt: AttemptId) -> Option<Attempt> {
        let row = self.rows.get(attempt)?;
        let stamp = |us| (us != NONE).then(|| row.started + u64::from(us) * 1_000);
        Some(Attempt {
            item: row.item,
            before: (row.before != NONE).then_some(row.before),
            kind: row.kind,
            node: row.node,
            started_ns: row.started,
            first_byte_ns: stamp(row.first_byte_us),
            ended_ns: stamp(row.ended_us),
            fate: row.fate,
            status: row.status,
            tokens_in: row.tokens_in,
            tokens_out: row.tokens_out,
        })
    }

    /// Forget the oldest ones that are over, and whose items are done.
    pub(super) fn forget(&mut self, is_done: impl Fn(ItemId) -> bool) {
        self.rows.forget_while(|row| row.fate != Fate::Live && is_done(row.item));
    }

    pub(super) fn push(&mut self, item: ItemId, before: u32, kind: AttemptKind, node: u16, started: u64) -> AttemptId {
        self.rows.push(Row {
            started,
            item,
            before,
            first_byte_us: NONE,
            ended_us: NONE,
            tokens_in: 0,
            tokens_out: 0,
            status: 0,
            node,
            kind,
            fate: Fate::Live,
            settled: false,
        })
    }

    /// The item of an attempt that goes on; none where it is over, or was never started.
    pub(super) fn live_item(&self, attempt: AttemptId) -> Option<ItemId> {
        let row = self.rows.get(attempt)?;
        (row.fate == Fate::Live).then_some(row.item)
    }

    /// Its answer has begun.
    pub(super) fn first_byte(&mut self, attempt: AttemptId, now: u64) {
        let row = &mut self.rows[attempt];
        if row.first_byte_us == NONE {
            row.first_byte_us = since(row.started, now);
        }
    }

    /// It is over.
    pub(super) fn close(&mut self, attempt: AttemptId, now: u64, fate: Fate) {
        let row = &mut self.rows[attempt];
        row.ended_us = since(row.started, now);
        row.fate = fate;
    }

    /// Its driver has told what it cost: true the first time, and for an attempt that is over.
    pub(super) fn settle(&mut self, attempt: AttemptId, end: &End) -> bool {
        if self.rows.get(attempt).is_none_or(|row| row.settled || row.fate == Fate::Live) {
            return false;
        }
        let row = &mut self.rows[attempt];
        row.settled = true;
        row.status = end.status;
        row.tokens_in = end.tokens_in;
        row.tokens_out = end.tokens_out;
        true
    }
}

fn since(started: u64, now: u64) -> u32 {
    u32::try_from((now - started) / 1_000).unwrap_or(NONE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_settled_once_and_only_after_it_is_over() {
        let mut attempts = Attempts::new();
        let attempt = attempts.push(3, NONE, AttemptKind::First, 0, 1_000);
        let end = End { tokens_out: 9, ..End::default() };
        assert!(!attempts.settle(attempt, &end));
        attempts.close(attempt, 51_999, Fate::Lost);
        assert!(attempts.settle(attempt, &end));
        assert!(!attempts.settle(attempt, &End::default()) && !attempts.settle(1, &end));
        let row = attempts.get(attempt).unwrap();
        assert_eq!((row.ended_ns, row.fate, row.tokens_out), (Some(51_000), Fate::Lost, 9));
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<Row>(), 40);
    }
}
