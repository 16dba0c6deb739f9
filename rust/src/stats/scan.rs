//! One pass over all rows of a log, on a few threads: each decodes every n-th block of rows.

use std::path::PathBuf;

use crate::record::{BlockKind, Damage, LogError, LogReader, RowBlock, RowView, SpilledReads, TokenCounts};

/// Where rows are read from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Directory of the log.
    pub dir: PathBuf,
    /// File of a tokenizer's counts, which rows without usage then have.
    pub counts: Option<PathBuf>,
    /// Threads that read.
    pub threads: usize,
}

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

/// Show every row of the log to `visit`, with one `T` for each thread.
pub(super) fn scan<T: Send>(
    source: &Source,
    make: impl Fn() -> T,
    visit: impl Fn(&mut T, &RowView<'_>, Parts<'_>) + Sync,
) -> Result<(Vec<T>, Met), LogError> {
    let threads = source.threads;
    let parts: Vec<T> = (0..threads).map(|_| make()).collect();
    let visit = &visit;
    let results: Vec<Result<(T, Met), LogError>> = std::thread::scope(|scope| {
        let mut jobs = parts.into_iter().enumerate().map(|(i, part)| move || read(source, i, part, visit));
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
    source: &Source,
    share: usize,
    mut part: T,
    visit: &(impl Fn(&mut T, &RowView<'_>, Parts<'_>) + Sync),
) -> Result<(T, Met), LogError> {
    let mut reader = LogReader::open(&source.dir)?;
    let mut counts = source.counts.as_deref().map(TokenCounts::open).transpose()?;
    let mut spilled = SpilledReads::new(&reader)?;
    let (mut met, mut blocks) = (Met::default(), 0usize);
    loop {
        let block = reader.next_wanted(|head| match head.kind {
            BlockKind::Rows => {
                blocks += 1;
                (blocks - 1) % source.threads == share
            }
            // Whose rows they belong to is known only when the row comes.
            kind => kind == BlockKind::Reads,
        })?;
        let Some(block) = block else { break };
        if block.kind == BlockKind::Reads {
            spilled.note(&block);
            continue;
        }
        let mut left = u64::from(block.rows);
        let Ok(mut rows) = RowBlock::new(&block) else {
            met.undecoded += left;
            continue;
        };
        while let Ok(Some(mut view)) = rows.next_row() {
            if let Some(counts) = &mut counts {
                counts.apply(&mut view.row)?;
            }
            left -= 1;
            met.rows += 1;
            let reads = spilled.of(&view)?;
            met.without_reads += u64::from(reads.is_none());
            visit(&mut part, &view, reads);
        }
        met.undecoded += left;
    }
    met.damage = reader.damage().to_vec();
    met.unnamed = reader.damaged() - met.damage.len() as u64;
    Ok((part, met))
}

impl Met {
    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.undecoded += other.undecoded;
        self.without_reads += other.without_reads;
        self.unnamed = self.unnamed.max(other.unnamed);
        self.also(other.damage);
    }

    /// Add damaged places. Broken heads are met by every look at the log, broken payloads by the one that wanted them.
    pub fn also(&mut self, damage: impl IntoIterator<Item = Damage>) {
        self.damage.extend(damage);
        self.damage.sort_by_key(|damage| damage.offset);
        self.damage.dedup_by_key(|damage| damage.offset);
    }
}
