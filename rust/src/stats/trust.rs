//! How far to trust a phase's numbers: every rule, its threshold and its sentence, in one table.

use serde::Serialize;

use super::effort::{Effort, STALL_NS};
use super::pick::Series;
use super::tally::Tally;

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The client did what it was to do; its numbers are the server's.
    Ok,
    /// The client was a bottleneck.
    ClientLimited,
    /// Something needed to judge is missing or wrong.
    Unknown,
}

/// The trust section of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct Trust {
    /// The judgement.
    pub verdict: Verdict,
    /// Why it is not `ok`, a sentence each.
    pub reasons: Vec<String>,
    /// What is worth knowing and changes nothing, a sentence each.
    pub notes: Vec<String>,
    /// Metrics that are not the server's alone.
    pub distrust: Vec<&'static str>,
    /// What to try.
    pub suggestion: Option<String>,
    /// Requests per second that the plan asked for; open loop only.
    pub offered_per_s: Option<f64>,
    /// Requests per second that were sent.
    pub achieved_per_s: Option<f64>,
    /// Issued after the later of planned and slot free.
    pub send_lateness_us: Option<Lateness>,
    /// Share of the requests sent more than 5 ms late.
    pub late_share: Option<f64>,
    /// Share of the requests that opened a connection.
    pub connect_share: Option<f64>,
    /// Share of one core that the busiest worker used.
    pub cpu_share: Option<f64>,
    /// Cores that the whole process used.
    pub cpu_cores: Option<f64>,
    /// Longest absence of a worker's loop, in milliseconds.
    pub loop_stall_ms: Option<f64>,
    /// Cores that others got instead of this machine.
    pub steal: Option<f64>,
    /// Share of the time that a CPU limit held the client back.
    pub throttled: Option<f64>,
    /// Requests whose stamps are out of order.
    pub invariant_violations: u64,
}

/// Percentiles of the send lateness, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lateness {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Greatest.
    pub max: f64,
}

/// What the rules look at.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub tally: &'a Tally,
    pub effort: &'a Effort,
    pub lateness: &'a Series,
    pub open_loop: bool,
    /// Rows and blocks of the log that are lost.
    pub lost_rows: u64,
    pub lost_blocks: u64,
    pub without_reads: u64,
}

/// Service times: from `sent`.
const SERVICE: &[&str] = &["ttfb", "ttft", "ttfo", "latency", "ntpot"];
/// Times that a busy or absent client makes longer.
const ALL_TIMES: &[&str] =
    &["ttfb", "ttft", "ttfo", "tpot", "itl", "icl", "ntpot", "latency", "response_ttft", "response_latency"];

/// A sign that the client was a bottleneck: above `limit` it is one.
struct Rule {
    limit: f64,
    sign: fn(&Evidence<'_>) -> Option<f64>,
    sentence: fn(f64, &Evidence<'_>) -> String,
    distrust: &'static [&'static str],
    /// Whether more workers may help; otherwise more CPU.
    workers_help: bool,
}

const RULES: &[Rule] = &[
    // 5 ms late is 5 % of a TTFT of 100 ms; one request in a hundred puts that into the p99.
    Rule {
        limit: 0.01,
        sign: |e| share(e.tally.late, e.tally.sent.count),
        sentence: |share, e| {
            let rates = match (e.tally.planned.rate(), e.tally.sent.rate()) {
                (Some(offered), Some(achieved)) if e.open_loop && achieved < 0.98 * offered => {
                    format!("; {} of {} requests/s were achieved", rate(achieved), rate(offered))
                }
                _ => String::new(),
            };
            // Without a schedule no times from planned are shown.
            let shows = if e.open_loop {
                "Times from planned hold that wait, times from sent don't"
            } else {
                "The times don't hold that wait"
            };
            format!("{} of the requests left more than 5 ms late{rates}. {shows}", percent(share))
        },
        distrust: SERVICE,
        workers_help: true,
    },
    // A loop at 90 % of a core queues its sockets: at that load the mean wait is nine times the work (M/M/1).
    Rule {
        limit: 0.05,
        sign: |e| e.effort.hot_share(),
        sentence: |share, e| {
            format!(
                "for {} of the time a worker used 90 % of its core or more ({} workers, the busiest {} on average)",
                percent(share),
                e.effort.worker_cpu_ns.len(),
                percent(e.effort.worker_share().unwrap_or(0.0)),
            )
        },
        distrust: ALL_TIMES,
        workers_help: true,
    },
    // What arrives while a loop is away is stamped late: above 1 % of the time that reaches the p99.
    Rule {
        limit: 0.01,
        sign: |e| e.effort.absent_share(),
        sentence: |share, e| {
            let ms = e.effort.stall_ns / 1_000_000;
            format!("a worker's loop was away for {} of the time or more (up to {ms} ms at once)", percent(share))
        },
        distrust: ALL_TIMES,
        workers_help: false,
    },
    Rule {
        limit: 0.1,
        sign: |e| e.effort.steal(),
        sentence: |cores, _| format!("other machines on the host took {} of a core from this one", percent(cores)),
        distrust: ALL_TIMES,
        workers_help: false,
    },
    Rule {
        limit: 0.01,
        sign: |e| e.effort.throttled(),
        sentence: |share, _| {
            format!("the container's CPU limit held the client back for {} of the time", percent(share))
        },
        distrust: ALL_TIMES,
        workers_help: false,
    },
];

/// Judge a phase.
pub(super) fn judge(evidence: &Evidence<'_>) -> Trust {
    let fired = RULES.iter().filter_map(|rule| Some((rule, (rule.sign)(evidence).filter(|v| *v > rule.limit)?)));
    let fired: Vec<(&Rule, f64)> = fired.collect();
    let mut reasons: Vec<String> = fired.iter().map(|(rule, value)| (rule.sentence)(*value, evidence)).collect();
    let doubts = doubts(evidence);
    let verdict = match (fired.is_empty(), doubts.is_empty()) {
        (false, _) => Verdict::ClientLimited,
        (true, false) => Verdict::Unknown,
        (true, true) => Verdict::Ok,
    };
    reasons.extend(doubts);
    let mut distrust: Vec<&'static str> = Vec::new();
    for name in fired.iter().flat_map(|(rule, _)| rule.distrust) {
        if !distrust.contains(name) {
            distrust.push(name);
        }
    }
    let Evidence { tally, effort, .. } = *evidence;
    Trust {
        verdict,
        reasons,
        notes: notes(evidence),
        distrust,
        suggestion: suggestion(&fired, evidence),
        offered_per_s: tally.planned.rate().filter(|_| evidence.open_loop),
        achieved_per_s: tally.sent.rate(),
        send_lateness_us: lateness(evidence.lateness),
        late_share: share(tally.late, tally.sent.count),
        connect_share: share(tally.connected, tally.sent.count),
        cpu_share: effort.worker_share(),
        cpu_cores: effort.cores(),
        loop_stall_ms: (effort.stretches > 0).then_some(effort.stall_ns as f64 / 1e6),
        steal: effort.steal(),
        throttled: effort.throttled(),
        invariant_violations: tally.broken,
    }
}

/// What keeps a phase from being judged at all.
fn doubts(evidence: &Evidence<'_>) -> Vec<String> {
    let Evidence { tally, effort, .. } = *evidence;
    let mut doubts = Vec::new();
    if effort.stretches == 0 {
        doubts.push("the client's own load was not sampled: the log holds no two ticks of this phase".to_owned());
    }
    if let Some((request, before, after)) = tally.broken_example {
        let count = tally.broken;
        doubts.push(format!("{count} requests have stamps out of order (request {request}: {after} before {before})"));
    }
    if evidence.lost_rows > 0 || evidence.lost_blocks > 0 {
        let (rows, blocks) = (evidence.lost_rows, evidence.lost_blocks);
        doubts.push(format!("the log is damaged: {blocks} blocks with at least {rows} rows are lost"));
    }
    if evidence.without_reads > 0 {
        doubts.push(format!("the reads of {} streams are lost; their gaps are missing", evidence.without_reads));
    }
    doubts
}

fn notes(evidence: &Evidence<'_>) -> Vec<String> {
    let Evidence { tally, effort, .. } = *evidence;
    let mut notes = Vec::new();
    if effort.stall_ns >= STALL_NS {
        let ms = effort.stall_ns / 1_000_000;
        notes.push(format!("a worker's loop was once away for {ms} ms: what arrived then was stamped that much late"));
    }
    if let Some(share) = share(tally.connected, tally.sent.count).filter(|share| *share > 0.1) {
        notes.push(format!("{} of the requests opened a connection; that time lies before sent", percent(share)));
    }
    if tally.by_python > 0 {
        notes.push(format!("{} requests carry stamps taken in Python", tally.by_python));
    }
    notes
}

fn suggestion(fired: &[(&Rule, f64)], evidence: &Evidence<'_>) -> Option<String> {
    let (first, _) = fired.first()?;
    if evidence.tally.by_python > 0 {
        return Some("keep other work off the issuer's event loop, or let the native engine issue".to_owned());
    }
    let workers = evidence.effort.worker_cpu_ns.len();
    Some(match (first.workers_help, workers) {
        (true, 1..) => format!("--workers {}", workers * 2),
        (true, 0) => "more --workers".to_owned(),
        (false, _) => "give the client more CPU, or a machine of its own".to_owned(),
    })
}

fn lateness(series: &Series) -> Option<Lateness> {
    let us = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e3);
    let (p50, p99) = (us(series.percentile(50.0))?, us(series.percentile(99.0))?);
    Some(Lateness { p50, p99, max: us(series.histogram.max())? })
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// A share as a person reads it.
fn percent(share: f64) -> String {
    if share >= 0.1 { format!("{:.0} %", share * 100.0) } else { format!("{:.1} %", share * 100.0) }
}

fn rate(per_s: f64) -> String {
    if per_s >= 100.0 { format!("{per_s:.0}") } else { format!("{per_s:.1}") }
}
