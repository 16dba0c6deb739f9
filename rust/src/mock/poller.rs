//! Waiting for sockets and for a moment at once, to the nanosecond: epoll on Linux, kqueue elsewhere.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a socket may do now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    /// The key it was registered with.
    pub key: u64,
    /// Bytes, an end or an error can be read.
    pub read: bool,
    /// Bytes can be written.
    pub write: bool,
}

/// How many sockets one wait reports; small, so that a crowd of them cannot hold back what is due.
const BATCH: usize = 64;

#[cfg(target_os = "linux")]
pub(super) use linux::Poller;

#[cfg(not(target_os = "linux"))]
pub(super) use bsd::Poller;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// An epoll instance, level-triggered.
    pub(in super::super) struct Poller {
        fd: OwnedFd,
        events: [libc::epoll_event; BATCH],
        ready: usize,
        has_pwait2: bool,
    }

    impl Poller {
        pub(in super::super) fn new() -> io::Result<Self> {
            // SAFETY: no pointers; the result is checked below.
            let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fd` was just made and nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: PR_SET_TIMERSLACK takes a number and concerns the calling thread only. It cannot fail in a way
            // that matters: without it waits end up to 50 µs later.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1usize) };
            Ok(Self { fd, events: [libc::epoll_event { events: 0, u64: 0 }; BATCH], ready: 0, has_pwait2: true })
        }

        /// Watch a socket for reading, and for writing if `write`.
        pub(in super::super) fn add(&self, socket: RawFd, key: u64, write: bool) -> io::Result<()> {
            self.control(libc::EPOLL_CTL_ADD, socket, key, true, write)
        }

        /// Change what is watched.
        pub(in super::super) fn change(&self, socket: RawFd, key: u64, read: bool, write: bool) -> io::Result<()> {
            self.control(libc::EPOLL_CTL_MOD, socket, key, read, write)
        }

        fn control(&self, verb: i32, socket: RawFd, key: u64, read: bool, write: bool) -> io::Result<()> {
            let mut events = 0;
            if read {
                events |= libc::EPOLLIN;
            }
            if write {
                events |= libc::EPOLLOUT;
            }
            let mut event = libc::epoll_event { events: events as u32, u64: key };
            // SAFETY: both descriptors are open (owned by us and by the caller), and `event` outlives the call.
            let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), verb, socket, &mut event) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        }

        /// Wait until a socket is ready or `timeout` nanoseconds passed; `None` waits for ever.
        pub(in super::super) fn wait(&mut self, timeout: Option<u64>) -> io::Result<usize> {
            self.ready = 0;
            let result = if self.has_pwait2 { self.pwait2(timeout) } else { self.wait_ms(timeout) };
            if result >= 0 {
                self.ready = result as usize;
                return Ok(self.ready);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => Ok(0),
                // The kernel is older, or a container's filter of system calls is, which says EPERM.
                Some(libc::ENOSYS | libc::EPERM) if self.has_pwait2 => {
                    self.has_pwait2 = false;
                    Ok(0)
                }
                _ => Err(error),
            }
        }

        /// The kernel allows itself a lateness of a thousandth of the timeout, so long waits end early and are
        /// followed by a shorter one.
        fn pwait2(&mut self, timeout: Option<u64>) -> i64 {
            let ns = timeout.map(|ns| if ns > 8_000_000 { ns - ns / 8 } else { ns });
            let ts = ns.map(|ns| [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64]);
            let ts_ptr = ts.as_ref().map_or(std::ptr::null(), |ts| ts.as_ptr());
            // Called by number: the C library of older systems has no wrapper. The kernel's structure is two 64-bit
            // numbers on every platform.
            // SAFETY: `events` holds BATCH entries, `ts_ptr` is null or points to a live kernel timespec, and a null
            // signal mask of size 0 is allowed.
            unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd.as_raw_fd(),
                    self.events.as_mut_ptr(),
                    BATCH as libc::c_int,
                    ts_ptr,
                    std::ptr::null::<libc::sigset_t>(),
                    0usize,
                ) as i64
            }
        }

        /// For kernels before 5.11: whole milliseconds, and the rest is spun away.
        fn wait_ms(&mut self, timeout: Option<u64>) -> i64 {
            let ms = timeout.map_or(-1, |ns| i32::try_from(ns / 1_000_000).unwrap_or(i32::MAX));
            // SAFETY: `events` holds BATCH entries.
            i64::from(unsafe {
                libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), BATCH as libc::c_int, ms)
            })
        }

        /// The `i`-th of the ready sockets.
        pub(in super::super) fn get(&self, i: usize) -> Ready {
            let libc::epoll_event { events, u64: key } = self.events[..self.ready][i];
            let bad = (libc::EPOLLHUP | libc::EPOLLERR) as u32;
            Ready {
                key,
                read: events & (libc::EPOLLIN as u32 | bad) != 0,
                write: events & (libc::EPOLLOUT as u32 | bad) != 0,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod bsd {
    use super::*;

    /// A kqueue.
    pub(in super::super) struct Poller {
        fd: OwnedFd,
        events: Vec<libc::kevent>,
        ready: usize,
    }

    impl Poller {
        pub(in super::super) fn new() -> io::Result<Self> {
            // SAFETY: no arguments; the result is checked below.
            let fd = unsafe { libc::kqueue() };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fd` was just made and nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            Ok(Self { fd, events: vec![entry(0, 0, 0, 0); BATCH], ready: 0 })
        }

        /// Watch a socket for reading, and for writing if `write`.
        pub(in super::super) fn add(&self, socket: RawFd, key: u64, write: bool) -> io::Result<()> {
            self.change(socket, key, true, write)
        }

        /// Change what is watched.
        pub(in super::super) fn change(&self, socket: RawFd, key: u64, read: bool, write: bool) -> io::Result<()> {
            for (filter, on) in [(libc::EVFILT_READ, read), (libc::EVFILT_WRITE, write)] {
                let verb = if on { libc::EV_ADD } else { libc::EV_DELETE };
                let change = entry(socket, filter, verb, key);
                // SAFETY: one change is read, no events are returned, the timeout is null.
                let result =
                    unsafe { libc::kevent(self.fd.as_raw_fd(), &change, 1, std::ptr::null_mut(), 0, std::ptr::null()) };
                let error = io::Error::last_os_error();
                // Deleting what was never added is no error to us.
                if result < 0 && (on || error.raw_os_error() != Some(libc::ENOENT)) {
                    return Err(error);
                }
            }
            Ok(())
        }

        /// Wait until a socket is ready or `timeout` nanoseconds passed; `None` waits for ever.
        pub(in super::super) fn wait(&mut self, timeout: Option<u64>) -> io::Result<usize> {
            let ts = timeout.map(|ns| libc::timespec {
                tv_sec: (ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (ns % 1_000_000_000) as libc::c_long,
            });
            let ts_ptr = ts.as_ref().map_or(std::ptr::null(), |ts| ts as *const _);
            self.ready = 0;
            // SAFETY: no changes; `events` holds BATCH entries; `ts_ptr` is null or points to a live timespec.
            let result = unsafe {
                libc::kevent(
                    self.fd.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    self.events.as_mut_ptr(),
                    BATCH as libc::c_int,
                    ts_ptr,
                )
            };
            if result >= 0 {
                self.ready = result as usize;
                return Ok(self.ready);
            }
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
        }

        /// The `i`-th of the ready sockets.
        pub(in super::super) fn get(&self, i: usize) -> Ready {
            let event = &self.events[..self.ready][i];
            Ready {
                key: event.udata as usize as u64,
                read: event.filter == libc::EVFILT_READ,
                write: event.filter == libc::EVFILT_WRITE,
            }
        }
    }

    fn entry(socket: RawFd, filter: i16, flags: u16, key: u64) -> libc::kevent {
        libc::kevent {
            ident: socket as libc::uintptr_t,
            filter,
            flags,
            fflags: 0,
            data: 0,
            udata: key as usize as *mut libc::c_void,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::now_ns;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_no_earlier_than_its_moment_and_reports_what_is_ready() {
        let mut poller = Poller::new().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        poller.add(far.as_raw_fd(), 42, false).unwrap();

        let due = now_ns() + 3_000_000;
        while now_ns() < due {
            assert_eq!(poller.wait(Some(due.saturating_sub(now_ns()))).unwrap(), 0);
        }

        near.write_all(b"x").unwrap();
        assert_eq!(poller.wait(None).unwrap(), 1);
        let ready = poller.get(0);
        assert_eq!((ready.key, ready.read, ready.write), (42, true, false));

        poller.change(far.as_raw_fd(), 43, false, true).unwrap();
        assert_eq!(poller.wait(None).unwrap(), 1);
        let ready = poller.get(0);
        assert_eq!((ready.key, ready.read, ready.write), (43, false, true));
    }
}
