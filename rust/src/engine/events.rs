//! A worker's events: told as they happen, and on their way in time however few there are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::worker::Command;
use crate::clock::now_ns;
use crate::event::Emitter;

/// How long a session event waits for the workers' buffers: they answer in microseconds unless one hangs.
const BARRIER_WAIT: Duration = Duration::from_secs(1);

/// What one worker has to tell.
pub(super) struct WorkerEvents {
    emitter: RefCell<Emitter>,
    /// Whether the timer waits for something to be buffered.
    idle: Cell<bool>,
    buffered: Notify,
}

impl WorkerEvents {
    pub(super) fn new(emitter: Emitter) -> Rc<Self> {
        Rc::new(Self { emitter: RefCell::new(emitter), idle: Cell::new(false), buffered: Notify::new() })
    }

    /// Tell of a transition.
    #[inline]
    pub(super) fn tell(&self, of: impl FnOnce(&mut Emitter)) {
        let mut emitter = self.emitter.borrow_mut();
        of(&mut emitter);
        if self.idle.get() && emitter.leaves_ns().is_some() {
            self.idle.set(false);
            self.buffered.notify_one();
        }
    }

    /// Send everything on its way.
    pub(super) fn flush(&self) {
        self.emitter.borrow_mut().flush();
    }

    /// Send on its way what is old enough.
    pub(super) fn flush_if_due(&self, now: u64) {
        self.emitter.borrow_mut().flush_if_due(now);
    }

    /// Flush what has come of age, to the timer's millisecond and not to the sweep. Wakes once an age, not per event.
    pub(super) async fn leave_in_time(self: Rc<Self>) {
        loop {
            let leaves = self.emitter.borrow().leaves_ns();
            match leaves {
                Some(at) => {
                    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now_ns()))).await;
                    self.flush_if_due(now_ns());
                }
                None => {
                    self.idle.set(true);
                    self.buffered.notified().await;
                }
            }
        }
    }
}

/// Have all workers send what they have buffered on its way, and wait for it, but not for ever.
pub(super) fn flush_all(workers: &[mpsc::UnboundedSender<Command>]) {
    let (reply, replies) = sync_channel(workers.len());
    // A closed channel means that the worker has ended, and flushed before.
    let asked = workers.iter().filter(|worker| worker.send(Command::FlushEvents(reply.clone())).is_ok()).count();
    let deadline = Instant::now() + BARRIER_WAIT;
    for _ in 0..asked {
        // Too late, or gone: that one's events come when they come.
        if replies.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            return;
        }
    }
}
