//! The part of a serving thread that turns bytes into requests, and requests into answers or refusals.

use super::answer::{Answer, End, Reply};
use super::api::{self, Endpoint, Route};
use super::config::Flavour;
use super::conn::{Conn, Flow, State};
use super::documents;
use super::draw::Draws;
use super::faults::Chosen;
use super::gate::{Entry, Ticket};
use super::ollama;
use super::request::{Parsed, Request};
use super::serve::{self, Job, Refusal};
use super::shared::lock;
use super::truth::Row;
use super::worker::Worker;
use crate::clock::now_ns;
use crate::sync::{Arc, Ordering};

impl Worker {
    /// Take requests from what was read, until one has to wait.
    pub(super) fn take_requests(&mut self, conn: &mut Conn) -> bool {
        while matches!(conn.state, State::Idle) && !conn.input.is_empty() {
            match conn.parser.parse(&conn.input) {
                Ok(Parsed::More) => return true,
                Ok(Parsed::Continue) => {
                    return conn.write(b"HTTP/1.1 100 Continue\r\n\r\n") != Flow::Gone;
                }
                Ok(Parsed::Request(request, used)) => {
                    if used == conn.input.len() {
                        conn.input.clear();
                    } else {
                        conn.input.drain(..used);
                    }
                    self.on_request(conn, &request);
                }
                Err(refused) => {
                    conn.input.clear();
                    let reply = Reply { http10: false, keep_alive: false, request_id: None };
                    let refusal = Refusal::new(refused.status, refused.why);
                    let answer = refusal.answer(self.shared.config.flavour, &reply, now_ns());
                    conn.state = State::Answering(answer, None);
                }
            }
            if !self.write_due(conn) {
                return false;
            }
        }
        true
    }

    fn on_request(&mut self, conn: &mut Conn, request: &Request) {
        let arrival = now_ns();
        let reply = Reply::to(&request.head);
        let flavour = self.shared.config.flavour;
        let shared = Arc::clone(&self.shared);
        let mut body = Vec::new();
        let answer = match api::route(request.head.method, &request.head.target) {
            Route::Infer(endpoint) => return self.on_call(conn, request, endpoint, arrival),
            Route::Health => reply.json(arrival, 200, &[], b"{\"status\":\"ok\"}"),
            Route::Models => match serve::authorised(&shared.config, request.head.bearer.as_deref()) {
                Ok(()) => {
                    documents::models(&mut body, &shared.config, shared.anchor.wall_ns / 1_000_000_000);
                    reply.json(arrival, 200, &[], &body)
                }
                Err(refusal) => refusal.answer(flavour, &reply, arrival),
            },
            Route::Tags => {
                ollama::tags(&mut body, &shared.config, shared.anchor.wall_ns / 1_000_000_000);
                reply.json(arrival, 200, &[], &body)
            }
            Route::Loaded => {
                ollama::loaded(&mut body, &shared.config);
                reply.json(arrival, 200, &[], &body)
            }
            Route::Truth { rows } => reply.json(arrival, 200, &[], shared.truth(rows).as_bytes()),
            Route::ResetTruth => {
                shared.reset();
                reply.json(arrival, 200, &[], b"{}")
            }
            Route::WrongMethod => {
                // An answer to HEAD has no body; closing spares the question.
                let reply = Reply { keep_alive: false, ..reply };
                Refusal::new(405, "Method Not Allowed").answer(flavour, &reply, arrival)
            }
            Route::Unknown => Refusal::new(404, "Not Found").answer(flavour, &reply, arrival),
        };
        conn.state = State::Answering(answer, None);
    }

    /// A request for tokens or vectors: refuse it, queue it or begin to answer it.
    fn on_call(&self, conn: &mut Conn, request: &Request, endpoint: Endpoint, arrival: u64) {
        // Relaxed: the number only has to be unique; nothing else is published with it.
        let index = self.shared.arrivals.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.shards[self.thread]).begun += 1;
        let id = request.head.request_id.clone();
        let mut row = Row { index, id, endpoint: Some(endpoint), arrival, ..Row::default() };
        let outcome = self.job(request, endpoint, conn.served, &mut row).and_then(|next| {
            let Next::Serve(job) = next else { return Ok(next) };
            match self.enter(conn.key) {
                Entry::Go => Ok(Next::Serve(job)),
                Entry::Queued => Ok(Next::Queue(job)),
                Entry::Full => Err(Refusal::new(self.shared.config.queue_status, "The queue is full")),
            }
        });
        match outcome {
            Ok(Next::Serve(job)) => self.begin(conn, job, row, arrival),
            Ok(Next::Queue(job)) => self.queue(conn, job, row),
            Ok(Next::End(end)) => conn.state = State::Answering(Answer::script([], end), Some(Box::new(row))),
            Err(refusal) => {
                row.status = refusal.status;
                let flavour = if endpoint.is_ollama() { Flavour::Ollama } else { self.shared.config.flavour };
                let answer = refusal.answer(flavour, &Reply::to(&request.head), arrival);
                conn.state = State::Answering(answer, Some(Box::new(row)));
            }
        }
    }

    /// What the request asks for, if it is not refused and no fault ends the connection instead.
    fn job(&self, request: &Request, endpoint: Endpoint, served: u64, row: &mut Row) -> Result<Next, Refusal> {
        self.admit(request, row.arrival)?;
        let faults = self.faults(request, row.index)?;
        row.fault = faults.names();
        if let Some(end) = faults.at_connection(served) {
            return Ok(Next::End(end));
        }
        let mut job = Job::new(&self.shared.config, endpoint, request, row.index, faults)?;
        row.streamed = job.streams();
        row.id = row.id.take().or_else(|| job.marker());
        Ok(Next::Serve(job))
    }

    /// Let the request wait for its slot.
    fn queue(&self, conn: &mut Conn, mut job: Job, mut row: Row) {
        if let Some(head) = job.early_head(&self.shared.config) {
            row.first_byte = now_ns();
            row.bytes = head.len() as u64;
            conn.output.extend_from_slice(&head);
        }
        conn.state = State::Queued(Box::new((job, row)));
    }

    /// The faults of a request: those it asks for itself, else those of the rules.
    fn faults(&self, request: &Request, index: u64) -> Result<Chosen, Refusal> {
        match &request.head.fault {
            Some(names) => Chosen::by_header(names).map_err(|error| Refusal::new(400, error.to_string())),
            None => Ok(Chosen::by_rules(&self.shared.config.faults, Draws::new(self.shared.config.seed, index), index)),
        }
    }

    /// Key and rate limit.
    fn admit(&self, request: &Request, now: u64) -> Result<(), Refusal> {
        let config = &self.shared.config;
        serve::authorised(config, request.head.bearer.as_deref())?;
        serve::up(config, now.saturating_sub(self.shared.anchor.mono_ns))?;
        if self.shared.gate_open {
            return Ok(());
        }
        let admitted = lock(&self.shared.gate).admit(now);
        admitted.map_err(|wait| serve::rate_limited(config, wait, &self.shared.anchor, now))
    }

    fn enter(&self, key: u64) -> Entry {
        if self.shared.gate_open {
            return Entry::Go;
        }
        lock(&self.shared.gate).enter(Ticket { thread: self.thread, key })
    }

    /// Begin to answer a request that has had its slot since `now`.
    pub(super) fn begin(&self, conn: &mut Conn, job: Job, mut row: Row, now: u64) {
        conn.has_slot = self.shared.config.capacity.is_some();
        let unix = self.shared.anchor.wall_ns(now) / 1_000_000_000;
        let answer = job.begin(&self.shared.config, &mut row, now, unix);
        conn.state = State::Answering(answer, Some(Box::new(row)));
    }
}

/// What comes next for a request.
enum Next {
    Serve(Job),
    Queue(Job),
    /// The connection ends as if there had been no request.
    End(End),
}
