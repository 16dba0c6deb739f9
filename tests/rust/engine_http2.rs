//! The engine over HTTP/2: shared connections, and what becomes of them.

use std::sync::atomic::AtomicUsize;

use loadgen::event::{EventReader, EventType, Frame};
use support::http2::Respond;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// What an HTTP/2 server does wrong.
#[derive(Clone, Copy, PartialEq)]
enum H2Fault {
    None,
    /// The first connection ends with its third request.
    GoAway,
    /// Every request of a connection but the first is reset.
    Reset,
    /// Answers begin and never end.
    Silence,
}

/// An HTTP/2 server that answers every request with `tokens` events, a frame each; how many connections it had.
fn h2_server(tokens: usize, fault: H2Fault) -> (String, Arc<AtomicUsize>) {
    let connections = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&connections);
    let url = http2::listen(move |number, stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.max_concurrent_streams(2).handshake::<_, bytes::Bytes>(stream).await.unwrap();
            let mut served = 0;
            while let Some(request) = connection.accept().await {
                let Ok((request, mut respond)) = request else { return };
                served += 1;
                match fault {
                    H2Fault::GoAway if number == 0 && served == 3 => return,
                    H2Fault::Reset if served > 1 => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                    _ => drop(tokio::spawn(answer_h2(request, respond, tokens, fault == H2Fault::Silence))),
                }
            }
        }
    });
    (url, connections)
}

async fn answer_h2(request: http::Request<h2::RecvStream>, mut respond: Respond, tokens: usize, falls_silent: bool) {
    let mut body = request.into_body();
    while body.data().await.is_some() {}
    let head = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
    let mut answer = respond.send_response(head, false).unwrap();
    for i in 0..tokens {
        let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{i}\"}}}}]}}\n\n");
        answer.send_data(event.into(), false).unwrap();
    }
    if falls_silent {
        return std::future::pending().await;
    }
    let end = format!("data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":{tokens}}}}}\n\ndata: [DONE]\n\n");
    answer.send_data(end.into(), true).unwrap();
}

#[test]
fn http_2_shares_connections_as_far_as_the_server_lets_it() {
    let (url, connections) = h2_server(4, H2Fault::None);
    let run = Run::new(&url, json!({"http2": true, "stream": true}));
    assert_eq!(run.phase(closed(5, 60))["counts"]["ok"], 60);
    for (row, _) in run.rows() {
        assert_ordered(&row);
        assert_eq!((row.failure, row.chunks, row.tokens_out, row.streamed), (Failure::None, 4, Some(4), true));
    }
    // Five requests need three connections of two streams; those that connect at the same time each bring one.
    assert!((3..=4).contains(&connections.load(Ordering::SeqCst)));
}

#[test]
fn a_phase_after_another_on_the_same_http_2_connection_is_read_by_its_own_settings() {
    let (url, connections) = h2_server(2, H2Fault::None);
    let run = Run::new(&url, json!({"http2": true, "stream": true}));
    run.phase(closed(1, 2));
    let own = json!({"name": "b", "load": {"kind": "concurrency", "n": 1}, "requests": 1,
        "request": {"save_responses": true, "api": "completions"}});
    assert_eq!(run.phase(own)["counts"]["ok"], 1);
    run.engine.finish("complete", "").unwrap();
    let mut texts = TextReader::open(run.dir.path(), WhichLog::Answers).unwrap();
    assert_eq!(texts.next_text().unwrap(), Some((2, TextKind::Answer, b"w0w1".to_vec())));
    assert_eq!((texts.next_text().unwrap(), connections.load(Ordering::SeqCst)), (None, 1));
}

#[test]
fn events_of_http_2_count_each_chunk_too() {
    let (url, _) = h2_server(4, H2Fault::None);
    let run = Run::new(&url, json!({"http2": true, "stream": true, "events": {"log": true, "chunks": true}}));
    assert_eq!(run.phase(closed(5, 20))["counts"]["ok"], 20);
    let dir = run.dir.path().to_owned();
    run.engine.finish("complete", "").unwrap();
    let count = |kind| {
        let mut reader = EventReader::open(&dir, &[kind], 0).unwrap();
        let frames = std::iter::from_fn(|| reader.next_frame().unwrap());
        frames.map(|frame| Frame::decode(&frame).unwrap().count).sum::<u32>()
    };
    let counts = [EventType::SampleIssued, EventType::RecvFirst, EventType::RecvNonFirst, EventType::SampleComplete];
    assert_eq!(counts.map(count), [20, 20, 60, 20]);
}

#[test]
fn an_http_2_connection_that_goes_away_is_replaced() {
    let (url, connections) = h2_server(2, H2Fault::GoAway);
    let run = Run::new(&url, json!({"http2": true, "stream": true}));
    let end = run.phase(closed(1, 10));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["reconnects"]), (&json!(10), &json!(1)), "{end}");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_reset_stream_is_a_failure_and_its_request_is_not_sent_again() {
    let (url, connections) = h2_server(2, H2Fault::Reset);
    let run = Run::new(&url, json!({"http2": true, "stream": true, "timeout_s": 2.0}));
    let end = run.phase(closed(1, 5));
    assert_eq!((&end["counts"]["ok"], &end["counts"]["reconnects"]), (&json!(1), &json!(0)), "{end}");
    for (row, attempts) in &run.rows()[1..] {
        assert_eq!((row.failure, row.detail, attempts.len()), (Failure::Body, Detail::H2Reset, 0));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_http_2_request_that_times_out_ends_when_it_does_not_with_its_last_byte() {
    let (url, _) = h2_server(1, H2Fault::Silence);
    let run = Run::new(&url, json!({"http2": true, "stream": true, "timeout_s": 0.3}));
    assert_eq!(run.phase(closed(1, 2))["counts"]["failed"], 2);
    let rows = run.rows();
    for (row, _) in &rows {
        assert_ordered(row);
        let lasted = row.stamps.done - row.stamps.issued;
        assert!(row.failure == Failure::Timeout && lasted >= 300_000_000, "{lasted} ns");
    }
    assert!(rows[1].0.stamps.planned >= rows[0].0.stamps.done);
}

#[test]
fn a_server_that_never_begins_to_speak_http_2_is_a_connection_that_timed_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let run = Run::new(&url, json!({"http2": true, "connect_timeout_s": 0.2}));
    assert_eq!(run.phase(closed(1, 2))["counts"]["failed"], 2);
    for (row, _) in run.rows() {
        assert_eq!((row.failure, row.detail), (Failure::Connect, Detail::ConnectTimeout));
    }
}

/// The first answer comes before anything of the body was read, of which the server lets in 64 KiB. It then resets the stream
/// without an error, as it may (RFC 9113, section 8.1), or `holds` it and says nothing.
fn answered_early(holds: bool) {
    let connections = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&connections);
    let url = http2::listen(move |_, stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.max_concurrent_streams(1).handshake::<_, bytes::Bytes>(stream).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let head = http::Response::builder().status(413).header("retry-after", "7").body(()).unwrap();
                respond.send_response(head, false).unwrap().send_data("too long".into(), true).unwrap();
                if holds {
                    held.push(request);
                }
            }
        }
    });
    let run = Run::new(&url, json!({"http2": true}));
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(8 << 20));
    let bodies = loadgen::engine::Bodies::new([body.as_bytes()].into_iter(), vec![]).unwrap();
    let mut phase = closed(1, 3);
    phase["completions"] = json!("answers");
    run.begin_with(phase, Arc::new(bodies)).unwrap();
    run.wait();
    for one in run.engine.take_completions() {
        let seen = (one.row.failure, one.row.status, one.texts.error.as_deref(), one.retry_after_ns);
        assert_eq!(seen, (Failure::Http, 413, Some("HTTP 413: too long"), Some(7_000_000_000)));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let rows = run.rows();
    assert_eq!(rows.len(), 3);
    rows.iter().for_each(|(row, _)| assert_ordered(row));
}

#[test]
fn an_http_2_answer_counts_though_its_stream_is_reset_before_its_request_is_sent_whole() {
    answered_early(false);
}

#[test]
fn a_request_that_was_answered_early_leaves_its_http_2_stream_to_the_next() {
    answered_early(true);
}

/// Frames of HTTP/2 as a server writes them byte by byte (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS that allow so many streams at the same time.
fn allow(streams: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&3_u16.to_be_bytes()[..], &streams.to_be_bytes()].concat())
}

/// Read frames until the first whose kind is `kind`; its stream.
async fn read_until(stream: &mut TcpStream, kind: u8) -> u32 {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[3] == kind {
            return u32::from_be_bytes(head[5..9].try_into().unwrap());
        }
    }
}

#[test]
fn while_a_server_allows_no_streams_requests_wait_for_it_to_allow_them() {
    let connections = Arc::<AtomicUsize>::default();
    let (seen, latch) = (Arc::clone(&connections), Arc::new(Latch::default()));
    let opened = Arc::clone(&latch);
    let url = http2::listen(move |_, mut stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        let opened = Arc::clone(&opened);
        async move {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(&allow(0)).await.unwrap();
            tokio::task::spawn_blocking(move || opened.wait()).await.unwrap();
            stream.write_all(&allow(2)).await.unwrap();
            for _ in 0..3 {
                let request = read_until(&mut stream, 1).await;
                // Of HPACK's table: `:status: 200` is entry 8, and `content-type` 31, here with a value of its own.
                let head = [&[0x88, 0x5f, 16][..], b"application/json"].concat();
                let body = br#"{"choices":[{"index":0,"message":{"content":"hi"}}]}"#;
                let answer = [frame(1, 4, request, &head), frame(0, 1, request, body)].concat();
                stream.write_all(&answer).await.unwrap();
            }
            // Closing with unread bytes would reset the connection, and an answer on its way with it.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        }
    });
    let run = Run::new(&url, json!({"http2": true}));
    run.begin(closed(2, 3));
    while run.engine.live().0.in_flight() < 2 {
        std::thread::yield_now();
    }
    let before = loadgen::clock::now_ns();
    latch.open();
    assert_eq!(run.wait()["counts"]["ok"], 3);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    for (row, _) in run.rows() {
        assert_ordered(&row);
        assert!(row.stamps.sent >= before, "what waits for a stream is not sent yet");
    }
}

#[test]
fn a_server_that_never_allows_a_stream_is_named_when_the_time_is_over_and_connected_to_once() {
    let connections = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&connections);
    let url = http2::listen(move |_, stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.max_concurrent_streams(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
            while connection.accept().await.is_some() {}
        }
    });
    let run = Run::new(&url, json!({"http2": true, "timeout_s": 0.3}));
    let told = json!({"load": {"kind": "concurrency", "n": 2}, "requests": 4, "completions": "ids"});
    assert_eq!(run.phase(told)["counts"]["failed"], 4);
    let ended = run.engine.take_completions();
    assert_eq!((ended.len(), connections.load(Ordering::SeqCst)), (4, 1));
    for one in ended {
        assert_eq!((one.row.failure, one.row.stamps.sent), (Failure::Timeout, UNSET));
        let expected = "the server allows no HTTP/2 streams (its SETTINGS_MAX_CONCURRENT_STREAMS is 0)";
        assert_eq!(one.texts.error.as_deref(), Some(expected));
    }
}
