//! The first pass over a phase's rows: counts, sums, histograms and curves.

use std::collections::BTreeMap;

use super::gaps::{self, GAPS, Gap, Known};
use super::histogram::Histogram;
use super::metric::{METRICS, TTFT, Tokens, broken_order};
use super::objective::Objective;
use super::occupancy::Curve;
use super::scan::Parts;
use super::timeline::Timeline;
use crate::record::{AttemptKind, Detail, Failure, Finish, Row, RowView, StampSource, UNSET};

/// Sources of output tokens.
const SOURCES: usize = Tokens::ALL.len();
/// A request that was sent this much after its time was sent late.
pub(super) const LATE_NS: u64 = 5_000_000;
/// Bins of the in-flight curve start this wide, and double as often as the phase's length needs.
const CURVE_NS: u64 = 1_000_000;
/// Requests named for each kind of failure.
const MAX_EXAMPLES: usize = 10;
/// Samples told apart: a bit each, 8 MB for this many.
const MAX_SAMPLES: u64 = 1 << 26;

/// Least and greatest moment of one kind, and how many there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub first: u64,
    pub last: u64,
    pub count: u64,
}

impl Span {
    fn see(&mut self, ns: u64) {
        if ns != UNSET {
            self.merge(&Self { first: ns, last: ns, count: 1 });
        }
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.last = self.last.max(other.last);
        self.count += other.count;
    }

    /// Events per second between the first and the last.
    pub fn rate(&self) -> Option<f64> {
        let ns = self.last - self.first;
        (self.count > 1 && ns > 0).then(|| (self.count - 1) as f64 * 1e9 / ns as f64)
    }
}

/// One kind of failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed {
    pub count: u64,
    /// The first requests of it, by id.
    pub requests: Vec<u64>,
    /// The first requests of it that left a text.
    pub told: Vec<u64>,
}

/// A phase's tally; each thread fills its own, then they are merged.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub rows: u64,
    pub ok: u64,
    pub cancelled: u64,
    /// Failures by class, status (of `Failure::Http`) and detail.
    pub failures: BTreeMap<(Failure, u16, Detail), Failed>,
    pub finishes: [u64; Finish::ALL.len()],
    pub reconnects: u64,
    pub planned: Span,
    pub issued: Span,
    pub sent: Span,
    pub done: Span,
    /// Rows that waited for a slot under a cap.
    pub capped: bool,
    pub late: u64,
    /// Requests that were sent, over a connection opened for them.
    pub connected: u64,
    pub by_python: u64,
    pub broken: u64,
    /// The first row whose stamps are out of order: request and the two stamps.
    pub broken_example: Option<(u64, &'static str, &'static str)>,
    pub tokens_in: Sum,
    /// Output tokens by each source.
    pub tokens_out: [Sum; SOURCES],
    /// Chunks of the rows that have a count by each source, to tell tokens per chunk.
    pub counted_chunks: [u64; SOURCES],
    pub reads: u64,
    pub chunks: u64,
    pub events: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Streams with chunks, and those of them whose tokens per chunk are known.
    pub streams: [u64; 2],
    /// Streams that gave a gap to ICL, and to ITL: a single chunk has none.
    pub pooled: [u64; 2],
    /// Requests that met every objective, by each source of tokens.
    pub good: [u64; SOURCES],
    samples: Vec<u64>,
    samples_overflow: bool,
    /// One for each metric, by each source of tokens; all but the first only where the metric depends on it.
    pub metrics: [Vec<Histogram>; SOURCES],
    pub gaps: [Histogram; GAPS],
    pub curve: Curve,
    pub timeline: Timeline,
}

/// How many rows have a number, and its sum over them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub rows: u64,
    pub total: u64,
}

impl Sum {
    fn add(&mut self, value: Option<u64>) {
        self.rows += u64::from(value.is_some());
        // Only counts that are no counts add up to more than 64 bits; that goes for all sums here.
        self.total = self.total.saturating_add(value.unwrap_or(0));
    }
}

impl Tally {
    /// An empty tally of a phase that starts at `origin`, with series points `interval` ns wide.
    pub fn new(origin: u64, interval: u64) -> Self {
        let histograms = || vec![Histogram::default(); METRICS.len()];
        Self {
            rows: 0,
            ok: 0,
            cancelled: 0,
            failures: BTreeMap::new(),
            finishes: [0; Finish::ALL.len()],
            reconnects: 0,
            planned: Span::default(),
            issued: Span::default(),
            sent: Span::default(),
            done: Span::default(),
            capped: false,
            late: 0,
            connected: 0,
            by_python: 0,
            broken: 0,
            broken_example: None,
            tokens_in: Sum::default(),
            tokens_out: Default::default(),
            counted_chunks: Default::default(),
            reads: 0,
            chunks: 0,
            events: 0,
            bytes_in: 0,
            bytes_out: 0,
            streams: [0; 2],
            pooled: [0; 2],
            good: Default::default(),
            samples: Vec::new(),
            samples_overflow: false,
            metrics: std::array::from_fn(|_| histograms()),
            gaps: Default::default(),
            curve: Curve::new(origin, CURVE_NS),
            timeline: Timeline::new(origin, interval),
        }
    }

    /// Count one row.
    pub fn see(&mut self, view: &RowView<'_>, parts: Parts<'_>, slo: &[Objective], has_text: bool) {
        let row = &view.row;
        self.rows += 1;
        // What a later attempt waited for is not the client's lateness.
        let first_sent = view.attempts().flatten().next().map_or(row.stamps.sent, |attempt| attempt.sent);
        self.see_moments(row, first_sent);
        self.see_outcome(row, has_text);
        let attempts = view.attempts().flatten();
        self.reconnects += attempts.filter(|attempt| attempt.kind == AttemptKind::Reconnect).count() as u64;
        let tokens = Tokens::ALL.map(|source| source.of(row));
        for (i, metric) in METRICS.iter().enumerate().filter(|(_, metric)| metric.over.holds(row)) {
            let sources = if metric.by_tokens { SOURCES } else { 1 };
            for (histograms, tokens) in self.metrics.iter_mut().zip(tokens).take(sources) {
                if let Some(ns) = (metric.value)(row, tokens) {
                    histograms[i].record(ns);
                }
            }
        }
        if row.failure == Failure::None {
            self.see_answer(view, parts, tokens);
            for (good, tokens) in self.good.iter_mut().zip(tokens) {
                *good += u64::from(slo.iter().all(|objective| objective.is_met(row, tokens)));
            }
        }
    }

    /// Which source counts the phase's output tokens: the first of usage, tokenizer and chunks that at least half of
    /// the answers that have tokens have a count by; `None` where nothing has tokens.
    pub fn token_source(&self) -> Option<Tokens> {
        let rows = self.tokens_out.map(|sum| sum.rows);
        // A row is counted by usage or by the tokenizer, never by both, and perhaps by its chunks as well.
        let all = rows[Tokens::Chunks as usize].max(rows[Tokens::Usage as usize] + rows[Tokens::Tokenizer as usize]);
        let holds = |source: &Tokens| rows[*source as usize] * 2 >= all;
        Tokens::ALL.into_iter().find(holds).filter(|_| all > 0)
    }

    /// How many requests failed, of all kinds.
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|failed| failed.count).sum()
    }

    /// How many different samples were sent; `None` when there were too many to tell apart.
    pub fn distinct_samples(&self) -> Option<u64> {
        (!self.samples_overflow).then(|| self.samples.iter().map(|word| u64::from(word.count_ones())).sum())
    }

    /// Add another thread's tally of the same phase.
    pub fn merge(&mut self, other: Self) {
        self.merge_counts(&other);
        for (key, theirs) in other.failures {
            let mine = self.failures.entry(key).or_default();
            mine.count += theirs.count;
            merge_examples(&mut mine.requests, &theirs.requests);
            merge_examples(&mut mine.told, &theirs.told);
        }
        for (mine, theirs) in self.metrics.iter_mut().flatten().zip(other.metrics.iter().flatten()) {
            mine.merge(theirs);
        }
        self.gaps.iter_mut().zip(&other.gaps).for_each(|(mine, theirs)| mine.merge(theirs));
        self.samples.resize(self.samples.len().max(other.samples.len()), 0);
        self.samples.iter_mut().zip(&other.samples).for_each(|(mine, theirs)| *mine |= theirs);
        self.samples_overflow |= other.samples_overflow;
        self.curve.merge(other.curve);
        self.timeline.merge(other.timeline);
    }

    fn merge_counts(&mut self, other: &Self) {
        let mut add = |get: fn(&mut Self) -> &mut u64, theirs: u64| {
            let mine = get(self);
            *mine = mine.saturating_add(theirs);
        };
        add(|t| &mut t.rows, other.rows);
        add(|t| &mut t.ok, other.ok);
        add(|t| &mut t.cancelled, other.cancelled);
        add(|t| &mut t.reconnects, other.reconnects);
        add(|t| &mut t.late, other.late);
        add(|t| &mut t.connected, other.connected);
        add(|t| &mut t.by_python, other.by_python);
        add(|t| &mut t.broken, other.broken);
        add(|t| &mut t.reads, other.reads);
        add(|t| &mut t.chunks, other.chunks);
        add(|t| &mut t.events, other.events);
        add(|t| &mut t.bytes_in, other.bytes_in);
        add(|t| &mut t.bytes_out, other.bytes_out);
        let counts =
            self.streams.iter_mut().chain(&mut self.pooled).chain(&mut self.good).chain(&mut self.counted_chunks);
        let theirs = other.streams.iter().chain(&other.pooled).chain(&other.good).chain(&other.counted_chunks);
        counts.zip(theirs).for_each(|(mine, theirs)| *mine = mine.saturating_add(*theirs));
        self.finishes.iter_mut().zip(other.finishes).for_each(|(mine, theirs)| *mine += theirs);
        let sums = [&mut self.tokens_in].into_iter().chain(&mut self.tokens_out);
        for (mine, theirs) in sums.zip([&other.tokens_in].into_iter().chain(&other.tokens_out)) {
            mine.rows += theirs.rows;
            mine.total = mine.total.saturating_add(theirs.total);
        }
        self.planned.merge(&other.planned);
        self.issued.merge(&other.issued);
        self.sent.merge(&other.sent);
        self.done.merge(&other.done);
        self.capped |= other.capped;
        self.broken_example = [self.broken_example, other.broken_example].into_iter().flatten().min();
    }

    fn see_moments(&mut self, row: &Row, first_sent: u64) {
        let s = &row.stamps;
        self.planned.see(s.planned);
        self.issued.see(s.issued);
        self.sent.see(s.sent);
        self.done.see(s.done);
        self.capped |= s.free != UNSET;
        self.connected += u64::from(row.connect_ns > 0 && s.sent != UNSET);
        self.by_python += u64::from(row.stamp_source == StampSource::Python);
        if s.sent != UNSET {
            let due = s.planned.max(s.free);
            self.late += u64::from(first_sent.saturating_sub(due).saturating_sub(row.connect_ns) > LATE_NS);
        }
        if let Some((before, after)) = broken_order(row) {
            self.broken += 1;
            self.broken_example = self.broken_example.into_iter().chain([(row.id, before, after)]).min();
        }
        let start = if s.issued == UNSET { s.sent } else { s.issued };
        if start != UNSET && s.done != UNSET {
            self.curve.occupy(start, s.done);
            self.timeline.curve.occupy(start, s.done);
        }
        self.see_sample(row.sample);
    }

    fn see_sample(&mut self, sample: u64) {
        if sample >= MAX_SAMPLES {
            self.samples_overflow = true;
            return;
        }
        let word = (sample / 64) as usize;
        if word >= self.samples.len() {
            self.samples.resize(word + 1, 0);
        }
        self.samples[word] |= 1 << (sample % 64);
    }

    fn see_outcome(&mut self, row: &Row, has_text: bool) {
        self.bytes_in = self.bytes_in.saturating_add(row.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(row.bytes_out);
        match row.failure {
            Failure::None => {
                self.ok += 1;
                self.finishes[row.finish as usize] += 1;
            }
            Failure::Cancelled => self.cancelled += 1,
            failure => {
                let status = if failure == Failure::Http { row.status } else { 0 };
                let failed = self.failures.entry((failure, status, row.detail)).or_default();
                failed.count += 1;
                merge_examples(&mut failed.requests, &[row.id]);
                if has_text {
                    merge_examples(&mut failed.told, &[row.id]);
                }
            }
        }
        if row.stamps.done != UNSET {
            for curve in [&mut self.curve, &mut self.timeline.curve] {
                let bin = curve.at(row.stamps.done);
                match row.failure {
                    Failure::None => bin.ok += 1,
                    Failure::Cancelled => {}
                    _ => bin.failed += 1,
                }
            }
        }
    }

    fn see_answer(&mut self, view: &RowView<'_>, parts: Parts<'_>, tokens: [Option<u64>; SOURCES]) {
        let row = &view.row;
        self.tokens_in.add(row.tokens_in.map(u64::from));
        self.tokens_out.iter_mut().zip(tokens).for_each(|(sum, tokens)| sum.add(tokens));
        for (sum, _) in self.counted_chunks.iter_mut().zip(tokens).filter(|(_, tokens)| tokens.is_some()) {
            *sum += u64::from(row.chunks);
        }
        self.events += u64::from(row.events);
        self.chunks += u64::from(row.chunks);
        self.reads = self.reads.saturating_add(view.spilled).saturating_add(view.read_count.into());
        if row.stamps.done != UNSET {
            for curve in [&mut self.curve, &mut self.timeline.curve] {
                let bin = curve.at(row.stamps.done);
                bin.tokens
                    .iter_mut()
                    .zip(tokens)
                    .for_each(|(sum, tokens)| *sum = sum.saturating_add(tokens.unwrap_or(0)));
            }
        }
        if let Some(ns) = (METRICS[TTFT].value)(row, None) {
            self.timeline.first_token(row.stamps.first_token, ns);
        }
        let Some(parts) = parts.filter(|_| row.streamed && row.chunks > 0) else { return };
        let known = gaps::known(row, &parts);
        self.streams[0] += 1;
        self.streams[1] += u64::from(known != Known::Nothing);
        let (series, mut gave) = (&mut self.gaps, false);
        gaps::each(known, &parts, |gap: Gap, ns, times| {
            series[gap as usize].record_many(ns, times);
            gave = true;
        });
        self.pooled[0] += u64::from(gave);
        self.pooled[1] += u64::from(gave && known != Known::Nothing);
    }
}

/// Keep the smallest ids: the same ones whichever thread met them first.
fn merge_examples(mine: &mut Vec<u64>, theirs: &[u64]) {
    if mine.len() >= MAX_EXAMPLES && theirs.iter().all(|id| mine.last().is_some_and(|last| id > last)) {
        return;
    }
    mine.extend_from_slice(theirs);
    mine.sort_unstable();
    mine.truncate(MAX_EXAMPLES);
}
