//! Requests over several nodes: which one each goes to, exactly and over all workers, and what a node that refuses does.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loadgen::engine::config::PhaseConfig;
use loadgen::engine::{Asked, Bodies};
use loadgen::record::{Failure, Row};
use loadgen::series::Detail;
use loadgen::stats::{Options, summarise};
use serde_json::{Value, json};
use support::run::{PATIENCE, Run, closed, documents};
use support::{Latch, Reply, Server, answer, chat};

/// So many servers that answer at once.
fn servers(n: usize) -> Vec<Server> {
    (0..n).map(|_| Server::new(|_, _| Reply::Keep(chat()))).collect()
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn run(urls: &[&str], workers: u16) -> Run {
    let nodes: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
    Run::new("", json!({"nodes": nodes, "workers": workers}))
}

fn urls(servers: &[Server]) -> Vec<&str> {
    servers.iter().map(|server| server.url.as_str()).collect()
}

/// The phase with this balance beside what it is.
fn balanced(mut phase: Value, balance: Value) -> Value {
    phase["balance"] = balance;
    phase
}

fn rows(run: Run) -> Vec<Row> {
    run.rows().into_iter().map(|(row, _)| row).collect()
}

fn asked(server: &Server) -> usize {
    server.seen.bodies.lock().unwrap().len()
}

#[test]
fn each_request_of_the_plan_has_its_turn_whoever_sends_it() {
    for workers in [1, 3] {
        let loads = [
            closed(6, 90),
            json!({"load": {"kind": "burst", "n": 90}}),
            json!({"load": {"kind": "rate", "rate": 2000.0, "arrival": {"kind": "poisson"}}, "requests": 90}),
        ];
        for load in loads {
            let servers = servers(3);
            let run = run(&urls(&servers), workers);
            assert_eq!(run.phase(load)["counts"]["ok"], 90);
            assert!(rows(run).iter().all(|row| row.node.map(u64::from) == Some(row.id % 3)));
            assert_eq!(servers.iter().map(asked).collect::<Vec<_>>(), [30; 3], "and that is where they went");
        }
    }
}

#[test]
fn a_closed_loop_keeps_its_connections_to_each_node() {
    let servers = servers(2);
    let run = run(&urls(&servers), 1);
    assert_eq!(run.phase(closed(3, 120))["counts"]["reconnects"], 0);
    for server in &servers {
        let connections = server.seen.connections.load(Ordering::SeqCst);
        assert!(connections <= 3, "{connections} connections for at most 3 requests at once");
    }
}

#[test]
fn weighted_nodes_get_their_shares_to_the_request() {
    let servers = servers(3);
    let run = run(&urls(&servers), 2);
    run.phase(balanced(closed(4, 120), json!({"kind": "weighted", "weights": [30, 20, 10]})));
    assert_eq!(servers.iter().map(asked).collect::<Vec<_>>(), [60, 40, 20]);
    let rows = rows(run);
    for round in rows.chunks(6) {
        let of = |node| round.iter().filter(|row| row.node == Some(node)).count();
        assert_eq!([of(0), of(1), of(2)], [3, 2, 1], "in every round");
    }
}

#[test]
fn a_node_that_is_busy_is_passed_over_by_all_workers() {
    for workers in [1, 2] {
        let latch = Arc::new(Latch::default());
        let held = Arc::clone(&latch);
        let busy = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
        let quick = Server::new(|_, _| Reply::Keep(chat()));
        let run = run(&[&busy.url, &quick.url], workers);
        run.begin(balanced(closed(4, 300), json!({"kind": "least_in_flight"})));
        while asked(&quick) < 250 {
            std::thread::yield_now();
        }
        // With four in flight, two at the busy one are as many as the other has at most.
        assert!((1..=2).contains(&asked(&busy)), "{} at the busy one", asked(&busy));
        latch.open();
        assert_eq!(run.wait()["counts"]["ok"], 300);
    }
}

#[test]
fn what_a_node_has_in_flight_is_given_back_however_it_ends() {
    let good = servers(3);
    let ill = Server::new(|_, _| Reply::Keep(answer(500, "application/json", "{}")));
    let gone = Server::new(|_, _| Reply::Close(Vec::new()));
    for urls in [urls(&good), vec![&ill.url, &gone.url, &nowhere()]] {
        let run = run(&urls, 1);
        run.phase(balanced(closed(1, 90), json!({"kind": "least_in_flight"})));
        let rows = rows(run);
        // One at a time: nothing is in flight when the next is chosen, and all have failed as often, so it is each one's
        // turn. A count that leaked would keep its node out of it.
        let of = |node| rows.iter().filter(|row| row.node == Some(node)).count();
        assert!((0..3).all(|node| (28..=32).contains(&of(node))), "{:?}", [of(0), of(1), of(2)]);
    }
}

#[test]
fn who_watches_sees_what_each_node_got_and_what_failed_there() {
    let servers = servers(1);
    let run = run(&[&servers[0].url, &nowhere()], 2);
    let policy = json!({"strategy": "test", "limit": {"kind": "fixed", "n": 4}, "breaker": null, "nodes": 2,
        "retry": {"attempts": 2, "base_s": 0.001, "most_s": 0.002, "reserve": 1000.0}});
    run.phase(closed(4, 60));
    run.phase(json!({"load": {"kind": "dispatch", "policy": policy}, "requests": 60}));
    let seen = run.engine.segment().snapshot(&Detail::default());
    let of = |phase: u16, node: u16| {
        ["issued", "ended", "failed"].map(|what| {
            let name = format!("node_{node}_{what}");
            let found = seen.counters.iter().find(|c| c.name == name && c.phase == Some(phase));
            found.expect("each node is counted").value
        })
    };
    assert_eq!((of(0, 0), of(0, 1)), ([30, 30, 0], [30, 30, 30]));
    let [good, bad] = [of(1, 0), of(1, 1)];
    assert_eq!((good[0], good[2], bad[2]), (asked(&servers[0]) as u64 - 30, 0, bad[0]), "what a policy tried");
    assert!(good[0] > 0 && bad[0] > 0 && good[0] + bad[0] > 60 && good[1] == good[0] && bad[1] == bad[0]);
}

#[test]
fn a_node_that_refuses_at_once_draws_few_of_the_requests() {
    let servers = servers(1);
    let run = run(&[&nowhere(), &servers[0].url], 2);
    let end = run.phase(balanced(closed(4, 1_000), json!({"kind": "least_in_flight"})));
    let failed = end["counts"]["failed"].as_u64().unwrap();
    // A few at first, and then one a second.
    assert!((1..100).contains(&failed), "{end}");
}

#[test]
fn all_requests_of_a_session_go_to_one_node() {
    let servers = servers(4);
    let run = run(&urls(&servers), 2);
    let texts: Vec<String> = (0..40).map(|i| format!(r#"{{"model":"m","prompt":"p{i}"}}"#)).collect();
    let sessions: Vec<u64> = (0..40).map(|i: u64| (i % 10).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let bodies = Bodies::new(texts.iter().map(|b| b.as_bytes()), vec![]).unwrap().with_sessions(sessions).unwrap();
    let phase = balanced(closed(5, 200), json!({"kind": "session"}));
    begin(&run, phase, Arc::new(bodies)).unwrap();
    assert_eq!(run.wait()["counts"]["ok"], 200);
    let rows = rows(run);
    for session in 0..10 {
        let mut nodes = rows.iter().filter(|row| row.sample % 10 == session).map(|row| row.node);
        let first = nodes.next().unwrap();
        assert!(nodes.all(|node| node == first), "session {session}");
    }
    let used = servers.iter().filter(|server| asked(server) > 0).count();
    assert!(used > 1, "ten sessions don't all belong to one of four nodes");
}

fn begin(run: &Run, phase: Value, bodies: Arc<Bodies>) -> Result<(), loadgen::engine::EngineError> {
    let mut config = json!({"name": "main", "drain_timeout_s": 30.0});
    config.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
    let config: PhaseConfig = serde_json::from_value(config).unwrap();
    run.engine.begin(config, bodies)
}

#[test]
fn a_balance_that_cannot_be_is_refused_before_the_phase_begins() {
    let servers = servers(2);
    let run = run(&urls(&servers), 1);
    let refused = |phase: Value| begin(&run, phase, support::run::bodies()).unwrap_err().to_string();
    let weights = json!({"kind": "weighted", "weights": [1]});
    assert_eq!(refused(balanced(closed(1, 1), weights)), "1 weights for 2 nodes: each node has one");
    let why = refused(balanced(closed(1, 1), json!({"kind": "session"})));
    assert_eq!(why, "requests are balanced by session, and the samples have none");
    assert_eq!(run.phase(closed(1, 4))["counts"]["ok"], 4, "the run goes on");
}

#[test]
fn a_node_that_refuses_fails_its_own_requests_and_the_others_go_on() {
    let servers = servers(1);
    let dead = nowhere();
    let run = run(&[&servers[0].url, &dead], 2);
    let end = run.phase(closed(4, 80));
    assert_eq!((&end["reason"], &end["counts"]["ok"]), (&json!("requests"), &json!(40)), "{end}");
    run.engine.finish("complete", "").unwrap();
    let summary = summarise(run.dir.path(), &Options::default()).unwrap();
    let nodes = summary.phases[0].nodes.as_ref().unwrap();
    assert_eq!(nodes.iter().map(|node| (node.ok, node.failed)).collect::<Vec<_>>(), [(40, 0), (0, 40)]);
    assert_eq!(nodes[1].failures["connect"], 40);
}

#[test]
fn a_phase_ends_early_when_no_node_lets_anybody_in() {
    let forbidding = Server::new(|_, _| Reply::Keep(answer(401, "application/json", "{}")));
    let dead = nowhere();
    let run = run(&[&forbidding.url, &dead], 2);
    let end = run.phase(closed(2, 10_000));
    assert_eq!((&end["reason"], &end["counts"]["ok"]), (&json!("early"), &json!(0)), "{end}");
    assert!(
        rows(run)
            .iter()
            .all(|row| matches!((row.node, row.failure), (Some(0), Failure::Http) | (Some(1), Failure::Connect)))
    );
}

#[test]
fn a_node_that_takes_its_time_is_waited_for_before_all_is_given_up() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let slow = Server::new(move |_, _| Reply::After(Arc::clone(&held), chat()));
    let dead = nowhere();
    let run = run(&[&dead, &slow.url], 1);
    run.begin(json!({"load": {"kind": "burst", "n": 40}}));
    while run.engine.live().0.failed < 20 {
        std::thread::yield_now();
    }
    latch.open();
    let end = run.engine.wait(PATIENCE).unwrap().expect("the phase ends in time");
    assert_eq!((&end["counts"]["ok"], &end["counts"]["failed"]), (&json!(20), &json!(20)), "{end}");
    assert_ne!(end["reason"], "early", "twenty refusals of one node say nothing of the other");
}

#[test]
fn what_is_issued_from_outside_takes_turns_too() {
    let servers = servers(2);
    let run = run(&urls(&servers), 2);
    run.begin(json!({"load": {"kind": "manual"}, "requests": 10}));
    (0..10).for_each(|_| assert!(run.engine.issue(Asked::default()).unwrap().is_some()));
    assert_eq!(run.wait()["counts"]["ok"], 10);
    assert!(rows(run).iter().all(|row| row.node.map(u64::from) == Some(row.id % 2)));
}

#[test]
fn the_log_says_how_many_nodes_there_were_and_how_they_were_balanced() {
    let servers = servers(2);
    let run = run(&urls(&servers), 1);
    let balance = json!({"kind": "weighted", "weights": [2, 1]});
    run.phase(balanced(closed(1, 6), balance.clone()));
    run.engine.finish("complete", "").unwrap();
    let config = &documents(run.dir.path(), "phase_start")[0]["config"];
    assert_eq!((&config["balance"], config["request"]["nodes"].as_array().map(Vec::len)), (&balance, Some(2)));
}
