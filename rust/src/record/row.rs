//! One request is one row: its stamps on the run's clock, what it brought, and how it ended.

use super::codes::{AttemptKind, Detail, Failure, Finish, StampSource, TokenSource};

/// A stamp that was never taken. Monotonic nanoseconds are never 0.
pub const UNSET: u64 = 0;

/// The moments of one request, in monotonic nanoseconds; [`UNSET`] where the moment never came.
///
/// `planned ≤ issued ≤ sent ≤ first_byte ≤ first_token ≤ last_token ≤ done` over those that are set, in every row.
/// Stamps from `sent` on are those of the attempt that gave the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// When the plan wanted the request to start. In a closed loop: when its slot became free.
    pub planned: u64,
    /// Under a cap on a rate: when a slot was free for it.
    pub free: u64,
    /// When a worker took it from the plan to start it.
    pub issued: u64,
    /// Just before the first write of the attempt that gave the outcome; connecting lies before it.
    pub sent: u64,
    /// The read that brought the first byte of the answer.
    pub first_byte: u64,
    /// The read that brought the first non-empty piece of text, reasoning or tool call. Streamed answers only.
    pub first_token: u64,
    /// The read that brought the first piece that is not reasoning. Streamed answers only.
    pub first_output: u64,
    /// The read that brought the last token. Streamed answers only.
    pub last_token: u64,
    /// The end of the answer, or of the attempt to get one.
    pub done: u64,
}

/// One socket read that carried tokens. Events that came together share its stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Nanoseconds since the request's previous such read; since `sent` for its first.
    pub delta_ns: u64,
    /// Events that ended in this read.
    pub events: u32,
    /// Those of them that carried tokens.
    pub chunks: u32,
    /// Tokens in them, where continuous usage tells; 0 means it did not.
    pub tokens: u32,
}

/// One attempt of a request. Kept only where a request had more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// What it was for.
    pub kind: AttemptKind,
    /// Index of the target it went to.
    pub node: u16,
    /// Just before its first write.
    pub sent: u64,
    /// Its first byte, or [`UNSET`].
    pub first_byte: u64,
    /// Its end.
    pub done: u64,
    /// Its HTTP status, 0 for none.
    pub status: u16,
    /// Its outcome.
    pub outcome: Failure,
}

/// One finished request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Index of the request in the session.
    pub id: u64,
    /// Index of its phase in the session.
    pub phase: u16,
    /// The worker that ran it.
    pub worker: u16,
    /// Index of the sample in the phase's dataset.
    pub sample: u64,
    /// Index of the target that gave the outcome, among those of the run; `None` where it was given up before any was asked.
    pub node: Option<u16>,
    /// Its moments.
    pub stamps: Stamps,
    /// Nanoseconds spent connecting (name, TCP, TLS) for this request; 0 on a kept-alive connection.
    pub connect_ns: u64,
    /// HTTP status, 0 if no answer came.
    pub status: u16,
    /// Class of failure.
    pub failure: Failure,
    /// The rule that was broken.
    pub detail: Detail,
    /// Why the model stopped.
    pub finish: Finish,
    /// Whether the answer was a stream.
    pub streamed: bool,
    /// Prompt tokens, by the server's usage.
    pub tokens_in: Option<u32>,
    /// Output tokens, by `token_source`.
    pub tokens_out: Option<u32>,
    /// Who counted the output tokens.
    pub token_source: TokenSource,
    /// Events of the stream, pings and comments not counted.
    pub events: u32,
    /// Events that carried tokens.
    pub chunks: u32,
    /// Bytes received, heads included.
    pub bytes_in: u64,
    /// Bytes sent, heads included.
    pub bytes_out: u64,
    /// Who took the stamps.
    pub stamp_source: StampSource,
}
