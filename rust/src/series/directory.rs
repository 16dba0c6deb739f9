//! The directory of a segment: 256 entries of 256 bytes, each a counter or a series, and where its cells are.
//!
//! An entry is written once and published with the number of entries. Only its phase changes later, when a set of
//! entries is given to another phase: under the entry's generation, a seqlock that also covers its cells.

use std::path::Path;

use super::bounds::{Bounds, DIGITS};
use super::error::SeriesError;
use super::header::{HEADER_BYTES, read_text, write_text};
use super::stats::STAT_WORDS;
use crate::sync::{AtomicU64, Ordering};

/// Entries that a segment has room for.
pub const ENTRIES: usize = 256;
/// Shards that an entry may have.
pub const MAX_SHARDS: usize = 256;
/// Bytes of a name.
pub(super) const NAME_BYTES: usize = 64;
/// Bytes of a unit.
pub(super) const UNIT_BYTES: usize = 16;
/// Bytes of a help text.
pub(super) const HELP_BYTES: usize = 104;

/// Words of an entry.
pub(super) const ENTRY_WORDS: usize = 32;
/// Bytes of header and directory.
pub(super) const FRONT_BYTES: usize = HEADER_BYTES + ENTRIES * ENTRY_WORDS * 8;

// Where each word of an entry stands.
const GENERATION_AT: usize = 0;
const PHASE_AT: usize = 1;
const KIND_AT: usize = 2;
const OFFSET_AT: usize = 3;
const SHARDS_AT: usize = 4;
const STRIDE_AT: usize = 5;
const LOW_AT: usize = 6;
const HIGH_AT: usize = 7;
const DIGITS_AT: usize = 8;
const NAME_AT: usize = 9;
const UNIT_AT: usize = NAME_AT + NAME_BYTES / 8;
const HELP_AT: usize = UNIT_AT + UNIT_BYTES / 8;

/// What an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One number a shard.
    Counter,
    /// Statistics and a histogram a shard.
    Series(Bounds),
}

impl Kind {
    /// Words of one shard.
    pub(super) fn stride(self) -> usize {
        match self {
            Self::Counter => STAT_WORDS,
            Self::Series(bounds) => STAT_WORDS + bounds.buckets(),
        }
    }
}

/// A counter or series, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, unique in its phase.
    pub name: String,
    /// What it counts in: "ns", "tokens", "1".
    pub unit: String,
    /// What it is, in a sentence; may be empty.
    pub help: String,
    /// Counter or series.
    pub kind: Kind,
    /// The phase it belongs to; `None` for the whole run.
    pub phase: Option<u16>,
    /// How many write it: each has a shard of its own.
    pub shards: usize,
}

impl Spec {
    /// Words of all its shards.
    pub(super) fn words(&self) -> usize {
        self.shards * self.kind.stride()
    }

    /// Bytes of all its shards.
    pub fn bytes(&self) -> usize {
        self.words() * 8
    }

    pub(super) fn check(&self) -> Result<(), SeriesError> {
        if !(1..=MAX_SHARDS).contains(&self.shards) {
            return Err(SeriesError::Shards(self.shards));
        }
        fits("the name", &self.name, 1, NAME_BYTES)?;
        fits("the unit", &self.unit, 1, UNIT_BYTES)?;
        fits("the help", &self.help, 0, HELP_BYTES)
    }
}

/// Bytes of all shards of all of them.
pub(super) fn bytes_of(specs: &[Spec]) -> usize {
    specs.iter().map(Spec::bytes).sum()
}

/// Refuse a text that has no room, or would not be read as it was written.
pub(super) fn fits(what: &'static str, text: &str, least: usize, room: usize) -> Result<(), SeriesError> {
    if (least..=room).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(SeriesError::Text { what, value: text.to_owned(), least, room })
}

/// The words of one entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a>(pub(super) &'a [AtomicU64]);

/// Where entry `index` begins, in words from the segment's start.
pub(super) fn entry_at(index: usize) -> usize {
    HEADER_BYTES / 8 + index * ENTRY_WORDS
}

impl<'a> Entry<'a> {
    /// Fill it in; it counts once the number of entries is published.
    pub(super) fn write(&self, spec: &Spec, offset: u64) {
        let (kind, low, high) = match spec.kind {
            Kind::Counter => (0, 0, 0),
            Kind::Series(bounds) => (1, bounds.low(), bounds.high()),
        };
        self.set_phase(spec.phase);
        for (at, value) in [
            (KIND_AT, kind),
            (OFFSET_AT, offset),
            (SHARDS_AT, spec.shards as u64),
            (STRIDE_AT, spec.kind.stride() as u64 * 8),
            (LOW_AT, low),
            (HIGH_AT, high),
            (DIGITS_AT, u64::from(DIGITS)),
        ] {
            // Relaxed: published with the number of entries.
            self.0[at].store(value, Ordering::Relaxed);
        }
        write_text(&self.0[NAME_AT..UNIT_AT], &spec.name);
        write_text(&self.0[UNIT_AT..HELP_AT], &spec.unit);
        write_text(&self.0[HELP_AT..], &spec.help);
    }

    /// Believe an entry of a file of `size` bytes only when all of it can be: what it is, and its cells' offset in bytes.
    pub(super) fn check(&self, path: &Path, index: usize, size: u64) -> Result<(Spec, u64), SeriesError> {
        let bad = |what: &str| SeriesError::damaged(path, format!("entry {index}: {what}"));
        let kind = match self.get(KIND_AT) {
            0 => Kind::Counter,
            1 if self.get(DIGITS_AT) == u64::from(DIGITS) => {
                let bounds = Bounds::new(self.get(LOW_AT), self.get(HIGH_AT));
                Kind::Series(bounds.map_err(|error| bad(&error.to_string()))?)
            }
            _ => return Err(bad("neither a counter nor a series")),
        };
        let shards = usize::try_from(self.get(SHARDS_AT)).ok().filter(|n| (1..=MAX_SHARDS).contains(n));
        let shards = shards.ok_or_else(|| bad("no such number of shards"))?;
        let text = |from: usize, to: usize, what| read_text(&self.0[from..to]).ok_or_else(|| bad(what));
        let spec = Spec {
            name: text(NAME_AT, UNIT_AT, "no readable name")?,
            unit: text(UNIT_AT, HELP_AT, "no readable unit")?,
            help: text(HELP_AT, ENTRY_WORDS, "no readable help")?,
            kind,
            phase: self.phase(),
            shards,
        };
        if self.get(STRIDE_AT) != kind.stride() as u64 * 8 {
            return Err(bad("its shards have another size than its bounds ask for"));
        }
        let offset = self.get(OFFSET_AT);
        let end = offset.checked_add(spec.words() as u64 * 8);
        if offset < FRONT_BYTES as u64 || !offset.is_multiple_of(128) || end.is_none_or(|end| end > size) {
            return Err(bad("its cells are not within the file"));
        }
        Ok((spec, offset))
    }

    /// The sequence number that covers the phase and all cells.
    pub(super) fn generation(&self) -> &'a AtomicU64 {
        &self.0[GENERATION_AT]
    }

    pub(super) fn phase(&self) -> Option<u16> {
        u16::try_from(self.get(PHASE_AT)).ok()
    }

    pub(super) fn set_phase(&self, phase: Option<u16>) {
        // Relaxed: published with the number of entries, later data of the generation's seqlock.
        self.0[PHASE_AT].store(phase.map_or(u64::MAX, u64::from), Ordering::Relaxed);
    }

    fn get(&self, at: usize) -> u64 {
        // Relaxed: the number of entries was observed before.
        self.0[at].load(Ordering::Relaxed)
    }
}
