//! The first look at a log: its documents, texts and running counters, without a single row.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::effort::Effort;
use crate::record::{
    BlockKind, Damage, Entries, Entry, LogError, LogReader, MetaParts, ReaderHeader, SESSION_WORKER, TextKind,
};

/// Error texts kept, and bytes of each.
const MAX_TEXTS: usize = 1_000;
const MAX_TEXT: usize = 400;

/// A phase as its documents tell of it.
#[derive(Clone, Debug, Default)]
pub(super) struct PhaseOutline {
    /// The configuration as the engine had it.
    pub config: Value,
    /// `phase_start`'s moment.
    pub begun_ns: Option<u64>,
    /// Id of its first request.
    pub first_id: Option<u64>,
    /// The `phase_end` document.
    pub end: Option<Value>,
    /// What the run cost meanwhile.
    pub effort: Effort,
}

impl PhaseOutline {
    /// Its name; `None` when the log no longer tells.
    pub fn name(&self) -> Option<&str> {
        self.config.get("name")?.as_str()
    }

    /// Where the phase's time starts: the moment its load began.
    pub fn origin_ns(&self) -> Option<u64> {
        self.end_field("start_ns").or(self.begun_ns)
    }

    /// How many nodes its requests went to.
    pub fn nodes(&self) -> u16 {
        let told = self.config.get("request").and_then(|request| request.get("nodes")?.as_array());
        told.and_then(|nodes| u16::try_from(nodes.len()).ok()).unwrap_or(1)
    }

    /// A number of the `phase_end` document.
    pub fn end_field(&self, name: &str) -> Option<u64> {
        self.end.as_ref()?.get(name)?.as_u64()
    }

    /// Requests that it issued at least, when the phase after it starts with the id `next`. In a closed loop each id
    /// taken from the plan went out; in an open one each worker may have kept one that was not yet due.
    pub fn issued_before(&self, next: u64, workers: u64) -> Option<u64> {
        if self.load_kind() == Some("dispatch") {
            // A policy has ids in line that it may never start.
            return None;
        }
        let kept = if self.is_open_loop() == Some(false) { 0 } else { workers };
        next.checked_sub(self.first_id?)?.checked_sub(kept)
    }

    /// Whether the plan had moments of its own; `None` when the log no longer tells.
    pub fn is_open_loop(&self) -> Option<bool> {
        Some(!matches!(self.load_kind()?, "concurrency" | "manual" | "dispatch"))
    }

    fn load_kind(&self) -> Option<&str> {
        self.config.get("load")?.get("kind")?.as_str()
    }
}

/// Everything a log tells beside its rows.
#[derive(Debug)]
pub(super) struct Outline {
    pub header: ReaderHeader,
    /// The run's own description.
    pub meta: Value,
    /// Phases by index.
    pub phases: BTreeMap<u16, PhaseOutline>,
    /// The `run_end` document.
    pub run_end: Option<Value>,
    /// Error texts by request.
    pub texts: BTreeMap<u64, String>,
    /// Each worker's last counters: issued, in flight.
    pub counters: BTreeMap<u16, (u64, u64)>,
    /// Whether reads of long streams went ahead of their rows.
    pub early_reads: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Damaged places met: every broken head, and broken payloads of documents and texts.
    pub damage: Vec<Damage>,
}

impl Outline {
    /// Look through the log in `dir`.
    pub fn read(dir: &Path) -> Result<Self, LogError> {
        let mut reader = LogReader::open(dir)?;
        let mut outline = Self {
            header: reader.header().clone(),
            meta: Value::Null,
            phases: BTreeMap::new(),
            run_end: None,
            texts: BTreeMap::new(),
            counters: BTreeMap::new(),
            early_reads: false,
            bytes: reader.bytes()?,
            damage: Vec::new(),
        };
        let (mut parts, mut last_tick) = (MetaParts::default(), None);
        let (counters, early_reads) = (&mut outline.counters, &mut outline.early_reads);
        let mut collected = Collected::default();
        loop {
            let block = reader.next_wanted(|head| {
                if head.worker != SESSION_WORKER {
                    counters.insert(head.worker, (head.issued, head.in_flight));
                }
                *early_reads |= head.kind == BlockKind::Reads;
                matches!(head.kind, BlockKind::Meta | BlockKind::Text)
            })?;
            let Some(block) = block else { break };
            if block.kind == BlockKind::Text {
                collected.texts(Entries::new(&block).flatten());
            } else if let Some(Ok(document)) = parts.push(&block) {
                collected.document(document, &mut last_tick);
            }
        }
        let Collected { meta, phases, run_end, texts, .. } = collected;
        Ok(Self { meta, phases, run_end, texts, damage: reader.damage().to_vec(), ..outline })
    }
}

/// What the documents and texts say, as they come.
#[derive(Default)]
struct Collected {
    meta: Value,
    phases: BTreeMap<u16, PhaseOutline>,
    run_end: Option<Value>,
    texts: BTreeMap<u64, String>,
    /// Requests whose next piece of text still belongs to what is kept.
    unfinished: BTreeMap<u64, Vec<u8>>,
}

impl Collected {
    fn document(&mut self, mut document: Value, last_tick: &mut Option<Value>) {
        let phase = document.get("phase").and_then(Value::as_u64).and_then(|index| u16::try_from(index).ok());
        match (document.get("event").and_then(Value::as_str), phase) {
            (Some("run_start"), _) => self.meta = document["meta"].take(),
            (Some("phase_start"), Some(index)) => {
                let phase = self.phases.entry(index).or_default();
                phase.begun_ns = document["ns"].as_u64();
                phase.first_id = document["first_id"].as_u64();
                phase.config = document["config"].take();
            }
            (Some("phase_end"), Some(index)) => self.phases.entry(index).or_default().end = Some(document),
            (Some("tick"), _) => {
                // What passed since the last tick belongs to the phase that was on at that one.
                let before = last_tick.as_ref().and_then(|t| Some((u16::try_from(t["phase"].as_u64()?).ok()?, t)));
                if let Some((index, before)) = before {
                    self.phases.entry(index).or_default().effort.add(before, &document);
                }
                *last_tick = Some(document);
            }
            (Some("run_end"), _) => self.run_end = Some(document),
            // An event of a newer version.
            _ => {}
        }
    }

    fn texts<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) {
        for entry in entries {
            let Entry::Text { request, kind: TextKind::Error, more, bytes } = entry else { continue };
            if self.texts.len() >= MAX_TEXTS {
                return;
            }
            let mut text = self.unfinished.remove(&request).unwrap_or_default();
            text.extend_from_slice(&bytes[..bytes.len().min(MAX_TEXT - text.len())]);
            if more {
                self.unfinished.insert(request, text);
            } else {
                self.texts.insert(request, String::from_utf8_lossy(&text).into_owned());
            }
        }
    }
}
