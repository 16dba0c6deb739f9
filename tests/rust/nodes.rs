//! Several nodes in one run: each request goes where it is meant to, with what belongs there, and a node that goes away
//! takes nothing with it.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadgen::endpoint::Api;
use loadgen::engine::{Asked, Bodies, Renderings};
use loadgen::record::{AttemptKind, Failure};
use serde_json::{Value, json};
use support::run::{PATIENCE, Run, bodies, closed, documents, read};
use support::{Latch, Reply, Server, answer, chat, http2};

/// A run over these servers, each with what else is said of it.
fn over(nodes: &[(&Server, Value)], more: Value) -> Run {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(server, more)| {
            let mut node = json!({"url": server.url});
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            node
        })
        .collect();
    let mut told = json!({ "nodes": nodes });
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Run::new("", told)
}

fn alike(servers: &[&Server]) -> Run {
    let nodes: Vec<(&Server, Value)> = servers.iter().map(|server| (*server, json!({}))).collect();
    over(&nodes, json!({}))
}

/// A phase of so many requests that a policy spreads over so many nodes, one at a time on each.
fn routed(nodes: usize, requests: u64, more: Value) -> Value {
    let mut policy = json!({
        "strategy": "test", "limit": {"kind": "fixed", "n": nodes}, "breaker": null,
        "retry": {"base_s": 0.001, "most_s": 0.002, "reserve": 1000.0},
        "route": {"nodes": vec![json!({"slots": 1}); nodes], "spread": "all", "copies": 0.0},
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"load": {"kind": "dispatch", "policy": policy}, "requests": requests, "stop_early": false, "completions": "answers"})
}

fn served(server: &Server) -> usize {
    server.seen.bodies.lock().unwrap().len()
}

#[test]
fn a_policy_s_attempts_go_to_its_nodes_and_rows_say_which() {
    let servers = [0, 1, 2].map(|_| Server::new(|_, _| Reply::Keep(chat())));
    let run = alike(&servers.each_ref());
    let end = run.phase(routed(3, 90, json!({})));
    assert_eq!((&end["counts"]["ok"], &end["dispatch"]["attempts"]), (&json!(90), &json!(90)), "{end}");
    let seen = servers.each_ref().map(served);
    assert!(seen.iter().sum::<usize>() == 90 && seen.iter().all(|&n| n > 0), "{seen:?}");
    // A connection each, kept from request to request.
    assert!(servers.iter().all(|s| s.seen.connections.load(Ordering::SeqCst) == 1));
    let told = run.engine.policy_nodes(0).unwrap();
    let by_policy: Vec<u64> = told.iter().map(|node| node.view.unwrap().served).collect();
    assert_eq!(by_policy, seen.map(|n| n as u64));
    let completions = run.engine.take_completions();
    let rows = run.rows();
    for (node, &here) in seen.iter().enumerate() {
        let of_node = |n: Option<u16>| n.map(usize::from) == Some(node);
        assert_eq!(rows.iter().filter(|(row, _)| of_node(row.node)).count(), here);
        assert_eq!(completions.iter().filter(|c| of_node(c.row.node)).count(), here);
    }
}

#[test]
fn what_is_cut_short_between_attempts_is_of_the_node_that_failed_it() {
    let servers = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(answer(500, "text/plain", "oops"))));
    let run = alike(&servers.each_ref());
    let retry = json!({"retry": {"base_s": 3600.0, "most_s": 3600.0, "reserve": 1000.0}});
    run.begin(routed(2, 2, retry));
    let start = Instant::now();
    while run.engine.policy_totals(0).unwrap().backing_off < 2 {
        assert!(start.elapsed() < PATIENCE, "they never backed off");
        std::thread::yield_now();
    }
    run.engine.stop(Duration::ZERO);
    let end = run.wait();
    assert_eq!(end["counts"]["cancelled"], 2, "{end}");
    let mut nodes: Vec<u16> = run.rows().iter().filter_map(|(row, _)| row.node).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1]);
}

#[test]
fn what_is_given_up_before_it_went_anywhere_is_of_no_node() {
    let servers = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(chat())));
    let run = alike(&servers.each_ref());
    let mut phase = routed(2, 3, json!({}));
    phase["load"]["absent"] = json!([0, 1]);
    let end = run.phase(phase);
    assert_eq!(end["counts"]["failed"], 3, "{end}");
    let told = run.engine.take_completions();
    assert_eq!(told.iter().map(|told| told.row.node).collect::<Vec<_>>(), [None; 3]);
    let rows = run.rows();
    assert_eq!(rows.iter().map(|(row, attempts)| (row.node, attempts.len())).collect::<Vec<_>>(), [(None, 0); 3]);
}

#[test]
fn a_node_that_goes_away_in_the_middle_loses_nothing() {
    let dying = Server::new(|n, _| if n < 5 { Reply::Keep(chat()) } else { Reply::Close(Vec::new()) });
    let living = Server::new(|_, _| Reply::Keep(chat()));
    let run = alike(&[&dying, &living]);
    let end = run.phase(routed(2, 60, json!({"breaker": {"calls": 3, "cooldown_s": 60.0}})));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(60), &json!(0)), "{end}");
    let nodes = run.engine.policy_nodes(0).unwrap();
    assert!(nodes[0].view.unwrap().failed > 0 && nodes[1].view.unwrap().failed == 0, "{nodes:?}");
    assert!(!nodes[0].failure.is_empty() && nodes[1].failure.is_empty(), "{nodes:?}");
    let rows = run.rows();
    assert_eq!(rows.len(), 60);
    assert_eq!(rows.iter().filter(|(row, _)| row.node == Some(0)).count(), 5);
    let moved = rows.iter().filter(|(_, attempts)| attempts.len() > 1);
    for (row, attempts) in moved {
        assert!(attempts.iter().any(|a| a.node == 0 && a.outcome != Failure::None), "{attempts:?}");
        assert_eq!((row.node, row.failure), (Some(1), Failure::None));
    }
}

#[test]
fn a_node_that_nobody_listens_on_holds_nothing_up() {
    let gone = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let living = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new("", json!({"nodes": [{"url": gone}, {"url": living.url}]}));
    let end = run.phase(routed(2, 20, json!({})));
    assert_eq!(&end["counts"]["ok"], &json!(20), "{end}");
    assert!(run.engine.policy_nodes(0).unwrap()[0].failure.contains("refused"));
    assert_eq!(served(&living), 20);
}

#[test]
fn a_node_that_is_absent_gets_nothing_until_it_is_given_room() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    // The first node takes one item, and answers once the other has had all the rest.
    let busy = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let absent = Server::new(|_, _| Reply::Keep(chat()));
    let run = alike(&[&busy, &absent]);
    let mut phase = routed(2, 5, json!({}));
    phase["load"]["absent"] = json!([1]);
    run.begin(phase);
    while served(&busy) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(served(&absent), 0);
    run.engine.room(0, 1, 1).unwrap();
    while served(&absent) < 4 {
        std::thread::yield_now();
    }
    latch.open();
    assert_eq!(run.wait()["counts"]["ok"], json!(5));
    run.engine.room(0, 1, 0).unwrap();
    assert_eq!((served(&busy), served(&absent)), (1, 4));
}

#[test]
fn a_copy_goes_to_another_node() {
    let silent = Server::new(|_, _| Reply::Hang);
    let others = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(chat())));
    let run = alike(&[&silent, &others[0], &others[1]]);
    let policy = json!({"route": null, "nodes": 3, "hedge": {"kind": "after", "after_s": 0.02}});
    let end = run.phase(routed(3, 1, policy));
    assert_eq!((&end["counts"]["ok"], &end["dispatch"]["hedges_won"]), (&json!(1), &json!(1)), "{end}");
    let rows = run.rows();
    let (row, attempts) = &rows[0];
    let nodes: HashSet<u16> = attempts.iter().map(|a| a.node).collect();
    assert_eq!((attempts.len(), nodes.len()), (2, 2), "{attempts:?}");
    assert_eq!(attempts.iter().map(|a| a.kind).collect::<Vec<_>>(), [AttemptKind::First, AttemptKind::Hedge]);
    assert_eq!((attempts[0].node, row.node), (0, Some(attempts[1].node)));
}

#[test]
fn each_node_is_asked_in_the_api_that_it_speaks() {
    let openai = Server::new(|_, _| Reply::Keep(chat()));
    let ollama = Server::new(|_, body| {
        assert!(body.starts_with(r#"{"stream":false,"ollama":"#), "{body}");
        let said = r#"{"message":{"role":"assistant","content":"ho"},"done":true,"done_reason":"stop","prompt_eval_count":4,"eval_count":1}"#;
        Reply::Keep(answer(200, "application/json", said))
    });
    let run = over(&[(&openai, json!({})), (&ollama, json!({"api": "ollama_chat"}))], json!({}));
    let own: Vec<String> = (0..3).map(|i| format!(r#"{{"ollama":{i}}}"#)).collect();
    let own = Bodies::new(own.iter().map(String::as_bytes), vec![]).unwrap();
    let both = Renderings::new(bodies(), vec![(Api::OllamaChat, Arc::new(own))]).unwrap();
    run.begin_with(routed(2, 30, json!({})), both).unwrap();
    assert_eq!(run.wait()["counts"]["ok"], json!(30));
    let completions = run.engine.take_completions();
    for told in &completions {
        let expected = if told.row.node == Some(0) { ("hi", Some(3)) } else { ("ho", Some(4)) };
        assert_eq!((told.texts.text.as_deref().unwrap(), told.row.tokens_in), expected);
    }
    assert!(openai.seen.heads.lock().unwrap().iter().all(|head| head.starts_with("post /v1/chat/completions ")));
    assert!(ollama.seen.heads.lock().unwrap().iter().all(|head| head.starts_with("post /api/chat ")));
    assert!(served(&openai) > 0 && served(&ollama) > 0);
    let request = documents(run.dir.path(), "phase_start")[0]["config"]["request"].clone();
    assert_eq!((&request["api"], &request["nodes"][1]["api"]), (&json!("chat"), &json!("ollama_chat")));
}

#[test]
fn a_phase_without_bodies_for_a_node_is_refused_before_anything_is_sent() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = over(&[(&server, json!({})), (&server, json!({"api": "ollama_chat"}))], json!({}));
    let error = run.begin_with(routed(2, 1, json!({})), bodies()).unwrap_err();
    assert!(error.to_string().contains("ollama_chat"), "{error}");
    let run = alike(&[&server]);
    let error = run.begin_with(routed(2, 1, json!({})), bodies()).unwrap_err();
    assert!(error.to_string().contains("it knows 2 nodes, and the run has 1"), "{error}");
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn what_speaks_of_a_node_is_tried_on_another_and_what_speaks_of_the_item_is_not() {
    let [missing, living] = [404, 200].map(|status| {
        Server::new(move |_, _| match status {
            404 => Reply::Keep(answer(404, "application/json", r#"{"error":"no such model"}"#)),
            _ => Reply::Keep(chat()),
        })
    });
    let run = alike(&[&missing, &living]);
    let end = run.phase(routed(2, 10, json!({})));
    assert_eq!(&end["counts"]["ok"], &json!(10), "{end}");
    assert!(run.engine.policy_nodes(0).unwrap()[0].failure.contains("no such model"));
    let refusing = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(answer(400, "text/plain", "poison"))));
    let run = alike(&refusing.each_ref());
    let end = run.phase(routed(2, 3, json!({})));
    let sent: usize = refusing.iter().map(served).sum();
    assert_eq!((&end["counts"]["failed"], sent), (&json!(3), 3), "{end}");
}

#[test]
fn each_node_has_its_key_and_the_log_has_none() {
    let open = Server::new(|_, _| Reply::Keep(answer(401, "text/plain", "who is canary-key-one?")));
    let keyed = Server::new(|_, _| Reply::Keep(chat()));
    let nodes = [
        (&open, json!({"api_key": "canary-key-one"})),
        (&keyed, json!({"api_key": "canary-key-two", "headers": [["x-node", "canary-header"]]})),
    ];
    let run = over(&nodes, json!({"save_responses": true}));
    assert_eq!(run.phase(routed(2, 6, json!({})))["counts"]["ok"], json!(6));
    let failure = run.engine.policy_nodes(0).unwrap()[0].failure.clone();
    assert!(failure.contains("[redacted]") && !failure.contains("canary"), "{failure}");
    assert!(open.seen.heads.lock().unwrap().iter().all(|head| head.contains("bearer canary-key-one\r\n")));
    let heads = keyed.seen.heads.lock().unwrap().clone();
    assert!(
        heads.iter().all(|head| head.contains("bearer canary-key-two\r\n") && head.contains("x-node: canary-header"))
    );
    run.engine.finish("complete", "").unwrap();
    for file in std::fs::read_dir(run.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"canary"), "a secret is in the run's directory");
    }
    assert_eq!(read(run.dir.path()).len(), 6);
}

#[test]
fn a_load_without_a_policy_uses_one_connection_pool_for_each_node() {
    let servers = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(chat())));
    let run = alike(&servers.each_ref());
    let end = run.phase(closed(2, 20));
    assert_eq!(&end["counts"]["ok"], &json!(20), "{end}");
    let rows = run.rows();
    for (node, server) in servers.iter().enumerate() {
        assert_eq!(rows.iter().filter(|(row, _)| row.node.map(usize::from) == Some(node)).count(), served(server));
    }
}

#[test]
fn over_http_2_each_node_has_a_connection_that_its_requests_share() {
    let servers = [0, 1].map(|_| h2_server());
    let nodes: Vec<Value> = servers.iter().map(|(url, _)| json!({ "url": url })).collect();
    let run = Run::new("", json!({"nodes": nodes, "http2": true}));
    let mut phase = routed(2, 40, json!({}));
    phase["load"]["policy"]["route"]["nodes"] = json!([{"slots": 4}, {"slots": 4}]);
    phase["load"]["policy"]["limit"]["n"] = json!(8);
    assert_eq!(run.phase(phase)["counts"]["ok"], json!(40));
    let rows = run.rows();
    for (node, (_, requests)) in servers.iter().enumerate() {
        let here = rows.iter().filter(|(row, _)| row.node.map(usize::from) == Some(node)).count();
        assert!(here > 0 && here == requests.load(Ordering::SeqCst));
    }
}

/// A server of HTTP/2 that answers every chat on its first connection, and none on another; how many requests it had.
fn h2_server() -> (String, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    let url = http2::listen(move |number, stream| {
        let counted = Arc::clone(&counted);
        async move {
            if number > 0 {
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, respond))) = connection.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let said = r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
                http2::answer(respond, "application/json", said);
            }
        }
    });
    (url, requests)
}

fn manual() -> Value {
    json!({"load": {"kind": "manual"}, "completions": "answers", "stop_early": false})
}

#[test]
fn whoever_issues_may_name_the_node_and_bring_the_body() {
    let servers = [0, 1].map(|_| Server::new(|_, _| Reply::Keep(chat())));
    let run = alike(&servers.each_ref());
    run.begin(manual());
    let body: Arc<[u8]> = br#"{"brought":1}"#.as_slice().into();
    for node in [1, 1, 0] {
        let asked = Asked { node: Some(node), body: Some(Arc::clone(&body)), ..Asked::default() };
        run.engine.issue(asked).unwrap().unwrap();
    }
    run.engine.end_issue().unwrap();
    assert_eq!(run.wait()["counts"]["ok"], json!(3));
    let bodies = servers.each_ref().map(|s| s.seen.bodies.lock().unwrap().clone());
    assert_eq!(bodies, [vec![r#"{"brought":1}"#; 1], vec![r#"{"brought":1}"#; 2]]);
    let nodes: Vec<u16> = run.rows().iter().filter_map(|(row, _)| row.node).collect();
    assert_eq!(nodes, [1, 1, 0]);
}

#[test]
fn what_nobody_waits_for_any_more_is_cut_off_and_the_rest_goes_on() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let server = Server::new(move |_, body| match body.contains("p0") {
        true => Reply::Hang,
        false => Reply::After(Arc::clone(&held), chat()),
    });
    let run = Run::new(&server.url, json!({}));
    run.begin(manual());
    let [first, second] =
        [0, 1].map(|sample| run.engine.issue(Asked { sample: Some(sample), ..Asked::default() }).unwrap().unwrap());
    run.engine.give_up(first).unwrap();
    run.engine.give_up(77).unwrap();
    run.engine.end_issue().unwrap();
    latch.open();
    let end = run.wait();
    assert_eq!((&end["counts"]["ok"], &end["counts"]["cancelled"]), (&json!(1), &json!(1)), "{end}");
    run.engine.give_up(second).unwrap();
    let failures: Vec<Failure> = run.rows().iter().map(|(row, _)| row.failure).collect();
    assert_eq!(failures, [Failure::Cancelled, Failure::None]);
}

#[test]
fn what_cant_be_asked_for_says_why() {
    let server = Server::new(|_, _| Reply::Keep(chat()));
    let run = Run::new(&server.url, json!({}));
    run.begin(manual());
    let words = |asked| run.engine.issue(asked).unwrap_err().to_string();
    assert!(words(Asked { node: Some(1), ..Asked::default() }).contains("node 1 of 1"));
    assert!(words(Asked { body: Some(b"[]".as_slice().into()), ..Asked::default() }).contains("not a JSON object"));
    run.engine.end_issue().unwrap();
    assert!(run.engine.wait(PATIENCE).unwrap().is_some());
    assert_eq!(served(&server), 0);
}

#[test]
fn an_answer_s_word_on_when_to_come_again_is_told() {
    let late = b"HTTP/1.1 429 Word\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n".to_vec();
    let server = Server::new(move |_, _| Reply::Keep(late.clone()));
    let run = Run::new(&server.url, json!({}));
    run.begin(manual());
    run.engine.issue(Asked::default()).unwrap().unwrap();
    run.engine.end_issue().unwrap();
    run.wait();
    assert_eq!(run.engine.take_completions()[0].retry_after_ns, Some(3_000_000_000));
}
