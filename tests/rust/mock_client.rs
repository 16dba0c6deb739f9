//! A client of raw sockets for the mock's tests; it shares nothing with the engine's.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use loadgen::mock::{Config, Server};
use serde_json::{Value, json};

/// One client connection, read without any HTTP library.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// An answer: status, head, and the body with its framing taken off.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The data of each event.
    pub fn events(&self) -> Vec<String> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("data").to_owned()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    pub fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Send, and say whether the server has reset the connection already.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        match self.stream.get_mut().write_all(bytes.as_ref()) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => true,
            sent => {
                sent.unwrap();
                false
            }
        }
    }

    pub fn post(&mut self, path: &str, headers: &str, body: &Value) -> bool {
        let body = body.to_string();
        self.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
    }

    pub fn chat(&mut self, body: Value) -> Answer {
        self.post("/v1/chat/completions", "", &body);
        self.answer()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        self.answer()
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    pub fn head(&mut self) -> (u16, String) {
        let status = self.line();
        let code = status.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {status:?}")).parse().unwrap();
        let mut head = String::new();
        loop {
            let line = self.line();
            if line == "\r\n" {
                return (code, head);
            }
            head.push_str(&line);
        }
    }

    pub fn answer(&mut self) -> Answer {
        let (status, head) = self.head();
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut answer.body).unwrap();
        } else {
            self.stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    /// The next HTTP chunk; `None` for the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let digits = line.split([';', '\r']).next().unwrap();
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        if size == 0 {
            // Trailers, if any, and the empty line.
            while self.line() != "\r\n" {}
            return None;
        }
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data).unwrap();
        assert_eq!(&data[size..], b"\r\n");
        data.truncate(size);
        Some(data)
    }

    pub fn at_end(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]))
    }
}

pub fn server(config: &str) -> Server {
    Server::start(Config::from_json(config).unwrap()).unwrap()
}

pub fn prompt() -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": "hello"}]})
}

pub fn with(extra: Value) -> Value {
    let mut body = prompt();
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

pub fn truth(server: &Server) -> Value {
    serde_json::from_str(&server.truth(true)).unwrap()
}

pub fn numbers(truth: &Value, column: &str) -> Vec<u64> {
    truth["rows"][column].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}
