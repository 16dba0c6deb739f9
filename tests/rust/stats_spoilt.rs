//! Summaries of runs that were killed, and of logs that lost rows.

use loadgen::record::{LogReader, MAX_BLOCK, Shard};
use loadgen::stats::Verdict;

use super::*;

#[test]
fn a_killed_run_is_reported_as_what_it_is() {
    let mut log = Log::new(2);
    log.begin(0, json!({"name": "a", "type": "performance", "load": {"kind": "concurrency", "n": 8}}));
    for id in 0..10 {
        let mut told = stream(id, 2 * S + id * MS, 50 * MS, &[10 * MS; 3]);
        told.row.worker = (id % 2) as u16;
        log.push(&told);
    }
    log.shards[0].counters(9, 4);
    log.shards[1].counters(9, 4);
    log.shards.iter_mut().for_each(Shard::flush);
    let dir = log.kill();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((summary.status.as_str(), summary.reason.as_deref()), ("interrupted", Some("killed")));
    let phase = &summary.phases[0];
    assert_eq!((phase.counts.issued, phase.counts.ok, phase.counts.in_flight), (18, 10, 8));
    assert_eq!((phase.reason.as_deref(), summary.lost.rows), (None, 0));
}

/// A run killed in its second phase: the first issued the requests 0 to 9, five of which have no row, and by
/// `first_id` was handed over with them in flight; the second has six rows and, by the counters, three in flight.
fn killed_after_a_hand_over(load: Value, first_id: Value) -> Vec<[u64; 2]> {
    let mut log = Log::new(2);
    let start = |phase: u16, first_id: Value, kind: &str, load: &Value| {
        let config = json!({"name": kind, "type": kind, "load": load});
        json!({"event": "phase_start", "phase": phase, "ns": S, "first_id": first_id, "config": config})
    };
    log.meta(start(0, json!(0), "warmup", &load));
    let end = json!({"event": "phase_end", "phase": 0, "ns": 2 * S, "start_ns": S, "counts": null});
    log.meta(end);
    log.meta(start(1, first_id, "performance", &load));
    for id in (0..5).chain(10..16) {
        let mut told = stream(id, 2 * S + id * MS, 50 * MS, &[]);
        (told.row.worker, told.row.phase) = ((id % 2) as u16, u16::from(id >= 10));
        log.push(&told);
    }
    log.shards[0].counters(10, 4);
    log.shards[1].counters(9, 4);
    log.shards.iter_mut().for_each(Shard::flush);
    let dir = log.kill();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    summary.phases.iter().map(|phase| [phase.counts.issued, phase.counts.in_flight]).collect()
}

#[test]
fn what_a_handed_over_phase_had_in_flight_at_a_kill_stays_its_own() {
    let closed = json!({"kind": "concurrency", "n": 8});
    assert_eq!(killed_after_a_hand_over(closed.clone(), json!(10)), [[10, 5], [9, 3]]);
    // An open loop's workers may each have taken one from the plan that they never sent.
    assert_eq!(killed_after_a_hand_over(json!({"kind": "rate", "rate": 9.0}), json!(10)), [[8, 3], [11, 5]]);
    // No more than the counters leave, however far the ids went: the last of a killed run are not in them.
    assert_eq!(killed_after_a_hand_over(closed.clone(), json!(900)), [[13, 8], [6, 0]]);
    // What does not tell, or cannot be, leaves it to the phase that was on.
    assert_eq!(killed_after_a_hand_over(closed.clone(), Value::Null), [[5, 0], [14, 8]]);
    assert_eq!(killed_after_a_hand_over(closed, json!(3)), [[5, 0], [14, 8]]);
}

#[test]
fn lost_rows_are_known_and_named_and_judged() {
    let mut log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    for id in 0..4 {
        log.push(&stream(id, 2 * S + id * MS, 50 * MS, &[]));
        log.shards[0].counters(id + 1, 0);
        if id % 2 == 1 {
            log.shards[0].flush();
        }
    }
    log.end(0, 4);
    let dir = log.finish();
    let path = dir.path().join("run.log");
    let mut bytes = fs::read(&path).unwrap();
    let text = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((text.lost.blocks, text.lost.rows), (0, 0));
    // Flip a byte of the payload of the first block of rows: behind run_start and phase_start.
    let mut at = 256;
    for _ in 0..2 {
        at += 48 + u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
    }
    assert_eq!(bytes[at + 8], 2);
    bytes[at + 60] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((summary.lost.blocks, summary.lost.rows), (1, 2));
    assert_eq!((summary.lost.places[0].offset, summary.lost.places[0].rows), (at as u64, Some(2)));
    let phase = &summary.phases[0];
    assert_eq!((phase.counts.ok, phase.counts.in_flight), (2, 2));
    assert_eq!(phase.trust.verdict, Verdict::Unknown);
    assert!(phase.trust.reasons.iter().any(|reason| reason.contains("1 blocks with at least 2 rows")));
    // Cut it before the last rows: torn, and the rows known to be missing from the counters are gone with it.
    fs::write(&path, &bytes[..at + 20]).unwrap();
    let cut = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((cut.lost.blocks, cut.lost.tail_bytes, cut.status.as_str()), (0, 20, "interrupted"));
}

#[test]
fn a_document_that_lost_its_end_takes_none_with_it() {
    let log = Log::new(1);
    // Of two blocks, the second of which is spoilt below.
    log.begin(0, json!({"name": "long", "meta": "x".repeat(MAX_BLOCK)}));
    log.begin(1, json!({"name": "short"}));
    let dir = log.finish();
    let mut reader = LogReader::open(dir.path()).unwrap();
    let mut at = 0;
    while let Some(block) = reader.next_block().unwrap() {
        if block.more {
            // Beyond the next block's head.
            at = block.offset as usize + block.payload.len() + 60;
        }
    }
    let path = dir.path().join("run.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let summary = summarise(dir.path(), &Options::default()).unwrap();
    assert_eq!((summary.lost.blocks, summary.status.as_str()), (1, "complete"));
    assert_eq!(summary.phases.iter().map(|phase| phase.name.as_str()).collect::<Vec<_>>(), ["short"]);
}
