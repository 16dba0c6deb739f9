//! Reads the events of a stream, or one JSON answer, and counts what they carry.

use std::borrow::Cow;

use super::facts::{self, Facts, Kind};
use super::scan::scan;
use super::sse::{Event, Listener};
use super::template::{Fit, Template};
use super::{Api, embedding, error, ollama, text};
use crate::http::{Fault, excerpt};
use crate::record::{Detail, Finish};

/// Buffers above this are given back when a request ends.
const KEPT_BYTES: usize = 64 << 10;

/// What the bytes since the last look carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadTally {
    /// Events that ended; pings, comments and events without data are none.
    pub events: u32,
    /// Those that carried tokens.
    pub chunks: u32,
    /// Tokens in them, where every chunk so far told its usage; 0 otherwise.
    pub tokens: u32,
    /// A token that is not reasoning was among them.
    pub output: bool,
    /// The stream said that it is over, now or earlier: `[DONE]` or an error. Its framing may still have to end.
    pub finished: bool,
}

/// What an event carried, for the counts.
#[derive(Clone, Copy)]
pub(super) struct Carried {
    pub token: bool,
    pub output: bool,
    pub error: bool,
    /// The facts' offsets are those of the bytes that were given: nothing in them had to be replaced.
    pub exact: bool,
}

/// What was read of one answer; the part of an [`super::Answer`] that the decoder talks to.
#[derive(Default)]
pub(super) struct Reader {
    api: Api,
    keep_text: bool,
    template: Template,
    pub facts: Facts,
    tally: ReadTally,
    pub events: u32,
    pub chunks: u32,
    pub finish: Finish,
    pub usage: bool,
    pub tokens_in: Option<u32>,
    pub tokens_out: Option<u32>,
    /// A chunk came that didn't tell its usage: usage isn't continuous.
    gaps: bool,
    /// `[DONE]` or an error: what follows isn't read.
    pub finished: bool,
    pub error: Option<Fault>,
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
    /// Pieces came that are in neither of them, though text is kept.
    pub unkept: bool,
}

impl Reader {
    /// A reader of the answers of an API, that keeps the text or doesn't.
    pub(super) fn new(api: Api, keep_text: bool) -> Self {
        Self { api, keep_text, ..Self::default() }
    }

    /// Forget the answer, but keep what was learned of the events' shape, and the buffers.
    pub(super) fn reset(&mut self) {
        for buffer in [&mut self.text, &mut self.reasoning] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
        *self = Self {
            api: self.api,
            keep_text: self.keep_text,
            template: std::mem::take(&mut self.template),
            facts: std::mem::take(&mut self.facts),
            text: std::mem::take(&mut self.text),
            reasoning: std::mem::take(&mut self.reasoning),
            ..Self::default()
        };
    }

    /// Whether this is an answer at all; see [`super::Answer`].
    pub(super) fn answered(&self) -> bool {
        self.chunks > 0 || self.finish != Finish::Unknown || self.usage
    }

    /// Read one JSON object into `facts`, and what it says beyond the counts into the answer. Err: why it can't be read.
    pub(super) fn read(&mut self, json: &[u8]) -> Result<Carried, String> {
        let lossy;
        let parse = match self.api {
            Api::Chat | Api::Completions => facts::parse,
            Api::OllamaChat | Api::OllamaGenerate => ollama::parse,
            Api::Embeddings | Api::OllamaEmbed => embedding::parse,
        };
        let usual = matches!(self.api, Api::Chat | Api::Completions);
        let (text, exact) = if usual && scan(json, &mut self.facts) {
            (json, true)
        } else {
            lossy = String::from_utf8_lossy(json);
            parse(&lossy, &mut self.facts).map_err(|e| {
                // A parser's words may quote a string of any length.
                format!("{} in `{}`", excerpt(e.to_string().as_bytes(), 120), excerpt(json, 120))
            })?;
            (lossy.as_bytes(), matches!(lossy, Cow::Borrowed(_)))
        };
        let facts = &self.facts;
        let output = facts.pieces.iter().any(|piece| piece.kind != Kind::Reasoning);
        let carried = Carried { token: !facts.pieces.is_empty(), output, error: facts.error, exact };
        if facts.finish != Finish::Unknown {
            self.finish = facts.finish;
        }
        if facts.usage {
            self.usage = true;
            self.tokens_in = facts.tokens_in.or(self.tokens_in);
            self.continuous(carried.token);
            self.tokens_out = self.facts.tokens_out.or(self.tokens_out);
        }
        self.gaps |= carried.token && !self.facts.usage;
        if self.keep_text {
            for i in 0..self.facts.pieces.len() {
                let piece = self.facts.pieces[i];
                self.keep(piece.kind, piece.choice, &text[piece.start..piece.end]);
            }
        }
        Ok(carried)
    }

    /// Take one line of a stream of JSON lines. The one that says that the answer is done is the last that is read.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.trim_ascii();
        if self.finished || line.is_empty() {
            return Ok(());
        }
        let carried = self.read(line).map_err(|why| Fault::body(Detail::BadJson, why))?;
        self.count(carried.token, carried.output);
        if carried.error {
            self.fail(line);
        } else if self.facts.finish != Finish::Unknown {
            self.finished = true;
        }
        Ok(())
    }

    /// The counts since the last call.
    #[inline]
    pub(super) fn take_tally(&mut self) -> ReadTally {
        ReadTally { finished: self.finished, ..std::mem::take(&mut self.tally) }
    }

    /// Tokens of this chunk by its usage, if every chunk before it told its own.
    fn continuous(&mut self, token: bool) {
        if let (true, false, Some(now)) = (token, self.gaps, self.facts.tokens_out) {
            let more = now.saturating_sub(self.tokens_out.unwrap_or(0));
            self.tally.tokens = self.tally.tokens.saturating_add(more);
        }
    }

    #[cold]
    fn keep(&mut self, kind: Kind, choice: u32, string: &[u8]) {
        match (kind, choice) {
            (Kind::Content, 0) => text::unescape(string, &mut self.text),
            (Kind::Reasoning, 0) => text::unescape(string, &mut self.reasoning),
            (Kind::Whole, _) => self.text.extend_from_slice(string),
            _ => self.unkept = true,
        }
    }

    #[inline]
    fn count(&mut self, token: bool, output: bool) {
        self.events += 1;
        self.tally.events += 1;
        self.chunks += u32::from(token);
        self.tally.chunks += u32::from(token);
        self.tally.output |= output;
    }

    #[cold]
    fn fail(&mut self, data: &[u8]) {
        self.finished = true;
        self.error = Some(Fault::body(Detail::ErrorEvent, error::message(data)));
    }
}

impl Listener for Reader {
    #[inline]
    fn shortcut(&mut self, rest: &[u8]) -> usize {
        let Some(Fit { length, string, kind, choice }) = self.template.fit(rest) else { return 0 };
        if self.finished {
            return 0;
        }
        self.count(true, kind != Kind::Reasoning);
        self.gaps = true;
        if self.keep_text {
            self.keep(kind, choice, string);
        }
        length
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        let data = event.data.trim_ascii();
        if self.finished || data.is_empty() || event.name == b"ping" {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.count(false, false);
            self.finished = true;
            return Ok(());
        }
        if event.name == b"error" {
            self.count(false, false);
            self.fail(data);
            return Ok(());
        }
        let carried = self.read(data).map_err(|why| Fault::body(Detail::BadJson, why))?;
        self.count(carried.token, carried.output);
        if carried.error {
            self.fail(data);
        } else if let Some(frame) = event.frame
            && carried.exact
        {
            let offset = data.as_ptr() as usize - frame.as_ptr() as usize;
            self.template.learn(frame, offset, &self.facts);
        }
        Ok(())
    }

    fn stray(&mut self, line: &[u8]) -> Result<(), Fault> {
        let error = line.strip_prefix(b"error:").or_else(|| error::is_error(line).then_some(line));
        match error {
            _ if self.finished => {}
            Some(error) => {
                self.count(false, false);
                self.fail(error.trim_ascii());
            }
            None if line.first() == Some(&b'{') => {
                return Err(Fault::protocol(
                    Detail::ContentType,
                    "lines of JSON came where an event stream was announced",
                ));
            }
            None => {}
        }
        Ok(())
    }
}
