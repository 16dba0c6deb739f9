//! HTTP on the client's side: where to (`target`), what is sent (`request`), over which connection (`connect`, `tls`,
//! `proxy`), and what comes back (`response`). Bytes are pushed in as they were read; nothing in here waits for them.

mod addresses;
mod base64;
mod connect;
mod date;
mod excerpt;
mod fault;
mod h2;
mod head;
mod hints;
mod proxy;
mod request;
mod response;
mod secrets;
mod stream;
mod target;
mod tls;

pub(crate) use base64::base64;
pub use connect::{ConnectConfigError, Connector};
pub use excerpt::excerpt;
pub use fault::Fault;
pub use h2::{H2Connection, H2Part};
pub use head::Head;
pub use hints::{Allowance, Hints};
pub use request::RequestTemplate;
pub use response::ResponseParser;
pub use secrets::Secrets;
pub use stream::Stream;
pub use target::{Target, TargetError};
pub use tls::{TlsClient, TlsOptions};

/// Takes an answer apart as its bytes come in: the head once, then the body without its framing.
pub trait Sink {
    /// The final head; interim (1xx) heads are not shown.
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault>;

    /// Bytes of the body in order, split anywhere. Never empty.
    fn data(&mut self, span: &[u8]) -> Result<(), Fault>;

    /// The connection ended too early: the sink may know a better reason than the framing does.
    fn cut(&mut self, fault: Fault) -> Fault {
        fault
    }
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are to come.
    More,
    /// The body is complete.
    Done {
        /// The connection may carry another request: keep-alive was agreed, and nothing followed the answer.
        reusable: bool,
    },
}

/// Bounds on what a server can make us hold or read, so that no answer exhausts memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, interim heads and trailers included.
    pub head_bytes: usize,
    /// Header lines of a head.
    pub headers: usize,
    /// Bytes of one line of an event stream, and of one event's data.
    pub line_bytes: usize,
    /// Bytes of a body.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 256 << 10, headers: 1000, line_bytes: 16 << 20, body_bytes: 256 << 20 }
    }
}
