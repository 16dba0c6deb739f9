//! A draft as bytes: its events as lines, its body framed, and every write due when it is due, cut or stalled as asked.

use super::answer::{Answer, Data, Step, put_chunk_size, reason};
use super::draft::{Draft, Framing, Item, Kind, Lines, Payload, Point};
use super::gzip;
use super::json::{put, put_number};

impl Draft {
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
    vec![(item, gzip::stored(&body))]
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
