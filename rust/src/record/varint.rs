//! LEB128 integers, and zigzag for signed differences: the only number coding inside the run log's payloads.

/// Append `value`, 7 bits a byte, lowest first.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Append the wrapping difference `to - from`, small in either direction.
#[inline]
pub(crate) fn put_delta(out: &mut Vec<u8>, to: u64, from: u64) {
    let difference = to.wrapping_sub(from) as i64;
    put(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Take one integer off the front; `None` when the bytes end early or hold more than 64 bits.
#[inline]
pub(crate) fn get(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    get_long(bytes)
}

fn get_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Take one difference off the front and add it to `from`.
#[inline]
pub(crate) fn get_delta(bytes: &mut &[u8], from: u64) -> Option<u64> {
    let coded = get(bytes)?;
    let difference = (coded >> 1) ^ (coded & 1).wrapping_neg();
    Some(from.wrapping_add(difference))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_and_differences_come_back(a in any::<u64>(), b in any::<u64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, a);
            put_delta(&mut bytes, b, a);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(get(&mut rest), Some(a));
            prop_assert_eq!(get_delta(&mut rest, a), Some(b));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_difference_of_one_is_one_byte_either_way() {
        let mut bytes = Vec::new();
        put_delta(&mut bytes, 6, 7);
        put_delta(&mut bytes, 7, 6);
        assert_eq!(bytes, [1, 2]);
    }

    #[test]
    fn too_many_bits_and_an_early_end_are_refused() {
        assert_eq!(get(&mut [0x80u8; 3].as_slice()), None);
        assert_eq!(get(&mut [0xFFu8; 10].as_slice()), None);
        let mut most = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01].as_slice();
        assert_eq!(get(&mut most), Some(u64::MAX));
    }
}
