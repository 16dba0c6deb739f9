//! The run log as a whole: what goes in comes out, and damage costs no more than the block it hits.

#![allow(clippy::unwrap_used)]

mod runlog_spoilt;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use loadgen::clock::{Anchor, now_ns};
use loadgen::record::{
    Attempt, AttemptKind, BlockKind, Damage, Detail, Entries, Entry, Failure, Finish, LogError, LogHeader, LogReader,
    LogWriter, MAX_BLOCK, MetaParts, Read, ReadIter, ReadList, Row, RowBlock, StampSource, Stamps, TextKind,
    TextReader, TokenSource, WhichLog,
};
use loadgen::stats::{Options, summarise};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One request as it is written and as it is read back.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    row: Row,
    reads: Vec<Read>,
    attempts: Vec<Attempt>,
}

fn header() -> LogHeader {
    LogHeader {
        anchor: Anchor { mono_ns: 5, wall_ns: 1_700_000_000_000_000_000 },
        session: "20261120T211405Z-7f3a".to_owned(),
        meta: json!({"version": "0.1.0"}),
    }
}

fn list(reads: &[Read]) -> ReadList {
    let mut list = ReadList::new();
    reads.iter().for_each(|read| list.push(read));
    list
}

fn write(dir: &Path, requests: &[Told]) {
    let writer = LogWriter::create(dir, &header(), false).unwrap();
    let mut shard = writer.shard(3);
    for told in requests {
        shard.push(&told.row, &list(&told.reads), &told.attempts);
    }
    shard.flush();
    writer.finish().unwrap();
}

/// Everything a log holds.
#[derive(Debug, Default)]
struct Found {
    requests: Vec<Told>,
    metas: Vec<Value>,
    texts: Vec<(u64, Vec<u8>)>,
    counters: Vec<(u64, u64)>,
    damage: Vec<Damage>,
    biggest: usize,
}

fn read(dir: &Path, which: WhichLog) -> Found {
    let mut reader = LogReader::open_log(dir, which).unwrap();
    let (mut found, mut parts) = (Found::default(), MetaParts::default());
    let mut spilled: HashMap<u64, Vec<Read>> = HashMap::new();
    let mut pending = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        found.biggest = found.biggest.max(block.payload.len());
        match block.kind {
            BlockKind::Meta => found.metas.extend(parts.push(&block).map(Result::unwrap)),
            BlockKind::Rows => {
                found.counters.push((block.issued, block.in_flight));
                let mut rows = RowBlock::new(&block).unwrap();
                while let Some(view) = rows.next_row().unwrap() {
                    let mut reads = spilled.remove(&view.row.id).unwrap_or_default();
                    assert_eq!(reads.len() as u64, view.spilled);
                    reads.extend(ReadIter::new(view.reads).map(Result::unwrap));
                    let attempts = view.attempts().map(Result::unwrap).collect();
                    found.requests.push(Told { row: view.row, reads, attempts });
                }
            }
            _ => {
                for entry in Entries::new(&block).map(Result::unwrap) {
                    match entry {
                        Entry::Reads { request, count, bytes, .. } => {
                            let reads: Vec<Read> = ReadIter::new(bytes).map(Result::unwrap).collect();
                            assert_eq!(reads.len(), count as usize);
                            spilled.entry(request).or_default().extend(reads);
                        }
                        Entry::Text { request, more, bytes, .. } => {
                            pending.extend_from_slice(bytes);
                            if !more {
                                found.texts.push((request, std::mem::take(&mut pending)));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(reader.next_block().unwrap().is_none());
    found.damage = reader.damage().to_vec();
    found
}

/// The ends of the whole blocks in `bytes`, by the format's own arithmetic.
fn block_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![256];
    while let Some(head) = bytes.get(ends[ends.len() - 1]..).filter(|rest| rest.len() >= 48) {
        let length = u32::from_le_bytes(head[12..16].try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + 48 + length);
    }
    ends
}

/// Put both checksums of a block right again.
fn seal(block: &mut [u8]) {
    let payload = crc32fast::hash(&block[48..]);
    block[40..44].copy_from_slice(&payload.to_le_bytes());
    let head = crc32fast::hash(&block[..44]);
    block[44..48].copy_from_slice(&head.to_le_bytes());
}

fn any_row() -> impl Strategy<Value = Row> {
    let stamp = || prop_oneof![Just(0u64), any::<u64>(), 1_000_000_000u64..2_000_000_000];
    let stamps = (stamp(), stamp(), stamp(), stamp(), stamp(), stamp(), stamp(), stamp(), stamp()).prop_map(
        |(planned, free, issued, sent, first_byte, first_token, first_output, last_token, done)| Stamps {
            planned,
            free,
            issued,
            sent,
            first_byte,
            first_token,
            first_output,
            last_token,
            done,
        },
    );
    let codes = (0..Failure::ALL.len(), 0..Detail::ALL.len(), 0..Finish::ALL.len(), 0..4usize, any::<(bool, bool)>());
    let tokens = any::<(Option<u32>, Option<u32>)>();
    let amounts = any::<(u64, u16, u64, u64, u16, u32, u32, u64, u64, Option<u16>)>();
    (stamps, codes, tokens, amounts).prop_map(|(stamps, codes, (tokens_in, tokens_out), amounts)| Row {
        id: amounts.0,
        phase: amounts.1,
        worker: 3,
        sample: amounts.2,
        node: amounts.9,
        stamps,
        connect_ns: amounts.3,
        status: amounts.4,
        failure: Failure::ALL[codes.0],
        detail: Detail::ALL[codes.1],
        finish: Finish::ALL[codes.2],
        streamed: codes.4.0,
        tokens_in,
        tokens_out,
        token_source: [TokenSource::None, TokenSource::Usage, TokenSource::Tokenizer, TokenSource::Chunks][codes.3],
        events: amounts.5,
        chunks: amounts.6,
        bytes_in: amounts.7,
        bytes_out: amounts.8,
        stamp_source: if codes.4.1 { StampSource::Python } else { StampSource::Engine },
    })
}

fn any_told() -> impl Strategy<Value = Told> {
    let read = any::<(u64, u32, u32, u32)>().prop_map(|(delta_ns, events, chunks, tokens)| Read {
        delta_ns,
        events,
        chunks,
        tokens,
    });
    let kinds = [AttemptKind::First, AttemptKind::Retry, AttemptKind::Hedge, AttemptKind::Reconnect];
    let attempt = (0..4usize, any::<(u16, u64, u64, u64, u16)>(), 0..Failure::ALL.len()).prop_map(
        move |(kind, (node, sent, first_byte, done, status), outcome)| Attempt {
            kind: kinds[kind],
            node,
            sent,
            first_byte,
            done,
            status,
            outcome: Failure::ALL[outcome],
        },
    );
    (any_row(), prop::collection::vec(read, 0..20), prop::collection::vec(attempt, 0..3))
        .prop_map(|(row, reads, attempts)| Told { row, reads, attempts })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_rows_come_back_as_they_went_in(requests in prop::collection::vec(any_told(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &requests);
        let found = read(dir.path(), WhichLog::Run);
        prop_assert_eq!(found.requests, requests);
        prop_assert!(found.damage.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_rows_a_log_holds_it_can_be_summarised(requests in prop::collection::vec(any_told(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let requests: Vec<Told> = requests.into_iter().map(|mut told| { told.row.phase %= 3; told }).collect();
        write(dir.path(), &requests);
        for threads in [1, 2] {
            let summary = summarise(dir.path(), &Options { threads, ..Options::default() }).unwrap();
            let counted: u64 = summary.phases.iter().map(|phase| phase.counts.issued).sum();
            prop_assert_eq!(counted, requests.len() as u64);
        }
    }

    #[test]
    fn whatever_a_payload_holds_its_rows_and_entries_end(payload in prop::collection::vec(any::<u8>(), 0..400), rows in 0u32..50) {
        let dir = tempfile::tempdir().unwrap();
        for kind in [2u8, 3, 4] {
            // A block with right checksums and this payload, behind a good header.
            write(dir.path(), &[]);
            let path = dir.path().join("run.log");
            let mut bytes = fs::read(&path).unwrap();
            let mut block = bytes[256..304].to_vec();
            block[8] = kind;
            block[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
            block[16..20].copy_from_slice(&rows.to_le_bytes());
            block.extend_from_slice(&payload);
            seal(&mut block);
            bytes.extend_from_slice(&block);
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let summary = summarise(dir.path(), &Options::default()).unwrap();
            let read: u64 = summary.phases.iter().map(|phase| phase.counts.ok + phase.counts.cancelled + phase.counts.failed).sum();
            prop_assert!(read <= u64::from(rows));
            fs::remove_file(&path).unwrap();
        }
    }
}

/// A row like those of a real run: streamed, 20 ms after the one before, a token every 10 ms.
fn streamed(id: u64, chunks: u32) -> Told {
    let sent = 1_000_000_000 + id * 20_000_000;
    let first = sent + 50_000_000;
    let last = first + u64::from(chunks - 1) * 10_000_000;
    let stamps = Stamps {
        planned: sent - 2_000,
        free: 0,
        issued: sent - 1_000,
        sent,
        first_byte: first,
        first_token: first,
        first_output: first,
        last_token: last,
        done: last + 100_000,
    };
    let row = Row {
        id,
        worker: 3,
        sample: id % 100,
        node: Some(0),
        stamps,
        status: 200,
        finish: Finish::Stop,
        streamed: true,
        tokens_in: Some(20 + id as u32 % 7),
        tokens_out: Some(chunks),
        token_source: TokenSource::Usage,
        events: chunks + 3,
        chunks,
        bytes_in: 4_000 + id % 13,
        bytes_out: 400 + id % 11,
        ..Row::default()
    };
    let delta = |i: u32| if i == 0 { first - sent } else { 10_000_000 };
    let reads = (0..chunks).map(|i| Read { delta_ns: delta(i), events: 1, chunks: 1, tokens: 0 }).collect();
    Told { row, reads, attempts: Vec::new() }
}

#[test]
fn many_blocks_come_back_in_order_and_none_is_over_its_bound() {
    let requests: Vec<Told> = (0..3_000).map(|id| streamed(id, 1 + id as u32 % 64)).collect();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &requests);
    let found = read(dir.path(), WhichLog::Run);
    assert_eq!(found.requests, requests);
    assert!(found.biggest <= MAX_BLOCK - 48 && found.biggest > MAX_BLOCK / 2, "{}", found.biggest);
}

#[test]
fn a_long_streams_reads_find_their_row_again() {
    let dir = tempfile::tempdir().unwrap();
    let told = streamed(7, 60_000);
    let writer = LogWriter::create(dir.path(), &header(), false).unwrap();
    let mut shard = writer.shard(3);
    let mut reads = ReadList::new();
    for read in &told.reads[..50_000] {
        reads.push(read);
        if reads.bytes().len() > 8 << 10 {
            shard.spill(7, 0, &mut reads);
            assert!(reads.is_empty());
        }
    }
    // Another row in between, and the rest in one piece that is over the bound of a row.
    shard.push(&streamed(8, 3).row, &list(&streamed(8, 3).reads), &[]);
    shard.flush();
    told.reads[50_000..].iter().for_each(|read| reads.push(read));
    shard.push(&told.row, &reads, &[]);
    shard.flush();
    writer.finish().unwrap();
    assert_eq!(read(dir.path(), WhichLog::Run).requests, [streamed(8, 3), told]);
}

#[test]
fn of_a_thousand_attempts_the_last_ones_are_kept_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let attempts: Vec<Attempt> = (0..1_000).map(|n| Attempt { sent: n + 1, ..Attempt::default() }).collect();
    write(dir.path(), &[Told { row: streamed(1, 1).row, reads: Vec::new(), attempts: attempts.clone() }]);
    let mut reader = LogReader::open(dir.path()).unwrap();
    let block = reader.next_wanted(|head| head.kind == BlockKind::Rows).unwrap().unwrap();
    let view = RowBlock::new(&block).unwrap().next_row().unwrap().unwrap();
    assert_eq!(view.attempt_count, 1_000);
    assert_eq!(view.attempts().map(Result::unwrap).collect::<Vec<_>>(), attempts[744..]);
}

#[test]
fn texts_and_documents_longer_than_a_block_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), true).unwrap();
    let mut shard = writer.shard(0);
    let long: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    shard.text(1, TextKind::Error, b"no such model");
    shard.text(2, TextKind::Answer, &long);
    shard.text(3, TextKind::Answer, b"");
    shard.flush();
    let event = json!({"event": "phase_start", "meta": "x".repeat(150_000)});
    writer.meta(&event).unwrap();
    writer.sync().unwrap();
    writer.finish().unwrap();
    let (log, answers) = (read(dir.path(), WhichLog::Run), read(dir.path(), WhichLog::Answers));
    assert_eq!(log.texts, [(1, b"no such model".to_vec())]);
    assert_eq!(answers.texts, [(2, long), (3, Vec::new())]);
    let start = json!({"event": "run_start", "session": header().session, "meta": {"version": "0.1.0"}});
    assert_eq!(log.metas, [start, event]);
}

#[test]
fn an_answer_that_lost_its_end_is_left_out_and_never_part_of_the_reasoning() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), true).unwrap();
    let mut shard = writer.shard(0);
    shard.text(1, TextKind::Answer, &[b'a'; 200_000]);
    shard.flush();
    shard.text(1, TextKind::Reasoning, b"because");
    shard.flush();
    writer.finish().unwrap();
    let log = dir.path().join("answers.log");
    let mut bytes = fs::read(&log).unwrap();
    let ends = block_ends(&bytes);
    bytes[ends[ends.len() - 3]] ^= 1;
    fs::write(&log, bytes).unwrap();
    let mut texts = TextReader::open(dir.path(), WhichLog::Answers).unwrap();
    assert_eq!(texts.next_text().unwrap(), Some((1, TextKind::Reasoning, b"because".to_vec())));
    assert_eq!(texts.next_text().unwrap(), None);
}

#[test]
fn answers_are_dropped_where_nobody_asked_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), false).unwrap();
    let mut shard = writer.shard(0);
    shard.text(2, TextKind::Answer, b"text");
    shard.flush();
    writer.finish().unwrap();
    assert!(!dir.path().join("answers.log").exists());
    assert!(read(dir.path(), WhichLog::Run).texts.is_empty());
}

#[test]
fn a_row_leaves_when_it_is_fifty_milliseconds_old_and_counters_leave_alone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), false).unwrap();
    let mut shard = writer.shard(0);
    let rows_after_sync = || {
        writer.sync().unwrap();
        read(dir.path(), WhichLog::Run)
    };
    let done = now_ns();
    let row = Row { stamps: Stamps { done, ..Stamps::default() }, ..Row::default() };
    shard.push(&row, &ReadList::new(), &[]);
    shard.flush_if_due(done + 49_000_000);
    assert!(rows_after_sync().requests.is_empty());
    shard.counters(5, 4);
    shard.flush_if_due(done + 50_000_000);
    assert_eq!(rows_after_sync().counters, [(5, 4)]);
    // Nothing completes, but more is issued: a block without rows says so, once.
    shard.counters(9, 8);
    shard.flush_if_due(done + 60_000_000_000);
    shard.flush_if_due(done + 90_000_000_000);
    let found = rows_after_sync();
    assert_eq!(found.requests.len(), 1);
    assert_eq!(found.counters, [(5, 4), (9, 8)]);
}

#[test]
fn a_log_is_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[]);
    let mode = fs::metadata(dir.path().join("run.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = LogWriter::create(dir.path(), &header(), false);
    assert!(matches!(again, Err(LogError::Io { verb: "create", .. })));
}

#[test]
fn the_stats_of_a_finished_log_are_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), false).unwrap();
    let mut shard = writer.shard(3);
    (0..2_000).for_each(|id| shard.push(&streamed(id, 4).row, &list(&streamed(id, 4).reads), &[]));
    shard.flush();
    let stats = writer.finish().unwrap();
    assert_eq!(stats.rows, 2_000);
    assert_eq!(stats.bytes, fs::metadata(dir.path().join("run.log")).unwrap().len());
    assert!(stats.blocks >= 2);
}
