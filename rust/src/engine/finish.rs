//! A request that is over: its row for the log, its words where they are kept, and the news of it for whoever waits.

use std::borrow::Cow;

use super::completions::{Completion, Made, Texts};
use super::config::Completions;
use super::flight::Verdict;
use super::phase_here::PhaseHere;
use super::reception::Reception;
use super::worker::Worker;
use crate::http::{Fault, Secrets};
use crate::record::{Attempt, Detail, Failure, ReadList, Row, TextKind};

/// So many failures of a phase keep their words, on each worker.
pub(super) const TEXTS_KEPT: u32 = 50;

/// How an attempt ended, before it is written down.
#[derive(Clone, Debug)]
pub(super) struct Close {
    pub(super) failure: Failure,
    pub(super) detail: Detail,
    pub(super) text: Box<str>,
}

/// What an answer said, if its text is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) text: &'a [u8],
    pub(super) reasoning: &'a [u8],
    /// Whether more came than these hold.
    pub(super) holds_more: bool,
}

/// Everything of a request that is over.
pub(super) struct Finished<'a> {
    pub(super) row: &'a Row,
    /// Empty where it had only one.
    pub(super) attempts: &'a [Attempt],
    pub(super) made: Made,
    pub(super) reads: &'a ReadList,
    /// `None` where no answer began.
    pub(super) said: Option<Said<'a>>,
    /// When to come again, if the answer said so.
    pub(super) retry_after_ns: Option<u64>,
    /// Why it failed, where there is more to say than the class.
    pub(super) error: &'a str,
}

impl Finished<'_> {
    /// Write it down, and tell of it. The log has it first: who learns of it finds it there.
    pub(super) fn write_down(&self, worker: &Worker, phase: &PhaseHere) {
        self.keep(worker, phase);
        if phase.shared.config.completions != Completions::None {
            worker.tell(self.completion(phase));
        }
        if let Some(events) = &worker.events {
            events.tell(|e| e.ended(self.row));
        }
        worker.note_done(phase, self.row);
        phase.shared.learn(self.row);
    }

    /// Hand everything to the log.
    fn keep(&self, worker: &Worker, phase: &PhaseHere) {
        let mut shard = worker.shard.borrow_mut();
        let secrets = phase.shared.settings.secrets();
        let mut keep_text = |kind, bytes: &[u8]| shard.text(self.row.id, kind, &masked(secrets, bytes));
        if !self.error.is_empty() && self.row.failure != Failure::None && phase.keeps_text(TEXTS_KEPT) {
            keep_text(TextKind::Error, self.error.as_bytes());
        }
        if let Some(said) = self.said.filter(|_| phase.shared.settings.keeps_answer(self.row)) {
            let texts = [(TextKind::Reasoning, said.reasoning), (TextKind::Answer, said.text)];
            texts.into_iter().filter(|(_, text)| !text.is_empty()).for_each(|(kind, text)| keep_text(kind, text));
            if said.holds_more {
                keep_text(TextKind::Unkept, b"");
            }
        }
        shard.push(self.row, self.reads, self.attempts);
    }

    /// What whoever waits for this request is told.
    fn completion(&self, phase: &PhaseHere) -> Completion {
        let secrets = phase.shared.settings.secrets();
        let words = |bytes: &[u8]| String::from_utf8_lossy(&masked(secrets, bytes)).into_owned().into_boxed_str();
        let mut texts = Texts::default();
        let failed = self.row.failure != Failure::None;
        if failed && !self.error.is_empty() {
            texts.error = Some(words(self.error.as_bytes()));
        }
        if let (Completions::Answers, Some(said)) = (phase.shared.config.completions, self.said) {
            texts.text = (!failed || !said.text.is_empty()).then(|| words(said.text));
            texts.reasoning = (!said.reasoning.is_empty()).then(|| words(said.reasoning));
        }
        Completion { row: self.row.clone(), made: self.made, texts, retry_after_ns: self.retry_after_ns }
    }
}

impl<'a> Said<'a> {
    pub(super) fn of(reception: &'a Reception) -> Self {
        let answer = &reception.answer;
        Self { text: answer.text(), reasoning: answer.reasoning(), holds_more: answer.holds_more() }
    }
}

impl Close {
    pub(super) fn good() -> Self {
        Self::with(Failure::None)
    }

    /// A failure without a word.
    pub(super) fn with(failure: Failure) -> Self {
        Self { failure, detail: Detail::None, text: Box::default() }
    }

    pub(super) fn of(fault: Fault) -> Self {
        Self { failure: fault.failure, detail: fault.detail, text: fault.text }
    }

    pub(super) fn by(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Failed(failure) => Self::with(failure),
            Verdict::Lingered => Self::good(),
        }
    }
}

/// A text as it may be kept: a server may echo what it was sent, credentials included.
pub(super) fn masked<'a>(secrets: &Secrets, text: &'a [u8]) -> Cow<'a, [u8]> {
    match secrets.redact(&String::from_utf8_lossy(text)) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(clean) => Cow::Owned(clean.into_bytes()),
    }
}
