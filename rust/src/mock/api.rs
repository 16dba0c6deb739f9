//! What a request asks for: its route, and the few fields of its JSON body that the mock obeys.

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::request::Method;

/// An API that makes tokens or vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Endpoint {
    Chat = 0,
    Completions = 1,
    Embeddings = 2,
    OllamaChat = 3,
    OllamaGenerate = 4,
    OllamaEmbed = 5,
}

impl Endpoint {
    pub(super) const NAMES: [&'static str; 6] =
        ["chat", "completions", "embeddings", "ollama_chat", "ollama_generate", "ollama_embed"];

    /// Whether it answers with vectors.
    pub(super) fn embeds(self) -> bool {
        matches!(self, Self::Embeddings | Self::OllamaEmbed)
    }

    /// Whether it is Ollama's own: a stream is lines of JSON, and what isn't told is streamed.
    pub(super) fn is_ollama(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed)
    }

    /// What a request must have.
    fn field(self) -> &'static str {
        match self {
            Self::Chat | Self::OllamaChat => "messages",
            Self::Completions | Self::OllamaGenerate => "prompt",
            Self::Embeddings | Self::OllamaEmbed => "input",
        }
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Infer(Endpoint),
    Models,
    /// Ollama's list of models, and of those that are loaded.
    Tags,
    Loaded,
    Health,
    Truth {
        rows: bool,
    },
    ResetTruth,
    WrongMethod,
    Unknown,
}

/// The route of a method and a request target.
pub(super) fn route(method: Method, target: &str) -> Route {
    // A proxy's client sends the whole URL.
    let path = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (wanted, route) = match path {
        "/v1/chat/completions" => (Method::Post, Route::Infer(Endpoint::Chat)),
        "/v1/completions" => (Method::Post, Route::Infer(Endpoint::Completions)),
        "/v1/embeddings" => (Method::Post, Route::Infer(Endpoint::Embeddings)),
        "/api/chat" => (Method::Post, Route::Infer(Endpoint::OllamaChat)),
        "/api/generate" => (Method::Post, Route::Infer(Endpoint::OllamaGenerate)),
        "/api/embed" => (Method::Post, Route::Infer(Endpoint::OllamaEmbed)),
        "/api/tags" => (Method::Get, Route::Tags),
        "/api/ps" => (Method::Get, Route::Loaded),
        "/v1/models" => (Method::Get, Route::Models),
        "/health" => (Method::Get, Route::Health),
        "/truth" => (Method::Get, Route::Truth { rows: query.split('&').any(|pair| pair == "rows=1") }),
        "/truth/reset" => (Method::Post, Route::ResetTruth),
        _ => return Route::Unknown,
    };
    if method == wanted { route } else { Route::WrongMethod }
}

/// The fields of a request's body that the mock obeys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Call {
    pub model: Option<String>,
    pub stream: bool,
    /// Whether `stream` was told at all.
    pub told_stream: bool,
    pub include_usage: bool,
    pub continuous_usage: bool,
    pub max_tokens: Option<u32>,
    /// Choices to make.
    pub n: u32,
    /// Tokens of the prompt: a quarter of its JSON's bytes.
    pub prompt_tokens: u32,
    /// A number that every copy of this prompt shares.
    pub prompt_hash: u64,
    /// What a load generator put in front of the prompt to make it unlike every other: `#SEED.NUMBER`.
    pub marker: Option<Box<str>>,
    /// Embeddings: how many vectors, of how many dimensions, and whether in base64.
    pub inputs: u32,
    pub dimensions: u32,
    pub base64: bool,
}

/// Most choices a request may ask for, as OpenAI has it.
const MAX_CHOICES: u32 = 128;

impl Call {
    /// Read a body. The error is what a server would say about it.
    pub(super) fn parse(body: &[u8], endpoint: Endpoint) -> Result<Self, String> {
        let mut call: Self = serde_json::from_slice(body).map_err(|error| format!("request body: {error}"))?;
        call.stream |= endpoint.is_ollama() && !call.told_stream;
        if call.n == 0 || call.n > MAX_CHOICES {
            return Err(format!("n must lie between 1 and {MAX_CHOICES}, not {}", call.n));
        }
        if call.max_tokens == Some(0) {
            return Err("max_tokens must be at least 1".to_owned());
        }
        if call.prompt_tokens == 0 {
            return Err(format!("field required: {}", endpoint.field()));
        }
        Ok(call)
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(CallVisitor)
    }
}

/// Reads a body's fields in any order; of a key that comes twice the last counts, as with real servers.
struct CallVisitor;

impl<'de> Visitor<'de> for CallVisitor {
    type Value = Call;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Call, A::Error> {
        let mut call = Call { n: 1, inputs: 1, dimensions: 8, ..Call::default() };
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "model" => call.model = map.next_value()?,
                "stream" => {
                    let told = map.next_value::<Option<bool>>()?;
                    (call.stream, call.told_stream) = (told.unwrap_or(false), told.is_some());
                }
                // Ollama's; below zero means no bound.
                "options" => {
                    let options = map.next_value::<Option<Options>>()?.unwrap_or_default();
                    call.max_tokens = options.num_predict.and_then(|n| u32::try_from(n).ok()).or(call.max_tokens);
                }
                "stream_options" => {
                    let options = map.next_value::<Option<StreamOptions>>()?.unwrap_or_default();
                    call.include_usage = options.include_usage;
                    call.continuous_usage = options.continuous_usage_stats;
                }
                "max_tokens" | "max_completion_tokens" => {
                    call.max_tokens = map.next_value::<Option<u32>>()?.or(call.max_tokens);
                }
                "n" => call.n = map.next_value::<Option<u32>>()?.unwrap_or(1),
                "messages" | "prompt" => {
                    let raw = map.next_value::<&RawValue>()?;
                    call.prompt_tokens = tokens(raw);
                    call.prompt_hash = hash(raw.get());
                    call.marker = marker(raw.get()).map(Into::into);
                }
                "input" => {
                    let raw = map.next_value::<&RawValue>()?;
                    call.prompt_tokens = tokens(raw);
                    call.prompt_hash = hash(raw.get());
                    call.inputs = inputs(raw);
                }
                "dimensions" => {
                    call.dimensions = map.next_value::<Option<u32>>()?.unwrap_or(8).clamp(1, 65_536);
                }
                "encoding_format" => call.base64 = map.next_value::<Option<String>>()?.as_deref() == Some("base64"),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(call)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
    continuous_usage_stats: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    num_predict: Option<i64>,
}

fn tokens(raw: &RawValue) -> u32 {
    u32::try_from(raw.get().len().div_ceil(4)).unwrap_or(u32::MAX)
}

/// FNV-1a of a prompt's JSON, the same on every machine (Fowler, Noll, Vo).
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first text that begins with `#`, hexadecimal digits, a dot, digits and a space.
fn marker(prompt: &str) -> Option<&str> {
    memchr::memmem::find_iter(prompt.as_bytes(), b"\"#").find_map(|at| {
        let marker = prompt[at + 1..].split(' ').next()?;
        let (seed, number) = marker.strip_prefix('#')?.split_once('.')?;
        let hex = !seed.is_empty() && seed.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (hex && digits && marker.len() < prompt.len() - at - 1).then_some(marker)
    })
}

/// How many vectors an `input` asks for: one for a text or a list of token numbers, else one per entry.
fn inputs(raw: &RawValue) -> u32 {
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else { return 1 };
    let numbers = list.first().is_none_or(|first| !first.get().starts_with(['"', '[']));
    if numbers { 1 } else { u32::try_from(list.len()).unwrap_or(u32::MAX) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Call, String> {
        Call::parse(body.as_bytes(), Endpoint::Chat)
    }

    #[test]
    fn routes_need_their_method_and_ignore_queries() {
        assert_eq!(route(Method::Post, "/v1/chat/completions?x=1"), Route::Infer(Endpoint::Chat));
        assert_eq!(route(Method::Get, "/v1/chat/completions"), Route::WrongMethod);
        assert_eq!(route(Method::Get, "/truth?rows=1"), Route::Truth { rows: true });
        assert_eq!(route(Method::Get, "http://127.0.0.1:8000/v1/models"), Route::Models);
        assert_eq!(route(Method::Get, "/v2"), Route::Unknown);
    }

    #[test]
    fn the_fields_that_matter_are_read_and_the_last_of_two_counts() {
        let call = chat(
            r#"{"stream":true,"stream_options":{"include_usage":true,"x":1},"model":"m","messages":[{"role":"user",
            "content":"hi"}],"max_tokens":5,"max_completion_tokens":7,"n":2,"stream":false,"seed":3}"#,
        )
        .unwrap();
        assert_eq!((call.model.as_deref(), call.stream, call.include_usage), (Some("m"), false, true));
        assert_eq!((call.max_tokens, call.n, call.prompt_tokens), (Some(7), 2, 12));
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let call =
            chat(r#"{"messages":[],"model":null,"stream":null,"stream_options":null,"max_tokens":null}"#).unwrap();
        assert_eq!((call.model, call.stream, call.max_tokens, call.n), (None, false, None, 1));
    }

    #[test]
    fn ollama_streams_unless_told_not_to_and_has_its_own_word_for_a_length() {
        let generate = |body: &str| Call::parse(body.as_bytes(), Endpoint::OllamaGenerate).unwrap();
        let call = generate(r#"{"prompt":"a","options":{"num_predict":5,"temperature":0}}"#);
        assert_eq!((call.stream, call.max_tokens), (true, Some(5)));
        let call = generate(r#"{"prompt":"a","stream":false,"options":{"num_predict":-1}}"#);
        assert_eq!((call.stream, call.max_tokens), (false, None));
        assert!(!chat(r#"{"messages":[1]}"#).unwrap().stream);
        assert_eq!(route(Method::Get, "/api/ps"), Route::Loaded);
        assert_eq!(route(Method::Post, "/api/embed"), Route::Infer(Endpoint::OllamaEmbed));
    }

    #[test]
    fn bad_bodies_say_what_is_wrong() {
        assert!(chat("{").unwrap_err().contains("EOF"));
        assert!(chat("{}").unwrap_err().contains("messages"));
        assert!(chat(r#"{"messages":[],"n":1000}"#).unwrap_err().contains("1000"));
        assert!(chat(r#"{"messages":[],"max_tokens":0}"#).unwrap_err().contains("max_tokens"));
    }

    #[test]
    fn a_prompts_marker_is_found_and_nothing_else_is_taken_for_one() {
        let marker =
            |text: &str| chat(&format!(r##"{{"messages":[{{"content":"# Rules"}},{text}]}}"##)).unwrap().marker;
        assert_eq!(marker(r##"{"content":"#1f.207 hello"}"##).as_deref(), Some("#1f.207"));
        for other in [r##"{"content":"#1.x hello"}"##, r##"{"content":"#.1 a"}"##, r##"{"content":"a #0.1 b"}"##] {
            assert_eq!(marker(other), None, "{other}");
        }
    }

    #[test]
    fn inputs_are_counted_by_what_they_are() {
        let count = |json: &str| Call::parse(json.as_bytes(), Endpoint::Embeddings).unwrap().inputs;
        assert_eq!(count(r#"{"input":"text"}"#), 1);
        assert_eq!(count(r#"{"input":["a","b","c"]}"#), 3);
        assert_eq!(count(r#"{"input":[1,2,3]}"#), 1);
        assert_eq!(count(r#"{"input":[[1,2],[3]]}"#), 2);
    }
}
