//! Events in a log: cut, damaged, followed while it grows, and read by topic.

use std::fs;
use std::path::Path;

use loadgen::clock::Anchor;
use loadgen::event::EventReader;
use loadgen::record::{EventCounts, EventShard, LogHeader, LogWriter};
use serde_json::json;

use super::*;

/// Write an event log of `rounds` flushes of three requests each; how many bytes it has after each of them.
fn write_log(dir: &Path, rounds: u64) -> Vec<u64> {
    let anchor = Anchor { mono_ns: 5, wall_ns: 7 };
    let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir, &header, false).unwrap();
    log.keep_events().unwrap();
    let mut emitter = Emitter::new(2, NEVER, true, Outlets { log: Some(log.event_shard(2)), publisher: None });
    let mut ends = Vec::new();
    for round in 0..rounds {
        for id in 3 * round..3 * round + 3 {
            emitter.issued(id, id, 0, id);
            emitter.ended(&failed(id, id));
        }
        emitter.flush();
        assert_eq!(log.count_events().unwrap().logged, 9 * (round + 1));
        ends.push(fs::metadata(dir.join("events.log")).unwrap().len());
    }
    drop(emitter);
    let stats = log.finish().unwrap();
    assert_eq!(stats.event_bytes, ends.last().copied().unwrap_or(256));
    ends
}

fn read_log(dir: &Path, wanted: &[EventType]) -> (Vec<(EventType, u64)>, u64) {
    let mut reader = EventReader::open(dir, wanted, 0).unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        found.extend(records(&frame).iter().map(|r| (r.event.kind, r.event.request.unwrap())));
    }
    (found, reader.damaged())
}

#[test]
fn an_event_log_cut_at_any_byte_gives_all_that_was_whole_before() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 2);
    let path = dir.path().join("events.log");
    let whole = fs::read(&path).unwrap();
    for cut in (256..=whole.len()).rev() {
        fs::write(&path, &whole[..cut]).unwrap();
        let kept = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(read_log(dir.path(), &[]), (read_of(kept), 0), "cut at {cut}");
    }
}

/// The records of the first `rounds` flushes of `write_log`, as they stand in the file.
fn read_of(rounds: usize) -> Vec<(EventType, u64)> {
    let round = |round: u64| {
        [EventType::ErrorClient, EventType::SampleIssued, EventType::SampleComplete]
            .into_iter()
            .flat_map(move |kind| (3 * round..3 * round + 3).map(move |id| (kind, id)))
    };
    (0..rounds as u64).flat_map(round).collect()
}

#[test]
fn a_flipped_bit_costs_its_block_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 2);
    let path = dir.path().join("events.log");
    let whole = fs::read(&path).unwrap();
    for at in 256..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        let hit = ends.iter().position(|&end| (at as u64) < end).unwrap() as u64;
        let (found, damaged) = read_log(dir.path(), &[]);
        let expected: Vec<_> = read_of(2).into_iter().filter(|(_, id)| id / 3 != hit).collect();
        assert_eq!(found, expected, "byte {at}");
        // A damaged head in the last block looks like an unfinished end.
        assert!(damaged > 0 || hit == 1, "byte {at}");
    }
}

#[test]
fn a_reader_goes_on_where_another_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 3);
    let mut first = EventReader::open(dir.path(), &[EventType::SampleIssued], 0).unwrap();
    assert_eq!(first.offset(), 0);
    first.next_frame().unwrap().unwrap();
    assert_eq!(first.offset(), ends[0]);
    let mut next = EventReader::open(dir.path(), &[], first.offset()).unwrap();
    let frame = next.next_frame().unwrap().unwrap();
    assert_eq!(records(&frame)[0].event.request, Some(3));
    assert_eq!(next.offset(), ends[0], "two more frames of this block are to come");
    while next.next_frame().unwrap().is_some() {}
    assert_eq!((next.offset(), next.damaged()), (ends[2], 0));
    let mut end = EventReader::open(dir.path(), &[], ends[2]).unwrap();
    assert_eq!((end.next_frame().unwrap(), end.offset()), (None, ends[2]));
}

#[test]
fn only_the_topics_asked_for_are_read() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 2);
    let (found, _) = read_log(dir.path(), &[EventType::ErrorClient, EventType::SampleComplete]);
    assert_eq!(found.len(), 12);
    assert!(found.iter().all(|(kind, _)| *kind != EventType::SampleIssued));
}

#[test]
fn a_full_flush_of_the_longest_events_fits_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    log.keep_events().unwrap();
    let outlets = Outlets { log: Some(log.event_shard(0)), publisher: None };
    let mut emitter = Emitter::new(0, NEVER, true, outlets);
    let name = "n".repeat(2_000);
    (0..5_000).for_each(|i| emitter.issued(u64::MAX, u64::MAX, u16::MAX, u64::MAX - i));
    emitter.session(EventType::StartPerformanceTracking, u64::MAX, &"s".repeat(2_000), SessionData::Phase(9, &name));
    drop(emitter);
    assert_eq!(log.count_events().unwrap(), EventCounts { logged: 5_001, missing: 0, error: None });
    log.finish().unwrap();
}

#[test]
fn full_blocks_are_handed_over_together_or_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    log.keep_events().unwrap();
    let mut shard = log.event_shard(0);
    let logged = || log.count_events().unwrap().logged;
    // Two of these don't fit one block.
    let text = "x".repeat(40 << 10);
    let keep = |shard: &mut EventShard, request: u64| {
        let mut batch = Batch::new(0, NEVER);
        let event = Event::new(EventType::SampleIssued, 1);
        batch.push(&Event { request: Some(request), session: Some(&text), ..event });
        shard.frame(&frames(&mut batch)[0], 1);
    };
    (0..7).for_each(|request| keep(&mut shard, request));
    shard.flush_if_due(0);
    assert_eq!(logged(), 0, "six are full, with less than 256 KiB");
    keep(&mut shard, 7);
    assert_eq!(logged(), 7);
    shard.flush_if_due(0);
    assert_eq!(logged(), 7, "the last is young");
    shard.flush_if_due(u64::MAX);
    assert_eq!(log.count_events().unwrap(), EventCounts { logged: 8, missing: 0, error: None });
    log.finish().unwrap();
    let (found, damaged) = read_log(dir.path(), &[]);
    assert_eq!(found.iter().map(|&(_, request)| request).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(damaged, 0);
}

#[test]
fn events_without_a_log_to_go_to_are_counted_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    let mut shard = log.event_shard(0);
    shard.frame(&frame_of(0, EventType::SampleIssued, 1), 1);
    shard.flush();
    let counts = log.count_events().unwrap();
    assert_eq!((counts.logged, counts.missing), (0, 1), "no events.log was asked for");
    log.finish().unwrap();
}
