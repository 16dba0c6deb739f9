//! An answer laid open: every event, header and framing rule can be changed by a fault before it becomes bytes.
//!
//! Only requests with a fault come this way; the others are told event by event as they fall due.

use super::answer::{Answer, Data, End, Reply, Step, put_chunk_size, reason};
use super::config::{Config, Flavour};
use super::stream::{Plan, Stream};
use super::voice::{self, Event, Voice, put, put_number};
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
        voice::error(&mut body, self.flavour(), status, code, message);
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

    // ------------------------------------------------------------------ to bytes

    /// The bytes and when they are due.
    pub(super) fn into_answer(mut self) -> Answer {
        let mut body = self.body_steps();
        self.add_end(&mut body);
        let mut steps: Vec<Step> =
            std::mem::take(&mut self.interim).into_iter().map(|bytes| Step::plain(self.head_due, bytes)).collect();
        let heads_from = steps.len();
        let head = self.head(&body);
        let alone = matches!(self.framing, Framing::Length) && !self.streamed || self.grain.is_some();
        match body.first_mut().filter(|first| first.due <= self.head_due || alone) {
            Some(Step { due, data: Data::Bytes { bytes, .. }, .. }) if self.cut_is_later() => {
                *due = (*due).max(self.head_due);
                bytes.splice(0..0, head);
            }
            _ => steps.push(Step::plain(self.head_due, head)),
        }
        steps.extend(body);
        if let Some((point, end)) = self.cut {
            cut(&mut steps, point, heads_from);
            self.end = end;
        }
        self.delay(&mut steps, heads_from);
        self.write_as_asked(&mut steps);
        Answer::script(steps, self.end)
    }

    /// Whether head and first piece may share a write although the answer is cut or stalls somewhere.
    fn cut_is_later(&self) -> bool {
        let places = self.cut.map(|(point, _)| point).into_iter().chain(self.stall.map(|(point, _)| point));
        places.into_iter().all(|point| !matches!(point, Point::InHead | Point::AfterHead))
    }

    fn head(&self, body: &[Step]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.version);
        put(&mut out, " ");
        put_number(&mut out, u64::from(self.status));
        put(&mut out, " ");
        put(&mut out, reason(self.status));
        put(&mut out, "\r\n");
        for (name, value) in &self.headers {
            put(&mut out, name);
            put(&mut out, ": ");
            out.extend_from_slice(value);
            put(&mut out, "\r\n");
        }
        if matches!(self.framing, Framing::Chunked | Framing::Both) {
            put(&mut out, "transfer-encoding: chunked\r\n");
        }
        if matches!(self.framing, Framing::Length | Framing::Both) || self.length.is_some() {
            put(&mut out, "content-length: ");
            // A body without end is as long as can be said.
            let length = body.iter().fold(0_u64, |sum, step| sum.saturating_add(step.data.len()));
            put(&mut out, &self.length.unwrap_or(|length| length.to_string())(length - self.after.len() as u64));
            put(&mut out, "\r\n");
        }
        put(&mut out, "\r\n");
        match self.head_as {
            Some(change) => change(out),
            None => out,
        }
    }

    fn chunked(&self) -> bool {
        matches!(self.framing, Framing::Chunked | Framing::Both)
    }

    /// The body's steps, framed.
    fn body_steps(&mut self) -> Vec<Step> {
        let mut pieces: Vec<(Item, Vec<u8>)> = Vec::new();
        let mut end = 0;
        for item in std::mem::take(&mut self.items) {
            let bytes = match &item.payload {
                Payload::Data(json) => self.lines.write(json, &mut end),
                Payload::Raw(bytes) => bytes.clone(),
                Payload::Long { open, .. } => open.clone(),
            };
            pieces.push((item, bytes));
        }
        if let Some((_, first)) = pieces.first_mut() {
            first.splice(0..0, std::mem::take(&mut self.prefix));
        }
        if self.gzip {
            pieces = gzipped(pieces);
        }
        let middle = pieces.len() / 2;
        let mut steps: Vec<Step> = Vec::new();
        let mut joins = false;
        for (n, (item, bytes)) in pieces.into_iter().enumerate() {
            let framed = if self.chunked() { self.chunk(&bytes, n == middle) } else { bytes };
            let counts = (u32::from(item.kind == Kind::Token && item.tokens > 0), item.tokens);
            match steps.last_mut() {
                Some(last) if joins || (self.joined && last.due == item.due) => last.append(&framed, counts),
                _ => steps.push(Step { chunks: counts.0, tokens: counts.1, ..Step::plain(item.due, framed) }),
            }
            joins = item.joins;
            if let Payload::Long { pattern, times, close, .. } = item.payload {
                let pattern = if self.chunked() { self.chunk(&pattern, false) } else { pattern };
                let data = Data::Repeat { pattern: pattern.into(), times };
                steps.push(Step { data, ..Step::plain(item.due, Vec::new()) });
                let close = if self.chunked() { self.chunk(&close, false) } else { close };
                steps.push(Step::plain(item.due, close));
            }
        }
        steps
    }

    fn chunk(&self, bytes: &[u8], middle: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        match self.chunks.bad_size.filter(|_| middle) {
            Some(bad) => put(&mut out, bad),
            None => put_chunk_size(&mut out, bytes.len()),
        }
        put(&mut out, self.chunks.extension);
        put(&mut out, "\r\n");
        out.extend_from_slice(bytes);
        put(&mut out, if self.chunks.no_end && middle { "" } else { "\r\n" });
        out
    }

    /// The last chunk, and what comes after the end.
    fn add_end(&self, steps: &mut Vec<Step>) {
        let mut out = Vec::new();
        if self.chunked() && !self.chunks.no_last {
            put(&mut out, "0\r\n");
            put(&mut out, self.chunks.trailers);
            put(&mut out, "\r\n");
        }
        out.extend_from_slice(&self.after);
        match steps.last_mut() {
            Some(last) => last.append(&out, (0, 0)),
            None => steps.push(Step::plain(self.head_due, out)),
        }
    }

    /// A stall that has an end.
    fn delay(&self, steps: &mut [Step], heads_from: usize) {
        let Some((point, pause)) = self.stall else { return };
        let from = place(steps, point, heads_from);
        steps[from..].iter_mut().for_each(|step| step.due += pause);
    }

    fn write_as_asked(&self, steps: &mut Vec<Step>) {
        if let Some(split) = self.split {
            let whole = std::mem::take(steps);
            steps.extend(whole.into_iter().flat_map(|step| step.split(split)));
        }
        if let Some((grain, pause)) = self.grain {
            steps.iter_mut().for_each(|step| (step.grain, step.pause) = (grain, pause));
        }
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

impl Lines {
    /// An event's bytes; `turn` counts the line ends used so far.
    fn write(&self, json: &[u8], turn: &mut usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len() + 16);
        if self.ndjson {
            out.extend_from_slice(json);
            put(&mut out, "\n");
            return out;
        }
        let mut end = |out: &mut Vec<u8>| {
            put(out, self.ends[*turn % self.ends.len()]);
            *turn += 1;
        };
        for line in self.before {
            put(&mut out, line);
            end(&mut out);
        }
        for part in self.parts(json) {
            put(&mut out, self.field);
            out.extend_from_slice(part);
            end(&mut out);
        }
        end(&mut out);
        out
    }

    /// The parts of the JSON that get a `data` line each; they are cut where JSON allows a line end.
    fn parts<'j>(&self, json: &'j [u8]) -> Vec<&'j [u8]> {
        let mut parts = Vec::new();
        let mut rest = json;
        if self.spread {
            for mark in [&b",\"created\""[..], &b",\"choices\""[..]] {
                if let Some(at) = memchr::memmem::find(rest, mark) {
                    parts.push(&rest[..at + 1]);
                    rest = &rest[at + 1..];
                }
            }
        }
        parts.push(rest);
        parts
    }
}

/// The whole body in one gzip member, due when its last byte was.
fn gzipped(pieces: Vec<(Item, Vec<u8>)>) -> Vec<(Item, Vec<u8>)> {
    let Some(last) = pieces.last().map(|(item, _)| item.clone()) else { return pieces };
    let tokens = pieces.iter().map(|(item, _)| item.tokens).sum();
    let body: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let item = Item { tokens, payload: Payload::Raw(Vec::new()), ..last };
    vec![(item, super::gzip::stored(&body))]
}

/// How many steps lie before a place.
fn place(steps: &[Step], point: Point, heads_from: usize) -> usize {
    let carrying: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].chunks > 0).collect();
    match point {
        Point::BeforeHead => heads_from,
        Point::InHead | Point::AfterHead => (heads_from + 1).min(steps.len()),
        Point::AfterFirstToken => carrying.first().map_or(steps.len(), |first| first + 1),
        Point::Middle | Point::InChunk => {
            let half = carrying.len().div_ceil(2);
            half.checked_sub(1).and_then(|at| carrying.get(at)).map_or(steps.len(), |at| at + 1)
        }
    }
}

/// End the answer at a place.
fn cut(steps: &mut Vec<Step>, point: Point, heads_from: usize) {
    // One piece holds everything: half of it is the middle.
    let single = steps.iter().filter(|step| step.chunks > 0).count() <= 1;
    let keep = place(steps, point, heads_from);
    match point {
        Point::InHead => {
            steps.truncate(keep);
            steps.last_mut().into_iter().for_each(|head| head.data.halve());
        }
        Point::Middle | Point::InChunk if single => {
            steps.truncate(keep);
            steps.last_mut().into_iter().for_each(Step::lose_half);
        }
        Point::InChunk => {
            steps.truncate(keep + 1);
            steps.last_mut().into_iter().for_each(Step::lose_half);
        }
        _ => steps.truncate(keep),
    }
}
