//! The token-carrying socket reads of one request, encoded as they happen: about five bytes each.

use super::{BlockFault, Read, varint};

/// The encoded reads of one in-flight request. Cleared and used again for the next one.
///
/// Each read is `varint(delta_ns)`, then `varint(events << 1)` when every event carried tokens and nobody counted
/// them, else `varint(events << 1 | 1)`, `varint(chunks)`, `varint(tokens)`.
#[derive(Clone, Debug, Default)]
pub struct ReadList {
    bytes: Vec<u8>,
    len: u32,
}

impl ReadList {
    /// An empty list, which allocates with its first read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add one read.
    #[inline]
    pub fn push(&mut self, read: &Read) {
        varint::put(&mut self.bytes, read.delta_ns);
        let events = u64::from(read.events) << 1;
        if read.events == read.chunks && read.tokens == 0 {
            varint::put(&mut self.bytes, events);
        } else {
            varint::put(&mut self.bytes, events | 1);
            varint::put(&mut self.bytes, u64::from(read.chunks));
            varint::put(&mut self.bytes, u64::from(read.tokens));
        }
        self.len += 1;
    }

    /// Reads in the list.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it holds no read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The encoded reads.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forget the reads, keep the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.len = 0;
    }
}

/// So many bytes of reads go to the log ahead of their row, so that a long stream stays small.
const SPILL_BYTES: usize = 8 * 1024;

/// The reads of an answer that is coming in. What comes at the same moment is one read.
#[derive(Clone, Debug, Default)]
pub struct OpenReads {
    list: ReadList,
    /// The newest, until another one shows that nothing more came with it.
    newest: Option<Read>,
}

impl OpenReads {
    /// Add a read, or what came with the newest: HTTP/2 frames of one socket read, chunks told at the same moment.
    #[inline]
    pub fn add(&mut self, read: Read) {
        match &mut self.newest {
            Some(newest) if read.delta_ns == 0 => {
                newest.events += read.events;
                newest.chunks += read.chunks;
                newest.tokens = newest.tokens.saturating_add(read.tokens);
            }
            newest => {
                if let Some(before) = newest.replace(read) {
                    self.list.push(&before);
                }
            }
        }
    }

    /// Those before the newest, once they are so many that the log takes them ahead of their row.
    #[inline]
    pub fn to_spill(&mut self) -> Option<&mut ReadList> {
        (self.list.bytes.len() > SPILL_BYTES).then_some(&mut self.list)
    }

    /// Nothing more comes: the newest read is one as well.
    pub fn settle(&mut self) {
        if let Some(read) = self.newest.take() {
            self.list.push(&read);
        }
    }

    /// All that were added, once settled, but for those that the log has.
    pub fn list(&self) -> &ReadList {
        &self.list
    }

    /// The same, to be kept.
    pub fn take(&mut self) -> ReadList {
        self.newest = None;
        std::mem::take(&mut self.list)
    }

    /// Forget the reads, keep the room.
    pub fn clear(&mut self) {
        self.newest = None;
        self.list.clear();
    }
}

/// Walks encoded reads.
#[derive(Clone, Debug)]
pub struct ReadIter<'a> {
    rest: &'a [u8],
}

impl<'a> ReadIter<'a> {
    /// Walk the reads in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not yet walked.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn take(&mut self) -> Option<Read> {
        let delta_ns = varint::get(&mut self.rest)?;
        let tag = varint::get(&mut self.rest)?;
        let events = u32::try_from(tag >> 1).ok()?;
        if tag & 1 == 0 {
            return Some(Read { delta_ns, events, chunks: events, tokens: 0 });
        }
        let chunks = u32::try_from(varint::get(&mut self.rest)?).ok()?;
        let tokens = u32::try_from(varint::get(&mut self.rest)?).ok()?;
        Some(Read { delta_ns, events, chunks, tokens })
    }
}

impl Iterator for ReadIter<'_> {
    type Item = Result<Read, BlockFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.take();
        if read.is_none() {
            self.rest = &[];
        }
        Some(read.ok_or(BlockFault::Short))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_come_back(all in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u32>(), 0u32..3), 0..40)) {
            let mut list = ReadList::new();
            let reads: Vec<Read> = all
                .into_iter()
                .map(|(delta_ns, events, chunks, tokens)| Read { delta_ns, events, chunks, tokens })
                .collect();
            reads.iter().for_each(|read| list.push(read));
            prop_assert_eq!(list.len() as usize, reads.len());
            let back: Result<Vec<Read>, _> = ReadIter::new(list.bytes()).collect();
            prop_assert_eq!(back.as_deref(), Ok(reads.as_slice()));
        }
    }

    #[test]
    fn one_token_event_after_ten_milliseconds_takes_five_bytes() {
        let mut list = ReadList::new();
        list.push(&Read { delta_ns: 10_000_000, events: 1, chunks: 1, tokens: 0 });
        assert_eq!(list.bytes().len(), 5);
        list.clear();
        assert!(list.is_empty() && list.bytes().is_empty());
    }

    #[test]
    fn what_comes_at_the_same_moment_is_one_read() {
        let mut open = OpenReads::default();
        let read = |delta_ns, tokens| Read { delta_ns, events: 1, chunks: 1, tokens };
        [read(0, 2), read(0, 3), read(9, 1)].into_iter().for_each(|read| open.add(read));
        assert_eq!(open.list().len(), 1, "more may come with the newest");
        open.settle();
        let all: Vec<Read> = ReadIter::new(open.list().bytes()).map(Result::unwrap).collect();
        assert_eq!(all, [Read { delta_ns: 0, events: 2, chunks: 2, tokens: 5 }, read(9, 1)]);
        assert!(open.to_spill().is_none());
        (0..SPILL_BYTES as u64).for_each(|i| open.add(read(i + 1, 0)));
        assert!(open.to_spill().is_some_and(|list| list.bytes().len() > SPILL_BYTES));
    }

    #[test]
    fn a_list_cut_short_says_so_once() {
        let mut list = ReadList::new();
        list.push(&Read { delta_ns: 1, events: 1, chunks: 0, tokens: 0 });
        let mut cut = ReadIter::new(&list.bytes()[..2]);
        assert_eq!(cut.next(), Some(Err(BlockFault::Short)));
        assert_eq!(cut.next(), None);
    }
}
