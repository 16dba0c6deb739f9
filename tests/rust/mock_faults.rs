//! Every fault of the mock, byte for byte: that it does what its name says, and that the server outlives it.

#![allow(clippy::unwrap_used)]

mod mock_client;

use std::io::{BufRead, ErrorKind, Read};
use std::net::Shutdown;

use loadgen::mock::faults;
use mock_client::{Answer, Client, numbers, prompt, server, truth, with};
use serde_json::{Value, json};

/// How a connection ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Fin,
    Reset,
    /// There was more, and we left.
    Left,
}

/// The most that is read of an answer without an end.
const ENOUGH: usize = 3 << 20;

fn stream() -> Value {
    with(json!({"stream": true, "max_tokens": 8, "stream_options": {"include_usage": true}}))
}

/// Faults after which the server keeps the connection open: the client ends its side to see the end.
fn holds(name: &str) -> bool {
    name.starts_with("stall_") || name == "open_after_done"
}

/// Everything that a request's connection brought, with the time of creation taken out, and how it ended.
fn raw(config: &Value, body: &Value, half_close: bool) -> (Vec<u8>, Ended) {
    let server = server(&config.to_string());
    let mut client = Client::to(&server);
    // A reset is told once: to the write, if it comes before it.
    let reset = client.post("/v1/chat/completions", "connection: close\r\n", body);
    if half_close {
        client.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let ended = loop {
        match client.stream.read(&mut piece) {
            Ok(0) if reset => break Ended::Reset,
            Ok(0) => break Ended::Fin,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break Ended::Reset,
            Err(error) => panic!("{error}"),
        }
        if bytes.len() > ENOUGH {
            break Ended::Left;
        }
    };
    drop(client);
    while truth(&server)["in_flight"] != 0 {}
    (dated(bytes), ended)
}

/// Moments differ from run to run, nothing else does.
fn dated(mut bytes: Vec<u8>) -> Vec<u8> {
    let mark = b"\"created\":";
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&bytes[at..], mark) {
        at += found + mark.len();
        let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let last = at + digits.min(10);
        bytes[last - digits.min(10)..last].fill(b'0');
    }
    bytes
}

fn with_fault(name: &str) -> (Vec<u8>, Ended) {
    raw(&json!({"faults": [name]}), &stream(), holds(name))
}

/// The answer of a fault whose answer is good HTTP.
fn answer(name: &str, body: &Value) -> Answer {
    let server = server("{}");
    let mut client = Client::to(&server);
    client.post("/v1/chat/completions", &format!("x-mock-fault: {name}\r\nconnection: close\r\n"), body);
    client.answer()
}

fn has(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

fn count(haystack: &[u8], needle: &str) -> usize {
    memchr::memmem::find_iter(haystack, needle.as_bytes()).count()
}

/// The data of a stream's events as the standard reads them (WHATWG HTML, 9.2.6), pings and empty ones left out.
fn standard_events(body: &[u8]) -> Vec<String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = String::from_utf8(body.to_vec()).unwrap().replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut data, mut kind) = (Vec::new(), "");
    for line in text.lines() {
        if line.is_empty() {
            let event = data.join("\n");
            if !event.is_empty() && kind != "ping" {
                events.push(event);
            }
            (data, kind) = (Vec::new(), "");
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "event" => kind = value,
            _ => {}
        }
    }
    events
}

/// Events without what differs from request to request.
fn said(body: &[u8]) -> Vec<String> {
    let events = standard_events(&dated(body.to_vec()));
    events.into_iter().map(|event| event.split_once("\"choices\"").map_or(event.clone(), |c| c.1.to_owned())).collect()
}

#[test]
fn every_fault_shows_on_the_wire_and_in_the_truth_and_the_server_outlives_it() {
    // Those that change no byte and no end of a single answer have tests of their own.
    const ELSEWHERE: [&str; 5] = ["one_byte_writes", "one_write", "slowloris", "close_idle", "close_on_reuse"];
    let unasked = with(json!({"stream": true, "max_tokens": 8}));
    let plain = raw(&json!({}), &stream(), false);
    let plain_unasked = raw(&json!({}), &unasked, false);
    assert_eq!(plain.1, Ended::Fin);
    for fault in &faults::ALL {
        let changes = || {
            with_fault(fault.name) != plain || raw(&json!({"faults": [fault.name]}), &unasked, false) != plain_unasked
        };
        assert!(ELSEWHERE.contains(&fault.name) || changes(), "{} changes nothing", fault.name);
        let server = server("{}");
        let mut client = Client::to(&server);
        client.post("/v1/chat/completions", &format!("x-mock-fault: {}\r\n", fault.name), &stream());
        while truth(&server)["requests"] != 1 {}
        drop(client);
        while truth(&server)["in_flight"] != 0 {}
        assert_eq!(truth(&server)["rows"]["fault"], json!([fault.name]));
        assert_eq!(Client::to(&server).chat(prompt()).status, 200, "after {}", fault.name);
    }
}

#[test]
fn a_standard_reader_of_events_is_not_disturbed_by_what_the_standard_allows() {
    let plain = said(&answer("chunk_extensions", &stream()).body);
    assert_eq!(plain.len(), 12);
    for name in [
        "crlf",
        "cr",
        "mixed_newlines",
        "crlf_split",
        "bom",
        "no_space",
        "sse_fields",
        "comments",
        "pings",
        "empty_data",
        "one_byte_writes",
        "one_write",
        "http10",
        "no_length",
    ] {
        assert_eq!(said(&answer(name, &stream()).body), plain, "{name}");
    }
    // These change the text, or where lines end within the JSON.
    assert_eq!(said(&answer("split_utf8", &stream()).body).len(), 12);
    let spread = standard_events(&answer("multi_line_data", &stream()).body);
    assert!(
        spread[..11].iter().all(|e| e.lines().count() == 3 && serde_json::from_str::<Value>(e).is_ok()),
        "{spread:?}"
    );
}

#[test]
fn line_faults_write_the_lines_they_name() {
    let body = |name: &str| answer(name, &stream()).body;
    assert_eq!(count(&body("crlf"), "\r\n\r\n"), 12);
    assert_eq!((count(&body("cr"), "\r\r"), count(&body("cr"), "\n")), (12, 0));
    let mixed = body("mixed_newlines");
    assert!(has(&mixed, "}\n\r") && has(&mixed, "}\r\r\n") && has(&mixed, "}\r\n\n"));
    assert!(body("bom").starts_with(b"\xef\xbb\xbfdata: "));
    assert_eq!(count(&body("no_space"), "data:{"), 11);
    assert_eq!(count(&body("comments"), ": keep-alive\n\n"), 12);
    assert_eq!(count(&body("pings"), "event: ping\ndata: {\"type\":\"ping\"}\n\n"), 12);
    assert_eq!(count(&body("empty_data"), "data:\n\ndata: \n\ndata\n\n"), 12);
    assert_eq!(count(&body("sse_fields"), "event: message\nid: 7\nretry: 3000\nunknown: x\nnocolon\ndata: "), 12);
    let half = body("half_line_eof");
    assert!(!half.ends_with(b"\n") && has(&half, "data: {"));
    assert_eq!(body("ndjson").split(|b| *b == b'\n').filter(|line| !line.is_empty()).count(), 11);
    assert_eq!(answer("ndjson", &stream()).header("content-type"), Some("application/x-ndjson"));
}

#[test]
fn long_lines_are_as_long_as_promised_and_endless_ones_do_not_end() {
    let long = answer("long_line", &stream());
    let line = long.body.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(line > 100 << 20, "{line}");
    assert!(long.body.ends_with(b"data: [DONE]\n\n"));
    for name in ["endless_line", "endless_stream", "endless_headers"] {
        let (bytes, ended) = with_fault(name);
        assert_eq!(ended, Ended::Left, "{name}");
        assert_eq!(count(&bytes, "[DONE]"), 0);
        let newlines = count(&bytes[bytes.len() - (1 << 20)..], "\n\n");
        assert_eq!(newlines > 100, name == "endless_stream", "{name}: {newlines}");
    }
}

#[test]
fn json_faults_spoil_the_json_they_name() {
    let body = |name: &str| answer(name, &stream()).body;
    assert_eq!(count(&body("lone_surrogate"), "\"content\":\"\\ud83d "), 8);
    assert_eq!(count(&body("nul"), "\"content\":\"\\u0000 "), 8);
    assert_eq!(count(&body("nul_raw"), "\"content\":\"\0 "), 8);
    assert!(String::from_utf8(body("invalid_utf8")).is_err());
    assert_eq!(count(&body("control_chars"), "\\u001b[31m\x01\x7f"), 8);
    assert_eq!(count(&body("deep_json"), &"[".repeat(100_000)), 8);
    assert_eq!(count(&body("duplicate_keys"), "\"id\":\"decoy\""), 8);
    assert_eq!(count(&body("huge_int"), &"9".repeat(400)), 8);
    assert_eq!(count(&body("nan"), "NaN,\"top\":-Infinity"), 8);
    let reordered = standard_events(&body("reordered_keys"));
    for event in &reordered[1..9] {
        assert!(event.starts_with("{\"choices\":[{\"delta\":{"), "{event}");
        assert_eq!(serde_json::from_str::<Value>(event).unwrap()["choices"][0]["index"], 0);
    }
    for name in ["broken_json", "not_json"] {
        let bad = standard_events(&body(name)).iter().filter(|e| serde_json::from_str::<Value>(e).is_err()).count();
        // The broken one, and [DONE].
        assert_eq!(bad, 2, "{name}");
    }
}

#[test]
fn event_faults_leave_out_and_put_in_what_they_name() {
    let events = |name: &str| standard_events(&answer(name, &stream()).body);
    let error = events("error_event");
    assert!(error.last().unwrap().starts_with("{\"error\":{\"message\":\"The engine died\""), "{error:?}");
    let done = events("error_event_done");
    assert!(done[done.len() - 2].starts_with("{\"error\"") && done.last().unwrap() == "[DONE]");
    assert!(has(&answer("error_event_named", &stream()).body, "\n\nevent: error\ndata: {\"error\""));
    assert!(!events("no_done").contains(&"[DONE]".to_owned()));
    assert_eq!(events("two_done").iter().filter(|e| *e == "[DONE]").count(), 2);
    assert!(answer("bytes_after_done", &stream()).body.ends_with(b"[DONE]\n\ndata: {\"late\":true}\n\ndata: {\"la"));
    assert_eq!(events("role_only").len(), 4);
    for (name, mark) in [
        ("content_null", "\"delta\":{\"content\":null}"),
        ("empty_delta", "\"delta\":{},\"finish_reason\":null"),
        ("empty_content", "\"delta\":{\"content\":\"\"},"),
        ("empty_choices", "\"object\":\"chat.completion.chunk\",\"choices\":[]}"),
        ("no_choices", "\"object\":\"chat.completion.chunk\",\"created\":1}"),
    ] {
        assert_eq!(events(name).iter().filter(|e| e.contains(mark)).count(), 8, "{name}");
    }
    let reasonless = events("no_finish_reason");
    assert!(reasonless.iter().all(|e| !e.contains("\"finish_reason\":\"")), "{reasonless:?}");
    assert_eq!(events("empty_200"), [""; 0]);
    assert_eq!(answer("json_instead", &stream()).json()["usage"]["completion_tokens"], 8);
}

#[test]
fn usage_and_kinds_of_tokens_are_where_they_are_said_to_be() {
    let unasked = with(json!({"stream": true, "max_tokens": 8}));
    let events = |name: &str, body: &Value| standard_events(&answer(name, body).body);
    let usages = |events: &[String]| events.iter().filter(|e| e.contains("\"usage\":{")).count();
    assert_eq!(usages(&events("usage_absent", &stream())), 0);
    assert!(events("usage_own", &unasked).iter().any(|e| e.contains("\"choices\":[],\"usage\":{")));
    assert!(
        events("usage_delta", &unasked)
            .iter()
            .any(|e| e.contains("\"choices\":[{\"index\":0,\"delta\":{}}],\"usage\""))
    );
    assert!(events("usage_finish", &unasked).iter().any(|e| e.contains("\"finish_reason\":\"length\"}],\"usage\"")));
    assert_eq!(usages(&events("usage_continuous", &unasked)), 9);
    assert!(events("usage_wrong", &stream()).iter().any(|e| e.contains("\"completion_tokens\":98,")));
    let marks = |name: &str, mark: &str| events(name, &stream()).iter().filter(|e| e.contains(mark)).count();
    assert_eq!((marks("reasoning", "\"reasoning_content\":"), marks("reasoning", "\"content\":\" ")), (4, 4));
    assert_eq!((marks("tool_calls", "\"arguments\":"), marks("tool_calls", "\"name\":\"mock_tool\"")), (8, 1));
    assert_eq!((marks("n_interleaved", "\"index\":2"), marks("n_interleaved", "\"index\":0")), (10, 10));
}

#[test]
fn statuses_come_with_their_bodies_and_headers() {
    for (name, status) in [
        ("redirect", 307),
        ("redirect_301", 301),
        ("400", 400),
        ("401", 401),
        ("403", 403),
        ("404", 404),
        ("usage_refused_400", 400),
        ("usage_refused_422", 422),
        ("429", 429),
        ("500", 500),
        ("all_500", 500),
        ("503", 503),
    ] {
        let answer = answer(name, &stream());
        assert_eq!(answer.status, status, "{name}");
        assert!(answer.json()["error"]["message"].is_string(), "{name}");
    }
    assert_eq!(answer("usage_refused_400", &with(json!({"stream": true}))).status, 200);
    assert_eq!(answer("redirect", &prompt()).header("location"), Some("http://localhost:1/v1/chat/completions"));
    for (name, status) in [("500_html", 500), ("502_html", 502)] {
        let answer = answer(name, &prompt());
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("text/html")));
        assert!(answer.body.starts_with(b"<html>"));
    }
    assert_eq!(answer("500_empty", &prompt()).body, b"");
    let nothing = answer("204", &stream());
    assert_eq!((nothing.status, nothing.body.len(), nothing.header("transfer-encoding")), (204, 0, None));
}

#[test]
fn retry_after_is_written_in_every_way() {
    let hint = |name: &str| answer(name, &prompt()).header("retry-after").map(str::to_owned);
    assert_eq!(hint("429").as_deref(), Some("2"));
    assert!(hint("429_date").unwrap().ends_with(" GMT"));
    assert_eq!(hint("429_negative").as_deref(), Some("-5"));
    assert_eq!(hint("429_huge").unwrap().len(), 20);
    assert_eq!(hint("429_garbage").as_deref(), Some("soon, maybe"));
    assert_eq!(hint("429_absent"), None);
    assert_eq!(hint("429_fraction").as_deref(), Some("2.000"));
    let other = answer("429_other_name", &prompt());
    assert_eq!((other.header("retry-after"), other.header("llm_provider-retry-after")), (None, Some("2")));
}

#[test]
fn interim_answers_come_before_the_real_one() {
    for (name, status, times) in
        [("continue_100", 100, 1), ("processing_102_many", 102, 100), ("early_hints_103", 103, 1)]
    {
        let server = server("{}");
        let mut client = Client::to(&server);
        client.post("/v1/chat/completions", &format!("x-mock-fault: {name}\r\n"), &stream());
        for _ in 0..times {
            assert_eq!(client.head().0, status);
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.events().last().unwrap().as_str()), (200, "[DONE]"));
    }
    let (bytes, ended) = with_fault("upgrade_101");
    assert!(bytes.starts_with(b"HTTP/1.1 101 ") && bytes.ends_with(b"\r\n\r\n\x81\x05hello"));
    assert_eq!(ended, Ended::Fin);
}

#[test]
fn heads_are_broken_as_named() {
    let head = |name: &str| with_fault(name).0;
    assert!(head("bad_status_line").starts_with(b"HTTP/1.1 abc OK\r\n"));
    assert!(head("bad_version").starts_with(b"HTTP/3.7 200 OK\r\n"));
    assert_eq!(with_fault("not_http"), (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Ended::Fin));
    assert!(head("lf_head").starts_with(b"HTTP/1.1 200 OK\ncontent-type: "));
    assert!(has(&head("folded_header"), "\r\nx-folded: one\r\n two\r\n\r\n"));
    assert!(has(&head("header_without_colon"), "\r\nno colon here\r\n\r\n"));
    assert!(has(&head("nul_header"), "\r\nx-nul: a\0b\r\n"));
    assert!(has(&head("big_header"), &format!("\r\nx-big: {}\r\n", "a".repeat(1_000_000))));
    assert!(has(&head("many_headers"), "\r\nx-9999: 1\r\n"));
    assert!(head("endless_headers").starts_with(b"HTTP/1.1 200 OK\r\nx-more: 1\r\nx-more: 1\r\n"));
    assert!(head("http10").starts_with(b"HTTP/1.0 200 OK\r\n"));
    assert_eq!(answer("wrong_content_type", &stream()).header("content-type"), Some("text/html"));
    assert_eq!(answer("no_content_type", &stream()).header("content-type"), None);
    let open = answer("no_length", &stream());
    assert_eq!((open.header("transfer-encoding"), open.header("content-length")), (None, None));
}

#[test]
fn framing_is_broken_as_named() {
    let plain = answer("no_length", &stream()).body.len();
    let length = |name: &str| {
        let bytes = with_fault(name).0;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let said: Vec<String> =
            head.lines().filter_map(|line| line.strip_prefix("content-length: ")).map(str::to_owned).collect();
        (said, body.len())
    };
    assert_eq!(length("short_length"), (vec![(plain / 2).to_string()], plain));
    assert_eq!(length("long_length"), (vec![(plain + 1000).to_string()], plain));
    assert_eq!(length("negative_length").0, ["-1"]);
    assert_eq!(length("huge_length").0, ["9".repeat(30)]);
    assert_eq!(length("two_lengths").0, ["7".to_owned(), plain.to_string()]);
    let both = with_fault("length_and_chunked").0;
    assert!(has(&both, "transfer-encoding: chunked\r\ncontent-length: ") && both.ends_with(b"\r\n0\r\n\r\n"));
    assert!(has(&with_fault("bad_chunk_size").0, "\r\nxyz\r\ndata: "));
    assert!(has(&with_fault("huge_chunk_size").0, "\r\nfffffffffffffffff\r\ndata: "));
    assert_eq!(count(&with_fault("no_chunk_end").0, "}\n\n\r\n"), 10);
    assert_eq!(count(&with_fault("chunk_extensions").0, ";name=\"a;b\";flag\r\ndata: "), 12);
    assert!(with_fault("trailers").0.ends_with(b"\r\n0\r\nserver-timing: total;dur=1\r\nx-checksum: 0\r\n\r\n"));
    assert!(with_fault("extra_bytes").0.ends_with(b"0\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

#[test]
fn compression_is_announced_and_a_stored_member_holds_the_stream() {
    let answer = answer("gzip", &stream());
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.starts_with(&[0x1f, 0x8b, 8]));
    // One stored block: its five bytes, the stream, checksum and size.
    let stored = &answer.body[15..answer.body.len() - 8];
    assert_eq!(standard_events(stored).last().unwrap(), "[DONE]");
    let checksum = crc32fast::hash(stored).to_le_bytes();
    assert_eq!(answer.body[answer.body.len() - 8..answer.body.len() - 4], checksum);
}

#[test]
fn connections_end_where_and_how_the_name_says() {
    let tokens = |bytes: &[u8]| count(bytes, "\"content\":\" ") + count(bytes, "\"content\":\".");
    for (name, ended, head, told) in [
        ("reset_at_headers", Ended::Reset, false, 0),
        ("reset_at_first_token", Ended::Reset, true, 1),
        ("reset_at_midstream", Ended::Reset, true, 4),
        ("fin_at_headers", Ended::Fin, false, 0),
        ("stop_midstream", Ended::Fin, true, 4),
        ("stall_headers", Ended::Fin, false, 0),
        ("stall_first_token", Ended::Fin, true, 0),
        ("stall_midstream", Ended::Fin, true, 4),
        ("reset_at_accept", Ended::Reset, false, 0),
        ("fin_at_accept", Ended::Reset, false, 0),
    ] {
        let (bytes, how) = with_fault(name);
        assert_eq!((has(&bytes, "HTTP/1.1 200 OK\r\n"), tokens(&bytes)), (head, told), "{name}");
        // Closing a socket with the request unread is a reset too.
        assert!(how == ended || name == "fin_at_accept", "{name}: {how:?}");
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{name}");
    }
    let midhead = with_fault("fin_midhead").0;
    assert!(midhead.starts_with(b"HTTP/1.1 200 OK\r\n") && !has(&midhead, "\r\n\r\n"));
    let midchunk = with_fault("fin_midchunk").0;
    assert!(!midchunk.ends_with(b"\r\n") && tokens(&midchunk) <= 5);
    let open = with_fault("open_after_done").0;
    assert!(open.ends_with(b"data: [DONE]\n\n\r\n"));
}

#[test]
fn whole_answers_are_cut_too() {
    for (name, ended) in [("stop_midstream", Ended::Fin), ("reset_at_midstream", Ended::Reset)] {
        let (bytes, how) = raw(&json!({"faults": [name]}), &prompt(), false);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: ") && body.starts_with("{\"id\":") && !body.ends_with('}'), "{name}");
        assert_eq!(how, ended);
    }
    assert_eq!(raw(&json!({"faults": ["stall_first_token"]}), &prompt(), true).0.last_chunk(), Some(b"\r\n\r\n"));
}

#[test]
fn json_faults_reach_whole_answers() {
    for (name, mark) in [
        ("nul", "\"content\":\"\\u0000 the"),
        ("nan", "\"score\":NaN"),
        ("duplicate_keys", "{\"id\":\"decoy\""),
        ("no_finish_reason", "\"finish_reason\":null"),
        ("content_null", "\"content\":null"),
        ("empty_content", "\"content\":\"\""),
    ] {
        assert!(has(&answer(name, &prompt()).body, mark), "{name}");
    }
    assert!(answer("no_choices", &prompt()).json().get("choices").is_none());
    assert!(answer("error_event", &prompt()).json()["error"].is_object());
    assert!(serde_json::from_slice::<Value>(&answer("broken_json", &prompt()).body).is_err());
    assert!(answer("usage_absent", &prompt()).json().get("usage").is_none());
}

#[test]
fn faults_of_http_reach_embeddings() {
    let server = server("{}");
    let mut client = Client::to(&server);
    let mut ask = |fault: &str| {
        let body = json!({"model": "mock", "input": ["a", "b"]});
        client.post("/v1/embeddings", &format!("x-mock-fault: {fault}\r\n"), &body);
        client.answer()
    };
    assert_eq!(ask("503").status, 503);
    let chunked = ask("trailers, wrong_content_type");
    assert_eq!(chunked.header("content-type"), Some("text/html"));
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
}

#[test]
fn an_idle_connection_is_closed_without_a_word_or_when_it_is_used_again() {
    let server_ = server(r#"{"faults": ["close_idle"]}"#);
    let mut client = Client::to(&server_);
    let answer = client.chat(prompt());
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert!(client.at_end());

    let server_ = server(r#"{"faults": ["close_on_reuse"]}"#);
    let mut client = Client::to(&server_);
    assert_eq!(client.chat(prompt()).status, 200);
    client.post("/v1/chat/completions", "", &prompt());
    assert!(client.stream.fill_buf().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, <[u8]>::is_empty));
}

#[test]
fn slow_bytes_are_all_there() {
    let plain = raw(&json!({}), &prompt(), false);
    for rule in [json!({"name": "slowloris", "ms": 0.01}), json!("one_byte_writes"), json!("one_write")] {
        assert_eq!(raw(&json!({"faults": [rule]}), &prompt(), false).0.len(), plain.0.len(), "{rule}");
    }
}

#[test]
fn a_stall_with_a_time_goes_on_after_it() {
    let (bytes, ended) = raw(&json!({"faults": [{"name": "stall_midstream", "ms": 1}]}), &stream(), false);
    assert!(bytes.ends_with(b"0\r\n\r\n"));
    assert_eq!(ended, Ended::Fin);
}

#[test]
fn shares_periods_and_headers_choose_the_requests() {
    let server = server(r#"{"faults": [{"name": "500", "every": 3}]}"#);
    let mut client = Client::to(&server);
    let statuses: Vec<u16> = (0..6).map(|_| client.chat(prompt()).status).collect();
    assert_eq!(statuses, [500, 200, 200, 500, 200, 200]);
    client.post("/v1/chat/completions", "x-mock-fault: 503\r\n", &prompt());
    assert_eq!(client.answer().status, 503);
    client.post("/v1/chat/completions", "x-mock-fault: 5o3\r\n", &prompt());
    let refused = client.answer();
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("did you mean"));
    assert_eq!(numbers(&truth(&server), "status"), [500, 200, 200, 500, 200, 200, 503, 400]);
}
