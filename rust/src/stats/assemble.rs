//! From tallies and picks to the summary.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metric::{METRICS, POOLED, SEND_LATENESS, Tokens};
use super::occupancy::{Bin, Curve, steady};
use super::options::{Options, SloFrom, percentile_key};
use super::outline::{Outline, PhaseOutline};
use super::pick::{PhasePick, Series as Found};
use super::split::Split;
use super::summary::{
    Bytes, Counts, FailureDetail, Goodput, MetricSummary, NodeResult, Phase, Series, SteadySummary, Throughput,
    TokenSummary,
};
use super::tally::Tally;
use super::timeline::ms;
use super::trust::{Evidence, judge};
use crate::record::{Detail, Failure, Finish};
use crate::series::nearest_rank;

/// What is known of a phase beside its rows.
pub(super) struct Around<'a> {
    pub outline: &'a Outline,
    pub phase: &'a PhaseOutline,
    pub index: u16,
    pub options: &'a Options,
    /// Its objectives, and from which moment they are judged.
    pub slo: &'a BTreeMap<String, f64>,
    pub slo_from: SloFrom,
    /// Requests issued as the log tells it.
    pub issued: u64,
    pub lost_rows: u64,
    pub lost_blocks: u64,
    pub without_reads: u64,
}

/// One phase's summary.
pub(super) fn phase(around: &Around<'_>, tallies: Split<Tally>, picks: &Split<PhasePick>) -> Phase {
    let Split { whole: mut tally, nodes } = tallies;
    let pick = &picks.whole;
    let config = &around.phase.config;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let end = around.phase.end.as_ref();
    let source = pick.tokens.unwrap_or_default() as usize;
    let counts = counts(around, &tally);
    let duration_s = seconds(tally.issued.first, tally.done.last);
    let evidence = Evidence {
        tally: &tally,
        effort: &around.phase.effort,
        lateness: &pick.metrics[SEND_LATENESS],
        open_loop: around.phase.is_open_loop().unwrap_or(false),
        lost_rows: around.lost_rows,
        lost_blocks: around.lost_blocks,
        without_reads: around.without_reads,
    };
    let trust = judge(&evidence);
    Phase {
        index: around.index,
        name: text(config, "name").unwrap_or_else(|| format!("phase {}", around.index)),
        kind: text(config, "type").unwrap_or_else(|| "performance".to_owned()),
        meta: config.get("meta").cloned().unwrap_or(Value::Null),
        reason: end.and_then(|end| text(end, "reason")),
        start_ns: around.phase.origin_ns(),
        end_ns: around.phase.end_field("end_ns"),
        counts,
        never_issued: around.phase.end_field("never_issued"),
        usage_refused: end.and_then(|end| end.get("usage_refused")?.as_bool()),
        dispatch: end.and_then(|end| end.get("dispatch").cloned()),
        duration_s,
        throughput: throughput(around, &tally, pick, duration_s),
        goodput: goodput(around, &tally, source, duration_s),
        metrics: metrics(pick, &around.options.percentiles),
        nodes: (!nodes.is_empty()).then(|| node_results(around, &tally, duration_s, nodes.iter().zip(&picks.nodes))),
        failures: failures(&tally),
        failure_details: failure_details(&tally, &around.outline.texts),
        finish: finishes(&tally),
        tokens: tokens(&tally, pick),
        distinct_samples: tally.distinct_samples(),
        bytes: Bytes { received: tally.bytes_in, sent: tally.bytes_out },
        series: series(&mut tally, source),
        trust,
        config: config.clone(),
    }
}

/// What each node did, over the phase's `duration_s`.
fn node_results<'a>(
    around: &Around<'_>,
    whole: &Tally,
    duration_s: Option<f64>,
    nodes: impl Iterator<Item = (&'a Tally, &'a PhasePick)>,
) -> Vec<NodeResult> {
    let result = |(node, (tally, pick)): (usize, (&Tally, &PhasePick))| {
        let output = pick.tokens.map(|source| tally.tokens_out[source as usize].total as f64);
        let source = pick.tokens.unwrap_or_default() as usize;
        NodeResult {
            node: node as u16,
            ok: tally.ok,
            failed: tally.failed(),
            cancelled: tally.cancelled,
            share: (whole.rows > 0).then(|| tally.rows as f64 / whole.rows as f64),
            requests_per_s: per(tally.ok as f64, duration_s),
            output_tokens_per_s: output.and_then(|tokens| per(tokens, duration_s)),
            goodput: goodput(around, tally, source, duration_s),
            metrics: metrics(pick, &around.options.percentiles),
            failures: failures(tally),
        }
    };
    nodes.enumerate().map(result).collect()
}

fn goodput(around: &Around<'_>, tally: &Tally, source: usize, duration_s: Option<f64>) -> Option<Goodput> {
    let (good, judged) = (tally.good[source], tally.ok + tally.failed());
    (!around.slo.is_empty()).then(|| Goodput {
        requests_per_s: per(good as f64, duration_s),
        requests: good,
        share: (judged > 0).then(|| good as f64 / judged as f64),
        slo: around.slo.clone(),
        from: around.slo_from,
    })
}

fn counts(around: &Around<'_>, tally: &Tally) -> Counts {
    let failed = tally.failed();
    let Tally { rows, ok, cancelled, reconnects, .. } = *tally;
    let issued = around.issued.max(rows);
    Counts { issued, ok, failed, cancelled, in_flight: issued - rows, reconnects }
}

fn throughput(around: &Around<'_>, tally: &Tally, pick: &PhasePick, duration_s: Option<f64>) -> Throughput {
    let output = pick.tokens.map(|source| tally.tokens_out[source as usize].total);
    let input = (tally.tokens_in.rows > 0).then_some(tally.tokens_in.total);
    let total = output.and_then(|output| Some(output + input?));
    let last_issue = around.phase.end_field("issue_end_ns").unwrap_or(tally.issued.last);
    let steady = steady_summary(&tally.curve, tally, pick.tokens);
    let origin = tally.curve.origin();
    let first_s = seconds(origin, tally.issued.first).unwrap_or(0.0);
    Throughput {
        requests_per_s: per(tally.ok as f64, duration_s),
        output_tokens_per_s: output.and_then(|tokens| per(tokens as f64, duration_s)),
        total_tokens_per_s: total.and_then(|tokens| per(tokens as f64, duration_s)),
        ramp_s: steady.as_ref().map(|steady| (steady.from_s - first_s).max(0.0)),
        drain_s: duration_s.and_then(|_| seconds(last_issue.min(tally.done.last), tally.done.last).or(Some(0.0))),
        steady,
    }
}

fn steady_summary(curve: &Curve, tally: &Tally, source: Option<Tokens>) -> Option<SteadySummary> {
    let window = steady(curve, tally.issued.first, tally.issued.last)?;
    let bins = &curve.bins()[window.first..=window.last];
    let in_flight = &curve.in_flight()[window.first..=window.last];
    let width_s = curve.width() as f64 / 1e9;
    let length_s = bins.len() as f64 * width_s;
    let tokens = |source: Tokens| bins.iter().map(|bin| bin.tokens[source as usize]).sum::<u64>() as f64 / length_s;
    Some(SteadySummary {
        from_s: window.first as f64 * width_s,
        to_s: (window.last + 1) as f64 * width_s,
        requests_per_s: bins.iter().map(|bin| bin.ok).sum::<u64>() as f64 / length_s,
        output_tokens_per_s: source.map(tokens),
        in_flight: in_flight.iter().sum::<f64>() / in_flight.len() as f64,
    })
}

fn metrics(pick: &PhasePick, percentiles: &[f64]) -> BTreeMap<&'static str, Option<MetricSummary>> {
    let definitions = METRICS.iter().map(|metric| metric.formula);
    let own =
        pick.metrics.iter().zip(definitions).map(|(series, words)| (series.name, summary(series, words, percentiles)));
    let [(icl, icl_words), (itl, itl_words)] = [POOLED[0], POOLED[1]];
    let pooled = [
        (icl, summary(&pick.icl, icl_words, percentiles)),
        (itl, pick.itl.as_ref().and_then(|series| summary(series, itl_words, percentiles))),
    ];
    own.chain(pooled).collect()
}

fn summary(series: &Found, definition: &'static str, percentiles: &[f64]) -> Option<MetricSummary> {
    let histogram = &series.histogram;
    let (count, min, max) = (histogram.count(), histogram.min()?, histogram.max()?);
    let mut made = MetricSummary {
        unit: "ms",
        count,
        mean: histogram.mean()? / 1e6,
        std: histogram.std()? / 1e6,
        min: ms(min),
        max: ms(max),
        percentiles: BTreeMap::new(),
        ci95: BTreeMap::new(),
        unsupported: Vec::new(),
        definition,
    };
    for &percent in percentiles {
        let key = percentile_key(percent);
        debug_assert!((1..=count).contains(&nearest_rank(percent, count)));
        if let Some(ns) = series.percentile(percent) {
            made.percentiles.insert(key.clone(), ms(ns));
        }
        let (lower, upper) = series.interval(percent);
        if lower.is_some() || upper.is_some() {
            made.ci95.insert(key.clone(), [lower.map(ms), upper.map(ms)]);
        }
        if !series.supports(percent) {
            made.unsupported.push(key);
        }
    }
    Some(made)
}

/// The report's class of a failure: HTTP ones by status.
fn class((failure, status, _): &(Failure, u16, Detail)) -> String {
    match failure {
        Failure::Http => format!("http_{status}"),
        other => other.name().to_owned(),
    }
}

fn failures(tally: &Tally) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (key, failed) in &tally.failures {
        *all.entry(class(key)).or_insert(0) += failed.count;
    }
    all
}

fn failure_details(tally: &Tally, texts: &BTreeMap<u64, String>) -> Vec<FailureDetail> {
    let details = tally.failures.iter().map(|(key, failed)| {
        let mut messages: Vec<String> = Vec::new();
        for text in failed.told.iter().filter_map(|request| texts.get(request)) {
            if messages.len() < 4 && !messages.contains(text) {
                messages.push(text.clone());
            }
        }
        let mut messages = messages.into_iter();
        FailureDetail {
            class: class(key),
            detail: if key.2 == Detail::None { String::new() } else { key.2.name().to_owned() },
            words: key.2.words(),
            count: failed.count,
            requests: failed.requests.clone(),
            message: messages.next(),
            messages: messages.collect(),
        }
    });
    let mut details: Vec<FailureDetail> = details.collect();
    details.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.class.cmp(&b.class)));
    details
}

fn finishes(tally: &Tally) -> BTreeMap<&'static str, u64> {
    Finish::ALL
        .into_iter()
        .map(|finish| (finish.name(), tally.finishes[finish as usize]))
        .filter(|(_, n)| *n > 0)
        .collect()
}

fn tokens(tally: &Tally, pick: &PhasePick) -> TokenSummary {
    let output = pick.tokens.map(|source| tally.tokens_out[source as usize]);
    let ratio = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    // Where chunks stand for tokens, the few answers that have a count tell how many a chunk holds.
    let counted = pick.tokens.filter(|source| *source != Tokens::Chunks).unwrap_or_default() as usize;
    let [streams, known] = tally.streams;
    TokenSummary {
        source: pick.tokens.map(Tokens::name),
        input: (tally.tokens_in.rows > 0).then_some(tally.tokens_in.total),
        output: output.map(|sum| sum.total),
        input_mean: ratio(tally.tokens_in.total, tally.tokens_in.rows),
        output_mean: output.and_then(|sum| ratio(sum.total, sum.rows)),
        rows_without_usage: output.map_or(0, |sum| tally.ok - sum.rows),
        events: tally.events,
        chunks: tally.chunks,
        chunks_per_read: ratio(tally.chunks, tally.reads),
        tokens_per_chunk: ratio(tally.tokens_out[counted].total, tally.counted_chunks[counted]),
        gaps: (streams > 0).then_some(if pick.itl.is_some() { "tokens" } else { "chunks" }),
        rows_without_itl: if pick.itl.is_some() { streams - known } else { 0 },
    }
}

/// A last bin shorter than one part in so many of the others' width has no point of its own: over microseconds a single
/// straggler would be a rate of thousands a second.
const SHORTEST_LAST: u64 = 10;

fn series(tally: &mut Tally, source: usize) -> Series {
    let curve = &tally.timeline.curve;
    let (bins, in_flight, width) = (curve.bins(), curve.in_flight(), curve.width());
    // The last bin ends where the phase does.
    let last = bins.len().saturating_sub(1) as u64 * width;
    let rest = tally.done.last.checked_sub(curve.origin() + last).unwrap_or(width);
    let joined = bins.len() > 1 && rest < width / SHORTEST_LAST;
    let last_covered = if joined { width + rest } else { rest.clamp(1, width) };
    let points = bins.len() - usize::from(joined);
    let mut made = Series { interval_s: width as f64 / 1e9, ..Series::default() };
    for point in 0..points {
        let is_last = point + 1 == points;
        let held = if is_last { point..bins.len() } else { point..point + 1 };
        let covered = if is_last { last_covered } else { width };
        let covered_s = covered as f64 / 1e9;
        let sum = |of: fn(&Bin) -> u64| bins[held.clone()].iter().map(of).sum::<u64>();
        let tokens: u64 = bins[held.clone()].iter().map(|bin| bin.tokens[source]).sum();
        made.t_s.push((point as u64 * width) as f64 / 1e9);
        made.requests_per_s.push(sum(|bin| bin.ok) as f64 / covered_s);
        made.output_tokens_per_s.push(tokens as f64 / covered_s);
        made.in_flight.push(in_flight[held.clone()].iter().sum::<f64>() * width as f64 / covered as f64);
        made.errors.push(sum(|bin| bin.failed));
    }
    let ttft_p50 = tally.timeline.ttft_p50(points);
    made.ttft_p50 = ttft_p50.into_iter().map(|ns| ns.map(ms)).collect();
    made
}

/// Seconds between two set moments in this order.
fn seconds(from: u64, to: u64) -> Option<f64> {
    (from != 0 && to > from).then(|| (to - from) as f64 / 1e9)
}

fn per(amount: f64, seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| amount / seconds)
}
