//! A phase as one worker runs it: what it issues and has in flight here, and who drives it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::task::AbortHandle;

use super::dispatch::{Dispatch, NodeTold};
use super::phase::{SharedPhase, Tally};
use super::request::Ticket;
use super::worker::Worker;
use crate::clock::now_ns;
use crate::policy::Policy;
use crate::record::{Row, Stamps};
use crate::schedule::SampleOrder;
use crate::series::LiveShard;

/// A phase as one worker runs it.
pub(super) struct PhaseHere {
    pub(super) shared: SharedPhase,
    pub(super) live: Box<LiveShard>,
    order: RefCell<SampleOrder>,
    issuing: Cell<bool>,
    closed: Cell<bool>,
    in_flight: Cell<u64>,
    tally: Cell<Tally>,
    texts: Cell<u32>,
    /// Whoever drives its policy, while it does.
    dispatch: RefCell<Option<Rc<Dispatch>>>,
    /// The task that waits for arrivals; it holds no request, so it may be dropped where it stands.
    arrivals: RefCell<Option<AbortHandle>>,
}

impl PhaseHere {
    /// `shared` begins here, with these counters.
    pub(super) fn new(shared: SharedPhase, live: Box<LiveShard>) -> Self {
        Self {
            order: RefCell::new(shared.order()),
            shared,
            live,
            issuing: Cell::new(true),
            closed: Cell::new(false),
            in_flight: Cell::new(0),
            tally: Cell::default(),
            texts: Cell::new(0),
            dispatch: RefCell::default(),
            arrivals: RefCell::default(),
        }
    }

    /// From now on a policy decides when requests start, and the phase isn't through before that is.
    pub(super) fn dispatched_by(&self, dispatch: Rc<Dispatch>) {
        *self.dispatch.borrow_mut() = Some(dispatch);
    }

    /// A node of its policy takes so many items from now on; nothing where that has done its work.
    pub(super) fn give_room(&self, node: u16, slots: u16) {
        self.dispatch.borrow().iter().for_each(|dispatch| dispatch.give_room(node, slots));
    }

    /// The policy has done its work: the session gets it, with what it left of each node.
    pub(super) fn dispatched(&self, policy: Option<Policy>, nodes: Vec<NodeTold>) {
        self.dispatch.take();
        if let Some(policy) = policy {
            self.shared.policy.keep(policy, nodes);
        }
    }

    fn is_dispatched(&self) -> bool {
        self.dispatch.borrow().is_some()
    }

    /// The ticket of the request with this index, where no policy decides its node.
    pub(super) fn ticket(&self, index: u64, sample: u64, stamps: Stamps) -> Ticket {
        Ticket { index, sample, node: self.shared.balance.choose(index, sample, stamps.issued), stamps }
    }

    /// The sample of the request with this index.
    pub(super) fn sample(&self, index: u64) -> u64 {
        self.order.borrow_mut().sample(index)
    }

    /// Whether it still issues here.
    pub(super) fn is_issuing(&self) -> bool {
        self.issuing.get()
    }

    /// Nothing more will be issued here. The first call counts.
    pub(super) fn issued_last(&self, worker: &Worker) {
        if self.issuing.replace(false) {
            self.shared.issued_last(now_ns(), self.tally.get().issued);
            self.close_if_through(worker);
        }
    }

    /// Whose task waits for the next arrival.
    pub(super) fn arrivals_by(&self, handle: AbortHandle) {
        *self.arrivals.borrow_mut() = Some(handle);
    }

    /// Whether the words of one more failure are to be kept, of at most `limit`.
    pub(super) fn keeps_text(&self, limit: u32) -> bool {
        let kept = self.texts.get();
        self.texts.set(kept.saturating_add(1));
        kept < limit
    }

    /// The sweep's look: is its time over, can the disk follow, has somebody stopped it?
    pub(super) fn look(&self, worker: &Worker, now: u64, behind: bool) {
        self.dispatch.borrow().iter().for_each(|dispatch| dispatch.look(now));
        if !self.issuing.get() {
            return;
        }
        self.shared.look(now, behind);
        // Orders that were let through before a stop still go out: then their end is the phase's. A policy ends it itself.
        if self.shared.stopped() && !self.shared.is_manual() && !self.is_dispatched() {
            if let Some(task) = self.arrivals.borrow_mut().take() {
                task.abort();
            }
            self.issued_last(worker);
        }
    }

    /// Whether anything of it is still to be done here.
    pub(super) fn is_at_work(&self) -> bool {
        self.in_flight.get() > 0 || self.issuing.get() || self.is_dispatched()
    }

    /// A request was issued, this late.
    #[inline]
    pub(super) fn issued(&self, late_ns: u64) {
        self.live.issued(late_ns);
        self.in_flight.set(self.in_flight.get() + 1);
        self.count(|tally| tally.issued += 1);
    }

    /// A kept-alive connection was replaced for a request.
    pub(super) fn reconnected(&self) {
        self.live.reconnected();
        self.count(|tally| tally.reconnects += 1);
    }

    /// A request ended, and its row is written.
    pub(super) fn done(&self, row: &Row) {
        self.live.done(row);
        self.count(|tally| tally.ended(row.failure));
        self.in_flight.set(self.in_flight.get() - 1);
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        add(&mut tally);
        self.tally.set(tally);
    }

    /// The last thing of it here is done: the others are told, once.
    pub(super) fn close_if_through(&self, worker: &Worker) {
        let through = !self.issuing.get() && self.in_flight.get() == 0 && !self.is_dispatched();
        if through && !self.closed.replace(true) {
            // The session syncs the log when the last worker has left: what this one has must be in it by then.
            worker.flush();
            self.shared.leave(self.tally.take(), now_ns());
        }
    }
}
