//! The first page of a segment: what it is, whose, how big, and how its run stands.
//!
//! Words are in the machine's own byte order; `ORDER` tells a reader of another. The words up to `NAMESPACE` keep their
//! place in every version, so that any loadgen can tell a dead run's segment and remove it.

use std::path::Path;

use serde::Serialize;

use super::error::SeriesError;
use super::orders::{PublishOrders, observe, publish};
use crate::clock::Anchor;
use crate::sync::{AtomicU64, Ordering};

/// The version of the layout of everything in a segment.
pub const VERSION: u64 = 1;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 4096;
/// Bytes that a run's id may have.
pub(super) const ID_BYTES: usize = 64;
/// Bytes that a run's description may have: what the header's page has left.
pub(super) const ABOUT_BYTES: usize = HEADER_BYTES - (ABOUT_AT * 8);

pub(super) const MAGIC: [u8; 8] = *b"\x89LGSER\r\n";
pub(super) const ORDER: u64 = 0x0102_0304_0506_0708;

// Where each word stands.
const MAGIC_AT: usize = 0;
const ORDER_AT: usize = 1;
const VERSION_AT: usize = 2;
const PID_AT: usize = 3;
const STARTED_AT: usize = 4;
const NAMESPACE_AT: usize = 5;
const SIZE_AT: usize = 6;
const ENTRIES_AT: usize = 7;
const STATE_AT: usize = 8;
const PHASE_AT: usize = 9;
const PHASE_NS_AT: usize = 10;
const MONO_AT: usize = 11;
const WALL_AT: usize = 12;
const ID_AT: usize = 16;
const ABOUT_LENGTH_AT: usize = 24;
const ABOUT_AT: usize = 25;

/// How a run stands. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It issues, or will.
    Live = 0,
    /// Its last phase has stopped issuing; answers still come.
    Draining = 1,
    /// It ended as it should: the numbers are final.
    Complete = 2,
    /// It ended before it should: the numbers are final too.
    Interrupted = 3,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        ["live", "draining", "complete", "interrupted"][self as usize]
    }

    /// The state of that word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether no other follows.
    pub fn is_last(self) -> bool {
        self >= Self::Complete
    }

    const ALL: [Self; 4] = [Self::Live, Self::Draining, Self::Complete, Self::Interrupted];
}

/// The process that writes a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u64,
    /// When it started, in the kernel's ticks; 0 where the system doesn't tell.
    pub(super) started: u64,
    /// Its pid's namespace; 0 where there is none.
    pub(super) namespace: u64,
}

/// What of the header never changes.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) owner: Owner,
    pub(super) id: String,
    pub(super) anchor: Anchor,
}

/// The words of a header.
#[derive(Clone, Copy)]
pub(super) struct Head<'a>(pub(super) &'a [AtomicU64]);

impl Head<'_> {
    /// Fill in a fresh header, the magic last: until then it is no segment.
    pub(super) fn write(&self, identity: &Identity, size: u64) {
        let Identity { owner, id, anchor } = identity;
        self.set(ORDER_AT, ORDER);
        self.set(VERSION_AT, VERSION);
        self.set(PID_AT, owner.pid);
        self.set(STARTED_AT, owner.started);
        self.set(NAMESPACE_AT, owner.namespace);
        self.set(PHASE_AT, u64::MAX);
        self.set(MONO_AT, anchor.mono_ns);
        self.set(WALL_AT, anchor.wall_ns);
        write_text(&self.0[ID_AT..ID_AT + ID_BYTES / 8], id);
        self.set_size(size);
        // Release: pairs with the Acquire in `check`.
        publish(&self.0[MAGIC_AT], u64::from_ne_bytes(MAGIC), &PublishOrders::SOUND);
    }

    /// Believe the header only when all of it makes sense.
    pub(super) fn check(&self, path: &Path) -> Result<Identity, SeriesError> {
        // Acquire: pairs with the Release in `write`.
        if observe(&self.0[MAGIC_AT], &PublishOrders::SOUND).to_ne_bytes() != MAGIC {
            return Err(SeriesError::NotASegment { path: path.to_path_buf() });
        }
        match self.get(ORDER_AT) {
            ORDER => {}
            order if order == ORDER.swap_bytes() => return Err(SeriesError::ByteOrder { path: path.to_path_buf() }),
            _ => return Err(SeriesError::damaged(path, "its byte order is neither of the two")),
        }
        let version = self.get(VERSION_AT);
        if version != VERSION {
            return Err(SeriesError::Version { path: path.to_path_buf(), version });
        }
        let id = read_text(&self.0[ID_AT..ID_AT + ID_BYTES / 8]);
        let id = id.ok_or_else(|| SeriesError::damaged(path, "its run has no readable id"))?;
        let anchor = Anchor { mono_ns: self.get(MONO_AT), wall_ns: self.get(WALL_AT) };
        Ok(Identity { owner: self.owner(), id, anchor })
    }

    /// Whose it is, whatever the version, if it is a segment of this byte order.
    pub(super) fn any_owner(&self) -> Option<Owner> {
        // Acquire: pairs with the Release in `write`.
        let magic = observe(&self.0[MAGIC_AT], &PublishOrders::SOUND).to_ne_bytes();
        (magic == MAGIC && self.get(ORDER_AT) == ORDER).then(|| self.owner())
    }

    fn owner(&self) -> Owner {
        Owner { pid: self.get(PID_AT), started: self.get(STARTED_AT), namespace: self.get(NAMESPACE_AT) }
    }

    /// Bytes of the file that are in use. Ordered by the number of entries: it grows before they do.
    pub(super) fn size(&self) -> u64 {
        self.get(SIZE_AT)
    }

    pub(super) fn set_size(&self, bytes: u64) {
        self.set(SIZE_AT, bytes);
    }

    /// How many entries there are. What they say, and the memory they name, is visible from here on.
    pub(super) fn entries(&self) -> u64 {
        // Acquire: pairs with the Release in `publish_entries`.
        observe(&self.0[ENTRIES_AT], &PublishOrders::SOUND)
    }

    pub(super) fn publish_entries(&self, entries: u64) {
        // Release: pairs with the Acquire in `entries`.
        publish(&self.0[ENTRIES_AT], entries, &PublishOrders::SOUND);
    }

    /// How the run stands; of a last state everything that was recorded is visible from here on.
    pub(super) fn state(&self) -> Option<State> {
        // Acquire: pairs with the Release in `publish_state`.
        let code = observe(&self.0[STATE_AT], &PublishOrders::SOUND);
        State::ALL.into_iter().find(|s| *s as u64 == code)
    }

    pub(super) fn publish_state(&self, state: State) {
        // Release: pairs with the Acquire in `state`.
        publish(&self.0[STATE_AT], state as u64, &PublishOrders::SOUND);
    }

    /// The phase that runs and when it began, once one does.
    pub(super) fn phase(&self) -> Option<(u16, u64)> {
        Some((u16::try_from(self.get(PHASE_AT)).ok()?, self.get(PHASE_NS_AT)))
    }

    pub(super) fn set_phase(&self, phase: u16, ns: u64) {
        self.set(PHASE_NS_AT, ns);
        self.set(PHASE_AT, u64::from(phase));
    }

    /// Say what the run is. Once: the words must not change under a reader.
    pub(super) fn publish_about(&self, about: &str) {
        write_text(&self.0[ABOUT_AT..HEADER_BYTES / 8], about);
        // Release: pairs with the Acquire in `about`.
        publish(&self.0[ABOUT_LENGTH_AT], about.len() as u64, &PublishOrders::SOUND);
    }

    /// What the run is; empty as long as nobody said. `None` when it makes no sense.
    pub(super) fn about(&self) -> Option<String> {
        // Acquire: pairs with the Release in `publish_about`.
        let length = observe(&self.0[ABOUT_LENGTH_AT], &PublishOrders::SOUND);
        if length == 0 {
            return Some(String::new());
        }
        let words = usize::try_from(length).ok().filter(|bytes| *bytes <= ABOUT_BYTES)?.div_ceil(8);
        read_text(&self.0[ABOUT_AT..ABOUT_AT + words])
    }

    fn get(&self, at: usize) -> u64 {
        // Relaxed: each word stands alone, or was stored before the magic or the entries that were observed before.
        self.0[at].load(Ordering::Relaxed)
    }

    fn set(&self, at: usize, value: u64) {
        // Relaxed: see `get`.
        self.0[at].store(value, Ordering::Relaxed);
    }
}

/// Store a text, padded with 0, in words that have room for it.
pub(super) fn write_text(words: &[AtomicU64], text: &str) {
    let mut bytes = text.bytes();
    for word in words {
        let eight: [u8; 8] = std::array::from_fn(|_| bytes.next().unwrap_or(0));
        // Relaxed: published with the header's magic, or with the entry.
        word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
    }
}

/// The text in words; `None` when it isn't UTF-8 or has control characters.
pub(super) fn read_text(words: &[AtomicU64]) -> Option<String> {
    // Relaxed: the magic, or the number of entries, was observed before.
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
    bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}
