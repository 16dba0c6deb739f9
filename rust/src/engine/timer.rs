//! Issue times: sleep on a timer of the kernel's until shortly before, then spin while the sockets are polled.
//!
//! The runtime's own timers count milliseconds; they serve time-outs and never decide when a request goes out.

use crate::clock::now_ns;

/// How long before its time the loop starts to spin. Measured: timerfd wakes 30 to 43 µs late.
const SPIN_NS: u64 = 60_000;

/// Below this mean gap spinning would never end, and the next arrival is due anyway.
const SPIN_MIN_GAP_NS: f64 = 200_000.0;

/// Waits for absolute monotonic times.
pub(super) struct IssueTimer {
    clock: platform::Clock,
    spin_ns: u64,
}

impl IssueTimer {
    /// A timer for arrivals with this mean gap on this worker.
    pub(super) fn new(mean_gap_ns: f64) -> std::io::Result<Self> {
        let spin_ns = if mean_gap_ns < SPIN_MIN_GAP_NS { 0 } else { SPIN_NS };
        Ok(Self { clock: platform::Clock::new()?, spin_ns })
    }

    /// Return at `deadline`, as close as can be, never before it.
    pub(super) async fn until(&mut self, deadline: u64) {
        loop {
            let now = now_ns();
            if now >= deadline {
                return;
            }
            if deadline - now > self.spin_ns {
                self.clock.sleep_until(deadline - self.spin_ns, now).await;
            } else {
                // Back after one poll of the sockets, so that streams are stamped while we wait.
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timerfd on the monotonic clock.
    pub(super) struct Clock {
        fd: AsyncFd<OwnedFd>,
        /// The moment it is set to and has not told of yet.
        set_to: Option<u64>,
    }

    impl Clock {
        pub(super) fn new() -> io::Result<Self> {
            // SAFETY: no pointers; the result is checked before it is used.
            let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fd` was just created and nobody else owns it.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: the descriptor is open, and `owned` keeps it open and the same until the `AsyncFd` drops it.
            let registered = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) };
            Ok(Self { fd: registered?, set_to: None })
        }

        pub(super) async fn sleep_until(&mut self, at_ns: u64, _now: u64) {
            // Who waits for a moment and is called away comes back for the same one, mostly.
            if self.set_to != Some(at_ns) {
                self.arm(at_ns);
                self.set_to = Some(at_ns);
            }
            // An error here means that the runtime is going down; the caller looks at the clock either way.
            if let Ok(mut guard) = self.fd.readable().await {
                let mut ticks = [0u8; 8];
                // SAFETY: a timerfd read writes exactly 8 bytes into a buffer of 8.
                unsafe { libc::read(self.fd.as_raw_fd(), ticks.as_mut_ptr().cast(), 8) };
                guard.clear_ready();
                self.set_to = None;
            }
        }

        fn arm(&self, at_ns: u64) {
            let at = libc::timespec {
                tv_sec: (at_ns / 1_000_000_000) as _,
                tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
            };
            let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
            // SAFETY: `once` lives through the call; the old value is not asked for.
            unsafe {
                libc::timerfd_settime(self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &once, std::ptr::null_mut());
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::time::Duration;

    /// The runtime's timer: a millisecond coarse, which the report's trust section shows as send lateness.
    pub(super) struct Clock;

    impl Clock {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn sleep_until(&mut self, at_ns: u64, now: u64) {
            tokio::time::sleep(Duration::from_nanos(at_ns - now)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[test]
    fn it_may_be_called_away_and_asked_for_another_moment_or_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = IssueTimer::new(0.0).unwrap();
            let far = now_ns() + 3_600_000_000_000;
            for near in [0, 1_000_000, 2_000_000] {
                {
                    let mut waiting = std::pin::pin!(timer.until(far));
                    let looked = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx)));
                    assert!(looked.await.is_pending());
                }
                let deadline = now_ns() + near;
                timer.until(deadline).await;
                assert!(now_ns() >= deadline);
            }
        });
    }

    #[test]
    fn it_never_returns_before_its_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for gap in [0.0, 1e9] {
                let mut timer = IssueTimer::new(gap).unwrap();
                for step in [1, 1_000, 100_000, 2_000_000] {
                    let deadline = now_ns() + step;
                    timer.until(deadline).await;
                    assert!(now_ns() >= deadline);
                }
            }
        });
    }
}
