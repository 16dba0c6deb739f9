//! Logs that were cut, damaged, or written by another version.

use loadgen::record::Shard;

use super::*;

/// Three ROWS blocks of two rows each, between META blocks; and the file's bytes.
fn small_log(dir: &Path) -> (Vec<u8>, Vec<Told>) {
    let writer = LogWriter::create(dir, &header(), false).unwrap();
    let mut shard: Shard = writer.shard(3);
    let requests: Vec<Told> = (0..6).map(|id| streamed(id, 3)).collect();
    for (i, told) in requests.iter().enumerate() {
        shard.counters(i as u64 + 1, 0);
        shard.push(&told.row, &list(&told.reads), &[]);
        if i % 2 == 1 {
            shard.flush();
        }
    }
    writer.meta(&json!({"event": "run_end"})).unwrap();
    writer.finish().unwrap();
    (fs::read(dir.join("run.log")).unwrap(), requests)
}

#[test]
fn a_log_cut_at_any_byte_gives_every_whole_block() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, requests) = small_log(dir.path());
    let ends = block_ends(&bytes);
    assert_eq!(ends.len(), 6, "run_start, three of rows, run_end");
    assert_eq!(*ends.last().unwrap(), bytes.len());
    let cut_dir = tempfile::tempdir().unwrap();
    for cut in 0..bytes.len() {
        fs::write(cut_dir.path().join("run.log"), &bytes[..cut]).unwrap();
        if cut < 128 {
            assert!(matches!(LogReader::open(cut_dir.path()), Err(LogError::NotALog { .. })), "cut at {cut}");
            continue;
        }
        let found = read(cut_dir.path(), WhichLog::Run);
        let whole = ends.iter().filter(|&&end| end <= cut).count().saturating_sub(1);
        let rows = 2 * whole.saturating_sub(1).min(3);
        assert_eq!(found.requests, requests[..rows], "cut at {cut}");
        let torn = cut > 256 && !ends.contains(&cut);
        assert_eq!(found.damage.len(), usize::from(torn), "cut at {cut}");
        assert!(found.damage.iter().all(|damage| damage.tail && damage.offset + damage.length == cut as u64));
    }
}

#[test]
fn a_flipped_byte_costs_its_own_block_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, requests) = small_log(dir.path());
    let ends = block_ends(&bytes);
    let flip_dir = tempfile::tempdir().unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        fs::write(flip_dir.path().join("run.log"), &flipped).unwrap();
        let found = read(flip_dir.path(), WhichLog::Run);
        if at < 256 {
            assert_eq!((found.requests, found.damage), (requests.clone(), Vec::new()), "byte {at}");
            continue;
        }
        // Which block was hit: 0 is run_start, 1 to 3 hold two rows each, 4 is run_end.
        let hit = ends.iter().filter(|&&end| end <= at).count() - 1;
        let left: Vec<Told> =
            requests.iter().enumerate().filter(|(i, _)| i / 2 + 1 != hit).map(|(_, told)| told.clone()).collect();
        assert_eq!(found.requests, left, "byte {at}");
        assert_eq!(found.metas.len(), 2 - usize::from(hit == 0 || hit == 4), "byte {at}");
        let [damage] = &found.damage[..] else { panic!("byte {at}: {:?}", found.damage) };
        assert_eq!((damage.offset, damage.offset + damage.length), (ends[hit] as u64, ends[hit + 1] as u64));
        if at >= ends[hit] + 48 {
            assert_eq!(damage.rows, (1..=3).contains(&hit).then_some(2), "byte {at}");
        }
    }
}

#[test]
fn a_newer_major_version_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bytes, _) = small_log(dir.path());
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[..124]);
    bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
    fs::write(dir.path().join("run.log"), bytes).unwrap();
    let error = LogReader::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("format 2.") && error.contains("1.x"), "{error}");
}

#[test]
fn blocks_and_columns_of_a_newer_minor_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, requests) = small_log(dir.path());
    let ends = block_ends(&bytes);
    // A block of an unknown kind between the others, and an unknown column at the end of the first ROWS block.
    let mut foreign = bytes[ends[0]..ends[1]].to_vec();
    foreign[8] = 200;
    seal(&mut foreign);
    let mut grown = bytes[ends[1]..ends[2]].to_vec();
    grown.extend_from_slice(&[77, 3, 1, 2, 3]);
    let length = grown.len() as u32 - 48;
    grown[12..16].copy_from_slice(&length.to_le_bytes());
    seal(&mut grown);
    let all = [&bytes[..ends[1]], &foreign, &grown, &bytes[ends[2]..]].concat();
    fs::write(dir.path().join("run.log"), all).unwrap();
    let found = read(dir.path(), WhichLog::Run);
    assert_eq!(found.requests, requests);
    assert!(found.damage.is_empty());
}

#[test]
fn a_text_that_looks_like_a_block_is_not_one() {
    // A server that knows the format, but not this log's random marker, hides a block in an error text.
    let other = tempfile::tempdir().unwrap();
    let (forged, _) = small_log(other.path());
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::create(dir.path(), &header(), false).unwrap();
    let mut shard = writer.shard(0);
    shard.text(1, TextKind::Error, &forged[256..]);
    shard.flush();
    writer.finish().unwrap();
    let mut bytes = fs::read(dir.path().join("run.log")).unwrap();
    let text_block = block_ends(&bytes)[1];
    bytes[text_block] ^= 1;
    fs::write(dir.path().join("run.log"), bytes).unwrap();
    assert!(read(dir.path(), WhichLog::Run).requests.is_empty());
}

/// A log with something of everything, as version 1.0 writes it: `tests/fixtures/run-1.0`.
fn golden() -> Vec<Told> {
    let mut requests: Vec<Told> = (0..40).map(|id| streamed(id, 1 + id as u32 % 9)).collect();
    for (i, told) in requests.iter_mut().enumerate() {
        told.row.phase = (i / 20) as u16;
        told.row.worker = (i % 2) as u16;
        let mut stamps = told.row.stamps;
        let row = &mut told.row;
        match i % 8 {
            1 => {
                (row.failure, row.status, row.detail) = (Failure::Http, 429, Detail::None);
                (row.tokens_in, row.tokens_out, row.token_source) = (None, None, TokenSource::None);
                (row.streamed, row.chunks, row.events, row.finish) = (false, 0, 0, Finish::Unknown);
                (stamps.first_token, stamps.first_output, stamps.last_token) = (0, 0, 0);
                told.reads.clear();
            }
            2 => {
                *row = Row { id: row.id, phase: row.phase, worker: row.worker, node: row.node, ..Row::default() };
                (row.failure, row.detail, row.connect_ns) = (Failure::Connect, Detail::Refused, 77_000);
                stamps =
                    Stamps { planned: stamps.planned, issued: stamps.issued, done: stamps.done, ..Stamps::default() };
                told.reads.clear();
            }
            3 => {
                let at = |n: u64| Attempt {
                    kind: [AttemptKind::First, AttemptKind::Reconnect, AttemptKind::Retry, AttemptKind::Hedge]
                        [n as usize],
                    node: n as u16,
                    sent: stamps.sent - 3_000 + n * 1_000,
                    first_byte: if n == 0 { 0 } else { stamps.first_byte },
                    done: stamps.done,
                    status: if n == 0 { 0 } else { 200 },
                    outcome: if n == 0 { Failure::Connect } else { Failure::None },
                };
                told.attempts = (0..4).map(at).collect();
            }
            4 => {
                told.reads.iter_mut().for_each(|read| (read.events, read.tokens) = (2, 3));
                (row.stamp_source, stamps.free) = (StampSource::Python, stamps.planned + 500);
            }
            5 => row.token_source = TokenSource::Chunks,
            _ => {}
        }
        told.row.stamps = stamps;
    }
    requests
}

/// The long answer of the golden log, which takes two pieces.
fn long_answer() -> Vec<u8> {
    "žluť ".repeat(5_600).into_bytes()
}

fn write_golden(dir: &Path) {
    let writer = LogWriter::create(dir, &header(), true).unwrap();
    let mut shards = [writer.shard(0), writer.shard(1)];
    let mut reads = ReadList::new();
    for (i, told) in golden().iter().enumerate() {
        if i % 20 == 0 {
            writer.meta(&json!({"event": "phase_start", "phase": i / 20, "ns": 1})).unwrap();
        }
        let shard = &mut shards[i % 2];
        reads.clear();
        for (n, read) in told.reads.iter().enumerate() {
            if n == 3 || n == 5 {
                shard.spill(told.row.id, told.row.phase, &mut reads);
            }
            reads.push(read);
        }
        shard.counters(i as u64 / 2 + 2, 1);
        shard.push(&told.row, &reads, &told.attempts);
        match i {
            9 => shard.text(told.row.id, TextKind::Error, b"slow down"),
            10 => shard.text(told.row.id, TextKind::Answer, &long_answer()),
            _ => {}
        }
        if i % 13 == 12 {
            shards.iter_mut().for_each(Shard::flush);
        }
    }
    shards.iter_mut().for_each(Shard::flush);
    writer.meta(&json!({"event": "run_end", "ns": 2, "status": "complete", "reason": ""})).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_log_of_version_1_0_reads_as_it_was_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run-1.0");
    // The format's witness: made once, by this, and from then on only read.
    if std::env::var_os("LOADGEN_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(&dir).unwrap();
        write_golden(&dir);
    }
    let found = read(&dir, WhichLog::Run);
    let by_id = |mut all: Vec<Told>| {
        all.sort_by_key(|told| told.row.id);
        all
    };
    assert_eq!(by_id(found.requests), golden());
    assert_eq!(found.texts, [(9, b"slow down".to_vec())]);
    assert_eq!((found.metas.len(), found.damage.len()), (4, 0));
    assert_eq!(read(&dir, WhichLog::Answers).texts, [(10, long_answer())]);
    let told = LogReader::open(&dir).unwrap().header().clone();
    assert_eq!((told.major, told.minor, told.session, told.anchor), (1, 0, header().session, header().anchor));
}
