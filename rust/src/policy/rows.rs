//! Rows that only ever grow, in chunks: a million of them are never copied, and never take twice their room.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// Rows of a chunk, as a power of two.
const BITS: u32 = 12;
const CHUNK: usize = 1 << BITS;

/// A growing sequence, whose oldest rows may be forgotten: the others keep their numbers.
#[derive(Clone, Debug)]
pub(super) struct Rows<T> {
    /// All full but the last. The first grows as it fills, so that a short batch stays small.
    chunks: VecDeque<Vec<T>>,
    len: u32,
    /// Chunks that were forgotten.
    gone: u32,
    /// The first row that wasn't yet seen to be of no use any more.
    in_use: u32,
}

impl<T> Rows<T> {
    pub(super) fn new() -> Self {
        Self { chunks: VecDeque::from([Vec::new()]), len: 0, gone: 0, in_use: 0 }
    }

    /// How many there ever were.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Add a row and return its number.
    pub(super) fn push(&mut self, row: T) -> u32 {
        if self.len as usize == (self.gone as usize + self.chunks.len()) * CHUNK {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(row);
        }
        self.len += 1;
        self.len - 1
    }

    pub(super) fn get(&self, i: u32) -> Option<&T> {
        (self.chunk(i) < self.chunks.len() && i < self.len).then(|| &self[i])
    }

    /// Forget the oldest rows of which this is true, a chunk at a time. Every row is looked at once until it is true.
    pub(super) fn forget_while(&mut self, is_over: impl Fn(&T) -> bool) {
        while self.get(self.in_use).is_some_and(&is_over) {
            self.in_use += 1;
        }
        while self.in_use >> BITS > self.gone {
            self.chunks.pop_front();
            self.gone += 1;
        }
    }

    /// Where the chunk of a row is; beyond all that there are for one that was forgotten.
    #[inline]
    fn chunk(&self, i: u32) -> usize {
        (i >> BITS).wrapping_sub(self.gone) as usize
    }
}

impl<T> Index<u32> for Rows<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.chunks[self.chunk(i)][i as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Rows<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        let chunk = self.chunk(i);
        &mut self.chunks[chunk][i as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_over_chunks() {
        let mut rows = Rows::new();
        let n = 3 * CHUNK as u32 + 5;
        assert!((0..n).all(|i| rows.push(i * 2) == i));
        rows[n - 1] = 7;
        assert_eq!(
            (rows.len(), rows.get(CHUNK as u32), rows.get(n - 1), rows.get(n)),
            (n, Some(&8192), Some(&7), None)
        );
        assert_eq!(rows.chunks.len(), 4);
    }

    #[test]
    fn forgotten_rows_are_gone_and_the_others_keep_their_numbers() {
        let mut rows = Rows::new();
        let chunk = CHUNK as u32;
        (0..2 * chunk + 9).for_each(|i| assert_eq!(rows.push(i), i));
        rows.forget_while(|&row| row < chunk - 1);
        assert_eq!((rows.get(0), rows.chunks.len()), (Some(&0), 3));
        rows.forget_while(|&row| row != 2 * chunk + 5);
        assert_eq!((rows.get(0), rows.get(2 * chunk - 1), rows.chunks.len()), (None, None, 1));
        assert_eq!((rows.get(2 * chunk), rows[2 * chunk + 8]), (Some(&(2 * chunk)), 2 * chunk + 8));
        rows.forget_while(|_| true);
        (2 * chunk + 9..4 * chunk).for_each(|i| assert_eq!(rows.push(i), i));
        rows.forget_while(|_| true);
        assert_eq!((rows.len(), rows.push(7), rows[4 * chunk], rows.chunks.len()), (4 * chunk, 4 * chunk, 7, 1));
    }
}
