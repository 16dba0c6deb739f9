//! JSON as it is appended to an answer's bytes: text as it is, strings, numbers.

/// Text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    if text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        return serde_json::Value::from(text).to_string();
    }
    ["\"", text, "\""].concat()
}

pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    put(out, itoa::Buffer::new().format(number));
}

/// Sixteen digits.
pub(super) fn put_hex(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 16];
    for (n, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * n)) as usize & 15];
    }
    out.extend_from_slice(&digits);
}
