//! What the mock really did: a row per request on the shared monotonic clock, counts, and its own lateness.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::answer::Fill;
use super::api::Endpoint;

/// One finished request, as the server saw it. Stamps are monotonic nanoseconds, 0 where the moment never came.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Order of arrival among the requests for tokens or vectors.
    pub index: u64,
    /// The header `x-request-id`, or else the marker in the prompt.
    pub id: Option<Box<str>>,
    pub endpoint: Option<Endpoint>,
    pub streamed: bool,
    /// Head and body were read.
    pub arrival: u64,
    /// It got its slot.
    pub start: u64,
    /// When its first token was due.
    pub due: u64,
    /// Just before the first write of the answer.
    pub first_byte: u64,
    /// Just before the write of the first and of the last event with tokens.
    pub first_token: u64,
    pub last_token: u64,
    /// The answer was handed to the kernel, or the client was gone.
    pub done: u64,
    pub chunks: u32,
    pub tokens: u32,
    pub bytes: u64,
    pub status: u16,
    /// The client left before the answer's end.
    pub disconnected: bool,
    /// The faults it was given, separated by commas.
    pub fault: Option<Box<str>>,
}

impl Row {
    /// Note a write that begins at `at`; how late it is, if it carries tokens.
    pub(super) fn stamp(&mut self, fill: Fill, bytes: usize, at: u64) -> Option<u64> {
        self.bytes += bytes as u64;
        self.chunks += fill.chunks;
        self.tokens += fill.tokens;
        if self.first_byte == 0 {
            self.first_byte = at;
        }
        if fill.chunks == 0 {
            return None;
        }
        if self.first_token == 0 {
            self.first_token = at;
        }
        self.last_token = at;
        Some(at.saturating_sub(fill.due))
    }
}

/// What one thread did.
#[derive(Debug)]
pub(super) struct Shard {
    rows: VecDeque<Row>,
    keep: usize,
    pub connections: u64,
    pub begun: u64,
    pub finished: u64,
    pub disconnected: u64,
    /// Those of them that got no byte of their answer.
    pub left_waiting: u64,
    pub chunks: u64,
    pub bytes: u64,
    pub by_endpoint: [u64; Endpoint::NAMES.len()],
    /// Counts of the statuses 100 to 599.
    by_status: Vec<u64>,
    pub first_token_late: Lateness,
    pub chunk_late: Lateness,
}

impl Shard {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            rows: VecDeque::new(),
            keep,
            connections: 0,
            begun: 0,
            finished: 0,
            disconnected: 0,
            left_waiting: 0,
            chunks: 0,
            bytes: 0,
            by_endpoint: [0; Endpoint::NAMES.len()],
            by_status: vec![0; 600],
            first_token_late: Lateness::default(),
            chunk_late: Lateness::default(),
        }
    }

    /// Take in a finished request.
    pub(super) fn finish(&mut self, row: Row) {
        self.finished += 1;
        self.disconnected += u64::from(row.disconnected);
        self.left_waiting += u64::from(row.disconnected && row.first_byte == 0);
        self.chunks += u64::from(row.chunks);
        self.bytes += row.bytes;
        if let Some(endpoint) = row.endpoint {
            self.by_endpoint[endpoint as usize] += 1;
        }
        if let Some(count) = self.by_status.get_mut(row.status as usize) {
            *count += 1;
        }
        if row.first_token > 0 {
            self.first_token_late.record(row.first_token.saturating_sub(row.due));
        }
        if self.keep == 0 {
            return;
        }
        if self.rows.len() == self.keep {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    /// Forget everything but the requests that are still being answered.
    pub(super) fn reset(&mut self) {
        let in_flight = self.begun - self.finished;
        *self = Self { begun: in_flight, ..Self::new(self.keep) };
    }
}

/// How late something came: a histogram of nanoseconds with buckets of at most 1/128 of their value, and exact ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Lateness {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Lateness {
    pub(super) fn record(&mut self, ns: u64) {
        let bucket = Self::bucket(ns);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Values below 128 have a bucket each; above, every doubling has 128.
    fn bucket(ns: u64) -> usize {
        if ns < 128 {
            return ns as usize;
        }
        let doublings = 63 - ns.leading_zeros() - 7;
        ((doublings as usize + 1) << 7) + ((ns >> doublings) as usize & 127)
    }

    /// The largest value of a bucket.
    fn upper(bucket: usize) -> u64 {
        if bucket < 128 {
            return bucket as u64;
        }
        let doublings = (bucket >> 7) - 1;
        (((bucket as u64 & 127) | 128) << doublings) + ((1 << doublings) - 1)
    }

    /// Nearest-rank percentile, at most 1/128 above the true one.
    fn percentile(&self, share: f64) -> u64 {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::upper(bucket).min(self.max);
            }
        }
        self.max
    }

    fn json(&self) -> serde_json::Value {
        if self.count == 0 {
            return serde_json::json!({ "count": 0 });
        }
        let us = |ns: u64| ns as f64 / 1e3;
        serde_json::json!({
            "count": self.count, "mean": self.sum as f64 / self.count as f64 / 1e3,
            "p50": us(self.percentile(0.5)), "p90": us(self.percentile(0.9)), "p99": us(self.percentile(0.99)),
            "p99_9": us(self.percentile(0.999)), "max": us(self.max),
        })
    }
}

/// All shards together, as `/truth` tells them.
pub(super) fn report(shards: &[std::sync::MutexGuard<'_, Shard>], rows: bool, queued: usize, rejected: u64) -> String {
    let sum = |of: fn(&Shard) -> u64| shards.iter().map(|shard| of(shard)).sum::<u64>();
    let mut first_token = Lateness::default();
    let mut chunk = Lateness::default();
    let mut by_status = serde_json::Map::new();
    for shard in shards {
        first_token.merge(&shard.first_token_late);
        chunk.merge(&shard.chunk_late);
        for (status, count) in shard.by_status.iter().enumerate().filter(|(_, count)| **count > 0) {
            let entry = by_status.entry(status.to_string()).or_insert_with(|| 0.into());
            *entry = (entry.as_u64().unwrap_or(0) + count).into();
        }
    }
    let mut kept: Vec<&Row> = shards.iter().flat_map(|shard| &shard.rows).collect();
    kept.sort_by_key(|row| (row.arrival, row.index));
    let endpoints: serde_json::Map<String, serde_json::Value> = Endpoint::NAMES
        .iter()
        .enumerate()
        .map(|(n, name)| ((*name).to_owned(), shards.iter().map(|shard| shard.by_endpoint[n]).sum::<u64>().into()))
        .collect();
    let mut json = serde_json::json!({
        "requests": sum(|s| s.begun),
        "finished": sum(|s| s.finished),
        "in_flight": sum(|s| s.begun) - sum(|s| s.finished),
        "queued": queued,
        "rejected": rejected,
        "disconnected": sum(|s| s.disconnected),
        "left_waiting": sum(|s| s.left_waiting),
        "connections": sum(|s| s.connections),
        "chunks": sum(|s| s.chunks),
        "bytes": sum(|s| s.bytes),
        "endpoints": endpoints,
        "statuses": by_status,
        "arrivals": arrivals(&kept),
        "lateness_us": { "first_token": first_token.json(), "chunk": chunk.json() },
    })
    .to_string();
    if rows {
        json.pop();
        json.push_str(",\"rows\":");
        columns(&mut json, &kept);
        json.push('}');
    }
    json
}

/// The arrival process of the rows that are kept: its span, its rate, and the coefficient of variation of its gaps.
fn arrivals(rows: &[&Row]) -> serde_json::Value {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return serde_json::json!({ "count": 0 });
    };
    let gaps = (rows.len() - 1) as f64;
    let span = (last.arrival - first.arrival) as f64;
    let mean = span / gaps;
    let square = |w: &[&Row]| ((w[1].arrival - w[0].arrival) as f64 - mean).powi(2);
    let variance = rows.windows(2).map(square).sum::<f64>() / gaps;
    let known = |x: f64| x.is_finite().then_some(x);
    serde_json::json!({
        "count": rows.len(), "first_ns": first.arrival, "last_ns": last.arrival,
        "per_s": known(gaps / span * 1e9), "gap_cv": known(variance.sqrt() / mean),
    })
}

/// Rows as one array per column.
fn columns(out: &mut String, rows: &[&Row]) {
    type Column = (&'static str, fn(&Row) -> u64);
    const NUMBERS: [Column; 13] = [
        ("index", |r| r.index),
        ("arrival_ns", |r| r.arrival),
        ("start_ns", |r| r.start),
        ("due_ns", |r| r.due),
        ("first_byte_ns", |r| r.first_byte),
        ("first_token_ns", |r| r.first_token),
        ("last_token_ns", |r| r.last_token),
        ("done_ns", |r| r.done),
        ("chunks", |r| u64::from(r.chunks)),
        ("tokens", |r| u64::from(r.tokens)),
        ("bytes", |r| r.bytes),
        ("status", |r| u64::from(r.status)),
        ("streamed", |r| u64::from(r.streamed)),
    ];
    out.push('{');
    for (name, of) in NUMBERS {
        column(out, name, rows, |out, row| {
            out.push_str(itoa::Buffer::new().format(of(row)));
        });
    }
    column(out, "disconnected", rows, |out, row| out.push_str(if row.disconnected { "1" } else { "0" }));
    column(out, "endpoint", rows, |out, row| text(out, row.endpoint.map(|e| Endpoint::NAMES[e as usize])));
    column(out, "id", rows, |out, row| text(out, row.id.as_deref()));
    column(out, "fault", rows, |out, row| text(out, row.fault.as_deref()));
    out.pop();
    out.push('}');
}

/// `"name":[…],`
fn column(out: &mut String, name: &str, rows: &[&Row], put: impl Fn(&mut String, &Row)) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\"{name}\":[");
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        put(out, row);
    }
    out.push_str("],");
}

fn text(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => out.push_str(&super::json::quoted(text)),
        None => out.push_str("null"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    fn told(shard: Shard) -> serde_json::Value {
        let shard = Mutex::new(shard);
        let report = report(&[shard.lock().unwrap()], true, 2, 1);
        serde_json::from_str(&report).unwrap()
    }

    #[test]
    fn an_empty_truth_is_json_too() {
        let json = told(Shard::new(10));
        assert_eq!(json["requests"], 0);
        assert_eq!(json["rows"]["index"], serde_json::json!([]));
        assert_eq!((&json["queued"], &json["rejected"]), (&2.into(), &1.into()));
    }

    #[test]
    fn rows_come_in_order_of_arrival_and_only_the_last_are_kept() {
        let mut shard = Shard::new(3);
        for (index, arrival) in [(0, 100), (2, 300), (1, 200), (3, 400)] {
            shard.begun += 1;
            shard.finish(Row { index, arrival, status: 200, id: Some("a\"b".into()), ..Row::default() });
        }
        let json = told(shard);
        assert_eq!(json["rows"]["index"], serde_json::json!([1, 2, 3]));
        assert_eq!(json["rows"]["id"][0], "a\"b");
        assert_eq!(json["finished"], 4);
        assert_eq!(json["statuses"]["200"], 4);
        assert_eq!(json["arrivals"]["gap_cv"], 0.0);
    }

    #[test]
    fn a_reset_forgets_everything_but_what_is_in_flight() {
        let mut shard = Shard::new(3);
        shard.begun = 5;
        shard.finish(Row::default());
        shard.reset();
        let json = told(shard);
        assert_eq!((&json["requests"], &json["finished"], &json["in_flight"]), (&4.into(), &0.into(), &4.into()));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_a_128th(ns in any::<u64>()) {
            let upper = Lateness::upper(Lateness::bucket(ns));
            prop_assert!(upper >= ns && upper - ns <= ns / 128);
        }

        #[test]
        fn percentiles_are_nearest_rank_within_a_128th(mut all in prop::collection::vec(0u64..10_000_000_000, 1..300)) {
            let mut late = Lateness::default();
            all.iter().for_each(|ns| late.record(*ns));
            all.sort_unstable();
            for share in [0.5, 0.9, 0.99] {
                let want = all[((share * all.len() as f64).ceil() as usize).max(1) - 1];
                let got = late.percentile(share);
                prop_assert!(got >= want && got - want <= want / 128);
            }
        }
    }
}
