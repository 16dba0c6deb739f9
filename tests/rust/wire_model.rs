//! The whole way of an answer against a slow model of it.

use serde_json::Value;

use super::*;

/// What an event says, by a general JSON value: (token, output), or nothing if it is not an object.
fn model(data: &str) -> Option<(bool, bool)> {
    let json: Value = serde_json::from_str(data).ok()?;
    let object = json.as_object()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let (mut output, mut reasoning) = (false, false);
    for choice in object.get("choices").and_then(Value::as_array).into_iter().flatten() {
        output |= text(choice.get("text"));
        for delta in ["delta", "message"].into_iter().filter_map(|key| choice.get(key)) {
            output |= text(delta.get("content")) || text(delta.get("refusal"));
            for part in delta.get("content").and_then(Value::as_array).into_iter().flatten() {
                output |= text(part.get("text"));
            }
            reasoning |= text(delta.get("reasoning")) || text(delta.get("reasoning_content"));
            for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                output |= call.get("function").is_some_and(|f| text(f.get("name")) || text(f.get("arguments")));
            }
        }
    }
    Some((output || reasoning, output))
}

/// Values of JSON, nested and with the keys that matter among others.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "12",
        "-1.5e3",
        "\"\"",
        "\"x\"",
        "\" word\"",
        "\"\\\"\\n\\u00e9\"",
        "\"é😀\"",
        "[]",
        "{}",
    ])
    .prop_map(str::to_owned);
    let key = || {
        prop::sample::select(vec![
            "choices",
            "delta",
            "message",
            "content",
            "text",
            "role",
            "reasoning",
            "reasoning_content",
            "refusal",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "index",
            "finish",
            "id",
            "x\\\"y",
            "t\\u0065xt",
        ])
    };
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key(), inner), 0..4).prop_map(|fields| {
                let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", fields.join(", "))
            }),
        ]
    })
}

/// An event's JSON: mostly of the usual shape around some content, also with other values in its places.
fn event_json() -> impl Strategy<Value = String> {
    let shape = prop::sample::select(vec![
        "{\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":@},\"finish_reason\":null}]}",
        "{\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":@},\"finish_reason\":null}]}",
        "{\"choices\":[{\"delta\":{\"reasoning_content\":@}}],\"id\":\"b\"}",
        "{\"choices\": [ {\"text\": @} ] }",
        "{\"choices\":[{\"delta\":{\"content\":@,\"content\":\"\"}}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":@}}]}}]}",
        "{\"choices\":[{\"delta\":@}]}",
        "{\"choices\":@}",
        "@",
    ]);
    let content = prop::sample::select(vec![
        "\"\"",
        "\"a\"",
        "\" word\"",
        "\"\\n\"",
        "\"0123456789abcdef\"",
        "\"é\"",
        "\"\\\"},\"",
    ]);
    (shape, prop_oneof![4 => content.prop_map(str::to_owned), 1 => value()])
        .prop_map(|(shape, content)| shape.replace('@', &content))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_stream_is_read_as_a_general_parser_reads_it(
        events in prop::collection::vec((event_json(), prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r", "\n\r\n"])), 1..12),
        cuts in prop::collection::vec(0_usize..3000, 0..6),
        each_in_its_chunk in any::<bool>(),
    ) {
        let frames: Vec<String> = events.iter().map(|(json, end)| format!("data: {json}{end}")).collect();
        let body = frames.concat();
        let bytes = if each_in_its_chunk { sse_chunks(frames.iter().map(String::as_bytes)) } else { sse(body.as_bytes()) };
        let whole = Client::new(true).hear(true, [&bytes[..]]);
        let (mut chunks, mut output, mut broken) = (0, false, false);
        for (json, _) in &events {
            match model(json) {
                Some((token, out)) => {
                    chunks += u32::from(token);
                    output |= out;
                }
                None => {
                    broken = true;
                    break;
                }
            }
        }
        prop_assert_eq!((whole.outcome.chunks, whole.tally.output), (chunks, output));
        let wanted = match (broken, chunks) {
            (true, _) => Err((Failure::Body, Detail::BadJson)),
            (false, 0) => Err((Failure::Body, Detail::Empty)),
            _ => Ok(()),
        };
        prop_assert_eq!(whole.verdict, wanted);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let split = Client::new(true).hear(true, cuts.windows(2).map(|w| &bytes[w[0]..w[1]]));
        prop_assert_eq!(&split, &whole);
        prop_assert_eq!(&Client::new(true).hear(true, bytes.chunks(1)), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        Client::new(true).hear(true, [&bytes[..]]);
        Client::new(true).hear(true, [&sse(&bytes)[..]]);
        Client::new(true).hear(false, [&plain("200 OK", "application/json", &bytes)[..]]);
        Client::new(true).hear(true, [&plain("500 No", "text/html", &bytes)[..]]);
    }
}
