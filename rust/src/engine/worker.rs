//! One worker: a thread with its own runtime, connections, log shard and counters. It shares the plan and nothing else.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Barrier, Notify, mpsc};

use super::completions::{Completion, Held, Teller};
use super::connection::{BUFFER_BYTES, Connection};
use super::dispatch::Decider;
use super::events::WorkerEvents;
use super::flight::{Flights, SWEEP_MS};
use super::issue;
use super::manual::Orders;
use super::multiplexed::Multiplexed;
use super::nodes::Node;
use super::phase::{Phase, SharedPhase};
use super::phase_here::PhaseHere;
use super::reception::{Observers, Reception};
use super::run::RunShared;
use super::streams::{Streams, read_forever};
use super::task::{self, Watch};
use crate::clock::{now_ns, thread_cpu_ns};
use crate::event::Emitter;
use crate::http::{Limits, ResponseParser, Stream};
use crate::record::{ReadList, Row, Shard};
use crate::series::{LiveShard, LoopTurns};
use crate::sync::Arc;

/// What the session tells a worker. A closed channel means: cancel what is in flight and end.
pub(super) enum Command {
    /// Start this phase, and meet the other workers at the barrier when connected.
    Begin {
        phase: SharedPhase,
        barrier: Arc<Barrier>,
        live: Box<LiveShard>,
        /// The requests asked for from outside, of a manual load.
        orders: Option<Orders>,
        /// What decides when requests start, on the worker that makes them all; of no other load.
        decider: Option<Box<Decider>>,
    },
    /// Have a node take so many items of a phase that a policy spreads.
    Room {
        /// Index of the phase.
        phase: u16,
        /// Which node.
        node: u16,
        /// How many.
        slots: u16,
    },
    /// Send all buffered events on their way, and say so.
    FlushEvents(SyncSender<()>),
}

/// What a worker starts with.
pub(super) struct Outfit {
    pub(super) id: u16,
    pub(super) shard: Shard,
    pub(super) completed: Teller,
    pub(super) turns: Arc<LoopTurns>,
    /// Where its events go, if anybody asks for them.
    pub(super) emitter: Option<Emitter>,
}

/// Everything that a worker's tasks share. Lives on one thread.
pub(super) struct Worker {
    pub(super) id: u16,
    pub(super) run: Arc<RunShared>,
    turns: Arc<LoopTurns>,
    completed: Teller,
    pub(super) events: Option<Rc<WorkerEvents>>,
    pub(super) shard: RefCell<Shard>,
    pub(super) buffer: RefCell<Box<[u8]>>,
    pub(super) flights: Flights,
    pub(super) streams: Streams,
    /// For rows that never had a connection.
    pub(super) no_reads: ReadList,
    /// Of each node of the run.
    pools: Box<[Pool]>,
    phases: RefCell<Vec<Rc<PhaseHere>>>,
    /// Requests in flight, or slots that make one after the other, of all phases.
    pub(super) running: Cell<u32>,
    issued: Cell<u64>,
    ended: Cell<u64>,
    pub(super) slot_free: Notify,
    quitting: Cell<bool>,
    /// Told when nothing runs any more, or when nobody is left to bring that about.
    pub(super) idle: Notify,
}

/// A worker's connections to one node.
#[derive(Default)]
struct Pool {
    /// Idle ones, the most recently used last.
    #[expect(clippy::vec_box, reason = "a connection is large and moves between the pool and the tasks")]
    idle: RefCell<Vec<Box<Connection>>>,
    /// HTTP/2: shared connections and idle decoders.
    multiplexed: Multiplexed,
}

/// The thread's main function.
pub(super) fn work(outfit: Outfit, run: Arc<RunShared>, commands: mpsc::UnboundedReceiver<Command>) {
    let id = outfit.id;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            let worker = Worker::new(outfit, run);
            let _watch = Watch::over(&worker, "at its commands");
            runtime.block_on(worker.obey(commands));
            // A name that is still being looked up must not hold the end back.
            runtime.shutdown_background();
        }
        Err(error) => run.fail(format!("worker {id} could not start: {error}")),
    }
}

impl Worker {
    pub(super) fn new(outfit: Outfit, run: Arc<RunShared>) -> Rc<Self> {
        let Outfit { id, shard, completed, turns, emitter } = outfit;
        let pools = run.nodes.iter().map(|_| Pool::default()).collect();
        Rc::new(Self {
            id,
            run,
            turns,
            completed,
            events: emitter.map(WorkerEvents::new),
            shard: RefCell::new(shard),
            buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            flights: Flights::default(),
            streams: Streams::default(),
            no_reads: ReadList::new(),
            pools,
            phases: RefCell::default(),
            running: Cell::new(0),
            issued: Cell::new(0),
            ended: Cell::new(0),
            slot_free: Notify::new(),
            quitting: Cell::new(false),
            idle: Notify::new(),
        })
    }

    async fn obey(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let sweeper = task::spawn(&self, "in its sweep", Rc::clone(&self).sweep_forever());
        let reader = task::spawn(&self, "reading answers", read_forever(Rc::clone(&self)));
        let timer = self.events.clone().map(|events| task::spawn(&self, "sending events", events.leave_in_time()));
        while let Some(command) = commands.recv().await {
            match command {
                Command::Begin { phase, barrier, live, orders, decider } => {
                    let here = Rc::new(PhaseHere::new(phase, live));
                    self.begin(&here, orders);
                    task::spawn(&self, "beginning a phase", issue::run(Rc::clone(&self), here, barrier, decider));
                }
                Command::Room { phase, node, slots } => {
                    let phases = self.phases.borrow();
                    phases
                        .iter()
                        .filter(|here| here.shared.index == phase)
                        .for_each(|here| here.give_room(node, slots));
                }
                Command::FlushEvents(reply) => {
                    self.events.iter().for_each(|events| events.flush());
                    // Whoever asked may no longer wait.
                    let _ = reply.try_send(());
                }
            }
        }
        self.quitting.set(true);
        // Without the sweep nothing is cut short, and what is in flight may be so for ever.
        while self.running.get() > 0 && !sweeper.is_finished() {
            self.idle.notified().await;
        }
        sweeper.abort();
        reader.abort();
        timer.iter().for_each(|timer| timer.abort());
        self.pools.iter().for_each(|pool| pool.idle.borrow_mut().clear());
        self.flush();
    }

    fn begin(self: &Rc<Self>, here: &Rc<PhaseHere>, orders: Option<Orders>) {
        self.phases.borrow_mut().retain(|phase| phase.is_at_work());
        self.phases.borrow_mut().push(Rc::clone(here));
        if let Some(orders) = orders {
            issue::obey(self, here, orders);
        }
    }

    /// Wrap a stream that is connected to `node`; its first request is likely one of `phase`.
    pub(super) fn connection(stream: Stream, phase: &Phase, node: u16) -> Box<Connection> {
        Box::new(Connection::new(stream, ResponseParser::new(Limits::default()), Reception::new(phase, node)))
    }

    /// The most recently used idle connection to this node.
    pub(super) fn take_idle(&self, node: u16) -> Option<Box<Connection>> {
        self.pool(node).idle.borrow_mut().pop()
    }

    /// Keep a connection for the next request to its node.
    pub(super) fn keep_idle(&self, mut connection: Box<Connection>) {
        if !self.quitting.get() {
            connection.kept = true;
            self.pool(connection.node()).idle.borrow_mut().push(connection);
        }
    }

    /// How many connections to this node are idle.
    pub(super) fn idle_connections(&self, node: u16) -> usize {
        self.pool(node).idle.borrow().len()
    }

    /// The HTTP/2 connections to this node.
    pub(super) fn multiplexed(&self, node: u16) -> &Multiplexed {
        &self.pool(node).multiplexed
    }

    #[inline]
    fn pool(&self, node: u16) -> &Pool {
        &self.pools[usize::from(node)]
    }

    /// The run's nodes, by their numbers.
    pub(super) fn nodes(&self) -> std::ops::Range<u16> {
        0..u16::try_from(self.pools.len()).unwrap_or(u16::MAX)
    }

    /// One of the run's nodes.
    #[inline]
    pub(super) fn node(&self, node: u16) -> &Node {
        &self.run.nodes[usize::from(node)]
    }

    /// Who follows the answer to this request.
    #[inline]
    pub(super) fn observers<'a>(&'a self, phase: &'a PhaseHere, request: u64) -> Observers<'a> {
        Observers { live: &phase.live, events: self.events.as_deref(), request, phase: phase.shared.index }
    }

    /// A request was issued, this late, to a node of which nobody else will say so.
    #[inline]
    pub(super) fn note_issued_to(&self, phase: &PhaseHere, node: u16, late_ns: u64) {
        phase.live.node_issued(node);
        self.note_issued(phase, late_ns);
    }

    /// A request was issued, this late.
    #[inline]
    pub(super) fn note_issued(&self, phase: &PhaseHere, late_ns: u64) {
        self.issued.set(self.issued.get() + 1);
        phase.issued(late_ns);
    }

    /// Tell whoever waits for it that a request has ended.
    pub(super) fn tell(&self, completion: Completion) {
        self.completed.tell(completion);
    }

    /// While what this returns lives, whoever waits for requests isn't woken for those that end: that is owed.
    pub(super) fn tell_later(&self) -> Held<'_> {
        self.completed.hold()
    }

    /// Wake whoever waits for requests, if that is owed.
    pub(super) fn tell_now(&self) {
        self.completed.ring();
    }

    /// A request ended, and its row is written.
    pub(super) fn note_done(&self, phase: &PhaseHere, row: &Row) {
        self.ended.set(self.ended.get() + 1);
        phase.done(row);
    }

    /// A task that made requests has ended: its slot is the current phase's now.
    pub(super) fn slot_ended(self: &Rc<Self>, phase: &PhaseHere) {
        self.running.set(self.running.get() - 1);
        phase.close_if_through(self);
        let current = self.phases.borrow().last().cloned();
        if let Some(current) = current {
            issue::fill_slots(self, &current);
        }
        self.slot_free.notify_one();
        if self.running.get() == 0 {
            self.idle.notify_one();
        }
    }

    /// Every [`SWEEP_MS`]: time-outs, ends of phases, the log's age, and how long the loop went without a turn.
    async fn sweep_forever(self: Rc<Self>) {
        let mut last = now_ns();
        loop {
            tokio::time::sleep(Duration::from_millis(SWEEP_MS)).await;
            let now = now_ns();
            // The runtime's timer is a millisecond coarse; what exceeds that is the loop's own absence.
            let stalled = now.saturating_sub(last).saturating_sub((SWEEP_MS + 2) * 1_000_000);
            last = now;
            self.turns.loop_turn(thread_cpu_ns(), stalled);
            let behind = self.run.backlog.is_behind();
            for phase in self.phases.borrow().iter() {
                phase.look(&self, now, behind);
            }
            self.flights.sweep(now, |index| self.is_cancelled(index, now));
            self.count_shard().flush_if_due(now);
            self.events.iter().for_each(|events| events.flush_if_due(now));
        }
    }

    /// Hand all rows and events to the log's writer.
    pub(super) fn flush(&self) {
        self.count_shard().flush();
        self.events.iter().for_each(|events| events.flush());
    }

    /// The shard, told how many requests this worker has issued and has in flight.
    fn count_shard(&self) -> RefMut<'_, Shard> {
        let mut shard = self.shard.borrow_mut();
        shard.counters(self.issued.get(), self.issued.get() - self.ended.get());
        shard
    }

    /// Whether what this phase has in flight is to be cut short.
    pub(super) fn is_cancelled(&self, phase: u16, now: u64) -> bool {
        let phases = self.phases.borrow();
        self.quitting.get() || phases.iter().any(|p| p.shared.index == phase && p.shared.cancelled(now))
    }
}

/// Held by each task that makes requests. The runtime keeps a task's panic to itself: without this nobody would learn
/// of it, and the phase and the run's end would wait for the lost requests for ever.
pub(super) struct PanicGuard(pub(super) Rc<Worker>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let worker = &self.0;
            worker.run.fail(format!("a task that makes requests panicked on worker {}; rows are missing", worker.id));
            // It may have panicked just when it gave its slot back. Better a worker that ends too soon than one that never does.
            worker.running.set(worker.running.get().saturating_sub(1));
            worker.idle.notify_one();
        }
    }
}
