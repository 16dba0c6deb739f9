//! Mapped memory, and the one place where its bytes become atomics.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};

use crate::sync::AtomicU64;

/// Whole pages that this process has mapped, until they are dropped.
#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread, is unmapped only by `Drop`, and is reached only as atomics.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Pages of `file` from `offset` on, to be written by this process too.
    pub(super) fn writable(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        Self::map(Some((file, offset)), bytes, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// The first `bytes` of `file`, only to be looked at.
    pub(super) fn readable(file: &File, bytes: usize) -> io::Result<Self> {
        Self::map(Some((file, 0)), bytes, libc::PROT_READ)
    }

    /// Memory that nobody else sees, all 0.
    pub(super) fn private(bytes: usize) -> io::Result<Self> {
        Self::map(None, bytes, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn map(file: Option<(&File, u64)>, bytes: usize, protection: i32) -> io::Result<Self> {
        if cfg!(loadgen_loom) {
            return Err(io::Error::other("a model runs over words of its own, never over mapped bytes"));
        }
        let (flags, fd, offset) = match file {
            Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
            None => (libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0),
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced; the descriptor is open, or unused.
        let base = unsafe { libc::mmap(null_mut(), bytes, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { base, bytes })
    }

    /// The memory as words.
    #[inline(always)]
    pub(super) fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the pages are mapped readable for `bytes` as long as `self` lives, and page-aligned, so aligned for a
        // u64; any bytes are valid ones. All access of this process is by atomics through this slice. Other processes
        // change the memory too, which for atomics is what another thread's stores are. Whoever maps it readable only
        // loads: plain loads of up to 8 bytes are fine on read-only pages on all platforms we build for. What can't be
        // helped is a file that its own user truncates after it was mapped (SIGBUS): documented in docs/formats.md.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>(), self.bytes / size_of::<u64>()) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and nothing borrows it any more.
        unsafe { libc::munmap(self.base.as_ptr(), self.bytes) };
    }
}

/// The size of a page of this machine.
pub(super) fn page_bytes() -> usize {
    // SAFETY: asks for a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096).max(4096)
}

/// Give `file` memory for `bytes` from `offset` on, so that writing there can't fail later.
pub(super) fn allocate(file: &File, offset: u64, bytes: usize) -> io::Result<()> {
    let end = offset.checked_add(bytes as u64).ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    loop {
        let (from, length) = (offset as libc::off_t, (end - offset) as libc::off_t);
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), from, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    // macOS can't reserve: there a full disk is met when the page is first touched.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    file.set_len(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn what_one_mapping_of_a_file_stores_another_loads() {
        let file = tempfile::tempfile().unwrap();
        allocate(&file, 0, 2 * page_bytes()).unwrap();
        let second = Region::writable(&file, page_bytes() as u64, page_bytes()).unwrap();
        second.cells()[1].store(77, Ordering::Relaxed);
        let all = Region::readable(&file, 2 * page_bytes()).unwrap();
        assert_eq!(all.cells().len(), all.bytes() / 8);
        assert_eq!(all.cells()[page_bytes() / 8 + 1].load(Ordering::Relaxed), 77);
    }

    #[test]
    fn private_memory_is_empty() {
        let region = Region::private(page_bytes()).unwrap();
        assert!(region.cells().iter().all(|c| c.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn more_than_there_can_be_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(allocate(&file, u64::MAX, 1).is_err());
        assert!(allocate(&file, 0, 1 << 62).is_err());
    }
}
