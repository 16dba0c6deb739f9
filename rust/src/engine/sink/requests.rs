//! The requests of a sink, from being issued to their rows, and the phases they belong to. One lock, never held long.

use std::collections::HashMap;

use super::Ending;
use super::flight::Flight;
use crate::clock::now_ns;
use crate::engine::error::EngineError;
use crate::engine::finish::{TEXTS_KEPT, masked};
use crate::engine::flight::SWEEP_MS;
use crate::engine::manual::Asked;
use crate::engine::phase::{SharedPhase, Tally};
use crate::engine::reason::StopReason;
use crate::event::Emitter;
use crate::record::{Backlog, Failure, Row, Shard, TextKind, UNSET};
use crate::schedule::SampleOrder;
use crate::series::LiveShard;

/// A request to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its index in the session.
    pub request: u64,
    /// The sample to send.
    pub sample: u64,
    /// When it should have started.
    pub planned_ns: u64,
}

pub(super) struct Requests {
    shard: Shard,
    backlog: Backlog,
    emitter: Option<Emitter>,
    /// Those that issue or have something in flight; the current one last.
    phases: Vec<PhaseHere>,
    flights: HashMap<u64, Flight>,
    issued: u64,
    ended: u64,
    late: u64,
    /// What was cancelled here and nobody was told of yet.
    cancelled: Vec<u64>,
}

/// A phase as the sink runs it.
struct PhaseHere {
    shared: SharedPhase,
    live: LiveShard,
    order: SampleOrder,
    issuing: bool,
    closed: bool,
    in_flight: u64,
    /// Under a cap: when the last slot of all became free; 0 if it never did.
    freed_ns: u64,
    texts: u32,
    tally: Tally,
}

impl Requests {
    pub(super) fn new(shard: Shard, backlog: Backlog, emitter: Option<Emitter>) -> Self {
        Self {
            shard,
            backlog,
            emitter,
            phases: Vec::new(),
            flights: HashMap::new(),
            issued: 0,
            ended: 0,
            late: 0,
            cancelled: Vec::new(),
        }
    }

    /// A phase begins; what earlier ones have in flight stays theirs.
    pub(super) fn begin(&mut self, shared: SharedPhase, live: LiveShard) {
        self.phases.retain(|p| p.in_flight > 0 || p.issuing);
        self.phases.push(PhaseHere::new(shared, live));
    }

    /// The current phase's load begins at `now`, if it hasn't.
    pub(super) fn start(&mut self, now: u64) -> Result<u64, EngineError> {
        Ok(self.current()?.shared.start(now))
    }

    /// Take the next request of the plan; `None` when the phase takes no more.
    pub(super) fn issue(
        &mut self,
        now: u64,
        sample: Option<u64>,
        planned_ns: Option<u64>,
    ) -> Result<Option<Issued>, EngineError> {
        let behind = self.backlog.is_behind();
        let here = self.current()?;
        here.shared.check(&Asked { sample, ..Asked::default() })?;
        let start = here.shared.start(now);
        let planned_ns = planned_ns.unwrap_or(now).clamp(start.min(now), now);
        if behind {
            here.shared.stop(StopReason::Disk);
        } else if planned_ns.saturating_sub(start) >= here.shared.duration_ns() {
            here.shared.stop(StopReason::Duration);
        }
        let Some(index) = here.issuing.then(|| here.shared.claim()).flatten() else {
            self.end_issue(now);
            return Ok(None);
        };
        let sample = sample.unwrap_or_else(|| here.order.sample(index));
        let issued = Issued { request: here.shared.first_id + index, sample, planned_ns };
        let (phase, is_last) = (here.shared.index, here.shared.is_last(index));
        here.in_flight += 1;
        here.tally.issued += 1;
        let free = here.shared.config.max_concurrency.map(|_| here.freed_ns.clamp(planned_ns, now));
        here.live.issued(now - free.unwrap_or(planned_ns));
        self.flights.insert(issued.request, Flight::new(phase, &issued, free.unwrap_or(UNSET), now));
        self.issued += 1;
        self.emitter.iter_mut().for_each(|e| e.issued(now, issued.request, phase, sample));
        if is_last {
            // Nobody need ask once more to learn that there is no more.
            self.current()?.shared.end(StopReason::Requests);
            self.end_issue(now);
        }
        Ok(Some(issued))
    }

    /// The body of a request in flight.
    pub(super) fn body(&self, request: u64) -> Option<Vec<u8>> {
        let flight = self.flights.get(&request)?;
        let phase = &self.phases.iter().find(|p| p.shared.index == flight.phase())?.shared;
        let asks_usage = phase.settings.node(0).wants_usage();
        Some(phase.pieces(0, flight.sample(), asks_usage, &phase.marker(request)).concat())
    }

    /// The request is about to be sent.
    pub(super) fn sent(&mut self, now: u64, request: u64, ns: Option<u64>) -> bool {
        let flight = self.flights.get_mut(&request);
        flight.map(|f| f.sent(now, ns)).is_some()
    }

    /// A piece of its answer came.
    pub(super) fn chunk(
        &mut self,
        now: u64,
        request: u64,
        tokens: Option<u32>,
        is_output: bool,
        ns: Option<u64>,
    ) -> bool {
        let Some(flight) = self.flights.get_mut(&request) else {
            self.late += 1;
            return false;
        };
        let gap = flight.chunk(now, tokens, is_output, ns);
        let phase = flight.phase();
        if let Some(reads) = flight.reads.to_spill() {
            self.shard.spill(request, phase, reads);
        }
        if let (Some(emitter), Some(gap)) = (&mut self.emitter, gap) {
            emitter.read(gap.at, request, flight.phase(), gap.is_first, 1, tokens.unwrap_or(0));
        }
        if let (Some(gap), Some(here)) = (gap, self.phases.iter().find(|p| p.shared.index == flight.phase())) {
            if gap.is_first { here.live.first(flight.stamps(), 1) } else { here.live.gap(gap.ns, 1) }
        }
        true
    }

    /// It has ended.
    pub(super) fn complete(&mut self, now: u64, request: u64, ending: &Ending<'_>, ns: Option<u64>) -> bool {
        let Some(flight) = self.flights.remove(&request) else {
            self.late += 1;
            return false;
        };
        self.write_row(flight, request, ending, now, ns);
        self.count();
        true
    }

    /// Nothing more is issued in the current phase.
    pub(super) fn end_issue(&mut self, now: u64) {
        let Self { phases, shard, .. } = self;
        if let Some(here) = phases.last_mut() {
            here.shared.end(StopReason::Plan);
            here.issued_last(shard, now);
        }
    }

    /// The sweep's look: is the phase's time over, can the disk follow, has somebody stopped it, is a drain over?
    pub(super) fn look(&mut self, now: u64) {
        let behind = self.backlog.is_behind();
        let Self { phases, shard, .. } = self;
        for here in phases.iter_mut().filter(|p| p.issuing) {
            here.shared.look(now, behind);
            if here.shared.stopped() {
                here.issued_last(shard, now);
            }
        }
        self.cancel(now);
        self.count();
        self.shard.flush_if_due(now);
        self.emitter.iter_mut().for_each(|e| e.flush_if_due(now));
    }

    /// Send all events on their way.
    pub(super) fn flush_events(&mut self) {
        self.emitter.iter_mut().for_each(Emitter::flush);
    }

    /// When the next look is due: what is buffered of the events leaves in time, to the timer's millisecond.
    pub(super) fn next_look_ns(&self, now: u64) -> u64 {
        let sweep = now + SWEEP_MS * 1_000_000;
        self.emitter.as_ref().and_then(Emitter::leaves_ns).map_or(sweep, |at| at.clamp(now, sweep))
    }

    /// Those that were cancelled since the last call.
    pub(super) fn take_cancelled(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.cancelled)
    }

    /// Answers for requests that were not in flight (any more).
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// End everything that is in flight, hand all rows to the log. Returns the number of late answers.
    pub(super) fn close(&mut self, now: u64) -> u64 {
        self.look(now);
        self.shard.flush();
        self.flush_events();
        self.late
    }

    /// End what is to be cancelled by `now`.
    fn cancel(&mut self, now: u64) {
        let over = |p: &&PhaseHere| p.in_flight > 0 && p.shared.cancelled(now);
        let over: Vec<u16> = self.phases.iter().filter(over).map(|p| p.shared.index).collect();
        if over.is_empty() {
            return;
        }
        let cancelled = Ending { failure: Failure::Cancelled, ..Ending::default() };
        for (request, flight) in self.flights.extract_if(|_, f| over.contains(&f.phase())).collect::<Vec<_>>() {
            self.write_row(flight, request, &cancelled, now, None);
            self.cancelled.push(request);
        }
    }

    fn write_row(&mut self, mut flight: Flight, request: u64, end: &Ending<'_>, now: u64, ns: Option<u64>) {
        let row = flight.end(request, end, now, ns);
        self.keep_texts(&row, end);
        self.shard.push(&row, flight.reads.list(), &[]);
        self.emitter.iter_mut().for_each(|e| e.ended(&row));
        self.ended += 1;
        self.free_slot(now);
        let Self { phases, shard, .. } = self;
        if let Some(here) = phases.iter_mut().find(|p| p.shared.index == row.phase) {
            here.shared.learn(&row);
            here.live.done(&row);
            here.done(&row);
            here.close_if_through(shard, now);
        }
    }

    /// A flight has ended: if that made room under the current phase's cap, what waits for it may go from now on.
    fn free_slot(&mut self, now: u64) {
        let in_flight = self.flights.len();
        if let Some(here) = self.phases.last_mut()
            && here.shared.config.max_concurrency.is_some_and(|cap| in_flight + 1 == cap as usize)
        {
            here.freed_ns = now;
        }
    }

    fn keep_texts(&mut self, row: &Row, end: &Ending<'_>) {
        let Self { phases, shard, .. } = self;
        let Some(here) = phases.iter_mut().find(|p| p.shared.index == row.phase) else { return };
        let keeps_error = !end.error.is_empty() && here.keeps_text();
        let settings = &here.shared.settings;
        let secrets = settings.secrets();
        let mut keep = |kind, text: &str| shard.text(row.id, kind, &masked(secrets, text.as_bytes()));
        if keeps_error {
            keep(TextKind::Error, end.error);
        }
        if settings.keeps_answer(row) {
            let texts = [(TextKind::Reasoning, end.reasoning), (TextKind::Answer, end.text)];
            texts.into_iter().filter(|(_, text)| !text.is_empty()).for_each(|(kind, text)| keep(kind, text));
        }
    }

    /// Tell the shard how many requests were issued and are in flight.
    fn count(&mut self) {
        self.shard.counters(self.issued, self.issued - self.ended);
    }

    fn current(&mut self) -> Result<&mut PhaseHere, EngineError> {
        self.phases.last_mut().ok_or(EngineError::State("no phase is running: begin one first"))
    }
}

impl PhaseHere {
    fn new(shared: SharedPhase, live: LiveShard) -> Self {
        Self {
            order: shared.order(),
            shared,
            live,
            issuing: true,
            closed: false,
            in_flight: 0,
            freed_ns: 0,
            texts: 0,
            tally: Tally::default(),
        }
    }

    /// Nothing more will be issued. The first call counts.
    fn issued_last(&mut self, shard: &mut Shard, now: u64) {
        if std::mem::take(&mut self.issuing) {
            self.shared.issued_last(now, self.tally.issued);
            self.close_if_through(shard, now);
        }
    }

    fn done(&mut self, row: &Row) {
        self.tally.ended(row.failure);
        self.in_flight -= 1;
    }

    fn close_if_through(&mut self, shard: &mut Shard, now: u64) {
        if !self.issuing && self.in_flight == 0 && !std::mem::replace(&mut self.closed, true) {
            // The session syncs the log when the phase is over: its rows must be in it by then.
            shard.flush();
            self.shared.leave(self.tally, now.max(now_ns()));
        }
    }

    fn keeps_text(&mut self) -> bool {
        let kept = self.texts;
        self.texts = kept.saturating_add(1);
        kept < TEXTS_KEPT
    }
}
