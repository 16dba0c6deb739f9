//! One run of the engine as a test makes it, and what its log says.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadgen::engine::config::RunConfig;
use loadgen::engine::{Bodies, Engine, EngineError, Renderings};
use loadgen::record::{Attempt, BlockKind, LogReader, MetaParts, Row, RowBlock, UNSET};
use serde_json::{Value, json};

/// Long enough for any machine; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Wait for what another thread is about to do.
pub fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it never came");
        std::thread::yield_now();
    }
}

/// An engine of one worker on a directory of its own.
pub struct Run {
    pub engine: Engine,
    pub dir: tempfile::TempDir,
}

impl Run {
    pub fn new(url: &str, more: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({
            "url": url, "timeout_s": 30.0, "connect_timeout_s": 5.0, "stall_timeout_s": 20.0, "workers": 1,
            "stream": false, "dir": dir.path(), "meta": {"id": "test"},
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: RunConfig = serde_json::from_value(config).unwrap();
        Self { engine: Engine::start(config).unwrap(), dir }
    }

    pub fn begin(&self, phase: Value) {
        self.begin_with(phase, bodies()).unwrap();
    }

    pub fn begin_with(&self, phase: Value, bodies: impl Into<Renderings>) -> Result<(), EngineError> {
        let mut config = json!({"name": "main", "drain_timeout_s": 30.0});
        config.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
        self.engine.begin(serde_json::from_value(config).unwrap(), bodies)
    }

    pub fn wait(&self) -> Value {
        self.engine.wait(PATIENCE).unwrap().expect("the phase ends in time")
    }

    pub fn phase(&self, phase: Value) -> Value {
        self.begin(phase);
        self.wait()
    }

    /// End the run and read its rows, in the order of their ids.
    pub fn rows(self) -> Vec<(Row, Vec<Attempt>)> {
        self.engine.finish("complete", "").unwrap();
        read(self.dir.path())
    }
}

pub fn bodies() -> Arc<Bodies> {
    let all: Vec<String> = (0..3).map(|i| format!(r#"{{"model":"m","prompt":"p{i}"}}"#)).collect();
    let holes = all.iter().map(|b| (b.len() - 4) as u32).collect();
    Arc::new(Bodies::new(all.iter().map(|b| b.as_bytes()), holes).unwrap())
}

pub fn read(dir: &Path) -> Vec<(Row, Vec<Attempt>)> {
    let mut log = LogReader::open(dir).unwrap();
    let mut rows = Vec::new();
    while let Some(block) = log.next_block().unwrap() {
        if block.kind != BlockKind::Rows {
            continue;
        }
        let mut block = RowBlock::new(&block).unwrap();
        while let Some(view) = block.next_row().unwrap() {
            let attempts = view.attempts().map(Result::unwrap).collect();
            rows.push((view.row, attempts));
        }
    }
    assert_eq!(log.damaged(), 0);
    rows.sort_by_key(|(row, _)| row.id);
    rows
}

pub fn closed(n: u32, requests: u64) -> Value {
    json!({"load": {"kind": "concurrency", "n": n}, "requests": requests})
}

pub fn assert_ordered(row: &Row) {
    let s = row.stamps;
    let set: Vec<u64> = [s.planned, s.issued, s.sent, s.first_byte, s.first_token, s.last_token, s.done]
        .into_iter()
        .filter(|&t| t != UNSET)
        .collect();
    assert!(set.is_sorted(), "{s:?}");
}

/// The log's documents of this event, in order.
pub fn documents(dir: &Path, event: &str) -> Vec<Value> {
    let (mut log, mut parts) = (LogReader::open(dir).unwrap(), MetaParts::default());
    let mut found = Vec::new();
    while let Some(block) = log.next_block().unwrap() {
        if block.kind == BlockKind::Meta
            && let Some(document) = parts.push(&block)
        {
            found.push(document.unwrap());
        }
    }
    found.retain(|document| document["event"] == event);
    found
}
