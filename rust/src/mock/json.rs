//! JSON as it is appended to an answer's bytes: text as it is, strings, numbers, bytes in base64.

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

/// RFC 4648, section 4.
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (n, b)| bits | u32::from(*b) << (16 - 8 * n));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= three.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let mut out = Vec::new();
        put_base64(&mut out, b"light work.");
        assert_eq!(out, b"bGlnaHQgd29yay4=");
    }
}
