//! How a worker starts the requests of a phase: slots that never rest, arrivals on a schedule, or orders from outside.

use std::rc::Rc;

use tokio::sync::Barrier;
use tokio::task::{spawn_local, yield_now};

use super::connection::Connection;
use super::dispatch::{Decider, Dispatch};
use super::flight::guarded;
use super::manual::{Order, Orders};
use super::phase_here::PhaseHere;
use super::reason::StopReason;
use super::request::{Request, Ticket};
use super::task;
use super::timer::IssueTimer;
use super::worker::{PanicGuard, Worker};
use crate::clock::now_ns;
use crate::record::{Failure, Stamps, UNSET};
use crate::schedule::{Arrivals, Load};
use crate::sync::Arc;

/// Connections opened ahead of an open-loop load: for a tenth of a second of arrivals, and no more than this.
const AHEAD_MOST: f64 = 256.0;

/// Connections opened at the same time while connecting ahead.
const AHEAD_AT_ONCE: usize = 32;

/// What those do, in words for whoever learns that one of them panicked.
const CONNECTING: &str = "connecting ahead";

/// Arrivals that are due together go out in groups of this size; between groups the sockets are polled.
const GROUP: u32 = 16;

/// Run one phase on one worker: connect ahead, meet the others, issue to the end.
pub(super) async fn run(
    worker: Rc<Worker>,
    phase: Rc<PhaseHere>,
    barrier: Arc<Barrier>,
    decider: Option<Box<Decider>>,
) {
    connect_ahead(&worker, &phase).await;
    barrier.wait().await;
    phase.shared.connected(now_ns());
    match phase.shared.config.load {
        // Fewer slots than workers: the others have them all.
        _ if slots(&worker, &phase) == Some(0) => phase.issued_last(&worker),
        Load::Concurrency { .. } => fill_slots(&worker, &phase),
        Load::Manual => {}
        Load::Dispatch { .. } => match decider {
            Some(decider) => Dispatch::begin(&worker, &phase, *decider),
            None => phase.issued_last(&worker),
        },
        _ => {
            let task = task::spawn(&worker, "waiting for arrivals", arrivals(Rc::clone(&worker), Rc::clone(&phase)));
            phase.arrivals_by(task.abort_handle());
        }
    }
}

/// Start closed-loop slots until as many run as this worker has. Those that an earlier phase still occupies count.
pub(super) fn fill_slots(worker: &Rc<Worker>, phase: &Rc<PhaseHere>) {
    let closed = matches!(phase.shared.config.load, Load::Concurrency { .. });
    let Some(wanted) = slots(worker, phase).filter(|_| closed && phase.shared.started().is_some()) else { return };
    while phase.is_issuing() && worker.running.get() < wanted {
        worker.running.set(worker.running.get() + 1);
        spawn_local(slot(Rc::clone(worker), Rc::clone(phase)));
    }
}

/// One closed-loop slot: a request, and when it has ended, the next.
async fn slot(worker: Rc<Worker>, phase: Rc<PhaseHere>) {
    let _guard = PanicGuard(Rc::clone(&worker));
    let flight = worker.flights.enter();
    let mut connection: Option<Box<Connection>> = None;
    let mut free = now_ns();
    while !over(&phase, free) {
        let Some(index) = phase.shared.claim() else { break };
        if phase.shared.is_last(index) {
            // Nobody need wait for a slot to learn that there is no more.
            phase.shared.stop(StopReason::Requests);
        }
        let stamps = Stamps { planned: free, free: UNSET, issued: free, ..Stamps::default() };
        let ticket = phase.ticket(index, phase.sample(index), stamps);
        worker.note_issued_to(&phase, ticket.node, 0);
        if connection.as_ref().is_none_or(|c| c.node() != ticket.node) {
            connection.take().into_iter().for_each(|c| worker.keep_idle(c));
            connection = worker.take_idle(ticket.node);
        }
        free = Request::new(&worker, &phase, &flight, ticket).make(&mut connection).await;
    }
    phase.issued_last(&worker);
    worker.flights.leave(&flight);
    connection.into_iter().for_each(|c| worker.keep_idle(c));
    worker.slot_ended(&phase);
}

/// An open loop: claim the next arrival, wait for it, send it, whatever became of the ones before.
async fn arrivals(worker: Rc<Worker>, phase: Rc<PhaseHere>) {
    let reason = issue_arrivals(&worker, &phase).await;
    phase.shared.end(reason);
    phase.issued_last(&worker);
}

async fn issue_arrivals(worker: &Rc<Worker>, phase: &Rc<PhaseHere>) -> StopReason {
    let config = &phase.shared.config;
    let Some(mut arrivals) = Arrivals::new(&config.load, config.seed) else { return StopReason::Plan };
    let workers = f64::from(worker.run.config.workers);
    let mut timer = match IssueTimer::new(arrivals.mean_gap_ns() * workers) {
        Ok(timer) => timer,
        Err(error) => {
            worker.run.fail(format!("no timer for issue times: {error}"));
            phase.shared.stop(StopReason::Stopped);
            return StopReason::Stopped;
        }
    };
    let start = phase.shared.start(now_ns());
    let cap = slots(worker, phase);
    let mut together = 0;
    loop {
        let free = wait_for_slot(worker, cap).await;
        // Whatever ended the claims has left its reason.
        let Some(index) = phase.shared.claim() else { return StopReason::Requests };
        let Some(offset) = arrivals.offset_ns(index) else { return StopReason::Plan };
        if offset >= phase.shared.duration_ns() {
            return StopReason::Duration;
        }
        let planned = start + offset;
        timer.until(planned).await;
        let free = if cap.is_some() { free.max(planned) } else { UNSET };
        let issued = now_ns();
        let stamps = Stamps { planned, free, issued, ..Stamps::default() };
        let ticket = phase.ticket(index, phase.sample(index), stamps);
        worker.note_issued_to(phase, ticket.node, issued - planned.max(free));
        send(worker, phase, ticket, None);
        if phase.shared.is_last(index) {
            return StopReason::Requests;
        }
        together += 1;
        if together == GROUP {
            together = 0;
            yield_now().await;
        }
    }
}

/// A load issued from outside: from now on, connected ahead or not, what is asked for goes out at once. It occupies a slot
/// until nobody can ask any more, so that the worker doesn't end before what it was asked for is made.
pub(super) fn obey(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, orders: Orders) {
    worker.running.set(worker.running.get() + 1);
    spawn_local(make_orders(Rc::clone(worker), Rc::clone(phase), orders));
}

async fn make_orders(worker: Rc<Worker>, phase: Rc<PhaseHere>, mut orders: Orders) {
    let _guard = PanicGuard(Rc::clone(&worker));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Make { index, asked, planned, issued } => {
                let stamps = Stamps { planned, issued, ..Stamps::default() };
                let sample = asked.sample.unwrap_or_else(|| phase.sample(index));
                let ticket = match asked.node {
                    Some(node) => Ticket { index, sample, node: phase.shared.balance.named(node), stamps },
                    None => phase.ticket(index, sample, stamps),
                };
                worker.note_issued_to(&phase, ticket.node, now_ns().saturating_sub(planned));
                send(&worker, &phase, ticket, asked.body);
            }
            Order::GiveUp(index) => worker.flights.end(phase.shared.index, index, Failure::Cancelled),
        }
    }
    phase.issued_last(&worker);
    worker.slot_ended(&phase);
}

/// Start one arrival: its bytes go out now, the rest is a task of its own.
fn send(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, ticket: Ticket, body: Option<Arc<[u8]>>) {
    worker.running.set(worker.running.get() + 1);
    let (worker, phase) = (Rc::clone(worker), Rc::clone(phase));
    let flight = worker.flights.enter();
    let mut connection = worker.take_idle(ticket.node);
    let mut request = Request::new(&worker, &phase, &flight, ticket).with_body(body);
    connection.iter_mut().for_each(|c| request.write_now(c));
    spawn_local(async move {
        let _guard = PanicGuard(Rc::clone(&worker));
        request.make(&mut connection).await;
        worker.flights.leave(&flight);
        connection.into_iter().for_each(|c| worker.keep_idle(c));
        worker.slot_ended(&phase);
    });
}

/// Return when this worker may have one more in flight: the moment it could.
async fn wait_for_slot(worker: &Worker, cap: Option<u32>) -> u64 {
    while cap.is_some_and(|cap| worker.running.get() >= cap) {
        worker.slot_free.notified().await;
    }
    now_ns()
}

/// A closed loop checks its end before each request; the sweep would only notice later.
fn over(phase: &PhaseHere, now: u64) -> bool {
    let start = phase.shared.start(now);
    if now.saturating_sub(start) < phase.shared.duration_ns() {
        return false;
    }
    phase.shared.stop(StopReason::Duration);
    true
}

/// How many requests this worker may have in flight; `None` for as many as come.
fn slots(worker: &Worker, phase: &PhaseHere) -> Option<u32> {
    let config = &phase.shared.config;
    let all = match config.load {
        Load::Concurrency { n } => n,
        _ => config.max_concurrency?,
    };
    let (workers, id) = (u32::from(worker.run.config.workers), u32::from(worker.id));
    Some(all / workers + u32::from(id < all % workers))
}

/// Open connections before the clock starts, so that the first requests don't measure handshakes.
async fn connect_ahead(worker: &Rc<Worker>, phase: &Rc<PhaseHere>) {
    let nodes = worker.nodes();
    let wanted = wanted_ahead(worker, phase).div_ceil(nodes.len());
    let connect = |node| connect_to(Rc::clone(worker), Rc::clone(phase), node, wanted);
    // Side by side: one that doesn't answer holds nobody else back.
    let tasks: Vec<_> = nodes.map(|node| task::spawn(worker, CONNECTING, connect(node))).collect();
    for task in tasks {
        // One that panicked has ended the run; what is left to do here is not to end it twice.
        let _ = task.await;
    }
}

/// Open up to `wanted` connections to one node.
async fn connect_to(worker: Rc<Worker>, phase: Rc<PhaseHere>, node: u16, wanted: usize) {
    if worker.run.config.http2 && wanted > 0 {
        return worker.multiplexed(node).connect_ahead(&worker, &worker.node(node).connector).await;
    }
    while worker.idle_connections(node) < wanted && !phase.shared.stopped() {
        let group = AHEAD_AT_ONCE.min(wanted - worker.idle_connections(node));
        if !connect_group(&worker, &phase, node, group).await {
            // The requests themselves will meet the failure, with a row each.
            return;
        }
    }
}

/// How many connections this worker opens ahead, to all nodes together.
fn wanted_ahead(worker: &Worker, phase: &PhaseHere) -> usize {
    let config = &phase.shared.config;
    let workers = f64::from(worker.run.config.workers);
    let wanted = match (&config.load, slots(worker, phase)) {
        (Load::Burst { n }, cap) => cap.map_or(u64::MAX, u64::from).min(n.div_ceil(workers as u64)) as usize,
        (Load::Concurrency { .. }, cap) => cap.unwrap_or(0) as usize,
        // How many it will want is what its policy finds out; others come as they are needed. Of several nodes one may be
        // gone, which is the policy's to find out too, and nothing to wait for.
        (Load::Dispatch { .. }, _) => usize::from(worker.id == 0 && worker.run.nodes.len() == 1),
        (_, cap) => {
            let rate = Arrivals::new(&config.load, 0).map_or(0.0, |a| 1e9 / a.mean_gap_ns().max(1.0));
            let ahead = (rate / 10.0 / workers).clamp(1.0, AHEAD_MOST) as usize;
            cap.map_or(ahead, |cap| ahead.min(cap as usize))
        }
    };
    wanted.min(config.requests.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX))
}

/// Open `n` connections to a node side by side; false if any failed.
async fn connect_group(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, node: u16, n: usize) -> bool {
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let (connecting, phase) = (Rc::clone(worker), Rc::clone(phase));
            task::spawn(worker, CONNECTING, async move {
                let worker = connecting;
                let flight = worker.flights.enter();
                let connected = guarded(&flight, worker.node(node).connector.connect()).await;
                worker.flights.leave(&flight);
                match connected {
                    Ok(Ok(stream)) => worker.keep_idle(Worker::connection(stream, &phase.shared, node)),
                    Ok(Err(_)) | Err(_) => return false,
                }
                true
            })
        })
        .collect();
    let mut all = true;
    for task in tasks {
        all &= task.await.unwrap_or(false);
    }
    all
}
