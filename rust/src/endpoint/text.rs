//! JSON strings as they stand in the bytes: where they end, and what they say.

/// Where the JSON string that these bytes continue ends: the offset of its closing quote. `None`: it does not end here,
/// or it is not a JSON string (a control character, a wrong escape).
///
/// Eight bytes at a time: tokens are short, so that a call into a vector routine costs more than it saves.
#[inline]
pub(super) fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += plain(&bytes[at..]);
        match *bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += escape(&bytes[at..])?,
            _ => return None,
        }
    }
}

/// How many bytes stand before the first quote, backslash or control character.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8).and_then(|w| <[u8; 8]>::try_from(w).ok()) {
        let found = special(u64::from_le_bytes(word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(rest.len())
}

/// The high bit of the first byte that is a quote, a backslash or below 0x20; bits above that one mean nothing.
///
/// Source: "Determine if a word has a byte less than n / a zero byte", Anderson, Bit Twiddling Hacks. A borrow can only
/// run upwards, from a byte that is marked rightly.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control) & HIGHS
}

/// Length of the escape that starts the bytes.
#[inline]
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// Append what a well-formed JSON string (without its quotes) says, as UTF-8. Half a surrogate pair becomes U+FFFD.
pub(super) fn unescape(mut string: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', string) {
        out.extend_from_slice(&string[..at]);
        let length = escape(&string[at..]).unwrap_or(string.len() - at);
        let (this, rest) = string[at..].split_at(length);
        string = rest;
        match this.get(1) {
            Some(b'u') => string = unicode(this, rest, out),
            Some(&simple) => out.push(match simple {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                same => same,
            }),
            None => {}
        }
    }
    out.extend_from_slice(string);
}

/// Append the character of `\uXXXX`, together with the second half of its pair if `rest` begins with that.
fn unicode<'a>(escape: &[u8], rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (first, mut rest) = (code_unit(escape), rest);
    let mut decoded = char::from_u32(first);
    if (0xd800..0xdc00).contains(&first) && rest.starts_with(b"\\u") {
        let second = rest.get(..6).map_or(0, code_unit);
        if (0xdc00..0xe000).contains(&second) {
            decoded = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            rest = &rest[6..];
        }
    }
    out.extend_from_slice(decoded.unwrap_or('\u{fffd}').encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn code_unit(escape: &[u8]) -> u32 {
    escape[2..].iter().fold(0, |unit, &b| unit << 4 | char::from(b).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(string: &str) -> String {
        let mut out = Vec::new();
        unescape(string.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_say_what_they_stand_for() {
        assert_eq!(said(r#"a\n\t\"\\\/\u00e9\ud83d\ude00é"#), "a\n\t\"\\/é😀é");
        assert_eq!(said(r"\ud83d"), "\u{fffd}");
        assert_eq!(said(r"\ud83d\n\ude00\ud83dx"), "\u{fffd}\n\u{fffd}\u{fffd}x");
        assert_eq!(said(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(said(r"\u0000"), "\0");
    }

    #[test]
    fn what_is_no_string_has_no_end() {
        for bad in ["abc", "a\nb\"", "a\\x\"", "\\u12g4\"", "\\", "\\\"", "01234567890\t\"", "\\u12"] {
            assert_eq!(string_end(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(string_end(b"\""), Some(0));
        assert_eq!(string_end(b"0123456789\\\"\xff\x7f\"x\""), Some(14));
    }

    proptest! {
        #[test]
        fn it_ends_where_a_plain_loop_says(bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b"abc\"\\\x1f\x20\x21\x7f\x80u0123n".to_vec()),
        ], 0..40)) {
            let mut at = 0;
            let wanted = loop {
                match bytes.get(at) {
                    Some(b'"') => break Some(at),
                    Some(b'\\') => match bytes.get(at + 1) {
                        Some(b'u') if at + 6 <= bytes.len() && bytes[at + 2..at + 6].iter().all(u8::is_ascii_hexdigit) => at += 6,
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                        _ => break None,
                    },
                    Some(0x20..) => at += 1,
                    _ => break None,
                }
            };
            prop_assert_eq!(string_end(&bytes), wanted);
        }

        #[test]
        fn what_serde_writes_is_read_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(said(&json[1..json.len() - 1]), text);
        }
    }
}
