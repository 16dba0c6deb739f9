//! Wakes the publisher: a descriptor that is readable while frames may wait. Rung once however many came meanwhile.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::sync::{AtomicBool, Ordering};

/// The orderings of a bell; [`Proven`] is the one to use.
pub(super) trait Orders: Send + Sync + 'static {
    /// The bell is rung after something was put in; pairs with [`Orders::HUSH`].
    const RING: Ordering = Ordering::Release;
    /// It is silenced before a look at what there is; pairs with [`Orders::RING`].
    const HUSH: Ordering = Ordering::Acquire;
}

/// The orderings that the loom model finds sufficient, and none of which it finds dispensable.
#[derive(Debug)]
pub(super) struct Proven;

impl Orders for Proven {}

/// Whether the bell has been rung since it was last silenced.
#[derive(Debug)]
struct Rung<O>(AtomicBool, PhantomData<O>);

impl<O: Orders> Rung<O> {
    fn new() -> Self {
        Self(AtomicBool::new(false), PhantomData)
    }

    /// Ring; true when whoever listens must be woken.
    #[inline]
    fn ring(&self) -> bool {
        // RING, a read-modify-write: whoever silences it next sees all that was put in before, by every ringer.
        // Pairs with HUSH in `hush`.
        !self.0.swap(true, O::RING)
    }

    /// From now on the next ring wakes again. What was put in before an earlier ring is visible after this.
    fn hush(&self) {
        // HUSH: pairs with RING in `ring`. The listener's own order before it is kept by the descriptor: reading it and
        // writing it exclude each other in the kernel.
        self.0.swap(false, O::HUSH);
    }
}

/// The bell, with its descriptors.
#[derive(Debug)]
pub(super) struct Bell {
    rung: Rung<Proven>,
    readable: OwnedFd,
    /// The end to write to, where it is another one.
    #[cfg(not(target_os = "linux"))]
    writable: OwnedFd,
}

impl Bell {
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and nobody else owns it.
        Ok(Self { rung: Rung::new(), readable: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors; the result is checked before they are used.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just created and nobody else owns them.
        let [readable, writable] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for end in [&readable, &writable] {
            // SAFETY: plain settings of a descriptor that is open.
            let set = unsafe {
                libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) != -1
                    && libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) != -1
            };
            if !set {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { rung: Rung::new(), readable, writable })
    }

    /// Readable while frames may wait.
    pub fn fileno(&self) -> RawFd {
        self.readable.as_raw_fd()
    }

    /// Something was put in.
    #[inline]
    pub fn ring(&self) {
        if self.rung.ring() {
            self.wake();
        }
    }

    /// Silence it, before a look at everything.
    pub fn hush(&self) {
        let mut bytes = [0u8; 64];
        // SAFETY: the descriptor is open and the buffer as long as said. That it was silent already is no error.
        unsafe { libc::read(self.readable.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        self.rung.hush();
    }

    fn wake(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.readable;
        #[cfg(not(target_os = "linux"))]
        let end = &self.writable;
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is open and the buffer as long as said. It refuses only when it is full, and then it is
        // readable anyway.
        unsafe { libc::write(end.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

#[cfg(all(test, not(loadgen_loom)))]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn is_readable(fd: RawFd) -> bool {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid, writable pollfd.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    #[test]
    fn it_is_readable_from_the_first_ring_until_it_is_hushed() {
        let bell = Bell::new().unwrap();
        assert!(!is_readable(bell.fileno()));
        for _ in 0..3 {
            (0..5).for_each(|_| bell.ring());
            assert!(is_readable(bell.fileno()));
            bell.hush();
            assert!(!is_readable(bell.fileno()));
        }
    }
}

#[cfg(all(test, loadgen_loom))]
mod tests {
    use loom::sync::{Arc, Mutex};

    use super::super::ring;
    use super::*;

    /// A producer puts in and rings, twice; the consumer is woken once and takes out what it finds.
    fn wake<O: Orders>() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::ring::<u32, ring::Proven>(2);
            let rung = Arc::new((Rung::<O>::new(), Mutex::new(false)));
            let theirs = Arc::clone(&rung);
            let ringing = loom::thread::spawn(move || {
                for value in 0..2 {
                    assert!(producer.push(value).is_ok());
                    if theirs.0.ring() {
                        *theirs.1.lock().unwrap() = true;
                    }
                }
            });
            *rung.1.lock().unwrap() = false;
            rung.0.hush();
            while consumer.pop().is_some() {}
            ringing.join().unwrap();
            let readable = *rung.1.lock().unwrap();
            assert!(readable || consumer.reach() == consumer.at(), "frames wait and nobody is woken");
        });
    }

    macro_rules! without {
        ($($test:ident: $order:ident;)*) => {$(
            #[test]
            #[should_panic(expected = "frames wait and nobody is woken")]
            fn $test() {
                struct Weak;
                impl Orders for Weak {
                    const $order: Ordering = Ordering::Relaxed;
                }
                wake::<Weak>();
            }
        )*};
    }

    #[test]
    fn no_frame_waits_without_a_wake_in_any_interleaving() {
        wake::<Proven>();
    }

    without! {
        without_ring_a_frame_waits_for_ever: RING;
        without_hush_a_frame_waits_for_ever: HUSH;
    }
}
