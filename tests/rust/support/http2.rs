//! A server of HTTP/2 without TLS, of which a test says what becomes of each connection.

use std::future::Future;

use tokio::net::{TcpListener, TcpStream};

/// How a request is answered.
pub type Respond = h2::server::SendResponse<bytes::Bytes>;

/// Listen on a free port of loopback until the test's process ends; the URL. `serve` gets each connection and its number.
pub fn listen<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(number, stream));
            }
        });
    });
    address.recv().unwrap()
}

/// Answer with this type and body, at once and whole.
pub fn answer(mut respond: Respond, content_type: &str, body: &'static str) {
    let head = http::Response::builder().header("content-type", content_type).body(()).unwrap();
    respond.send_response(head, false).unwrap().send_data(body.into(), true).unwrap();
}
