//! Rows that only ever grow, in chunks: a million of them are never copied, and never take twice their room.

use std::ops::{Index, IndexMut};

/// Rows of a chunk, as a power of two.
const BITS: u32 = 12;
const CHUNK: usize = 1 << BITS;

/// A growing sequence.
#[derive(Clone, Debug)]
pub(super) struct Rows<T> {
    /// All full but the last. The first grows as it fills, so that a short batch stays small.
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Rows<T> {
    pub(super) fn new() -> Self {
        Self { chunks: vec![Vec::new()], len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Add a row and return its number.
    pub(super) fn push(&mut self, row: T) -> u32 {
        if self.len as usize == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(row);
        }
        self.len += 1;
        self.len - 1
    }

    pub(super) fn get(&self, i: u32) -> Option<&T> {
        (i < self.len).then(|| &self[i])
    }
}

impl<T> Index<u32> for Rows<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.chunks[(i >> BITS) as usize][i as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Rows<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.chunks[(i >> BITS) as usize][i as usize % CHUNK]
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
}
