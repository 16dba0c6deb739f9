//! Gaps between chunks and between tokens, from the reads of a request.

use crate::record::{ReadIter, Row, TokenSource};

/// Which pooled series a gap belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Between chunks that are known to hold a token each: counts for both series.
    Plain = 0,
    /// Between chunks of an answer whose tokens per chunk nobody knows.
    Unknown = 1,
    /// Between chunks of an answer whose chunks are counted.
    Chunk = 2,
    /// Between tokens of an answer whose chunks are counted.
    Token = 3,
}

/// Series that gaps are gathered in: one for each [`Gap`].
pub(super) const GAPS: usize = 4;
/// Those of them that make up ICL.
pub(super) const ICL: [Gap; 3] = [Gap::Plain, Gap::Unknown, Gap::Chunk];
/// Those of them that make up ITL.
pub(super) const ITL: [Gap; 2] = [Gap::Plain, Gap::Token];

/// What is known of the tokens in a request's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// One token a chunk: the server's count agrees with the chunks (± 1: some count the end-of-sequence token).
    OneEach,
    /// The server counted them chunk by chunk.
    Counted,
    /// Nothing.
    Nothing,
}

/// What is known of the tokens in the chunks of a row whose encoded reads are `parts`, in order.
pub(super) fn known(row: &Row, parts: &[&[u8]]) -> Known {
    let told = |bytes: &&[u8]| ReadIter::new(bytes).flatten().find(|read| read.chunks > 0).map(|read| read.tokens > 0);
    if parts.iter().find_map(told) == Some(true) {
        let mut reads = parts.iter().flat_map(|bytes| ReadIter::new(bytes)).flatten();
        if reads.all(|read| read.chunks == 0 || read.tokens >= read.chunks) {
            return Known::Counted;
        }
    }
    let counted = matches!(row.token_source, TokenSource::Usage | TokenSource::Tokenizer);
    match row.tokens_out {
        Some(tokens) if counted && tokens.abs_diff(row.chunks) <= 1 => Known::OneEach,
        _ => Known::Nothing,
    }
}

/// Show every gap of a request to `see(series, ns, times)`.
pub(super) fn each(known: Known, parts: &[&[u8]], mut see: impl FnMut(Gap, u64, u64)) {
    let chunk = match known {
        Known::OneEach => Gap::Plain,
        Known::Nothing => Gap::Unknown,
        Known::Counted => Gap::Chunk,
    };
    let mut started = false;
    let mut gap = 0u64;
    for read in parts.iter().flat_map(|bytes| ReadIter::new(bytes)).flatten() {
        gap = gap.saturating_add(read.delta_ns);
        if read.chunks == 0 {
            continue;
        }
        if started {
            see(chunk, gap, 1);
        }
        if read.chunks > 1 {
            see(chunk, 0, u64::from(read.chunks) - 1);
        }
        if known == Known::Counted {
            let (tokens, chunks) = (u64::from(read.tokens), u64::from(read.chunks));
            // The tokens of the chunk that ended the gap, as nearly as a read's sum tells.
            let first = (tokens / chunks).max(1);
            if started {
                see(Gap::Token, gap.saturating_add(first / 2) / first, first);
            }
            if tokens > first {
                see(Gap::Token, 0, tokens - first);
            }
        }
        started = true;
        gap = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Read, ReadList};

    fn list(reads: &[(u64, u32, u32)]) -> ReadList {
        let mut list = ReadList::new();
        for &(delta_ns, chunks, tokens) in reads {
            list.push(&Read { delta_ns, events: chunks.max(1), chunks, tokens });
        }
        list
    }

    fn gaps(row: &Row, reads: &[(u64, u32, u32)]) -> Vec<(Gap, u64, u64)> {
        let list = list(reads);
        let (early, late) = list.bytes().split_at(list.bytes().len());
        let mut found = Vec::new();
        each(known(row, &[early, late]), &[early, late], |gap, ns, times| found.push((gap, ns, times)));
        found
    }

    fn usage(tokens: u32, chunks: u32) -> Row {
        Row { tokens_out: Some(tokens), token_source: TokenSource::Usage, chunks, ..Row::default() }
    }

    #[test]
    fn chunks_of_one_read_are_one_gap_and_zeros() {
        let reads = [(50, 1, 0), (10, 1, 0), (20, 3, 0)];
        let expected = [(Gap::Plain, 10, 1), (Gap::Plain, 20, 1), (Gap::Plain, 0, 2)];
        assert_eq!(gaps(&usage(5, 5), &reads), expected);
    }

    #[test]
    fn a_first_read_of_several_chunks_has_gaps_of_zero_only() {
        assert_eq!(gaps(&usage(3, 3), &[(50, 3, 0)]), [(Gap::Plain, 0, 2)]);
        assert_eq!(gaps(&usage(1, 1), &[(50, 1, 0)]), []);
    }

    #[test]
    fn without_a_count_per_chunk_gaps_are_between_chunks_only() {
        let unknown = [(Gap::Unknown, 10, 1)];
        assert_eq!(gaps(&usage(7, 2), &[(50, 1, 0), (10, 1, 0)]), unknown);
        let by_chunks = Row { token_source: TokenSource::Chunks, ..usage(2, 2) };
        assert_eq!(gaps(&by_chunks, &[(50, 1, 0), (10, 1, 0)]), unknown);
        // One more or less is the end-of-sequence token.
        assert_eq!(gaps(&usage(3, 2), &[(50, 1, 0), (10, 1, 0)]), [(Gap::Plain, 10, 1)]);
    }

    #[test]
    fn counted_tokens_share_their_chunks_gap() {
        let reads = [(50, 1, 2), (30, 1, 3), (40, 2, 4)];
        // The first chunk ends no gap, so its second token has none.
        let expected = [
            (Gap::Chunk, 30, 1),
            (Gap::Token, 10, 3),
            (Gap::Chunk, 40, 1),
            (Gap::Chunk, 0, 1),
            (Gap::Token, 20, 2),
            (Gap::Token, 0, 2),
        ];
        assert_eq!(gaps(&usage(9, 4), &reads), expected);
    }

    #[test]
    fn a_read_without_tokens_lengthens_the_gap_it_lies_in() {
        assert_eq!(gaps(&usage(2, 2), &[(50, 1, 0), (10, 0, 0), (5, 1, 0)]), [(Gap::Plain, 15, 1)]);
    }
}
