//! What live metrics cost: a record with nobody looking and with a reader in another process, a snapshot, a segment's size.
//!
//!     cargo bench --profile bench-fast --bench series            a few seconds
//!     cargo bench --profile bench-fast --bench series -- stress  one writer, three readers, 200 million values
//!
//! Times are of the thread's own work, the best and the median of the rounds in nanoseconds or microseconds.
#![allow(clippy::unwrap_used, reason = "a bench that can't go on has nothing to say")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hdrhistogram::Histogram;
use loadgen::series::{Bounds, Detail, Kind, Reader, Segment, Series, Spec, State};

const VALUES: usize = 1 << 16;
const ROUNDS: usize = 101;
const SERIES: usize = 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["read", dir] => watch(Path::new(dir)),
        ["stress"] => stress(),
        _ => measure(),
    }
}

fn measure() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let home = dir.path().join("loadgen");
    let segment = Segment::create("bench", std::slice::from_ref(&home), 0).unwrap();
    let specs: Vec<Spec> = (0..SERIES).map(|n| spec(&format!("s{n}"))).collect();
    let entries = segment.register(&specs).unwrap();
    let writers: Vec<Vec<Series>> = entries.iter().map(|entry| entry.series()).collect();
    let values = values();

    let record = || rounds(VALUES, || values.iter().for_each(|&v| writers[0][0].record(v)));
    println!("record, nobody looks            {}", record());
    let mut reader = start_reader(&home);
    println!("record, a reader looks all time {}", record());
    reader.kill().unwrap();
    reader.wait().unwrap();
    let mut hdr = Histogram::<u64>::new_with_bounds(1_000, 3_600_000_000_000, 3).unwrap();
    println!(
        "hdrhistogram's record (peer)    {}",
        rounds(VALUES, || values.iter().for_each(|&v| hdr.record(v).unwrap()))
    );
    let bounds = Bounds::TIMES;
    let mut buckets = vec![0u64; bounds.buckets()];
    let own = rounds(VALUES, || values.iter().for_each(|&v| buckets[std::hint::black_box(bounds.index(v))] += 1));
    println!("our bucket array alone          {own}");

    writers.iter().flatten().for_each(|w| values.iter().for_each(|&v| w.record(v)));
    let mut reader = Reader::attach(segment.path().unwrap()).unwrap();
    // A thousandth of a snapshot's nanoseconds: microseconds.
    let look = rounds(1_000, || {
        std::hint::black_box(reader.snapshot(&Detail::default()).unwrap());
    });
    println!("snapshot, 20 series × 2 workers, two decades: {look} (µs)");
    let json = rounds(1_000, || {
        let seen = reader.snapshot(&Detail::default()).unwrap();
        std::hint::black_box(serde_json::to_string(&seen).unwrap());
    });
    println!("the same as JSON:                             {json} (µs)");
    let bytes = std::fs::metadata(segment.path().unwrap()).unwrap().len();
    println!("segment of 20 series × 2 workers: {:.2} MB", bytes as f64 / 1e6);
}

/// One writer for as long as it takes, three readers that check every look; panics on the first torn one.
fn stress() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("loadgen");
    let segment = Segment::create("bench", std::slice::from_ref(&home), 0).unwrap();
    let entry = segment.register(&[Spec { shards: 1, ..spec("s0") }]).unwrap().remove(0);
    let writer = entry.series().remove(0);
    let mut readers: Vec<Child> = (0..3).map(|_| start_reader(&home)).collect();
    let started = Instant::now();
    (0..200_000_000u64).for_each(|n| writer.record(1_000_000 + n));
    segment.advance(State::Complete).unwrap();
    println!("200 million values in {:.1} s", started.elapsed().as_secs_f64());
    for reader in &mut readers {
        assert!(reader.wait().unwrap().success(), "a reader saw a torn state");
    }
}

fn start_reader(home: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("read").arg(home).stdout(Stdio::inherit()).spawn().unwrap()
}

/// Look until the run ends. With values that grow by one each, every whole state is known from its count.
fn watch(home: &Path) {
    let mut reader = Reader::find("bench", &[home.to_path_buf()]).unwrap();
    let mut looks = 0u64;
    while !reader.state().is_last() && reader.is_alive() {
        let seen = reader.snapshot(&Detail::default()).unwrap();
        if let [one] = &seen.series[..] {
            let n = u128::from(one.count);
            assert_eq!((one.total, one.torn), (n * 1_000_000 + n * n.saturating_sub(1) / 2, 0), "torn: {one:?}");
            assert!(one.histogram.counts.iter().sum::<u64>() >= one.count);
        }
        looks += 1;
    }
    println!("{looks} looks, each whole");
}

fn spec(name: &str) -> Spec {
    let kind = Kind::Series(Bounds::TIMES);
    Spec { name: name.into(), unit: "ns".into(), help: String::new(), kind, phase: None, shards: 2 }
}

/// Two decades, evenly by their logarithm: 1 ms to 100 ms.
fn values() -> Vec<u64> {
    let mut state = 7u64;
    (0..VALUES)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (1e6 * 100f64.powf((state >> 11) as f64 / (1u64 << 53) as f64)) as u64
        })
        .collect()
}

/// Best and median of the rounds, per step.
fn rounds(steps: usize, mut round: impl FnMut()) -> String {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            round();
            started.elapsed().as_nanos() as f64 / steps as f64
        })
        .collect();
    all.sort_by(f64::total_cmp);
    format!("{:7.2} {:7.2}", all[0], all[ROUNDS / 2])
}
