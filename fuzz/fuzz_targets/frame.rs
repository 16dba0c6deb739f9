//! Frames of events: no bytes make their readers panic, and what passes for a record is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::event::{Batch, BatchLimits, Frame, is_one_value};

fuzz_target!(|bytes: &[u8]| {
    is_one_value(bytes);
    let Ok(frame) = Frame::decode(bytes) else { return };
    let limits = BatchLimits { send_threshold: u32::MAX, ..BatchLimits::default() };
    let mut batch = Batch::new(frame.source, limits);
    let Ok(records) = frame.iter().collect::<Result<Vec<_>, _>>() else { return };
    for record in &records {
        assert!(record.event.data.is_none_or(is_one_value));
        batch.push(&record.event);
    }
    // Told again, they say the same but for their numbers.
    batch.flush(|again, count| {
        assert_eq!(count as usize, records.len());
        let again = Frame::decode(again).unwrap_or_else(|fault| panic!("{fault}"));
        for (mine, theirs) in again.iter().zip(&records) {
            let mine = mine.unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(loadgen::event::Record { seq: theirs.seq, ..mine }, *theirs);
        }
    });
});
