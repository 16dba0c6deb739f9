//! A log's rows as an Arrow stream: what each column's numbers stand for.

use std::path::Path;

use super::arrow::{ArrowArrayStream, ArrowSchema, Buffer, Field, Source, Values};
use super::{
    Detail, Failure, Finish, LogError, RowBatch, StampSource, TableColumn, TableOptions, TableReader, TokenSource,
    flat_columns,
};

/// Open the rows of the `run.log` in `dir` as a stream; their reads and attempts are left out.
///
/// # Errors
/// Those of [`TableReader::open`].
pub fn arrow_rows(dir: &Path, options: TableOptions) -> Result<ArrowArrayStream, LogError> {
    Ok(ArrowArrayStream::new(TableReader::open(dir, &TableOptions { flat: true, ..options })?))
}

/// The columns of [`arrow_rows`].
pub fn arrow_rows_schema() -> ArrowSchema {
    ArrowSchema::new(schema())
}

/// The names of the columns of [`arrow_rows`], each with those of its codes where it has any.
pub fn row_columns() -> impl Iterator<Item = (&'static str, Option<Vec<&'static str>>)> {
    flat_columns().map(|(name, _)| match kind_of(name) {
        Kind::Code(names) => (name, Some(names)),
        Kind::Number | Kind::Flag => (name, None),
    })
}

impl Source for TableReader {
    fn schema(&self) -> Field {
        schema()
    }

    fn next(&mut self) -> Result<Option<Values>, String> {
        self.next_batch().map(|batch| batch.map(values)).map_err(|error| error.to_string())
    }
}

/// What a column's numbers stand for.
enum Kind {
    Number,
    Flag,
    Code(Vec<&'static str>),
}

fn kind_of(column: &str) -> Kind {
    match column {
        "streamed" => Kind::Flag,
        "failure" => Kind::Code(Failure::ALL.map(Failure::name).into()),
        "detail" => Kind::Code(Detail::ALL.map(Detail::name).into()),
        "finish" => Kind::Code(Finish::ALL.map(Finish::name).into()),
        "token_source" => Kind::Code(TokenSource::ALL.map(TokenSource::name).into()),
        "stamp_source" => Kind::Code(StampSource::ALL.map(StampSource::name).into()),
        _ => Kind::Number,
    }
}

fn schema() -> Field {
    let column = |(name, format): (&'static str, char)| {
        let number = match format {
            'C' => c"C",
            'S' => c"S",
            'I' => c"I",
            _ => c"L",
        };
        let (format, dictionary) = match kind_of(name) {
            Kind::Number => (number, None),
            Kind::Flag => (c"b", None),
            Kind::Code(_) => (number, Some(c"u")),
        };
        Field { name, format, children: Vec::new(), dictionary }
    };
    Field { name: "", format: c"+s", children: flat_columns().map(column).collect(), dictionary: None }
}

fn values(batch: RowBatch) -> Values {
    let length = batch.rows as usize;
    let children = batch.columns.into_iter().map(|column| column_values(column, length)).collect();
    Values { length, buffers: vec![None], children, ..Values::default() }
}

fn column_values(column: TableColumn, length: usize) -> Values {
    let TableColumn { name, data, validity, .. } = column;
    let set: usize = validity.iter().flatten().map(|byte| byte.count_ones() as usize).sum();
    let nulls = if validity.is_some() { length - set } else { 0 };
    let kind = kind_of(name);
    let data = if matches!(kind, Kind::Flag) { Buffer::from(&bits(&data)[..]) } else { Buffer::from(&data[..]) };
    let dictionary = if let Kind::Code(names) = kind { Some(Box::new(words(&names))) } else { None };
    let buffers = vec![validity.map(|bits| Buffer::from(&bits[..])), Some(data)];
    Values { length, nulls, buffers, dictionary, ..Values::default() }
}

/// A bit for each byte, set where the byte isn't 0, the least significant first.
fn bits(bytes: &[u8]) -> Vec<u8> {
    let pack = |eight: &[u8]| eight.iter().rev().fold(0, |bits, byte| bits << 1 | u8::from(*byte != 0));
    bytes.chunks(8).map(pack).collect()
}

/// Text values.
fn words(all: &[&str]) -> Values {
    let mut offsets = vec![0u8; 4];
    let mut end = 0u32;
    for word in all {
        end += word.len() as u32;
        offsets.extend_from_slice(&end.to_le_bytes());
    }
    let buffers = vec![None, Some(Buffer::from(&offsets[..])), Some(Buffer::from(all.concat().as_bytes()))];
    Values { length: all.len(), buffers, ..Values::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_packed_eight_to_a_byte() {
        assert_eq!(bits(&[1, 0, 0, 1, 0, 0, 0, 0, 1]), [0b1001, 1]);
        assert!(bits(&[]).is_empty());
    }

    #[test]
    fn every_code_has_a_name() {
        let coded: Vec<_> = row_columns().filter_map(|(name, names)| Some((name, names?.len()))).collect();
        let expected = [("failure", 9), ("detail", 23), ("finish", 6), ("token_source", 4), ("stamp_source", 2)];
        assert_eq!(coded, expected);
    }
}
