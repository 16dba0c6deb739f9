//! A file descriptor that is readable while something waits to be taken: an event loop can wait for what threads bring.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sync::{AtomicBool, Ordering};

/// The orderings of a bell, which its loom model weakens one by one; [`Proven`] is the one to use.
trait Orders: Send + Sync + 'static {
    /// It is rung after something was put down; pairs with [`Orders::HUSH`].
    const RING: Ordering = Ordering::Release;
    /// It is hushed before what there is gets taken; pairs with [`Orders::RING`].
    const HUSH: Ordering = Ordering::Acquire;
}

/// The orderings that the model finds sufficient, and none of which it finds dispensable.
#[derive(Debug)]
struct Proven;

impl Orders for Proven {}

/// Whether it has been rung since it was last hushed.
#[derive(Debug)]
struct Rung<O>(AtomicBool, PhantomData<O>);

impl<O: Orders> Rung<O> {
    fn new() -> Self {
        Self(AtomicBool::new(false), PhantomData)
    }

    /// True when this ring is the first one since the last hush.
    #[inline]
    fn ring(&self) -> bool {
        // RING, a read-modify-write: pairs with the swap in `hush`. Whoever finds it rung leaves the waking to a hush that
        // comes later in the flag's order, and that hush sees what was put down before this, by every ringer.
        !self.0.swap(true, O::RING)
    }

    fn hush(&self) {
        // HUSH: pairs with the swap in `ring`.
        self.0.swap(false, O::HUSH);
    }
}

/// Rung by those who bring something, hushed by the one who takes it. Ringing takes no lock, and a system call only the
/// first time after each hush.
#[derive(Debug)]
pub struct Bell {
    rung: Rung<Proven>,
    wire: Wire,
}

impl Bell {
    /// A silent bell.
    pub fn new() -> io::Result<Self> {
        Ok(Self { rung: Rung::new(), wire: Wire::new()? })
    }

    /// Tell the taker that there is something. To be called after it was put where the taker looks.
    pub fn ring(&self) {
        if self.rung.ring() {
            self.wire.pull();
        }
    }

    /// Be silent until the next ring. To be called before taking, so that nothing put down meanwhile is overlooked.
    pub fn hush(&self) {
        // The wire first: were the flag cleared before it, a ring in between would be wiped from the wire, and the flag
        // would keep every later one from it. The kernel keeps the two in order: a ring that finds the flag cleared
        // pulls a wire whose clearing has taken its lock before.
        self.wire.clear();
        self.rung.hush();
    }

    /// The descriptor: readable from a ring to the next hush. It belongs to the bell.
    pub fn fd(&self) -> RawFd {
        self.wire.readable.as_raw_fd()
    }
}

/// What the kernel knows of it.
#[derive(Debug)]
struct Wire {
    readable: OwnedFd,
    /// The other end of a pipe; an eventfd has none.
    #[cfg(not(target_os = "linux"))]
    writable: OwnedFd,
}

impl Wire {
    /// Make it readable. It stays so however often this is called; a full one is readable already.
    fn pull(&self) {
        let one = 1u64.to_ne_bytes();
        #[cfg(target_os = "linux")]
        let (end, bytes) = (&self.readable, &one[..]);
        #[cfg(not(target_os = "linux"))]
        let (end, bytes) = (&self.writable, &one[..1]);
        // SAFETY: `bytes` is readable for its whole length, and `end` is open.
        unsafe { libc::write(end.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    }

    /// Make it unreadable.
    fn clear(&self) {
        let mut bytes = [0u8; 8];
        // SAFETY: `bytes` is writable for its whole length, and the descriptor is open. It never blocks.
        while unsafe { libc::read(self.readable.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
    }

    #[cfg(target_os = "linux")]
    fn new() -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open, and nobody else owns it.
        Ok(Self { readable: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> io::Result<Self> {
        let (readable, writable) = io::pipe()?;
        let (readable, writable) = (OwnedFd::from(readable), OwnedFd::from(writable));
        for end in [&readable, &writable] {
            // SAFETY: no pointers; `end` is open.
            if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { readable, writable })
    }
}

#[cfg(all(test, not(loadgen_loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    fn is_readable(bell: &Bell, timeout: Duration) -> bool {
        let mut poll = libc::pollfd { fd: bell.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        (unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as i32) }) == 1
    }

    #[test]
    fn it_is_readable_from_a_ring_to_the_next_hush() {
        let bell = Bell::new().unwrap();
        assert!(!is_readable(&bell, Duration::ZERO));
        (0..3).for_each(|_| bell.ring());
        assert!(is_readable(&bell, Duration::ZERO));
        bell.hush();
        assert!(!is_readable(&bell, Duration::ZERO));
        bell.hush();
        bell.ring();
        assert!(is_readable(&bell, Duration::ZERO));
    }

    #[test]
    fn a_taker_that_sleeps_until_it_rings_misses_nothing() {
        const EACH: usize = 20_000;
        let bell = Bell::new().unwrap();
        let (sender, receiver) = channel();
        let deadline = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (sender, bell) = (sender.clone(), &bell);
                scope.spawn(move || {
                    for i in 0..EACH {
                        sender.send(i).unwrap();
                        bell.ring();
                    }
                });
            }
            let mut taken = 0;
            while taken < 2 * EACH {
                assert!(is_readable(&bell, deadline - Instant::now()), "asleep after {taken}");
                bell.hush();
                taken += receiver.try_iter().count();
            }
        });
    }
}

#[cfg(all(test, loadgen_loom))]
mod model {
    use loom::sync::{Arc, Mutex};

    use super::*;
    use crate::sync::AtomicU64;

    /// Something is put down and rung for, twice; whoever takes is woken once and takes what it sees.
    fn wake<O: Orders>() {
        loom::model(|| {
            let there = Arc::new((AtomicU64::new(0), Rung::<O>::new(), Mutex::new(false)));
            let theirs = Arc::clone(&there);
            let ringing = loom::thread::spawn(move || {
                for n in 1..=2 {
                    // Relaxed: the flag's orderings are what is on trial.
                    theirs.0.store(n, Ordering::Relaxed);
                    if theirs.1.ring() {
                        *theirs.2.lock().unwrap() = true;
                    }
                }
            });
            *there.2.lock().unwrap() = false;
            there.1.hush();
            let taken = there.0.load(Ordering::Relaxed);
            ringing.join().unwrap();
            assert!(taken == 2 || *there.2.lock().unwrap(), "something waits and nobody is woken");
        });
    }

    macro_rules! without {
        ($($test:ident: $order:ident;)*) => {$(
            #[test]
            #[should_panic(expected = "something waits and nobody is woken")]
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
    fn nothing_waits_without_a_wake_in_any_interleaving() {
        wake::<Proven>();
    }

    without! {
        without_ring_something_waits_for_ever: RING;
        without_hush_something_waits_for_ever: HUSH;
    }
}
