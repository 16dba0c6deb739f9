//! Records read back: every byte is checked, because a frame may come from anywhere.

use std::str;

use thiserror::Error;

use super::EventType;
use super::encode::{ARRAY, Event, NIL};

/// Why bytes are no frame, or no record of one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameFault {
    /// They end before the head does.
    #[error("a frame of {0} bytes has no whole head")]
    Head(usize),
    /// No event has this topic.
    #[error("the topic is none of an event")]
    Topic,
    /// Another version of the frame's layout.
    #[error("frame version {0}, this loadgen reads 1: use a newer loadgen")]
    Version(u8),
    /// They end within a record.
    #[error("a record ends too early")]
    Short,
    /// A field holds something else than its place asks for.
    #[error("a record's {0} is not one")]
    Field(&'static str),
    /// More follows after the last record.
    #[error("{0} bytes follow after the last record")]
    Rest(usize),
}

/// One event as its record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it tells of.
    pub event: Event<'a>,
    /// Who recorded it.
    pub source: u16,
    /// Its number among those of its source.
    pub seq: u64,
}

impl<'a> Record<'a> {
    /// Take one record off the front of `bytes`.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Result<Self, FrameFault> {
        if byte(bytes)? != ARRAY {
            return Err(FrameFault::Field("array of ten"));
        }
        let code = uint(bytes)?.ok_or(FrameFault::Field("type"))?;
        let kind = u8::try_from(code).ok().and_then(EventType::from_code).ok_or(FrameFault::Field("type"))?;
        let event = Event {
            kind,
            ns: uint(bytes)?.ok_or(FrameFault::Field("moment"))?,
            request: uint_or_nil(bytes, "request")?,
            session: str_or_nil(bytes, "session")?,
            conversation: str_or_nil(bytes, "conversation")?,
            turn: uint_or_nil(bytes, "turn")?,
            data: value_or_nil(bytes)?,
            finish_reason: str_or_nil(bytes, "finish reason")?,
        };
        Ok(Self {
            event,
            source: uint(bytes)?.and_then(|n| u16::try_from(n).ok()).ok_or(FrameFault::Field("source"))?,
            seq: uint(bytes)?.ok_or(FrameFault::Field("sequence number"))?,
        })
    }
}

/// Whether `bytes` are exactly one MessagePack value.
pub fn is_one_value(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    skip(&mut rest).is_ok() && rest.is_empty()
}

/// Take one value off the front, whatever it is. What is nested is counted, not descended into: no depth is too deep.
fn skip(bytes: &mut &[u8]) -> Result<(), FrameFault> {
    let mut pending = 1u64;
    while pending > 0 {
        pending -= 1;
        let first = byte(bytes)?;
        let (content, values) = match first {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0xc1 => return Err(FrameFault::Field("value")),
            0x80..=0x8f => (0, 2 * u64::from(first & 0x0f)),
            0x90..=0x9f => (0, u64::from(first & 0x0f)),
            0xa0..=0xbf => (u64::from(first & 0x1f), 0),
            0xc4 | 0xd9 => (number(bytes, 1)?, 0),
            0xc5 | 0xda => (number(bytes, 2)?, 0),
            0xc6 | 0xdb => (number(bytes, 4)?, 0),
            // An extension has a byte of type before its content.
            0xc7 => (number(bytes, 1)? + 1, 0),
            0xc8 => (number(bytes, 2)? + 1, 0),
            0xc9 => (number(bytes, 4)? + 1, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xd4..=0xd8 => (1 + (1 << (first - 0xd4)), 0),
            0xdc => (0, number(bytes, 2)?),
            0xdd => (0, number(bytes, 4)?),
            0xde => (0, 2 * number(bytes, 2)?),
            0xdf => (0, 2 * number(bytes, 4)?),
        };
        take(bytes, content)?;
        pending += values;
        // Each value is a byte at least, so a count beyond what is there is known to be wrong at once.
        if pending > bytes.len() as u64 {
            return Err(FrameFault::Short);
        }
    }
    Ok(())
}

fn value_or_nil<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, FrameFault> {
    let start = *bytes;
    skip(bytes)?;
    let value = &start[..start.len() - bytes.len()];
    Ok((value != [NIL]).then_some(value))
}

fn uint_or_nil(bytes: &mut &[u8], field: &'static str) -> Result<Option<u64>, FrameFault> {
    if bytes.first() == Some(&NIL) {
        *bytes = &bytes[1..];
        return Ok(None);
    }
    uint(bytes)?.map(Some).ok_or(FrameFault::Field(field))
}

/// An unsigned integer in any of its forms; `None` for a value of another type.
fn uint(bytes: &mut &[u8]) -> Result<Option<u64>, FrameFault> {
    Ok(match byte(bytes)? {
        small @ 0x00..=0x7f => Some(u64::from(small)),
        form @ 0xcc..=0xcf => Some(number(bytes, 1 << (form - 0xcc))?),
        _ => None,
    })
}

fn str_or_nil<'a>(bytes: &mut &'a [u8], field: &'static str) -> Result<Option<&'a str>, FrameFault> {
    let length = match byte(bytes)? {
        NIL => return Ok(None),
        short @ 0xa0..=0xbf => u64::from(short & 0x1f),
        form @ 0xd9..=0xdb => number(bytes, 1 << (form - 0xd9))?,
        _ => return Err(FrameFault::Field(field)),
    };
    str::from_utf8(take(bytes, length)?).map(Some).map_err(|_| FrameFault::Field(field))
}

/// A big-endian number of so many bytes, at most eight.
fn number(bytes: &mut &[u8], size: u64) -> Result<u64, FrameFault> {
    Ok(take(bytes, size)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn byte(bytes: &mut &[u8]) -> Result<u8, FrameFault> {
    take(bytes, 1).map(|taken| taken[0])
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], FrameFault> {
    let length = usize::try_from(length).map_err(|_| FrameFault::Short)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(FrameFault::Short)?;
    *bytes = rest;
    Ok(taken)
}
