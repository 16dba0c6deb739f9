//! The HTTP/1.1 parser: no bytes make it panic, and how they are split changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::http::{Fault, Head, Limits, Progress, ResponseParser, Sink};
use loadgen::record::{Detail, Failure};

#[derive(Default, Debug, PartialEq)]
struct Seen {
    statuses: Vec<u16>,
    body: Vec<u8>,
}

impl Sink for Seen {
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        self.statuses.push(head.status);
        Ok(())
    }

    fn data(&mut self, span: &[u8]) -> Result<(), Fault> {
        assert!(!span.is_empty());
        self.body.extend_from_slice(span);
        Ok(())
    }
}

fn run<'a>(reads: impl Iterator<Item = &'a [u8]>) -> (Seen, Result<Progress, (Failure, Detail)>) {
    let limits = Limits { head_bytes: 2000, headers: 30, line_bytes: 1000, body_bytes: 5000 };
    let (mut seen, mut parser) = (Seen::default(), ResponseParser::new(limits));
    let mut last = Ok(Progress::More);
    for read in reads {
        last = parser.feed(read, &mut seen);
        if last.is_err() {
            break;
        }
    }
    if last == Ok(Progress::More) {
        last = parser.eof(&mut seen);
    }
    (seen, last.map_err(|fault| (fault.failure, fault.detail)))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let whole = run(std::iter::once(bytes));
    assert_eq!(run(bytes.chunks(usize::from(size) + 1)), whole);
    assert_eq!(run(bytes.chunks(1)), whole);
});
