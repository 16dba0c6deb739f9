//! Histograms as other programs have them: HDR's V2 format, compressed, by the `hdrhistogram` crate.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::Serialize;

use super::bounds::DIGITS;
use super::error::SeriesError;
use super::shard::Merged;

/// A histogram as it was read: what it counts, not how it was kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Imported {
    /// The lowest value it told apart from 0.
    pub low: u64,
    /// The highest it could hold.
    pub high: u64,
    /// Significant decimal digits.
    pub digits: u8,
    /// How many values.
    pub count: u64,
    /// Each occupied bucket: its highest value, and how many fell into it.
    pub counts: Vec<(u64, u64)>,
}

impl Merged {
    /// Its histogram, compressed.
    pub fn to_hdr(&self) -> Result<Vec<u8>, SeriesError> {
        let hdr = |error: &dyn std::fmt::Display| SeriesError::Hdr(error.to_string());
        let (low, high) = (self.bounds.low(), self.bounds.high());
        let mut all = Histogram::<u64>::new_with_bounds(low, high, DIGITS).map_err(|e| hdr(&e))?;
        for (offset, n) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            // Within the bounds, so that the last bucket's doesn't lie above `high`.
            let value = self.bounds.highest(self.first + offset).min(high);
            all.record_n(value, *n).map_err(|e| hdr(&e))?;
        }
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&all, &mut bytes).map_err(|e| hdr(&e))?;
        Ok(bytes)
    }
}

/// Read a histogram that `to_hdr`, or another program, wrote: V2, compressed or not.
pub fn read_hdr(mut bytes: &[u8]) -> Result<Imported, SeriesError> {
    let read = Deserializer::new().deserialize::<u64, _>(&mut bytes);
    let all = read.map_err(|e| SeriesError::Hdr(e.to_string()))?;
    let counts = all.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    Ok(Imported { low: all.low(), high: all.high(), digits: all.sigfig(), count: all.len(), counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::bounds::Bounds;
    use crate::series::stats::Stats;

    #[test]
    fn what_is_written_is_read_back() {
        let bounds = Bounds::TIMES;
        let index = bounds.index(2_000_000);
        let merged = Merged { bounds, stats: Stats::default(), torn: 0, first: index, counts: vec![3, 0, 4] };
        let read = read_hdr(&merged.to_hdr().unwrap()).unwrap();
        assert_eq!((read.low, read.high, read.digits, read.count), (bounds.low(), bounds.high(), DIGITS, 7));
        assert_eq!(read.counts, [(bounds.highest(index), 3), (bounds.highest(index + 2), 4)]);
    }

    #[test]
    fn the_last_bucket_can_be_written() {
        let bounds = Bounds::new(1_000, 2_100_000).unwrap();
        let first = bounds.index(bounds.high());
        let merged = Merged { bounds, stats: Stats::default(), torn: 0, first, counts: vec![1] };
        assert_eq!(read_hdr(&merged.to_hdr().unwrap()).unwrap().count, 1);
    }

    #[test]
    fn other_bytes_are_an_error() {
        for bytes in [b"".as_slice(), b"no histogram", &[0x1c, 0x84, 0x93, 0x14, 0, 0, 0, 9, 1, 2]] {
            assert!(matches!(read_hdr(bytes), Err(SeriesError::Hdr(_))));
        }
    }
}
