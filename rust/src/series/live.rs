//! One worker's live counters and histograms, and their sum over workers.

use super::{Histogram, HistogramCopy};
use crate::record::{Failure, Row, UNSET};
use crate::sync::{AtomicU64, Ordering};

/// What one worker shows of itself while it runs. Written by that worker alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LiveShard {
    issued: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    reconnects: AtomicU64,
    tokens: AtomicU64,
    chunks: AtomicU64,
    cpu_ns: AtomicU64,
    stall_ns: AtomicU64,
    ttft: Histogram,
    gap: Histogram,
    latency: Histogram,
    late: Histogram,
}

impl LiveShard {
    /// Start a phase: everything at 0.
    pub fn clear(&self) {
        for counter in [&self.issued, &self.ok, &self.failed, &self.cancelled, &self.reconnects] {
            // Relaxed: single writer, see `add`.
            counter.store(0, Ordering::Relaxed);
        }
        // Relaxed: see above.
        self.tokens.store(0, Ordering::Relaxed);
        self.chunks.store(0, Ordering::Relaxed);
        for histogram in [&self.ttft, &self.gap, &self.latency, &self.late] {
            histogram.clear();
        }
    }

    /// A request was issued, this late.
    #[inline]
    pub fn issued(&self, late_ns: u64) {
        add(&self.issued, 1);
        self.late.record(late_ns);
    }

    /// A read brought `chunks` chunks that carry tokens, `gap_ns` after the previous such read.
    #[inline]
    pub fn gap(&self, gap_ns: u64, chunks: u32) {
        add(&self.chunks, u64::from(chunks));
        self.gap.record(gap_ns);
    }

    /// A read brought a request's first `chunks` chunks that carry tokens.
    #[inline]
    pub fn first(&self, ttft_ns: u64, chunks: u32) {
        add(&self.chunks, u64::from(chunks));
        self.ttft.record(ttft_ns);
    }

    /// A kept-alive connection was replaced.
    pub fn reconnected(&self) {
        add(&self.reconnects, 1);
    }

    /// A request ended.
    #[inline]
    pub fn done(&self, row: &Row) {
        match row.failure {
            Failure::None => {
                add(&self.ok, 1);
                let end = if row.stamps.last_token == UNSET { row.stamps.done } else { row.stamps.last_token };
                self.latency.record(end.saturating_sub(row.stamps.sent));
            }
            Failure::Cancelled => add(&self.cancelled, 1),
            _ => add(&self.failed, 1),
        }
        add(&self.tokens, u64::from(row.tokens_out.unwrap_or(row.chunks)));
    }

    /// This worker's thread has used so much CPU, and its loop was once this long without a turn.
    pub fn loop_turn(&self, cpu_ns: u64, stall_ns: u64) {
        // Relaxed: pairs with the loads in `cpu_ns` and `take_stall_ns`; each value stands alone.
        self.cpu_ns.store(cpu_ns, Ordering::Relaxed);
        // Relaxed, read-modify-write: the ticker swaps it to 0 from its own thread.
        self.stall_ns.fetch_max(stall_ns, Ordering::Relaxed);
    }

    /// CPU time of the worker's thread, as of its last turn.
    pub fn cpu_ns(&self) -> u64 {
        // Relaxed: pairs with `loop_turn`.
        self.cpu_ns.load(Ordering::Relaxed)
    }

    /// The longest stall since this was last asked.
    pub fn take_stall_ns(&self) -> u64 {
        // Relaxed: pairs with the fetch_max in `loop_turn`.
        self.stall_ns.swap(0, Ordering::Relaxed)
    }

    /// Add what it holds now to `copy`.
    pub fn add_to(&self, copy: &mut LiveCopy) {
        // Relaxed, all of them: single-writer counters that order nothing. `done` counters are read before `issued`,
        // which only makes `in_flight` err towards more.
        copy.ok += self.ok.load(Ordering::Relaxed);
        copy.failed += self.failed.load(Ordering::Relaxed);
        copy.cancelled += self.cancelled.load(Ordering::Relaxed);
        copy.reconnects += self.reconnects.load(Ordering::Relaxed);
        copy.tokens += self.tokens.load(Ordering::Relaxed);
        copy.chunks += self.chunks.load(Ordering::Relaxed);
        copy.issued += self.issued.load(Ordering::Relaxed);
        self.ttft.add_to(&mut copy.ttft);
        self.gap.add_to(&mut copy.gap);
        self.latency.add_to(&mut copy.latency);
        self.late.add_to(&mut copy.late);
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
    pub ttft: HistogramCopy,
    pub gap: HistogramCopy,
    pub latency: HistogramCopy,
    pub late: HistogramCopy,
}

impl LiveCopy {
    /// Requests that have been issued and have not ended.
    pub fn in_flight(&self) -> u64 {
        self.issued.saturating_sub(self.ok + self.failed + self.cancelled)
    }
}

/// Single writer: a load and a store, never a locked instruction.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    // Relaxed: pairs with the loads in `add_to`; each counter stands alone.
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}
