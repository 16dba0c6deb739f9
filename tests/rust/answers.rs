//! Answers of Ollama's own API and of embeddings, from the socket's reads to the verdict.

#![allow(clippy::unwrap_used)]

use loadgen::endpoint::{Answer, AnswerOptions, Api, Outcome};
use loadgen::http::{Limits, Progress, ResponseParser};
use loadgen::record::{Detail, Failure, Finish};

struct Seen {
    outcome: Outcome,
    text: String,
    reasoning: String,
    verdict: Result<(), (Failure, Detail)>,
    words: String,
}

fn read<'a>(api: Api, streamed: bool, reads: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut answer = Answer::new(api, AnswerOptions { keep_text: true, ..AnswerOptions::default() });
    let mut parser = ResponseParser::new(Limits::default());
    answer.reset(streamed);
    let mut last = Ok(Progress::More);
    for bytes in reads {
        last = parser.feed(bytes, &mut answer);
        if last.is_err() {
            break;
        }
    }
    if last == Ok(Progress::More) {
        last = parser.eof(&mut answer);
    }
    let verdict = last.and_then(|_| answer.end());
    Seen {
        outcome: answer.outcome(),
        text: String::from_utf8_lossy(answer.text()).into_owned(),
        reasoning: String::from_utf8_lossy(answer.reasoning()).into_owned(),
        words: verdict.as_ref().err().map(|fault| fault.text.to_string()).unwrap_or_default(),
        verdict: verdict.map_err(|fault| (fault.failure, fault.detail)),
    }
}

/// An answer read in one piece; byte by byte it must be the same.
fn hear(api: Api, streamed: bool, bytes: &[u8]) -> Seen {
    let whole = read(api, streamed, [bytes]);
    let pieces = read(api, streamed, bytes.chunks(1));
    assert_eq!((pieces.outcome, &pieces.text, &pieces.verdict), (whole.outcome, &whole.text, &whole.verdict));
    whole
}

fn response(kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn lines(body: &str) -> Vec<u8> {
    response("application/x-ndjson", body)
}

const CHAT: &str = concat!(
    r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
    "\n",
    r#"{"model":"m","message":{"role":"assistant","content":"a \"b\""},"done":false}"#,
    "\n",
    r#"{"model":"m","message":{"role":"assistant","content":" c"},"done":false}"#,
    "\n",
    r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":4}"#,
    "\n",
);

#[test]
fn a_streamed_chat_has_its_chunks_text_and_counts() {
    let seen = hear(Api::OllamaChat, true, &lines(CHAT));
    assert_eq!(seen.verdict, Ok(()));
    assert_eq!((seen.text.as_str(), seen.reasoning.as_str()), ("a \"b\" c", "hm"));
    let Outcome { events, chunks, finish, tokens_in, tokens_out, streamed, .. } = seen.outcome;
    assert_eq!((events, chunks, finish, streamed), (4, 3, Finish::Stop, true));
    assert_eq!((tokens_in, tokens_out), (Some(5), Some(4)));
}

#[test]
fn a_last_line_needs_no_line_feed_and_the_type_may_be_json() {
    for bytes in [lines(CHAT.trim_end()), response("application/json", CHAT), response("", CHAT)] {
        let seen = hear(Api::OllamaChat, true, &bytes);
        assert_eq!((seen.verdict, seen.text.as_str()), (Ok(()), "a \"b\" c"));
    }
}

#[test]
fn an_answer_in_one_piece() {
    let body =
        r#"{"model":"m","response":"yes","done":true,"done_reason":"length","prompt_eval_count":2,"eval_count":1}"#;
    let seen = hear(Api::OllamaGenerate, false, &response("application/json; charset=utf-8", body));
    assert_eq!((seen.verdict, seen.text.as_str()), (Ok(()), "yes"));
    assert_eq!((seen.outcome.finish, seen.outcome.streamed), (Finish::Length, false));
}

#[test]
fn a_stream_that_ends_before_it_is_done_is_broken() {
    let cut = &CHAT
        [..CHAT.find("{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true").unwrap()];
    for body in [cut, &cut[..cut.len() - 20]] {
        let seen = hear(Api::OllamaChat, true, &lines(body));
        assert_eq!(seen.verdict, Err((Failure::Body, Detail::EarlyEnd)), "{body}");
    }
    assert_eq!(hear(Api::OllamaChat, true, &lines("")).verdict, Err((Failure::Body, Detail::Empty)));
}

#[test]
fn an_error_in_the_stream_is_a_failure_in_the_servers_words() {
    let first = CHAT.lines().next().unwrap();
    let seen = hear(Api::OllamaChat, true, &lines(&format!("{first}\n{{\"error\":\"out of memory\"}}\n")));
    assert_eq!(seen.verdict, Err((Failure::Body, Detail::ErrorEvent)));
    assert!(seen.words.contains("out of memory"), "{}", seen.words);
}

#[test]
fn broken_lines_are_named() {
    let seen = hear(Api::OllamaGenerate, true, &lines("{\"response\":\"a\"}\n{\"response\":\n"));
    assert_eq!(seen.verdict, Err((Failure::Body, Detail::BadJson)));
}

#[test]
fn vectors_are_the_text_as_it_came() {
    for (api, body, tokens) in [
        (
            Api::Embeddings,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.25e-3]}],"usage":{"prompt_tokens":3}}"#,
            Some(3),
        ),
        (Api::OllamaEmbed, r#"{"model":"m","embeddings":[[0.5],[1]],"prompt_eval_count":6}"#, Some(6)),
    ] {
        let seen = hear(api, false, &response("application/json", body));
        assert_eq!((seen.verdict, seen.text.as_str()), (Ok(()), body));
        assert_eq!(seen.outcome.tokens_in, tokens);
    }
}

#[test]
fn an_answer_without_vectors_says_what_it_lacks() {
    for (api, body, words) in [
        (Api::Embeddings, r#"{"data":[],"usage":{"prompt_tokens":3}}"#, "its embeddings are empty"),
        (Api::OllamaEmbed, r#"{"model":"m"}"#, "no embeddings in"),
        (Api::OllamaGenerate, r#"{"model":"m"}"#, "no response in"),
        (Api::Chat, r#"{"model":"m"}"#, "no choices in"),
    ] {
        let seen = hear(api, false, &response("application/json", body));
        assert!(seen.verdict.is_err() && seen.words.contains(words), "{api:?}: {}", seen.words);
    }
}

#[test]
fn lines_where_events_were_asked_for_are_still_refused() {
    let seen = hear(Api::Chat, true, &lines(CHAT));
    assert_eq!(seen.verdict, Err((Failure::Protocol, Detail::ContentType)));
}
