//! One event as MessagePack, written by hand into a buffer that is there already: nothing is allocated per event.
//!
//! A record is an array of ten: type, ns, request, session, conversation, turn, data, finish reason, source, seq.
//! Source: the MessagePack specification (github.com/msgpack/msgpack, `spec.md`).

use super::EventType;

/// Opens an array of [`FIELDS`].
pub(super) const ARRAY: u8 = 0x90 | FIELDS;
/// Fields of a record.
pub(super) const FIELDS: u8 = 10;
pub(super) const NIL: u8 = 0xc0;

/// An event with all that it may say; what a record's encoding needs beside it is the batch's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventType,
    /// When, in monotonic nanoseconds.
    pub ns: u64,
    /// The request, by its index in the session.
    pub request: Option<u64>,
    /// The session's id.
    pub session: Option<&'a str>,
    /// The conversation it belongs to.
    pub conversation: Option<&'a str>,
    /// Its turn in that conversation.
    pub turn: Option<u64>,
    /// Anything else: one MessagePack value.
    pub data: Option<&'a [u8]>,
    /// Why the model stopped.
    pub finish_reason: Option<&'a str>,
}

impl Event<'_> {
    /// An event that says nothing but that it happened.
    pub fn new(kind: EventType, ns: u64) -> Self {
        Self { kind, ns, request: None, session: None, conversation: None, turn: None, data: None, finish_reason: None }
    }
}

/// Append the record of `event`, the `seq`-th of `source`.
pub(super) fn put_event(out: &mut Vec<u8>, event: &Event<'_>, source: u16, seq: u64) {
    put_start(out, event.kind, event.ns, event.request);
    put_optional_str(out, event.session);
    put_optional_str(out, event.conversation);
    put_optional(out, event.turn);
    match event.data {
        Some(data) => out.extend_from_slice(data),
        None => out.push(NIL),
    }
    put_end(out, event.finish_reason, source, seq);
}

/// Append the record of a bare mark: type, moment and request.
#[inline]
pub(super) fn put_mark(out: &mut Vec<u8>, kind: EventType, ns: u64, request: u64, source: u16, seq: u64) {
    put_start(out, kind, ns, Some(request));
    out.extend_from_slice(&[NIL; 5]);
    put_uint(out, u64::from(source));
    put_uint(out, seq);
}

/// Append the record of an event of a request whose data `data` writes.
#[inline]
pub(super) fn put_with(
    out: &mut Vec<u8>,
    (kind, ns, request): (EventType, u64, u64),
    data: impl FnOnce(&mut Vec<u8>),
    finish_reason: Option<&str>,
    (source, seq): (u16, u64),
) {
    put_start(out, kind, ns, Some(request));
    out.extend_from_slice(&[NIL; 3]);
    data(out);
    put_end(out, finish_reason, source, seq);
}

#[inline]
fn put_start(out: &mut Vec<u8>, kind: EventType, ns: u64, request: Option<u64>) {
    let [a, b, c, d, e, f, g, h] = ns.to_be_bytes();
    // A moment is always eight bytes: monotonic nanoseconds need more than four after some seconds.
    out.extend_from_slice(&[ARRAY, kind.code(), 0xcf, a, b, c, d, e, f, g, h]);
    put_optional(out, request);
}

#[inline]
fn put_end(out: &mut Vec<u8>, finish_reason: Option<&str>, source: u16, seq: u64) {
    put_optional_str(out, finish_reason);
    put_uint(out, u64::from(source));
    put_uint(out, seq);
}

/// Append an unsigned integer in its shortest form.
#[inline]
pub(super) fn put_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x100 => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..0x1_0000 => {
            let [a, b] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[0xcd, a, b]);
        }
        0x1_0000..0x1_0000_0000 => {
            let [a, b, c, d] = (value as u32).to_be_bytes();
            out.extend_from_slice(&[0xce, a, b, c, d]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            out.extend_from_slice(&[0xcf, a, b, c, d, e, f, g, h]);
        }
    }
}

/// Bytes that [`put_uint`] writes.
#[inline]
pub(super) fn uint_bytes(value: u64) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// The greatest integer for which [`put_uint`] writes so many bytes.
#[inline]
pub(super) fn last_of_width(bytes: usize) -> u64 {
    match bytes {
        1 => 0x7f,
        9 => u64::MAX,
        bytes => (1 << (8 * (bytes - 1))) - 1,
    }
}

/// Overwrite the integer that `out` ends with, one of `bytes` bytes, with another of as many.
#[inline]
pub(super) fn patch_uint(out: &mut [u8], value: u64, bytes: usize) {
    // All but the shortest form begin with a byte that tells the length.
    match bytes {
        1 | 2 => put_last(out, [value as u8]),
        3 => put_last(out, (value as u16).to_be_bytes()),
        5 => put_last(out, (value as u32).to_be_bytes()),
        _ => put_last(out, value.to_be_bytes()),
    }
}

#[inline]
fn put_last<const N: usize>(out: &mut [u8], bytes: [u8; N]) {
    if let Some(last) = out.last_chunk_mut() {
        *last = bytes;
    }
}

/// Append an integer, or nil.
#[inline]
pub(super) fn put_optional(out: &mut Vec<u8>, value: Option<u64>) {
    match value {
        Some(value) => put_uint(out, value),
        None => out.push(NIL),
    }
}

/// Append a string in its shortest form.
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    let length = text.len();
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..0x100 => out.extend_from_slice(&[0xd9, length as u8]),
        0x100..0x1_0000 => {
            let [a, b] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[0xda, a, b]);
        }
        _ => {
            // Longer than 4 GiB nothing comes here: the edge refuses it.
            let [a, b, c, d] = (length as u32).to_be_bytes();
            out.extend_from_slice(&[0xdb, a, b, c, d]);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[inline]
fn put_optional_str(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_str(out, text),
        None => out.push(NIL),
    }
}
