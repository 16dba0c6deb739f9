//! What a row tells by a code: why it failed, why the model stopped, who counted and who stamped. Codes are kept in files and
//! never change their meaning.

/// Why a request did not succeed; `None` is success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Failure {
    /// It succeeded.
    #[default]
    None = 0,
    /// No connection: name, address, refusal, time-out while connecting.
    Connect = 1,
    /// The TLS handshake or a certificate.
    Tls = 2,
    /// The whole request outlasted `timeout`.
    Timeout = 3,
    /// No byte for `stall_timeout` after the first one.
    Stall = 4,
    /// An HTTP status of 300 or more; `Row::status` holds it.
    Http = 5,
    /// The bytes broke HTTP's or SSE's rules, or a bound of ours on them.
    Protocol = 6,
    /// The answer itself: an error event, broken JSON, nothing in it, or an end before its time.
    Body = 7,
    /// We cancelled it: an interrupt, or a drain that ran out.
    Cancelled = 8,
}

impl Failure {
    /// Every class, in code order; `ALL[code]` is the class of that code.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Stall,
        Self::Http,
        Self::Protocol,
        Self::Body,
        Self::Cancelled,
    ];

    /// The name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Stall => "stall",
            Self::Http => "http",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Cancelled => "cancelled",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.name() == name)
    }

    /// The class of a stored code; `None` (the option) for a code this version does not know.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// Which rule was broken, below the class of a [`Failure`]. Stored as its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Detail {
    /// Nothing to add to the class.
    #[default]
    None = 0,
    /// The host name did not resolve.
    Resolve = 1,
    /// The connection was refused.
    Refused = 2,
    /// Connecting took longer than `connect_timeout`.
    ConnectTimeout = 3,
    /// The peer reset the connection.
    Reset = 4,
    /// The connection ended before the answer did.
    EarlyEnd = 5,
    /// An HTTP head that is not HTTP.
    BadHead = 6,
    /// A head over its size or header count.
    HeadTooBig = 7,
    /// Chunked framing broken.
    BadChunk = 8,
    /// Length and framing contradict each other, or bytes came after the answer.
    BadLength = 9,
    /// An SSE line over its bound.
    LineTooLong = 10,
    /// A body over its bound.
    BodyTooBig = 11,
    /// A content encoding nobody asked for.
    Encoding = 12,
    /// Neither an event stream nor the JSON that was asked for.
    ContentType = 13,
    /// JSON that is not JSON, or not of the shape of an answer.
    BadJson = 14,
    /// An error event in a stream, or an error object in an answer of status 200.
    ErrorEvent = 15,
    /// A stream, or an answer, that carried nothing.
    Empty = 16,
    /// A redirect, which is never followed.
    Redirect = 17,
    /// HTTP/2 was closed or reset by the peer (GOAWAY, RST_STREAM).
    H2Reset = 18,
    /// No local port or descriptor could be had.
    Exhausted = 19,
    /// A certificate that does not verify.
    Certificate = 20,
    /// Any other error of the operating system.
    Io = 21,
    /// The connection was upgraded or switched without being asked.
    Upgrade = 22,
}

impl Detail {
    /// Every detail, in code order.
    pub const ALL: [Self; 23] = [
        Self::None,
        Self::Resolve,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Reset,
        Self::EarlyEnd,
        Self::BadHead,
        Self::HeadTooBig,
        Self::BadChunk,
        Self::BadLength,
        Self::LineTooLong,
        Self::BodyTooBig,
        Self::Encoding,
        Self::ContentType,
        Self::BadJson,
        Self::ErrorEvent,
        Self::Empty,
        Self::Redirect,
        Self::H2Reset,
        Self::Exhausted,
        Self::Certificate,
        Self::Io,
        Self::Upgrade,
    ];

    /// The name in files, one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Resolve => "resolve",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::EarlyEnd => "early_end",
            Self::BadHead => "bad_head",
            Self::HeadTooBig => "head_too_big",
            Self::BadChunk => "bad_chunk",
            Self::BadLength => "bad_length",
            Self::LineTooLong => "line_too_long",
            Self::BodyTooBig => "body_too_big",
            Self::Encoding => "encoding",
            Self::ContentType => "content_type",
            Self::BadJson => "bad_json",
            Self::ErrorEvent => "error_event",
            Self::Empty => "empty",
            Self::Redirect => "redirect",
            Self::H2Reset => "h2_reset",
            Self::Exhausted => "exhausted",
            Self::Certificate => "certificate",
            Self::Io => "io",
            Self::Upgrade => "upgrade",
        }
    }

    /// The words a report uses for it; empty for `None`.
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Resolve => "host name not found",
            Self::Refused => "connection refused",
            Self::ConnectTimeout => "connecting timed out",
            Self::Reset => "connection reset by the server",
            Self::EarlyEnd => "connection ended before the answer did",
            Self::BadHead => "not an HTTP answer",
            Self::HeadTooBig => "headers too big",
            Self::BadChunk => "broken chunked framing",
            Self::BadLength => "length and content contradict each other",
            Self::LineTooLong => "a line too long",
            Self::BodyTooBig => "a body too big",
            Self::Encoding => "compressed though not asked for",
            Self::ContentType => "wrong content type",
            Self::BadJson => "broken JSON",
            Self::ErrorEvent => "error in the answer",
            Self::Empty => "an empty answer",
            Self::Redirect => "redirect (not followed)",
            Self::H2Reset => "HTTP/2 stream reset",
            Self::Exhausted => "no local port or descriptor left",
            Self::Certificate => "certificate not valid",
            Self::Io => "input/output error",
            Self::Upgrade => "protocol switched without being asked",
        }
    }

    /// The detail of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// Why the model stopped, as the server says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Finish {
    /// The server did not say.
    #[default]
    Unknown = 0,
    /// `stop`
    Stop = 1,
    /// `length`
    Length = 2,
    /// `tool_calls` or `function_call`
    ToolCalls = 3,
    /// `content_filter`
    ContentFilter = 4,
    /// Any other word.
    Other = 5,
}

impl Finish {
    /// Every reason, in code order.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Stop, Self::Length, Self::ToolCalls, Self::ContentFilter, Self::Other];

    /// The name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other => "other",
        }
    }

    /// The reason behind the word that a server uses for it.
    pub fn from_word(word: &[u8]) -> Self {
        match word {
            b"" => Self::Unknown,
            b"stop" => Self::Stop,
            b"length" => Self::Length,
            b"tool_calls" | b"function_call" => Self::ToolCalls,
            b"content_filter" => Self::ContentFilter,
            _ => Self::Other,
        }
    }

    /// The reason of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// Who counted a row's output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TokenSource {
    /// Nobody: `Row::tokens_out` is unset.
    #[default]
    None = 0,
    /// The server's usage object.
    Usage = 1,
    /// The user's tokenizer, after the run.
    Tokenizer = 2,
    /// The chunks that carried tokens; one chunk may hold several tokens.
    Chunks = 3,
}

impl TokenSource {
    /// Every source, in code order.
    pub const ALL: [Self; 4] = [Self::None, Self::Usage, Self::Tokenizer, Self::Chunks];

    /// The name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Usage => "usage",
            Self::Tokenizer => "tokenizer",
            Self::Chunks => "chunks",
        }
    }

    /// The source of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// Who took a row's stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StampSource {
    /// The engine, next to the socket.
    #[default]
    Engine = 0,
    /// A Python issuer, at its call.
    Python = 1,
}

impl StampSource {
    /// Every source, in code order.
    pub const ALL: [Self; 2] = [Self::Engine, Self::Python];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Python => "python",
        }
    }
}

/// What an attempt was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AttemptKind {
    /// The first one.
    #[default]
    First = 0,
    /// After a failure.
    Retry = 1,
    /// Beside a slow one.
    Hedge = 2,
    /// In place of a kept-alive connection that was closed before any byte of the answer.
    Reconnect = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_finds_its_own_name() {
        for (code, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, code);
        }
        for (code, detail) in Detail::ALL.into_iter().enumerate() {
            assert_eq!(detail as usize, code);
            // Its name is the variant's, in the form of all others.
            assert_eq!(detail.name().replace('_', ""), format!("{detail:?}").to_lowercase());
        }
        for (code, source) in TokenSource::ALL.into_iter().enumerate() {
            assert_eq!((source as usize, TokenSource::from_code(code as u8)), (code, Some(source)));
        }
        for (code, source) in StampSource::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, code);
        }
        for (code, finish) in Finish::ALL.into_iter().enumerate() {
            assert_eq!(finish as usize, code);
        }
        assert_eq!(Failure::from_code(200), None);
    }
}
