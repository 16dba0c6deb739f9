//! One request from its ticket to its row: connect if need be, exchange, replace a dead connection, write it down.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::completions::{Completion, Texts};
use super::config::Completions;
use super::connection::{Broken, Connection, Ended};
use super::flight::{Flight, Verdict, guarded};
use super::multiplexed::{self, Shared};
use super::reception::{Aids, Reception};
use super::settings::Settings;
use super::worker::{PhaseHere, Worker};
use crate::clock::now_ns;
use crate::http::{Fault, Secrets, Stream};
use crate::record::{Attempt, AttemptKind, Detail, Failure, Row, StampSource, Stamps, TextKind, TokenSource, UNSET};

/// With no local port or descriptor left, a request waits this long and asks again, until its time-out.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(20);

/// So many failures of a phase keep their words, on each worker.
pub(super) const TEXTS_KEPT: u32 = 50;

/// A request taken from the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// Index in the phase's plan.
    pub(super) index: u64,
    /// Index of the sample.
    pub(super) sample: u64,
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
}

/// What this request's worker lends to its exchange; a macro, so that the stamps can be lent beside it.
macro_rules! aids {
    ($request:ident) => {
        Aids {
            buffer: &$request.worker.buffer,
            live: &$request.phase.live,
            shard: &$request.worker.shard,
            flight: &$request.flight,
            request: $request.id(),
            phase: $request.phase.shared.index,
            events: $request.worker.events.as_deref(),
        }
    };
}

/// How the last attempt ended, before it is written down.
struct Close {
    failure: Failure,
    detail: Detail,
    text: Box<str>,
}

impl Request {
    /// For `ticket`; its time-out starts now.
    pub(super) fn new(worker: &Rc<Worker>, phase: &Rc<PhaseHere>, flight: &Rc<Flight>, ticket: Ticket) -> Self {
        let Settings { timeout_ns, stall_timeout_ns, .. } = phase.shared.settings;
        flight.start(phase.shared.index, ticket.stamps.issued.saturating_add(timeout_ns), stall_timeout_ns);
        let request = Self {
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
        };
        if let Some(events) = &worker.events {
            events.tell(|e| e.issued(ticket.stamps.issued, request.id(), phase.shared.index, ticket.sample));
        }
        request
    }

    /// Put the request's bytes into `connection` and as many of them into the socket as go at once.
    pub(super) fn write_now(&mut self, connection: &mut Connection) {
        self.render(connection);
        connection.write_now(&mut self.stamps);
    }

    /// Make the request, over HTTP/1.1 on `slot`'s connection or on a new one, and write its row. Leaves the connection
    /// in the slot if it can be used again. Returns the moment its slot was free.
    pub(super) async fn make(self, slot: &mut Option<Box<Connection>>) -> u64 {
        if self.worker.run.config.http2 { self.make_multiplexed().await } else { self.make_alone(slot).await }
    }

    async fn make_alone(mut self, slot: &mut Option<Box<Connection>>) -> u64 {
        loop {
            if slot.is_none() {
                match self.connect().await {
                    Ok(stream) => *slot = Some(Worker::connection(stream, &self.phase.shared)),
                    Err(close) => return self.write_row(None, close),
                }
            }
            let Some(connection) = slot.as_mut() else { continue };
            if self.stamps.sent == UNSET {
                self.render(connection);
            }
            let aids = aids!(self);
            let ended = connection.exchange(&aids, &mut self.stamps).await;
            let stale = connection.kept && is_stale(&ended, &connection.reception);
            let (close, reusable) = judge(ended, &mut connection.reception, &self.flight);
            if let Some(kind) = self.another(stale, &close, &connection.reception) {
                self.begin_again(kind, &connection.reception, close.failure);
                slot.take_if(|_| !reusable);
                continue;
            }
            connection.kept = true;
            let done = self.write_row(Some(&mut connection.reception), close);
            slot.take_if(|_| !reusable);
            return done;
        }
    }

    async fn make_multiplexed(mut self) -> u64 {
        let worker = Rc::clone(&self.worker);
        let mut reception = worker.multiplexed.take_reception().unwrap_or_else(|| Reception::new(&self.phase.shared));
        let done = loop {
            let connection = match worker.multiplexed.with_room() {
                Some(connection) => connection,
                None => match self.connect_multiplexed().await {
                    Ok(connection) => connection,
                    Err(close) => break self.write_row(None, close),
                },
            };
            let used = connection.used.replace(true);
            let body = self.body();
            self.bytes_out += body.len() as u64;
            reception.reset(&self.phase.shared);
            let request = self.settings().template.h2_request(body.len());
            let aids = aids!(self);
            let exchange = multiplexed::exchange(&connection, request, body, &mut reception, &aids, &mut self.stamps);
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
            break self.write_row(Some(&mut reception), close);
        };
        worker.multiplexed.keep_reception(reception);
        done
    }

    /// Whether this end asks for one more attempt, and of which kind.
    fn another(&mut self, stale: bool, close: &Close, reception: &Reception) -> Option<AttemptKind> {
        if stale {
            self.worker.note_reconnected(&self.phase);
            return Some(AttemptKind::Reconnect);
        }
        if self.refuses_usage(close, reception) {
            self.worker.run.usage_refusals.note(self.settings().api);
            return Some(AttemptKind::Retry);
        }
        None
    }

    async fn connect_multiplexed(&mut self) -> Result<Rc<Shared>, Close> {
        let started = now_ns();
        let worker = Rc::clone(&self.worker);
        let connect = patiently(|| worker.multiplexed.connect(&worker.run.connector));
        let connected = guarded(&self.flight, connect).await;
        self.connect_ns += now_ns().saturating_sub(started);
        match connected {
            Ok(connected) => connected.map_err(Close::of),
            Err(verdict) => Err(Close::by(verdict)),
        }
    }

    async fn connect(&mut self) -> Result<Stream, Close> {
        let started = now_ns();
        let connect = patiently(|| self.worker.run.connector.connect());
        let connected = guarded(&self.flight, connect).await;
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

    fn settings(&self) -> &Settings {
        &self.phase.shared.settings
    }

    /// Whether the next attempt asks for usage in the stream.
    fn asks_usage(&self) -> bool {
        let settings = self.settings();
        settings.wants_usage() && !self.worker.run.usage_refusals.has(settings.api)
    }

    fn render(&mut self, connection: &mut Connection) {
        connection.reset(&self.phase.shared);
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        let pieces = self.phase.shared.pieces(self.ticket.sample, self.asked_usage, &marker);
        self.settings().template.render(&pieces, &mut connection.out);
        self.bytes_out += connection.out.len() as u64;
    }

    fn body(&mut self) -> Bytes {
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        self.phase.shared.pieces(self.ticket.sample, self.asked_usage, &marker).concat().into()
    }

    /// A server that answers 400 or 422 because it does not know `stream_options`: asked again without it.
    fn refuses_usage(&self, close: &Close, reception: &Reception) -> bool {
        let refused = close.failure == Failure::Http && matches!(reception.answer.outcome().status, 400 | 422);
        refused
            && self.kind != AttemptKind::Retry
            && self.asked_usage
            && (close.text.contains("stream_options") || close.text.contains("include_usage"))
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
        Attempt { kind: self.kind, node: 0, sent, first_byte, done, status, outcome }
    }

    fn write_row(&mut self, mut reception: Option<&mut Reception>, close: Close) -> u64 {
        if self.stamps.done == UNSET {
            self.stamps.done = self.flight.ended_at();
        }
        let mut row = Row {
            id: self.id(),
            phase: self.phase.shared.index,
            worker: self.worker.id,
            sample: self.ticket.sample,
            stamps: self.stamps,
            connect_ns: self.connect_ns,
            failure: close.failure,
            detail: close.detail,
            bytes_out: self.bytes_out,
            stamp_source: StampSource::Engine,
            ..Row::default()
        };
        if let Some(reception) = &reception {
            fill_answer(&mut row, reception);
        }
        if !self.attempts.is_empty() {
            self.attempts.push(self.attempt(row.status, row.failure));
        }
        self.keep(&row, reception.as_deref_mut(), &close);
        if self.phase.shared.config.completions != Completions::None {
            self.tell(&row, reception.as_deref(), &close);
        }
        if let Some(events) = &self.worker.events {
            events.tell(|e| e.ended(&row));
        }
        self.worker.note_done(&self.phase, &row);
        self.phase.shared.learn(&row);
        // A finished answer whose connection was waited for is done before its slot is free.
        if self.flight.verdict().is_some() { now_ns() } else { row.stamps.done }
    }

    /// Hand everything to the log.
    fn keep(&self, row: &Row, reception: Option<&mut Reception>, close: &Close) {
        let mut shard = self.worker.shard.borrow_mut();
        let secrets = self.settings().template.secrets();
        let mut keep_text = |kind, bytes: &[u8]| shard.text(row.id, kind, &masked(secrets, bytes));
        if !close.text.is_empty() && row.failure != Failure::None && self.phase.keeps_text(TEXTS_KEPT) {
            keep_text(TextKind::Error, close.text.as_bytes());
        }
        match reception {
            Some(reception) => {
                if self.keeps_answer(row) {
                    let answer = &reception.answer;
                    let texts = [(TextKind::Reasoning, answer.reasoning()), (TextKind::Answer, answer.text())];
                    texts
                        .into_iter()
                        .filter(|(_, text)| !text.is_empty())
                        .for_each(|(kind, text)| keep_text(kind, text));
                    if answer.holds_more() {
                        keep_text(TextKind::Unkept, b"");
                    }
                }
                shard.push(row, reception.reads(), &self.attempts);
            }
            None => shard.push(row, &self.worker.no_reads, &self.attempts),
        }
    }

    /// Whether the answer's text is asked for: every one, or for a tokenizer those that it will have to count.
    fn keeps_answer(&self, row: &Row) -> bool {
        let settings = self.settings();
        let uncounted = row.failure == Failure::None && row.token_source != TokenSource::Usage;
        settings.save_responses || settings.keep_uncounted && uncounted
    }

    /// Tell whoever waits for this request. The log has it already: who learns of it finds it there.
    fn tell(&self, row: &Row, reception: Option<&Reception>, close: &Close) {
        let secrets = self.settings().template.secrets();
        let words = |bytes: &[u8]| String::from_utf8_lossy(&masked(secrets, bytes)).into_owned().into_boxed_str();
        let mut texts = Texts::default();
        let failed = row.failure != Failure::None;
        if failed && !close.text.is_empty() {
            texts.error = Some(words(close.text.as_bytes()));
        }
        if let (Completions::Answers, Some(reception)) = (self.phase.shared.config.completions, reception) {
            let (text, reasoning) = (reception.answer.text(), reception.answer.reasoning());
            texts.text = (!failed || !text.is_empty()).then(|| words(text));
            texts.reasoning = (!reasoning.is_empty()).then(|| words(reasoning));
        }
        self.worker.tell(Completion { row: row.clone(), texts });
    }
}

impl Close {
    fn good() -> Self {
        Self { failure: Failure::None, detail: Detail::None, text: Box::default() }
    }

    fn of(fault: Fault) -> Self {
        Self { failure: fault.failure, detail: fault.detail, text: fault.text }
    }

    fn by(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Failed(failure) => Self { failure, detail: Detail::None, text: Box::default() },
            Verdict::Lingered => Self::good(),
        }
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

/// A text as it may be kept: a server may echo what it was sent, credentials included.
pub(super) fn masked<'a>(secrets: &Secrets, text: &'a [u8]) -> Cow<'a, [u8]> {
    match secrets.redact(&String::from_utf8_lossy(text)) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(clean) => Cow::Owned(clean.into_bytes()),
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
