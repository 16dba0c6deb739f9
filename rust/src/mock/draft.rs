//! An answer laid open: every event, header and framing rule can be changed by a fault before it becomes bytes.
//!
//! Only requests with a fault come this way; the others are told event by event as they fall due.

use super::answer::{End, Reply};
use super::config::{Config, Flavour};
use super::documents;
use super::plan::Plan;
use super::stream::Stream;
use super::voice::{Event, Voice};
use crate::sync::Arc;

/// An answer before it is bytes.
pub(super) struct Draft {
    pub config: Arc<Config>,
    pub voice: Voice,
    pub plan: Plan,
    pub streamed: bool,
    /// When the request got its slot, and when its head is due.
    pub start: u64,
    pub head_due: u64,
    /// Nanoseconds that the fault's rule names.
    pub pause: Option<u64>,
    /// Unix time, for headers with a date.
    pub unix: u64,

    /// Bytes before the head, each entry in a write of its own.
    pub interim: Vec<Vec<u8>>,
    pub version: &'static str,
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    /// What becomes of the head's bytes.
    pub head_as: Option<fn(Vec<u8>) -> Vec<u8>>,

    pub items: Vec<Item>,
    pub lines: Lines,
    /// Before the body's first byte.
    pub prefix: Vec<u8>,
    pub gzip: bool,

    pub framing: Framing,
    /// What the head says of the true length.
    pub length: Option<fn(u64) -> String>,
    pub chunks: Chunks,
    /// After the answer's last byte.
    pub after: Vec<u8>,

    pub cut: Option<(Point, End)>,
    /// Where the answer pauses, and for how many nanoseconds.
    pub stall: Option<(Point, u64)>,
    /// Bytes written at a time, and nanoseconds between two such writes.
    pub grain: Option<(usize, u64)>,
    /// Where to break a write in two.
    pub split: Option<Split>,
    /// All in one write.
    pub joined: bool,
    pub end: End,
}

/// Where a write's bytes are to be broken in two, if anywhere.
pub(super) type Split = fn(&[u8]) -> Option<usize>;

/// One event, or a whole answer's body.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub due: u64,
    pub kind: Kind,
    pub payload: Payload,
    pub tokens: u32,
    /// What follows belongs into the same write.
    pub joins: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Role,
    Token,
    Finish,
    Usage,
    Done,
    /// A body that is no stream.
    Whole,
    /// Put in by a fault.
    Extra,
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// What stands after `data: `.
    Data(Vec<u8>),
    /// Bytes of the body as they are.
    Raw(Vec<u8>),
    /// Too long to keep: an opening, a pattern so often, an end; as they are.
    Long { open: Vec<u8>, pattern: Vec<u8>, times: u64, close: Vec<u8> },
}

/// How events become lines.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// Line ends, used in turn.
    pub ends: &'static [&'static str],
    /// `data: ` or `data:`.
    pub field: &'static str,
    /// Spread the JSON over several `data` lines.
    pub spread: bool,
    /// Lines before each event's data.
    pub before: &'static [&'static str],
    /// One JSON document a line instead of events.
    pub ndjson: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length,
    UntilClose,
    /// The head names both, the body is chunked.
    Both,
}

/// How chunks are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    pub extension: &'static str,
    /// In place of the size of the middle chunk.
    pub bad_size: Option<&'static str>,
    /// Leave out the line end after the middle chunk's data.
    pub no_end: bool,
    pub trailers: &'static str,
    pub no_last: bool,
}

/// A place in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    BeforeHead,
    InHead,
    AfterHead,
    AfterFirstToken,
    /// After half of the token-carrying events, or half of a whole body.
    Middle,
    /// Within the write after that.
    InChunk,
}

impl Draft {
    /// The draft of a good answer.
    pub(super) fn new(config: Arc<Config>, reply: &Reply, stream: Stream, times: Times, streamed: bool) -> Self {
        let (plan, voice) = (stream.plan.clone(), stream.voice.clone());
        let mut draft = Self {
            voice,
            streamed,
            start: times.start,
            head_due: times.head,
            pause: None,
            unix: times.unix,
            interim: Vec::new(),
            version: "HTTP/1.1",
            status: 200,
            headers: Vec::new(),
            head_as: None,
            items: Vec::new(),
            lines: Lines { ends: &["\n"], field: "data: ", spread: false, before: &[], ndjson: false },
            prefix: Vec::new(),
            gzip: false,
            framing: if reply.http10 { Framing::UntilClose } else { Framing::Chunked },
            length: None,
            chunks: Chunks::default(),
            after: Vec::new(),
            cut: None,
            stall: None,
            grain: None,
            split: None,
            joined: config.coalesce,
            end: if reply.keep_alive && !reply.http10 { End::KeepAlive } else { End::Close },
            plan,
            config,
        };
        if streamed {
            if draft.voice.endpoint.is_ollama() {
                draft.header("content-type", "application/x-ndjson");
                draft.lines.ndjson = true;
            } else {
                draft.header("content-type", "text/event-stream; charset=utf-8");
                draft.header("cache-control", "no-cache");
            }
            draft.items = items(stream);
        } else {
            draft.end = if reply.keep_alive { End::KeepAlive } else { End::Close };
            draft.header("content-type", "application/json");
            draft.framing = Framing::Length;
            let due = stream.last_due();
            draft.whole_answer(due);
        }
        if let Some(id) = &reply.request_id {
            draft.header("x-request-id", id);
        }
        if !reply.keep_alive || (reply.http10 && streamed) {
            draft.header("connection", "close");
        } else if reply.http10 {
            draft.header("connection", "keep-alive");
        }
        draft
    }

    /// The imitated server.
    pub(super) fn flavour(&self) -> Flavour {
        self.config.flavour
    }

    /// Add a header.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    /// Change a header, or add it.
    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(key, _)| key != name);
        self.header(name, value);
    }

    /// Answer with a body of this kind instead.
    pub(super) fn replace(&mut self, status: u16, content_type: &str, body: Vec<u8>) {
        self.status = status;
        self.set_header("content-type", content_type);
        self.headers.retain(|(name, _)| name != "cache-control");
        self.framing = Framing::Length;
        self.streamed = false;
        self.set_body(self.start, body, 0);
    }

    /// Answer with an error, as the imitated server words it.
    pub(super) fn refuse(&mut self, status: u16, code: Option<&str>, message: &str) {
        let mut body = Vec::new();
        documents::error(&mut body, self.flavour(), status, code, message);
        self.replace(status, "application/json", body);
    }

    /// The whole answer in place of events.
    pub(super) fn whole_answer(&mut self, due: u64) {
        let mut body = Vec::new();
        let usage = self.config.usage != Some(super::config::Usage::None);
        self.voice.whole(&mut body, self.plan.n, self.plan.total(), self.plan.reason, usage);
        self.set_body(due, body, self.plan.total().completion);
    }

    /// This body, in place of events or of another.
    pub(super) fn set_body(&mut self, due: u64, body: Vec<u8>, tokens: u32) {
        self.items = vec![Item { due, kind: Kind::Whole, payload: Payload::Raw(body), tokens, joins: false }];
        self.head_due = due;
    }

    /// Put an item before each one that `wanted` picks.
    pub(super) fn insert_before(&mut self, wanted: fn(Kind) -> bool, make: impl Fn(&Self, &Item) -> Payload) {
        let items = std::mem::take(&mut self.items);
        for item in items {
            if wanted(item.kind) {
                let payload = make(self, &item);
                self.items.push(Item { payload, kind: Kind::Extra, tokens: 0, joins: true, ..item });
            }
            self.items.push(item);
        }
    }

    /// Change the JSON of every item that carries text.
    pub(super) fn each_json(&mut self, mut change: impl FnMut(&mut Vec<u8>)) {
        for item in self.items.iter_mut().filter(|item| matches!(item.kind, Kind::Token | Kind::Whole)) {
            if let Payload::Data(json) | Payload::Raw(json) = &mut item.payload {
                change(json);
            }
        }
    }

    /// The middle one of the token-carrying items, or the only body.
    pub(super) fn middle(&self) -> Option<usize> {
        let carrying: Vec<usize> =
            (0..self.items.len()).filter(|at| matches!(self.items[*at].kind, Kind::Token | Kind::Whole)).collect();
        carrying.get(carrying.len() / 2).copied()
    }
}

/// The moments a draft is built around.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub start: u64,
    pub head: u64,
    pub unix: u64,
}

/// Every event of a stream.
fn items(mut stream: Stream) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(due) = stream.next_due() {
        let mut json = Vec::new();
        let told = stream.tell(&mut json);
        let kind = match told.event {
            Event::Role { .. } => Kind::Role,
            Event::Token { .. } => Kind::Token,
            Event::Finish { .. } => Kind::Finish,
            Event::Usage { .. } => Kind::Usage,
            Event::Done => Kind::Done,
        };
        items.push(Item { due, kind, payload: Payload::Data(json), tokens: told.tokens, joins: told.joins });
    }
    items
}
