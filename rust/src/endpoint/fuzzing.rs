//! Doors to the private parts for the fuzz targets; built under `cfg(fuzzing)` only.

use super::facts::{self, Facts};
use super::scan::scan;
use super::sse::{Decoder, Event, Listener};
use super::template::Template;
use crate::http::Fault;

/// What came out of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event {
        /// Its type, cut off at 64 bytes.
        name: Vec<u8>,
        /// Its data.
        data: Vec<u8>,
    },
    /// A line that is no field.
    Stray(Vec<u8>),
}

impl Listener for Vec<Heard> {
    fn shortcut(&mut self, _rest: &[u8]) -> usize {
        0
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        self.push(Heard::Event { name: event.name.to_vec(), data: event.data.to_vec() });
        Ok(())
    }

    fn stray(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.push(Heard::Stray(line.to_vec()));
        Ok(())
    }
}

/// Everything the decoder finds in a stream that comes in these pieces.
pub fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Heard> {
    let (mut heard, mut decoder) = (Vec::new(), Decoder::new(usize::MAX >> 1));
    for piece in pieces {
        decoder.feed(piece, &mut heard).unwrap_or_else(|fault| panic!("{fault}"));
    }
    heard
}

/// Panic if the scanner is sure of something else than the general parser says, or if a template learned from the first
/// line takes the second for what the parser says it is not.
pub fn check_scan(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |&b| b == b'\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut learned = Facts::default();
    for json in [first, second] {
        let mut quick = Facts::default();
        let sure = scan(json, &mut quick);
        let Ok(text) = std::str::from_utf8(json) else { continue };
        let mut general = Facts::default();
        let good = facts::parse(text, &mut general).is_ok();
        assert!(!sure || (good && quick == general), "{quick:?} is not {general:?}");
        if good && json == first {
            learned = general;
        }
    }
    let mut template = Template::default();
    template.learn(first, 0, &learned);
    if let Some(fit) = template.fit(second) {
        let mut general = Facts::default();
        let lossy = String::from_utf8_lossy(&second[..fit.length]);
        facts::parse(&lossy, &mut general).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            general.pieces.len() == 1 && general.pieces[0].kind == fit.kind && general.pieces[0].choice == fit.choice
        );
        assert_eq!(Facts { pieces: Vec::new(), ..general }, Facts { pieces: Vec::new(), ..learned });
    }
}
