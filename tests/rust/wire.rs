//! The bytes of answers as servers, and broken servers, send them: from the socket's reads to the verdict.
//!
//! One test a line of what a run must survive, as far as it shows in the bytes; then the whole against a slow model.

#![allow(clippy::unwrap_used)]

mod wire_model;

use loadgen::endpoint::Api;
use loadgen::endpoint::{Answer, AnswerOptions, Outcome, ReadTally};
use loadgen::http::{Fault, Limits, Progress, ResponseParser};
use loadgen::record::{Detail, Failure, Finish};
use proptest::prelude::*;

/// What came of one answer.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    outcome: Outcome,
    /// The sum of all reads.
    tally: ReadTally,
    text: String,
    reasoning: String,
    verdict: Result<(), (Failure, Detail)>,
    words: String,
    reusable: bool,
}

/// A connection and its decoder, used for one answer after the other as the engine uses them.
struct Client {
    parser: ResponseParser,
    answer: Answer,
}

impl Client {
    fn new(keep_text: bool) -> Self {
        let limits = Limits::default();
        let answer = Answer::new(Api::Chat, AnswerOptions { keep_text, limits, ..AnswerOptions::default() });
        Self { parser: ResponseParser::new(limits), answer }
    }

    fn hear<'a>(&mut self, streamed: bool, reads: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        self.parser.reset();
        self.answer.reset(streamed);
        let mut tally = ReadTally::default();
        let mut last = Ok(Progress::More);
        for read in reads {
            last = self.parser.feed(read, &mut self.answer);
            add(&mut tally, self.answer.take_read());
            if last.is_err() {
                break;
            }
        }
        if last == Ok(Progress::More) {
            last = self.parser.eof(&mut self.answer);
        }
        let reusable = last == Ok(Progress::Done { reusable: true });
        let verdict: Result<(), Fault> = last.and_then(|_| self.answer.end());
        Seen {
            outcome: self.answer.outcome(),
            tally,
            text: String::from_utf8_lossy(self.answer.text()).into_owned(),
            reasoning: String::from_utf8_lossy(self.answer.reasoning()).into_owned(),
            words: verdict.as_ref().err().map(|fault| fault.text.to_string()).unwrap_or_default(),
            verdict: verdict.map_err(|fault| (fault.failure, fault.detail)),
            reusable,
        }
    }
}

fn add(sum: &mut ReadTally, read: ReadTally) {
    sum.events += read.events;
    sum.chunks += read.chunks;
    sum.tokens += read.tokens;
    sum.output |= read.output;
    sum.finished |= read.finished;
}

/// One answer in one read; then byte by byte, and in pieces of seven: all must be the same.
fn hear(bytes: &[u8]) -> Seen {
    let seen = Client::new(true).hear(true, [bytes]);
    for size in [1, 7] {
        // What is quoted of the server may depend on how much of it was there.
        let pieces = Client::new(true).hear(true, bytes.chunks(size));
        assert_eq!(Seen { words: seen.words.clone(), ..pieces }, seen, "in pieces of {size}");
    }
    seen
}

/// A stream's body in one HTTP chunk.
fn sse(body: &[u8]) -> Vec<u8> {
    sse_chunks([body])
}

fn sse_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn plain(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn stream(body: &str) -> Seen {
    hear(&sse(body.as_bytes()))
}

fn event(content: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\"{content}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

fn failed(seen: &Seen) -> (Failure, Detail) {
    seen.verdict.unwrap_err()
}

#[test]
fn an_answer_as_vllm_streams_it() {
    let seen = stream(&format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"finish_reason\":null}}]}}\n\n\
         {}{}{}\
         data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"length\"}}]}}\n\n\
         data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"total_tokens\":12,\"completion_tokens\":3}}}}\n\n\
         data: [DONE]\n\n",
        event("Hel"),
        event("lo\\n"),
        event(" \\ud83d\\ude00")
    ));
    let wanted = Outcome {
        status: 200,
        finish: Finish::Length,
        tokens_in: Some(9),
        tokens_out: Some(3),
        events: 7,
        chunks: 3,
        streamed: true,
    };
    assert_eq!((seen.verdict, seen.outcome, seen.reusable), (Ok(()), wanted, true));
    assert_eq!(seen.tally, ReadTally { events: 7, chunks: 3, tokens: 0, output: true, finished: true });
    assert_eq!(seen.text, "Hello\n \u{1f600}");
}

#[test]
fn an_end_without_done_and_with_usage_on_the_finish_chunk() {
    let seen = stream(&format!(
        "{}data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"completion_tokens\":1}}}}\n\n",
        event("a")
    ));
    assert_eq!((seen.verdict, seen.outcome.tokens_out, seen.outcome.finish), (Ok(()), Some(1), Finish::Stop));
    assert!(!seen.tally.finished);
}

#[test]
fn every_line_end_and_field_form_carries_its_token() {
    let json = "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}";
    for body in [
        format!("data: {json}\n\ndata: {json}\n\n"),
        format!("data: {json}\r\n\r\ndata: {json}\r\n\r\n"),
        format!("data: {json}\r\rdata: {json}\r\r"),
        format!("data: {json}\r\n\ndata: {json}\n\r\n"),
        format!("\u{feff}data: {json}\n\ndata: {json}\n\n"),
        format!("data:{json}\n\ndata:{json}\n\n"),
        format!("event: message\nid: 7\nretry: 1\ndata: {json}\n\n: ping\n\ndata: {json}\n\n"),
        format!("data: {}\ndata: {}\n\ndata: {json}\n\n", &json[..12], &json[12..]),
        format!("data\n\ndata:\n\nevent: ping\ndata: {{}}\n\ndata: {json}\n\ndata: {json}\n\n"),
    ] {
        let seen = stream(&body);
        assert_eq!((seen.verdict, seen.outcome.chunks, seen.outcome.events), (Ok(()), 2, 2), "{body:?}");
        assert_eq!(seen.text, "xx", "{body:?}");
    }
}

#[test]
fn half_a_line_at_the_end_is_no_event_and_matters_only_where_the_end_was_not_told() {
    let cut = stream(&format!("{}data: half a li", event("a")));
    assert_eq!((failed(&cut), cut.outcome.events), ((Failure::Body, Detail::EarlyEnd), 1));
    for end in ["data: [DONE]\n\n", "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n"] {
        let seen = stream(&format!("{}{end}data: half a li", event("a")));
        assert_eq!((seen.verdict, seen.outcome.events), (Ok(()), 2), "{end}");
    }
}

#[test]
fn text_that_is_hardly_text_is_still_a_token() {
    for content in [&b"\xff\xfe"[..], b"\\ud800", b"\\u0000", "\u{fffd}".as_bytes(), b"\xc3", b"\x7f", b"\\\"\\\\"] {
        let mut bytes = event("first").into_bytes();
        let other = event("@@").into_bytes();
        let at = other.windows(2).position(|w| w == b"@@").unwrap();
        for _ in 0..2 {
            bytes.extend_from_slice(&other[..at]);
            bytes.extend_from_slice(content);
            bytes.extend_from_slice(&other[at + 2..]);
        }
        let seen = hear(&sse(&bytes));
        assert_eq!((seen.verdict, seen.outcome.chunks), (Ok(()), 3), "{content:?}");
        assert!(seen.text.len() > "first".len());
    }
}

#[test]
fn reasoning_is_a_token_but_no_output() {
    let reasoning = "data: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}\n\n".repeat(2);
    let seen = stream(&reasoning);
    assert_eq!((seen.outcome.chunks, seen.tally.output), (2, false));
    assert_eq!((&*seen.text, &*seen.reasoning), ("", "hmhm"));
    let seen = stream(&format!("{reasoning}{}", event("a")));
    assert_eq!((seen.outcome.chunks, seen.tally.output), (3, true));
}

#[test]
fn tool_calls_are_tokens_and_output() {
    let call = |arguments: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"{arguments}\"}}}}]}}}}]}}\n\n"
        )
    };
    let seen = stream(&[call("{"), call("}"), call("")].concat());
    assert_eq!((seen.verdict, seen.outcome.chunks, seen.tally.output, &*seen.text), (Ok(()), 2, true, ""));
}

#[test]
fn interleaved_choices_all_count_and_the_first_ones_text_is_kept() {
    let piece = |index: u32, text: &str| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let seen = stream(&[piece(0, "a"), piece(1, "b"), piece(1, "c"), piece(0, "d")].concat());
    assert_eq!((seen.outcome.chunks, &*seen.text), (4, "ad"));
}

#[test]
fn continuous_usage_counts_the_tokens_of_each_read() {
    let chunk = |text: &str, tokens: u32| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":{{\"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    let body = [chunk("", 0), chunk("a", 1), chunk("bcd", 4), chunk("e", 5)];
    let mut client = Client::new(false);
    let seen = client.hear(true, [&sse_chunks(body.iter().map(|b| b.as_bytes()))[..]]);
    assert_eq!((seen.tally.tokens, seen.outcome.tokens_out, seen.outcome.chunks), (5, Some(5), 3));
    // Usage that comes only with the last text is no continuous usage.
    assert_eq!(stream(&[event("a"), chunk("b", 2)].concat()).tally.tokens, 0);
    assert_eq!(stream(&[event("a"), event("b"), chunk("b", 3)].concat()).tally.tokens, 0);
}

#[test]
fn an_error_event_fails_the_request_whatever_the_status() {
    for (body, words) in [
        (
            format!("{}data: {{\"error\":{{\"message\":\"out of memory\"}}}}\n\ndata: [DONE]\n\n", event("a")),
            "out of memory",
        ),
        (format!("{}event: error\ndata: it broke\n\n", event("a")), "it broke"),
        (format!("{}error: {{\"message\":\"as old llama.cpp\"}}\n\n", event("a")), "as old llama.cpp"),
        (format!("{}{{\"error\":\"bare\"}}\n\n", event("a")), "bare"),
        (format!("{}data: {{\"object\":\"error\",\"message\":\"as old vLLM\"}}\n\n", event("a")), "as old vLLM"),
    ] {
        let seen = stream(&body);
        assert_eq!(failed(&seen), (Failure::Body, Detail::ErrorEvent), "{body}");
        assert_eq!((&*seen.words, seen.outcome.chunks, seen.outcome.events, seen.reusable), (words, 1, 2, true));
        assert!(seen.tally.finished);
    }
    // Cut off after it: the error is the reason, not the cut.
    let whole = sse(b"data: {\"error\":\"why\"}\n\n");
    let seen = hear(&whole[..whole.len() - 5]);
    assert_eq!((failed(&seen), &*seen.words), ((Failure::Body, Detail::ErrorEvent), "why"));
}

#[test]
fn what_follows_done_is_not_counted() {
    let seen = stream(&format!("{}data: [DONE]\n\ndata: [DONE]\n\n{}data: junk\n\n", event("a"), event("b")));
    assert_eq!((seen.verdict, seen.outcome.chunks, seen.outcome.events, &*seen.text), (Ok(()), 1, 2, "a"));
}

#[test]
fn an_end_before_its_time_keeps_what_came() {
    let whole = sse([event("a"), event("b"), event("c")].concat().as_bytes());
    let seen = hear(&whole[..whole.len() - 20]);
    assert_eq!((failed(&seen), seen.outcome.chunks), ((Failure::Body, Detail::EarlyEnd), 2));
    // Closed by the connection: only the stream itself can say that it was whole.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let cut = hear(format!("{head}{}", event("a")).as_bytes());
    assert_eq!((failed(&cut), cut.outcome.chunks), ((Failure::Body, Detail::EarlyEnd), 1));
    for end in [
        "data: [DONE]\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"usage\":{\"completion_tokens\":1}}\n\n",
    ] {
        assert_eq!(hear(format!("{head}{}{end}", event("a")).as_bytes()).verdict, Ok(()), "{end}");
    }
}

#[test]
fn nothing_is_not_an_answer_but_an_empty_one_may_be_meant() {
    for body in [
        "",
        ": ping\n\n",
        "data: [DONE]\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n",
        "data: {}\n\n",
    ] {
        assert_eq!(failed(&stream(body)), (Failure::Body, Detail::Empty), "{body:?}");
    }
    for body in [
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":0}}\n\n",
    ] {
        assert_eq!(stream(body).verdict, Ok(()), "{body:?}");
    }
    assert_eq!(failed(&hear(b"HTTP/1.1 204 No Content\r\n\r\n")), (Failure::Body, Detail::Empty));
}

#[test]
fn broken_json_is_named() {
    for data in ["{", "{\"a\":NaN}", "nonsense", "[1]", "{\"choices\":[}"] {
        let seen = hear(&sse(format!("{}data: {data}\n\n", event("a")).as_bytes()));
        assert_eq!((failed(&seen), seen.outcome.chunks), ((Failure::Body, Detail::BadJson), 1), "{data}");
        assert!(seen.words.contains(data), "{}", seen.words);
    }
    let deep = format!("data: {{\"a\":{}}}\n\n", "[".repeat(100_000));
    assert_eq!(failed(&Client::new(false).hear(true, [&sse(deep.as_bytes())[..]])), (Failure::Body, Detail::BadJson));
}

#[test]
fn huge_numbers_and_repeated_keys_do_no_harm() {
    let seen = stream(&format!(
        "{}data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":1,\"completion_tokens\":99999999999999999999,\"prompt_tokens\":1e999}}}}\n\n",
        event("a")
    ));
    assert_eq!((seen.verdict, seen.outcome.tokens_out, seen.outcome.tokens_in), (Ok(()), None, None));
}

#[test]
fn an_endless_line_ends_the_request_in_bounded_memory() {
    let mut client = Client::new(true);
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ".to_vec();
    let piece = vec![b'x'; 64 << 10];
    let reads = std::iter::once(&head[..]).chain(std::iter::repeat_n(&piece[..], 1600));
    assert_eq!(failed(&client.hear(true, reads)), (Failure::Protocol, Detail::LineTooLong));
}

#[test]
fn json_lines_are_no_event_stream() {
    let lines = "{\"message\":{\"content\":\"a\"}}\n{\"message\":{\"content\":\"b\"},\"done\":true}\n";
    for kind in ["application/x-ndjson", "text/event-stream", "application/json"] {
        let seen = hear(&plain("200 OK", kind, lines.as_bytes()));
        assert_eq!(failed(&seen), (Failure::Protocol, Detail::ContentType), "{kind}");
    }
    let one_line = hear(&plain("200 OK", "text/event-stream", b"{\"choices\":[]}"));
    assert_eq!(failed(&one_line), (Failure::Protocol, Detail::ContentType));
}

#[test]
fn other_types_and_encodings_are_refused_at_the_head() {
    let html = hear(&plain("200 OK", "text/html; charset=utf-8", b"<html>log in</html>"));
    assert_eq!(failed(&html), (Failure::Protocol, Detail::ContentType));
    assert!(html.words.contains("text/html"));
    for encoding in ["gzip", "br", "gzip, gzip"] {
        let bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: {encoding}\r\n\r\n\x1f");
        assert_eq!(failed(&hear(bytes.as_bytes())), (Failure::Protocol, Detail::Encoding));
    }
    let identity = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: identity\r\nContent-Length: 30\r\n\r\n{\"choices\":[{\"text\":\"abcdefg\"}]}";
    assert_eq!(failed(&hear(identity)), (Failure::Protocol, Detail::BadLength));
}

#[test]
fn a_body_without_a_type_is_known_by_its_first_bytes() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |body: &str| format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let seen = hear(chunked(&event("a")).as_bytes());
    assert_eq!((seen.verdict, seen.outcome.streamed, seen.outcome.chunks), (Ok(()), true, 1));
    let seen = hear(chunked(&format!(" \n {}", event("a"))).as_bytes());
    assert_eq!((seen.verdict, seen.outcome.chunks), (Ok(()), 1));
    let seen = hear(chunked("\n {\"choices\":[{\"text\":\"a\"}]}").as_bytes());
    assert_eq!((seen.verdict, seen.outcome.streamed, &*seen.text), (Ok(()), false, "a"));
    assert_eq!(failed(&hear(chunked("<html>").as_bytes())), (Failure::Protocol, Detail::ContentType));
    assert_eq!(failed(&hear(format!("{head}0\r\n\r\n").as_bytes())), (Failure::Body, Detail::Empty));
}

#[test]
fn answers_that_are_not_streamed() {
    let body = "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hi \\u00e9\"},\"finish_reason\":\"stop\"}],\
                \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}";
    for asked in [true, false] {
        let seen =
            Client::new(true).hear(asked, [&plain("200 OK", "application/json; charset=utf-8", body.as_bytes())[..]]);
        assert_eq!((seen.verdict, seen.outcome.streamed, seen.outcome.finish), (Ok(()), false, Finish::Stop));
        assert_eq!((seen.outcome.tokens_in, seen.outcome.tokens_out, seen.outcome.chunks), (Some(5), Some(2), 0));
        assert_eq!((&*seen.text, seen.tally), ("hi é", ReadTally::default()));
    }
    for (body, detail) in [
        ("", Detail::Empty),
        ("  ", Detail::Empty),
        ("{\"choices\":[]}", Detail::Empty),
        ("{\"choices\":[{\"message\":{\"content\":\"\"}}]}", Detail::Empty),
        ("{\"choices\":[", Detail::BadJson),
        ("{\"data\":[]}", Detail::BadJson),
        ("\"x\"", Detail::BadJson),
        ("{\"error\":{\"message\":\"no\"}}", Detail::ErrorEvent),
    ] {
        let bytes = plain("200 OK", "application/json", body.as_bytes());
        assert_eq!(failed(&Client::new(false).hear(false, [&bytes[..]])), (Failure::Body, detail), "{body}");
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    for (status, kind, body, words) in [
        ("429 Too Many", "application/json", "{\"error\":{\"message\":\"slow down\"}}", "HTTP 429: slow down"),
        ("404 Not Found", "application/json", "{\"detail\":\"Not Found\"}", "HTTP 404: Not Found"),
        ("400 Bad", "application/json", "{\"error\":\"bad model\"}", "HTTP 400: bad model"),
        ("502 Bad Gateway", "text/html", "<title>502</title>", "HTTP 502: 502"),
        ("500 Oops", "text/plain", "", "HTTP 500"),
        ("401 No", "text/event-stream", "data: x\n\n", "HTTP 401: data: x"),
    ] {
        let seen = hear(&plain(status, kind, body.as_bytes()));
        assert_eq!((failed(&seen), &*seen.words), ((Failure::Http, Detail::None), words));
        assert_eq!((seen.outcome.status.to_string(), seen.reusable), (status[..3].to_owned(), true));
    }
    for (location, words) in [
        ("Location: http://elsewhere/v1?key=abc\r\n", "HTTP 307 to http://elsewhere/v1"),
        ("Location: /v1/chat/completions/#top\r\n", "HTTP 307 to /v1/chat/completions/"),
        ("Location: http://me:secret@elsewhere/\r\n", "HTTP 307: moved"),
        ("Location: \r\n", "HTTP 307: moved"),
        ("", "HTTP 307: moved"),
    ] {
        let seen = hear(format!("HTTP/1.1 307 Moved\r\n{location}Content-Length: 5\r\n\r\nmoved").as_bytes());
        assert_eq!((failed(&seen), &*seen.words), ((Failure::Http, Detail::Redirect), words));
    }
    let created = hear(b"HTTP/1.1 400 Bad\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(&*created.words, "HTTP 400: no", "only a redirect leads anywhere");
    let cut = hear(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\ngone");
    assert_eq!((failed(&cut), &*cut.words), ((Failure::Http, Detail::None), "HTTP 503: gone"));
    let gzipped = hear(b"HTTP/1.1 502 Bad\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b");
    assert_eq!(failed(&gzipped), (Failure::Http, Detail::None));
    let huge = plain("500 Oops", "text/plain", &vec![b'x'; 1 << 20]);
    assert!(Client::new(false).hear(true, [&huge[..]]).words.chars().count() <= 320);
}

#[test]
fn an_echoed_key_is_masked() {
    use loadgen::http::{RequestTemplate, Target};
    let target = Target::parse("http://h", "/v1/chat/completions", false).unwrap();
    let template = RequestTemplate::new(&target, &[], Some("sk-canary-123456"), true).unwrap();
    let mut client = Client::new(false);
    client.answer = Answer::new(Api::Chat, AnswerOptions::default()).with_secrets(template.secrets().clone());
    let long = format!("{{\"error\":\"{}sk-canary-123456\"}}", "x".repeat(290));
    for body in ["{\"error\":\"wrong key sk-canary-123456!\"}", &long] {
        let seen = client.hear(true, [&plain("401 No", "application/json", body.as_bytes())[..]]);
        assert!(seen.words.contains("[redacted]") && !seen.words.contains("sk-canary"), "{}", seen.words);
    }
}

#[test]
fn one_client_serves_answers_of_every_kind_in_turn() {
    let mut client = Client::new(true);
    for round in 0..3 {
        let good = client.hear(true, [&sse([event("a"), event("b")].concat().as_bytes())[..]]);
        assert_eq!((good.verdict, good.outcome.chunks, &*good.text), (Ok(()), 2, "ab"), "round {round}");
        let refused = client.hear(true, [&plain("500 Oops", "text/plain", b"oops")[..]]);
        assert_eq!((refused.outcome.status, &*refused.words, &*refused.text), (500, "HTTP 500: oops", ""));
        let json = client.hear(false, [&plain("200 OK", "application/json", b"{\"choices\":[{\"text\":\"c\"}]}")[..]]);
        assert_eq!((json.verdict, json.outcome.chunks, &*json.text), (Ok(()), 0, "c"));
    }
}
