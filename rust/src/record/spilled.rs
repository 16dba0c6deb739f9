//! Reads that went ahead of their rows: where they lie, so that they take no memory until the row comes.

use std::collections::HashMap;

use super::{Block, Entries, Entry, LogError, LogPlaces, LogReader, RowView};

/// Finds the early reads of long streams again.
#[derive(Debug)]
pub struct SpilledReads {
    places: LogPlaces,
    index: HashMap<u64, Vec<Place>>,
    /// Those of the current row.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    offset: u64,
    length: usize,
    count: u32,
}

impl SpilledReads {
    /// For the log that `reader` walks.
    ///
    /// # Errors
    /// [`LogError::Io`] when no further descriptor can be had.
    pub fn new(reader: &LogReader) -> Result<Self, LogError> {
        Ok(Self { places: reader.again()?, index: HashMap::new(), bytes: Vec::new() })
    }

    /// Remember what a READS block holds.
    pub fn note(&mut self, block: &Block<'_>) {
        for entry in Entries::new(block).flatten() {
            if let Entry::Reads { request, count, bytes, at, .. } = entry {
                let place = Place { offset: block.offset + at as u64, length: bytes.len(), count };
                self.index.entry(request).or_default().push(place);
            }
        }
    }

    /// Requests whose reads are here and whose row has not come.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.index.len()
    }

    /// All encoded reads of a row, in two parts: those that went ahead and those that came with it. `None` when some
    /// are lost.
    ///
    /// # Errors
    /// [`LogError::Io`] when they can't be read again.
    pub fn of<'a>(&'a mut self, view: &RowView<'a>) -> Result<Option<[&'a [u8]; 2]>, LogError> {
        self.bytes.clear();
        if view.spilled == 0 {
            return Ok(Some([&[], view.reads]));
        }
        let places = self.index.remove(&view.row.id).unwrap_or_default();
        for place in &places {
            self.places.read(place.offset, place.length, &mut self.bytes)?;
        }
        let whole = places.iter().map(|place| u64::from(place.count)).sum::<u64>() == view.spilled;
        Ok(whole.then_some([&self.bytes, view.reads]))
    }
}
