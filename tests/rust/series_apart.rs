//! A run and those who look at it, each in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use super::*;

/// So many values each stress test records; `make stress` asks for more.
fn values() -> u64 {
    std::env::var("LOADGEN_STRESS_VALUES").map_or(400_000, |told| told.parse().unwrap())
}

/// The first of them; each later one is larger by one.
const BASE: u64 = 1_000_000;

/// Start this test binary again as `helper`, with `dir` and `values`.
fn helper(helper: &str, dir: &Path, values: u64) -> Child {
    let mut command = this_binary();
    let (_, room) = module_path!().split_once("::").unwrap();
    let name = format!("{room}::{helper}");
    command.args(["--exact", &name, "--ignored", "--nocapture", "--quiet"]);
    command.env("LOADGEN_TEST_DIR", dir).env("LOADGEN_TEST_VALUES", values.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// This test binary; where the machine can't start it itself, by what cargo was told to start it with.
fn this_binary() -> Command {
    let binary = std::env::current_exe().unwrap();
    match std::env::var_os("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER") {
        Some(runner) if cfg!(target_arch = "aarch64") => {
            let mut command = Command::new(runner);
            command.arg(binary);
            command
        }
        _ => Command::new(binary),
    }
}

fn helper_dir() -> PathBuf {
    std::env::var_os("LOADGEN_TEST_DIR").expect("started by another test").into()
}

fn helper_values() -> u64 {
    std::env::var("LOADGEN_TEST_VALUES").unwrap().parse().unwrap()
}

/// Read the helper's lines until the one that begins with `word`.
fn wait_for(lines: &mut impl BufRead, word: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the helper ended before it said {word}");
        // The harness writes before it on the same line.
        if let Some(at) = line.find(word) {
            return line[at..].trim().to_owned();
        }
    }
}

/// Read a helper to its end, which must be a good one, with a line that begins with `word`.
fn finish(mut child: Child, word: &str) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let line = wait_for(&mut lines, word);
    drop(child.stdin.take());
    // The harness would fail on a pipe that nobody reads.
    lines.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
    line
}

fn record_all(writer: &Series, values: u64) {
    (0..values).for_each(|n| writer.record(BASE + n));
}

/// What `count` values in a row must add up to; anything else is a torn read.
fn check_whole(stat: &SeriesStat) {
    let n = u128::from(stat.count);
    assert_eq!(stat.total, n * u128::from(BASE) + n * n.saturating_sub(1) / 2, "{stat:?}");
    assert_eq!(stat.min, (n > 0).then_some(BASE));
    assert_eq!(stat.max, (n > 0).then(|| BASE + stat.count - 1));
    let variance = n as f64 * (n as f64 + 1.0) / 12.0;
    let expected = if n < 2 { 0.0 } else { variance.sqrt() };
    assert!((stat.std.unwrap() - expected).abs() <= expected * 1e-9, "{stat:?}");
    let seen = stat.histogram.counts.iter().sum::<u64>();
    assert!(seen >= stat.count, "{seen} in the histogram of {} values", stat.count);
}

/// Look until the run has ended; how many looks, each of them whole and none behind the one before.
fn watch(path: &Path) -> u64 {
    let mut reader = Reader::attach(path).unwrap();
    let (mut looks, mut last) = (0, 0);
    loop {
        let seen = reader.snapshot(&Detail::default()).unwrap();
        let ended = seen.state.is_last();
        if seen.series.iter().any(|stat| stat.torn > 0) {
            // The reader says itself that it could not see the whole: a writer may lose its core inside for longer than
            // a reader waits. At rest there is no such excuse.
            assert!(!ended, "torn at rest");
            continue;
        }
        seen.series.iter().for_each(check_whole);
        let count = seen.series.first().map_or(0, |s| s.count);
        assert!(count >= last, "{count} after {last}");
        (looks, last) = (looks + 1, count);
        if ended {
            assert_eq!(seen.series[0].histogram.counts.iter().sum::<u64>(), last, "at rest they are equal");
            return looks;
        }
    }
}

#[test]
#[ignore = "a process of the stress tests"]
fn reading_helper() {
    println!("LOOKS {}", watch(&helper_dir().join("run-1.series")));
}

#[test]
#[ignore = "a process of the stress tests"]
fn writing_helper() {
    let segment = create(&helper_dir());
    let writers = one(&segment, times("ttft", Some(0), 1)).series();
    println!("READY");
    record_all(&writers[0], helper_values());
    segment.advance(State::Complete).unwrap();
    println!("WRITTEN");
    // Until the parent closes the pipe, or kills.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[ignore = "a process of the tests of full memory"]
fn full_helper() {
    let dir = helper_dir();
    let segment = create(&dir);
    let before = one(&segment, counter("before", None, 1)).counters();
    let bytes = fs::metadata(segment.path().unwrap()).unwrap().len();
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: sets a limit and ignores a signal, of this process that runs nothing else.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
    let after = one(&segment, times("after", None, 1)).series();
    before[0].add(1);
    after[0].record(5_000_000);
    let own = segment.snapshot(&Detail::default());
    assert_eq!((own.counters[0].value, own.series[0].count), (1, 1));
    let others = Reader::attach(segment.path().unwrap()).unwrap().snapshot(&Detail::default()).unwrap();
    assert_eq!((others.counters[0].value, others.series.len()), (1, 0));
    assert!(segment.notes()[0].contains("no other process can look at after"), "{:?}", segment.notes());
    let elsewhere = Segment::create("run-2", &[dir], 1 << 20).unwrap();
    assert!(elsewhere.path().is_none() && elsewhere.notes().len() == 2, "{:?}", elsewhere.notes());
    println!("SURVIVED");
}

#[test]
fn a_run_goes_on_where_no_more_memory_can_be_shared() {
    let (_outer, dir) = private();
    finish(helper("full_helper", &dir, 0), "SURVIVED");
    assert!(list(&[dir]).is_empty(), "nothing is left");
}

#[test]
fn readers_in_other_processes_see_every_state_whole_and_may_be_killed() {
    let (_outer, dir) = private();
    let segment = create(&dir);
    let writers = one(&segment, times("ttft", Some(0), 1)).series();
    let mut readers: Vec<Child> = (0..3).map(|_| helper("reading_helper", &dir, 0)).collect();
    record_all(&writers[0], values() / 2);
    readers[0].kill().unwrap();
    readers[0].wait().unwrap();
    (values() / 2..values()).for_each(|n| writers[0].record(BASE + n));
    segment.advance(State::Complete).unwrap();
    for child in readers.drain(1..) {
        assert_ne!(finish(child, "LOOKS"), "LOOKS 0");
    }
}

#[test]
fn a_reader_of_a_run_in_another_process_sees_every_state_whole() {
    let (_outer, dir) = private();
    let mut child = helper("writing_helper", &dir, values());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    wait_for(&mut lines, "READY");
    assert!(watch(&dir.join("run-1.series")) > 0);
    drop(child.stdin.take());
    lines.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(list(&[dir]).is_empty());
}

#[test]
fn a_killed_run_is_said_to_be_dead_and_its_numbers_stay_readable() {
    let (_outer, dir) = private();
    for _ in 0..5 {
        let mut child = helper("writing_helper", &dir, u64::MAX / 4);
        wait_for(&mut BufReader::new(child.stdout.take().unwrap()), "READY");
        let path = dir.join("run-1.series");
        let mut reader = Reader::attach(&path).unwrap();
        while reader.snapshot(&Detail::default()).unwrap().series[0].count < 10_000 {}
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = reader.snapshot(&Detail::default()).unwrap();
        assert_eq!((seen.alive, seen.state), (false, State::Live));
        let stat = &seen.series[0];
        assert!(stat.count >= 10_000);
        match stat.torn {
            0 => check_whole(stat),
            torn => assert_eq!(torn, 1),
        }
        assert_eq!(clean(from_ref(&dir)), [path]);
    }
}
