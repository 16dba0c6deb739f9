//! The shape of the last event: another one that differs only within its piece of text needs no parser.

use super::facts::{Facts, Kind, Piece};
use super::text::string_end;
use crate::record::Finish;

/// Longer events are not worth keeping.
const FRAME_BYTES: usize = 4096;

/// All bytes of a parsed event around its only piece of text.
///
/// An event that has the same bytes before a JSON string and the same bytes after it *is* the same JSON with another
/// string: the same kind of piece, no finish reason, no usage, no error. Only the string being non-empty is to be seen.
#[derive(Default)]
pub(super) struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
    kind: Kind,
    choice: u32,
}

/// An event that fitted the template.
pub(super) struct Fit<'a> {
    /// Bytes of the whole event.
    pub length: usize,
    /// Its text, as a JSON string without quotes.
    pub string: &'a [u8],
    pub kind: Kind,
    pub choice: u32,
}

impl Template {
    /// Keep the shape of an event that carried exactly one piece of text and nothing else.
    ///
    /// `frame` is the whole event; its JSON, of which `facts` were read, begins at `offset` in it.
    pub(super) fn learn(&mut self, frame: &[u8], offset: usize, facts: &Facts) {
        let [Piece { kind, choice, start, end }] = facts.pieces[..] else { return };
        let plain = facts.finish == Finish::Unknown && !facts.usage && !facts.error;
        if !plain || start == end || frame.len() > FRAME_BYTES {
            return;
        }
        self.before.clear();
        self.before.extend_from_slice(&frame[..offset + start]);
        self.after.clear();
        self.after.extend_from_slice(&frame[offset + end..]);
        self.kind = kind;
        self.choice = choice;
    }

    /// Whether the bytes begin with a whole event of this shape.
    #[inline]
    pub(super) fn fit<'a>(&self, bytes: &'a [u8]) -> Option<Fit<'a>> {
        if self.before.is_empty() {
            return None;
        }
        let rest = bytes.strip_prefix(&self.before[..])?;
        let end = string_end(rest)?;
        if end == 0 || !rest[end..].starts_with(&self.after) {
            return None;
        }
        let length = self.before.len() + end + self.after.len();
        Some(Fit { length, string: &rest[..end], kind: self.kind, choice: self.choice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::facts;

    const FRAME: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":3,\"delta\":{\"content\":\"one\"}}]}\n\n";

    fn learned(frame: &str) -> Template {
        let (mut template, mut found) = (Template::default(), Facts::default());
        facts::parse(&frame["data: ".len()..], &mut found).unwrap();
        template.learn(frame.as_bytes(), "data: ".len(), &found);
        template
    }

    #[test]
    fn only_the_text_may_differ() {
        let template = learned(FRAME);
        let two = FRAME.replace("one", "t\\\"wo");
        let fit = template.fit(two.as_bytes()).unwrap();
        assert_eq!((fit.length, fit.string, fit.kind, fit.choice), (two.len(), &b"t\\\"wo"[..], Kind::Content, 3));
        for other in [
            FRAME.replace("one", ""),
            FRAME.replace("one", "a\nb"),
            FRAME.replace("\"x\"", "\"y\""),
            FRAME.replace("\"one\"}", "\"one\",\"refusal\":\"no\"}"),
            FRAME.replace("}]}", "},{}]}"),
            FRAME.replace("\"one\"", "null"),
            FRAME.trim_end().to_owned(),
            String::new(),
        ] {
            assert!(template.fit(other.as_bytes()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn an_event_that_says_more_than_text_is_no_template() {
        for frame in [
            FRAME.replace("}}]", "},\"finish_reason\":\"stop\"}]"),
            FRAME.replace("]}", "],\"usage\":{}}"),
            FRAME.replace("]}", "],\"error\":{}}"),
            FRAME.replace("one", ""),
            FRAME.replace("\"one\"", "\"one\",\"reasoning\":\"two\""),
            FRAME.replace("\"x\"", &format!("\"{}\"", "x".repeat(5000))),
        ] {
            assert!(learned(&frame).fit(frame.as_bytes()).is_none(), "{frame:?}");
        }
        assert!(learned(FRAME).fit(FRAME.as_bytes()).is_some());
    }
}
