//! Rows as columns of plain little-endian values, batch by batch: what Python and Arrow read a log as.

use std::path::{Path, PathBuf};

use super::{
    Attempt, BlockFault, BlockKind, LogError, LogReader, Read, ReadIter, Row, RowBlock, RowView, SpilledReads,
    TokenCounts, UNSET,
};

/// Rows of a batch, unless its last block holds more.
const BATCH_ROWS: u32 = 65_536;
/// Reads of a batch, unless its last block holds more: some 20 MB.
const BATCH_READS: u32 = 1 << 20;

/// Which rows are read, and what of them.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// Those of this phase only.
    pub phase: Option<u16>,
    /// Without their reads and attempts.
    pub flat: bool,
    /// A file of a tokenizer's counts, which rows without usage then have.
    pub token_counts: Option<PathBuf>,
}

/// One column of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name; those of child tables are `reads.delta_ns`, `attempts.node`, …
    pub name: &'static str,
    /// The width of a value, as Arrow's C data interface writes it: `C`, `S`, `I`, `L` for 8 to 64 unsigned bits.
    pub format: char,
    /// The values, little-endian; 0 where there is none.
    pub data: Vec<u8>,
    /// A bit for each row, the least significant first: whether it has a value. `None` when all have.
    pub validity: Option<Vec<u8>>,
}

/// Some rows of a log, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowBatch {
    /// How many.
    pub rows: u32,
    /// Their columns. `reads.offsets` and `attempts.offsets`, where children are read, hold one value more than there
    /// are rows: row i's children are those from offset i up to offset i + 1.
    pub columns: Vec<TableColumn>,
}

/// A column: its name, the width of its values, and a row's value.
type Field<T> = (&'static str, char, fn(&T) -> Option<u64>);

const ROW: &[Field<Row>] = &[
    ("id", 'L', |r| Some(r.id)),
    ("phase", 'S', |r| Some(r.phase.into())),
    ("worker", 'S', |r| Some(r.worker.into())),
    ("sample", 'L', |r| Some(r.sample)),
    ("node", 'S', |r| r.node.map(u64::from)),
    ("planned_ns", 'L', |r| set(r.stamps.planned)),
    ("free_ns", 'L', |r| set(r.stamps.free)),
    ("issued_ns", 'L', |r| set(r.stamps.issued)),
    ("sent_ns", 'L', |r| set(r.stamps.sent)),
    ("first_byte_ns", 'L', |r| set(r.stamps.first_byte)),
    ("first_token_ns", 'L', |r| set(r.stamps.first_token)),
    ("first_output_ns", 'L', |r| set(r.stamps.first_output)),
    ("last_token_ns", 'L', |r| set(r.stamps.last_token)),
    ("done_ns", 'L', |r| set(r.stamps.done)),
    ("connect_ns", 'L', |r| Some(r.connect_ns)),
    ("status", 'S', |r| set(r.status.into())),
    ("failure", 'C', |r| Some(r.failure as u64)),
    ("detail", 'C', |r| Some(r.detail as u64)),
    ("finish", 'C', |r| Some(r.finish as u64)),
    ("streamed", 'C', |r| Some(r.streamed.into())),
    ("tokens_in", 'I', |r| r.tokens_in.map(u64::from)),
    ("tokens_out", 'I', |r| r.tokens_out.map(u64::from)),
    ("token_source", 'C', |r| Some(r.token_source as u64)),
    ("events", 'I', |r| Some(r.events.into())),
    ("chunks", 'I', |r| Some(r.chunks.into())),
    ("bytes_in", 'L', |r| Some(r.bytes_in)),
    ("bytes_out", 'L', |r| Some(r.bytes_out)),
    ("stamp_source", 'C', |r| Some(r.stamp_source as u64)),
];

/// How many attempts a row had; 0 means one.
const ATTEMPT_COUNT: (&str, char) = ("attempt_count", 'I');

const READ: &[Field<Read>] = &[
    ("reads.delta_ns", 'L', |r| Some(r.delta_ns)),
    ("reads.events", 'I', |r| Some(r.events.into())),
    ("reads.chunks", 'I', |r| Some(r.chunks.into())),
    ("reads.tokens", 'I', |r| set(r.tokens.into())),
];

const ATTEMPT: &[Field<Attempt>] = &[
    ("attempts.kind", 'C', |a| Some(a.kind as u64)),
    ("attempts.node", 'S', |a| Some(a.node.into())),
    ("attempts.sent_ns", 'L', |a| set(a.sent)),
    ("attempts.first_byte_ns", 'L', |a| set(a.first_byte)),
    ("attempts.done_ns", 'L', |a| set(a.done)),
    ("attempts.status", 'S', |a| set(a.status.into())),
    ("attempts.outcome", 'C', |a| Some(a.outcome as u64)),
];

/// The columns of a row without its children: name and width, as in [`TableColumn`].
pub fn flat_columns() -> impl Iterator<Item = (&'static str, char)> {
    ROW.iter().map(|(name, format, _)| (*name, *format)).chain([ATTEMPT_COUNT])
}

/// Reads the rows of a log as columns, in bounded memory.
#[derive(Debug)]
pub struct TableReader {
    reader: LogReader,
    phase: Option<u16>,
    /// `None` where children aren't read.
    spilled: Option<SpilledReads>,
    counts: Option<TokenCounts>,
}

impl TableReader {
    /// Open the `run.log` in `dir`.
    ///
    /// # Errors
    /// Those of [`LogReader::open`] and [`TokenCounts::open`].
    pub fn open(dir: &Path, options: &TableOptions) -> Result<Self, LogError> {
        let reader = LogReader::open(dir)?;
        let spilled = if options.flat { None } else { Some(SpilledReads::new(&reader)?) };
        let counts = options.token_counts.as_deref().map(TokenCounts::open).transpose()?;
        Ok(Self { reader, phase: options.phase, spilled, counts })
    }

    /// The next rows, or `None` at the end. Damaged blocks are passed over; [`LogReader::damage`] names them.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file can't be read.
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>, LogError> {
        let mut build = Build::new(self.spilled.is_some());
        while build.rows < BATCH_ROWS && build.reads.rows < BATCH_READS {
            let children = self.spilled.is_some();
            let is_wanted = |kind| kind == BlockKind::Rows || children && kind == BlockKind::Reads;
            let Some(block) = self.reader.next_wanted(|head| is_wanted(head.kind))? else { break };
            if let Some(spilled) = self.spilled.as_mut().filter(|_| block.kind == BlockKind::Reads) {
                spilled.note(&block);
                continue;
            }
            // A block that doesn't keep to the format gives the rows before its fault.
            let Ok(mut rows) = RowBlock::new(&block) else { continue };
            while let Ok(Some(mut view)) = rows.next_row() {
                let reads = match &mut self.spilled {
                    // Those of rows that aren't wanted are looked up too: so they are forgotten.
                    Some(spilled) => spilled.of(&view)?.unwrap_or([&[], view.reads]),
                    None => [&[][..]; 2],
                };
                if self.phase.is_some_and(|phase| phase != view.row.phase) {
                    continue;
                }
                if let Some(counts) = &mut self.counts {
                    counts.apply(&mut view.row)?;
                }
                if build.push(&view, reads).is_err() {
                    break;
                }
            }
        }
        Ok((build.rows > 0).then(|| build.finish()))
    }
}

/// A batch in the making.
struct Build {
    rows: u32,
    children: bool,
    row: Columns<Row>,
    read_offsets: Vec<u8>,
    reads: Columns<Read>,
    attempt_counts: Vec<u8>,
    attempt_offsets: Vec<u8>,
    attempts: Columns<Attempt>,
}

impl Build {
    fn new(children: bool) -> Self {
        let offsets = || 0u32.to_le_bytes().to_vec();
        Self {
            rows: 0,
            children,
            row: Columns::new(ROW),
            read_offsets: offsets(),
            reads: Columns::new(READ),
            attempt_counts: Vec::new(),
            attempt_offsets: offsets(),
            attempts: Columns::new(ATTEMPT),
        }
    }

    fn push(&mut self, view: &RowView<'_>, reads: [&[u8]; 2]) -> Result<(), BlockFault> {
        let reads: Vec<Read> = reads.into_iter().flat_map(ReadIter::new).collect::<Result<_, _>>()?;
        let attempts = view.attempts().take(if self.children { usize::MAX } else { 0 });
        let attempts: Vec<Attempt> = attempts.collect::<Result<_, _>>()?;
        self.rows += 1;
        self.row.push(&view.row);
        self.attempt_counts.extend_from_slice(&(view.attempt_count as u32).to_le_bytes());
        reads.iter().for_each(|read| self.reads.push(read));
        attempts.iter().for_each(|attempt| self.attempts.push(attempt));
        self.read_offsets.extend_from_slice(&self.reads.rows.to_le_bytes());
        self.attempt_offsets.extend_from_slice(&self.attempts.rows.to_le_bytes());
        Ok(())
    }

    fn finish(self) -> RowBatch {
        let plain = |name, data| TableColumn { name, format: 'I', data, validity: None };
        let mut columns = self.row.finish();
        columns.push(plain(ATTEMPT_COUNT.0, self.attempt_counts));
        if !self.children {
            return RowBatch { rows: self.rows, columns };
        }
        columns.push(plain("reads.offsets", self.read_offsets));
        columns.extend(self.reads.finish());
        columns.push(plain("attempts.offsets", self.attempt_offsets));
        columns.extend(self.attempts.finish());
        RowBatch { rows: self.rows, columns }
    }
}

/// The columns of one table, filled row by row.
struct Columns<T: 'static> {
    fields: &'static [Field<T>],
    rows: u32,
    columns: Vec<(Vec<u8>, Vec<u8>, bool)>,
}

impl<T> Columns<T> {
    fn new(fields: &'static [Field<T>]) -> Self {
        Self { fields, rows: 0, columns: fields.iter().map(|_| (Vec::new(), Vec::new(), false)).collect() }
    }

    fn push(&mut self, row: &T) {
        let (byte, bit) = ((self.rows / 8) as usize, 1 << (self.rows % 8));
        for ((_, format, value), (data, validity, some_missing)) in self.fields.iter().zip(&mut self.columns) {
            let value = value(row);
            data.extend_from_slice(&value.unwrap_or(0).to_le_bytes()[..width(*format)]);
            if byte == validity.len() {
                validity.push(0);
            }
            match value {
                Some(_) => validity[byte] |= bit,
                None => *some_missing = true,
            }
        }
        self.rows += 1;
    }

    fn finish(self) -> Vec<TableColumn> {
        let made = self.fields.iter().zip(self.columns).map(|((name, format, _), (data, validity, some_missing))| {
            TableColumn { name, format: *format, data, validity: some_missing.then_some(validity) }
        });
        made.collect()
    }
}

fn width(format: char) -> usize {
    match format {
        'C' => 1,
        'S' => 2,
        'I' => 4,
        _ => 8,
    }
}

/// A stamp or code that is 0 when it was never set.
fn set(value: u64) -> Option<u64> {
    (value != UNSET).then_some(value)
}
