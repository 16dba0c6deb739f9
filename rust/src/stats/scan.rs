//! One pass over all rows of a log, on a few threads: each decodes every n-th block of rows, or every n-th worker's.

use std::path::{Path, PathBuf};

use super::options::Options;
use super::outline::Outline;
use crate::record::{BlockKind, Damage, LogError, LogReader, RowBlock, RowView, SpilledReads, TokenCounts};

/// Logs below this are read on one thread: starting another costs more than it saves.
const ONE_THREAD_BELOW: u64 = 1 << 20;
/// More threads than this don't pay: all of them read the whole file.
const MOST_THREADS: usize = 4;

/// Where rows are read from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Directory of the log.
    pub dir: PathBuf,
    /// File of a tokenizer's counts, which rows without usage then have.
    pub counts: Option<PathBuf>,
    /// Threads that read.
    pub threads: usize,
    /// A thread reads all of a worker's blocks, not every n-th of all. A request's early reads and its row are one
    /// worker's, so whoever keeps the places of the reads meets the row and lets go of them.
    by_worker: bool,
}

impl Source {
    /// The log in `dir`, of which `outline` tells.
    pub fn new(dir: &Path, options: &Options, outline: &Outline) -> Self {
        let threads = match options.threads {
            0 if outline.bytes < ONE_THREAD_BELOW => 1,
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)),
            chosen => chosen,
        };
        let by_worker = outline.early_reads;
        let threads = if by_worker { threads.min(outline.counters.len()).max(1) } else { threads };
        let counts = options.token_counts.as_ref().map(|name| dir.join(name));
        Self { dir: dir.to_owned(), counts, threads, by_worker }
    }
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
    /// Most requests whose early reads one thread held places of.
    #[cfg(test)]
    pub waiting: usize,
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
            BlockKind::Rows | BlockKind::Reads if source.by_worker => {
                usize::from(head.worker) % source.threads == share
            }
            BlockKind::Rows => {
                blocks += 1;
                (blocks - 1) % source.threads == share
            }
            // The log has grown since its outline was taken. Who will meet their rows is not known.
            kind => kind == BlockKind::Reads,
        })?;
        let Some(block) = block else { break };
        if block.kind == BlockKind::Reads {
            spilled.note(&block);
            #[cfg(test)]
            (met.waiting = met.waiting.max(spilled.waiting()));
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
        #[cfg(test)]
        (self.waiting = self.waiting.max(other.waiting));
        self.also(other.damage);
    }

    /// Add damaged places. Broken heads are met by every look at the log, broken payloads by the one that wanted them.
    pub fn also(&mut self, damage: impl IntoIterator<Item = Damage>) {
        self.damage.extend(damage);
        self.damage.sort_by_key(|damage| damage.offset);
        self.damage.dedup_by_key(|damage| damage.offset);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::Anchor;
    use crate::record::{LogHeader, LogWriter, Read, ReadIter, ReadList, Row};

    /// A log of `streams` long answers, one after the other at each of three workers, and four reads in each.
    fn long_streams(streams: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Anchor { mono_ns: 1, wall_ns: 1 };
        let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: Value::Null };
        let writer = LogWriter::create(dir.path(), &header, false).unwrap();
        let mut shards: Vec<_> = (0..3).map(|worker| writer.shard(worker)).collect();
        for id in 0..streams {
            let worker = (id % 3) as u16;
            let shard = &mut shards[usize::from(worker)];
            let mut reads = ReadList::new();
            let read = Read { delta_ns: 1_000, events: 1, chunks: 1, tokens: 0 };
            (0..2).for_each(|_| reads.push(&read));
            shard.spill(id, 0, &mut reads);
            (0..2).for_each(|_| reads.push(&read));
            shard.push(&Row { id, worker, ..Row::default() }, &reads, &[]);
            shard.flush();
        }
        writer.finish().unwrap();
        dir
    }

    #[test]
    fn early_reads_are_kept_only_until_their_row_comes_however_many_threads_read() {
        let dir = long_streams(300);
        for threads in [1, 2, 3, 4, 7] {
            let outline = Outline::read(dir.path()).unwrap();
            let source = Source::new(dir.path(), &Options { threads, ..Options::default() }, &outline);
            let (found, met) = scan(&source, Vec::new, |found: &mut Vec<_>, view, parts| {
                let count = |bytes: &[u8]| ReadIter::new(bytes).filter(Result::is_ok).count();
                found.push((view.row.id, parts.map(|parts| parts.map(count))));
            })
            .unwrap();
            let mut found = found.concat();
            found.sort_unstable();
            assert_eq!(found, (0..300).map(|id| (id, Some([2, 2]))).collect::<Vec<_>>(), "{threads} threads");
            assert_eq!((met.rows, met.without_reads, met.undecoded), (300, 0, 0));
            // A stream at each worker is all that is ever without its row.
            assert!(met.waiting <= 3, "{threads} threads held the reads of {} streams", met.waiting);
        }
    }
}
