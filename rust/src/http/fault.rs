//! Why a request failed, typed for the record and in words for a person.

use std::fmt;
use std::io;

use crate::record::{Detail, Failure};

/// A failure on the wire: its class and rule for the row, and words for a person.
///
/// The words may quote the server, bounded and with control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub failure: Failure,
    /// The rule that was broken.
    pub detail: Detail,
    /// What happened, in words.
    pub text: Box<str>,
}

impl Fault {
    /// A fault with its words.
    #[cold]
    pub fn new(failure: Failure, detail: Detail, text: impl Into<Box<str>>) -> Self {
        Self { failure, detail, text: text.into() }
    }

    /// A fault of the bytes themselves.
    #[cold]
    pub(crate) fn protocol(detail: Detail, text: impl Into<Box<str>>) -> Self {
        Self::new(Failure::Protocol, detail, text)
    }

    /// A fault of the answer's content, or of its coming to an end.
    #[cold]
    pub(crate) fn body(detail: Detail, text: impl Into<Box<str>>) -> Self {
        Self::new(Failure::Body, detail, text)
    }

    /// What an error of a read or a write on an established connection means for the request on it.
    ///
    /// An unexpected end (TLS closed without notify) is not decided here: hand it to `ResponseParser::eof` as an end.
    #[cold]
    pub fn from_io(error: &io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Detail::Reset
            }
            io::ErrorKind::UnexpectedEof => Detail::EarlyEnd,
            _ => Detail::Io,
        };
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let failure = if tls { Failure::Tls } else { Failure::Body };
        Self::new(failure, detail, error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.detail.words(), &*self.text) {
            ("", "") => f.write_str(self.failure.name()),
            (words, "") => f.write_str(words),
            ("", text) => f.write_str(text),
            (words, text) => write!(f, "{words}: {text}"),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_told_from_other_errors() {
        let reset = Fault::from_io(&io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!((reset.failure, reset.detail), (Failure::Body, Detail::Reset));
        let other = Fault::from_io(&io::Error::other("disk on fire"));
        assert_eq!((other.failure, other.detail), (Failure::Body, Detail::Io));
        assert_eq!(other.to_string(), "input/output error: disk on fire");
    }

    #[test]
    fn a_fault_without_words_names_its_class() {
        assert_eq!(Fault::new(Failure::Stall, Detail::None, "").to_string(), "stall");
    }
}
