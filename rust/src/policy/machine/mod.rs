//! The policy as a whole: its parts, and what each event and each look at it does.

mod call;
mod end;
mod held;
mod start;
mod time;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::attempts::Attempts;
use super::buckets::Buckets;
use super::hedge::Hedge;
use super::items::{Items, State};
use super::limit::Limit;
use super::line::Line;
use super::node::Nodes;
use super::pacer::Pacer;
use super::push_back::Judge;
use super::retry::{Backoff, Budget};
use super::slots::{Order, Slots};
use super::trace::{Point, Trace};
use super::{
    Action, AttemptId, CancelWhy, Config, ConfigError, Event, ItemId, NodeView, Recording, Step, Totals, Verdict, ns,
};
use call::{Call, Flight};
use held::Held;

/// Decides which item is called for when, and when its call is copied, tried again, dropped or given up.
///
/// ```
/// use loadgen::policy::{Action, Config, End, Event, Policy, Verdict};
///
/// let config = Config::named("sequential", 1, None, None)?;
/// let mut policy = Policy::new(&config, 0)?;
/// policy.on_event(0, Event::Queued { count: 2, key: 0, tokens: 0 });
/// let Some(Action::Start { attempt, item: 0, .. }) = policy.poll(0) else { panic!() };
/// assert_eq!(policy.poll(0), None);
/// policy.on_event(5, Event::Ended { attempt, end: End::default() });
/// assert_eq!(policy.poll(5), Some(Action::Resolve { item: 0, winner: Some(attempt), verdict: Verdict::Ok }));
/// assert!(matches!(policy.poll(5), Some(Action::Start { item: 1, .. })));
/// # Ok::<(), loadgen::policy::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    /// The latest time it was told; a driver whose clock steps back is taken to stand still.
    now: u64,
    closed: bool,
    items: Items,
    attempts: Attempts,
    calls: Slots<Call>,
    flights: Slots<Flight>,
    /// Flights by their start, which is the order in which they time out.
    running: Order,
    /// Calls by their first start, which is the order in which they time out; only if they do.
    under_way: Order,
    /// Calls that may get a copy, by the beginning of their silence.
    silent: Order,
    quiet: Quiet,
    line: Line,
    /// Ahead of the line: items that failed on a node, for another one. What can't start yet holds nobody up.
    urgent: VecDeque<ItemId>,
    /// When which item has backed off. Entries of calls that ended otherwise are passed over.
    backing_off: BinaryHeap<Reverse<(u64, ItemId)>>,
    /// Retries beyond the budget, first come first served.
    put_off: VecDeque<ItemId>,
    /// Actions that follow from what happened.
    out: VecDeque<Action>,
    limit: Limit,
    pacer: Option<Pacer>,
    buckets: Buckets,
    hedge: Hedge,
    nodes: Nodes,
    judge: Judge,
    backoff: Backoff,
    budget: Budget,
    held: Held,
    /// When a start that was held back may be due, if nothing else happens.
    wake: Option<u64>,
    live_hedges: u32,
    sums: Totals,
    trace: Trace,
    recording: Option<Box<Recording>>,
}

/// What the last look at the silent calls found: no copy is due before this, as long as nothing changes what it depends on.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    until: u64,
    changes: u32,
    permits: u32,
}

/// The configuration in the units of the machine.
#[derive(Clone, Copy, Debug)]
struct Rules {
    attempt_timeout: u64,
    call_timeout: Option<u64>,
    attempts: u32,
    push_backs: u32,
    streaming: bool,
}

impl Policy {
    /// A policy with nothing to do.
    ///
    /// # Arguments
    /// - `config`: checked here.
    /// - `seed`: the same seed and the same events give the same actions.
    pub fn new(config: &Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let remembered = config.remembered.unwrap_or_default();
        // Where a rate bound the earlier run, beginning with as many as were in flight then would only be refused.
        let remembered_limit = remembered.limit.filter(|_| remembered.rate.is_none());
        let limit = Limit::new(&config.limit, config.pacer.is_some(), remembered_limit);
        let permits = u64::from(limit.permits());
        Ok(Self {
            rules: Rules {
                attempt_timeout: ns(config.attempt_timeout_s),
                call_timeout: config.call_timeout_s.map(ns),
                attempts: config.retry.attempts,
                push_backs: config.retry.push_backs,
                streaming: config.streaming,
            },
            now: 0,
            closed: false,
            items: Items::new(),
            attempts: Attempts::new(),
            calls: Slots::new(),
            flights: Slots::new(),
            running: Order::new(),
            under_way: Order::new(),
            silent: Order::new(),
            quiet: Quiet::default(),
            line: Line::default(),
            urgent: VecDeque::new(),
            backing_off: BinaryHeap::new(),
            put_off: VecDeque::new(),
            out: VecDeque::new(),
            limit,
            pacer: config.pacer.as_ref().map(|pacer| Pacer::new(pacer, remembered.rate)),
            buckets: Buckets::new(&config.rates),
            hedge: Hedge::new(&config.hedge),
            nodes: Nodes::new(config.nodes, config.breaker.as_ref(), config.route.as_ref()),
            judge: Judge::new(&config.push_back),
            backoff: Backoff::new(&config.retry, seed),
            budget: Budget::new(&config.retry),
            held: Held::default(),
            wake: None,
            live_hedges: 0,
            sums: Totals { limit_least: permits, limit_most: permits, ..Totals::default() },
            trace: Trace::new(),
            recording: None,
        })
    }

    /// Keep what is told and asked from now on. It grows without bound.
    pub fn record(&mut self) {
        self.recording = Some(Box::default());
    }

    /// What was kept.
    pub fn recording(&self) -> Option<&Recording> {
        self.recording.as_deref()
    }

    /// Take note of what happened, at `now` nanoseconds. What nobody knows (an attempt that was never started, an end told
    /// twice, an item that is done) changes nothing. Poll afterwards.
    pub fn on_event(&mut self, now: u64, event: Event) {
        if let Some(recording) = &mut self.recording {
            recording.steps.push(Step::Told(now, event));
        }
        self.now = self.now.max(now);
        match event {
            Event::Queued { count, key, tokens } => self.queued(count, key, tokens),
            Event::Closed => self.closed = true,
            Event::FirstByte { attempt } => self.first_byte(attempt),
            Event::FirstToken { attempt } => self.first_token(attempt),
            Event::Ended { attempt, end } => self.ended(attempt, &end),
            Event::Cancel { item } => self.cancelled(item),
            Event::Told { hint } => self.buckets.told(self.now, &hint),
            Event::Room { node, slots } => self.nodes.set_room(node, slots),
            Event::Tick => {}
        }
    }

    /// What is to be done now: to be called until there is nothing, after each event and at the next deadline.
    pub fn poll(&mut self, now: u64) -> Option<Action> {
        self.now = self.now.max(now);
        let action = self.next_action();
        if let Some(recording) = &mut self.recording {
            recording.steps.push(Step::Polled(now));
            recording.actions.extend(action);
        }
        action
    }

    fn next_action(&mut self) -> Option<Action> {
        if self.out.is_empty() {
            self.expire();
        }
        self.out.pop_front().or_else(|| self.start_next())
    }

    /// When to poll next, if nothing else happens; none while only an event can change anything.
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.out.is_empty() {
            return Some(self.now);
        }
        [self.wake, self.next_expiry()].into_iter().flatten().min()
    }

    /// Whether no more items come and all are done.
    pub fn is_done(&self) -> bool {
        let sums = &self.sums;
        self.closed && sums.ok + sums.failed + sums.timed_out + sums.cancelled + sums.gave_up == sums.queued
    }

    /// All items.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// All attempts.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// What is known of a node's speed, where calls are spread by it.
    pub fn node(&self, node: u16) -> Option<NodeView> {
        self.nodes.view(self.now, node)
    }

    /// Forget what is known of the oldest items that are done, and of the oldest attempts of such, up to the first that
    /// isn't: for a policy that never ends, and whose items nobody will look at. No decision depends on them.
    pub fn forget(&mut self) {
        let Self { items, attempts, .. } = self;
        attempts.forget(|item| matches!(items.state(item), None | Some(State::Resolved(_))));
        items.forget();
    }

    /// How the state changed over time.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What happened so far.
    pub fn totals(&self) -> Totals {
        Totals {
            in_flight: u64::from(self.flights.used()),
            limit: u64::from(self.limit.permits()),
            attempts: u64::from(self.attempts.len()),
            ..self.sums
        }
    }

    fn queued(&mut self, count: u32, key: u32, tokens: u32) {
        let held = self.held.at(self.now);
        let first = self.items.len();
        // The last number stands for no item at all.
        let count = count.min(u32::MAX - 1 - first);
        (0..count).for_each(|_| self.items.push(self.now, key, tokens, held));
        self.line.join(first, count);
        self.sums.queued += u64::from(count);
        self.sums.waiting += u64::from(count);
    }

    fn cancelled(&mut self, item: ItemId) {
        match self.items.state(item) {
            None | Some(State::Resolved(_)) => {}
            Some(State::Waiting) => self.resolve_unstarted(item, Verdict::Cancelled),
            Some(State::UnderWay) => {
                if let Some(slot) = self.items.call(item) {
                    self.drop_flights(slot, CancelWhy::CallerLeft);
                    self.resolve(slot, None, Verdict::Cancelled);
                }
            }
        }
    }

    fn first_byte(&mut self, attempt: AttemptId) {
        if self.attempts.live_item(attempt).is_some() {
            self.attempts.first_byte(attempt, self.now);
        }
    }

    /// Note the state for whoever plots it.
    fn note(&mut self) {
        let permits = self.limit.permits();
        self.sums.limit_least = self.sums.limit_least.min(u64::from(permits));
        self.sums.limit_most = self.sums.limit_most.max(u64::from(permits));
        self.trace.note(Point {
            at_ns: self.now,
            limit: permits,
            rate: self.pacer.as_ref().and_then(Pacer::rate).map_or(f32::NAN, |rate| rate as f32),
            in_flight: self.flights.used(),
            hedges: self.live_hedges,
        });
    }
}
