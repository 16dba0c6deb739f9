//! Where segments lie: one file a run in a private directory, and the removal of what dead runs left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::directory::FRONT_BYTES;
use super::error::SeriesError;
use super::header::{Head, ID_BYTES};
use super::region::Region;

/// How a segment's file name ends.
pub const SUFFIX: &str = ".series";
/// A file that is no segment yet gets so long to become one.
const UNFINISHED: Duration = Duration::from_secs(60);

/// The directories that a segment may lie in, the best first: that of the user's session, shared memory, and at last a
/// plain directory of temporary files, which works where there is no shared memory or no space in it.
pub fn directories() -> Vec<PathBuf> {
    // SAFETY: asks for a number that this process has.
    let own = format!("loadgen-{}", unsafe { libc::geteuid() });
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir());
    let memory = Path::new("/dev/shm");
    let mut all: Vec<PathBuf> = runtime.map(|dir| dir.join("loadgen")).into_iter().collect();
    all.extend(memory.is_dir().then(|| memory.join(&own)));
    all.push(std::env::temp_dir().join(own));
    all
}

/// Make the directory if it isn't there; refuse one that others may enter, own or have put there as a link.
pub(super) fn prepare(dir: &Path) -> Result<(), SeriesError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SeriesError::io("create", dir, error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(dir).map_err(|e| SeriesError::io("look at", dir, e))?;
    let foreign = |why| Err(SeriesError::Foreign { path: dir.to_path_buf(), why });
    match () {
        () if !found.is_dir() => foreign("a directory of this user is wanted, and this is a link or a file"),
        () if !is_own(&found) => foreign("another user owns it"),
        () if found.mode() & 0o077 != 0 => foreign("others may enter it: its mode must be 0700"),
        () => Ok(()),
    }
}

/// The file of a run in `dir`.
pub(super) fn file_of(dir: &Path, id: &str) -> Result<PathBuf, SeriesError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > ID_BYTES || id.starts_with('.') || !id.bytes().all(fine) {
        return Err(SeriesError::Id(id.to_owned()));
    }
    Ok(dir.join(format!("{id}{SUFFIX}")))
}

/// Create a file that wasn't there, for this user alone.
pub(super) fn create(path: &Path) -> Result<File, SeriesError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(|e| SeriesError::io("create", path, e))
}

/// Open a file that this user, and no other, can have written.
pub(super) fn open(path: &Path) -> Result<File, SeriesError> {
    let mut options = OpenOptions::new();
    // A pipe in its place must not block.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| SeriesError::io("open", path, e))?;
    check(&file, path)?;
    Ok(file)
}

/// The size of an open file, if it still is one that only this user can have written.
pub(super) fn check(file: &File, path: &Path) -> Result<u64, SeriesError> {
    let found = file.metadata().map_err(|e| SeriesError::io("look at", path, e))?;
    let foreign = |why| Err(SeriesError::Foreign { path: path.to_path_buf(), why });
    match () {
        () if !found.is_file() => foreign("it is not a plain file"),
        () if !is_own(&found) => foreign("another user owns it"),
        () if found.mode() & 0o077 != 0 => foreign("others may open it: its mode must be 0600"),
        () => Ok(found.len()),
    }
}

/// The segments in `dirs`, whoever's they are and however they stand, in the order of the directories and their names.
pub fn list(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for dir in dirs {
        // A directory that isn't there has no segments, and one that isn't ours none that we would believe.
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let mut here: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        here.retain(|path| path.to_string_lossy().ends_with(SUFFIX));
        here.sort();
        all.extend(here);
    }
    all
}

/// Remove the segments of dead runs from `dirs`; which those were. What isn't ours, or lives, stays.
pub fn clean(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut removed = list(dirs);
    // A file that can't be removed is left for the next time: nothing depends on it.
    removed.retain(|path| is_stale(path) && fs::remove_file(path).is_ok());
    removed
}

fn is_stale(path: &Path) -> bool {
    let Ok(file) = open(path) else { return false };
    if check(&file, path).is_ok_and(|size| size >= FRONT_BYTES as u64)
        && let Ok(front) = Region::readable(&file, FRONT_BYTES)
        && let Some(owner) = Head(front.cells()).any_owner()
    {
        return owner.is_dead();
    }
    // Its writer was killed before it was through, or is about to be.
    let age = file.metadata().and_then(|m| m.modified()).map(|at| SystemTime::now().duration_since(at));
    matches!(age, Ok(Ok(age)) if age > UNFINISHED)
}

fn is_own(found: &fs::Metadata) -> bool {
    // SAFETY: asks for a number that this process has.
    found.uid() == unsafe { libc::geteuid() }
}
