//! What the record costs: bytes of the log, CPU of shard and writer, and the time and memory of a report.
//!
//! `cargo bench --bench record [-- SHAPE…]` with shapes `answers` (a million small answers), `streams` (100,000
//! streams of 128 events, each in a read of its own), `coalesced` (the same, eight events a read) and `million` (streams;
//! only when named).

#![allow(clippy::unwrap_used)]

mod cpu;

use std::fs;
use std::path::Path;
use std::time::Instant;

use loadgen::clock::{Anchor, now_ns};
use loadgen::record::{Finish, LogHeader, LogStats, LogWriter, Read, ReadList, Row, Stamps, TokenSource};
use loadgen::stats::{Options, summarise};
use serde_json::json;

/// Requests made at a time.
const BATCH: usize = 1_000;

struct Shape {
    name: &'static str,
    requests: u64,
    reads: u32,
    chunks_per_read: u32,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "answers", requests: 1_000_000, reads: 0, chunks_per_read: 0 },
    Shape { name: "streams", requests: 100_000, reads: 128, chunks_per_read: 1 },
    Shape { name: "coalesced", requests: 100_000, reads: 16, chunks_per_read: 8 },
    // For memory; only when it is named.
    Shape { name: "million", requests: 1_000_000, reads: 128, chunks_per_read: 1 },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!(
        "shape       bytes/request  bytes/chunk  shard ns/request  writer CPU/shard CPU  report s (CPU s) on 1 thread, on 2  peak MB"
    );
    for shape in SHAPES.iter().filter(|shape| match wanted.is_empty() {
        true => shape.name != "million",
        false => wanted.iter().any(|name| name == shape.name),
    }) {
        let dir = tempfile::tempdir().unwrap();
        let (shard_cpu_ns, stats) = write(dir.path(), shape);
        let chunks = shape.requests * u64::from(shape.reads * shape.chunks_per_read);
        let report = |threads: usize| {
            let (started, began) = (Instant::now(), cpu::process_ns());
            let summary = summarise(dir.path(), &Options { threads, ..Options::default() }).unwrap();
            assert_eq!(summary.phases[0].counts.ok, shape.requests);
            format!("{:.3} ({:.3})", started.elapsed().as_secs_f64(), (cpu::process_ns() - began) as f64 / 1e9)
        };
        reset_peak();
        let (one, two) = (report(1), report(2));
        println!(
            "{:<11} {:>13.1} {:>12} {:>17.0} {:>21.3}  {one}, {two} {:>8.1}",
            shape.name,
            stats.bytes as f64 / shape.requests as f64,
            if chunks > 0 { format!("{:.2}", stats.bytes as f64 / chunks as f64) } else { "–".to_owned() },
            shard_cpu_ns as f64 / shape.requests as f64,
            stats.writer_cpu_ns as f64 / shard_cpu_ns as f64,
            peak_mb(),
        );
    }
}

/// Write a log of `shape`; the CPU time spent in the shard, and the writer's account.
fn write(dir: &Path, shape: &Shape) -> (u64, LogStats) {
    let header = LogHeader { anchor: Anchor::now(), session: "bench".to_owned(), meta: json!({}) };
    let writer = LogWriter::create(dir, &header, false).unwrap();
    let mut shard = writer.shard(0);
    let (mut random, mut reads) = (Random(7), ReadList::new());
    writer
        .meta(&json!({"event": "phase_start", "phase": 0, "ns": now_ns(), "config": {"name": "performance"}}))
        .unwrap();
    let (mut start, mut cpu_ns) = (now_ns(), 0);
    for first in (0..shape.requests).step_by(BATCH) {
        // What the engine would have at hand is made before the clock starts.
        let batch: Vec<(Row, Vec<Read>)> = (first..first + BATCH as u64)
            .map(|id| {
                start += 1_000 + random.below(200_000);
                request(id, start, shape, &mut random)
            })
            .collect();
        let before = cpu::thread_ns();
        for (row, all) in &batch {
            reads.clear();
            all.iter().for_each(|read| reads.push(read));
            shard.push(row, &reads, &[]);
        }
        shard.counters(first + BATCH as u64, 0);
        shard.flush_if_due(now_ns());
        cpu_ns += cpu::thread_ns() - before;
    }
    shard.flush();
    writer.meta(&json!({"event": "run_end", "ns": start, "status": "complete", "reason": ""})).unwrap();
    (cpu_ns, writer.finish().unwrap())
}

fn request(id: u64, planned: u64, shape: &Shape, random: &mut Random) -> (Row, Vec<Read>) {
    let ttft = 40_000_000 + random.below(20_000_000);
    let mut delta = |i: u32| if i == 0 { ttft } else { 9_500_000 + random.below(1_000_000) };
    let chunks = shape.chunks_per_read;
    let reads: Vec<Read> =
        (0..shape.reads).map(|i| Read { delta_ns: delta(i), events: chunks, chunks, tokens: 0 }).collect();
    let gaps = reads.iter().skip(1).map(|read| read.delta_ns).sum();
    (row(id, planned, ttft, gaps, shape, random), reads)
}

fn row(id: u64, planned: u64, ttft: u64, gaps: u64, shape: &Shape, random: &mut Random) -> Row {
    let (issued, sent) = (planned + random.below(2_000), planned + 2_000 + random.below(5_000));
    let streamed = shape.reads > 0;
    let first = sent + ttft;
    let (token, last) = if streamed { (first, first + gaps) } else { (0, 0) };
    let done = if streamed { last + 20_000 + random.below(9_000) } else { first };
    let stamps = Stamps {
        planned,
        free: 0,
        issued,
        sent,
        first_byte: first,
        first_token: token,
        first_output: token,
        last_token: last,
        done,
    };
    let chunks = shape.reads * shape.chunks_per_read;
    Row {
        id,
        sample: id * 7 % 1_319,
        node: Some(0),
        stamps,
        status: 200,
        finish: Finish::Stop,
        streamed,
        tokens_in: Some(40 + random.below(200) as u32),
        tokens_out: Some(chunks.max(16)),
        token_source: TokenSource::Usage,
        events: chunks + 2,
        chunks,
        bytes_in: 400 + u64::from(chunks) * 180 + random.below(60),
        bytes_out: 500 + random.below(900),
        ..Row::default()
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Linux forgets its peak on request (proc(5), clear_refs).
fn reset_peak() {
    // Elsewhere the peak is that of the whole bench.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kb.map_or(f64::NAN, |kb| kb / 1e3)
}
