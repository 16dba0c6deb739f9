//! The quick way to the facts of one JSON object: one pass over its bytes, nothing built, nothing allocated.
//!
//! It answers only where it is certain to say what `facts::parse` says, and leaves the rest to that: broken JSON,
//! errors, repeated keys, escapes in keys, deep nesting, content in parts, audio. Invalid UTF-8 may stand in strings.

use super::facts::{Facts, Kind, Piece};
use super::text::{plain, string_end};
use crate::record::Finish;

/// Deeper values are left to the general way.
const DEPTH: u32 = 64;

/// Read one JSON object. False: unsure, and `facts` hold nothing of use.
pub(super) fn scan(json: &[u8], facts: &mut Facts) -> bool {
    facts.clear();
    let mut cursor = Cursor { json, at: 0, facts };
    cursor.whole().is_some()
}

/// Every method answers `None` where it is not sure.
struct Cursor<'a, 'f> {
    json: &'a [u8],
    at: usize,
    facts: &'f mut Facts,
}

/// Which of an object's known keys were there: a second one of the same name is for the general way.
#[derive(Default)]
struct Once(u8);

impl Once {
    #[inline]
    fn see(&mut self, key: u8) -> Option<()> {
        let before = self.0;
        self.0 |= 1 << key;
        (before != self.0).then_some(())
    }
}

impl<'a> Cursor<'a, '_> {
    fn whole(&mut self) -> Option<()> {
        self.space();
        self.top()?;
        self.space();
        (self.at == self.json.len()).then_some(())
    }

    fn top(&mut self) -> Option<()> {
        let mut once = Once::default();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            match key {
                b"choices" => {
                    once.see(0)?;
                    self.facts.choices = self.peek() == Some(b'[');
                    self.objects(Self::choice)?;
                }
                b"usage" => {
                    once.see(1)?;
                    self.facts.usage = self.peek() == Some(b'{');
                    self.object(Self::usage)?;
                }
                b"error" => {
                    once.see(2)?;
                    (self.value(0)? == b"null").then_some(())?;
                }
                b"object" => {
                    once.see(3)?;
                    (self.value(0)? != b"\"error\"").then_some(())?;
                }
                _ => {
                    self.value(0)?;
                }
            }
        }
        Some(())
    }

    fn usage(&mut self) -> Option<()> {
        let mut once = Once::default();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            let value = self.value(0)?;
            match key {
                b"prompt_tokens" => {
                    once.see(0)?;
                    self.facts.tokens_in = number(value);
                }
                b"completion_tokens" => {
                    once.see(1)?;
                    self.facts.tokens_out = number(value);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn choice(&mut self) -> Option<()> {
        let (mut once, mut index, from) = (Once::default(), 0, self.facts.pieces.len());
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            match key {
                b"index" => {
                    once.see(0)?;
                    index = number(self.value(0)?).unwrap_or(0);
                }
                b"delta" => {
                    once.see(1)?;
                    self.object(Self::delta)?;
                }
                b"message" => {
                    once.see(2)?;
                    self.object(Self::delta)?;
                }
                b"text" => {
                    once.see(3)?;
                    self.piece(Kind::Content)?;
                }
                b"finish_reason" => {
                    once.see(4)?;
                    if let [b'"', word @ .., b'"'] = self.value(0)?
                        && !word.is_empty()
                    {
                        self.facts.finish = Finish::from_word(word);
                    }
                }
                _ => {
                    self.value(0)?;
                }
            }
        }
        self.facts.assign(from, index);
        Some(())
    }

    fn delta(&mut self) -> Option<()> {
        let mut once = Once::default();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            match key {
                b"content" => {
                    once.see(0)?;
                    (self.peek() != Some(b'[')).then_some(())?;
                    self.piece(Kind::Content)?;
                }
                b"refusal" => {
                    once.see(1)?;
                    self.piece(Kind::Content)?;
                }
                b"reasoning_content" => {
                    once.see(2)?;
                    self.piece(Kind::Reasoning)?;
                }
                b"reasoning" => {
                    once.see(3)?;
                    self.piece(Kind::Reasoning)?;
                }
                b"tool_calls" => {
                    once.see(4)?;
                    self.objects(Self::tool)?;
                }
                b"function_call" => {
                    once.see(5)?;
                    self.object(Self::call)?;
                }
                b"audio" => {
                    once.see(6)?;
                    (self.value(0)? == b"null").then_some(())?;
                }
                _ => {
                    self.value(0)?;
                }
            }
        }
        Some(())
    }

    fn tool(&mut self) -> Option<()> {
        let mut once = Once::default();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            match key {
                b"function" => {
                    once.see(0)?;
                    self.object(Self::call)?;
                }
                b"custom" => {
                    once.see(1)?;
                    self.object(Self::call)?;
                }
                _ => {
                    self.value(0)?;
                }
            }
        }
        Some(())
    }

    fn call(&mut self) -> Option<()> {
        let mut once = Once::default();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            let known = match key {
                b"name" => 0,
                b"arguments" => 1,
                b"input" => 2,
                _ => {
                    self.value(0)?;
                    continue;
                }
            };
            once.see(known)?;
            self.piece(Kind::Other)?;
        }
        Some(())
    }

    /// A value that counts if it is a string that is not empty.
    #[inline]
    fn piece(&mut self, kind: Kind) -> Option<()> {
        let from = self.at;
        let value = self.value(0)?;
        if value.first() == Some(&b'"') && value.len() > 2 {
            self.facts.pieces.push(Piece { kind, choice: 0, start: from + 1, end: self.at - 1 });
        }
        Some(())
    }

    /// A value that is read if it is an object.
    #[inline]
    fn object(&mut self, read: fn(&mut Self) -> Option<()>) -> Option<()> {
        if self.peek() == Some(b'{') { read(self) } else { self.value(0).map(|_| ()) }
    }

    /// A value whose objects are read if it is a list.
    fn objects(&mut self, read: fn(&mut Self) -> Option<()>) -> Option<()> {
        if self.peek() != Some(b'[') {
            return self.value(0).map(|_| ());
        }
        self.enter(b'[')?;
        while self.item()? {
            self.object(read)?;
        }
        Some(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Step over an opening bracket.
    #[inline]
    fn enter(&mut self, bracket: u8) -> Option<()> {
        (self.peek()? == bracket).then_some(())?;
        self.at += 1;
        Some(())
    }

    /// The next key of the object, with the cursor on its value; `Some(None)` at the object's end.
    ///
    /// Whether a comma is due is seen from the byte before: only an object's bracket has no value before it.
    #[inline]
    fn key(&mut self) -> Option<Option<&'a [u8]>> {
        if !self.next_after(b'{', b'}')? {
            return Some(None);
        }
        (self.peek()? == b'"').then_some(())?;
        let start = self.at + 1;
        let key = &self.json[start..start + plain(&self.json[start..])];
        // Anything else before the closing quote is an escape, or broken.
        (self.json.get(start + key.len()) == Some(&b'"')).then_some(())?;
        self.at = start + key.len() + 1;
        self.space();
        (self.peek()? == b':').then_some(())?;
        self.at += 1;
        self.space();
        Some(Some(key))
    }

    /// Whether another item of the list follows, with the cursor on it.
    #[inline]
    fn item(&mut self) -> Option<bool> {
        self.next_after(b'[', b']')
    }

    /// Step to the next member, over the comma that is due; over the closing bracket, if that is there: false.
    #[inline]
    fn next_after(&mut self, open: u8, close: u8) -> Option<bool> {
        let first = self.json[self.at - 1] == open;
        self.space();
        let next = self.peek()?;
        if next == close {
            self.at += 1;
            return Some(false);
        }
        if !first {
            (next == b',').then_some(())?;
            self.at += 1;
            self.space();
        }
        Some(true)
    }

    /// Step over any value, and give its bytes.
    #[inline]
    fn value(&mut self, depth: u32) -> Option<&'a [u8]> {
        let start = self.at;
        match self.peek()? {
            b'"' => self.at += string_end(&self.json[start + 1..])? + 2,
            b'{' => self.skip_object(depth)?,
            b'[' => self.skip_list(depth)?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => self.skip_number()?,
        }
        Some(&self.json[start..self.at])
    }

    fn skip_object(&mut self, depth: u32) -> Option<()> {
        (depth < DEPTH).then_some(())?;
        self.enter(b'{')?;
        while self.key()?.is_some() {
            self.value(depth + 1)?;
        }
        Some(())
    }

    fn skip_list(&mut self, depth: u32) -> Option<()> {
        (depth < DEPTH).then_some(())?;
        self.enter(b'[')?;
        while self.item()? {
            self.value(depth + 1)?;
        }
        Some(())
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.json[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        Some(())
    }

    /// RFC 8259, section 6.
    fn skip_number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// An unsigned number within 32 bits.
#[inline]
fn number(value: &[u8]) -> Option<u32> {
    value.iter().try_fold(0_u32, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 { None } else { n.checked_mul(10)?.checked_add(u32::from(digit)) }
    })
}

#[cfg(test)]
mod tests;
