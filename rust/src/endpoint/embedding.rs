//! What an answer of vectors says: OpenAI's `/v1/embeddings` and Ollama's `/api/embed`.
//!
//! The numbers aren't read: the answer's text is its JSON, for whoever wants the vectors.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::facts::{Facts, Kind, Piece};
use super::ollama::number;

#[derive(Deserialize)]
struct Vectors<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    embeddings: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_eval_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Usage<'a> {
    #[serde(borrow, default)]
    prompt_tokens: Option<&'a RawValue>,
}

/// Read a whole answer into `facts`.
pub(super) fn parse(json: &str, facts: &mut Facts) -> Result<(), serde_json::Error> {
    facts.clear();
    let answer: Vectors<'_> = serde_json::from_str(json)?;
    let list = answer.data.or(answer.embeddings);
    let count = list.and_then(|list| serde_json::from_str::<Vec<IgnoredAny>>(list.get()).ok()).map(|list| list.len());
    facts.choices = count.is_some();
    if count.is_some_and(|n| n > 0) {
        facts.pieces.push(Piece { kind: Kind::Whole, choice: 0, start: 0, end: json.len() });
    }
    let usage = answer.usage.and_then(|usage| serde_json::from_str::<Usage<'_>>(usage.get()).ok());
    facts.tokens_in = usage.and_then(|usage| usage.prompt_tokens).or(answer.prompt_eval_count).and_then(number);
    facts.usage = facts.tokens_in.is_some();
    facts.error = answer.error.is_some_and(|error| error.get() != "null")
        || answer.object.is_some_and(|object| object.get() == "\"error\"");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Facts {
        let mut facts = Facts::default();
        parse(json, &mut facts).unwrap();
        facts
    }

    #[test]
    fn vectors_of_both_apis_are_kept_as_they_came() {
        for (json, tokens) in [
            (r#"{"object":"list","data":[{"embedding":[0.5,-1e-3],"index":0}],"usage":{"prompt_tokens":4}}"#, Some(4)),
            (r#"{"data":[{"embedding":"AAAAPw=="}]}"#, None),
            (r#"{"model":"m","embeddings":[[0.1,0.2],[0.3,0.4]],"prompt_eval_count":8}"#, Some(8)),
        ] {
            let facts = read(json);
            assert_eq!(facts.pieces, [Piece { kind: Kind::Whole, choice: 0, start: 0, end: json.len() }], "{json}");
            assert_eq!((facts.tokens_in, facts.error), (tokens, false), "{json}");
        }
    }

    #[test]
    fn no_vectors_are_no_answer() {
        for json in [r#"{"data":[]}"#, r#"{"embeddings":null}"#, r#"{"data":5}"#, "{}"] {
            assert_eq!(read(json).pieces, [], "{json}");
        }
        assert!(read(r#"{"data":[]}"#).choices && !read("{}").choices);
    }

    #[test]
    fn errors() {
        assert!(read(r#"{"error":{"message":"no such model"}}"#).error);
        assert!(read(r#"{"object":"error","message":"x"}"#).error);
    }
}
