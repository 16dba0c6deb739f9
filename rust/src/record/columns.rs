//! A ROWS payload as it grows: one byte buffer per column, encoded while rows are pushed.

use super::{Attempt, ReadList, Row, Stamps, UNSET, varint};

/// The columns of a ROWS payload, by their number in the file. A reader skips numbers it does not know; a column
/// that is left out is 0 in every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Column {
    Id = 1,
    Phase = 2,
    Sample = 3,
    Set = 4,
    Planned = 5,
    Free = 6,
    Issued = 7,
    Sent = 8,
    FirstByte = 9,
    FirstToken = 10,
    FirstOutput = 11,
    LastToken = 12,
    Done = 13,
    Connect = 14,
    Status = 15,
    Failure = 16,
    Detail = 17,
    Finish = 18,
    TokenSource = 19,
    TokensIn = 20,
    TokensOut = 21,
    Events = 22,
    Chunks = 23,
    BytesIn = 24,
    BytesOut = 25,
    ReadCount = 26,
    ReadLength = 27,
    Spilled = 28,
    AttemptCount = 29,
    Attempts = 30,
    Reads = 31,
    Node = 32,
}

/// One more than the highest column number.
pub(crate) const COLUMNS: usize = 33;
/// Stamps in the order of the record; those with `true` move the base of the stamps after them.
pub(crate) const STAMPS: [(Column, bool); 9] = [
    (Column::Planned, true),
    (Column::Free, false),
    (Column::Issued, true),
    (Column::Sent, true),
    (Column::FirstByte, true),
    (Column::FirstToken, true),
    (Column::FirstOutput, false),
    (Column::LastToken, true),
    (Column::Done, true),
];
/// Bits of the `Set` column above the nine stamps'.
pub(crate) const SET_CONNECT: u64 = 1 << 9;
pub(crate) const SET_TOKENS_IN: u64 = 1 << 10;
pub(crate) const SET_TOKENS_OUT: u64 = 1 << 11;
pub(crate) const SET_STREAMED: u64 = 1 << 12;
pub(crate) const SET_PYTHON: u64 = 1 << 13;
pub(crate) const SET_NO_NODE: u64 = 1 << 14;
/// Columns that hold runs of equal values, as (length, value) pairs.
pub(crate) const RUNS: [Column; 10] = [
    Column::Phase,
    Column::Set,
    Column::Status,
    Column::Failure,
    Column::Detail,
    Column::Finish,
    Column::TokenSource,
    Column::Spilled,
    Column::AttemptCount,
    Column::Node,
];
/// More attempts than this are counted, and only the last ones are kept, so that a row always fits a block.
pub(crate) const MAX_ATTEMPTS: usize = 256;
/// Most bytes a row can take beside its reads and attempts: 32 columns of at most 12 bytes.
pub(crate) const ROW_BOUND: usize = 32 * 12;
/// Most bytes of one encoded attempt.
pub(crate) const ATTEMPT_BOUND: usize = 3 * 10 + 3 + 3 + 2;
/// Bytes that the columns' own heads may take in a payload.
pub(crate) const COLUMN_HEADS: usize = COLUMNS * 4;

/// The nine stamps as an array in the order of [`STAMPS`].
pub(crate) fn stamps_array(stamps: &Stamps) -> [u64; 9] {
    let s = stamps;
    [s.planned, s.free, s.issued, s.sent, s.first_byte, s.first_token, s.first_output, s.last_token, s.done]
}

/// What a column's next value is measured from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bases {
    pub id: u64,
    pub sample: u64,
    /// The first set stamp of the row before.
    pub stamp: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub events: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    value: u64,
    length: u64,
}

/// A ROWS payload in the making.
#[derive(Debug)]
pub(crate) struct Columns {
    bytes: [Vec<u8>; COLUMNS],
    runs: [Run; COLUMNS],
    bases: Bases,
    rows: u32,
    size: usize,
}

impl Columns {
    pub fn new() -> Self {
        Self {
            bytes: std::array::from_fn(|_| Vec::new()),
            runs: [Run::default(); COLUMNS],
            bases: Bases::default(),
            rows: 0,
            size: 0,
        }
    }

    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes the payload takes at most so far.
    pub fn size(&self) -> usize {
        self.size + COLUMN_HEADS + RUNS.len() * 12
    }

    /// Add a row, `spilled` of whose reads went ahead in READS blocks.
    pub fn push(&mut self, row: &Row, reads: &ReadList, spilled: u64, attempts: &[Attempt]) {
        let before = self.bases;
        self.delta(Column::Id, row.id, before.id);
        self.delta(Column::Sample, row.sample, before.sample);
        self.run(Column::Phase, u64::from(row.phase));
        self.run(Column::Node, row.node.map_or(0, u64::from));
        self.push_stamps(row);
        self.push_outcome(row);
        self.push_amounts(row);
        self.plain(Column::ReadCount, u64::from(reads.len()));
        self.plain(Column::ReadLength, reads.bytes().len() as u64);
        self.run(Column::Spilled, spilled);
        self.bytes[Column::Reads as usize].extend_from_slice(reads.bytes());
        self.push_attempts(attempts, row.stamps.sent);
        self.bases.id = row.id;
        self.bases.sample = row.sample;
        self.rows += 1;
        self.size = self.bytes.iter().map(Vec::len).sum();
    }

    /// Append the payload to `out` and start over.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        for column in RUNS {
            // A column whose only run is of zeros is left out.
            if self.bytes[column as usize].is_empty() && self.runs[column as usize].value == 0 {
                continue;
            }
            self.close_run(column);
        }
        for (number, bytes) in self.bytes.iter_mut().enumerate() {
            // A column of zeros says nothing: leaving it out means the same.
            if bytes.is_empty() || (is_plain(number) && bytes.iter().all(|&byte| byte == 0)) {
                bytes.clear();
                continue;
            }
            out.push(number as u8);
            varint::put(out, bytes.len() as u64);
            out.append(bytes);
        }
        self.runs = [Run::default(); COLUMNS];
        self.bases = Bases::default();
        self.rows = 0;
        self.size = 0;
    }

    fn push_stamps(&mut self, row: &Row) {
        let mut set = 0;
        let mut base = self.bases.stamp;
        let mut first = None;
        for (bit, (stamp, (column, moves))) in stamps_array(&row.stamps).into_iter().zip(STAMPS).enumerate() {
            if stamp == UNSET {
                continue;
            }
            set |= 1 << bit;
            self.delta(column, stamp, base);
            if moves {
                base = stamp;
                first.get_or_insert(stamp);
            }
        }
        self.bases.stamp = first.unwrap_or(self.bases.stamp);
        if row.connect_ns != 0 {
            set |= SET_CONNECT;
            self.plain(Column::Connect, row.connect_ns);
        }
        set |= if row.tokens_in.is_some() { SET_TOKENS_IN } else { 0 };
        set |= if row.tokens_out.is_some() { SET_TOKENS_OUT } else { 0 };
        set |= if row.streamed { SET_STREAMED } else { 0 };
        set |= if row.stamp_source == super::StampSource::Python { SET_PYTHON } else { 0 };
        set |= if row.node.is_none() { SET_NO_NODE } else { 0 };
        self.run(Column::Set, set);
    }

    fn push_outcome(&mut self, row: &Row) {
        self.run(Column::Status, u64::from(row.status));
        self.run(Column::Failure, row.failure as u64);
        self.run(Column::Detail, row.detail as u64);
        self.run(Column::Finish, row.finish as u64);
        self.run(Column::TokenSource, row.token_source as u64);
    }

    fn push_amounts(&mut self, row: &Row) {
        let before = self.bases;
        if let Some(tokens) = row.tokens_in.map(u64::from) {
            self.delta(Column::TokensIn, tokens, before.tokens_in);
            self.bases.tokens_in = tokens;
        }
        if let Some(tokens) = row.tokens_out.map(u64::from) {
            self.delta(Column::TokensOut, tokens, before.tokens_out);
            self.bases.tokens_out = tokens;
        }
        let (events, chunks) = (u64::from(row.events), u64::from(row.chunks));
        self.delta(Column::Events, events, before.events);
        self.delta(Column::Chunks, chunks, events);
        self.delta(Column::BytesIn, row.bytes_in, before.bytes_in);
        self.delta(Column::BytesOut, row.bytes_out, before.bytes_out);
        self.bases.events = events;
        self.bases.bytes_in = row.bytes_in;
        self.bases.bytes_out = row.bytes_out;
    }

    fn push_attempts(&mut self, attempts: &[Attempt], sent: u64) {
        self.run(Column::AttemptCount, attempts.len() as u64);
        let kept = &attempts[attempts.len().saturating_sub(MAX_ATTEMPTS)..];
        let out = &mut self.bytes[Column::Attempts as usize];
        for attempt in kept {
            out.push(attempt.kind as u8);
            out.push(attempt.outcome as u8);
            varint::put(out, u64::from(attempt.node));
            varint::put(out, u64::from(attempt.status));
            varint::put_delta(out, attempt.sent, sent);
            varint::put_delta(out, attempt.first_byte, attempt.sent);
            varint::put_delta(out, attempt.done, attempt.sent);
        }
    }

    #[inline]
    fn plain(&mut self, column: Column, value: u64) {
        varint::put(&mut self.bytes[column as usize], value);
    }

    #[inline]
    fn delta(&mut self, column: Column, to: u64, from: u64) {
        varint::put_delta(&mut self.bytes[column as usize], to, from);
    }

    #[inline]
    fn run(&mut self, column: Column, value: u64) {
        let run = &mut self.runs[column as usize];
        if run.length == 0 || run.value == value {
            run.value = value;
            run.length += 1;
            return;
        }
        self.close_run(column);
        self.runs[column as usize] = Run { value, length: 1 };
    }

    fn close_run(&mut self, column: Column) {
        let run = self.runs[column as usize];
        let bytes = &mut self.bytes[column as usize];
        varint::put(bytes, run.length);
        varint::put(bytes, run.value);
    }
}

fn is_plain(number: usize) -> bool {
    number != Column::Attempts as usize
        && number != Column::Reads as usize
        && !RUNS.iter().any(|&column| column as usize == number)
}
