//! Segments of live metrics: made, attached to, extended, ended; hostile, stale and cut ones; two processes at once.

#![allow(clippy::unwrap_used)]

mod series_apart;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice::from_ref;
use std::time::{Duration, SystemTime};

use loadgen::series::{
    Bounds, Detail, Kind, Reader, Registered, Segment, Series, SeriesError, SeriesStat, Spec, State, clean, list,
    read_hdr,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A private directory, as segments want it.
fn private() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("loadgen");
    (outer, dir)
}

fn create(dir: &Path) -> Segment {
    Segment::create("run-1", &[dir.to_path_buf()], 0).unwrap()
}

fn counter(name: &str, phase: Option<u16>, shards: usize) -> Spec {
    Spec { name: name.into(), unit: "requests".into(), help: "Some.".into(), kind: Kind::Counter, phase, shards }
}

fn times(name: &str, phase: Option<u16>, shards: usize) -> Spec {
    Spec { unit: "ns".into(), kind: Kind::Series(Bounds::TIMES), ..counter(name, phase, shards) }
}

fn one(segment: &Segment, spec: Spec) -> Registered {
    segment.register(&[spec]).unwrap().remove(0)
}

fn stat<'a>(series: &'a [SeriesStat], name: &str, phase: Option<u16>) -> &'a SeriesStat {
    series.iter().find(|s| s.name == name && s.phase == phase).unwrap()
}

#[test]
fn what_a_run_records_another_mapping_sees() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let issued = one(&segment, counter("issued", Some(0), 2)).counters();
    let ttft = one(&segment, times("ttft", Some(0), 2)).series();
    issued[0].add(3);
    issued[1].add(4);
    ttft[0].record(2_000_000);
    ttft[1].record(8_000_000);
    ttft[1].record(u64::MAX);
    ttft[1].record(5);
    segment.begin(0);

    let mut reader = Reader::find("run-1", from_ref(&dir)).unwrap();
    let seen = reader.snapshot(&Detail::default()).unwrap();
    assert_eq!((seen.id.as_str(), seen.state, seen.alive, seen.phase), ("run-1", State::Live, true, Some(0)));
    assert_eq!((seen.counters[0].name.as_str(), seen.counters[0].value), ("issued", 7));
    let ttft = stat(&seen.series, "ttft", Some(0));
    assert_eq!((ttft.count, ttft.below, ttft.above, ttft.torn), (4, 1, 1, 0));
    assert_eq!((ttft.min, ttft.max), (Some(5), Some(u64::MAX)));
    assert_eq!(ttft.total, 10_000_005 + u128::from(u64::MAX));
    assert_eq!(ttft.histogram.counts.iter().sum::<u64>(), 4);
    assert_eq!((ttft.histogram.edges[0], *ttft.histogram.edges.last().unwrap()), (5.0, u64::MAX as f64));
    let own = segment.snapshot(&Detail::default());
    assert_eq!((&own.counters, &own.series), (&seen.counters, &seen.series));
}

#[test]
fn a_segment_is_private_and_gone_with_its_run() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let path = segment.path().unwrap().to_path_buf();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(list(from_ref(&dir)), from_ref(&path));
    assert!(Segment::create("run-1", from_ref(&dir), 0).unwrap().path().is_none(), "never made twice");
    let mut reader = Reader::attach(&path).unwrap();
    segment.advance(State::Complete).unwrap();
    drop(segment);
    assert!(!path.exists());
    assert_eq!(reader.snapshot(&Detail::default()).unwrap().state, State::Complete, "who attached sees the end");
    assert!(matches!(Reader::find("run-1", &[dir]), Err(SeriesError::Io { .. })));
}

#[test]
fn a_run_removes_its_own_file_and_never_that_of_another_run_of_its_name() {
    let (_outer, dir) = private();
    let ended = create(&dir);
    ended.remove();
    let next = create(&dir);
    ended.remove();
    drop(ended);
    assert!(next.path().unwrap().exists());
}

#[test]
fn what_is_registered_later_is_mapped_by_who_attached_before() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let mut reader = Reader::attach(segment.path().unwrap()).unwrap();
    for n in 0..20 {
        one(&segment, times(&format!("s{n}"), None, 2)).series()[1].record(1_000_000 + n);
        let seen = reader.snapshot(&Detail::default()).unwrap();
        assert_eq!(seen.series.len() as u64, n + 1);
        assert!(seen.series.iter().enumerate().all(|(n, s)| (s.count, s.max) == (1, Some(1_000_000 + n as u64))));
    }
    let bytes = fs::metadata(segment.path().unwrap()).unwrap().len();
    assert!(bytes <= 8_500_000, "20 series of two shards take {bytes} bytes");
}

#[test]
fn reserved_memory_is_used_before_the_file_grows() {
    let (_outer, dir) = private();
    let segment = Segment::create("run-1", &[dir], 1 << 20).unwrap();
    let bytes = || fs::metadata(segment.path().unwrap()).unwrap().len();
    let before = bytes();
    assert!(before > 1 << 20);
    one(&segment, times("ttft", None, 2)).series()[0].record(1);
    assert_eq!(bytes(), before);
    one(&segment, times("itl", None, 4)).series()[3].record(2);
    assert!(bytes() > before);
    let seen = Reader::attach(segment.path().unwrap()).unwrap().snapshot(&Detail::default()).unwrap();
    assert_eq!(seen.series.iter().map(|s| s.count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn names_are_unique_in_their_phase_and_registering_is_all_or_nothing() {
    let segment = Segment::private("run-1").unwrap();
    one(&segment, counter("ok", Some(0), 1));
    one(&segment, counter("ok", Some(1), 1));
    let twice = segment.register(&[counter("new", Some(0), 1), counter("ok", Some(0), 1)]).unwrap_err();
    assert!(matches!(&twice, SeriesError::Taken(name) if name == "ok"), "{twice}");
    let at_once = segment.register(&[counter("a", None, 1), counter("a", None, 1)]).unwrap_err();
    assert!(matches!(at_once, SeriesError::Taken(_)));
    assert_eq!(segment.snapshot(&Detail::default()).counters.len(), 2);
    let only = Detail { phase: Some(1), ..Detail::default() };
    assert_eq!(segment.snapshot(&only).counters.len(), 1);
}

#[test]
fn what_does_not_fit_is_named() {
    let segment = Segment::private("run-1").unwrap();
    let long = "x".repeat(65);
    for (spec, word) in [
        (counter(&long, None, 1), "1 to 64"),
        (counter("", None, 1), "1 to 64"),
        (counter("a\nb", None, 1), "control"),
        (Spec { help: "h".repeat(105), ..counter("a", None, 1) }, "0 to 104"),
        (counter("a", None, 0), "0 shards"),
        (counter("a", None, 257), "257 shards"),
    ] {
        let text = segment.register(&[spec]).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
    let many: Vec<Spec> = (0..256).map(|n| counter(&format!("c{n}"), None, 1)).collect();
    segment.register(&many).unwrap();
    let full = segment.register(&[counter("one more", None, 1)]).unwrap_err();
    assert!(matches!(full, SeriesError::Full { asked: 1, used: 256 }), "{full}");
    for id in ["", ".", "../x", "a/b", "a b", &long] {
        assert!(matches!(Segment::create(id, &[], 0), Err(SeriesError::Id(_))), "{id:?}");
    }
}

#[test]
fn what_is_said_of_a_run_is_said_once_and_seen_by_who_attached_before() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let reader = Reader::attach(segment.path().unwrap()).unwrap();
    assert_eq!((segment.about(), reader.about()), (String::new(), String::new()));
    assert!(matches!(segment.describe("two\nlines"), Err(SeriesError::Text { .. })));
    assert!(matches!(segment.describe(&"x".repeat(3897)), Err(SeriesError::Text { room: 3896, .. })));
    let most = "é".repeat(1948);
    segment.describe(&most).unwrap();
    assert_eq!((segment.about(), reader.about()), (most.clone(), most));
    assert!(matches!(segment.describe("another"), Err(SeriesError::Taken(_))));
}

#[test]
fn a_description_that_makes_no_sense_is_none() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    segment.describe("a run").unwrap();
    let path = dir.join("copy");
    for length in [u64::MAX, 4000] {
        let mut bytes = fs::read(segment.path().unwrap()).unwrap();
        bytes[24 * 8..25 * 8].copy_from_slice(&length.to_ne_bytes());
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Reader::attach(&path).unwrap().about(), "");
    }
}

#[test]
fn states_only_go_forward() {
    let segment = Segment::private("run-1").unwrap();
    segment.advance(State::Draining).unwrap();
    segment.advance(State::Draining).unwrap();
    assert!(segment.advance(State::Live).unwrap_err().to_string().contains("draining can't become live"));
    segment.advance(State::Interrupted).unwrap();
    assert!(segment.advance(State::Complete).is_err());
    assert_eq!(segment.state(), State::Interrupted);
}

#[test]
fn entries_go_empty_to_another_phase() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let set = segment.register(&[counter("ok", Some(0), 2), times("ttft", Some(0), 2)]).unwrap();
    set[0].counters()[1].add(9);
    set[1].series()[1].record(5_000_000);
    let mut reader = Reader::attach(segment.path().unwrap()).unwrap();
    assert_eq!(reader.snapshot(&Detail::default()).unwrap().counters[0].value, 9);
    segment.reuse(&set, 3);
    for seen in [reader.snapshot(&Detail::default()).unwrap(), segment.snapshot(&Detail::default())] {
        assert_eq!((seen.counters[0].phase, seen.counters[0].value), (Some(3), 0));
        let ttft = stat(&seen.series, "ttft", Some(3));
        assert_eq!((ttft.count, ttft.min, &ttft.histogram.counts), (0, None, &vec![]));
    }
    assert_eq!(reader.merged("ttft", Some(3)).unwrap().count(), 0);
    assert!(matches!(reader.merged("ttft", Some(0)), Err(SeriesError::Unknown { .. })));
    one(&segment, counter("ok", Some(0), 1));
}

#[test]
fn one_series_is_that_of_its_phase_or_the_newest() {
    let segment = Segment::private("run-1").unwrap();
    for phase in [0, 1] {
        let writers = one(&segment, times("ttft", Some(phase), 1)).series();
        (0..=phase).for_each(|_| writers[0].record(4_000_000));
    }
    assert_eq!(segment.merged("ttft", Some(0)).unwrap().stats.count, 1);
    assert_eq!(segment.merged("ttft", None).unwrap().stats.count, 2);
    let unknown = segment.merged("ttfb", Some(1)).unwrap_err().to_string();
    assert_eq!(unknown, r#"no series called "ttfb" in phase 1"#);
}

#[test]
fn what_is_exported_is_what_was_recorded() {
    let segment = Segment::private("run-1").unwrap();
    let writers = one(&segment, times("ttft", None, 2)).series();
    let mut oracle = hdrhistogram::Histogram::<u64>::new_with_bounds(1_000, 3_600_000_000_000, 3).unwrap();
    for value in (1..2_000u64).map(|n| n * n * 1_003) {
        writers[(value % 2) as usize].record(value);
        oracle.record(value).unwrap();
    }
    let read = read_hdr(&segment.merged("ttft", None).unwrap().to_hdr().unwrap()).unwrap();
    let expected: Vec<_> = oracle.iter_recorded().map(|s| (s.value_iterated_to(), s.count_at_value())).collect();
    assert_eq!((read.count, read.counts), (oracle.len(), expected));
}

#[test]
fn a_percentile_is_the_rank_that_a_report_names() {
    let segment = Segment::private("run-1").unwrap();
    let writers = one(&segment, times("ttft", Some(0), 1)).series();
    (1..=1_000).for_each(|n| writers[0].record(n * 1_000_000));
    let seen = segment.snapshot(&Detail { percentiles: vec![7.0, 55.0, 99.9], ..Detail::default() });
    let ranks: Vec<u64> = seen.series[0].percentiles.iter().map(|(_, value)| value / 1_000_000).collect();
    assert_eq!(ranks, [70, 550, 999], "as floats, 99.9 % of 1,000 is a little more than 999");
}

proptest! {
    #[test]
    fn percentiles_are_the_references_within_what_was_seen(
        values in prop::collection::vec((0usize..3, 1_000u64..3_600_000_000_000), 1..400),
    ) {
        let segment = Segment::private("run-1").unwrap();
        let writers = one(&segment, times("ttft", None, 3)).series();
        let mut oracle = hdrhistogram::Histogram::<u64>::new_with_bounds(1_000, 3_600_000_000_000, 3).unwrap();
        for &(shard, value) in &values {
            writers[shard].record(value);
            oracle.record(value).unwrap();
        }
        let quantiles = [0.01, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0];
        let max = values.iter().map(|v| v.1).max().unwrap();
        let merged = segment.merged("ttft", None).unwrap();
        let expected: Vec<u64> = quantiles.iter().map(|&q| oracle.value_at_quantile(q).min(max)).collect();
        prop_assert_eq!(merged.quantiles(&quantiles), expected);
        prop_assert_eq!(merged.stats.count, values.len() as u64);
    }
}

#[test]
fn directories_that_others_may_enter_or_that_are_none_are_passed_over_and_said() {
    let outer = tempfile::tempdir().unwrap();
    let (open, link, file, good) =
        (outer.path().join("open"), outer.path().join("link"), outer.path().join("file"), outer.path().join("good"));
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    symlink(&open, &link).unwrap();
    fs::write(&file, "").unwrap();
    let segment = Segment::create("run-1", &[open.clone(), link, file, good.clone()], 0).unwrap();
    assert_eq!(segment.path().unwrap().parent(), Some(good.as_path()));
    let notes = segment.notes();
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes[0].contains("0700") && notes[1].contains("link") && notes[3].contains("instead"), "{notes:?}");
    let nowhere = Segment::create("run-1", &[open], 0).unwrap();
    assert!(nowhere.path().is_none() && nowhere.notes()[1].contains("private memory"));
    one(&nowhere, counter("ok", None, 1)).counters()[0].add(2);
    assert_eq!(nowhere.snapshot(&Detail::default()).counters[0].value, 2);
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    one(&segment, times("ttft", None, 1)).series()[0].record(7_000_000);
    let whole = fs::read(segment.path().unwrap()).unwrap();
    let path = dir.join("other.series");
    let attach = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Reader::attach(&path).map(|_| ())
    };
    let with = |at: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    attach(&whole).unwrap();
    assert!(matches!(attach(b""), Err(SeriesError::NotASegment { .. })));
    assert!(matches!(attach(&vec![0; whole.len()]), Err(SeriesError::NotASegment { .. })));
    assert!(matches!(attach(&whole[..100]), Err(SeriesError::Truncated { found: 100, .. })));
    assert!(matches!(attach(&whole[..whole.len() - 8]), Err(SeriesError::Truncated { .. })));
    assert!(matches!(attach(&with(1, 0x0807_0605_0403_0201)), Err(SeriesError::ByteOrder { .. })));
    assert!(matches!(attach(&with(1, 5)), Err(SeriesError::Damaged { .. })));
    assert!(matches!(attach(&with(2, 0)), Err(SeriesError::Version { version: 0, .. })));
    assert!(matches!(attach(&with(2, 99)), Err(SeriesError::Version { version: 99, .. })));
    assert!(matches!(attach(&with(6, u64::MAX)), Err(SeriesError::Damaged { .. } | SeriesError::Truncated { .. })));
    assert!(matches!(attach(&with(6, 8)), Err(SeriesError::Damaged { .. })));
    assert!(matches!(attach(&with(7, 257)), Err(SeriesError::Damaged { .. })));
    assert!(matches!(attach(&with(7, 2)), Err(SeriesError::Damaged { .. })), "an entry that was never written");
    assert!(matches!(attach(&with(16, u64::MAX)), Err(SeriesError::Damaged { .. })), "an id that is no text");
    // The first entry: kind, offset, shards, stride, bounds, digits, name.
    for (word, value) in [
        (2, 9),
        (3, 8),
        (3, u64::MAX - 127),
        (4, 0),
        (4, 1 << 40),
        (5, 128),
        (6, 0),
        (7, u64::MAX),
        (8, 5),
        (9, u64::MAX),
    ] {
        let found = attach(&with(512 + word, value));
        assert!(matches!(&found, Err(SeriesError::Damaged { .. })), "word {word} as {value}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_a_file_claims_attaching_to_it_neither_panics_nor_hangs(
        changes in prop::collection::vec(
            (prop_oneof![0usize..24, 512usize..576, 8704usize..8740, 0usize..16000],
             prop_oneof![Just(0u64), Just(u64::MAX), 0u64..300, (0u32..64).prop_map(|bit| 1 << bit), any::<u64>()]),
            1..5,
        ),
        cut in prop_oneof![4 => Just(0usize), 1 => 0usize..200_000],
    ) {
        let (_outer, dir) = private();
        let segment = create(&dir);
        let bounds = Kind::Series(Bounds::new(1_000, 1_000_000).unwrap());
        let set = segment.register(&[Spec { kind: bounds, ..times("a", Some(0), 2) }, counter("b", None, 1)]).unwrap();
        set[0].series()[1].record(5_000);
        let mut bytes = fs::read(segment.path().unwrap()).unwrap();
        for (word, value) in changes {
            let at = word * 8 % (bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let path = dir.join("changed.series");
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if let Ok(mut reader) = Reader::attach(&path) {
            let seen = reader.snapshot(&Detail::default());
            prop_assert!(seen.is_err() || seen.is_ok_and(|seen| seen.series.len() + seen.counters.len() <= 256));
            let _ = reader.merged("a", None).map(|merged| merged.to_hdr());
        }
        clean(&[dir]);
    }
}

#[test]
fn files_that_another_may_have_written_are_not_read() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let path = segment.path().unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Reader::attach(path), Err(SeriesError::Foreign { why, .. }) if why.contains("0600")));
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    let link = dir.join("link.series");
    symlink(path, &link).unwrap();
    assert!(matches!(Reader::attach(&link), Err(SeriesError::Io { .. })));
    assert!(Reader::attach(&dir).is_err());
    let pipe = dir.join("pipe.series");
    assert!(Command::new("mkfifo").arg("-m600").arg(&pipe).status().unwrap().success());
    assert!(matches!(Reader::attach(&pipe), Err(SeriesError::Foreign { .. })), "and it must not block");
}

#[test]
fn a_file_cut_after_attaching_is_noticed_before_the_next_look() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    one(&segment, times("ttft", None, 1));
    let mut reader = Reader::attach(segment.path().unwrap()).unwrap();
    OpenOptions::new().write(true).open(segment.path().unwrap()).unwrap().set_len(200_000).unwrap();
    assert!(matches!(reader.snapshot(&Detail::default()), Err(SeriesError::Truncated { found: 200_000, .. })));
}

#[test]
fn a_writer_that_stopped_inside_leaves_a_torn_shard_and_no_hang() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let set = one(&segment, times("ttft", None, 2)).series();
    set.iter().for_each(|s| s.record(5_000_000));
    let path = segment.path().unwrap();
    let front = fs::metadata(path).unwrap().len() - 2 * 8 * (16 + 24 * 1024);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    // Pages are whole: the cells begin at the first page boundary behind the directory.
    let cells = front / 4096 * 4096;
    file.write_all_at(&3u64.to_ne_bytes(), cells).unwrap();
    let mut reader = Reader::attach(path).unwrap();
    let seen = reader.snapshot(&Detail::default()).unwrap();
    assert_eq!((seen.series[0].torn, seen.series[0].count), (1, 2));
    // An entry that stays odd is left out.
    file.write_all_at(&1u64.to_ne_bytes(), 4096).unwrap();
    assert!(reader.snapshot(&Detail::default()).unwrap().series.is_empty());
}

#[test]
fn segments_of_dead_runs_are_removed_and_no_others() {
    let (_outer, dir) = private();
    let alive = create(&dir);
    let copy = |name: &str, change: &dyn Fn(&fs::File)| {
        let path = dir.join(name);
        fs::copy(alive.path().unwrap(), &path).unwrap();
        change(&OpenOptions::new().write(true).open(&path).unwrap());
        path
    };
    let word = |at: u64, value: u64| move |file: &fs::File| file.write_all_at(&value.to_ne_bytes(), at * 8).unwrap();
    let dead = copy("dead.series", &word(3, 1 << 40));
    let again = copy("again.series", &word(4, 1));
    let older = copy("older.series", &|file| {
        word(3, 1 << 40)(file);
        word(2, 0)(file);
    });
    let elsewhere = copy("elsewhere.series", &|file| {
        word(3, 1 << 40)(file);
        word(5, 12345)(file);
    });
    let young = dir.join("young.series");
    fs::write(&young, "").unwrap();
    fs::set_permissions(&young, Permissions::from_mode(0o600)).unwrap();
    let unfinished = copy("unfinished.series", &|file| {
        word(0, 0)(file);
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    });
    let note = dir.join("note.txt");
    fs::write(&note, "mine").unwrap();

    let mut removed = clean(&[dir.clone(), dir.join("not there")]);
    removed.sort();
    assert_eq!(removed, [again, dead, older, unfinished]);
    assert!(alive.path().unwrap().exists() && elsewhere.exists() && young.exists() && note.exists());
}
