//! The decoder of one response: from its head and its bytes to counts, an outcome and a verdict.

use std::borrow::Cow;

use super::Api;
use super::error;
use super::lines::Lines;
use super::reader::{Carried, ReadTally, Reader};
use super::sse::{Decoder, Listener};
use crate::clock::Anchor;
use crate::http::{Fault, Head, Hints, Limits, Secrets, Sink, excerpt};
use crate::record::{Detail, Failure, Finish};

/// Bytes of an error's body that are kept.
const ERROR_BYTES: usize = 64 << 10;
/// A larger buffer is given back when a request ends.
const KEPT_BYTES: usize = 64 << 10;

/// How answers are decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerOptions {
    /// Keep the answers' text; see [`Answer::text`].
    pub keep_text: bool,
    /// Read what heads say of when to come again; see [`Answer::hints`].
    pub keep_hints: bool,
    /// Bounds on lines.
    pub limits: Limits,
}

/// What a response brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status, 0 before the head.
    pub status: u16,
    /// Why the model stopped.
    pub finish: Finish,
    /// Prompt tokens, by the server's usage.
    pub tokens_in: Option<u32>,
    /// Output tokens, by the server's usage.
    pub tokens_out: Option<u32>,
    /// Events; `[DONE]` and errors are events, what follows them is not counted.
    pub events: u32,
    /// Events that carried tokens.
    pub chunks: u32,
    /// The server sent a stream, whatever was asked for.
    pub streamed: bool,
}

/// Decodes a response, and after [`Answer::reset`] the next one.
///
/// A success is a status of 2xx with an answer and no error. An answer is at least one piece of text, reasoning, tool
/// call or audio; or, of a legitimately empty one, a finish reason or a usage object. `[DONE]` proves nothing by itself.
/// Of several choices all are counted; the text that is kept is the first one's (index 0).
pub struct Answer {
    api: Api,
    mode: Mode,
    /// A stream was asked for.
    asked: bool,
    /// Nothing but the connection's end proves the body complete.
    close_delimited: bool,
    status: u16,
    decoder: Decoder,
    lines: Lines,
    reader: Reader,
    /// A JSON answer, or the start of an error's body.
    body: Vec<u8>,
    /// Where a redirect leads.
    moved: Option<String>,
    secrets: Secrets,
    keep_hints: bool,
    hints: Hints,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No head yet.
    Waiting,
    /// An event stream.
    Events,
    /// A stream of JSON lines.
    Lines,
    /// One JSON object.
    Json,
    /// The server didn't say: the first bytes will.
    Unnamed,
    /// An error's, whatever its type.
    Refused,
}

impl Answer {
    /// A decoder for the answers of one connection, of this API.
    pub fn new(api: Api, options: AnswerOptions) -> Self {
        Self {
            api,
            mode: Mode::Waiting,
            asked: true,
            close_delimited: false,
            status: 0,
            decoder: Decoder::new(options.limits.line_bytes),
            lines: Lines::new(options.limits.line_bytes),
            reader: Reader::new(api, options.keep_text),
            body: Vec::new(),
            moved: None,
            secrets: Secrets::default(),
            keep_hints: options.keep_hints,
            hints: Hints::default(),
        }
    }

    /// Mask these in every fault's words: servers echo what they were sent.
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Make ready for the answer to the next request; `streamed`: it asks for a stream.
    pub fn reset(&mut self, streamed: bool) {
        self.mode = Mode::Waiting;
        self.asked = streamed;
        self.close_delimited = false;
        self.status = 0;
        self.hints = Hints::default();
        self.decoder.reset();
        self.lines.reset();
        self.reader.reset();
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES);
        self.moved = None;
    }

    /// The body is complete: the verdict.
    pub fn end(&mut self) -> Result<(), Fault> {
        let verdict = match self.mode {
            Mode::Waiting | Mode::Unnamed => Err(Fault::body(Detail::Empty, "it has no body")),
            Mode::Refused => Err(self.refusal()),
            Mode::Events => self.end_of_stream(),
            Mode::Lines => self.end_of_lines(),
            Mode::Json => self.end_of_json(),
        };
        verdict.map_err(|fault| self.masked(fault))
    }

    /// Whether its head has come and was a refusal: anything but 2xx.
    pub fn is_refusal(&self) -> bool {
        self.mode == Mode::Refused
    }

    /// What the bytes since the last call carried.
    #[inline]
    pub fn take_read(&mut self) -> ReadTally {
        self.reader.take_tally()
    }

    /// What came so far.
    pub fn outcome(&self) -> Outcome {
        let reader = &self.reader;
        Outcome {
            status: self.status,
            finish: reader.finish,
            tokens_in: reader.tokens_in,
            tokens_out: reader.tokens_out,
            events: reader.events,
            chunks: reader.chunks,
            streamed: matches!(self.mode, Mode::Events | Mode::Lines),
        }
    }

    /// What the head said of when to come again, if that is read.
    pub fn hints(&self) -> Hints {
        self.hints
    }

    /// The answer's text so far, of its first choice and without reasoning and tool calls, if text is kept: UTF-8, but
    /// for what the server sent as something else.
    pub fn text(&self) -> &[u8] {
        &self.reader.text
    }

    /// The reasoning, likewise.
    pub fn reasoning(&self) -> &[u8] {
        &self.reader.reasoning
    }

    /// Whether more came than text and reasoning hold, if text is kept: tool calls, further choices, audio.
    pub fn holds_more(&self) -> bool {
        self.reader.unkept
    }

    fn end_of_stream(&mut self) -> Result<(), Fault> {
        if let Some(fault) = &self.reader.error {
            return Err(fault.clone());
        }
        let told_its_end = self.reader.finished || self.reader.finish != Finish::Unknown || self.reader.usage;
        if self.close_delimited && !told_its_end {
            let text = "the stream has no finish reason, no usage and no [DONE], and only the connection's end ends it";
            return Err(Fault::body(Detail::EarlyEnd, text));
        }
        if self.reader.events > 0 && !told_its_end && !self.decoder.unfinished().is_empty() {
            return Err(Fault::body(Detail::EarlyEnd, "the stream ends within an event"));
        }
        if self.reader.answered() {
            return Ok(());
        }
        let left = self.decoder.unfinished();
        if self.reader.events == 0 && left.first() == Some(&b'{') {
            let left = left.to_vec();
            self.reader.stray(&left)?;
            return self.reader.error.clone().map_or(Ok(()), Err);
        }
        let text =
            if self.reader.events == 0 { "the stream has no event" } else { "no event of the stream carries text" };
        Err(Fault::body(Detail::Empty, text))
    }

    fn end_of_lines(&mut self) -> Result<(), Fault> {
        let last = self.lines.unfinished().to_vec();
        let whole = last.is_empty() || self.reader.line(&last).is_ok();
        if let Some(fault) = &self.reader.error {
            return Err(fault.clone());
        }
        match self.reader.finished {
            true if self.reader.answered() => Ok(()),
            _ if self.reader.events == 0 && whole => Err(Fault::body(Detail::Empty, "the stream has no line")),
            _ => Err(Fault::body(Detail::EarlyEnd, "no line of the stream says that the answer is done")),
        }
    }

    fn end_of_json(&mut self) -> Result<(), Fault> {
        if self.body.trim_ascii().is_empty() {
            return Err(Fault::body(Detail::Empty, "the body is empty"));
        }
        let body = std::mem::take(&mut self.body);
        // JSON has no byte order mark, but a reader may ignore one (RFC 8259, section 8.1).
        let read = self.reader.read(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body));
        self.body = body;
        match read {
            Err(_) if self.asked && several_lines_of_json(&self.body) => {
                return Err(Fault::protocol(
                    Detail::ContentType,
                    "lines of JSON came where an event stream was asked for",
                ));
            }
            Err(why) => return Err(Fault::body(Detail::BadJson, why)),
            Ok(Carried { error: true, .. }) => {
                return Err(Fault::body(Detail::ErrorEvent, error::message(&self.body)));
            }
            Ok(_) => {}
        }
        // An answer of text may be empty, one of vectors not.
        let answered = self.reader.answered() && !self.api.embeds();
        match answered || !self.reader.facts.pieces.is_empty() {
            true => Ok(()),
            false if self.reader.facts.choices => {
                Err(Fault::body(Detail::Empty, format!("its {} are empty", self.api.substance())))
            }
            false => {
                let text = format!("no {} in `{}`", self.api.substance(), excerpt(&self.body, 120));
                Err(Fault::body(Detail::BadJson, text))
            }
        }
    }

    /// A status that is not 2xx, in the server's words.
    fn refusal(&self) -> Fault {
        let moved = (300..400).contains(&self.status);
        let detail = if moved { Detail::Redirect } else { Detail::None };
        // A redirect's own words are a page for a browser.
        let text = match (&self.moved, error::message(&self.body)) {
            (Some(place), _) if moved => format!("HTTP {} to {place}", self.status),
            (_, words) if words.is_empty() => format!("HTTP {}", self.status),
            (_, words) => format!("HTTP {}: {words}", self.status),
        };
        Fault::new(Failure::Http, detail, text)
    }

    fn masked(&self, fault: Fault) -> Fault {
        let clean = match self.secrets.redact(&fault.text) {
            Cow::Borrowed(_) => return fault,
            Cow::Owned(clean) => clean,
        };
        Fault::new(fault.failure, fault.detail, clean)
    }

    /// Decide by its first byte what a body without a content type is. White space before it, in however many reads,
    /// means nothing to either kind and is left out.
    fn name(&mut self, span: &[u8]) -> Result<(), Fault> {
        let start = span.trim_ascii_start();
        self.mode = match start.first() {
            None => return Ok(()),
            Some(b'{') if self.asked && self.api.streams_lines() => Mode::Lines,
            Some(b'{') => Mode::Json,
            // A field's first letter, a comment's colon, or a byte order mark.
            Some(b'd' | b'e' | b'i' | b'r' | b':' | 0xef) => Mode::Events,
            Some(_) => {
                let text = format!("no content type, and a body that begins with `{}`", excerpt(start, 40));
                return Err(Fault::protocol(Detail::ContentType, text));
            }
        };
        self.data(start)
    }
}

impl Sink for Answer {
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        self.status = head.status;
        self.close_delimited = head.close_delimited;
        if self.keep_hints {
            self.hints = Hints::of(head.fields(), Anchor::now().wall_ns);
        }
        if !(200..300).contains(&head.status) {
            self.mode = Mode::Refused;
            self.moved = head.header("location").and_then(error::place);
            return Ok(());
        }
        let encoding = head.header("content-encoding").unwrap_or(b"identity");
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
            return Err(Fault::protocol(Detail::Encoding, format!("Content-Encoding `{}`", excerpt(encoding, 40))));
        }
        self.mode = match head.content_type() {
            None | Some(b"") => Mode::Unnamed,
            Some(kind) if kind.eq_ignore_ascii_case(b"text/event-stream") => Mode::Events,
            // Ollama names its lines so; some proxies call them JSON.
            Some(kind) if self.api.streams_lines() && is_lines(kind) => Mode::Lines,
            Some(kind) if self.asked && self.api.streams_lines() && is_json(kind) => Mode::Lines,
            Some(kind) if is_json(kind) => Mode::Json,
            Some(kind) => {
                let wanted = match (self.asked, self.api.streams_lines()) {
                    (true, true) => "application/x-ndjson",
                    (true, false) => "text/event-stream",
                    _ => "application/json",
                };
                let text = format!("`{}` came, {wanted} was asked for", excerpt(kind, 60));
                return Err(Fault::protocol(Detail::ContentType, text));
            }
        };
        Ok(())
    }

    #[inline]
    fn data(&mut self, span: &[u8]) -> Result<(), Fault> {
        if self.mode == Mode::Events {
            let fed = self.decoder.feed(span, &mut self.reader);
            return fed.map_err(|fault| self.masked(fault));
        }
        if self.mode == Mode::Lines {
            let fed = self.lines.feed(span, |line| self.reader.line(line));
            return fed.map_err(|fault| self.masked(fault));
        }
        match self.mode {
            Mode::Refused => {
                let room = ERROR_BYTES - self.body.len();
                self.body.extend_from_slice(&span[..span.len().min(room)]);
            }
            Mode::Unnamed => return self.name(span).map_err(|fault| self.masked(fault)),
            _ => self.body.extend_from_slice(span),
        }
        Ok(())
    }

    /// An error that the stream told is the reason why it was cut; so is a refusal whose body didn't come whole.
    fn cut(&mut self, fault: Fault) -> Fault {
        match (&self.reader.error, self.mode) {
            (Some(error), _) => self.masked(error.clone()),
            (None, Mode::Refused) => self.masked(self.refusal()),
            _ => fault,
        }
    }
}

fn is_json(kind: &[u8]) -> bool {
    let suffix = kind.len().checked_sub(5).is_some_and(|at| kind[at..].eq_ignore_ascii_case(b"+json"));
    suffix || kind.eq_ignore_ascii_case(b"application/json") || kind.eq_ignore_ascii_case(b"text/json")
}

fn is_lines(kind: &[u8]) -> bool {
    [&b"application/x-ndjson"[..], b"application/ndjson", b"application/jsonl"]
        .iter()
        .any(|k| kind.eq_ignore_ascii_case(k))
}

/// Whether this is NDJSON: more than one value, the first of them whole on its line.
fn several_lines_of_json(body: &[u8]) -> bool {
    let mut lines = body.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let first = lines.next().is_some_and(|line| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok());
    first && lines.next().is_some_and(|line| line.first() == Some(&b'{'))
}
