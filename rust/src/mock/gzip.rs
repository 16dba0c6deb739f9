//! Gzip without a compressor: stored blocks for the compression nobody asked for, and a bomb.

use crc32fast::Hasher;

/// A gzip member's head (RFC 1952): deflate, no flags, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// `body` as a gzip member of stored blocks.
pub(super) fn stored(body: &[u8]) -> Vec<u8> {
    let mut out = HEAD.to_vec();
    let mut blocks = body.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend(crc32fast::hash(body).to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out
}

/// A gzip member of a little over `1032 × bytes` zero bytes: its start, and its end. Between them lie `bytes` bytes
/// of zero.
pub(super) fn bomb(bytes: u64) -> (Vec<u8>, Vec<u8>) {
    let mut out = Bits::after(&HEAD);
    // One dynamic block (RFC 1951, 3.2.7) that knows three symbols: a literal zero (2 bits), the end (2 bits), and
    // "258 bytes again" (1 bit), with one distance, 1 (1 bit).
    out.put(0b1, 1);
    out.put(0b10, 2);
    out.put(286 - 257, 5);
    out.put(0, 5);
    // Lengths of the code lengths' own codes, in RFC 1951's order, which ends here with 1: 18 (a run of zeros) has one
    // bit, 1 and 2 have two.
    out.put(18 - 4, 4);
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
        out.put(if symbol == 18 { 1 } else { u32::from(matches!(symbol, 1 | 2)) * 2 }, 3);
    }
    // Canonical codes, 18 → 0, 1 → 10, 2 → 11, are sent highest bit first.
    let (one, two) = (0b01, 0b11);
    out.put(two, 2);
    out.zeros(255);
    out.put(two, 2);
    out.zeros(28);
    out.put(one, 2);
    out.put(one, 2);
    // The literal zero: codes are 285 → 0, 0 → 10, 256 → 11.
    out.put(0b01, 2);
    // From here to the end's first bit everything is zero, and two zero bits are a match.
    let padding = out.free;
    let mut end = Bits::after(&[]);
    end.put(0, padding % 2);
    end.put(0b11, 2);
    let matches = (u64::from(padding + padding % 2) + 8 * bytes) / 2;
    let zeros = 1 + 258 * matches;
    let mut tail = end.bytes;
    tail.extend(crc_of_zeros(zeros).to_le_bytes());
    // The size modulo 2³².
    tail.extend((zeros as u32).to_le_bytes());
    (out.bytes, tail)
}

/// The checksum of so many zero bytes, by doubling.
fn crc_of_zeros(mut count: u64) -> u32 {
    let mut all = Hasher::new();
    let mut run = Hasher::new();
    run.update(&[0]);
    while count > 0 {
        if count & 1 == 1 {
            all.combine(&run);
        }
        run.combine(&run.clone());
        count >>= 1;
    }
    all.finalize()
}

/// Deflate's bit order: the lowest bit of a byte comes first.
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn after(head: &[u8]) -> Self {
        Self { bytes: head.to_vec(), free: 0 }
    }

    fn put(&mut self, value: u32, count: u32) {
        for n in 0..count {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> n & 1) as u8) << (8 - self.free);
            }
            self.free -= 1;
        }
    }

    /// Code lengths of zero for so many symbols: runs of 11 to 138 (symbol 18, then the run less 11 in 7 bits).
    fn zeros(&mut self, mut count: u32) {
        while count > 0 {
            // What would remain must itself be a run.
            let run = if count > 138 && count < 138 + 11 { count - 11 } else { count.min(138) };
            self.put(0, 1);
            self.put(run - 11, 7);
            count -= run;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stored_blocks_hold_the_body_as_it_is() {
        let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let gzip = stored(&body);
        let first = &gzip[10..];
        assert_eq!((first[0], &first[1..5]), (0, &[0xff, 0xff, 0, 0][..]));
        let second = &first[5 + 0xffff..];
        let length = u16::from_le_bytes([second[1], second[2]]);
        assert_eq!((second[0], usize::from(length)), (1, body.len() - 0xffff));
        let data = [&first[5..5 + 0xffff], &second[5..5 + usize::from(length)]].concat();
        assert_eq!(data, body);
        assert_eq!(gzip[gzip.len() - 4..], (body.len() as u32).to_le_bytes());
    }

    #[test]
    fn the_checksum_of_zeros_is_that_of_zeros() {
        for count in [0usize, 1, 2, 3, 1000, 4097] {
            assert_eq!(crc_of_zeros(count as u64), crc32fast::hash(&vec![0; count]));
        }
    }
}
