//! The summary of a run: the part of `report.json` that follows from the log alone, under the report's names.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::options::SloFrom;
use super::trust::Trust;
use crate::record::Damage;

/// What a run's log comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run's id.
    pub session: String,
    /// Both clocks at the run's start.
    pub anchor: Anchor,
    /// The log's format version.
    pub format: [u16; 2],
    /// The run's own description, as it was stored.
    pub meta: Value,
    /// `complete`, `interrupted` or `failed`.
    pub status: String,
    /// Why, unless it is complete; `killed` for a log without an end.
    pub reason: Option<String>,
    /// Answers of an issuer of the user's own to requests that were not in flight (any more); `None` where the engine
    /// made the requests, or the log doesn't tell.
    pub late_answers: Option<u64>,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// What could not be read.
    pub lost: Lost,
    /// What became of the events, as the log's last document tells it: logged, missing, dropped. `None` where none were
    /// asked for, or the run was killed.
    pub events: Option<Value>,
    /// The convention of all percentiles.
    pub percentiles: &'static str,
    /// The phases in order.
    pub phases: Vec<Phase>,
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Anchor {
    /// Monotonic nanoseconds.
    pub mono_ns: u64,
    /// Unix nanoseconds.
    pub wall_ns: u64,
}

/// What could not be read of a log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lost {
    /// Damaged places before the file's end.
    pub blocks: u64,
    /// Rows known to be missing: from damaged blocks' heads and from the workers' running counters.
    pub rows: u64,
    /// Bytes of a torn last block.
    pub tail_bytes: u64,
    /// The damaged places, the first hundred.
    pub places: Vec<Place>,
}

/// A damaged place.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Whose block it was, if known.
    pub worker: Option<u16>,
    /// Its rows, if known.
    pub rows: Option<u32>,
    /// Whether it is the file's end.
    pub tail: bool,
}

impl From<&Damage> for Place {
    fn from(damage: &Damage) -> Self {
        let Damage { offset, length, worker, rows, tail } = *damage;
        Self { offset, length, worker, rows, tail }
    }
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its number in the log's rows.
    pub index: u16,
    /// Its name.
    pub name: String,
    /// `warmup`, `performance` or `accuracy`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was stored with it (dataset, load in words, …).
    pub meta: Value,
    /// Its configuration as the engine had it.
    pub config: Value,
    /// Why it ended; null for a phase that did not.
    pub reason: Option<String>,
    /// Monotonic nanoseconds at which its load began: where `t_s` counts from.
    pub start_ns: Option<u64>,
    /// Monotonic nanoseconds at which it was over, what it had in flight included; null for one that did not end.
    pub end_ns: Option<u64>,
    /// What became of its requests.
    pub counts: Counts,
    /// Requests that the plan held and nobody issued.
    pub never_issued: Option<u64>,
    /// Whether the server refused to tell usage in a stream.
    pub usage_refused: Option<bool>,
    /// What the policy that decided on its requests counted, with its limit over time; null where none did.
    pub dispatch: Option<Value>,
    /// First issued to last done.
    pub duration_s: Option<f64>,
    /// What got through.
    pub throughput: Throughput,
    /// What got through well; null without objectives.
    pub goodput: Option<Goodput>,
    /// Metrics by name; null where there is no value.
    pub metrics: BTreeMap<&'static str, Option<MetricSummary>>,
    /// The same of each node; null where there is one.
    pub nodes: Option<Vec<NodeResult>>,
    /// Failed requests by class.
    pub failures: BTreeMap<String, u64>,
    /// The same by class and rule broken, most frequent first.
    pub failure_details: Vec<FailureDetail>,
    /// Successful answers by finish reason.
    pub finish: BTreeMap<&'static str, u64>,
    /// Tokens and chunks.
    pub tokens: TokenSummary,
    /// Different samples sent; null when there were too many to tell apart.
    pub distinct_samples: Option<u64>,
    /// Bytes received and sent.
    pub bytes: Bytes,
    /// The phase over time.
    pub series: Series,
    /// How far to trust all this.
    pub trust: Trust,
}

/// What one of several nodes did of a phase. What was issued and left no record is nobody's.
#[derive(Clone, Debug, Serialize)]
pub struct NodeResult {
    /// Its index in the run.
    pub node: u16,
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Of the phase's requests that ended; null where none did.
    pub share: Option<f64>,
    /// Successful requests per second of the phase: those of all nodes add up to the phase's.
    pub requests_per_s: Option<f64>,
    /// Output tokens of those, likewise.
    pub output_tokens_per_s: Option<f64>,
    /// What got through well; null without objectives.
    pub goodput: Option<Goodput>,
    /// Metrics by name; null where there is no value.
    pub metrics: BTreeMap<&'static str, Option<MetricSummary>>,
    /// Failed requests by class.
    pub failures: BTreeMap<String, u64>,
}

/// `issued = ok + failed + cancelled + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub issued: u64,
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Issued, and no row of it in the log.
    pub in_flight: u64,
    /// Kept-alive connections that were closed before any byte of the answer, and replaced.
    pub reconnects: u64,
}

/// Per second, over first issued to last done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Throughput {
    /// Successful requests.
    pub requests_per_s: Option<f64>,
    /// Output tokens of successful requests.
    pub output_tokens_per_s: Option<f64>,
    /// Prompt and output tokens.
    pub total_tokens_per_s: Option<f64>,
    /// First issued to the start of the steady window.
    pub ramp_s: Option<f64>,
    /// Last issued to last done.
    pub drain_s: Option<f64>,
    /// The same while the load stood; null when it never did.
    pub steady: Option<SteadySummary>,
}

/// The steady window: in flight at 90 % of its plateau or above, from the first time to the last before issuing ended.
#[derive(Clone, Debug, Serialize)]
pub struct SteadySummary {
    /// Seconds from the phase's start.
    pub from_s: f64,
    /// Seconds from the phase's start.
    pub to_s: f64,
    /// Successful requests that ended in it.
    pub requests_per_s: f64,
    /// Output tokens of those.
    pub output_tokens_per_s: Option<f64>,
    /// Mean number in flight.
    pub in_flight: f64,
}

/// Requests that succeeded and met every objective.
#[derive(Clone, Debug, Serialize)]
pub struct Goodput {
    /// Per second, over first issued to last done.
    pub requests_per_s: Option<f64>,
    /// How many.
    pub requests: u64,
    /// Of those that succeeded or failed.
    pub share: Option<f64>,
    /// The objectives in milliseconds.
    pub slo: BTreeMap<String, f64>,
    /// The moment they are judged from.
    pub from: SloFrom,
}

/// One metric of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct MetricSummary {
    /// `ms`
    pub unit: &'static str,
    /// Values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample (n − 1).
    pub std: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// Percentiles by key (`p99_9`).
    #[serde(flatten)]
    pub percentiles: BTreeMap<String, f64>,
    /// 95 % confidence intervals; an end that the sample can't support is null.
    pub ci95: BTreeMap<String, [Option<f64>; 2]>,
    /// Percentiles that so few values can't support.
    pub unsupported: Vec<String>,
    /// What the number is.
    pub definition: &'static str,
}

/// One kind of failure.
#[derive(Clone, Debug, Serialize)]
pub struct FailureDetail {
    /// Its class, as in `failures`.
    pub class: String,
    /// The rule that was broken, as one word; empty for none.
    pub detail: String,
    /// The same in words.
    pub words: &'static str,
    /// How many.
    pub count: u64,
    /// The first requests of it, ten at most.
    pub requests: Vec<u64>,
    /// What the server said to the first one that kept a text.
    pub message: Option<String>,
    /// What it said to others, where that differs; three at most.
    pub messages: Vec<String>,
}

/// Tokens of successful requests, and how they came.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenSummary {
    /// `usage`, `tokenizer` or `chunks`.
    pub source: Option<&'static str>,
    /// Prompt tokens, by usage.
    pub input: Option<u64>,
    /// Output tokens, by `source`.
    pub output: Option<u64>,
    /// Mean per request that has a count.
    pub input_mean: Option<f64>,
    /// Mean per request that has a count.
    pub output_mean: Option<f64>,
    /// Successful requests without a count by `source`: they are in no number above, and in none that needs a count.
    pub rows_without_usage: u64,
    /// Events of all streams.
    pub events: u64,
    /// Chunks that carried tokens.
    pub chunks: u64,
    /// Chunks that came in one socket read, on average.
    pub chunks_per_read: Option<f64>,
    /// Output tokens in one chunk, on average.
    pub tokens_per_chunk: Option<f64>,
    /// Whether the gaps are known `tokens` by tokens, or by `chunks` only.
    pub gaps: Option<&'static str>,
    /// Streams that ITL leaves out because their tokens per chunk are not known.
    pub rows_without_itl: u64,
}

/// Bytes on the wire, heads included.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Bytes {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
}

/// A phase over time; all lists are equally long.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// Width of one point; the last covers what was left, from a tenth of it to a tenth more.
    pub interval_s: f64,
    /// Start of each point, from the phase's start.
    pub t_s: Vec<f64>,
    /// Successful requests that ended.
    pub requests_per_s: Vec<f64>,
    /// Output tokens of those.
    pub output_tokens_per_s: Vec<f64>,
    /// Mean number in flight.
    pub in_flight: Vec<f64>,
    /// Median TTFT of the streams whose first token came then, within 1 %.
    pub ttft_p50: Vec<Option<f64>>,
    /// Requests that failed.
    pub errors: Vec<u64>,
}
