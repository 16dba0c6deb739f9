//! Summaries against a plain reference that sorts everything, and the run's story: killed, damaged, held back.

#![allow(clippy::unwrap_used)]

mod stats_spoilt;
mod stats_tokenizer;
#[path = "support/told_log.rs"]
mod told_log;

use std::collections::BTreeMap;
use std::fs;

use loadgen::record::{Attempt, AttemptKind, Detail, Failure, ReadList, Row, TextKind, TokenSource};
use loadgen::stats::{METRICS, Options, StatsError, Tokens, summarise};
use proptest::prelude::*;
use serde_json::{Value, json};
use told_log::{Log, MS, S, Told, failed, one, stream};

/// Nearest rank by sorting everything.
fn reference(mut values: Vec<u64>, percent: f64) -> f64 {
    values.sort_unstable();
    let rank = ((percent / 100.0 * values.len() as f64) - 1e-9).ceil().max(1.0) as usize;
    values[rank - 1] as f64 / 1e6
}

fn any_told(workers: u16) -> impl Strategy<Value = Told> {
    let gaps = prop::collection::vec(prop_oneof![0u64..100, 1_000u64..3_000, 9 * MS..11 * MS], 0..40);
    (gaps, S..9 * S, MS..200 * MS, 0..workers, 0u32..20, any::<[bool; 3]>()).prop_map(
        |(gaps, sent, ttft, worker, kind, [late, free, connects])| {
            let mut told = stream(0, sent, ttft, &gaps);
            told.row.worker = worker;
            let planned = told.row.stamps.planned - if late { 7 * MS } else { 0 };
            told.row.stamps.planned = planned;
            told.row.stamps.free = if free { planned + 1_000 } else { 0 };
            told.row.connect_ns = if connects { 500 } else { 0 };
            match kind {
                0 => told = Told { row: failed(0, sent, Failure::Http, 429, Detail::None).row, reads: Vec::new() },
                1 => told = Told { row: failed(0, sent, Failure::Cancelled, 0, Detail::None).row, reads: Vec::new() },
                2 => (told.row.tokens_out, told.row.token_source) = (None, TokenSource::None),
                3 => {
                    told.row = Row { streamed: false, chunks: 0, ..told.row };
                    told.reads.clear();
                }
                _ => {}
            }
            told
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_number_is_that_of_a_plain_sort(
        mut all in prop::collection::vec(any_told(3), 1..400),
        threads in 1usize..4,
    ) {
        let mut log = Log::new(3);
        log.begin(0, json!({"name": "performance", "type": "performance", "load": {"kind": "rate"}}));
        for (id, told) in all.iter_mut().enumerate() {
            told.row.id = id as u64;
            log.push(told);
        }
        log.end(0, all.len() as u64 + 2);
        let dir = log.finish();
        let slo = BTreeMap::from([("ttft".to_owned(), 100.0), ("tpot".to_owned(), 9.0)]);
        let (summary, phase) = one(dir.path(), Options { threads, slo, ..Options::default() });
        prop_assert_eq!(&summary.status, "complete");

        let usage = all.iter().filter(|t| t.row.failure == Failure::None && Tokens::Usage.of(&t.row).is_some()).count();
        let source = match phase["tokens"]["source"].as_str() {
            Some("usage") => Tokens::Usage,
            Some("chunks") => Tokens::Chunks,
            _ => { prop_assert_eq!(usage, 0); Tokens::Usage }
        };
        for metric in METRICS {
            let rows = all.iter().map(|told| &told.row).filter(|row| metric.over.holds(row));
            let values: Vec<u64> = rows.filter_map(|row| (metric.value)(row, source.of(row))).collect();
            check(&phase["metrics"][metric.name], &values)?;
        }
        let good: Vec<&Told> = all.iter().filter(|told| told.row.failure == Failure::None).collect();
        let gaps = |told: &&&Told| told.reads.iter().skip(1).map(|read| read.delta_ns).collect::<Vec<_>>();
        let streams: Vec<&&Told> = good.iter().filter(|told| told.row.streamed).collect();
        let icl: Vec<u64> = streams.iter().flat_map(gaps).collect();
        check(&phase["metrics"]["icl"], &icl)?;

        let known: Vec<&&Told> = streams.iter().filter(|told| told.row.tokens_out.is_some()).copied().collect();
        if known.len() as f64 >= 0.99 * streams.len() as f64 {
            check(&phase["metrics"]["itl"], &known.iter().flat_map(gaps).collect::<Vec<_>>())?;
        } else {
            prop_assert_eq!(&phase["metrics"]["itl"], &Value::Null);
            prop_assert_eq!(&phase["tokens"]["gaps"], "chunks");
        }

        let counts = |failure: Failure| all.iter().filter(|told| told.row.failure == failure).count() as u64;
        let told = summary.phases[0].counts;
        prop_assert_eq!((told.ok, told.failed), (counts(Failure::None), counts(Failure::Http)));
        prop_assert_eq!((told.cancelled, told.in_flight), (counts(Failure::Cancelled), 2));
        prop_assert_eq!(told.issued, told.ok + told.failed + told.cancelled + told.in_flight);
        let met = good.iter().filter(|t| meets(&t.row, source)).count() as u64;
        prop_assert_eq!(&phase["goodput"]["requests"], met);
        prop_assert_eq!(&phase["goodput"]["from"], "planned");
        let series = &summary.phases[0].series;
        prop_assert_eq!(series.errors.iter().sum::<u64>(), told.failed);
    }
}

/// TTFT ≤ 100 ms from planned, TPOT ≤ 9 ms.
fn meets(row: &Row, source: Tokens) -> bool {
    let Some(tokens) = source.of(row) else { return false };
    let s = &row.stamps;
    let ttft = row.streamed && s.first_token - s.planned <= 100 * MS;
    ttft && (tokens < 2 || (s.last_token - s.first_token + (tokens - 1) / 2) / (tokens - 1) <= 9 * MS)
}

fn check(found: &Value, values: &[u64]) -> Result<(), TestCaseError> {
    if values.is_empty() {
        prop_assert_eq!(found, &Value::Null);
        return Ok(());
    }
    prop_assert_eq!(&found["count"], values.len());
    for (key, percent) in [("p50", 50.0), ("p75", 75.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9)] {
        prop_assert_eq!(found[key].as_f64().unwrap(), reference(values.to_vec(), percent), "{}", key);
    }
    let (n, sum) = (values.len() as f64, values.iter().sum::<u64>() as f64);
    prop_assert!((found["mean"].as_f64().unwrap() * 1e6 - sum / n).abs() < 1.0);
    let bounds = found["ci95"].as_object().unwrap();
    for (key, ends) in bounds {
        let at = found[key].as_f64().unwrap();
        prop_assert!(ends[0].as_f64().is_none_or(|low| low <= at) && ends[1].as_f64().is_none_or(|high| high >= at));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn each_nodes_numbers_are_those_of_its_own_rows_and_add_up_to_the_phases(
        all in prop::collection::vec((any_told(2), prop::option::of(0u16..4)), 1..300),
        threads in 1usize..3,
    ) {
        let mut log = Log::new(2);
        let config = json!({"name": "performance", "load": {"kind": "rate"}, "request": {"nodes": [{}, {}, {}]}});
        log.begin(0, config);
        let told = |(id, (told, node)): (usize, (Told, Option<u16>))| {
            let row = Row { id: id as u64, node, ..told.row };
            Told { row, ..told }
        };
        let all: Vec<Told> = all.into_iter().enumerate().map(told).collect();
        all.iter().for_each(|told| log.push(told));
        log.end(0, all.len() as u64);
        let dir = log.finish();
        let slo = BTreeMap::from([("ttft".to_owned(), 100.0), ("tpot".to_owned(), 9.0)]);
        let (summary, phase) = one(dir.path(), Options { threads, slo, ..Options::default() });
        let nodes = summary.phases[0].nodes.as_ref().unwrap();
        prop_assert_eq!(nodes.iter().map(|node| node.node).collect::<Vec<_>>(), [0, 1, 2]);

        let source = if phase["tokens"]["source"] == "chunks" { Tokens::Chunks } else { Tokens::Usage };
        for (index, node) in nodes.iter().enumerate() {
            let is_own = |row: &&Row| row.node.map(usize::from) == Some(index);
            let own: Vec<&Row> = all.iter().map(|told| &told.row).filter(is_own).collect();
            for metric in METRICS {
                let rows = own.iter().filter(|row| metric.over.holds(row));
                let values: Vec<u64> = rows.filter_map(|row| (metric.value)(row, source.of(row))).collect();
                check(&phase["nodes"][index]["metrics"][metric.name], &values)?;
            }
            let counts = |failure| own.iter().filter(|row| row.failure == failure).count() as u64;
            prop_assert_eq!((node.ok, node.failed), (counts(Failure::None), counts(Failure::Http)));
            prop_assert_eq!(node.cancelled, counts(Failure::Cancelled));
            prop_assert_eq!(node.failures.get("http_429").copied().unwrap_or(0), node.failed);
            prop_assert_eq!(node.share, Some(own.len() as f64 / all.len() as f64));
            let good = own.iter().filter(|row| row.failure == Failure::None && meets(row, source)).count() as u64;
            prop_assert_eq!(node.goodput.as_ref().map(|goodput| goodput.requests), Some(good));
        }
        // What is of no node, or of one that the phase doesn't know of, is in its own numbers, and in no node's.
        let strange = all.iter().filter(|told| told.row.node.is_none_or(|node| node == 3)).count() as f64;
        let shares: f64 = nodes.iter().filter_map(|node| node.share).sum();
        prop_assert!((shares + strange / all.len() as f64 - 1.0).abs() < 1e-9);
        prop_assert_eq!(summary.phases[0].counts.issued, all.len() as u64);
    }
}

#[test]
fn a_phase_with_one_target_has_no_nodes() {
    for request in [json!({}), json!({"nodes": [{}]})] {
        let mut log = Log::new(1);
        log.begin(0, json!({"name": "performance", "load": {"kind": "rate"}, "request": request}));
        log.push(&stream(0, 2 * S, 300 * MS, &[]));
        log.end(0, 1);
        let dir = log.finish();
        assert_eq!(one(dir.path(), Options::default()).1["nodes"], Value::Null);
    }
}

#[test]
fn phases_are_never_merged() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "warmup", "type": "warmup", "load": {"kind": "concurrency", "n": 1}}));
    log.begin(1, json!({"name": "performance", "type": "performance", "load": {"kind": "rate"}, "meta": {"seed": 4}}));
    log.push(&stream(0, 2 * S, 300 * MS, &[]));
    for id in 1..=3 {
        let mut told = stream(id, 3 * S + id * MS, 100 * MS, &[]);
        told.row.phase = 1;
        log.push(&told);
    }
    // A request of the warm-up that ended after it: its row is the warm-up's.
    log.push(&stream(4, 2 * S, 900 * MS, &[]));
    log.end(0, 2);
    log.end(1, 3);
    let dir = log.finish();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    let told: Vec<_> = summary.phases.iter().map(|p| (p.name.as_str(), p.kind.as_str(), p.counts.ok)).collect();
    assert_eq!(told, [("warmup", "warmup", 2), ("performance", "performance", 3)]);
    assert_eq!(summary.phases[0].metrics["ttft"].as_ref().unwrap().max, 900.0);
    assert_eq!(summary.phases[1].metrics["ttft"].as_ref().unwrap().max, 100.0);
    assert_eq!(summary.phases[1].meta, json!({"seed": 4}));
}

#[test]
fn chunks_of_several_tokens_make_an_itl_only_where_they_are_counted() {
    // Each chunk holds three tokens, 30 ms after the one before; the server tells only the total.
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    for id in 0..20 {
        let mut told = stream(id, 2 * S, 50 * MS, &[30 * MS; 9]);
        told.row.tokens_out = Some(30);
        log.push(&told);
    }
    let dir = log.finish();
    let (summary, phase) = one(dir.path(), Options::default());
    assert_eq!(phase["metrics"]["itl"], Value::Null);
    assert_eq!(phase["metrics"]["icl"]["p50"], 30.0);
    assert_eq!(summary.phases[0].tokens.tokens_per_chunk, Some(3.0));

    // The same with continuous usage.
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    for id in 0..20 {
        let mut told = stream(id, 2 * S, 50 * MS, &[30 * MS; 9]);
        told.row.tokens_out = Some(30);
        told.reads.iter_mut().for_each(|read| read.tokens = 3);
        log.push(&told);
    }
    let dir = log.finish();
    let (_, phase) = one(dir.path(), Options::default());
    assert_eq!((&phase["metrics"]["itl"]["p50"], &phase["metrics"]["itl"]["count"]), (&json!(10.0), &json!(20 * 27)));
    assert_eq!(phase["metrics"]["icl"]["p50"], 30.0);
    assert_eq!(phase["tokens"]["gaps"], "tokens");
}

#[test]
fn streams_of_a_single_chunk_make_no_interval_of_gaps_narrower() {
    // Four streams have all the gaps: too few to bound a median, however many others have none.
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    for id in 0..1_000 {
        let gaps: &[u64] = if id < 4 { &[10 * MS; 250] } else { &[] };
        log.push(&stream(id, 2 * S, 50 * MS, gaps));
    }
    let dir = log.finish();
    let (_, phase) = one(dir.path(), Options::default());
    for name in ["icl", "itl"] {
        let found = &phase["metrics"][name];
        assert_eq!((&found["count"], &found["p50"]), (&json!(1_000), &json!(10.0)), "{name}");
        assert_eq!((&found["ci95"]["p50"], &found["ci95"]["p99"]), (&Value::Null, &json!([10.0, null])), "{name}");
    }
}

#[test]
fn tokens_have_one_source_for_all_of_a_phase() {
    let with_usage = |share: u64| {
        let mut log = Log::new(1);
        log.begin(0, json!({"name": "a"}));
        for id in 0..10 {
            let mut told = stream(id, 2 * S + id * MS, 50 * MS, &[10 * MS; 3]);
            if id < share {
                told.row.tokens_out = Some(5);
            } else {
                (told.row.tokens_out, told.row.token_source) = (Some(4), TokenSource::Chunks);
            }
            log.push(&told);
        }
        let dir = log.finish();
        summarise(dir.path(), &Options::default()).unwrap().phases.remove(0).tokens
    };
    let most = with_usage(9);
    assert_eq!((most.source, most.output, most.rows_without_usage), (Some("usage"), Some(45), 1));
    let few = with_usage(1);
    assert_eq!((few.source, few.output, few.rows_without_usage), (Some("chunks"), Some(40), 0));
}

#[test]
fn failures_are_told_by_class_rule_and_the_servers_words() {
    let mut log = Log::new(2);
    log.begin(0, json!({"name": "a"}));
    for id in 0..12 {
        log.push(&failed(id, 2 * S + id * MS, Failure::Http, 429, Detail::None));
        log.shards[0].text(id, TextKind::Error, b"slow down");
    }
    log.push(&failed(20, 3 * S, Failure::Connect, 0, Detail::Refused));
    log.push(&failed(21, 3 * S, Failure::Connect, 0, Detail::Resolve));
    log.push(&failed(22, 3 * S, Failure::Cancelled, 0, Detail::None));
    let dir = log.finish();
    let (_, phase) = one(dir.path(), Options::default());
    assert_eq!(phase["failures"], json!({"connect": 2, "http_429": 12}));
    let detail = &phase["failure_details"][0];
    assert_eq!((&detail["class"], &detail["count"]), (&json!("http_429"), &json!(12)));
    assert_eq!(detail["requests"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!((&detail["message"], &detail["messages"]), (&json!("slow down"), &json!([])));
    let refused = phase["failure_details"].as_array().unwrap().iter().find(|d| d["detail"] == "refused").unwrap();
    assert_eq!((&refused["words"], &refused["requests"]), (&json!("connection refused"), &json!([20])));
    assert_eq!(phase["metrics"]["latency"], Value::Null);
    assert_eq!(phase["metrics"]["failed_latency"]["count"], 14);
    assert_eq!(phase["counts"]["cancelled"], 1);
}

#[test]
fn reconnects_are_counted_from_the_attempts() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    let told = stream(1, 2 * S, 50 * MS, &[]);
    let attempts = [AttemptKind::First, AttemptKind::Reconnect].map(|kind| Attempt { kind, ..Attempt::default() });
    log.shards[0].push(&told.row, &ReadList::new(), &attempts);
    let dir = log.finish();
    assert_eq!(one(dir.path(), Options::default()).0.phases[0].counts.reconnects, 1);
}

#[test]
fn the_series_tells_each_second() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    log.end(0, 0);
    // One request in flight from 1.5 s to 3.25 s of the phase, which starts at 1 s; one fails in its last second.
    log.push(&stream(0, 2 * S + S / 2 + 1_000, S, &[S * 3 / 4 - 50_000 - 1_000]));
    let mut bad = failed(1, 4 * S, Failure::Body, 200, Detail::BadJson);
    bad.row.stamps.done = 4 * S + S / 2;
    log.push(&bad);
    let dir = log.finish();
    let series = one(dir.path(), Options::default()).0.phases.remove(0).series;
    assert_eq!((series.interval_s, series.t_s), (1.0, vec![0.0, 1.0, 2.0, 3.0]));
    assert_eq!(series.errors, [0, 0, 0, 1]);
    let near = |found: &[f64], expected: [f64; 4]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(near(&series.in_flight, [0.0, 0.5, 1.0, 1.5]), "{:?}", series.in_flight);
    assert!(near(&series.requests_per_s, [0.0, 0.0, 0.0, 2.0]), "{:?}", series.requests_per_s);
    assert_eq!(series.ttft_p50.iter().flatten().count(), 1);
    assert!((series.ttft_p50[2].unwrap() / 1_000.0 - 1.0).abs() < 0.01);
}

/// A phase from 1 s on with one request a 100 ms over 2 s, and one more that is done `after` 3 s.
fn with_a_straggler(after: u64) -> loadgen::stats::Series {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    log.end(0, 0);
    for id in 0..20 {
        log.push(&stream(id, S + id * 100 * MS + 1_000, 50 * MS, &[]));
    }
    let mut straggler = stream(20, 2 * S + 900 * MS + 1_000, 60 * MS, &[]);
    straggler.row.stamps.done = 3 * S + after;
    if after > MS {
        straggler.row.stamps.first_token = 3 * S + after - MS;
        straggler.row.stamps.last_token = 3 * S + after - MS;
    }
    log.push(&straggler);
    let dir = log.finish();
    one(dir.path(), Options::default()).0.phases.remove(0).series
}

#[test]
fn a_straggler_just_past_a_whole_second_draws_no_spike() {
    for after in [0, 1, 5_000, 99 * MS] {
        let series = with_a_straggler(after);
        assert_eq!((&series.t_s[..], &series.errors[..]), (&[0.0, 1.0][..], &[0, 0][..]), "{after} ns");
        // The last point covers what the straggler added to it.
        let covered = 1.0 + after as f64 / 1e9;
        assert!((series.requests_per_s[1] - 11.0 / covered).abs() < 1e-9, "{after} ns: {series:?}");
        assert!((series.output_tokens_per_s[1] - 11.0 / covered).abs() < 1e-9, "{after} ns: {series:?}");
        // Ten requests of 50 ms; the straggler from 2.9 s on.
        let busy = 0.5 + 0.1 + after as f64 / 1e9;
        assert!((series.in_flight[1] - busy / covered).abs() < 1e-3, "{after} ns: {series:?}");
        assert_eq!((series.in_flight.len(), series.ttft_p50.len()), (2, 2));
    }
    // A tenth of a second is worth a point of its own, over what it covers.
    let series = with_a_straggler(100 * MS);
    assert_eq!(series.t_s, [0.0, 1.0, 2.0]);
    assert!((series.requests_per_s[2] - 10.0).abs() < 1e-9, "{series:?}");
    assert!((series.ttft_p50[2].unwrap() / 199.0 - 1.0).abs() < 0.01, "{series:?}");
}

#[test]
fn first_tokens_of_a_last_moment_count_with_the_second_before() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    log.end(0, 0);
    log.push(&stream(0, S + 10 * MS, 50 * MS, &[]));
    log.push(&stream(1, 2 * S - 60 * MS, 80 * MS, &[]));
    let dir = log.finish();
    let series = one(dir.path(), Options::default()).0.phases.remove(0).series;
    assert_eq!((series.t_s.len(), series.ttft_p50.len()), (1, 1));
    assert!((series.ttft_p50[0].unwrap() / 50.0 - 1.0).abs() < 0.01, "{series:?}");

    // Where the second before had none, they are all that it has.
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    log.end(0, 0);
    log.push(&stream(0, 2 * S - 60 * MS, 80 * MS, &[]));
    let dir = log.finish();
    let series = one(dir.path(), Options::default()).0.phases.remove(0).series;
    assert!((series.ttft_p50[0].unwrap() / 80.0 - 1.0).abs() < 0.01, "{series:?}");
}

#[test]
fn throughput_is_over_first_issued_to_last_done_and_steady_apart() {
    // Four slots, each request 100 ms, for 4 s; then a straggler until 9 s.
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a", "load": {"kind": "concurrency", "n": 4}}));
    log.end(0, 161);
    for id in 0..160 {
        let sent = S + (id / 4) * 100 * MS + 1_000;
        log.push(&stream(id, sent, 90 * MS, &[10 * MS - 51_000]));
    }
    log.push(&stream(160, 4 * S, 5 * S, &[]));
    let dir = log.finish();
    let throughput = one(dir.path(), Options::default()).0.phases.remove(0).throughput;
    let duration = 3.0 + 5.0 + 50e-6 + 1e-6;
    assert!((throughput.requests_per_s.unwrap() - 161.0 / duration).abs() < 0.01, "{throughput:?}");
    assert!((throughput.drain_s.unwrap() - 1.0).abs() < 0.001, "{throughput:?}");
    let steady = throughput.steady.unwrap();
    assert!((steady.requests_per_s - 40.0).abs() < 1.5, "{steady:?}");
    assert!((steady.in_flight - 4.2).abs() < 0.2, "{steady:?}");
    assert!(steady.from_s < 0.02 && (steady.to_s - 3.9).abs() < 0.2, "{steady:?}");
}

#[test]
fn an_empty_phase_and_an_empty_log_have_a_report_too() {
    let log = Log::new(1);
    let dir = log.kill();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((summary.phases.len(), summary.reason.as_deref()), (0, Some("killed")));

    let log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    let dir = log.kill();
    let (summary, phase) = one(dir.path(), Options::default());
    assert_eq!(summary.phases[0].counts.issued, 0);
    assert_eq!((&phase["duration_s"], &phase["throughput"]["requests_per_s"]), (&Value::Null, &Value::Null));
    assert_eq!(phase["metrics"]["ttft"], Value::Null);
}

#[test]
fn rows_of_a_phase_whose_documents_are_lost_are_still_reported() {
    let mut log = Log::new(1);
    let mut told = stream(0, 2 * S, 50 * MS, &[]);
    told.row.phase = 2;
    log.push(&told);
    let dir = log.finish();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((summary.phases[0].name.as_str(), summary.phases[0].counts.ok), ("phase 2", 1));
}

#[test]
fn what_is_no_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(summarise(dir.path(), &Options::default()), Err(StatsError::Log(_))));
    fs::write(dir.path().join("run.log"), vec![0u8; 4_096]).unwrap();
    let error = summarise(dir.path(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("not a loadgen run log"), "{error}");
}
