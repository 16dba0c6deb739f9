//! One request from its ticket to its row: connect if need be, exchange, replace a dead connection, write it down.

mod body;
mod outcome;
mod reach;

use std::io;
use std::rc::Rc;

use super::connection::{Broken, Connection, Ended};
use super::finish::Close;
use super::flight::{Flight, guarded};
use super::multiplexed as http2;
use super::nodes::Node;
use super::phase_here::PhaseHere;
use super::reception::{Aids, Audience, Chooser, Reception};
use super::settings::{NodeSettings, Settings};
use super::streams::Streaming;
use super::worker::Worker;
use crate::record::{Attempt, AttemptKind, Failure, Stamps, UNSET};
use crate::sync::Arc;
pub(super) use outcome::Given;
use outcome::{is_stale, judge};

/// A request taken from the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// Index in the phase's plan.
    pub(super) index: u64,
    /// Index of the sample.
    pub(super) sample: u64,
    /// The node it goes to, by its place in the run.
    pub(super) node: u16,
    /// Stamps up to `issued`.
    pub(super) stamps: Stamps,
}

/// A request under way on one worker.
pub(super) struct Request {
    worker: Rc<Worker>,
    phase: Rc<PhaseHere>,
    flight: Rc<Flight>,
    ticket: Ticket,
    stamps: Stamps,
    connect_ns: u64,
    bytes_out: u64,
    /// Whether the current attempt asked for usage in the stream.
    asked_usage: bool,
    kind: AttemptKind,
    attempts: Vec<Attempt>,
    /// What is sent instead of its sample's body.
    body: Option<Arc<[u8]>>,
    /// Of one of several copies: what it is for, and who chooses between them.
    contender: Option<Contender>,
}

/// One of several copies of a request, or one that may be followed by others.
pub(super) struct Contender {
    /// What it is for.
    pub(super) kind: AttemptKind,
    /// Told of its first byte and its first token.
    pub(super) chooser: Box<dyn Chooser>,
    /// Nanoseconds of silence after the first byte that end it.
    pub(super) stall_ns: u64,
}

/// What this request's worker lends to its exchange; a macro, so that the stamps can be lent beside it.
macro_rules! aids {
    ($request:ident) => {
        Aids {
            buffer: &$request.worker.buffer,
            flight: &$request.flight,
            audience: match &$request.contender {
                None => {
                    Audience::All($request.worker.observers(&$request.phase, $request.id()), &$request.worker.shard)
                }
                Some(contender) => Audience::Chooser(&*contender.chooser),
            },
        }
    };
}

impl Request {
    /// For `ticket`; its time-out starts now.
    pub(super) fn new(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, flight: &Rc<Flight>, ticket: Ticket) -> Self {
        let Settings { timeout_ns, stall_timeout_ns, .. } = phase.shared.settings;
        flight.start(phase.shared.index, ticket.stamps.issued.saturating_add(timeout_ns), stall_timeout_ns);
        tell_issued(worker, phase, ticket);
        Self::on_its_way(worker, phase, flight, ticket)
    }

    /// A copy of the request of `ticket`, which was told of when it was issued. Whoever made it ends it, but for silence.
    pub(super) fn contend(
        worker: &Rc<Worker>,
        phase: &Rc<PhaseHere>,
        flight: &Rc<Flight>,
        ticket: Ticket,
        contender: Contender,
    ) -> Self {
        flight.start(phase.shared.index, u64::MAX, contender.stall_ns);
        let kind = contender.kind;
        Self { kind, contender: Some(contender), ..Self::on_its_way(worker, phase, flight, ticket) }
    }

    /// The same, with a body of its own instead of its sample's.
    pub(super) fn with_body(self, body: Option<Arc<[u8]>>) -> Self {
        Self { body, ..self }
    }

    fn on_its_way(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, flight: &Rc<Flight>, ticket: Ticket) -> Self {
        flight.index.set(ticket.index);
        Self {
            worker: Rc::clone(worker),
            phase: Rc::clone(phase),
            flight: Rc::clone(flight),
            ticket,
            stamps: ticket.stamps,
            connect_ns: 0,
            bytes_out: 0,
            asked_usage: false,
            kind: AttemptKind::First,
            attempts: Vec::new(),
            body: None,
            contender: None,
        }
    }

    /// Put the request's bytes into `connection` and as many of them into the socket as go at once.
    pub(super) fn write_now(&mut self, connection: &mut Connection) {
        self.render(connection);
        connection.write_now(&mut self.stamps);
    }

    /// Make the request, over HTTP/1.1 on `slot`'s connection or on a new one, and write its row. Leaves the connection
    /// in the slot if it can be used again. Returns the moment its slot was free.
    pub(super) async fn make(self, slot: &mut Option<Box<Connection>>) -> u64 {
        self.carry_out(slot, Self::write_row).await
    }

    /// The same for a copy, but for the row: what it brought is for whoever chooses between copies.
    pub(super) async fn bring(self, slot: &mut Option<Box<Connection>>) -> Given {
        self.carry_out(slot, Self::into_given).await
    }

    /// Make the request, and `finish` it while the answer is at hand, if one came.
    async fn carry_out<T>(
        self,
        slot: &mut Option<Box<Connection>>,
        finish: fn(Self, Option<&mut Reception>, Close) -> T,
    ) -> T {
        if self.worker.run.config.http2 {
            // Boxed, as connecting is: each request's task would carry its room along, and is moved as a whole.
            Box::pin(self.make_multiplexed(finish)).await
        } else {
            self.make_alone(slot, finish).await
        }
    }

    async fn make_alone<T>(
        mut self,
        slot: &mut Option<Box<Connection>>,
        finish: fn(Self, Option<&mut Reception>, Close) -> T,
    ) -> T {
        loop {
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(stream) => Worker::connection(stream, &self.phase.shared, self.ticket.node),
                    Err(close) => return finish(self, None, close),
                },
            };
            if self.stamps.sent == UNSET {
                self.render(&mut connection);
            }
            let aids = aids!(self);
            let ended = match connection.exchange(&aids, &mut self.stamps).await {
                Some(ended) => ended,
                None => {
                    let (worker, flight) = (Rc::clone(&self.worker), Rc::clone(&self.flight));
                    let (streaming, ended) =
                        worker.streams.read_on(&flight, Streaming::new(self, connection), &worker.buffer).await;
                    (self, connection) = streaming.part();
                    ended
                }
            };
            let stale = connection.kept && is_stale(&ended, &connection.reception);
            let (close, reusable) = judge(ended, &mut connection.reception, &self.flight);
            if !reusable {
                self.bytes_out -= connection.unsent() as u64;
            }
            if let Some(kind) = self.another(stale, &close, &connection.reception) {
                self.begin_again(kind, &connection.reception, close.failure);
                *slot = reusable.then_some(connection);
                continue;
            }
            connection.kept = true;
            let done = finish(self, Some(&mut connection.reception), close);
            *slot = reusable.then_some(connection);
            return done;
        }
    }

    /// Take what a read of `connection` at `now` brought: how the answer ended, if it has.
    pub(super) fn hear(
        &mut self,
        connection: &mut Connection,
        read: io::Result<&[u8]>,
        now: u64,
    ) -> Option<Result<Ended, Broken>> {
        connection.take(read, now, &aids!(self), &mut self.stamps)
    }

    /// Wake the task that waits for its end.
    pub(super) fn wake(&self) {
        self.flight.wake();
    }

    async fn make_multiplexed<T>(mut self, finish: fn(Self, Option<&mut Reception>, Close) -> T) -> T {
        let worker = Rc::clone(&self.worker);
        let node = self.ticket.node;
        let multiplexed = worker.multiplexed(node);
        let mut reception = multiplexed.take_reception().unwrap_or_else(|| Reception::new(&self.phase.shared, node));
        let done = loop {
            let connection = match multiplexed.with_room() {
                Some(connection) => connection,
                None => match self.connect_multiplexed().await {
                    // Others may have waited for the same connection, and taken all of its room.
                    Ok(()) => continue,
                    Err(close) => break finish(self, None, close),
                },
            };
            let used = connection.used.replace(true);
            let body = self.body();
            self.bytes_out += body.len() as u64;
            reception.reset(&self.phase.shared);
            let request = self.settings().template.h2_request(body.len());
            let aids = aids!(self);
            let exchange = http2::exchange(&connection, request, body, &mut reception, &aids, &mut self.stamps);
            let ended = match guarded(&self.flight, exchange).await {
                Ok(Ok(())) => Ok(Ended::Reusable),
                Ok(Err(fault)) => Err(Broken::Fault(fault)),
                Err(verdict) => {
                    // The last part's moment is not the end: that is when the sweep gave up.
                    self.stamps.done = UNSET;
                    Err(Broken::Verdict(verdict))
                }
            };
            // A reset stream on a connection that lives on is the server's word on this request.
            let stale = used && !connection.is_open() && is_stale(&ended, &reception);
            let (close, _) = judge(ended, &mut reception, &self.flight);
            if let Some(kind) = self.another(stale, &close, &reception) {
                self.begin_again(kind, &reception, close.failure);
                continue;
            }
            break finish(self, Some(&mut reception), close);
        };
        multiplexed.keep_reception(reception);
        done
    }

    /// Whether this end asks for one more attempt, and of which kind.
    fn another(&mut self, stale: bool, close: &Close, reception: &Reception) -> Option<AttemptKind> {
        if stale {
            self.phase.reconnected();
            return Some(AttemptKind::Reconnect);
        }
        if self.refuses_usage(close, reception) {
            self.node().usage_refusals.note(self.settings().api);
            return Some(AttemptKind::Retry);
        }
        None
    }

    /// Its index in the session.
    fn id(&self) -> u64 {
        self.phase.shared.first_id + self.ticket.index
    }

    fn node(&self) -> &Node {
        self.worker.node(self.ticket.node)
    }

    fn settings(&self) -> &NodeSettings {
        self.phase.shared.settings.node(self.ticket.node)
    }

    /// Note the attempt that just ended and start another of this `kind`.
    fn begin_again(&mut self, kind: AttemptKind, reception: &Reception, outcome: Failure) {
        self.attempts.push(self.attempt(reception.answer.outcome().status, outcome));
        self.kind = kind;
        self.flight.again();
        let Stamps { planned, free, issued, .. } = self.stamps;
        self.stamps = Stamps { planned, free, issued, ..Stamps::default() };
    }
}

/// Tell of a request that was taken from the plan.
pub(super) fn tell_issued(worker: &Worker, phase: &PhaseHere, ticket: Ticket) {
    if let Some(events) = &worker.events {
        let request = phase.shared.first_id + ticket.index;
        events.tell(|e| e.issued(ticket.stamps.issued, request, phase.shared.index, ticket.sample));
    }
}
