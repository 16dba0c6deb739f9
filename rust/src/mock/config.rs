//! What a mock server is told: where it listens, how fast it answers, what it refuses, and how it misbehaves.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use super::draw::{Count, Delay, Dist, Span};
use super::faults::{self, Rule};

/// Why a mock server could not be configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or not of this shape.
    #[error("mock configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// A distribution with a negative or infinite parameter, or crossed bounds.
    #[error("mock configuration: {key} must have finite parameters >= 0 and low <= high, not {value}")]
    Distribution {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A share outside [0, 1].
    #[error("mock configuration: {key} must lie between 0 and 1, not {value}")]
    Share {
        /// The key.
        key: &'static str,
        /// What was given.
        value: f64,
    },
    /// A number that must be above zero.
    #[error("mock configuration: {key} must be above 0, not {value}")]
    Positive {
        /// The key.
        key: &'static str,
        /// What was given.
        value: f64,
    },
    /// A status that is no error status.
    #[error("mock configuration: {key} must be a status from 400 to 599, not {value}")]
    Status {
        /// The key.
        key: &'static str,
        /// What was given.
        value: u16,
    },
    /// No model at all.
    #[error("mock configuration: models must name at least one model")]
    NoModel,
    /// A fault nobody knows.
    #[error("mock configuration: no fault is called {name:?}{hint}; `loadgen mock --list-faults` prints them all")]
    UnknownFault {
        /// What was given.
        name: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// Both a share and an `every`.
    #[error("mock configuration: fault {name:?} takes share or every, not both")]
    FaultRule {
        /// The fault.
        name: String,
    },
    /// A Unix socket and TLS at once.
    #[error("mock configuration: tls needs a port; it cannot be served on the unix socket {path:?}")]
    TlsOnUnix {
        /// The socket's path.
        path: PathBuf,
    },
}

/// Which real server the mock imitates: its first event, where usage goes, how it ends, how it words errors.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// OpenAI's own API: a role event with `content:""`, usage in an event of its own, `[DONE]`.
    #[default]
    Openai,
    /// vLLM: headers before prefill, role and first token in one write, the finish reason on the last token's event.
    Vllm,
    /// llama.cpp: `content:null` in the role event, headers held back until a slot is free, `timings`.
    Llamacpp,
    /// Ollama: the role on every event; errors are a bare string.
    Ollama,
    /// `transformers serve`: the role event long before the first token, usage on the finish event, no `[DONE]`.
    Transformers,
    /// The LiteLLM proxy: usage beside an empty delta; no `[DONE]` after an error; its own Retry-After header.
    Litellm,
}

/// When the answer's head goes out.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum HeadersWhen {
    /// At once, even while the request queues for a slot.
    Arrival,
    /// When the request has a slot, before prefill.
    Slot,
    /// With the first token.
    FirstToken,
}

/// Where a stream's usage goes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// An event of its own, `choices:[]`.
    Own,
    /// An event of its own, beside an empty delta.
    Delta,
    /// On the event with the finish reason.
    Finish,
    /// Nowhere, asked for or not.
    None,
}

/// Which words an answer has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    /// The same in every answer.
    Same,
    /// Drawn by the prompt: it always gets the same ones, and another prompt others.
    Prompt,
}

/// What `Retry-After` says.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RetryAfter {
    /// The whole seconds until a token is free, at least 1.
    #[default]
    Seconds,
    /// An HTTP date.
    Date,
    /// A negative number.
    Negative,
    /// Seconds with a fraction, as precise as milliseconds.
    Fraction,
    /// Whole milliseconds, in `retry-after-ms` unless another header is named.
    Milliseconds,
    /// 20 digits.
    Huge,
    /// Not a number, not a date.
    Garbage,
    /// No such header.
    Absent,
}

/// A token bucket; what exceeds it is answered 429.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per second.
    pub rps: f64,
    /// Requests that may come at once.
    #[serde(default = "one")]
    pub burst: f64,
    /// How the hint is written.
    #[serde(default)]
    pub retry_after: RetryAfter,
    /// The hint's header; LiteLLM's flavour uses `llm_provider-retry-after` unless this is set.
    #[serde(default)]
    pub header: Option<String>,
}

/// A time in which the service is down, from the server's start on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// When it begins.
    pub after: Span,
    /// How long it lasts.
    pub lasts: Span,
}

impl Outage {
    /// Whether the service is down `ns` after its start.
    pub(super) fn covers(&self, ns: u64) -> bool {
        ns.checked_sub(self.after.0).is_some_and(|within| within < self.lasts.0)
    }
}

/// Serve TLS in front of the mock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain.
    pub cert: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
    /// PEM file of the authorities a client's certificate must come from; none is asked for without it.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Close connections without TLS's close_notify.
    #[serde(default)]
    pub no_close_notify: bool,
}

/// A text that must not be printed.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// One mock server. Every key has a default; times are milliseconds, or strings with a unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on (`127.0.0.1`).
    pub host: String,
    /// Port to listen on; 0 takes a free one (0).
    pub port: u16,
    /// Listen on this Unix socket instead of a port (none).
    pub unix: Option<PathBuf>,
    /// Threads that serve, each with its own event loop (1).
    pub threads: u16,
    /// Models that `/v1/models` names; the first answers requests that name none (`["mock"]`).
    pub models: Vec<String>,
    /// Serve any model name instead of answering 404 for an unknown one (false).
    pub any_model: bool,
    /// Seed of every draw (0).
    pub seed: u64,
    /// The real server to imitate (`openai`).
    pub flavour: Flavour,
    /// Time from having a slot to the first token (0).
    pub ttft: Delay,
    /// Time between two token-carrying events (0).
    pub gap: Delay,
    /// Tokens of an answer, cut at the request's `max_tokens`; absent: `max_tokens`, or 16 (absent).
    pub output_tokens: Option<Count>,
    /// Which words it has (`same`).
    pub words: Words,
    /// Tokens in one event (1).
    pub tokens_per_chunk: Count,
    /// Put all events that are due into one write, instead of a write per event (false).
    pub coalesce: bool,
    /// Hold token events back until this many are due, then write them at once (1).
    pub events_per_write: u32,
    /// When the head goes out; absent: as the flavour does (absent).
    pub headers: Option<HeadersWhen>,
    /// Requests served at once; the others queue. Absent: no bound (absent).
    pub capacity: Option<u32>,
    /// Requests that may queue; absent: no bound (absent).
    pub queue: Option<u32>,
    /// Status when the queue is full (503).
    pub queue_status: u16,
    /// Answer 429 above a rate (none).
    pub rate_limit: Option<RateLimit>,
    /// Share of requests answered with `error_status` (0).
    pub error_rate: f64,
    /// Status of those (500).
    pub error_status: u16,
    /// Share of requests that stall (0).
    pub stall_rate: f64,
    /// Share of prompts that stall, every time they are sent (0).
    pub prompt_stall_rate: f64,
    /// Time to a stalled request's first token, instead of `ttft`; absent: it never comes (absent).
    pub stall_time: Option<Delay>,
    /// When the service is down: every request is answered 503 at once (never).
    pub outages: Vec<Outage>,
    /// Where a stream's usage goes; absent: as the flavour does (absent).
    pub usage: Option<Usage>,
    /// Answer this status, 400 or 422, to requests that ask for `include_usage` (none).
    pub refuse_usage: Option<u16>,
    /// Share of an answer's tokens that are reasoning, at its start (0).
    pub reasoning: f64,
    /// The field that carries reasoning (`reasoning_content`).
    pub reasoning_field: String,
    /// Answer chat requests with a tool call (false).
    pub tool_calls: bool,
    /// The bearer token to require; 401 without it (none).
    pub api_key: Option<Secret>,
    /// Faults, by name or with a share, a period or a time (none).
    pub faults: Vec<Rule>,
    /// Serve TLS (none).
    pub tls: Option<Tls>,
    /// Finished requests whose rows are kept for `/truth?rows=1`; older ones leave only their counts (1,000,000).
    pub truth_rows: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            unix: None,
            threads: 1,
            models: vec!["mock".to_owned()],
            any_model: false,
            seed: 0,
            flavour: Flavour::Openai,
            ttft: Delay::ms(0.0),
            gap: Delay::ms(0.0),
            output_tokens: None,
            words: Words::Same,
            tokens_per_chunk: Count(Dist::Constant(1.0)),
            coalesce: false,
            events_per_write: 1,
            headers: None,
            capacity: None,
            queue: None,
            queue_status: 503,
            rate_limit: None,
            error_rate: 0.0,
            error_status: 500,
            stall_rate: 0.0,
            prompt_stall_rate: 0.0,
            stall_time: None,
            outages: Vec::new(),
            usage: None,
            refuse_usage: None,
            reasoning: 0.0,
            reasoning_field: "reasoning_content".to_owned(),
            tool_calls: false,
            api_key: None,
            faults: Vec::new(),
            tls: None,
            truth_rows: 1_000_000,
        }
    }
}

impl Config {
    /// Read and check a configuration; `{}` is a good one.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(json)?;
        config.check()?;
        Ok(config)
    }

    /// Check what the types alone do not say.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.ttft.0.check("ttft")?;
        self.gap.0.check("gap")?;
        self.tokens_per_chunk.0.check("tokens_per_chunk")?;
        if let Some(length) = &self.output_tokens {
            length.0.check("output_tokens")?;
        }
        if let Some(stall) = &self.stall_time {
            stall.0.check("stall_time")?;
        }
        for (key, value) in [
            ("error_rate", self.error_rate),
            ("stall_rate", self.stall_rate),
            ("prompt_stall_rate", self.prompt_stall_rate),
            ("reasoning", self.reasoning),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(ConfigError::Share { key, value });
            }
        }
        self.check_counts()?;
        let refusals = self.refuse_usage.map(|value| ("refuse_usage", value));
        for (key, value) in
            [("error_status", self.error_status), ("queue_status", self.queue_status)].into_iter().chain(refusals)
        {
            if !(400..600).contains(&value) {
                return Err(ConfigError::Status { key, value });
            }
        }
        if let (Some(path), Some(_)) = (&self.unix, &self.tls) {
            return Err(ConfigError::TlsOnUnix { path: path.clone() });
        }
        self.faults.iter().try_for_each(faults::check)
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        if self.models.is_empty() {
            return Err(ConfigError::NoModel);
        }
        let limit = self.rate_limit.as_ref();
        let counts = [
            ("threads", f64::from(self.threads)),
            ("events_per_write", f64::from(self.events_per_write)),
            ("capacity", f64::from(self.capacity.unwrap_or(1))),
            ("rate_limit.rps", limit.map_or(1.0, |l| l.rps)),
            ("rate_limit.burst", limit.map_or(1.0, |l| l.burst)),
        ];
        for (key, value) in counts {
            // Written so that a NaN fails too.
            if !(value > 0.0 && value.is_finite()) {
                return Err(ConfigError::Positive { key, value });
            }
        }
        Ok(())
    }

    /// When the head goes out.
    pub(super) fn headers_when(&self) -> HeadersWhen {
        self.headers.unwrap_or(match self.flavour {
            Flavour::Openai | Flavour::Ollama => HeadersWhen::FirstToken,
            Flavour::Llamacpp | Flavour::Vllm => HeadersWhen::Slot,
            Flavour::Transformers | Flavour::Litellm => HeadersWhen::Arrival,
        })
    }

    /// Where a stream's usage goes when it was asked for.
    pub(super) fn usage_where(&self) -> Usage {
        self.usage.unwrap_or(match self.flavour {
            Flavour::Transformers => Usage::Finish,
            Flavour::Litellm => Usage::Delta,
            _ => Usage::Own,
        })
    }
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_a_good_configuration() {
        let config = Config::from_json("{}").unwrap();
        assert_eq!(config.models, ["mock"]);
        assert_eq!(config.headers_when(), HeadersWhen::FirstToken);
    }

    #[test]
    fn bad_values_are_named_with_their_key_and_value() {
        let cases = [
            ("{\"error_rate\": 1.5}", "error_rate must lie between 0 and 1, not 1.5"),
            ("{\"threads\": 0}", "threads must be above 0, not 0"),
            ("{\"models\": []}", "at least one model"),
            ("{\"prompt_stall_rate\": 2}", "prompt_stall_rate must lie between 0 and 1, not 2"),
            ("{\"stall_time\": -1}", "stall_time must have finite parameters"),
            ("{\"outages\": [{\"after\": 1, \"lasts\": -1}]}", "a span of time is a number"),
            ("{\"queue_status\": 200}", "queue_status must be a status from 400 to 599, not 200"),
            ("{\"ttft\": -1}", "ttft must have finite parameters"),
            ("{\"gap\": {\"uniform\": {\"low\": 2, \"high\": 1}}}", "gap must have finite parameters"),
            ("{\"ttfd\": 1}", "unknown field `ttfd`"),
            ("{\"faults\": [\"crlff\"]}", "no fault is called \"crlff\"; did you mean \"crlf\"?"),
        ];
        for (json, want) in cases {
            let got = Config::from_json(json).unwrap_err().to_string();
            assert!(got.contains(want), "{json}: {got}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let config = Config::from_json("{\"api_key\": \"canary-7f3a\"}").unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
