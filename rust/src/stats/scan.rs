//! One pass over all rows of a log, on a few threads: each decodes every n-th block of rows.

use std::collections::HashMap;
use std::path::Path;

use crate::record::{BlockKind, Damage, Entries, Entry, LogError, LogPlaces, LogReader, RowBlock, RowView};

/// What one pass met beside the rows it showed.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Rows shown.
    pub rows: u64,
    /// Rows in blocks whose checksum holds and whose content doesn't keep to the format.
    pub undecoded: u64,
    /// Rows some of whose reads are lost.
    pub without_reads: u64,
    /// Damaged places, by offset.
    pub damage: Vec<Damage>,
    /// Damaged places that are not in the list.
    pub unnamed: u64,
}

/// The encoded reads of a row: those that went ahead, and those that came with it. `None` when some are lost.
pub(super) type Parts<'a> = Option<[&'a [u8]; 2]>;

/// Show every row of the log in `dir` to `visit`, with one `T` for each thread.
pub(super) fn scan<T: Send>(
    dir: &Path,
    threads: usize,
    make: impl Fn() -> T,
    visit: impl Fn(&mut T, &RowView<'_>, Parts<'_>) + Sync,
) -> Result<(Vec<T>, Met), LogError> {
    let parts: Vec<T> = (0..threads).map(|_| make()).collect();
    let visit = &visit;
    let results: Vec<Result<(T, Met), LogError>> = std::thread::scope(|scope| {
        let mut jobs = parts.into_iter().enumerate().map(|(i, part)| move || read(dir, (i, threads), part, visit));
        let own = jobs.next();
        let others: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
        let own = own.map(|job| job());
        // A panic in a thread is a bug of ours; it goes on as one here.
        let others = others.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        own.into_iter().chain(others).collect()
    });
    let mut all = (Vec::with_capacity(threads), Met::default());
    for result in results {
        let (part, met) = result?;
        all.0.push(part);
        all.1.merge(met);
    }
    Ok(all)
}

fn read<T>(
    dir: &Path,
    (share, of): (usize, usize),
    mut part: T,
    visit: &(impl Fn(&mut T, &RowView<'_>, Parts<'_>) + Sync),
) -> Result<(T, Met), LogError> {
    let mut reader = LogReader::open(dir)?;
    let mut early = Early { places: reader.again()?, index: HashMap::new(), bytes: Vec::new() };
    let (mut met, mut blocks) = (Met::default(), 0usize);
    loop {
        let block = reader.next_wanted(|head| match head.kind {
            BlockKind::Rows => {
                blocks += 1;
                (blocks - 1) % of == share
            }
            // Whose rows they belong to is known only when the row comes.
            kind => kind == BlockKind::Reads,
        })?;
        let Some(block) = block else { break };
        if block.kind == BlockKind::Reads {
            early.note(block.offset, Entries::new(&block).flatten());
            continue;
        }
        let mut left = u64::from(block.rows);
        let Ok(mut rows) = RowBlock::new(&block) else {
            met.undecoded += left;
            continue;
        };
        while let Ok(Some(view)) = rows.next_row() {
            left -= 1;
            met.rows += 1;
            let reads = early.of(&view)?.then_some([early.bytes.as_slice(), view.reads]);
            met.without_reads += u64::from(reads.is_none());
            visit(&mut part, &view, reads);
        }
        met.undecoded += left;
    }
    met.damage = reader.damage().to_vec();
    met.unnamed = reader.damaged() - met.damage.len() as u64;
    Ok((part, met))
}

/// Reads that went ahead of their rows: where they lie in the file, so that they take no memory until the row comes.
struct Early {
    places: LogPlaces,
    index: HashMap<u64, Vec<Place>>,
    /// Those of the current row.
    bytes: Vec<u8>,
}

struct Place {
    offset: u64,
    length: usize,
    count: u32,
}

impl Early {
    fn note<'a>(&mut self, payload_offset: u64, entries: impl Iterator<Item = Entry<'a>>) {
        for entry in entries {
            if let Entry::Reads { request, count, bytes, at, .. } = entry {
                let place = Place { offset: payload_offset + at as u64, length: bytes.len(), count };
                self.index.entry(request).or_default().push(place);
            }
        }
    }

    /// Fetch the reads of a row that went ahead; false when some are missing.
    fn of(&mut self, view: &RowView<'_>) -> Result<bool, LogError> {
        self.bytes.clear();
        if view.spilled == 0 {
            return Ok(true);
        }
        let places = self.index.remove(&view.row.id).unwrap_or_default();
        for place in &places {
            self.places.read(place.offset, place.length, &mut self.bytes)?;
        }
        Ok(places.iter().map(|place| u64::from(place.count)).sum::<u64>() == view.spilled)
    }
}

impl Met {
    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.undecoded += other.undecoded;
        self.without_reads += other.without_reads;
        self.unnamed = self.unnamed.max(other.unnamed);
        // Broken heads are met by every thread, broken payloads only by the one that wanted them.
        self.damage.extend(other.damage);
        self.damage.sort_by_key(|damage| damage.offset);
        self.damage.dedup_by_key(|damage| damage.offset);
    }
}
