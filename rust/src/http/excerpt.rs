//! A bounded, printable piece of what a server sent.

/// At most `max` characters of `bytes` on one line: control characters escaped, invalid UTF-8 replaced, white space at
/// the ends cut off, `…` where something was left out.
pub fn excerpt(bytes: &[u8], max: usize) -> String {
    // Four bytes a character is the most UTF-8 needs: no more than that is ever looked at.
    let window = &bytes[..bytes.len().min(max.saturating_mul(4).saturating_add(4))];
    let text = String::from_utf8_lossy(window);
    let (mut out, mut left) = (String::new(), max);
    for c in text.trim().chars() {
        let escaped = c.escape_unicode();
        let (length, plain) = match c {
            '\n' | '\r' | '\t' => (1, Some(' ')),
            c if c.is_control() || is_invisible(c) => (escaped.len(), None),
            c => (1, Some(c)),
        };
        if length > left {
            out.push('…');
            return out;
        }
        left -= length;
        match plain {
            Some(c) => out.push(c),
            None => out.extend(escaped),
        }
    }
    if window.len() < bytes.len() {
        out.push('…');
    }
    out
}

/// Characters that print as nothing but turn text around or hide it (Unicode's bidirectional and zero-width controls).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_reach_a_terminal() {
        assert_eq!(excerpt(b"a\x1b[31mred\x00\nb", 300), "a\\u{1b}[31mred\\u{0} b");
        assert_eq!(excerpt("x\u{202e}y".as_bytes(), 300), "x\\u{202e}y");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let long = "é".repeat(1000);
        let cut = excerpt(long.as_bytes(), 300);
        assert_eq!(cut.chars().count(), 301);
        assert!(cut.ends_with('…'));
        assert_eq!(excerpt(b"short", 300), "short");
        assert_eq!(excerpt(&[0x12; 500], 20), "\\u{12}\\u{12}\\u{12}…");
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(excerpt(b"a\xff\xfeb", 10), "a\u{fffd}\u{fffd}b");
    }
}
