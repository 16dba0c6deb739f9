//! A server that answers as a test scripts it, on threads of its own, and counts what it saw.

pub mod early;
pub mod http2;
pub mod run;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What to do with one request.
pub enum Reply {
    /// Send these bytes and keep the connection.
    Keep(Vec<u8>),
    /// Send these bytes and close it.
    Close(Vec<u8>),
    /// Send these one after the other, other threads in between, and keep the connection.
    Pieces(Vec<Vec<u8>>),
    /// Send these one after the other, and the last one again and again, as fast as they are taken, until the client goes away.
    Endless(Vec<Vec<u8>>),
    /// Say nothing until the client goes away.
    Hang,
    /// Wait until the latch is open, then send and keep.
    After(Arc<Latch>, Vec<u8>),
}

/// Opens once, for all.
#[derive(Default)]
pub struct Latch {
    open: Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Latch {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn wait(&self) {
        let guard = self.open.lock().unwrap();
        drop(self.changed.wait_while(guard, |open| !*open).unwrap());
    }
}

/// What the server saw.
#[derive(Default)]
pub struct Seen {
    /// Request lines and headers, in lower case.
    pub heads: Mutex<Vec<String>>,
    pub bodies: Mutex<Vec<String>>,
    pub connections: AtomicUsize,
    pub in_flight: AtomicUsize,
    pub most_in_flight: AtomicUsize,
}

type Script = dyn Fn(usize, &str) -> Reply + Send + Sync;

/// Listens on a free port of loopback until it is dropped.
pub struct Server {
    pub url: String,
    pub seen: Arc<Seen>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `script(n, body)` answers the server's n-th request.
    pub fn new(script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::closing_first(0, script)
    }

    /// The same, after closing the first `closed` connections as soon as they are made.
    pub fn closing_first(closed: usize, script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, closing) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let script: Arc<Script> = Arc::new(script);
        let (shared, stop) = (Arc::clone(&seen), Arc::clone(&closing));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                if shared.connections.fetch_add(1, Ordering::SeqCst) < closed {
                    continue;
                }
                std::thread::spawn(move || serve(stream.unwrap(), &shared, &*script));
            }
        });
        Self { url, seen, closing, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: TcpStream, seen: &Seen, script: &Script) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
        let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let n = {
            let mut bodies = seen.bodies.lock().unwrap();
            seen.heads.lock().unwrap().push(head);
            bodies.push(body.clone());
            bodies.len() - 1
        };
        let reply = script(n, &body);
        let (bytes, keep) = match reply {
            Reply::Keep(bytes) => (bytes, true),
            Reply::Close(bytes) => (bytes, false),
            Reply::Pieces(pieces) => {
                for piece in pieces {
                    if stream.write_all(&piece).is_err() {
                        return;
                    }
                    std::thread::yield_now();
                }
                (Vec::new(), true)
            }
            Reply::Endless(pieces) => {
                let last = pieces.last().cloned().unwrap_or_default();
                let mut pieces = pieces.into_iter();
                while stream.write_all(&pieces.next().unwrap_or_else(|| last.clone())).is_ok() {}
                return;
            }
            Reply::After(latch, bytes) => {
                latch.wait();
                (bytes, true)
            }
            Reply::Hang => {
                let _ = stream.read(&mut [0; 1]);
                (Vec::new(), false)
            }
        };
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        if stream.write_all(&bytes).is_err() || !keep {
            return;
        }
    }
}

/// Head and body of the next request, or nothing when the client has gone.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
            let length: usize = text.split("content-length: ").nth(1)?.split("\r\n").next()?.trim().parse().ok()?;
            if buffer.len() >= head + 4 + length {
                let body = String::from_utf8_lossy(&buffer[head + 4..head + 4 + length]).into_owned();
                buffer.drain(..head + 4 + length);
                return Some((text, body));
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A whole answer of this status with this body.
pub fn answer(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Word\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// A good chat answer that is no stream.
pub fn chat() -> Vec<u8> {
    answer(
        200,
        "application/json",
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
    )
}

/// A good chat stream of `tokens` content events.
pub fn stream(tokens: usize) -> Vec<u8> {
    let mut body =
        String::from("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
    for i in 0..tokens {
        body += &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" w{i}\"}}}}]}}\n\n");
    }
    body += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    body += &format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}\n\n");
    body += "data: [DONE]\n\n";
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    bytes
}
