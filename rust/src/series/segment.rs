//! A segment as the process that writes it has it: made, extended, ended, removed.

use std::fs::{self, File};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::directory::{ENTRIES, ENTRY_WORDS, Entry, FRONT_BYTES, Kind, Spec, bytes_of, entry_at, fits};
use super::error::SeriesError;
use super::header::{ABOUT_BYTES, Head, Identity, Owner, State};
use super::orders::SeqOrders;
use super::place;
use super::region::{Region, allocate, page_bytes};
use super::seqlock;
use super::shard::{self, Cells, Counter, Merged, Patience, Series};
use super::snapshot::{self, Detail, Snapshot, View};
use crate::clock::{Anchor, now_ns};
use crate::sync::Arc;

/// One run's live metrics: a file that other processes of this user may look into, or, where none can be had, memory of
/// this process alone. Dropping it removes the file; who has it mapped keeps what it saw.
#[derive(Debug)]
pub struct Segment {
    front: Arc<Region>,
    identity: Identity,
    file: Option<(File, PathBuf)>,
    control: Mutex<Control>,
}

/// What registering changes.
#[derive(Debug)]
struct Control {
    entries: Vec<Placed>,
    /// How many of them are in the file's directory.
    shared: usize,
    /// Where memory that is reserved and not yet given to an entry begins and ends, in bytes.
    free: std::ops::Range<u64>,
    /// What had to be done otherwise than wanted, in sentences for the user.
    notes: Vec<String>,
    /// Whether the file is removed: another run of this name may have its own there by now.
    removed: bool,
}

/// An entry and where its cells are.
#[derive(Clone, Debug)]
struct Placed {
    spec: Spec,
    entry: Cells,
    cells: Cells,
}

impl Placed {
    fn view(&self) -> View<'_> {
        View { spec: &self.spec, entry: Entry(self.entry.get()), cells: self.cells.get() }
    }
}

/// A registered entry, to be written. It gives out one writer a shard; whoever asks twice has two writers of one shard, of
/// which the statistics then are wrong.
#[derive(Clone, Debug)]
pub struct Registered {
    placed: Placed,
}

impl Registered {
    /// One writer a shard, of a counter.
    pub fn counters(&self) -> Vec<Counter> {
        self.shards().map(Counter).collect()
    }

    /// One writer a shard, of a series; none of a counter.
    pub fn series(&self) -> Vec<Series> {
        let Kind::Series(bounds) = self.placed.spec.kind else { return Vec::new() };
        self.shards().map(|cells| Series { cells, bounds }).collect()
    }

    /// The sum over a counter's shards.
    pub fn count(&self) -> u64 {
        shard::count(self.placed.cells.get())
    }

    /// A series' shards together; nothing of a counter.
    pub fn merged(&self) -> Option<Merged> {
        let Kind::Series(bounds) = self.placed.spec.kind else { return None };
        Some(Merged::of(self.placed.cells.get(), &bounds, &mut Patience::with(true)))
    }

    fn shards(&self) -> impl Iterator<Item = Cells> {
        let stride = self.placed.spec.kind.stride();
        (0..self.placed.spec.shards).map(move |n| self.placed.cells.shard(n, stride))
    }
}

impl Segment {
    /// Make the segment of run `id` in the first of `directories` that has room for it and `reserve` bytes of cells.
    /// Without any, it is memory of this process alone. What went otherwise than wanted is in [`Self::notes`].
    pub fn create(id: &str, directories: &[PathBuf], reserve: usize) -> Result<Self, SeriesError> {
        let mut notes = Vec::new();
        // A bad id is the caller's mistake, not a directory's.
        place::file_of(Path::new("/"), id)?;
        for dir in directories {
            match Self::create_in(id, dir, reserve) {
                Ok(segment) if notes.is_empty() => return Ok(segment),
                Ok(segment) => {
                    notes.push(format!("live metrics are in {} instead", dir.display()));
                    segment.control().notes = notes;
                    return Ok(segment);
                }
                Err(error) => notes.push(error.to_string()),
            }
        }
        let segment = Self::private(id)?;
        notes.push("live metrics are in private memory: no other process can look at them".to_owned());
        segment.control().notes = notes;
        Ok(segment)
    }

    /// Memory of this process alone.
    pub fn private(id: &str) -> Result<Self, SeriesError> {
        let no_place = |error: std::io::Error| SeriesError::NoPlace(error.to_string());
        Ok(Self::around(id, Region::private(front_bytes()).map_err(no_place)?, None, front_bytes()))
    }

    fn create_in(id: &str, dir: &Path, reserve: usize) -> Result<Self, SeriesError> {
        place::prepare(dir)?;
        let path = place::file_of(dir, id)?;
        let file = place::create(&path)?;
        let bytes = front_bytes() + reserve.next_multiple_of(page_bytes());
        let made = allocate(&file, 0, bytes)
            .map_err(|e| SeriesError::io("reserve memory for", &path, e))
            .and_then(|()| Region::writable(&file, 0, front_bytes()).map_err(|e| SeriesError::io("map", &path, e)));
        match made {
            Ok(front) => Ok(Self::around(id, front, Some((file, path)), bytes)),
            Err(error) => {
                // The first error says why; a file that stays is found to be unfinished and removed later.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn around(id: &str, front: Region, file: Option<(File, PathBuf)>, bytes: usize) -> Self {
        let identity = Identity { owner: Owner::this(), id: id.to_owned(), anchor: Anchor::now() };
        Head(front.cells()).write(&identity, bytes as u64);
        let free = front.bytes() as u64..bytes as u64;
        let control = Mutex::new(Control { entries: Vec::new(), shared: 0, free, notes: Vec::new(), removed: false });
        Self { front: Arc::new(front), identity, file, control }
    }

    /// The file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| path.as_path())
    }

    /// Say what the run is, to whoever looks at it: a line of text, once.
    pub fn describe(&self, about: &str) -> Result<(), SeriesError> {
        fits("the description", about, 1, ABOUT_BYTES)?;
        let _one_at_a_time = self.control();
        if !self.about().is_empty() {
            return Err(SeriesError::Taken("a description".to_owned()));
        }
        self.head().publish_about(about);
        Ok(())
    }

    /// What was said of the run; empty before.
    pub fn about(&self) -> String {
        self.head().about().unwrap_or_default()
    }

    /// What went otherwise than wanted: no space in shared memory, a directory that isn't to be trusted.
    pub fn notes(&self) -> Vec<String> {
        self.control().notes.clone()
    }

    /// Something else that the user should be told.
    pub fn note(&self, sentence: String) {
        self.control().notes.push(sentence);
    }

    /// Register counters and series, all or none; their cells are reserved here and now. Where there is no more memory to
    /// share, they get private one: this process sees them, others don't, and the notes say so.
    pub fn register(&self, specs: &[Spec]) -> Result<Vec<Registered>, SeriesError> {
        let mut control = self.control();
        control.check(specs)?;
        let first = control.entries.len();
        match self.reserve(&mut control, bytes_of(specs)) {
            Ok((region, base)) => self.share(&mut control, specs, &region, base),
            Err(error) if error.is_no_space() => {
                control
                    .notes
                    .push(format!("{error}; no other process can look at {} and what comes next", specs[0].name));
                control.keep(specs)?;
            }
            Err(error) => return Err(error),
        }
        Ok(control.entries[first..].iter().map(|placed| Registered { placed: placed.clone() }).collect())
    }

    /// Give entries to another phase, emptied. None of them may have a writer any more.
    pub fn reuse(&self, entries: &[Registered], phase: u16) {
        let mut control = self.control();
        for Registered { placed } in entries {
            let entry = Entry(placed.entry.get());
            seqlock::write(entry.generation(), &SeqOrders::SOUND, || {
                entry.set_phase(Some(phase));
                shard::clear(placed.cells.get(), placed.spec.kind.stride());
            });
            let same = control.entries.iter_mut().find(|e| e.entry.is(&placed.entry));
            same.into_iter().for_each(|placed| placed.spec.phase = Some(phase));
        }
    }

    /// A phase begins.
    pub fn begin(&self, phase: u16) {
        self.head().set_phase(phase, now_ns());
    }

    /// Go on to another state; what was recorded before is seen by whoever sees a last state. To the same one again does
    /// no harm.
    pub fn advance(&self, to: State) -> Result<(), SeriesError> {
        let _one_at_a_time = self.control();
        let from = self.head().state().unwrap_or(State::Live);
        if to != from && (to < from || from.is_last()) {
            return Err(SeriesError::State { from: from.name(), to: to.name() });
        }
        self.head().publish_state(to);
        Ok(())
    }

    /// How the run stands.
    pub fn state(&self) -> State {
        self.head().state().unwrap_or(State::Live)
    }

    /// All of it at this moment.
    pub fn snapshot(&self, detail: &Detail) -> Snapshot {
        let entries = self.control().entries.clone();
        snapshot::take(self.head(), &self.identity, true, entries.iter().map(Placed::view), detail)
    }

    /// One series: of `phase`, or the newest of that name.
    pub fn merged(&self, name: &str, phase: Option<u16>) -> Result<Merged, SeriesError> {
        let entries = self.control().entries.clone();
        snapshot::merged(true, entries.iter().map(Placed::view), name, phase)
    }

    /// Remove the file; what is mapped stays. Again and again does no harm.
    pub fn remove(&self) {
        if let Some((_, path)) = &self.file
            && self.identity.owner.pid == u64::from(std::process::id())
            && !mem::replace(&mut self.control().removed, true)
        {
            // Gone already, or in a directory that is: either way nothing is left.
            let _ = fs::remove_file(path);
        }
    }

    fn share(&self, control: &mut Control, specs: &[Spec], region: &Arc<Region>, base: u64) {
        let mut start = 0;
        for spec in specs {
            let entry = Cells::new(Arc::clone(&self.front), entry_at(control.shared), ENTRY_WORDS);
            Entry(entry.get()).write(spec, base + start as u64 * 8);
            let cells = Cells::new(Arc::clone(region), start, spec.words());
            control.entries.push(Placed { spec: spec.clone(), entry, cells });
            control.shared += 1;
            start += spec.words();
        }
        // After the size, the entries and their memory.
        self.head().publish_entries(control.shared as u64);
    }

    /// Map `bytes` more of the file, out of what is reserved or by letting it grow; the offset where they begin.
    fn reserve(&self, control: &mut Control, bytes: usize) -> Result<(Arc<Region>, u64), SeriesError> {
        let bytes = bytes.next_multiple_of(page_bytes());
        let Some((file, path)) = &self.file else {
            let region = Region::private(bytes).map_err(|e| SeriesError::NoPlace(e.to_string()))?;
            return Ok((Arc::new(region), self.front.bytes() as u64));
        };
        let missing = (bytes as u64).saturating_sub(control.free.end - control.free.start);
        if missing > 0 {
            // All of them whole pages: what is left of the memory that is reserved and what comes behind it are one piece.
            allocate(file, control.free.end, missing as usize)
                .map_err(|e| SeriesError::io("reserve more memory for", path, e))?;
            control.free.end += missing;
            self.head().set_size(control.free.end);
        }
        let offset = control.free.start;
        let region = Region::writable(file, offset, bytes).map_err(|e| SeriesError::io("map", path, e))?;
        control.free.start += bytes as u64;
        Ok((Arc::new(region), offset))
    }

    fn head(&self) -> Head<'_> {
        Head(self.front.cells())
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A poisoned lock means a panic between two steps of registering; what was published is whole all the same.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Control {
    fn check(&self, specs: &[Spec]) -> Result<(), SeriesError> {
        if self.entries.len() + specs.len() > ENTRIES {
            return Err(SeriesError::Full { asked: specs.len(), used: self.entries.len() });
        }
        for (n, spec) in specs.iter().enumerate() {
            spec.check()?;
            let mut others = self.entries.iter().map(|placed| &placed.spec).chain(&specs[..n]);
            if others.any(|other| other.name == spec.name && other.phase == spec.phase) {
                return Err(SeriesError::Taken(spec.name.clone()));
            }
        }
        Ok(())
    }

    /// Entries in memory of this process alone.
    fn keep(&mut self, specs: &[Spec]) -> Result<(), SeriesError> {
        let bytes = specs.len() * ENTRY_WORDS * 8 + bytes_of(specs);
        let region = Region::private(bytes.next_multiple_of(page_bytes()));
        let region = Arc::new(region.map_err(|e| SeriesError::NoPlace(e.to_string()))?);
        let mut start = 0;
        for spec in specs {
            let entry = Cells::new(Arc::clone(&region), start, ENTRY_WORDS);
            Entry(entry.get()).write(spec, 0);
            let cells = Cells::new(Arc::clone(&region), start + ENTRY_WORDS, spec.words());
            start += ENTRY_WORDS + spec.words();
            self.entries.push(Placed { spec: spec.clone(), entry, cells });
        }
        Ok(())
    }
}

/// Bytes of header and directory, in whole pages.
fn front_bytes() -> usize {
    FRONT_BYTES.next_multiple_of(page_bytes())
}
