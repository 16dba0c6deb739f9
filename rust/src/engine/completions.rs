//! Requests that have ended, for somebody outside who waits for them: told one by one, never lost, taken in batches.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::bell::Bell;
use crate::record::{AttemptKind, Row};
use crate::sync::Arc;

/// One request that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// As it stands in the log.
    pub row: Row,
    /// How often it was tried.
    pub made: Made,
    /// What was said.
    pub texts: Texts,
    /// How long to wait before coming again, if the answer said so and phases like this one are told.
    pub retry_after_ns: Option<u64>,
}

/// The attempts of one request, as its policy counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What the attempt was for that its end is of.
    pub kind: AttemptKind,
    /// How many there were.
    pub attempts: u32,
    /// How many of them were copies.
    pub hedges: u32,
}

impl Made {
    /// What no policy decides over is tried once.
    pub(super) const ONCE: Self = Self { kind: AttemptKind::First, attempts: 1, hedges: 0 };
}

/// The words of one request's end, secrets masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The answer, of phases that ask for answers: empty where a good answer held no text, `None` where a bad one did.
    pub text: Option<Box<str>>,
    /// Its reasoning, where there was any.
    pub reasoning: Option<Box<str>>,
    /// Why it failed, where there is more to say than the class.
    pub error: Option<Box<str>>,
}

/// A worker's end.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    sender: Sender<Completion>,
    bell: Arc<Bell>,
    /// The bell waits.
    held: Cell<bool>,
    /// Something was told meanwhile.
    owed: Cell<bool>,
}

impl Teller {
    /// A request has ended.
    pub(super) fn tell(&self, completion: Completion) {
        // The taker outlives the workers, but for an engine that is dropped: then nobody waits any more.
        if self.sender.send(completion).is_ok() {
            self.owed.set(true);
            if !self.held.get() {
                self.ring();
            }
        }
    }

    /// While what this returns lives, the bell waits for a [`Teller::ring`], or for what is told later: whom it wakes may
    /// take the very processor that is needed first for something else.
    pub(super) fn hold(&self) -> Held<'_> {
        self.held.set(true);
        Held(self)
    }

    /// Ring for what was told while the bell was held.
    pub(super) fn ring(&self) {
        if self.owed.take() {
            self.bell.ring();
        }
    }
}

/// While it lives the bell waits.
pub(super) struct Held<'a>(&'a Teller);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
    }
}

/// The other end, for one taker at a time.
#[derive(Debug)]
pub(super) struct Taker {
    receiver: Mutex<Receiver<Completion>>,
    bell: Arc<Bell>,
}

impl Taker {
    /// Both ends.
    pub(super) fn new() -> io::Result<(Self, Teller)> {
        let (sender, receiver) = channel();
        let bell = Arc::new(Bell::new()?);
        let taker = Self { receiver: Mutex::new(receiver), bell: Arc::clone(&bell) };
        Ok((taker, Teller { sender, bell, held: Cell::default(), owed: Cell::default() }))
    }

    /// Readable while something waits.
    pub(super) fn fd(&self) -> RawFd {
        self.bell.fd()
    }

    /// All that wait, in the order of each worker.
    pub(super) fn take(&self) -> Vec<Completion> {
        // A poisoned lock means that another taker panicked; what is in the channel is whole.
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        self.bell.hush();
        receiver.try_iter().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ended(id: u64) -> Completion {
        Completion {
            row: Row { id, ..Row::default() },
            made: Made::ONCE,
            texts: Texts::default(),
            retry_after_ns: None,
        }
    }

    fn is_rung(taker: &Taker) -> bool {
        let mut poll = libc::pollfd { fd: taker.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        (unsafe { libc::poll(&mut poll, 1, 0) }) == 1
    }

    fn ids(taker: &Taker) -> Vec<u64> {
        taker.take().iter().map(|completion| completion.row.id).collect()
    }

    #[test]
    fn each_is_rung_for_when_it_is_told() {
        let (taker, teller) = Taker::new().unwrap();
        assert!(!is_rung(&taker));
        teller.tell(ended(1));
        assert!(is_rung(&taker));
        assert_eq!((ids(&taker), is_rung(&taker)), (vec![1], false));
    }

    #[test]
    fn while_the_bell_is_held_it_is_silent_and_rings_when_asked_to() {
        let (taker, teller) = Taker::new().unwrap();
        let held = teller.hold();
        teller.tell(ended(1));
        teller.tell(ended(2));
        drop(held);
        assert!(!is_rung(&taker));
        teller.ring();
        assert!(is_rung(&taker));
        assert_eq!(ids(&taker), [1, 2]);
        teller.ring();
        assert!(!is_rung(&taker), "nothing is owed any more");
    }

    #[test]
    fn what_was_told_silently_comes_with_the_next_at_the_latest() {
        let (taker, teller) = Taker::new().unwrap();
        let held = teller.hold();
        teller.tell(ended(1));
        drop(held);
        teller.tell(ended(2));
        assert!(is_rung(&taker));
        assert_eq!(ids(&taker), [1, 2]);
    }
}
