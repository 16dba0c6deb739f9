//! What the serving threads share, and how they are told something.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::Socket;

use super::config::Config;
use super::gate::Gate;
use super::truth::{self, Shard};
use crate::clock::Anchor;
use crate::sync::{Arc, AtomicU64};

/// What a thread can be told from outside.
pub(super) enum Message {
    /// Serve this connection.
    Serve(Socket),
    /// The connection of this key has its slot.
    Slot(u64),
    /// End.
    Stop,
}

/// How to reach a thread: its messages, and the socket that wakes it.
pub(super) struct Inbox {
    messages: Mutex<Sender<Message>>,
    bell: UnixStream,
}

impl Inbox {
    pub(super) fn new(messages: Sender<Message>, bell: UnixStream) -> Self {
        Self { messages: Mutex::new(messages), bell }
    }

    pub(super) fn tell(&self, message: Message) {
        // A thread that has ended needs no message, and a bell whose buffer is full has been rung.
        let _ = lock(&self.messages).send(message);
        let _ = io::Write::write(&mut &self.bell, &[1]);
    }
}

/// What all threads share.
pub(super) struct Shared {
    pub config: Arc<Config>,
    pub anchor: Anchor,
    pub gate: Mutex<Gate>,
    /// Without capacity and rate limit nobody needs to lock the gate.
    pub gate_open: bool,
    pub shards: Vec<Mutex<Shard>>,
    pub inboxes: Vec<Inbox>,
    pub arrivals: AtomicU64,
    pub accepted: AtomicU64,
}

impl Shared {
    /// `/truth`.
    pub(super) fn truth(&self, rows: bool) -> String {
        let (queued, rejected) = {
            let gate = lock(&self.gate);
            (gate.queued(), gate.rejected)
        };
        let shards: Vec<MutexGuard<'_, Shard>> = self.shards.iter().map(lock).collect();
        truth::report(&shards, rows, queued, rejected)
    }

    pub(super) fn reset(&self) {
        lock(&self.gate).rejected = 0;
        self.shards.iter().for_each(|shard| lock(shard).reset());
    }
}

/// Nothing behind these locks is left half-changed by a panic: they hold counters and lists.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
