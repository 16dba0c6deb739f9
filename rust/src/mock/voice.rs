//! The JSON that an answer consists of, in the words of the server that is imitated.

use super::api::Endpoint;
use super::config::{Config, Flavour};
use super::draw::{Draws, Purpose};
use super::json::{put, put_hex, put_number, quoted};
use super::ollama;
use crate::sync::Arc;

/// Words of an answer, escaped for JSON; with the characters that real answers have.
const WORDS: [&str; 32] = [
    " the",
    " of",
    " and",
    " a",
    " to",
    " in",
    " is",
    " you",
    " that",
    " it",
    " he",
    " was",
    " for",
    " on",
    " are",
    " as",
    " with",
    " his",
    " they",
    " I",
    " at",
    " be",
    " this",
    " have",
    " from",
    " caf\u{e9}",
    " one",
    " \\\"had\\\"",
    " by",
    " word",
    ".\\n",
    " \u{65e5}\u{672c}",
];

/// What a token-carrying event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Content,
    Reasoning,
    /// A piece of a tool call's arguments; the first one names the tool.
    Tool {
        first: bool,
    },
}

/// Tokens in and out, for a usage object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub prompt: u32,
    pub completion: u32,
    pub reasoning: u32,
}

/// What one event of a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Role {
        choice: u32,
    },
    Token {
        choice: u32,
        word: u32,
        tokens: u32,
        carries: Carries,
        finish: Option<&'static str>,
    },
    Finish {
        choice: u32,
        reason: &'static str,
    },
    /// Usage on its own, with `choices:[]` or beside an empty delta.
    Usage {
        delta: bool,
    },
    Done,
}

/// One request's way of speaking: who it imitates, and the fields that every event repeats.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    config: Arc<Config>,
    pub endpoint: Endpoint,
    id: [u64; 2],
    pub created: u64,
    /// The model's name as JSON.
    pub model: String,
    /// What draws the words; absent: they come in their order.
    drawn: Option<Draws>,
    /// How an event with plain text begins: the envelope that every event has, `{"id":…,"object":…,"created":…,
    /// "model":…`, and the start of its choice up to the text.
    plain: Vec<u8>,
    envelope: usize,
}

impl Voice {
    pub(super) fn new(config: Arc<Config>, endpoint: Endpoint, model: &str, draws: Draws, created: u64) -> Self {
        Self {
            config,
            endpoint,
            id: [draws.bits(Purpose::Id as u64, 0), draws.bits(Purpose::Id as u64, 1)],
            created,
            model: quoted(model),
            drawn: None,
            plain: Vec::new(),
            envelope: 0,
        }
    }

    /// Say what this prompt is always answered, whatever the seed.
    pub(super) fn drawn_by(mut self, prompt_hash: u64) -> Self {
        self.drawn = Some(Draws::new(0, prompt_hash));
        self
    }

    /// The answer's `n`-th word.
    fn word(&self, n: u32) -> &'static str {
        let at = self.drawn.map_or(u64::from(n), |draws| draws.bits(Purpose::Word as u64, u64::from(n)));
        WORDS[(at % WORDS.len() as u64) as usize]
    }

    /// Append some of the answer's words.
    pub(super) fn put_words(&self, out: &mut Vec<u8>, from: u32, count: u32) {
        (from..from + count).for_each(|n| put(out, self.word(n)));
    }

    /// Get ready to tell events.
    pub(super) fn for_events(mut self) -> Self {
        if self.endpoint.is_ollama() {
            return self;
        }
        let mut plain = Vec::with_capacity(224);
        self.open(
            &mut plain,
            if self.endpoint == Endpoint::Chat { "chat.completion.chunk" } else { "text_completion" },
        );
        self.envelope = plain.len();
        self.choice(&mut plain, 0);
        self.open_text(&mut plain, 0, Carries::Content);
        self.plain = plain;
        self
    }

    fn open(&self, out: &mut Vec<u8>, object: &str) {
        let prefix = if self.endpoint == Endpoint::Chat { "chatcmpl-" } else { "cmpl-" };
        put(out, "{\"id\":\"");
        put(out, prefix);
        self.id.iter().for_each(|half| put_hex(out, *half));
        put(out, "\",\"object\":\"");
        put(out, object);
        put(out, "\",\"created\":");
        put_number(out, self.created);
        put(out, ",\"model\":");
        put(out, &self.model);
    }

    /// Append an event's payload: what stands after `data: `.
    pub(super) fn event(&self, out: &mut Vec<u8>, event: Event, usage: Option<Tokens>) {
        if self.endpoint.is_ollama() {
            return ollama::line(out, self, event, usage);
        }
        if event == Event::Done {
            return put(out, "[DONE]");
        }
        if !matches!(event, Event::Token { choice: 0, carries: Carries::Content, .. }) {
            out.extend_from_slice(&self.plain[..self.envelope]);
        }
        match event {
            Event::Role { choice } => self.role(out, choice),
            Event::Token { choice, word, tokens, carries, finish } => {
                self.token(out, choice, (word, tokens), carries, finish);
            }
            Event::Finish { choice, reason } => self.finish(out, choice, reason),
            Event::Usage { delta: true } => put(out, ",\"choices\":[{\"index\":0,\"delta\":{}}]"),
            Event::Usage { delta: false } => put(out, ",\"choices\":[]"),
            Event::Done => {}
        }
        if let Some(tokens) = usage {
            put(out, ",\"usage\":");
            put_usage(out, tokens);
            if self.config.flavour == Flavour::Llamacpp && matches!(event, Event::Usage { .. }) {
                put_timings(out, tokens);
            }
        }
        put(out, "}");
    }

    fn choice(&self, out: &mut Vec<u8>, choice: u32) {
        put(out, ",\"choices\":[{\"index\":");
        put_number(out, u64::from(choice));
        put(out, if self.endpoint == Endpoint::Chat { ",\"delta\":{" } else { ",\"text\":\"" });
    }

    fn role(&self, out: &mut Vec<u8>, choice: u32) {
        self.choice(out, choice);
        let content = if self.config.flavour == Flavour::Llamacpp { "null" } else { "\"\"" };
        put(out, "\"role\":\"assistant\",\"content\":");
        put(out, content);
        put(out, "},\"logprobs\":null,\"finish_reason\":null}]");
    }

    fn token(
        &self,
        out: &mut Vec<u8>,
        choice: u32,
        (word, tokens): (u32, u32),
        carries: Carries,
        finish: Option<&'static str>,
    ) {
        if choice == 0 && carries == Carries::Content {
            out.extend_from_slice(&self.plain);
        } else {
            self.choice(out, choice);
            self.open_text(out, choice, carries);
        }
        for n in word..word + tokens {
            match carries {
                Carries::Tool { .. } => put(out, "x "),
                _ => put(out, self.word(n)),
            }
        }
        put(
            out,
            match (self.endpoint == Endpoint::Chat, carries) {
                (true, Carries::Tool { .. }) => "\"}}]},\"logprobs\":null,\"finish_reason\":",
                (true, _) => "\"},\"logprobs\":null,\"finish_reason\":",
                (false, _) => "\",\"logprobs\":null,\"finish_reason\":",
            },
        );
        put_reason(out, finish);
        put(out, "}]");
    }

    /// What stands between a choice's start and the text itself.
    fn open_text(&self, out: &mut Vec<u8>, choice: u32, carries: Carries) {
        if self.endpoint != Endpoint::Chat {
            return;
        }
        if self.config.flavour == Flavour::Ollama {
            put(out, "\"role\":\"assistant\",");
        }
        match carries {
            Carries::Content => put(out, "\"content\":\""),
            Carries::Reasoning => {
                put(out, &quoted(&self.config.reasoning_field));
                put(out, ":\"");
            }
            Carries::Tool { first } => self.tool(out, choice, first),
        }
    }

    fn tool(&self, out: &mut Vec<u8>, choice: u32, first: bool) {
        put(out, "\"tool_calls\":[{\"index\":0,");
        if first {
            put(out, "\"id\":\"call_");
            put_hex(out, self.id[0].wrapping_add(u64::from(choice)));
            put(out, "\",\"type\":\"function\",\"function\":{\"name\":\"mock_tool\",\"arguments\":\"");
        } else {
            put(out, "\"function\":{\"arguments\":\"");
        }
    }

    fn finish(&self, out: &mut Vec<u8>, choice: u32, reason: &'static str) {
        self.choice(out, choice);
        match (self.endpoint, self.config.flavour) {
            (Endpoint::Chat, Flavour::Ollama) => put(out, "\"role\":\"assistant\",\"content\":\"\"}"),
            (Endpoint::Chat, _) => put(out, "}"),
            _ => put(out, "\""),
        }
        put(out, ",\"logprobs\":null,\"finish_reason\":");
        put_reason(out, Some(reason));
        put(out, "}]");
    }

    /// Append a whole answer that is not streamed.
    pub(super) fn whole(&self, out: &mut Vec<u8>, n: u32, tokens: Tokens, reason: &'static str, usage: bool) {
        if self.endpoint.is_ollama() {
            return ollama::whole(out, self, tokens, reason);
        }
        let chat = self.endpoint == Endpoint::Chat;
        self.open(out, if chat { "chat.completion" } else { "text_completion" });
        put(out, ",\"choices\":[");
        let each = tokens.completion / n.max(1);
        let reasoning = tokens.reasoning / n.max(1);
        for choice in 0..n {
            put(out, if choice == 0 { "{\"index\":" } else { ",{\"index\":" });
            put_number(out, u64::from(choice));
            if chat {
                self.message(out, choice, (reasoning, each), reason);
            } else {
                put(out, ",\"text\":\"");
                self.put_words(out, 0, each);
                put(out, "\"");
            }
            put(out, ",\"logprobs\":null,\"finish_reason\":");
            put_reason(out, Some(reason));
            put(out, "}");
        }
        put(out, "]");
        if usage {
            put(out, ",\"usage\":");
            put_usage(out, tokens);
            if self.config.flavour == Flavour::Llamacpp {
                put_timings(out, tokens);
            }
        }
        put(out, "}");
    }

    fn message(&self, out: &mut Vec<u8>, choice: u32, (reasoning, tokens): (u32, u32), reason: &'static str) {
        put(out, ",\"message\":{\"role\":\"assistant\",");
        if reasoning > 0 {
            put(out, &quoted(&self.config.reasoning_field));
            put(out, ":\"");
            self.put_words(out, 0, reasoning);
            put(out, "\",");
        }
        if reason == "tool_calls" {
            put(out, "\"content\":null,");
            self.tool(out, choice, true);
            (reasoning..tokens).for_each(|_| put(out, "x "));
            return put(out, "\"}}]}");
        }
        put(out, "\"content\":\"");
        self.put_words(out, reasoning, tokens - reasoning);
        put(out, "\"}");
    }
}

fn put_reason(out: &mut Vec<u8>, reason: Option<&'static str>) {
    match reason {
        None => put(out, "null"),
        Some(reason) => {
            put(out, "\"");
            put(out, reason);
            put(out, "\"");
        }
    }
}

fn put_usage(out: &mut Vec<u8>, tokens: Tokens) {
    put(out, "{\"prompt_tokens\":");
    put_number(out, u64::from(tokens.prompt));
    put(out, ",\"completion_tokens\":");
    put_number(out, u64::from(tokens.completion));
    put(out, ",\"total_tokens\":");
    put_number(out, u64::from(tokens.prompt) + u64::from(tokens.completion));
    if tokens.reasoning > 0 {
        put(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":");
        put_number(out, u64::from(tokens.reasoning));
        put(out, "}");
    }
    put(out, "}");
}

/// What llama.cpp says beside usage; the mock's own times are in `/truth`, so these are only of the right shape.
fn put_timings(out: &mut Vec<u8>, tokens: Tokens) {
    put(out, ",\"timings\":{\"prompt_n\":");
    put_number(out, u64::from(tokens.prompt));
    put(out, ",\"predicted_n\":");
    put_number(out, u64::from(tokens.completion));
    put(out, "}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn voice(flavour: Flavour, endpoint: Endpoint) -> Voice {
        let config = Config { flavour, ..Config::default() };
        Voice::new(Arc::new(config), endpoint, "m\"1", Draws::new(0, 0), 1_763_676_000).for_events()
    }

    const FLAVOURS: [Flavour; 6] =
        [Flavour::Openai, Flavour::Vllm, Flavour::Llamacpp, Flavour::Ollama, Flavour::Transformers, Flavour::Litellm];

    #[test]
    fn every_event_of_every_flavour_is_json_with_its_index_and_model() {
        let tokens = Tokens { prompt: 3, completion: 40, reasoning: 2 };
        for flavour in FLAVOURS {
            for endpoint in [Endpoint::Chat, Endpoint::Completions] {
                let mut events = vec![
                    Event::Token { choice: 1, word: 0, tokens: 40, carries: Carries::Content, finish: None },
                    Event::Finish { choice: 1, reason: "stop" },
                ];
                if endpoint == Endpoint::Chat {
                    events.push(Event::Role { choice: 1 });
                    for carries in [Carries::Reasoning, Carries::Tool { first: true }, Carries::Tool { first: false }] {
                        events.push(Event::Token { choice: 1, word: 0, tokens: 2, carries, finish: Some("length") });
                    }
                }
                for event in events {
                    let mut out = Vec::new();
                    voice(flavour, endpoint).event(&mut out, event, Some(tokens));
                    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
                    assert_eq!(json["choices"][0]["index"], 1, "{event:?}");
                    assert_eq!(json["model"], "m\"1");
                    assert_eq!(json["usage"]["total_tokens"], 43);
                }
            }
        }
    }

    #[test]
    fn a_whole_answer_holds_its_choices_and_its_usage() {
        for flavour in FLAVOURS {
            for (endpoint, reason) in
                [(Endpoint::Chat, "stop"), (Endpoint::Chat, "tool_calls"), (Endpoint::Completions, "length")]
            {
                let mut out = Vec::new();
                let tokens = Tokens { prompt: 3, completion: 8, reasoning: 2 };
                voice(flavour, endpoint).whole(&mut out, 2, tokens, reason, true);
                let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(json["choices"].as_array().unwrap().len(), 2);
                assert_eq!(json["choices"][1]["finish_reason"], reason);
                assert_eq!(json["usage"]["completion_tokens"], 8);
                if reason == "stop" {
                    assert_eq!(json["choices"][0]["message"]["content"], " of and a");
                    assert_eq!(json["choices"][0]["message"]["reasoning_content"], " the");
                }
            }
        }
    }
}
