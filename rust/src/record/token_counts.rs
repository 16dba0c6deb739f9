//! What a tokenizer counted after the run, beside the log: output tokens of answers whose server told none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{LogError, Row, TokenSource};

/// A record of the file: the request's id (u64) and its count (u32), little-endian.
const RECORD: usize = 12;
/// Records held at a time. Rows come nearly in the order of their ids, so most are found in what is held.
const HELD: u64 = 4096;

/// Looks counts up by request in a file sorted by id, in bounded memory.
#[derive(Debug)]
pub struct TokenCounts {
    file: File,
    path: PathBuf,
    records: u64,
    held: Vec<u8>,
}

impl TokenCounts {
    /// Open the file at `path`.
    ///
    /// # Errors
    /// [`LogError::Io`], or [`LogError::NotCounts`] when it holds something else than whole records.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let file = File::open(path).map_err(|e| LogError::io("open", path, e))?;
        let bytes = file.metadata().map_err(|e| LogError::io("look at", path, e))?.len();
        if !bytes.is_multiple_of(RECORD as u64) {
            return Err(LogError::NotCounts { path: path.to_owned() });
        }
        Ok(Self { file, path: path.to_owned(), records: bytes / RECORD as u64, held: Vec::new() })
    }

    /// Give a row without the server's usage the tokenizer's count, if there is one.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read.
    pub fn apply(&mut self, row: &mut Row) -> Result<(), LogError> {
        if row.token_source == TokenSource::Usage {
            return Ok(());
        }
        if let Some(count) = self.of(row.id)? {
            (row.tokens_out, row.token_source) = (Some(count), TokenSource::Tokenizer);
        }
        Ok(())
    }

    /// The count of a request.
    fn of(&mut self, id: u64) -> Result<Option<u32>, LogError> {
        let holds = self.ends().is_some_and(|(first, last)| (first..=last).contains(&id));
        if !holds {
            self.hold(id)?;
        }
        let (records, _) = self.held.as_chunks::<RECORD>();
        let found = records.binary_search_by_key(&id, |record| split(record).0);
        Ok(found.ok().map(|at| split(&records[at]).1))
    }

    /// The least and the greatest id among the records held.
    fn ends(&self) -> Option<(u64, u64)> {
        let (records, _) = self.held.as_chunks();
        Some((split(records.first()?).0, split(records.last()?).0))
    }

    /// Hold the records from the last one at or below `id` on.
    fn hold(&mut self, id: u64) -> Result<(), LogError> {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut record = [0; RECORD];
            self.read(middle, &mut record)?;
            if split(&record).0 <= id { low = middle + 1 } else { high = middle }
        }
        let first = low.saturating_sub(1);
        let mut held = std::mem::take(&mut self.held);
        held.resize((self.records - first).min(HELD) as usize * RECORD, 0);
        self.read(first, &mut held)?;
        self.held = held;
        Ok(())
    }

    fn read(&self, record: u64, into: &mut [u8]) -> Result<(), LogError> {
        let read = self.file.read_exact_at(into, record * RECORD as u64);
        read.map_err(|e| LogError::io("read", &self.path, e))
    }
}

fn split(record: &[u8; RECORD]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, count @ ..] = *record;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(count))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(ids: impl IntoIterator<Item = u64>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.bin");
        let record = |id: u64| [&id.to_le_bytes()[..], &(id as u32 * 10).to_le_bytes()].concat();
        std::fs::write(&path, ids.into_iter().flat_map(record).collect::<Vec<u8>>()).unwrap();
        (dir, path)
    }

    #[test]
    fn every_count_is_found_in_any_order_and_no_other() {
        let (_dir, path) = written((0..3 * HELD).map(|i| 3 * i + 1));
        let mut counts = TokenCounts::open(&path).unwrap();
        let last = 3 * (3 * HELD - 1) + 1;
        for id in [1, 4, last, 2, 0, last + 1, 3 * HELD + 1, 3 * HELD - 2, 3 * HELD, u64::MAX] {
            let expected = (id % 3 == 1 && id <= last).then(|| id as u32 * 10);
            assert_eq!(counts.of(id).unwrap(), expected, "{id}");
        }
    }

    #[test]
    fn an_empty_file_counts_nothing_and_half_a_record_is_no_file_of_counts() {
        let (_dir, path) = written([]);
        assert_eq!(TokenCounts::open(&path).unwrap().of(0).unwrap(), None);
        std::fs::write(&path, [0; RECORD + 1]).unwrap();
        assert!(TokenCounts::open(&path).unwrap_err().to_string().contains("tokens.bin holds no counts of tokens"));
    }

    #[test]
    fn the_servers_own_count_stays() {
        let (_dir, path) = written([1, 2]);
        let mut counts = TokenCounts::open(&path).unwrap();
        let usage = Row { id: 1, tokens_out: Some(7), token_source: TokenSource::Usage, ..Row::default() };
        let chunks = Row { id: 2, tokens_out: Some(7), token_source: TokenSource::Chunks, ..Row::default() };
        for (mut row, expected) in [
            (usage.clone(), (Some(7), TokenSource::Usage)),
            (chunks.clone(), (Some(20), TokenSource::Tokenizer)),
            (Row { id: 3, ..chunks }, (Some(7), TokenSource::Chunks)),
        ] {
            counts.apply(&mut row).unwrap();
            assert_eq!((row.tokens_out, row.token_source), expected);
        }
    }
}
