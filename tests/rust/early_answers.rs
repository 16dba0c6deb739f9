//! Answers that come before their request was sent whole: what a server said is heard, and what it won't take is not sent.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loadgen::engine::{Bodies, Completion};
use loadgen::record::{Attempt, Detail, Failure, Row};
use serde_json::json;
use support::early::{EarlyServer, Then};
use support::run::{Run, assert_ordered, closed};

/// More than the buffers between client and server hold.
const BODY_BYTES: usize = 8 << 20;

const REQUESTS: u64 = 3;

const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nRetry-After: 7\r\nContent-Type: application/json\r\n\
    Content-Length: 32\r\n\r\n{\"error\":{\"message\":\"too long\"}}";

const CHAT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 52\r\n\r\n\
    {\"choices\":[{\"index\":0,\"message\":{\"content\":\"hi\"}}]}";

/// One at a time, with bodies of 8 MiB, at a server that answers so: what the log says of them, and what was told.
fn ask(server: &EarlyServer, stream: bool) -> (Vec<(Row, Vec<Attempt>)>, Vec<Completion>) {
    let run = Run::new(&server.url, json!({"insecure": server.url.starts_with("https"), "stream": stream}));
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(BODY_BYTES));
    let bodies = Bodies::new([body.as_bytes()].into_iter(), vec![]).unwrap();
    let mut phase = closed(1, REQUESTS);
    phase["completions"] = json!("answers");
    run.begin_with(phase, Arc::new(bodies)).unwrap();
    run.wait();
    let told = run.engine.take_completions();
    let rows = run.rows();
    assert_eq!((rows.len() as u64, told.len() as u64), (REQUESTS, REQUESTS));
    rows.iter().for_each(|(row, _)| assert_ordered(row));
    (rows, told)
}

/// A refusal reaches whoever asked, with all it says, and its request is sent no further and only once.
fn refused(tls: bool, then: Then) {
    let server = EarlyServer::new(tls, TOO_LARGE, then);
    let (rows, told) = ask(&server, true);
    for (row, attempts) in rows {
        let seen = (row.failure, row.detail, row.status, attempts.len());
        assert_eq!(seen, (Failure::Http, Detail::None, 413, 0), "{then:?}");
        assert!(row.bytes_in as usize == TOO_LARGE.len() && (row.bytes_out as usize) < BODY_BYTES, "{row:?}");
    }
    for one in told {
        assert_eq!(one.texts.error.as_deref(), Some("HTTP 413: too long"));
        assert_eq!(one.retry_after_ns, Some(7_000_000_000));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst) as u64, REQUESTS, "none is used again");
}

#[test]
fn a_refusal_by_a_server_that_reads_nothing_more_is_heard() {
    refused(false, Then::Holds);
}

#[test]
fn a_refusal_by_a_server_that_closes_with_the_body_unread_is_heard() {
    refused(false, Then::Closes);
}

#[test]
fn a_refusal_by_a_server_that_reads_on_slowly_is_heard() {
    refused(false, Then::Sips);
}

#[test]
fn a_refusal_over_tls_by_a_server_that_reads_nothing_more_is_heard() {
    refused(true, Then::Holds);
}

#[test]
fn a_refusal_over_tls_by_a_server_that_closes_with_the_body_unread_is_heard() {
    refused(true, Then::Closes);
}

#[test]
fn a_refusal_over_tls_by_a_server_that_reads_on_slowly_is_heard() {
    refused(true, Then::Sips);
}

/// All of every request is sent, over one connection, and answered well.
fn sent_whole(server: &EarlyServer, stream: bool) {
    for (row, attempts) in ask(server, stream).0 {
        assert_eq!((row.failure, row.status, row.streamed, attempts.len()), (Failure::None, 200, stream, 0));
        assert!(row.bytes_out as usize > BODY_BYTES, "{}", row.bytes_out);
    }
    let taken = server.taken.load(Ordering::SeqCst);
    assert!(taken > BODY_BYTES * REQUESTS as usize, "{taken}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_interim_answer_does_not_end_the_sending() {
    for tls in [false, true] {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        sent_whole(&EarlyServer::new(tls, interim, Then::Goes(CHAT)), false);
    }
}

#[test]
fn a_good_answer_that_begins_early_is_read_while_the_rest_is_sent() {
    let first = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
        2f\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"w\"}}]}\n\n\r\n";
    let rest = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    for tls in [false, true] {
        sent_whole(&EarlyServer::new(tls, first, Then::Goes(rest)), true);
    }
}

#[test]
fn a_good_answer_that_is_whole_before_its_request_counts_and_ends_the_connection() {
    for tls in [false, true] {
        let server = EarlyServer::new(tls, CHAT, Then::Holds);
        for (row, attempts) in ask(&server, false).0 {
            assert_eq!((row.failure, row.status, attempts.len()), (Failure::None, 200, 0));
            assert!((row.bytes_out as usize) < BODY_BYTES, "{}", row.bytes_out);
        }
        assert_eq!(server.connections.load(Ordering::SeqCst) as u64, REQUESTS);
    }
}
