//! What must never be written anywhere, taken out of words that a server may have echoed it into.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What stands in for a secret.
const MASK: &str = "[redacted]";
/// Shorter header values (`1`, `en`) are no secrets, and hiding them would hide the words around them.
const SHORTEST: usize = 6;

/// The secrets of a run: API key, header values, userinfo. Cheap to clone; never shown.
#[derive(Clone, Default)]
pub struct Secrets {
    words: Arc<[Box<str>]>,
}

impl Secrets {
    /// Keep these secrets; the very short ones are left out.
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        let mut words: Vec<Box<str>> =
            words.into_iter().filter(|w| w.len() >= SHORTEST).map(String::into_boxed_str).collect();
        // The longest first, so that `Bearer KEY` goes before `KEY`.
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        words.dedup();
        Self { words: words.into() }
    }

    /// Both sets together.
    pub fn and(&self, other: &Secrets) -> Self {
        Self::new(self.words.iter().chain(other.words.iter()).map(|w| w.to_string()))
    }

    /// The text with every secret masked, also one that was cut off at the text's end.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut out = Cow::Borrowed(text);
        for word in self.words.iter() {
            if out.contains(&**word) {
                out = Cow::Owned(out.replace(&**word, MASK));
            }
            let bare = out.trim_end_matches('…');
            let cut = (SHORTEST..word.len()).rev().find(|&n| word.is_char_boundary(n) && bare.ends_with(&word[..n]));
            if let Some(n) = cut {
                let kept = bare.len() - n;
                out = Cow::Owned(format!("{}{MASK}", &out[..kept]));
            }
        }
        out
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.words.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoed_secrets_are_masked_whole_or_cut() {
        let secrets = Secrets::new(["sk-canary-123".into(), "Bearer sk-canary-123".into(), "en".into()]);
        assert_eq!(secrets.redact("key sk-canary-123 is wrong, en"), "key [redacted] is wrong, en");
        assert_eq!(secrets.redact("Authorization: Bearer sk-canary-123"), "Authorization: [redacted]");
        assert_eq!(secrets.redact("you sent sk-cana…"), "you sent [redacted]");
        assert!(matches!(secrets.redact("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn debug_shows_only_how_many() {
        assert_eq!(format!("{:?}", Secrets::new(["hunter2hunter2".into()])), "Secrets(1)");
    }
}
