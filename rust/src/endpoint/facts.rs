//! What one JSON object of an answer says: its pieces of text, finish reason, usage, error.
//!
//! One reading for chunks of a stream and for whole answers, of chat and of completions. Keys that repeat: the last one
//! counts. Values of another type than expected are as good as absent.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::record::Finish;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// The answer's text: content, a refusal, a completion's text.
    #[default]
    Content,
    /// The model's reasoning.
    Reasoning,
    /// Output that is no text of the answer: tool and function calls, audio.
    Other,
    /// The answer as a whole, as it came: vectors.
    Whole,
}

/// A non-empty piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub kind: Kind,
    /// Index of the choice it belongs to.
    pub choice: u32,
    /// Where its JSON string, without quotes, starts in what was parsed; `start == end` if it has no text of its own.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// What one JSON object said. Kept and filled again, so that reading allocates nothing once it is warm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub pieces: Vec<Piece>,
    pub finish: Finish,
    /// It has a list of choices.
    pub choices: bool,
    /// It has a usage object.
    pub usage: bool,
    pub tokens_in: Option<u32>,
    pub tokens_out: Option<u32>,
    /// It is, or holds, an error.
    pub error: bool,
}

impl Facts {
    pub(super) fn clear(&mut self) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        *self = Self { pieces, ..Self::default() };
    }

    /// Give all pieces from the `from`th on their choice, which is known only at the choice's end.
    pub(super) fn assign(&mut self, from: usize, choice: u32) {
        for piece in &mut self.pieces[from..] {
            piece.choice = choice;
        }
    }
}

/// Read valid UTF-8 as one JSON object; the general way, for any JSON.
pub(super) fn parse(json: &str, facts: &mut Facts) -> Result<(), serde_json::Error> {
    facts.clear();
    let mut reader = Reader { base: json.as_ptr() as usize, facts };
    reader.object(json, Reader::top)
}

/// So many fields are compared with each other; what a server sends has a dozen.
const FEW_FIELDS: usize = 32;

type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;
type Outcome = Result<(), serde_json::Error>;

struct Reader<'f> {
    /// Address of the text's first byte: values are found by their distance from it.
    base: usize,
    facts: &'f mut Facts,
}

impl Reader<'_> {
    /// Read an object's fields one by one, a repeated key's last value only.
    fn object<'a>(&mut self, json: &'a str, field: fn(&mut Self, &str, &'a str) -> Outcome) -> Outcome {
        let Object(fields) = serde_json::from_str(json)?;
        // A server may send any number of keys: among many, the last of a name is looked up.
        let last: Option<HashMap<&str, usize>> = (fields.len() > FEW_FIELDS)
            .then(|| fields.iter().enumerate().map(|(place, (key, _))| (key.as_ref(), place)).collect());
        for (place, (key, value)) in fields.iter().enumerate() {
            let repeated = match &last {
                Some(last) => last[key.as_ref()] != place,
                None => fields[place + 1..].iter().any(|(later, _)| later == key),
            };
            if !repeated {
                field(self, key, value.get())?;
            }
        }
        Ok(())
    }

    /// The same, if it is an object at all.
    fn maybe<'a>(&mut self, json: &'a str, field: fn(&mut Self, &str, &'a str) -> Outcome) -> Outcome {
        if json.starts_with('{') { self.object(json, field) } else { Ok(()) }
    }

    /// Each object of a list, if it is one.
    fn list<'a>(&mut self, json: &'a str, mut each: impl FnMut(&mut Self, &'a str) -> Outcome) -> Outcome {
        if !json.starts_with('[') {
            return Ok(());
        }
        let items: Vec<&RawValue> = serde_json::from_str(json)?;
        items.iter().map(|item| item.get()).filter(|item| item.starts_with('{')).try_for_each(|item| each(self, item))
    }

    fn top(&mut self, key: &str, value: &str) -> Outcome {
        match key {
            "choices" => {
                self.facts.choices |= value.starts_with('[');
                self.list(value, Self::choice)
            }
            "usage" => {
                self.facts.usage = value.starts_with('{');
                self.maybe(value, Self::usage)
            }
            "error" => {
                self.facts.error |= value != "null";
                Ok(())
            }
            "object" => {
                self.facts.error |= value == "\"error\"";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn usage(&mut self, key: &str, value: &str) -> Outcome {
        match key {
            "prompt_tokens" => self.facts.tokens_in = value.parse().ok(),
            "completion_tokens" => self.facts.tokens_out = value.parse().ok(),
            _ => {}
        }
        Ok(())
    }

    fn choice(&mut self, json: &str) -> Outcome {
        let from = self.facts.pieces.len();
        let mut index = 0;
        let Object(fields) = serde_json::from_str(json)?;
        if let Some((_, value)) = fields.iter().rev().find(|(key, _)| key == "index") {
            index = value.get().parse().unwrap_or(0);
        }
        self.object(json, |reader, key, value| match key {
            "delta" | "message" => reader.maybe(value, Self::delta),
            "text" => {
                reader.string(Kind::Content, value);
                Ok(())
            }
            "finish_reason" => {
                if let Some((start, end)) = reader.range(value) {
                    let word = &value.as_bytes()[1..=end - start];
                    reader.facts.finish = Finish::from_word(word);
                }
                Ok(())
            }
            _ => Ok(()),
        })?;
        self.facts.assign(from, index);
        Ok(())
    }

    fn delta(&mut self, key: &str, value: &str) -> Outcome {
        match key {
            "content" => {
                self.string(Kind::Content, value);
                self.list(value, |reader, part| reader.object(part, Self::part))
            }
            "refusal" => {
                self.string(Kind::Content, value);
                Ok(())
            }
            "reasoning_content" | "reasoning" => {
                self.string(Kind::Reasoning, value);
                Ok(())
            }
            "tool_calls" => self.list(value, |reader, call| {
                reader.object(call, |reader, key, value| match key {
                    "function" | "custom" => reader.maybe(value, Self::call),
                    _ => Ok(()),
                })
            }),
            "function_call" => self.maybe(value, Self::call),
            "audio" => self.maybe(value, Self::audio),
            _ => Ok(()),
        }
    }

    /// A part of content that is a list, as some servers stream it.
    fn part(&mut self, key: &str, value: &str) -> Outcome {
        match key {
            "text" => self.string(Kind::Content, value),
            "thinking" if value.starts_with('[') && value.contains('"') => {
                self.facts.pieces.push(Piece { kind: Kind::Reasoning, choice: 0, start: 0, end: 0 });
            }
            "thinking" => self.string(Kind::Reasoning, value),
            _ => {}
        }
        Ok(())
    }

    fn call(&mut self, key: &str, value: &str) -> Outcome {
        if matches!(key, "name" | "arguments" | "input") {
            self.string(Kind::Other, value);
        }
        Ok(())
    }

    fn audio(&mut self, key: &str, value: &str) -> Outcome {
        if matches!(key, "data" | "transcript") {
            self.string(Kind::Other, value);
        }
        Ok(())
    }

    /// A piece, if the value is a string that is not empty.
    fn string(&mut self, kind: Kind, value: &str) {
        if let Some((start, end)) = self.range(value) {
            self.facts.pieces.push(Piece { kind, choice: 0, start, end });
        }
    }

    /// Where a non-empty string stands in the text, without its quotes.
    fn range(&self, value: &str) -> Option<(usize, usize)> {
        let start = value.as_ptr() as usize - self.base;
        (value.starts_with('"') && value.len() > 2).then(|| (start + 1, start + value.len() - 1))
    }
}

/// The fields of a JSON object in their order, values unread.
struct Object<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A key: borrowed unless it holds an escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Facts {
        let mut facts = Facts::default();
        parse(json, &mut facts).unwrap();
        facts
    }

    /// The pieces as (kind, choice, JSON string).
    fn pieces(json: &str) -> Vec<(Kind, u32, &str)> {
        read(json).pieces.iter().map(|p| (p.kind, p.choice, &json[p.start..p.end])).collect()
    }

    fn delta(delta: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
    }

    #[test]
    fn what_carries_a_token() {
        for (fields, kind) in [
            (r#"{"content":"x"}"#, Kind::Content),
            (r#"{"content":"\ud800"}"#, Kind::Content),
            (r#"{"content":"\u0000"}"#, Kind::Content),
            ("{\"content\":\"\u{fffd}\"}", Kind::Content),
            (r#"{"content":[{"type":"text","text":"x"}]}"#, Kind::Content),
            (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"x"}]}]}"#, Kind::Reasoning),
            (r#"{"refusal":"no"}"#, Kind::Content),
            (r#"{"reasoning_content":"hm"}"#, Kind::Reasoning),
            (r#"{"content":null,"reasoning":"hm"}"#, Kind::Reasoning),
            (r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#, Kind::Other),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, Kind::Other),
            (r#"{"tool_calls":[{"index":0,"custom":{"input":"x"}}]}"#, Kind::Other),
            (r#"{"function_call":{"arguments":"{"}}"#, Kind::Other),
            (r#"{"audio":{"data":"AAAA"}}"#, Kind::Other),
        ] {
            let json = delta(fields);
            let found = pieces(&json);
            assert_eq!(found.len(), 1, "{fields}");
            assert_eq!(found[0].0, kind, "{fields}");
        }
        assert_eq!(pieces(r#"{"choices":[{"text":" a","index":2}]}"#), [(Kind::Content, 2, " a")]);
        assert_eq!(pieces(r#"{"choices":[{"message":{"content":"a"}}]}"#), [(Kind::Content, 0, "a")]);
    }

    #[test]
    fn what_carries_none() {
        for fields in [
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":""}"#,
            r#"{"role":"assistant","content":null}"#,
            r#"{"content":[]}"#,
            r#"{"content":[{"type":"text","text":""}]}"#,
            r#"{"tool_calls":[]}"#,
            r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"","arguments":""}}]}"#,
            r#"{"audio":{"id":"a"}}"#,
            r#"{"content":5}"#,
            "{}",
            "null",
            r#""x""#,
        ] {
            assert_eq!(pieces(&delta(fields)), [], "{fields}");
        }
        for json in
            [r#"{"choices":[]}"#, r#"{"choices":null}"#, r#"{"choices":[null,5]}"#, "{}", r#"{"choices":{"text":"x"}}"#]
        {
            assert_eq!(pieces(json), [], "{json}");
        }
    }

    #[test]
    fn interleaved_choices_are_told_apart() {
        let json = r#"{"choices":[{"delta":{"content":"a"},"index":1},{"index":0,"delta":{"content":"b"}}]}"#;
        assert_eq!(pieces(json), [(Kind::Content, 1, "a"), (Kind::Content, 0, "b")]);
    }

    #[test]
    fn usage_and_finish_reasons() {
        let facts =
            read(r#"{"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":7}}"#);
        assert_eq!(
            (facts.finish, facts.usage, facts.tokens_in, facts.tokens_out),
            (Finish::Length, true, Some(3), Some(7))
        );
        for (word, reason) in [
            ("stop", Finish::Stop),
            ("tool_calls", Finish::ToolCalls),
            ("function_call", Finish::ToolCalls),
            ("content_filter", Finish::ContentFilter),
            ("eos", Finish::Other),
            ("", Finish::Unknown),
        ] {
            assert_eq!(read(&format!(r#"{{"choices":[{{"finish_reason":"{word}"}}]}}"#)).finish, reason);
        }
        for odd in ["-1", "1.5", "99999999999999999999999", "null", "\"7\"", "1e400"] {
            let facts = read(&format!(r#"{{"usage":{{"completion_tokens":{odd}}}}}"#));
            assert_eq!((facts.usage, facts.tokens_out), (true, None), "{odd}");
        }
        assert!(!read(r#"{"usage":null}"#).usage);
    }

    #[test]
    fn errors_in_every_form() {
        for json in [
            r#"{"error":{"message":"x"}}"#,
            r#"{"error":"x"}"#,
            r#"{"object":"error","message":"x"}"#,
            r#"{"error":{}}"#,
        ] {
            assert!(read(json).error, "{json}");
        }
        assert!(!read(r#"{"error":null,"object":"chat.completion.chunk"}"#).error);
    }

    #[test]
    fn of_a_repeated_key_among_very_many_the_last_one_counts_and_is_soon_found() {
        let others: String = (0..500_000).map(|n| format!("\"k{n}\":1,")).collect();
        let found = read(&format!(r#"{{"error":"x",{others}"error":null,"choices":[{{"text":"a"}}]}}"#));
        assert!(!found.error);
        assert_eq!(found.pieces.len(), 1);
    }

    #[test]
    fn of_a_repeated_key_the_last_one_counts() {
        assert_eq!(pieces(&delta(r#"{"content":"a","content":""}"#)), []);
        assert_eq!(pieces(&delta(r#"{"content":"","c\u006fntent":"b"}"#)), [(Kind::Content, 0, "b")]);
        assert_eq!(read(r#"{"usage":{"completion_tokens":1},"usage":{"completion_tokens":2}}"#).tokens_out, Some(2));
    }

    #[test]
    fn deep_nesting_is_passed_over() {
        let deep = format!(r#"{{"x":{}1{},"choices":[{{"text":"a"}}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep).pieces.len(), 1);
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for bad in [
            "",
            "{",
            "{]",
            "[1]",
            "5",
            "{\"a\":NaN}",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":\"\x01\"}",
            "{'a':1}",
            "{\"a\":1,}",
        ] {
            assert!(parse(bad, &mut Facts::default()).is_err(), "{bad:?}");
        }
    }
}
