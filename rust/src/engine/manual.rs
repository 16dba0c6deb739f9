//! A load that somebody outside issues: each request goes to the next worker's queue, until the gate is closed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::now_ns;
use crate::sync::Arc;

/// A request that somebody outside asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Its sample; `None` for the one that the phase's order has next.
    pub sample: Option<u64>,
    /// When it should have been asked for, in monotonic nanoseconds, if that isn't now.
    pub planned_ns: Option<u64>,
    /// The node that it goes to; `None` for the one whose turn it is.
    pub node: Option<u16>,
    /// What is sent instead of the sample's body: a JSON object like that.
    pub body: Option<Arc<[u8]>>,
}

/// What a worker is told from outside.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// A request to be made at once.
    Make {
        /// Index in the phase's plan.
        index: u64,
        /// What was asked for.
        asked: Asked,
        /// When it should have been asked for.
        planned: u64,
        /// When it was asked for.
        issued: u64,
    },
    /// Nobody waits any more for the request with this index.
    GiveUp(u64),
}

/// One worker's orders; ends after the last one that was let through.
pub(super) type Orders = UnboundedReceiver<Order>;

/// The worker whose turn it was is gone.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a worker has ended before its phase")]
pub(super) struct WorkerGone;

/// Where orders pass, one at a time, from any thread. What has passed is made; once closed, nothing passes.
#[derive(Debug)]
pub(super) struct Gate {
    /// Taken per order, at the end of the phase, and never by a worker on a response's way.
    open: Mutex<Option<Queues>>,
}

#[derive(Debug)]
struct Queues {
    workers: Vec<UnboundedSender<Order>>,
    next: usize,
}

impl Gate {
    /// An open gate, and what each of the workers gets.
    pub(super) fn new(workers: u16) -> (Self, Vec<Orders>) {
        let (workers, orders) = (0..workers).map(|_| unbounded_channel()).unzip();
        (Self { open: Mutex::new(Some(Queues { workers, next: 0 })) }, orders)
    }

    /// Let one request through to the next worker, if `claim(now)` gives it an index; that index.
    pub(super) fn pass(&self, asked: Asked, claim: impl FnOnce(u64) -> Option<u64>) -> Result<Option<u64>, WorkerGone> {
        let mut open = self.lock();
        let Some(Queues { workers, next }) = &mut *open else { return Ok(None) };
        let now = now_ns();
        let planned = asked.planned_ns.map_or(now, |ns| ns.clamp(1, now));
        let Some(index) = claim(now) else { return Ok(None) };
        let worker = *next;
        *next = (worker + 1) % workers.len();
        workers[worker].send(Order::Make { index, asked, planned, issued: now }).map_err(|_| WorkerGone)?;
        Ok(Some(index))
    }

    /// Tell whichever worker makes the request with this index that nobody waits for it. Of a closed gate, or of one that
    /// has ended, nothing comes.
    pub(super) fn give_up(&self, index: u64) {
        for worker in self.lock().iter().flat_map(|queues| &queues.workers) {
            // A worker that is gone makes nothing.
            let _ = worker.send(Order::GiveUp(index));
        }
    }

    /// Let nothing more through: each worker's orders end after those it has.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queues>> {
        // A poisoned lock means that a caller panicked within a claim; the queues are whole all the same.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(orders: &mut Orders) -> Vec<u64> {
        let told = std::iter::from_fn(|| orders.try_recv().ok());
        told.map(|order| match order {
            Order::Make { index, .. } | Order::GiveUp(index) => index,
        })
        .collect()
    }

    #[test]
    fn orders_go_round_the_workers_and_end_where_the_gate_was_closed() {
        let (gate, mut orders) = Gate::new(2);
        for i in 0..5 {
            assert_eq!(gate.pass(Asked::default(), |_| Some(i)), Ok(Some(i)));
        }
        assert_eq!(gate.pass(Asked::default(), |_| None), Ok(None), "what gets no index goes to nobody");
        gate.give_up(3);
        gate.close();
        gate.give_up(4);
        assert_eq!(gate.pass(Asked::default(), |_| unreachable!("nothing is claimed behind a closed gate")), Ok(None));
        assert_eq!((indices(&mut orders[0]), indices(&mut orders[1])), (vec![0, 2, 4, 3], vec![1, 3, 3]));
        assert!(orders.iter().all(|orders| orders.is_closed()));
    }

    #[test]
    fn an_order_for_a_worker_that_is_gone_is_an_error() {
        let (gate, orders) = Gate::new(1);
        drop(orders);
        assert_eq!(gate.pass(Asked::default(), |_| Some(0)), Err(WorkerGone));
    }
}
