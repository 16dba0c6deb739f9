use std::time::Duration;

use h2::Reason;
use h2::server::{self, SendResponse};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::endpoint::{Answer, AnswerOptions, Api};
use crate::http::{RequestTemplate, Sink, Target};

type Server = server::Connection<UnixStream, Bytes>;

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A bound on a test that hangs, not a measure of anything.
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() })
}

async fn pair(max_streams: u32) -> (H2Connection, Server) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(max_streams);
    let accepting = tokio::spawn(async move {
        let mut server = builder.handshake(theirs).await.unwrap();
        // Its settings go out when it is first driven.
        std::future::poll_fn(|cx| {
            let _ = server.poll_accept(cx);
            Poll::Ready(())
        })
        .await;
        server
    });
    let client = H2Connection::handshake(Stream::Unix(ours), Limits::default()).await.unwrap();
    (client, accepting.await.unwrap())
}

fn request() -> Request<()> {
    let target = Target::parse("http://h", "/v1/chat/completions", true).unwrap();
    RequestTemplate::new(&target, &[], Some("sk-1"), true).unwrap().h2_request(2)
}

fn stream_head() -> http::Response<()> {
    http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap()
}

const EVENT: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

/// One exchange into an answer; the stamps of its parts, and what came of it.
async fn ask(client: &H2Connection) -> (Answer, Vec<u64>, Result<(), Fault>) {
    ask_aloud(client, &Notify::new()).await
}

/// The same, telling when data was heard.
async fn ask_aloud(client: &H2Connection, heard: &Notify) -> (Answer, Vec<u64>, Result<(), Fault>) {
    let (mut answer, mut stamps) = (Answer::new(Api::Chat, AnswerOptions::default()), Vec::new());
    answer.reset(true);
    let outcome = client
        .exchange(request(), b"{}".to_vec(), &mut |part, at_ns| {
            stamps.push(at_ns);
            match part {
                H2Part::Head(head) => answer.head(&head),
                H2Part::Data(data) => {
                    heard.notify_one();
                    answer.data(data)
                }
            }
        })
        .await;
    (answer, stamps, outcome)
}

/// Accept one request and go on driving the connection in the background.
async fn accept(mut server: Server) -> (Request<h2::RecvStream>, SendResponse<Bytes>) {
    let accepted = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    accepted
}

#[test]
fn frames_come_one_by_one_with_their_moments() {
    run(async {
        let (client, server) = pair(10).await;
        let began = now_ns();
        let serving = tokio::spawn(async move {
            let (request, mut respond) = accept(server).await;
            assert_eq!(request.uri().path(), "/v1/chat/completions");
            assert_eq!(request.headers()["authorization"], "Bearer sk-1");
            assert_eq!(request.headers()["content-length"], "2");
            let mut body = request.into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "{}");
            let mut stream = respond.send_response(stream_head(), false).unwrap();
            for _ in 0..3 {
                stream.send_data(Bytes::from_static(EVENT), false).unwrap();
                tokio::task::yield_now().await;
            }
            stream.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true).unwrap();
        });
        let (mut answer, stamps, outcome) = ask(&client).await;
        serving.await.unwrap();
        assert_eq!((outcome, answer.end(), answer.outcome().chunks), (Ok(()), Ok(()), 3));
        assert_eq!(stamps.len(), 5);
        assert!(stamps.windows(2).all(|w| w[0] <= w[1]) && stamps[0] >= began && stamps[4] <= now_ns());
        assert!(client.has_room() && client.open.get() == 0);
    });
}

#[test]
fn a_reset_stream_keeps_what_came_and_spares_the_connection() {
    run(async {
        let (client, server) = pair(10).await;
        let heard = Arc::new(Notify::new());
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            let (_request, mut respond) = accept(server).await;
            let mut stream = respond.send_response(stream_head(), false).unwrap();
            stream.send_data(Bytes::from_static(EVENT), false).unwrap();
            // A reset overtakes what was not sent yet.
            told.notified().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        });
        let (answer, _, outcome) = ask_aloud(&client, &heard).await;
        let fault = outcome.unwrap_err();
        assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::H2Reset), "{fault}");
        assert_eq!(answer.outcome().chunks, 1);
        assert!(client.has_room());
    });
}

#[test]
fn a_connection_that_goes_away_takes_no_more_requests() {
    run(async {
        let (client, mut server) = pair(10).await;
        let serving = tokio::spawn(async move {
            // It has seen no request: the one that is on its way is told that it was not processed.
            server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            while server.accept().await.is_some() {}
        });
        let (answer, _, outcome) = ask(&client).await;
        let fault = outcome.unwrap_err();
        assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::H2Reset), "{fault}");
        assert_eq!(answer.outcome().status, 0);
        serving.await.unwrap();
        assert!(ask(&client).await.2.is_err());
        assert!(!client.is_open() && !client.has_room());
    });
}

#[test]
fn the_servers_limit_on_streams_is_known_and_kept() {
    run(async {
        let (client, mut server) = pair(2).await;
        assert!(client.has_room());
        let (release, released) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let mut held = Vec::new();
            for _ in 0..2 {
                held.push(server.accept().await.unwrap().unwrap());
            }
            released.await.unwrap();
            for (_, mut respond) in held {
                respond.send_response(stream_head(), true).unwrap();
            }
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            respond.send_response(stream_head(), true).unwrap();
            while server.accept().await.is_some() {}
        });
        let mut exchanges: Vec<Pin<Box<dyn Future<Output = _>>>> = Vec::new();
        for _ in 0..3 {
            exchanges.push(Box::pin(ask(&client)));
        }
        // Start all three; the server answers none yet.
        std::future::poll_fn(|cx| {
            assert!(exchanges.iter_mut().all(|exchange| exchange.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        assert!(client.open.get() == 3 && !client.has_room());
        release.send(()).unwrap();
        for exchange in exchanges {
            assert_eq!(exchange.await.2, Ok(()));
        }
        assert!(client.has_room());
        drop(client);
        serving.await.unwrap();
    });
}

#[test]
fn an_exchange_that_is_dropped_resets_its_stream() {
    run(async {
        let (client, server) = pair(10).await;
        let (told, mut respond) = {
            let mut exchange = Box::pin(ask(&client));
            let accepting = tokio::spawn(accept(server));
            // Drive the exchange until the server has it.
            let mut accepting = Box::pin(accepting);
            std::future::poll_fn(|cx| {
                assert!(exchange.as_mut().poll(cx).is_pending());
                accepting.as_mut().poll(cx).map(Result::unwrap)
            })
            .await
        };
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        assert_eq!((reason, client.open.get()), (Reason::CANCEL, 0));
        drop(told);
    });
}

#[test]
fn a_server_of_another_protocol_fails_the_handshake() {
    run(async {
        for (says, failure) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Failure::Protocol), (b"", Failure::Body)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(says).await.unwrap();
            theirs.shutdown().await.unwrap();
            let fault = H2Connection::handshake(Stream::Unix(ours), Limits::default()).await.err().unwrap();
            assert_eq!(fault.failure, failure, "{fault}");
        }
    });
}

#[test]
fn a_connection_that_ends_in_the_middle_is_an_early_end() {
    run(async {
        let (client, server) = pair(10).await;
        let heard = Arc::new(Notify::new());
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut server = server;
            let (_request, mut respond) = server.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(stream_head(), false).unwrap();
            stream.send_data(Bytes::from_static(EVENT), false).unwrap();
            // Drive the connection until the frame was heard, then drop the socket under it.
            let mut told = std::pin::pin!(told.notified());
            std::future::poll_fn(|cx| {
                let _ = server.poll_accept(cx);
                told.as_mut().poll(cx)
            })
            .await;
        });
        let (answer, _, outcome) = ask_aloud(&client, &heard).await;
        let fault = outcome.unwrap_err();
        assert_eq!((fault.failure, fault.detail), (Failure::Body, Detail::EarlyEnd), "{fault}");
        assert_eq!(answer.outcome().chunks, 1);
    });
}

#[test]
fn thousands_of_small_frames_are_no_attack() {
    run(async {
        let (client, server) = pair(10).await;
        tokio::spawn(async move {
            let (_request, mut respond) = accept(server).await;
            let mut stream = respond.send_response(stream_head(), false).unwrap();
            for _ in 0..5000 {
                stream.send_data(Bytes::from_static(EVENT), false).unwrap();
            }
            stream.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true).unwrap();
        });
        let (mut answer, _, outcome) = ask(&client).await;
        assert_eq!((outcome, answer.end(), answer.outcome().chunks), (Ok(()), Ok(()), 5000));
    });
}
