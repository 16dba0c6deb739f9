use proptest::prelude::*;

use super::*;
use crate::endpoint::facts;

/// What both ways say; the scanner only if it is sure.
fn both(json: &str) -> (Option<Facts>, Option<Facts>) {
    let (mut quick, mut general) = (Facts::default(), Facts::default());
    let sure = scan(json.as_bytes(), &mut quick);
    let good = facts::parse(json, &mut general).is_ok();
    (sure.then_some(quick), good.then_some(general))
}

const USUAL: [&str; 8] = [
    r#"{"id":"a","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"choices":[{"index":1,"delta":{"content":" w\u00f6rd"},"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    r#"{ "choices": [ { "finish_reason": "stop", "delta": {}, "index": 0 } ], "usage": null, "timings": {"a": [1.5e-3, -0]} }"#,
    r#"{"choices":[{"delta":{"reasoning_content":"hm","content":""}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#,
    r#"{"choices":[{"index":0,"text":" a","logprobs":{"tokens":[" a"],"top":[{" a":-0.25}]}},{"text":"b","index":1}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4294967296,"details":{"cached":0}}}"#,
    r#"{"choices":[{"message":{"role":"assistant","content":"hi","refusal":null,"audio":null,"function_call":{"name":"f","arguments":""}},"finish_reason":"length"}],"error":null}"#,
];

#[test]
fn the_usual_events_are_certain() {
    for json in USUAL {
        let (quick, general) = both(json);
        assert!(quick.is_some(), "{json}");
        assert_eq!(quick, general, "{json}");
    }
}

#[test]
fn it_is_not_sure_of_the_unusual() {
    for json in [
        r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
        r#"{"choices":[],"choices":[]}"#,
        r#"{"usage":{"completion_tokens":1,"completion_tokens":2}}"#,
        r#"{"choices":[{"t\u0065xt":"a"}]}"#,
        r#"{"choices":[{"delta":{"content":[{"text":"a"}]}}]}"#,
        r#"{"error":{"message":"x"}}"#,
        r#"{"object":"error"}"#,
    ] {
        let (quick, general) = both(json);
        assert!(quick.is_none() && general.is_some(), "{json}");
    }
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(both(&deep).0.is_none());
    for broken in [
        "",
        "{",
        "{}}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" 1}",
        "[]",
        "{\"a\":[1,]}",
        "{\"a\":01}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":nul}",
        "{\"a\":\"\t\"}",
        "{\"a\":[1 2]}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"a\":+1}",
    ] {
        assert_eq!(both(broken), (None, None), "{broken}");
    }
}

#[test]
fn invalid_utf8_in_strings_changes_nothing() {
    let mut facts = Facts::default();
    assert!(scan(b"{\"choices\":[{\"text\":\"a\xff\"}]}", &mut facts));
    assert_eq!((facts.pieces[0].start, facts.pieces[0].end), (21, 23));
    assert!(!scan(b"{\"choices\":[]\xff}", &mut facts));
}

/// JSON made of the keys that matter and others, in any order and nesting, with any white space.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "7",
        "-0",
        "12.50",
        "1e9",
        "4294967295",
        "99999999999",
        "\"\"",
        "\"x\"",
        "\"stop\"",
        "\"length\"",
        "\"error\"",
        "\" \\n\\\"\"",
        "\"\\ud800\"",
        "\"é\"",
        "[]",
        "{}",
        "\"[{\"",
        "\"}]\"",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(6, 48, 5, |inner| {
        let key = prop::sample::select(vec![
            "choices",
            "usage",
            "error",
            "object",
            "prompt_tokens",
            "completion_tokens",
            "index",
            "delta",
            "message",
            "text",
            "finish_reason",
            "content",
            "refusal",
            "reasoning_content",
            "reasoning",
            "tool_calls",
            "function_call",
            "audio",
            "function",
            "custom",
            "name",
            "arguments",
            "input",
            "data",
            "id",
            "x\\n",
            "ché",
        ]);
        let space = || prop::sample::select(vec!["", "", "", " ", "\n\t "]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            (prop::collection::vec((key, inner), 0..6), space(), space()).prop_map(|(fields, a, b)| {
                let fields: Vec<String> = fields.into_iter().map(|(k, v)| format!("{a}\"{k}\"{b}:{a}{v}{b}")).collect();
                format!("{{{}{a}}}", fields.join(","))
            }),
        ]
    })
}

/// The usual shapes around anything.
fn events() -> impl Strategy<Value = String> {
    let shape = prop::sample::select(vec![
        "@",
        "{\"choices\":@}",
        "{\"choices\":[@]}",
        "{\"choices\":[{\"delta\":@}]}",
        "{\"choices\":[{\"index\":2,\"delta\":{\"content\":@},\"finish_reason\":\"stop\"}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[@,{\"function\":@}]}}]}",
        "{\"choices\":[],\"usage\":@}",
    ]);
    (shape, any_json()).prop_map(|(shape, json)| shape.replace('@', &json))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn when_it_is_sure_it_says_what_the_parser_says(json in events()) {
        let (quick, general) = both(&json);
        if quick.is_some() {
            prop_assert_eq!(quick, general);
        }
    }

    #[test]
    fn what_is_broken_is_never_certain(
        usual in prop::sample::select(USUAL.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[],:\"\\ 0-.eEtnx\n".to_vec()), 0..3_u8), 1..4),
    ) {
        let mut bytes = usual.as_bytes().to_vec();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let json = String::from_utf8(bytes).unwrap();
        let (quick, general) = both(&json);
        if quick.is_some() {
            prop_assert_eq!(quick, general);
        }
    }
}
