//! From a request to its answer: who is refused, who waits, and what the others get.

use super::answer::{Answer, End, Reply};
use super::api::{Call, Endpoint};
use super::config::{Config, Flavour, HeadersWhen, RetryAfter, Usage, Words};
use super::documents;
use super::draft::{Draft, Times};
use super::draw::{Draws, Purpose};
use super::faults::Chosen;
use super::ollama;
use super::plan::Plan;
use super::request::Request;
use super::stream::Stream;
use super::truth::Row;
use super::voice::Voice;
use crate::clock::Anchor;
use crate::sync::Arc;

/// A request that will be served, as soon as it has a slot.
#[derive(Debug)]
pub(super) struct Job {
    reply: Reply,
    endpoint: Endpoint,
    call: Call,
    model: String,
    draws: Draws,
    faults: Chosen,
    /// The head went out while the request queued.
    head_sent: bool,
}

/// A request that is refused before it may ask for a slot.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub message: String,
    /// OpenAI's word for it.
    pub code: Option<&'static str>,
    pub headers: Vec<(String, String)>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: None, headers: Vec::new() }
    }

    fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The answer that says so.
    pub(super) fn answer(&self, flavour: Flavour, reply: &Reply, now: u64) -> Answer {
        let mut body = Vec::new();
        documents::error(&mut body, flavour, self.status, self.code, &self.message);
        reply.json(now, self.status, &self.headers, &body)
    }
}

/// Whether a request carries the key that is required, if one is.
pub(super) fn authorised(config: &Config, bearer: Option<&str>) -> Result<(), Refusal> {
    match &config.api_key {
        Some(key) if bearer != Some(key.0.as_str()) => {
            Err(Refusal::new(401, "Incorrect API key provided").coded("invalid_api_key"))
        }
        _ => Ok(()),
    }
}

/// The 429 of a rate limit whose next token is free in `wait` nanoseconds.
pub(super) fn rate_limited(config: &Config, wait: u64, anchor: &Anchor, now: u64) -> Refusal {
    let mut refusal = Refusal::new(429, "Rate limit reached").coded("rate_limit_exceeded");
    let Some(limit) = &config.rate_limit else { return refusal };
    let header = match (&limit.header, limit.retry_after, config.flavour) {
        (Some(name), ..) => name.clone(),
        (None, RetryAfter::Milliseconds, _) => "retry-after-ms".to_owned(),
        (None, _, Flavour::Litellm) => "llm_provider-retry-after".to_owned(),
        (None, ..) => "retry-after".to_owned(),
    };
    if let Some(value) = retry_after(limit.retry_after, wait, anchor.wall_ns(now) / 1_000_000_000) {
        refusal.headers.push((header, value));
    }
    refusal
}

/// The 503 of a service that is down, if it is so `ns` after its start.
pub(super) fn up(config: &Config, ns: u64) -> Result<(), Refusal> {
    match config.outages.iter().any(|outage| outage.covers(ns)) {
        true => Err(Refusal::new(503, "The service is down")),
        false => Ok(()),
    }
}

/// The value of a Retry-After header for a wait of so many nanoseconds; `unix` is the time now, in seconds.
pub(super) fn retry_after(kind: RetryAfter, wait: u64, unix: u64) -> Option<String> {
    let (seconds, millis) = (wait.div_ceil(1_000_000_000).max(1), wait.div_ceil(1_000_000));
    Some(match kind {
        RetryAfter::Seconds => seconds.to_string(),
        RetryAfter::Fraction => format!("{}.{:03}", millis / 1_000, millis % 1_000),
        RetryAfter::Milliseconds => millis.to_string(),
        RetryAfter::Date => http_date(unix + seconds),
        RetryAfter::Negative => "-5".to_owned(),
        RetryAfter::Huge => "99999999999999999999".to_owned(),
        RetryAfter::Garbage => "soon, maybe".to_owned(),
        RetryAfter::Absent => return None,
    })
}

/// An HTTP date (RFC 9110, section 5.6.7) of a Unix time in seconds.
fn http_date(unix: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = date(unix);
    let (days, second) = (unix / 86_400, unix % 86_400);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a Unix time in seconds (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(super) fn date(unix: u64) -> (u64, u64, u64) {
    let days = unix / 86_400;
    // Days since 1 March of the year 0, in cycles of 400, 100, 4 and 1 years that end with the leap day.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month < 3), month, day)
}

impl Job {
    /// Read a request for tokens or vectors; what the server would refuse is refused.
    pub(super) fn new(
        config: &Config,
        endpoint: Endpoint,
        request: &Request,
        index: u64,
        faults: Chosen,
    ) -> Result<Self, Refusal> {
        let draws = Draws::new(config.seed, index);
        let (call, model) = Self::read(config, endpoint, &request.body, draws)?;
        Ok(Self { reply: Reply::to(&request.head), endpoint, call, model, draws, faults, head_sent: false })
    }

    /// The prompt's marker, which tells who asked where no header does.
    pub(super) fn marker(&mut self) -> Option<Box<str>> {
        self.call.marker.take()
    }

    /// Whether the answer is a stream.
    pub(super) fn streams(&self) -> bool {
        self.call.stream
    }

    fn read(config: &Config, endpoint: Endpoint, body: &[u8], draws: Draws) -> Result<(Call, String), Refusal> {
        let mut call = Call::parse(body, endpoint).map_err(|message| Refusal::new(400, message))?;
        let model = match call.model.take() {
            None => config.models[0].clone(),
            Some(model) if config.any_model || config.models.contains(&model) => model,
            Some(model) => {
                return Err(Refusal::new(404, format!("The model `{model}` does not exist")).coded("model_not_found"));
            }
        };
        call.stream &= !endpoint.embeds();
        if let Some(status) = config.refuse_usage.filter(|_| call.include_usage) {
            return Err(Refusal::new(status, "Unrecognized request argument supplied: stream_options"));
        }
        if draws.unit(Purpose::Error as u64, 0) < config.error_rate {
            return Err(Refusal::new(config.error_status, "The server had an error while processing your request"));
        }
        Ok((call, model))
    }

    /// The head to send while the request still queues, if the server imitated does that.
    pub(super) fn early_head(&mut self, config: &Config) -> Option<Vec<u8>> {
        let early = self.call.stream
            && !self.faults.on_answer()
            && config.headers_when() == HeadersWhen::Arrival
            && !(self.stalls(config) && config.stall_time.is_none());
        self.head_sent = early;
        early.then(|| self.stream_head())
    }

    fn stream_head(&self) -> Vec<u8> {
        self.reply.stream_head(self.endpoint)
    }

    /// Whether this request is one of those that stall, by itself or for its prompt.
    pub(super) fn stalls(&self, config: &Config) -> bool {
        let of_prompt = || Draws::new(config.seed, self.call.prompt_hash).unit(Purpose::PromptStall as u64, 0);
        self.draws.unit(Purpose::Stall as u64, 0) < config.stall_rate
            || config.prompt_stall_rate > 0.0 && of_prompt() < config.prompt_stall_rate
    }

    /// Begin the answer at `now`, the moment of the slot.
    pub(super) fn begin(self, config: &Arc<Config>, row: &mut Row, now: u64, unix: u64) -> Answer {
        row.start = now;
        let first = match (self.stalls(config), &config.stall_time) {
            (false, _) => now + config.ttft.draw_ns(self.draws, Purpose::Ttft, 0),
            (true, Some(stall)) => now + stall.draw_ns(self.draws, Purpose::Stall, 1),
            (true, None) => return Answer::script([], End::Hold),
        };
        row.status = 200;
        let mut plan = Plan::new(config, self.endpoint, &self.call, self.draws);
        self.faults.change_plan(&mut plan);
        let voice = Voice::new(Arc::clone(config), self.endpoint, &self.model, self.draws, unix);
        let voice = if config.words == Words::Prompt { voice.drawn_by(self.call.prompt_hash) } else { voice };
        let voice = if self.call.stream { voice.for_events() } else { voice };
        let stream = Stream::new(config, plan, voice, self.draws, now, first);
        row.due = match self.call.stream {
            _ if self.endpoint.embeds() => first,
            true => stream.first_due(),
            false => stream.clone().last_due(),
        };
        let head_due = match config.headers_when() {
            HeadersWhen::Arrival | HeadersWhen::Slot => now,
            HeadersWhen::FirstToken => row.due,
        };
        if self.faults.on_answer() {
            let mut draft = Draft::new(
                Arc::clone(config),
                &self.reply,
                stream,
                Times { start: now, head: head_due, unix },
                self.call.stream,
            );
            if self.endpoint.embeds() {
                draft.set_body(row.due, self.vectors(), 0);
            }
            self.faults.change_draft(&mut draft);
            row.status = draft.status;
            draft.into_answer()
        } else if self.call.stream {
            let head = (!self.head_sent).then(|| (head_due, self.stream_head()));
            Answer::stream(stream, head, &self.reply, config.coalesce)
        } else {
            self.whole(config, &stream, row.due)
        }
    }

    fn vectors(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let tell = if self.endpoint.is_ollama() { ollama::embeddings } else { documents::embeddings };
        tell(&mut body, &self.model, &self.call, self.draws);
        body
    }

    fn whole(&self, config: &Config, stream: &Stream, due: u64) -> Answer {
        if self.endpoint.embeds() {
            return self.reply.json(due, 200, &[], &self.vectors());
        }
        let total = stream.plan.total();
        let mut body = Vec::with_capacity(512);
        let usage = config.usage != Some(Usage::None);
        stream.voice.whole(&mut body, stream.plan.n, total, stream.plan.reason, usage);
        self.reply.json(due, 200, &[], &body).with_tokens(total.completion)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mock::request::{Parsed, Parser};

    #[test]
    fn dates_are_written_as_http_wants_them() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(1_767_225_599), "Wed, 31 Dec 2025 23:59:59 GMT");
    }

    /// Every write of an answer: when it is due, its bytes, its tokens.
    fn writes(config: &str, head: &str, body: &str, fault: Option<&str>) -> Vec<(u64, String, u32)> {
        let config = Arc::new(Config::from_json(config).unwrap());
        let text = format!("POST / HTTP/1.{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let Ok(Parsed::Request(request, _)) = Parser::default().parse(text.as_bytes()) else { panic!("{text}") };
        let faults = fault.map(|name| Chosen::by_header(name).unwrap()).unwrap_or_default();
        let job = Job::new(&config, Endpoint::Chat, &request, 0, faults).unwrap_or_else(|no| panic!("{}", no.message));
        let mut answer = job.begin(&config, &mut Row::default(), 1_000, 1_763_676_000);
        let mut writes = Vec::new();
        while let Some(due) = answer.next_due() {
            let mut out = Vec::new();
            let fill = answer.fill(due, &mut out);
            writes.push((due, String::from_utf8(out).unwrap(), fill.tokens));
        }
        writes
    }

    #[test]
    fn an_answer_laid_open_and_closed_again_is_the_same_write_for_write() {
        let bodies = [
            r#"{"messages": [], "stream": true, "stream_options": {"include_usage": true}}"#,
            r#"{"messages": [], "stream": true, "n": 2, "max_tokens": 3, "stream_options": {"include_usage": true}}"#,
            r#"{"messages": [], "stream_options": {"include_usage": true}}"#,
        ];
        let shapes = [
            r#""gap": 10, "ttft": 50"#,
            r#""gap": {"exponential": {"mean": 5}}, "ttft": 3, "events_per_write": 3"#,
            r#""coalesce": true, "tokens_per_chunk": 2"#,
            r#""gap": 1, "headers": "slot", "ttft": 2"#,
        ];
        for flavour in ["openai", "vllm", "llamacpp", "ollama", "transformers", "litellm"] {
            // A fault that asks for what the flavour does anyway.
            let fault = match flavour {
                "transformers" => "usage_finish",
                "litellm" => "usage_delta",
                _ => "usage_own",
            };
            for shape in shapes {
                let config = format!(r#"{{"flavour": "{flavour}", {shape}}}"#);
                for body in bodies {
                    for head in ["1", "0", "1\r\nconnection: close", "1\r\nx-request-id: a"] {
                        let plain = writes(&config, head, body, None);
                        let closed = writes(&config, head, body, Some(fault));
                        for (n, pair) in closed.iter().zip(&plain).enumerate() {
                            assert_eq!(pair.0, pair.1, "write {n} of {config} {body} {head}");
                        }
                        assert_eq!(closed.len(), plain.len(), "{config} {body} {head}");
                    }
                }
            }
        }
    }
}
