//! A segment as another process has it: looked at, never written, and believed only where it makes sense.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::directory::{ENTRIES, ENTRY_WORDS, Entry, FRONT_BYTES, Spec, entry_at};
use super::error::SeriesError;
use super::header::{Head, Identity, MAGIC, State};
use super::place;
use super::region::Region;
use super::shard::Merged;
use super::snapshot::{self, Detail, Snapshot, View};

/// An attached segment.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    map: Region,
    identity: Identity,
    /// What each entry says, checked, and the offset of its cells in bytes.
    entries: Vec<(Spec, u64)>,
}

impl Reader {
    /// Attach to the segment in `path`. It must be a file of this user that no other may open.
    pub fn attach(path: &Path) -> Result<Self, SeriesError> {
        let file = place::open(path)?;
        let (map, identity) = map(&file, path)?;
        let mut reader = Self { path: path.to_path_buf(), file, map, identity, entries: Vec::new() };
        reader.refresh()?;
        Ok(reader)
    }

    /// Attach to the segment of run `id`, wherever in `directories` it is.
    pub fn find(id: &str, directories: &[PathBuf]) -> Result<Self, SeriesError> {
        let mut missing = None;
        for dir in directories {
            let path = place::file_of(dir, id)?;
            match Self::attach(&path) {
                Err(SeriesError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    missing = Some(SeriesError::io("open", &path, source));
                }
                other => return other,
            }
        }
        Err(missing.unwrap_or_else(|| SeriesError::NoPlace("no directory to look in".to_owned())))
    }

    /// The file it was attached to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// What was said of the run; empty when nobody has, or when it makes no sense: nothing depends on it.
    pub fn about(&self) -> String {
        self.head().about().unwrap_or_default()
    }

    /// Whether its process still runs.
    pub fn is_alive(&self) -> bool {
        !self.identity.owner.is_dead()
    }

    /// How the run stands.
    pub fn state(&self) -> State {
        self.head().state().unwrap_or(State::Live)
    }

    /// All of it at this moment.
    pub fn snapshot(&mut self, detail: &Detail) -> Result<Snapshot, SeriesError> {
        self.refresh()?;
        Ok(snapshot::take(self.head(), &self.identity, self.is_alive(), self.views(), detail))
    }

    /// One series: of `phase`, or the newest of that name.
    pub fn merged(&mut self, name: &str, phase: Option<u16>) -> Result<Merged, SeriesError> {
        self.refresh()?;
        snapshot::merged(self.is_alive(), self.views(), name, phase)
    }

    /// Check it again, map it again if it grew, and learn of new entries.
    fn refresh(&mut self) -> Result<(), SeriesError> {
        self.head().check(&self.path)?;
        let entries = self.head().entries();
        if entries > ENTRIES as u64 || entries < self.entries.len() as u64 {
            return Err(SeriesError::damaged(&self.path, format!("a directory of {entries} entries")));
        }
        // After the entries: it covers the memory of all of them.
        if self.head().size() > self.map.bytes() as u64 {
            (self.map, self.identity) = map(&self.file, &self.path)?;
        } else {
            whole(&self.file, &self.path, self.map.bytes() as u64)?;
        }
        for index in self.entries.len()..entries as usize {
            let entry = entry(&self.map, index).check(&self.path, index, self.map.bytes() as u64)?;
            self.entries.push(entry);
        }
        Ok(())
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.entries.iter().enumerate().map(|(index, (spec, offset))| {
            let start = *offset as usize / 8;
            View { spec, entry: entry(&self.map, index), cells: &self.map.cells()[start..start + spec.words()] }
        })
    }

    fn head(&self) -> Head<'_> {
        Head(self.map.cells())
    }
}

/// Map a file as far as its header says, if the header can be believed.
fn map(file: &File, path: &Path) -> Result<(Region, Identity), SeriesError> {
    let io = |e| SeriesError::io("map", path, e);
    whole(file, path, FRONT_BYTES as u64)?;
    let front = Region::readable(file, FRONT_BYTES).map_err(io)?;
    let head = Head(front.cells());
    let identity = head.check(path)?;
    // Read once: what the header says a moment later isn't looked at. A file grows before its header says so, thus its
    // length is asked for after this.
    let size = head.size();
    if size < FRONT_BYTES as u64 || !size.is_multiple_of(8) {
        return Err(SeriesError::damaged(path, format!("a size of {size} bytes")));
    }
    whole(file, path, size)?;
    let size = usize::try_from(size).map_err(|e| SeriesError::damaged(path, e.to_string()))?;
    Ok((Region::readable(file, size).map_err(io)?, identity))
}

/// The file is still one to be trusted, and has `expected` bytes.
fn whole(file: &File, path: &Path, expected: u64) -> Result<(), SeriesError> {
    let found = place::check(file, path)?;
    if found >= expected {
        return Ok(());
    }
    let path = path.to_path_buf();
    let mut magic = [0; 8];
    if file.read_exact_at(&mut magic, 0).is_err() || magic != MAGIC {
        return Err(SeriesError::NotASegment { path });
    }
    Err(SeriesError::Truncated { path, found, expected })
}

fn entry(map: &Region, index: usize) -> Entry<'_> {
    let at = entry_at(index);
    Entry(&map.cells()[at..at + ENTRY_WORDS])
}
