//! One request from its ticket to its row: connect if need be, exchange, replace a dead connection, write it down.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::completions::Made;
use super::connection::{Broken, Connection, Ended};
use super::finish::{Close, Finished, Said};
use super::flight::{Flight, Verdict, guarded};
use super::multiplexed as http2;
use super::nodes::Node;
use super::phase_here::PhaseHere;
use super::reception::{Aids, Audience, Chooser, Reception};
use super::settings::{NodeSettings, Settings};
use super::streams::Streaming;
use super::worker::Worker;
use crate::clock::now_ns;
use crate::http::{Fault, Hints, Stream};
use crate::record::{Attempt, AttemptKind, Detail, Failure, ReadList, Row, StampSource, Stamps, TokenSource, UNSET};
use crate::sync::Arc;

/// With no local port or descriptor left, a request waits this long and asks again, until its time-out.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(20);

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

/// What a copy brought, kept until it is known whether it counts.
pub(super) struct Given {
    /// Its row, as it stands if it counts.
    pub(super) row: Row,
    pub(super) close: Close,
    pub(super) reads: ReadList,
    text: Box<[u8]>,
    reasoning: Box<[u8]>,
    holds_more: bool,
    /// Whether any answer began.
    answered: bool,
    /// Its tries on the wire, of which the last is what it came to.
    pub(super) tries: Vec<Attempt>,
    pub(super) hints: Hints,
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

    async fn connect_multiplexed(&mut self) -> Result<(), Close> {
        let started = now_ns();
        let worker = Rc::clone(&self.worker);
        let connect = patiently(|| worker.multiplexed(self.ticket.node).connect(&self.node().connector));
        let connected = guarded(&self.flight, Box::pin(connect)).await;
        self.connect_ns += now_ns().saturating_sub(started);
        match connected {
            Ok(connected) => connected.map_err(Close::of),
            Err(verdict) => {
                let text = worker.multiplexed(self.ticket.node).why_no_room().into();
                Err(Close { text, ..Close::by(verdict) })
            }
        }
    }

    async fn connect(&mut self) -> Result<Stream, Close> {
        let started = now_ns();
        let connect = patiently(|| self.node().connector.connect());
        let connected = guarded(&self.flight, Box::pin(connect)).await;
        self.connect_ns += now_ns().saturating_sub(started);
        match connected {
            Ok(connected) => connected.map_err(Close::of),
            Err(verdict) => Err(Close::by(verdict)),
        }
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

    /// Whether the next attempt asks for usage in the stream.
    fn asks_usage(&self) -> bool {
        let settings = self.settings();
        settings.wants_usage() && !self.node().usage_refusals.has(settings.api)
    }

    fn render(&mut self, connection: &mut Connection) {
        connection.reset(&self.phase.shared);
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        self.settings().template.render(&self.pieces(&marker), &mut connection.out);
        self.bytes_out += connection.out.len() as u64;
    }

    fn body(&mut self) -> Bytes {
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        self.pieces(&marker).concat().into()
    }

    fn pieces<'a>(&'a self, marker: &'a str) -> [&'a [u8]; 4] {
        let Ticket { node, sample, .. } = self.ticket;
        match &self.body {
            Some(body) => [self.settings().opening(self.asked_usage), &body[1..], b"", b""],
            None => self.phase.shared.pieces(node, sample, self.asked_usage, marker),
        }
    }

    /// A server that answers 400 or 422 because it does not know `stream_options`: asked again without it.
    fn refuses_usage(&self, close: &Close, reception: &Reception) -> bool {
        let refused = close.failure == Failure::Http && matches!(reception.answer.outcome().status, 400 | 422);
        // Once refused it isn't asked for again, so this can't go on for ever.
        refused && self.asked_usage && (close.text.contains("stream_options") || close.text.contains("include_usage"))
    }

    /// Note the attempt that just ended and start another of this `kind`.
    fn begin_again(&mut self, kind: AttemptKind, reception: &Reception, outcome: Failure) {
        self.attempts.push(self.attempt(reception.answer.outcome().status, outcome));
        self.kind = kind;
        self.flight.again();
        let Stamps { planned, free, issued, .. } = self.stamps;
        self.stamps = Stamps { planned, free, issued, ..Stamps::default() };
    }

    fn attempt(&self, status: u16, outcome: Failure) -> Attempt {
        let Stamps { sent, first_byte, done, .. } = self.stamps;
        let done = if done == UNSET { now_ns() } else { done };
        Attempt { kind: self.kind, node: self.ticket.node, sent, first_byte, done, status, outcome }
    }

    /// Write the row; the moment its slot was free.
    fn write_row(mut self, mut reception: Option<&mut Reception>, close: Close) -> u64 {
        let row = self.row(reception.as_deref_mut(), &close);
        if !self.attempts.is_empty() {
            self.attempts.push(self.attempt(row.status, row.failure));
        }
        let finished = Finished {
            row: &row,
            attempts: &self.attempts,
            made: Made::ONCE,
            reads: reception.as_deref().map_or(&self.worker.no_reads, Reception::reads),
            said: reception.as_deref().map(Said::of),
            retry_after_ns: reception.as_deref().and_then(|reception| reception.answer.hints().retry_after_ns),
            error: &close.text,
        };
        finished.write_down(&self.worker, &self.phase);
        let well = (row.failure != Failure::Cancelled).then_some(row.failure == Failure::None);
        self.worker.run.in_flight.leave(self.ticket.node, row.stamps.done, well);
        self.phase.live.node_ended(self.ticket.node, row.failure);
        // A finished answer whose connection was waited for is done before its slot is free.
        if self.flight.verdict().is_some() { now_ns() } else { row.stamps.done }
    }

    /// Take everything out of the answer that its row and its reader may need.
    fn into_given(mut self, mut reception: Option<&mut Reception>, close: Close) -> Given {
        let row = self.row(reception.as_deref_mut(), &close);
        self.attempts.push(self.attempt(row.status, row.failure));
        let mut given = Given {
            row,
            close,
            reads: ReadList::new(),
            text: Box::default(),
            reasoning: Box::default(),
            holds_more: false,
            answered: reception.is_some(),
            tries: self.attempts,
            hints: Hints::default(),
        };
        if let Some(reception) = reception {
            given.reads = reception.take_reads();
            let Said { text, reasoning, holds_more } = Said::of(reception);
            (given.text, given.reasoning, given.holds_more) = (text.into(), reasoning.into(), holds_more);
            given.hints = reception.answer.hints();
        }
        given
    }

    /// The row as this attempt leaves it.
    fn row(&mut self, reception: Option<&mut Reception>, close: &Close) -> Row {
        if self.stamps.done == UNSET {
            self.stamps.done = self.flight.ended_at();
        }
        let mut row = Row {
            id: self.id(),
            phase: self.phase.shared.index,
            worker: self.worker.id,
            sample: self.ticket.sample,
            node: Some(self.ticket.node),
            stamps: self.stamps,
            connect_ns: self.connect_ns,
            failure: close.failure,
            detail: close.detail,
            bytes_out: self.bytes_out,
            stamp_source: StampSource::Engine,
            ..Row::default()
        };
        if let Some(reception) = reception {
            reception.settle();
            fill_answer(&mut row, reception);
        }
        row
    }
}

impl Given {
    /// What it said, if an answer began.
    pub(super) fn said(&self) -> Option<Said<'_>> {
        let said = Said { text: &self.text, reasoning: &self.reasoning, holds_more: self.holds_more };
        self.answered.then_some(said)
    }
}

/// Tell of a request that was taken from the plan.
pub(super) fn tell_issued(worker: &Worker, phase: &PhaseHere, ticket: Ticket) {
    if let Some(events) = &worker.events {
        let request = phase.shared.first_id + ticket.index;
        events.tell(|e| e.issued(ticket.stamps.issued, request, phase.shared.index, ticket.sample));
    }
}

/// Connect, again and again while ports or descriptors have run out: that is this machine's shortage, not the server's
/// failure, and pushes back.
async fn patiently<T, F: Future<Output = Result<T, Fault>>>(connect: impl Fn() -> F) -> Result<T, Fault> {
    loop {
        match connect().await {
            Err(fault) if fault.detail == Detail::Exhausted => tokio::time::sleep(EXHAUSTED_WAIT).await,
            connected => return connected,
        }
    }
}

/// A kept-alive connection that closed before any byte of the answer: not the request's fault, nor counted as one.
fn is_stale(ended: &Result<Ended, Broken>, reception: &Reception) -> bool {
    let gone = |f: &Fault| matches!(f.detail, Detail::EarlyEnd | Detail::Reset | Detail::H2Reset);
    !reception.has_begun() && matches!(ended, Err(Broken::Fault(f)) if gone(f))
}

/// The outcome of an exchange, and whether its connection can serve another.
///
/// A stream that said `[DONE]` is complete however its connection ended; all else is for the answer to say.
fn judge(ended: Result<Ended, Broken>, reception: &mut Reception, flight: &Flight) -> (Close, bool) {
    let complete = match ended {
        Ok(ended) => Ok(ended == Ended::Reusable),
        Err(Broken::Verdict(Verdict::Lingered)) => Ok(false),
        Err(Broken::Fault(_)) if flight.is_finished() => Ok(false),
        Err(Broken::Verdict(verdict)) => Err(Close::by(verdict)),
        Err(Broken::Fault(fault)) => Err(Close::of(fault)),
    };
    match complete {
        Ok(reusable) => (reception.answer.end().map_or_else(Close::of, |()| Close::good()), reusable),
        Err(close) => (close, false),
    }
}

/// What the answer brought, whether or not it was a good one.
fn fill_answer(row: &mut Row, reception: &Reception) {
    let outcome = reception.answer.outcome();
    row.status = outcome.status;
    row.finish = outcome.finish;
    row.streamed = outcome.streamed;
    row.tokens_in = outcome.tokens_in;
    row.events = outcome.events;
    row.chunks = outcome.chunks;
    row.bytes_in = reception.bytes_in;
    (row.tokens_out, row.token_source) = match outcome.tokens_out {
        Some(n) => (Some(n), TokenSource::Usage),
        None if outcome.streamed && outcome.chunks > 0 => (Some(outcome.chunks), TokenSource::Chunks),
        None => (None, TokenSource::None),
    };
}
