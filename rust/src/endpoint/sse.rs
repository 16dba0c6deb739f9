//! Server-sent events out of bytes that may be split anywhere (WHATWG HTML, section 9.2: "Server-sent events").

use memchr::{memchr, memchr2};

use crate::http::Fault;
use crate::record::Detail;

/// Buffers above this are given back when a stream ends.
const KEPT_BYTES: usize = 64 << 10;
/// An event's name is only compared with short ones.
const NAME_BYTES: usize = 64;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// An event as it is dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// Its type; empty for the usual `message`. Cut off after 64 bytes.
    pub name: &'a [u8],
    /// Its data lines, joined by line feeds.
    pub data: &'a [u8],
    /// All its bytes, blank line included, where these are one `data:` line in one piece. `data` then lies in them.
    pub frame: Option<&'a [u8]>,
}

/// Takes events as they are found.
pub(super) trait Listener {
    /// Offered whatever follows the border of an event: how many bytes of it, from the start, are one whole event that
    /// the listener has taken without it being decoded. 0: none.
    fn shortcut(&mut self, rest: &[u8]) -> usize;

    /// An event is complete.
    fn event(&mut self, event: Event<'_>) -> Result<(), Fault>;

    /// A line that is no field of an event stream.
    fn stray(&mut self, line: &[u8]) -> Result<(), Fault>;
}

/// Finds the events of one stream after the other.
pub(super) struct Decoder {
    line_bytes: usize,
    /// Bytes of the byte order mark seen at the start; 3 once that is settled.
    bom: usize,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line of an event has begun.
    at_border: bool,
    /// A line whose end is still to come.
    line: Vec<u8>,
    /// The data lines so far, each with its line feed.
    data: Vec<u8>,
    name: Vec<u8>,
}

impl Decoder {
    /// A decoder that refuses lines, and data of an event, above `line_bytes`.
    pub(super) fn new(line_bytes: usize) -> Self {
        Self {
            line_bytes,
            bom: 0,
            after_cr: false,
            at_border: true,
            line: Vec::new(),
            data: Vec::new(),
            name: Vec::new(),
        }
    }

    /// Make ready for another stream.
    pub(super) fn reset(&mut self) {
        self.bom = 0;
        self.after_cr = false;
        self.at_border = true;
        self.name.clear();
        for buffer in [&mut self.line, &mut self.data] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
    }

    /// The line that has begun and not ended. What the stream's end leaves here is not an event.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.line
    }

    /// Take the next bytes of the stream.
    #[inline]
    pub(super) fn feed<L: Listener>(&mut self, mut bytes: &[u8], to: &mut L) -> Result<(), Fault> {
        if self.bom < BOM.len() {
            bytes = self.skip_bom(bytes);
        }
        while !bytes.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if bytes[0] == b'\n' {
                    bytes = &bytes[1..];
                    continue;
                }
            }
            if self.at_border {
                let taken = to.shortcut(bytes);
                if taken > 0 {
                    self.after_cr = bytes[taken - 1] == b'\r';
                    bytes = &bytes[taken..];
                    continue;
                }
            }
            bytes = self.step(bytes, to)?;
        }
        Ok(())
    }

    /// Take one event or one line, or what there is of it.
    fn step<'b, L: Listener>(&mut self, bytes: &'b [u8], to: &mut L) -> Result<&'b [u8], Fault> {
        let end = memchr2(b'\n', b'\r', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if self.line.len() + part.len() > self.line_bytes {
            return Err(self.too_long());
        }
        let Some(end) = end else {
            self.at_border = false;
            self.line.extend_from_slice(part);
            return Ok(&[]);
        };
        if self.at_border
            && let Some((data, length)) = single(bytes, end)
        {
            self.after_cr = bytes[length - 1] == b'\r';
            to.event(Event { name: b"", data, frame: Some(&bytes[..length]) })?;
            return Ok(&bytes[length..]);
        }
        self.after_cr = bytes[end] == b'\r';
        if self.line.is_empty() {
            self.line(part, to)?;
        } else {
            self.line.extend_from_slice(part);
            let mut whole = std::mem::take(&mut self.line);
            let outcome = self.line(&whole, to);
            whole.clear();
            self.line = whole;
            outcome?;
        }
        Ok(&bytes[end + 1..])
    }

    /// Interpret one line.
    fn line<L: Listener>(&mut self, line: &[u8], to: &mut L) -> Result<(), Fault> {
        if line.is_empty() {
            return self.dispatch(to);
        }
        self.at_border = false;
        let (field, value) = match memchr(b':', line) {
            Some(0) => return Ok(()),
            Some(colon) => (&line[..colon], without_space(&line[colon + 1..])),
            None => (line, &[][..]),
        };
        match field {
            b"data" => {
                if self.data.len() + value.len() > self.line_bytes {
                    return Err(self.too_long());
                }
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
                Ok(())
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(&value[..value.len().min(NAME_BYTES)]);
                Ok(())
            }
            b"id" | b"retry" => Ok(()),
            _ => to.stray(line),
        }
    }

    /// A blank line: the event is complete, if it has any data.
    fn dispatch<L: Listener>(&mut self, to: &mut L) -> Result<(), Fault> {
        self.at_border = true;
        let outcome = match self.data.split_last() {
            Some((_, data)) => to.event(Event { name: &self.name, data, frame: None }),
            None => Ok(()),
        };
        self.data.clear();
        self.name.clear();
        outcome
    }

    /// Leave out a byte order mark at the stream's start, also one that comes byte by byte.
    fn skip_bom<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        for (i, &byte) in bytes.iter().enumerate() {
            if byte != BOM[self.bom] {
                // It was none: what looked like one belongs to the first line.
                self.line.extend_from_slice(&BOM[..self.bom]);
                self.at_border = self.line.is_empty();
                self.bom = BOM.len();
                return &bytes[i..];
            }
            self.bom += 1;
            if self.bom == BOM.len() {
                return &bytes[i + 1..];
            }
        }
        &[]
    }

    #[cold]
    fn too_long(&self) -> Fault {
        Fault::protocol(Detail::LineTooLong, format!("an event of more than {} bytes", self.line_bytes))
    }
}

/// Data and length of the event that starts `bytes`, if it is one `data:` line (which ends at `end`) and a blank line,
/// both whole. A CR as the last byte at hand is left to the general way: an LF may follow it.
fn single(bytes: &[u8], end: usize) -> Option<(&[u8], usize)> {
    let data = bytes[..end].strip_prefix(b"data:")?;
    let length = match &bytes[end..] {
        [b'\n', b'\n', ..] | [b'\n', b'\r', ..] => end + 2,
        [b'\r', b'\n', b'\n', ..] | [b'\r', b'\n', b'\r', ..] => end + 3,
        [b'\r', b'\r', ..] => end + 2,
        _ => return None,
    };
    Some((without_space(data), length))
}

fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a listener heard: events as (name, data), and stray lines as ("!", line).
    #[derive(Default)]
    struct Heard(Vec<(Vec<u8>, Vec<u8>)>);

    impl Listener for Heard {
        fn shortcut(&mut self, _rest: &[u8]) -> usize {
            0
        }
        fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
            if let Some(frame) = event.frame {
                let (start, end) = (frame.as_ptr_range().start, frame.as_ptr_range().end);
                assert!(event.data.as_ptr_range().start >= start && event.data.as_ptr_range().end <= end);
            }
            self.0.push((event.name.to_vec(), event.data.to_vec()));
            Ok(())
        }
        fn stray(&mut self, line: &[u8]) -> Result<(), Fault> {
            self.0.push((b"!".to_vec(), line.to_vec()));
            Ok(())
        }
    }

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut heard, mut decoder) = (Heard::default(), Decoder::new(1 << 20));
        for piece in pieces {
            decoder.feed(piece, &mut heard).unwrap();
        }
        heard.0
    }

    fn events(stream: &str) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        decode([stream.as_bytes()]).into_iter().map(|(name, data)| (text(name), text(data))).collect()
    }

    fn data(stream: &str) -> Vec<String> {
        events(stream).into_iter().map(|(_, data)| data).collect()
    }

    /// The standard, line by line, on the whole stream: slow and plain.
    fn model(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let stream = stream.strip_prefix(BOM).unwrap_or(stream);
        let (mut lines, mut line, mut i) = (Vec::new(), Vec::new(), 0);
        while i < stream.len() {
            match stream[i] {
                b'\r' | b'\n' => {
                    if stream[i] == b'\r' && stream.get(i + 1) == Some(&b'\n') {
                        i += 1;
                    }
                    lines.push(std::mem::take(&mut line));
                }
                byte => line.push(byte),
            }
            i += 1;
        }
        let (mut out, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
        for line in lines {
            let colon = line.iter().position(|&b| b == b':');
            let field = &line[..colon.unwrap_or(line.len())];
            let value = colon.map_or(&[][..], |c| &line[c + 1..]);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if line.is_empty() {
                if let Some(data) = data.take() {
                    out.push((name.clone(), data));
                }
                name.clear();
            } else if field == b"data" {
                match &mut data {
                    None => data = Some(value.to_vec()),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                }
            } else if field == b"event" {
                name = value.to_vec();
            } else if !field.is_empty() && field != b"id" && field != b"retry" {
                out.push((b"!".to_vec(), line.clone()));
            }
        }
        out
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for (stream, wanted) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
            ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
            ("data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", vec!["a", "b", "c"]),
        ] {
            assert_eq!(data(stream), wanted, "{stream:?}");
        }
    }

    #[test]
    fn fields_as_the_standard_has_them() {
        assert_eq!(data("data:a\n\ndata:  b\n\n"), ["a", " b"]);
        assert_eq!(data("data: a\ndata\ndata:b\n\n"), ["a\n\nb"]);
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
        assert_eq!(data(": comment\n\n:\n\ndata: a\n\n"), ["a"]);
        assert_eq!(data("id: 1\nretry: 5\ndata: a\nid\n\n"), ["a"]);
        assert_eq!(
            events("event: ping\n\nevent: error\ndata: a\n\ndata: b\n\n"),
            [("error".into(), "a".into()), (String::new(), "b".into())]
        );
        assert_eq!(events("{\"a\":1}\n"), [("!".into(), "{\"a\":1}".into())]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(data("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a", "\u{feff}data: b"]);
        assert_eq!(decode("\u{feff}data: a\n\n".as_bytes().chunks(1)), decode([&b"data: a\n\n"[..]]));
        assert_eq!(decode([&b"\xef\xbbdata: a\n\n"[..]])[0].0, b"!");
    }

    #[test]
    fn half_a_line_at_the_end_is_not_an_event() {
        assert!(data("data: a").is_empty() && data("data: a\n").is_empty());
    }

    #[test]
    fn lines_and_data_are_bounded() {
        for stream in [&b"data: 0123456789"[..], b"data: 0123456789\n\n", b"data: 01234\ndata: 01234\ndata: 0\n"] {
            for size in [1, 7, 100] {
                let (mut heard, mut decoder) = (Heard::default(), Decoder::new(12));
                let outcome = stream.chunks(size).try_for_each(|piece| decoder.feed(piece, &mut heard));
                assert_eq!(outcome.unwrap_err().detail, Detail::LineTooLong);
                assert!(decoder.line.len() <= 12 && decoder.data.len() <= 14);
            }
        }
    }

    #[test]
    fn a_long_name_is_cut_and_a_new_stream_starts_afresh() {
        let (mut heard, mut decoder) = (Heard::default(), Decoder::new(1 << 20));
        let name = "n".repeat(1000);
        decoder.feed(format!("event: {name}\ndata: a\n\nevent: x\ndata: b\ndat").as_bytes(), &mut heard).unwrap();
        decoder.reset();
        decoder.feed("\u{feff}data: c\n\n".as_bytes(), &mut heard).unwrap();
        assert_eq!(heard.0, [(vec![b'n'; NAME_BYTES], b"a".to_vec()), (vec![], b"c".to_vec())]);
    }

    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "data: a", "data:b", "data", "data:", "event: e", "event", ": c", ":", "id: 1", "retry: 2", "x: y", "{}",
            "\n", "\n", "\n\n", "\r\n", "\r", "\r\r", "\r\n\r\n", "\u{feff}", " ", "é",
        ]);
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn it_hears_what_the_standard_says(stream in streams(), cuts in prop::collection::vec(0_usize..200, 0..8)) {
            let wanted = model(&stream);
            prop_assert_eq!(&decode([&stream[..]]), &wanted);
            prop_assert_eq!(&decode(stream.chunks(1)), &wanted);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            prop_assert_eq!(&decode(cuts.windows(2).map(|w| &stream[w[0]..w[1]])), &wanted);
        }
    }
}
