//! What Ollama says in its own API: lines of a stream, whole answers, vectors, lists of models.

use super::api::{Call, Endpoint};
use super::config::Config;
use super::documents::{put_vector, vector};
use super::draw::Draws;
use super::json::{put, put_number, quoted};
use super::serve;
use super::voice::{Event, Tokens, Voice};

/// Append one line of a stream, without its line feed. A line with tokens holds text, the last one the counts.
pub(super) fn line(out: &mut Vec<u8>, voice: &Voice, event: Event, usage: Option<Tokens>) {
    match event {
        Event::Token { word, tokens, .. } => {
            open(out, voice);
            voice.put_words(out, word, tokens);
            close_text(out, voice);
            put(out, ",\"done\":false}");
        }
        Event::Finish { reason, .. } => {
            open(out, voice);
            close_text(out, voice);
            done(out, reason, usage.unwrap_or_default());
        }
        // Its streams have no others.
        Event::Role { .. } | Event::Usage { .. } | Event::Done => {}
    }
}

/// Append a whole answer that is not streamed.
pub(super) fn whole(out: &mut Vec<u8>, voice: &Voice, tokens: Tokens, reason: &'static str) {
    open(out, voice);
    voice.put_words(out, 0, tokens.completion);
    close_text(out, voice);
    done(out, reason, tokens);
}

/// Append an answer of `/api/embed`.
pub(super) fn embeddings(out: &mut Vec<u8>, model: &str, call: &Call, draws: Draws) {
    put(out, "{\"model\":");
    put(out, &quoted(model));
    put(out, ",\"embeddings\":[");
    for input in 0..call.inputs {
        put(out, if input == 0 { "" } else { "," });
        put_vector(out, &vector(call, draws, input));
    }
    put(out, "],\"total_duration\":0,\"load_duration\":0,\"prompt_eval_count\":");
    put_number(out, u64::from(call.prompt_tokens));
    put(out, "}");
}

/// Append the list of models, `/api/tags`.
pub(super) fn tags(out: &mut Vec<u8>, config: &Config, created: u64) {
    list(out, config, |out| {
        put(out, ",\"modified_at\":\"");
        put_time(out, created);
        put(out, "\",\"size\":4000000000");
    });
}

/// Append the list of models in memory, `/api/ps`: all of them, wholly on a device.
pub(super) fn loaded(out: &mut Vec<u8>, config: &Config) {
    list(out, config, |out| put(out, ",\"size\":4000000000,\"size_vram\":4000000000"));
}

fn list(out: &mut Vec<u8>, config: &Config, more: impl Fn(&mut Vec<u8>)) {
    put(out, "{\"models\":[");
    for (n, model) in config.models.iter().enumerate() {
        put(out, if n == 0 { "{\"name\":" } else { ",{\"name\":" });
        put(out, &quoted(model));
        put(out, ",\"model\":");
        put(out, &quoted(model));
        more(out);
        put(out, "}");
    }
    put(out, "]}");
}

fn open(out: &mut Vec<u8>, voice: &Voice) {
    put(out, "{\"model\":");
    put(out, &voice.model);
    put(out, ",\"created_at\":\"");
    put_time(out, voice.created);
    put(
        out,
        if voice.endpoint == Endpoint::OllamaChat {
            "\",\"message\":{\"role\":\"assistant\",\"content\":\""
        } else {
            "\",\"response\":\""
        },
    );
}

fn close_text(out: &mut Vec<u8>, voice: &Voice) {
    put(out, if voice.endpoint == Endpoint::OllamaChat { "\"}" } else { "\"" });
}

fn done(out: &mut Vec<u8>, reason: &str, tokens: Tokens) {
    put(out, ",\"done\":true,\"done_reason\":\"");
    put(out, reason);
    put(out, "\",\"prompt_eval_count\":");
    put_number(out, u64::from(tokens.prompt));
    put(out, ",\"eval_count\":");
    put_number(out, u64::from(tokens.completion));
    put(out, "}");
}

/// A time as RFC 3339 has it.
fn put_time(out: &mut Vec<u8>, unix: u64) {
    let ((year, month, day), second) = (serve::date(unix), unix % 86_400);
    let time = format!("{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    put(out, &format!("{year:04}-{month:02}-{day:02}T{time}"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mock::voice::Carries;
    use crate::sync::Arc;
    use serde_json::{Value, json};

    fn said(endpoint: Endpoint, tell: impl Fn(&mut Vec<u8>, &Voice)) -> Value {
        let voice = Voice::new(Arc::new(Config::default()), endpoint, "m\"1", Draws::new(0, 0), 1_763_676_000);
        let mut out = Vec::new();
        tell(&mut out, &voice.for_events());
        serde_json::from_slice(&out).unwrap()
    }

    const COUNTS: Tokens = Tokens { prompt: 3, completion: 2, reasoning: 0 };

    #[test]
    fn lines_hold_text_and_the_last_one_the_counts() {
        let token = Event::Token { choice: 0, word: 1, tokens: 2, carries: Carries::Content, finish: None };
        let chat = said(Endpoint::OllamaChat, |out, voice| line(out, voice, token, None));
        assert_eq!(
            chat,
            json!({"model": "m\"1", "created_at": "2025-11-20T22:00:00Z",
                   "message": {"role": "assistant", "content": " of and"}, "done": false})
        );
        let finish = Event::Finish { choice: 0, reason: "length" };
        let last = said(Endpoint::OllamaGenerate, |out, voice| line(out, voice, finish, Some(COUNTS)));
        assert_eq!(
            (&last["response"], &last["done"], &last["done_reason"], &last["prompt_eval_count"], &last["eval_count"]),
            (&json!(""), &json!(true), &json!("length"), &json!(3), &json!(2))
        );
    }

    #[test]
    fn a_whole_answer_is_one_line_with_everything() {
        let all = said(Endpoint::OllamaChat, |out, voice| whole(out, voice, COUNTS, "stop"));
        assert_eq!((&all["message"]["content"], &all["eval_count"]), (&json!(" the of"), &json!(2)));
    }

    #[test]
    fn vectors_and_lists() {
        let call = Call { inputs: 2, dimensions: 3, prompt_tokens: 5, ..Call::default() };
        let answer = said(Endpoint::OllamaEmbed, |out, _| embeddings(out, "m", &call, Draws::new(0, 0)));
        assert_eq!(answer["embeddings"][1].as_array().unwrap().len(), 3);
        assert_eq!(answer["prompt_eval_count"], 5);
        let config = Config::default();
        for tell in [
            said(Endpoint::OllamaChat, |out, _| tags(out, &config, 0)),
            said(Endpoint::OllamaChat, |out, _| loaded(out, &config)),
        ] {
            assert_eq!(tell["models"][0]["name"], config.models[0]);
        }
    }
}
