//! What is counted of a phase: its entries in the run's segment, each worker's shard of them, and their sums.

use std::ops::Range;

use super::bounds::Bounds;
use super::directory::{Kind, Spec};
use super::segment::Registered;
use super::shard::{Counter, Merged, Series};
use crate::record::{Failure, Row, Stamps, UNSET};

/// In a build that only `benches/harness/series_load.py` makes: a run without its series, to see what they cost.
pub const RECORDS_NOTHING: bool = cfg!(loadgen_bench_no_series);

/// A phase's counters, in the order of `LiveShard`'s; those of requests that ended come first.
const COUNTERS: [(&str, &str, &str); 7] = [
    ("ok", "requests", "Requests that succeeded."),
    ("failed", "requests", "Requests that failed."),
    ("cancelled", "requests", "Requests that were cancelled."),
    ("reconnects", "connections", "Kept-alive connections that were replaced."),
    ("tokens", "tokens", "Output tokens of requests that have ended: the server's count, else chunks."),
    ("chunks", "chunks", "Chunks that carried tokens."),
    // Last: who reads them in order never sees more requests ended than issued.
    ("issued", "requests", "Requests that were issued."),
];

/// What is counted of each of several nodes, in the order of `LiveNode`'s; in the segment `node_N_` stands before it. Where a
/// policy decides, which may ask several nodes for one answer, these are attempts.
const OF_A_NODE: [(&str, &str); 3] = [
    ("ended", "Requests to this node that have ended, whether well or not."),
    ("failed", "Requests to this node that failed."),
    // Last, as above.
    ("issued", "Requests that went to this node."),
];

/// Of so many nodes at most each is counted by itself: in every phase they take their part of the segment's entries.
const NODES_MOST: usize = 16;

const ENDED: Range<usize> = 0..3;
const ISSUED: usize = 6;

/// A phase's series, in the order of `LiveShard`'s.
const SERIES: [(&str, &str); 8] = [
    ("ttft", "From sent to the first chunk that carries a token."),
    ("gap", "Between two reads of one answer that carried tokens."),
    ("latency", "From sent to the last token, or to the end without a stream; of successes."),
    ("response_ttft", "As ttft, but from planned."),
    ("response_latency", "As latency, but from planned."),
    ("failed_latency", "From sent to the end, of failures that were sent."),
    ("connect", "Opening a connection for a request, where one was opened."),
    ("send_late", "From when a request could go to when it was issued."),
];

/// How the name of a counter of failures begins; the class follows.
const FAILED_AS: &str = "failed_";

/// What lateness is told apart in: microseconds would be too coarse.
const LATENESS: (u64, u64) = (10, 60_000_000_000);

/// The entries of a phase: counters, series, a counter for each class of failures, and where there are several nodes those of
/// each.
pub(super) fn specs(phase: u16, workers: usize, nodes: usize) -> Vec<Spec> {
    let counters = COUNTERS.map(|(name, unit, help)| spec(name, unit, help, Kind::Counter, Some(phase), workers));
    let lateness = Bounds::new(LATENESS.0, LATENESS.1).unwrap_or(Bounds::TIMES);
    let series = SERIES.map(|(name, help)| {
        let bounds = if name == "send_late" { lateness } else { Bounds::TIMES };
        spec(name, "ns", help, Kind::Series(bounds), Some(phase), workers)
    });
    let failures = classes().map(|class| {
        let name = format!("{FAILED_AS}{}", class.name());
        spec(&name, "requests", "Of those that failed.", Kind::Counter, Some(phase), workers)
    });
    let nodes = (0..counted_nodes(nodes)).flat_map(|node| {
        OF_A_NODE.map(|(name, help)| {
            spec(&format!("node_{node}_{name}"), "requests", help, Kind::Counter, Some(phase), workers)
        })
    });
    counters.into_iter().chain(series).chain(failures).chain(nodes).collect()
}

/// How many of a run's nodes are counted one by one: none where there is one, which is the whole, or too many.
fn counted_nodes(nodes: usize) -> usize {
    if (2..=NODES_MOST).contains(&nodes) { nodes } else { 0 }
}

/// The classes of failures, in the order of their counters.
fn classes() -> impl Iterator<Item = Failure> {
    Failure::ALL.into_iter().filter(|class| !matches!(class, Failure::None | Failure::Cancelled))
}

pub(super) fn spec(name: &str, unit: &str, help: &str, kind: Kind, phase: Option<u16>, shards: usize) -> Spec {
    Spec { name: name.into(), unit: unit.into(), help: help.into(), kind, phase, shards }
}

/// What one worker shows of a phase while it runs. Written by that worker alone.
#[derive(Debug)]
pub struct LiveShard {
    ok: Counter,
    failed: Counter,
    cancelled: Counter,
    reconnects: Counter,
    tokens: Counter,
    chunks: Counter,
    issued: Counter,
    ttft: Series,
    gap: Series,
    latency: Series,
    response_ttft: Series,
    response_latency: Series,
    failed_latency: Series,
    connect: Series,
    send_late: Series,
    /// One for each of [`classes`].
    failures: Vec<Counter>,
    /// One for each node, where there are several, and not too many.
    nodes: Vec<LiveNode>,
}

/// What one worker shows of a node.
#[derive(Debug)]
struct LiveNode {
    ended: Counter,
    failed: Counter,
    issued: Counter,
}

impl LiveShard {
    /// One for each worker.
    pub(super) fn all(entries: &[Registered]) -> Vec<Self> {
        let (counters, series) = entries.split_at(COUNTERS.len());
        let (series, failures) = series.split_at(SERIES.len());
        let (failures, nodes) = failures.split_at(classes().count());
        let mut nodes: Vec<_> = nodes.iter().map(|entry| entry.counters().into_iter()).collect();
        let mut failures: Vec<_> = failures.iter().map(|entry| entry.counters().into_iter()).collect();
        let mut counters: Vec<_> = counters.iter().map(|entry| entry.counters().into_iter()).collect();
        let mut series: Vec<_> = series.iter().map(|entry| entry.series().into_iter()).collect();
        let mut next = || -> Option<Self> {
            let [a, b, c, d, e, f, g] = &mut counters[..] else { return None };
            let [h, i, j, k, l, m, n, o] = &mut series[..] else { return None };
            Some(Self {
                ok: a.next()?,
                failed: b.next()?,
                cancelled: c.next()?,
                reconnects: d.next()?,
                tokens: e.next()?,
                chunks: f.next()?,
                issued: g.next()?,
                ttft: h.next()?,
                gap: i.next()?,
                latency: j.next()?,
                response_ttft: k.next()?,
                response_latency: l.next()?,
                failed_latency: m.next()?,
                connect: n.next()?,
                send_late: o.next()?,
                failures: failures.iter_mut().map(Iterator::next).collect::<Option<_>>()?,
                nodes: nodes.chunks_exact_mut(OF_A_NODE.len()).map(LiveNode::next).collect::<Option<_>>()?,
            })
        };
        std::iter::from_fn(&mut next).collect()
    }

    /// A request was issued, this late.
    #[inline]
    pub fn issued(&self, late_ns: u64) {
        if RECORDS_NOTHING {
            return;
        }
        self.issued.add(1);
        self.send_late.record(late_ns);
    }

    /// A request, or where a policy decides an attempt, goes to this node.
    #[inline]
    pub fn node_issued(&self, node: u16) {
        if let Some(node) = self.nodes.get(usize::from(node)) {
            node.issued.add(1);
        }
    }

    /// It has ended there, like this.
    #[inline]
    pub fn node_ended(&self, node: u16, failure: Failure) {
        let Some(node) = self.nodes.get(usize::from(node)) else { return };
        if !matches!(failure, Failure::None | Failure::Cancelled) {
            node.failed.add(1);
        }
        node.ended.add(1);
    }

    /// A read brought `chunks` chunks that carry tokens, `gap_ns` after the previous such read.
    #[inline]
    pub fn gap(&self, gap_ns: u64, chunks: u32) {
        if RECORDS_NOTHING {
            return;
        }
        self.chunks.add(u64::from(chunks));
        self.gap.record(gap_ns);
    }

    /// A read brought a request's first `chunks` chunks that carry tokens.
    #[inline]
    pub fn first(&self, stamps: &Stamps, chunks: u32) {
        if RECORDS_NOTHING {
            return;
        }
        self.chunks.add(u64::from(chunks));
        self.ttft.record(stamps.first_token.saturating_sub(stamps.sent));
        // Here as well, not at the end: both rows of a look into a run are of the same answers.
        self.response_ttft.record(stamps.first_token.saturating_sub(stamps.planned));
    }

    /// A kept-alive connection was replaced.
    pub fn reconnected(&self) {
        self.reconnects.add(1);
    }

    /// A request ended.
    #[inline]
    pub fn done(&self, row: &Row) {
        if RECORDS_NOTHING {
            return;
        }
        let stamps = &row.stamps;
        match row.failure {
            Failure::None => {
                self.ok.add(1);
                let end = if stamps.last_token == UNSET { stamps.done } else { stamps.last_token };
                self.latency.record(end.saturating_sub(stamps.sent));
                self.response_latency.record(end.saturating_sub(stamps.planned));
            }
            Failure::Cancelled => self.cancelled.add(1),
            class => {
                self.failed.add(1);
                if let Some(counter) = classes().position(|one| one == class).and_then(|at| self.failures.get(at)) {
                    counter.add(1);
                }
                if stamps.sent != UNSET {
                    self.failed_latency.record(stamps.done.saturating_sub(stamps.sent));
                }
            }
        }
        if row.connect_ns > 0 {
            self.connect.record(row.connect_ns);
        }
        self.tokens.add(u64::from(row.tokens_out.unwrap_or(row.chunks)));
    }
}

impl LiveNode {
    /// The next worker's shards of a node's entries.
    fn next(of: &mut [impl Iterator<Item = Counter>]) -> Option<Self> {
        let [ended, failed, issued] = of else { return None };
        Some(Self { ended: ended.next()?, failed: failed.next()?, issued: issued.next()? })
    }
}

/// The sum over all workers at one moment.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct LiveCopy {
    pub issued: u64,
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub reconnects: u64,
    pub tokens: u64,
    pub chunks: u64,
    pub ttft: Merged,
    pub gap: Merged,
    pub latency: Merged,
    pub send_late: Merged,
}

impl LiveCopy {
    /// What the entries of a phase say.
    pub(super) fn of(entries: &[Registered]) -> Self {
        let [ok, failed, cancelled, reconnects, tokens, chunks, issued] = std::array::from_fn(|n| entries[n].count());
        let series = |name: &str| {
            let at = SERIES.iter().position(|s| s.0 == name);
            at.and_then(|at| entries[COUNTERS.len() + at].merged()).unwrap_or_default()
        };
        Self {
            issued,
            ok,
            failed,
            cancelled,
            reconnects,
            tokens,
            chunks,
            ttft: series("ttft"),
            gap: series("gap"),
            latency: series("latency"),
            send_late: series("send_late"),
        }
    }

    /// Requests that have been issued and have not ended.
    pub fn in_flight(&self) -> u64 {
        self.issued.saturating_sub(self.ok + self.failed + self.cancelled)
    }
}

/// Requests of a phase that were issued and have not ended.
pub(super) fn in_flight(entries: &[Registered]) -> u64 {
    let ended = |entries: &[Registered]| -> u64 { entries[ENDED].iter().map(Registered::count).sum() };
    entries[ISSUED].count().saturating_sub(ended(entries))
}
