//! What one line of an Ollama answer says: `/api/chat` and `/api/generate`, streamed or whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::facts::{Facts, Kind, Piece};
use crate::record::Finish;

/// The keys that are read, whatever their values are: one of another type than expected is as good as absent.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    done: Option<&'a RawValue>,
    #[serde(borrow, default)]
    done_reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_eval_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    eval_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// Read one line into `facts`.
pub(super) fn parse(json: &str, facts: &mut Facts) -> Result<(), serde_json::Error> {
    facts.clear();
    let line: Line<'_> = serde_json::from_str(json)?;
    let message = line.message.and_then(|m| serde_json::from_str::<Message<'_>>(m.get()).ok());
    facts.choices = message.is_some() || line.response.is_some();
    let (content, thinking, calls) = message.map_or((None, None, None), |m| (m.content, m.thinking, m.tool_calls));
    for (kind, value) in [
        (Kind::Reasoning, thinking),
        (Kind::Reasoning, line.thinking),
        (Kind::Content, content),
        (Kind::Content, line.response),
    ] {
        facts.pieces.extend(value.and_then(|value| piece(json, kind, value)));
    }
    if calls.is_some_and(|calls| serde_json::from_str::<Vec<&RawValue>>(calls.get()).is_ok_and(|c| !c.is_empty())) {
        facts.pieces.push(Piece { kind: Kind::Other, choice: 0, start: 0, end: 0 });
    }
    if line.done.is_some_and(|done| done.get() == "true") {
        let reason = line.done_reason.and_then(|word| serde_json::from_str::<Cow<'_, str>>(word.get()).ok());
        // Older servers give no reason; they are done all the same.
        facts.finish = reason.map_or(Finish::Stop, |word| Finish::from_word(word.as_bytes()));
    }
    facts.tokens_in = line.prompt_eval_count.and_then(number);
    facts.tokens_out = line.eval_count.and_then(number);
    facts.usage = line.eval_count.is_some();
    facts.error = line.error.is_some_and(|error| error.get() != "null");
    Ok(())
}

/// A number of tokens.
pub(super) fn number(value: &RawValue) -> Option<u32> {
    serde_json::from_str(value.get()).ok()
}

/// A piece, if the value is a string that is not empty.
fn piece(json: &str, kind: Kind, value: &RawValue) -> Option<Piece> {
    let text = value.get();
    let start = text.as_ptr() as usize - json.as_ptr() as usize;
    let is_string = text.starts_with('"') && text.len() > 2;
    is_string.then(|| Piece { kind, choice: 0, start: start + 1, end: start + text.len() - 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Facts {
        let mut facts = Facts::default();
        parse(json, &mut facts).unwrap();
        facts
    }

    fn pieces(json: &str) -> Vec<(Kind, &str)> {
        read(json).pieces.iter().map(|p| (p.kind, &json[p.start..p.end])).collect()
    }

    #[test]
    fn lines_of_both_apis() {
        assert_eq!(pieces(r#"{"message":{"role":"assistant","content":"a"},"done":false}"#), [(Kind::Content, "a")]);
        assert_eq!(pieces(r#"{"model":"m","response":" b","done":false}"#), [(Kind::Content, " b")]);
        assert_eq!(pieces(r#"{"message":{"thinking":"hm","content":""},"done":false}"#), [(Kind::Reasoning, "hm")]);
        assert_eq!(pieces(r#"{"thinking":"hm","response":""}"#), [(Kind::Reasoning, "hm")]);
        assert_eq!(pieces(r#"{"message":{"content":"","tool_calls":[{"function":{}}]}}"#), [(Kind::Other, "")]);
    }

    #[test]
    fn what_carries_no_token() {
        for json in [
            r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}"#,
            r#"{"message":null,"response":null}"#,
            r#"{"message":5,"response":[1],"thinking":{}}"#,
            r#"{"message":{"content":null,"tool_calls":[]}}"#,
            "{}",
        ] {
            assert_eq!(pieces(json), [], "{json}");
        }
    }

    #[test]
    fn the_last_line_tells_the_end_and_the_counts() {
        let facts =
            read(r#"{"response":"","done":true,"done_reason":"length","prompt_eval_count":26,"eval_count":298}"#);
        assert_eq!(
            (facts.finish, facts.usage, facts.tokens_in, facts.tokens_out),
            (Finish::Length, true, Some(26), Some(298))
        );
        assert_eq!(read(r#"{"done":true}"#).finish, Finish::Stop);
        assert_eq!(read(r#"{"done":true,"done_reason":"load"}"#).finish, Finish::Other);
        assert_eq!(read(r#"{"done":false,"done_reason":"stop"}"#).finish, Finish::Unknown);
        // A prompt that the server had cached isn't counted.
        let cached = read(r#"{"done":true,"eval_count":3}"#);
        assert_eq!((cached.tokens_in, cached.tokens_out), (None, Some(3)));
        assert_eq!(read(r#"{"done":true,"eval_count":-3}"#).tokens_out, None);
    }

    #[test]
    fn errors() {
        assert!(read(r#"{"error":"model 'x' not found"}"#).error);
        assert!(!read(r#"{"error":null,"response":"a"}"#).error);
    }
}
