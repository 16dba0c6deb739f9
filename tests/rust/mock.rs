//! The mock server over raw sockets: each endpoint, its schedule, its refusals and its truth.

#![allow(clippy::unwrap_used)]

mod mock_client;
mod mock_tls;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use loadgen::mock::Server;
use mock_client::{Answer, Client, numbers, prompt, server, truth, with};
use serde_json::{Value, json};

#[test]
fn a_chat_answer_is_json_with_usage_and_the_connection_serves_the_next() {
    let server = server("{}");
    let mut client = Client::to(&server);
    for n in 1..=3 {
        let answer = client.chat(with(json!({"max_tokens": n})));
        assert_eq!(answer.status, 200);
        let json = answer.json();
        assert_eq!(json["usage"]["completion_tokens"], n);
        assert_eq!(json["choices"][0]["finish_reason"], "length");
    }
    let truth = truth(&server);
    assert_eq!(truth["connections"], 1);
    assert_eq!(numbers(&truth, "tokens"), [1, 2, 3]);
}

#[test]
fn a_stream_is_a_write_and_a_chunk_per_event_with_usage_when_asked_for() {
    let server = server("{}");
    let mut client = Client::to(&server);
    client.post(
        "/v1/chat/completions",
        "x-request-id: r-1\r\n",
        &with(json!({"stream": true, "stream_options": {"include_usage": true}, "max_tokens": 5})),
    );
    let answer = client.answer();
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("x-request-id"), Some("r-1"));
    let events = answer.events();
    // role, five tokens, finish, usage, [DONE]
    assert_eq!(events.len(), 9);
    assert_eq!(events[8], "[DONE]");
    let usage: Value = serde_json::from_str(&events[7]).unwrap();
    assert_eq!((&usage["usage"]["completion_tokens"], &usage["choices"]), (&json!(5), &json!([])));
    assert!(events[1..6].iter().all(|event| (200..260).contains(&(event.len() + 8))), "{events:?}");
    client.chat(with(json!({"messages": [{"role": "user", "content": "#0.12 hello"}]})));
    let truth = truth(&server);
    assert_eq!(truth["rows"]["id"], json!(["r-1", "#0.12"]));
    assert_eq!((numbers(&truth, "chunks"), numbers(&truth, "tokens")), (vec![5, 0], vec![5, 16]));
}

#[test]
fn with_words_by_prompt_the_same_prompt_gets_the_same_answer_and_another_prompt_another() {
    let said = |config: &str, text: &str, stream: bool| {
        let server = server(config);
        let mut client = Client::to(&server);
        let body = with(json!({"messages": [{"role": "user", "content": text}], "stream": stream, "max_tokens": 8}));
        client.chat(with(json!({})));
        let answer = client.chat(body);
        if !stream {
            return answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        }
        let events = answer.events().into_iter().filter(|event| event != "[DONE]");
        let json = events.map(|event| serde_json::from_str::<Value>(&event).unwrap());
        json.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    };
    let by_prompt = |seed: u64| format!(r#"{{"words":"prompt","seed":{seed}}}"#);
    let one = said(&by_prompt(1), "is it so?", false);
    assert_eq!(one.split(' ').count(), 9);
    assert_eq!(said(&by_prompt(2), "is it so?", false), one);
    assert_eq!(said(&by_prompt(1), "is it so?", true), one);
    assert_ne!(said(&by_prompt(1), "is it not so?", false), one);
    assert_eq!(said("{}", "is it so?", false), said("{}", "is it not so?", false));
}

#[test]
fn ollamas_own_api_streams_lines_and_tells_its_models() {
    let server = server(r#"{"models": ["a"]}"#);
    let mut client = Client::to(&server);
    let messages = json!([{"role": "user", "content": "x"}]);
    client.post("/api/chat", "", &json!({"model": "a", "messages": messages, "options": {"num_predict": 3}}));
    let answer = client.answer();
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[..3].iter().all(|line| line["done"] == false && line["message"]["content"] != ""), "{text}");
    assert_eq!((&lines[3]["done_reason"], &lines[3]["eval_count"]), (&json!("length"), &json!(3)));
    client.post("/api/generate", "", &json!({"prompt": "x", "stream": false}));
    assert_eq!(client.answer().json()["done"], true);
    client.post("/api/embed", "", &json!({"input": ["x", "y"]}));
    assert_eq!(client.answer().json()["embeddings"].as_array().unwrap().len(), 2);
    client.post("/api/generate", "", &json!({"model": "none", "prompt": "x"}));
    let refused = client.answer();
    assert_eq!(refused.status, 404);
    assert!(refused.json()["error"].is_string());
    let truth = truth(&server);
    assert_eq!((&truth["endpoints"]["ollama_chat"], &truth["endpoints"]["ollama_generate"]), (&json!(1), &json!(2)));
    assert_eq!((numbers(&truth, "tokens"), numbers(&truth, "chunks")), (vec![3, 16, 0, 0], vec![3, 0, 0, 0]));
}

#[test]
fn a_coalesced_stream_carries_the_same_bytes() {
    let bytes = |config: &str| {
        let server = server(config);
        Client::to(&server).chat(with(json!({"stream": true, "max_tokens": 128}))).events().len()
    };
    assert_eq!(bytes("{}"), bytes(r#"{"coalesce": true}"#));
}

#[test]
fn the_truth_is_in_order_and_on_the_callers_clock() {
    let server = server(r#"{"ttft": 3, "gap": 1}"#);
    let before = loadgen::clock::now_ns();
    let mut client = Client::to(&server);
    client.chat(with(json!({"stream": true, "max_tokens": 4})));
    let after = loadgen::clock::now_ns();
    let truth = truth(&server);
    let stamps: Vec<u64> =
        ["arrival_ns", "start_ns", "due_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "done_ns"]
            .iter()
            .map(|column| numbers(&truth, column)[0])
            .collect();
    assert!(stamps.windows(2).all(|w| w[0] <= w[1]), "{stamps:?}");
    assert!(before <= stamps[0] && stamps[5] <= after);
    // Nobody was before it: the time to its first token runs from its arrival.
    assert_eq!((stamps[1], stamps[2]), (stamps[0], stamps[0] + 3_000_000));
    // No token leaves before it is due.
    assert!(stamps[5] >= stamps[2] + 3_000_000);
    assert_eq!(truth["lateness_us"]["chunk"]["count"], 4);
    assert_eq!(truth["lateness_us"]["first_token"]["count"], 1);
}

#[test]
fn two_servers_of_one_seed_draw_the_same() {
    let draw = |seed: u64| {
        let server = server(&format!(
            r#"{{"seed": {seed}, "output_tokens": {{"lognormal": {{"median": 30, "sigma": 1}}}}, "error_rate": 0.2}}"#
        ));
        let mut client = Client::to(&server);
        for _ in 0..40 {
            client.chat(prompt());
        }
        let truth = truth(&server);
        (numbers(&truth, "tokens"), numbers(&truth, "status"))
    };
    let first = draw(1);
    assert_eq!(first, draw(1));
    assert_ne!(first, draw(2));
    assert!(first.1.contains(&500) && first.1.contains(&200));
}

#[test]
fn completions_embeddings_models_and_health_answer() {
    let server = server(r#"{"models": ["a", "b"]}"#);
    let mut client = Client::to(&server);
    client.post("/v1/completions", "", &json!({"model": "b", "prompt": "x", "max_tokens": 2, "n": 2}));
    let json = client.answer().json();
    assert_eq!((&json["object"], &json["choices"][1]["text"]), (&json!("text_completion"), &json!(" the of")));
    client.post("/v1/embeddings", "", &json!({"model": "a", "input": ["x", "y"], "dimensions": 4}));
    let json = client.answer().json();
    assert_eq!(json["data"].as_array().unwrap().len(), 2);
    assert_eq!(json["data"][1]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(client.get("/v1/models").json()["data"][1]["id"], "b");
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    let truth = client.get("/truth").json();
    assert_eq!(
        truth["endpoints"],
        json!({"chat": 0, "completions": 1, "embeddings": 1, "ollama_chat": 0, "ollama_generate": 0, "ollama_embed": 0})
    );
    assert!(truth.get("rows").is_none());
    client.post("/truth/reset", "", &json!({}));
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.get("/truth?rows=1").json()["rows"]["index"], json!([]));
}

#[test]
fn refusals_have_their_status_and_their_words() {
    let server = server(r#"{"api_key": "sesame", "refuse_usage": 422}"#);
    let mut client = Client::to(&server);
    assert_eq!(client.chat(prompt()).status, 401);
    let mut ask = |key: &str, body: &Value| {
        client.post("/v1/chat/completions", &format!("authorization: Bearer {key}\r\n"), body);
        client.answer()
    };
    assert_eq!(ask("wrong", &prompt()).status, 401);
    assert_eq!(ask("sesame", &prompt()).status, 200);
    let unknown = ask("sesame", &with(json!({"model": "gpt"})));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(ask("sesame", &json!({"model": "mock"})).status, 400);
    assert_eq!(ask("sesame", &with(json!({"stream": true, "stream_options": {"include_usage": true}}))).status, 422);
    let statuses = truth(&server)["statuses"].clone();
    assert_eq!(statuses, json!({"200": 1, "400": 1, "401": 2, "404": 1, "422": 1}));
}

#[test]
fn bytes_that_are_no_request_are_answered_and_the_connection_ends() {
    let server = server("{}");
    let mut client = Client::to(&server);
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    assert!(client.at_end());
}

#[test]
fn pipelined_requests_are_answered_in_order_and_http10_ends_with_the_connection() {
    let server = server(r#"{"ttft": 1}"#);
    let mut client = Client::to(&server);
    for n in 1..=3 {
        client.post("/v1/chat/completions", "", &with(json!({"max_tokens": n})));
    }
    for n in 1..=3 {
        assert_eq!(client.answer().json()["usage"]["completion_tokens"], n);
    }
    let body = with(json!({"stream": true})).to_string();
    client.send(format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let answer = client.answer();
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on() {
    let server = server("{}");
    let mut client = Client::to(&server);
    let body = prompt().to_string();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(client.head().0, 100);
    client.send(body);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn capacity_queues_in_order_and_refuses_beyond_the_queue() {
    let server = server(r#"{"capacity": 1, "queue": 1, "queue_status": 429, "stall_rate": 1}"#);
    let mut clients: Vec<Client> = Vec::new();
    let arrived = |n: u64| while truth(&server)["requests"] != n {};
    for n in 1..=3 {
        let mut client = Client::to(&server);
        client.post("/v1/chat/completions", "", &prompt());
        arrived(n);
        clients.push(client);
    }
    let mut third = clients.pop().unwrap();
    assert_eq!(third.answer().status, 429);
    assert_eq!((&truth(&server)["queued"], &truth(&server)["rejected"]), (&json!(1), &json!(1)));
    // The first leaves; the second gets its slot; its leaving shows that it had one.
    clients.remove(0);
    while truth(&server)["queued"] != 0 {}
    drop(clients);
    while truth(&server)["in_flight"] != 0 {}
    let truth = truth(&server);
    assert_eq!(truth["disconnected"], 2);
    let starts = numbers(&truth, "start_ns");
    assert!(0 < starts[0] && starts[0] < starts[1] && starts[2] == 0, "{starts:?}");
}

#[test]
fn a_queue_that_drains_serves_everybody() {
    // On one thread a slot is handed on within it, on two also between them; without a time to the first token in a chain.
    for config in [
        r#"{"capacity": 1, "threads": 1}"#,
        r#"{"capacity": 1, "ttft": 1, "threads": 1}"#,
        r#"{"capacity": 2, "ttft": 1, "threads": 2}"#,
    ] {
        drains(&server(config));
    }
}

fn drains(server: &Server) {
    let clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::to(server);
            client.post("/v1/chat/completions", "", &with(json!({"stream": true})));
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.answer().events().last().unwrap(), "[DONE]");
    }
    while truth(server)["in_flight"] != 0 {}
    let truth = truth(server);
    assert_eq!((&truth["finished"], &truth["queued"]), (&json!(20), &json!(0)));
}

#[test]
fn heads_go_out_when_the_flavour_sends_them() {
    // Its one slot is taken, so a head can only come early.
    let server = server(r#"{"capacity": 1, "stall_rate": 0, "ttft": 3600000, "headers": "arrival"}"#);
    let mut first = Client::to(&server);
    first.post("/v1/chat/completions", "", &with(json!({"stream": true})));
    assert_eq!(first.head().0, 200);
    let mut second = Client::to(&server);
    second.post("/v1/chat/completions", "", &with(json!({"stream": true})));
    assert_eq!(second.head().0, 200);
    drop(first);
    while truth(&server)["queued"] != 0 {}
    drop(second);
    while truth(&server)["in_flight"] != 0 {}
    assert_eq!(truth(&server)["disconnected"], 2);
}

#[test]
fn the_rate_limit_says_when_to_come_again() {
    let server = server(r#"{"rate_limit": {"rps": 0.01, "burst": 2}}"#);
    let mut client = Client::to(&server);
    let answers: Vec<Answer> = (0..3).map(|_| client.chat(prompt())).collect();
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [200, 200, 429]);
    let seconds: u64 = answers[2].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=100).contains(&seconds));
}

#[test]
fn a_stall_with_a_time_is_answered_after_it_and_holds_its_slot() {
    let server = server(r#"{"capacity": 1, "stall_rate": 1, "stall_time": 5}"#);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::to(&server)).collect();
    for client in &mut clients {
        client.post("/v1/chat/completions", "", &prompt());
    }
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
    let truth = truth(&server);
    let (starts, bytes) = (numbers(&truth, "start_ns"), numbers(&truth, "first_byte_ns"));
    let mut order: Vec<usize> = (0..3).collect();
    order.sort_by_key(|&n| starts[n]);
    assert!(order.windows(2).all(|pair| starts[pair[1]] >= bytes[pair[0]]), "{starts:?} {bytes:?}");
    assert!(starts.iter().zip(&bytes).all(|(start, byte)| byte - start >= 5_000_000), "{starts:?} {bytes:?}");
}

#[test]
fn a_prompt_that_stalls_does_so_every_time_and_others_never() {
    let server = server(r#"{"prompt_stall_rate": 0.5, "stall_time": 1}"#);
    let mut client = Client::to(&server);
    for n in (0..40).chain(0..40) {
        let text = format!("prompt {n}");
        assert_eq!(client.chat(json!({"messages": [{"role": "user", "content": text}]})).status, 200);
    }
    let truth = truth(&server);
    let (starts, due) = (numbers(&truth, "start_ns"), numbers(&truth, "due_ns"));
    let stalled: Vec<bool> = starts.iter().zip(&due).map(|(start, due)| due - start == 1_000_000).collect();
    assert_eq!(stalled[..40], stalled[40..]);
    let share = stalled[..40].iter().filter(|stalled| **stalled).count();
    assert!((10..=30).contains(&share), "{share} of 40");
}

#[test]
fn who_leaves_before_any_byte_is_counted_apart() {
    let server = server(r#"{"stall_rate": 1, "stall_time": "60m"}"#);
    let mut client = Client::to(&server);
    client.post("/v1/chat/completions", "", &with(json!({"stream": true})));
    while truth(&server)["requests"] != 1 {}
    drop(client);
    while truth(&server)["in_flight"] != 0 {}
    let truth = truth(&server);
    assert_eq!((&truth["disconnected"], &truth["left_waiting"]), (&json!(1), &json!(1)));
    assert_eq!(numbers(&truth, "tokens"), [0]);
}

#[test]
fn a_service_that_is_down_says_so_to_everybody() {
    let server = server(r#"{"outages": [{"after": 0, "lasts": "60m"}], "capacity": 1}"#);
    let mut client = Client::to(&server);
    assert_eq!([client.chat(prompt()).status, client.chat(prompt()).status], [503, 503]);
    let later = self::server(r#"{"outages": [{"after": "60m", "lasts": "60m"}]}"#);
    assert_eq!(Client::to(&later).chat(prompt()).status, 200);
}

#[test]
fn the_hint_may_be_as_fine_as_milliseconds() {
    for (kind, header, unit) in [("milliseconds", "retry-after-ms", 1.0), ("fraction", "retry-after", 1000.0)] {
        let limit = json!({"rate_limit": {"rps": 0.01, "retry_after": kind}});
        let server = server(&limit.to_string());
        let mut client = Client::to(&server);
        assert_eq!(client.chat(prompt()).status, 200);
        let wait: f64 = client.chat(prompt()).header(header).unwrap().parse().unwrap();
        assert!((1.0..=100_000.0).contains(&(wait * unit)), "{kind}: {wait}");
    }
}

#[test]
fn a_client_that_does_not_read_is_waited_for_and_gets_every_byte() {
    let server = server(r#"{"coalesce": true}"#);
    let mut client = Client::to(&server);
    // Far more than the sockets' buffers hold.
    client.post("/v1/chat/completions", "", &with(json!({"stream": true, "max_tokens": 200_000})));
    while truth(&server)["requests"] != 1 {}
    assert_eq!(client.answer().events().len(), 200_003);
    while truth(&server)["in_flight"] != 0 {}
    assert_eq!(numbers(&truth(&server), "chunks"), [200_000]);
}

#[test]
fn a_unix_socket_serves_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mock.sock");
    let server = server(&json!({"unix": path}).to_string());
    assert_eq!(server.url(), format!("unix:{}", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    server.stop().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_server_removes_its_own_socket_and_never_that_of_another_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mock.sock");
    let config = json!({"unix": path}).to_string();
    let first = server(&config);
    first.stop().unwrap();
    let _second = server(&config);
    first.stop().unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn stopping_closes_what_is_open_and_may_be_done_twice() {
    let server = server(r#"{"stall_rate": 1}"#);
    let mut client = Client::to(&server);
    client.post("/v1/chat/completions", "", &prompt());
    while truth(&server)["requests"] != 1 {}
    server.stop().unwrap();
    server.stop().unwrap();
    assert!(client.at_end());
    assert!(TcpStream::connect(server.url().strip_prefix("http://").unwrap()).is_err());
}
