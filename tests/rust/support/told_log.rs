//! A run's log as a test tells it, row by row, and what its summary says.

use std::path::Path;

use loadgen::clock::Anchor;
use loadgen::record::{Detail, Failure, Finish, LogHeader, LogWriter, Read, ReadList, Row, Shard, Stamps, TokenSource};
use loadgen::stats::{Options, Summary, summarise};
use serde_json::{Value, json};

pub const S: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;

/// A request with its reads, early ones apart.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub row: Row,
    pub reads: Vec<Read>,
}

/// A log in the making.
pub struct Log {
    pub dir: tempfile::TempDir,
    pub writer: LogWriter,
    pub shards: Vec<Shard>,
}

impl Log {
    pub fn new(workers: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let header = LogHeader {
            anchor: Anchor { mono_ns: S, wall_ns: 1_700_000_000 * S },
            session: "7f3a".to_owned(),
            meta: json!({"id": "7f3a"}),
        };
        let writer = LogWriter::create(dir.path(), &header, false).unwrap();
        let shards = (0..workers).map(|worker| writer.shard(worker)).collect();
        Self { dir, writer, shards }
    }

    pub fn begin(&self, phase: u16, config: Value) {
        self.meta(json!({"event": "phase_start", "phase": phase, "ns": S, "config": config}));
    }

    pub fn end(&self, phase: u16, issued: u64) {
        let end = json!({
            "event": "phase_end", "phase": phase, "ns": 9 * S, "start_ns": S, "issue_end_ns": 8 * S,
            "reason": "requests", "counts": {"issued": issued}, "usage_refused": false, "never_issued": 0,
        });
        self.meta(end);
    }

    pub fn meta(&self, event: Value) {
        self.writer.meta(&event).unwrap();
    }

    pub fn push(&mut self, told: &Told) {
        let mut list = ReadList::new();
        let half = told.reads.len() / 2;
        for (i, read) in told.reads.iter().enumerate() {
            // Long ones leave half of their reads early, as the engine does.
            if i == half && half > 10 {
                let shard = &mut self.shards[usize::from(told.row.worker)];
                shard.spill(told.row.id, told.row.phase, &mut list);
            }
            list.push(read);
        }
        self.shards[usize::from(told.row.worker)].push(&told.row, &list, &[]);
    }

    pub fn finish(mut self) -> tempfile::TempDir {
        self.meta(json!({"event": "run_end", "ns": 10 * S, "status": "complete", "reason": ""}));
        self.shards.iter_mut().for_each(Shard::flush);
        self.writer.finish().unwrap();
        self.dir
    }

    /// End it as a kill does: no documents, no flush of what is gathered.
    pub fn kill(self) -> tempfile::TempDir {
        self.writer.finish().unwrap();
        self.dir
    }
}

pub fn one(dir: &Path, options: Options) -> (Summary, Value) {
    let summary = summarise(dir, &options).unwrap();
    let phase = serde_json::to_value(&summary.phases[0]).unwrap();
    (summary, phase)
}

/// A good stream: sent at `sent`, first token after `ttft`, then `gaps` between chunks.
pub fn stream(id: u64, sent: u64, ttft: u64, gaps: &[u64]) -> Told {
    let first = sent + ttft;
    let last = first + gaps.iter().sum::<u64>();
    let stamps = Stamps {
        planned: sent - 3_000,
        free: 0,
        issued: sent - 1_000,
        sent,
        first_byte: first - 10_000,
        first_token: first,
        first_output: first,
        last_token: last,
        done: last + 50_000,
    };
    let chunks = gaps.len() as u32 + 1;
    let row = Row {
        id,
        sample: id % 7,
        stamps,
        status: 200,
        finish: Finish::Stop,
        streamed: true,
        tokens_in: Some(10),
        tokens_out: Some(chunks),
        token_source: TokenSource::Usage,
        events: chunks + 2,
        chunks,
        bytes_in: 1_000,
        bytes_out: 300,
        ..Row::default()
    };
    let delta = [ttft].into_iter().chain(gaps.iter().copied());
    let reads = delta.map(|delta_ns| Read { delta_ns, events: 1, chunks: 1, tokens: 0 }).collect();
    Told { row, reads }
}

pub fn failed(id: u64, sent: u64, failure: Failure, status: u16, detail: Detail) -> Told {
    let mut told = stream(id, sent, 5 * MS, &[]);
    told.row = Row { failure, status, detail, streamed: false, chunks: 0, ..told.row };
    told.reads.clear();
    told
}
