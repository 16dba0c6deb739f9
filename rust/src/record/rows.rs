//! A ROWS payload read back: one cursor per column, one row at a time, nothing allocated.

use super::columns::{
    Bases, COLUMNS, Column, MAX_ATTEMPTS, RUNS, SET_CONNECT, SET_NO_NODE, SET_PYTHON, SET_STREAMED, SET_TOKENS_IN,
    SET_TOKENS_OUT, STAMPS,
};
use super::{
    Attempt, AttemptKind, Block, BlockFault, Detail, Failure, Finish, Row, StampSource, Stamps, TokenSource, UNSET,
    varint,
};

/// One row with what hangs on it.
#[derive(Clone, Debug)]
pub struct RowView<'a> {
    /// The row.
    pub row: Row,
    /// Reads in `reads`.
    pub read_count: u32,
    /// Its encoded reads, without those that went ahead in READS blocks.
    pub reads: &'a [u8],
    /// Reads that went ahead in READS blocks.
    pub spilled: u64,
    /// How many attempts it had; 0 means one, and nothing kept of it.
    pub attempt_count: u64,
    attempts: &'a [u8],
}

impl<'a> RowView<'a> {
    /// Its attempts as they were kept: all, or the last 256.
    pub fn attempts(&self) -> impl Iterator<Item = Result<Attempt, BlockFault>> + 'a {
        let sent = self.row.stamps.sent;
        let mut rest = self.attempts;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let attempt = take_attempt(&mut rest, sent);
            if attempt.is_err() {
                rest = &[];
            }
            Some(attempt)
        })
    }
}

/// Walks the rows of one ROWS block.
#[derive(Clone, Debug)]
pub struct RowBlock<'a> {
    columns: [&'a [u8]; COLUMNS],
    present: [bool; COLUMNS],
    /// What is left of each run column's current run: (value, rows).
    runs: [(u64, u64); COLUMNS],
    bases: Bases,
    worker: u16,
    left: u32,
}

impl<'a> RowBlock<'a> {
    /// Find the columns of a ROWS block.
    ///
    /// # Errors
    /// [`BlockFault::Short`] when a column's head does not fit the payload.
    pub fn new(block: &Block<'a>) -> Result<Self, BlockFault> {
        let mut columns: [&[u8]; COLUMNS] = [&[]; COLUMNS];
        let mut present = [false; COLUMNS];
        let mut rest = block.payload;
        while let Some((&number, tail)) = rest.split_first() {
            rest = tail;
            let length = varint::get(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or(BlockFault::Short)?;
            let (column, tail) = rest.split_at_checked(length).ok_or(BlockFault::Short)?;
            rest = tail;
            // A number above ours is a newer minor's column.
            if let Some(place) = columns.get_mut(number as usize) {
                *place = column;
                present[number as usize] = true;
            }
        }
        let runs = std::array::from_fn(|number| if present[number] { (0, 0) } else { (0, u64::MAX) });
        Ok(Self { columns, present, runs, bases: Bases::default(), worker: block.worker, left: block.rows })
    }

    /// The next row.
    ///
    /// # Errors
    /// A [`BlockFault`] when the payload does not hold what its head promises; the rows before it are good.
    pub fn next_row(&mut self) -> Result<Option<RowView<'a>>, BlockFault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let view = self.take_row();
        if view.is_err() {
            self.left = 0;
        }
        view.map(Some)
    }

    fn take_row(&mut self) -> Result<RowView<'a>, BlockFault> {
        let mut row = Row { worker: self.worker, ..Row::default() };
        row.id = self.delta(Column::Id, self.bases.id)?;
        row.sample = self.delta(Column::Sample, self.bases.sample)?;
        (self.bases.id, self.bases.sample) = (row.id, row.sample);
        row.phase = narrow(self.run(Column::Phase)?)?;
        let node = narrow(self.run(Column::Node)?)?;
        let set = self.run(Column::Set)?;
        row.node = (set & SET_NO_NODE == 0).then_some(node);
        row.stamps = self.take_stamps(set)?;
        row.connect_ns = if set & SET_CONNECT != 0 { self.plain(Column::Connect)? } else { 0 };
        row.streamed = set & SET_STREAMED != 0;
        row.stamp_source = if set & SET_PYTHON != 0 { StampSource::Python } else { StampSource::Engine };
        row.status = narrow(self.run(Column::Status)?)?;
        row.failure = Failure::from_code(narrow(self.run(Column::Failure)?)?).ok_or(BlockFault::Code)?;
        row.detail = Detail::from_code(narrow(self.run(Column::Detail)?)?).ok_or(BlockFault::Code)?;
        row.finish = Finish::from_code(narrow(self.run(Column::Finish)?)?).ok_or(BlockFault::Code)?;
        row.token_source = TokenSource::from_code(narrow(self.run(Column::TokenSource)?)?).ok_or(BlockFault::Code)?;
        self.take_amounts(&mut row, set)?;
        let read_count = narrow(self.plain(Column::ReadCount)?)?;
        let length = self.plain(Column::ReadLength)?;
        let reads = self.take_bytes(Column::Reads, length)?;
        let spilled = self.run(Column::Spilled)?;
        let attempt_count = self.run(Column::AttemptCount)?;
        let attempts = self.take_attempts(attempt_count, row.stamps.sent)?;
        Ok(RowView { row, read_count, reads, spilled, attempt_count, attempts })
    }

    fn take_stamps(&mut self, set: u64) -> Result<Stamps, BlockFault> {
        let mut values = [UNSET; 9];
        let mut base = self.bases.stamp;
        let mut first = None;
        for (bit, (column, moves)) in STAMPS.into_iter().enumerate() {
            if set & (1 << bit) == 0 {
                continue;
            }
            values[bit] = self.delta(column, base)?;
            if moves {
                base = values[bit];
                first.get_or_insert(base);
            }
        }
        self.bases.stamp = first.unwrap_or(self.bases.stamp);
        let [planned, free, issued, sent, first_byte, first_token, first_output, last_token, done] = values;
        Ok(Stamps { planned, free, issued, sent, first_byte, first_token, first_output, last_token, done })
    }

    fn take_amounts(&mut self, row: &mut Row, set: u64) -> Result<(), BlockFault> {
        if set & SET_TOKENS_IN != 0 {
            self.bases.tokens_in = self.delta(Column::TokensIn, self.bases.tokens_in)?;
            row.tokens_in = Some(narrow(self.bases.tokens_in)?);
        }
        if set & SET_TOKENS_OUT != 0 {
            self.bases.tokens_out = self.delta(Column::TokensOut, self.bases.tokens_out)?;
            row.tokens_out = Some(narrow(self.bases.tokens_out)?);
        }
        self.bases.events = self.delta(Column::Events, self.bases.events)?;
        row.events = narrow(self.bases.events)?;
        row.chunks = narrow(self.delta(Column::Chunks, self.bases.events)?)?;
        self.bases.bytes_in = self.delta(Column::BytesIn, self.bases.bytes_in)?;
        self.bases.bytes_out = self.delta(Column::BytesOut, self.bases.bytes_out)?;
        (row.bytes_in, row.bytes_out) = (self.bases.bytes_in, self.bases.bytes_out);
        Ok(())
    }

    fn take_attempts(&mut self, count: u64, sent: u64) -> Result<&'a [u8], BlockFault> {
        let all = self.columns[Column::Attempts as usize];
        let mut rest = all;
        for _ in 0..count.min(MAX_ATTEMPTS as u64) {
            take_attempt(&mut rest, sent)?;
        }
        self.columns[Column::Attempts as usize] = rest;
        Ok(&all[..all.len() - rest.len()])
    }

    fn take_bytes(&mut self, column: Column, length: u64) -> Result<&'a [u8], BlockFault> {
        let length = usize::try_from(length).map_err(|_| BlockFault::Short)?;
        let (taken, rest) = self.columns[column as usize].split_at_checked(length).ok_or(BlockFault::Short)?;
        self.columns[column as usize] = rest;
        Ok(taken)
    }

    #[inline]
    fn plain(&mut self, column: Column) -> Result<u64, BlockFault> {
        if !self.present[column as usize] {
            return Ok(0);
        }
        varint::get(&mut self.columns[column as usize]).ok_or(BlockFault::Short)
    }

    #[inline]
    fn delta(&mut self, column: Column, base: u64) -> Result<u64, BlockFault> {
        if !self.present[column as usize] {
            return Ok(base);
        }
        varint::get_delta(&mut self.columns[column as usize], base).ok_or(BlockFault::Short)
    }

    #[inline]
    fn run(&mut self, column: Column) -> Result<u64, BlockFault> {
        debug_assert!(RUNS.contains(&column));
        let (value, left) = &mut self.runs[column as usize];
        if *left == 0 {
            let bytes = &mut self.columns[column as usize];
            *left = varint::get(bytes).ok_or(BlockFault::Short)?;
            *value = varint::get(bytes).ok_or(BlockFault::Short)?;
            if *left == 0 {
                return Err(BlockFault::Short);
            }
        }
        *left -= 1;
        Ok(*value)
    }
}

fn take_attempt(rest: &mut &[u8], sent: u64) -> Result<Attempt, BlockFault> {
    let (&[kind, outcome], tail) = rest.split_first_chunk().ok_or(BlockFault::Short)?;
    *rest = tail;
    let kind = match kind {
        0 => AttemptKind::First,
        1 => AttemptKind::Retry,
        2 => AttemptKind::Hedge,
        3 => AttemptKind::Reconnect,
        _ => return Err(BlockFault::Code),
    };
    let outcome = Failure::from_code(outcome).ok_or(BlockFault::Code)?;
    let node = narrow(varint::get(rest).ok_or(BlockFault::Short)?)?;
    let status = narrow(varint::get(rest).ok_or(BlockFault::Short)?)?;
    let sent = varint::get_delta(rest, sent).ok_or(BlockFault::Short)?;
    let first_byte = varint::get_delta(rest, sent).ok_or(BlockFault::Short)?;
    let done = varint::get_delta(rest, sent).ok_or(BlockFault::Short)?;
    Ok(Attempt { kind, node, sent, first_byte, done, status, outcome })
}

/// A value that its field's type cannot hold was not written by this format.
#[inline]
fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, BlockFault> {
    T::try_from(value).map_err(|_| BlockFault::Code)
}
