//! A load that a policy lets start: each item has as many attempts as the policy wants, and one row.
//!
//! One worker's loop drives the policy. Attempts are tasks of their own, which tell the policy what happens to them; the
//! driver ([`Dispatch::drive`]) does what the policy says. A copy that isn't wanted any more ends at once: its connection
//! is closed, its HTTP/2 stream reset.

mod account;
mod end;
mod item;
mod nodes;
mod supply;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::flight::Flight;
use super::phase_here::PhaseHere;
use super::reason::StopReason;
use super::reception::Chooser;
use super::request::{Contender, Given, Request, Ticket, tell_issued};
use super::timer::IssueTimer;
use super::worker::{PanicGuard, Worker};
use crate::clock::now_ns;
use crate::policy::{Action, AttemptId, CancelWhy, Config, Event, ItemId, Policy, Verdict};
use crate::record::{Failure, Stamps, UNSET};
use crate::schedule::{Load, SampleOrder};
pub(super) use account::account;
use item::Item;
use nodes::DispatchNodes;
pub use nodes::NodeTold;
pub(super) use told::PolicyTold;

/// How long, in nanoseconds, what the policy counts may be told late while it works.
const TELL_NS: u64 = 100_000_000;

/// A policy that has decided nothing yet, and what it was made of.
pub(super) struct Decider {
    pub(super) config: Config,
    pub(super) policy: Policy,
}

/// A phase's policy at work on one worker.
pub(super) struct Dispatch {
    worker: Rc<Worker>,
    phase: Rc<PhaseHere>,
    /// Handed on to the session when it is through.
    policy: RefCell<Option<Policy>>,
    /// Those that were issued and have no row yet.
    items: RefCell<HashMap<ItemId, Item>>,
    attempts: RefCell<HashMap<AttemptId, UnderWay>>,
    /// Room for what the policy wants at once.
    wanted: RefCell<Wanted>,
    /// The policy's time 0: the phase's start.
    start: u64,
    /// Something happened that the policy may want to act upon.
    news: Notify,
    /// Silence after an attempt's first byte that ends it.
    stall_ns: u64,
    /// Whose tokens come next, if the policy weighs tokens.
    weighed: Option<RefCell<SampleOrder>>,
    /// Items that the policy has and that were neither issued nor given up.
    in_line: Cell<u32>,
    /// No more items come.
    closed: Cell<bool>,
    /// What is in line was taken back.
    taken_back: Cell<bool>,
    /// What is under way was given up as well.
    given_up: Cell<bool>,
    told_ns: Cell<u64>,
    nodes: DispatchNodes,
}

/// What is still to be accounted for of what the policy wants.
#[derive(Default)]
struct Wanted {
    /// Items whose fate is known.
    resolved: Vec<(ItemId, Option<AttemptId>, Verdict)>,
    /// Items whose first attempt is on its way.
    issued: Vec<Ticket>,
}

/// An attempt under way.
struct UnderWay {
    item: ItemId,
    flight: Rc<Flight>,
}

impl Dispatch {
    /// Begin `phase` on this worker: from now on until it is through, its policy decides.
    pub(super) fn begin(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, decider: Decider) {
        let Decider { config, policy } = decider;
        let stall_ns = config.stall_timeout_s.map_or(phase.shared.settings.stall_timeout_ns, |s| (s * 1e9) as u64);
        let dispatch = Rc::new(Self {
            worker: Rc::clone(worker),
            phase: Rc::clone(phase),
            stall_ns,
            weighed: (config.rates.tpm.is_some() || config.rates.learn).then(|| RefCell::new(phase.shared.order())),
            policy: RefCell::new(Some(policy)),
            items: RefCell::default(),
            attempts: RefCell::default(),
            wanted: RefCell::default(),
            start: phase.shared.start(now_ns()),
            news: Notify::new(),
            in_line: Cell::new(0),
            closed: Cell::new(false),
            taken_back: Cell::new(false),
            given_up: Cell::new(false),
            told_ns: Cell::new(0),
            nodes: DispatchNodes::new(worker.run.nodes.len()),
        });
        phase.dispatched_by(Rc::clone(&dispatch));
        worker.running.set(worker.running.get() + 1);
        spawn_local(dispatch.drive());
    }

    /// The sweep's look: a phase that was stopped or is to be cut short is news, and what the policy counts is told.
    pub(super) fn look(&self, now: u64) {
        let stopped = self.phase.shared.stopped() && !self.taken_back.get();
        let cancelled = self.is_cancelled(now) && !self.given_up.get();
        if stopped || cancelled {
            self.news.notify_one();
        }
        if now.saturating_sub(self.told_ns.get()) >= TELL_NS {
            self.told_ns.set(now);
            if let Some(policy) = &*self.policy.borrow() {
                self.phase.shared.policy.tell(policy.totals(), self.nodes.told(policy));
            }
        }
    }

    /// A node takes so many items at the same time from now on.
    pub(super) fn give_room(&self, node: u16, slots: u16) {
        self.tell(now_ns(), Event::Room { node, slots });
        self.news.notify_one();
    }

    /// Do what the policy says until every item has its row.
    async fn drive(self: Rc<Self>) {
        let _guard = PanicGuard(Rc::clone(&self.worker));
        match IssueTimer::new(0.0) {
            Ok(timer) => self.drive_by(timer).await,
            Err(error) => {
                self.worker.run.fail(format!("no timer for a policy: {error}"));
                self.phase.shared.stop(StopReason::Stopped);
            }
        }
        let policy = self.policy.take();
        let nodes = policy.as_ref().map_or_else(Vec::new, |policy| self.nodes.told(policy));
        self.phase.dispatched(policy, nodes);
        self.phase.issued_last(&self.worker);
        self.worker.slot_ended(&self.phase);
    }

    async fn drive_by(self: &Rc<Self>, mut timer: IssueTimer) {
        if let Load::Dispatch { absent, .. } = &self.phase.shared.config.load {
            absent.iter().for_each(|&node| self.give_room(node, 0));
        }
        loop {
            self.turn(now_ns());
            self.worker.tell_now();
            if self.closed.get() && self.in_line.get() == 0 {
                // Whatever took items back has left its reason.
                self.phase.shared.end(StopReason::Requests);
                self.phase.issued_last(&self.worker);
                if self.items.borrow().is_empty() {
                    return;
                }
            } else if self.wants_more() {
                // What stood in line is under way: the next is due now.
                continue;
            }
            let deadline = self.policy.borrow().as_ref().and_then(Policy::next_deadline);
            self.wait(&mut timer, deadline.map(|at| at.saturating_add(self.start))).await;
        }
    }

    /// Let the policy have its way. Who waits for what has ended is woken by [`Self::drive`], when everything that can go out
    /// is on its way: until it is, nodes idle.
    fn turn(self: &Rc<Self>, now: u64) {
        self.supply(now);
        let _told_later = self.worker.tell_later();
        self.act(now);
    }

    /// Return when there is news, or the deadline has come.
    async fn wait(&self, timer: &mut IssueTimer, deadline: Option<u64>) {
        let mut news = pin!(self.news.notified());
        let Some(deadline) = deadline else { return news.await };
        let mut due = pin!(timer.until(deadline));
        std::future::poll_fn(|cx| match news.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => due.as_mut().poll(cx),
        })
        .await;
    }

    fn is_cancelled(&self, now: u64) -> bool {
        self.worker.is_cancelled(self.phase.shared.index, now)
    }

    fn tell(&self, now: u64, event: Event) {
        if let Some(policy) = &mut *self.policy.borrow_mut() {
            policy.on_event(now.saturating_sub(self.start), event);
        }
    }

    // ------------------------------------------------------------------ what the policy wants

    /// Do what the policy wants: first what goes out, since nodes idle until it has, then the accounts. These are kept in
    /// order all the same: what has ended has ended before another takes its place.
    fn act(self: &Rc<Self>, now: u64) {
        let Wanted { mut resolved, mut issued } = self.wanted.take();
        loop {
            let action =
                self.policy.borrow_mut().as_mut().and_then(|policy| policy.poll(now.saturating_sub(self.start)));
            match action {
                Some(Action::Start { attempt, item, kind, node, .. }) => {
                    let contender = Contender {
                        kind: end::kind_of(kind),
                        chooser: Box::new(Copy { dispatch: Rc::clone(self), attempt }),
                        stall_ns: self.stall_ns,
                    };
                    let (ticket, is_new) = self.ticket(item, now);
                    issued.extend(is_new.then_some(ticket));
                    self.start(attempt, item, Ticket { node, ..ticket }, contender);
                }
                Some(Action::Cancel { attempt, why }) => self.cancel(attempt, why),
                Some(Action::Resolve { item, winner, verdict }) => resolved.push((item, winner, verdict)),
                None => break,
            }
        }
        resolved.drain(..).for_each(|(item, winner, verdict)| self.resolve(item, winner, verdict, now));
        issued.drain(..).for_each(|ticket| self.note_issued(ticket));
        self.wanted.replace(Wanted { resolved, issued });
    }

    /// Start an attempt at an item on a node: its bytes go out now if there is a connection, the rest is a task of its own.
    fn start(self: &Rc<Self>, attempt: AttemptId, item: ItemId, ticket: Ticket, contender: Contender) {
        let worker = &self.worker;
        self.phase.live.node_issued(ticket.node);
        worker.running.set(worker.running.get() + 1);
        let flight = worker.flights.enter();
        let mut connection = worker.take_idle(ticket.node);
        let mut request = Request::contend(worker, &self.phase, &flight, ticket, contender);
        connection.iter_mut().for_each(|c| request.write_now(c));
        self.attempts.borrow_mut().insert(attempt, UnderWay { item, flight: Rc::clone(&flight) });
        let this = Rc::clone(self);
        spawn_local(async move {
            let _guard = PanicGuard(Rc::clone(&this.worker));
            let given = request.bring(&mut connection).await;
            this.worker.flights.leave(&flight);
            connection.into_iter().for_each(|c| this.worker.keep_idle(c));
            this.ended(attempt, given);
            this.worker.slot_ended(&this.phase);
        });
    }

    /// The ticket of an item that has one attempt more, and whether it is its first: then it is issued.
    fn ticket(&self, item: ItemId, now: u64) -> (Ticket, bool) {
        let mut items = self.items.borrow_mut();
        let is_new = !items.contains_key(&item);
        let item = items.entry(item).or_insert_with(|| Item::new(self.issue(item, now)));
        item.live += 1;
        (item.ticket, is_new)
    }

    fn issue(&self, item: ItemId, now: u64) -> Ticket {
        let index = u64::from(item);
        let stamps = Stamps { planned: now, free: UNSET, issued: now, ..Stamps::default() };
        self.in_line.set(self.in_line.get() - 1);
        // Each attempt goes where the policy says.
        Ticket { index, sample: self.phase.sample(index), node: 0, stamps }
    }

    fn note_issued(&self, ticket: Ticket) {
        self.worker.note_issued(&self.phase, 0);
        tell_issued(&self.worker, &self.phase, ticket);
    }

    fn cancel(&self, attempt: AttemptId, why: CancelWhy) {
        // One that has ended meanwhile is not there any more.
        if let Some(under_way) = self.attempts.borrow().get(&attempt) {
            under_way.flight.end(match why {
                CancelWhy::TimedOut | CancelWhy::CallTimedOut => Failure::Timeout,
                CancelWhy::Lost | CancelWhy::CallerLeft => Failure::Cancelled,
            });
        }
    }

    fn resolve(&self, item: ItemId, winner: Option<AttemptId>, verdict: Verdict, now: u64) {
        let issued = self.items.borrow().contains_key(&item);
        if !issued && verdict == Verdict::Cancelled {
            // Taken back before it was issued: as if it had never been.
            self.in_line.set(self.in_line.get() - 1);
            return;
        }
        if !issued {
            let ticket = self.issue(item, now);
            self.note_issued(ticket);
            self.items.borrow_mut().insert(item, Item::new(ticket));
        }
        if let Some(here) = self.items.borrow_mut().get_mut(&item) {
            here.resolution = Some((winner, verdict));
        }
        self.write_if_over(item);
    }

    // ------------------------------------------------------------------ what attempts tell

    /// An attempt has ended, with or without the policy's wish.
    fn ended(self: &Rc<Self>, attempt: AttemptId, given: Given) {
        let Some(UnderWay { item, .. }) = self.attempts.borrow_mut().remove(&attempt) else { return };
        let now = now_ns();
        if let Some(hint) = end::rates_of(&given.hints) {
            self.tell(now, Event::Told { hint });
        }
        if let Some(node) = given.row.node {
            self.phase.live.node_ended(node, given.close.failure);
        }
        self.nodes.note(&given, self.phase.shared.settings.secrets());
        self.tell(now, Event::Ended { attempt, end: end::end_of(&given, self.nodes.are_several()) });
        if let Some(item) = self.items.borrow_mut().get_mut(&item) {
            item.live -= 1;
            item.given.push((attempt, given));
        }
        // What takes its place goes out before the other answers that have come are looked at.
        self.turn(now);
        self.write_if_over(item);
        self.news.notify_one();
    }

    /// Write an item's row once its fate is known and nothing of it is under way any more.
    fn write_if_over(&self, item: ItemId) {
        let over = self.items.borrow().get(&item).is_some_and(Item::is_over);
        let found = if over { self.items.borrow_mut().remove(&item) } else { None };
        if let Some(item) = found {
            item.write_down(&self.worker, &self.phase);
        }
    }
}

/// One copy of an item, as its exchange knows it.
struct Copy {
    dispatch: Rc<Dispatch>,
    attempt: AttemptId,
}

impl Chooser for Copy {
    fn first_byte(&self, now: u64) {
        self.dispatch.tell(now, Event::FirstByte { attempt: self.attempt });
    }

    fn first_token(&self, now: u64) {
        self.dispatch.tell(now, Event::FirstToken { attempt: self.attempt });
        self.dispatch.news.notify_one();
    }
}
