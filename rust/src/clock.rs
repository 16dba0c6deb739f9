//! The run's one clock: monotonic nanoseconds, the single wall-clock anchor that dates them, and what CPU time was used.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds of `CLOCK_MONOTONIC` now. Never 0, so 0 can stand for "not set" in a row of stamps.
#[inline]
pub fn now_ns() -> u64 {
    read_ns(libc::CLOCK_MONOTONIC).max(1)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[inline]
fn read_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec, and each of the three clocks exists on every platform we build for.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(ts.tv_nsec as u64)
}

/// Both clocks, read together once at the start of a run; every wall time in a report is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Monotonic nanoseconds at the anchor.
    pub mono_ns: u64,
    /// Unix time in nanoseconds at the anchor.
    pub wall_ns: u64,
}

impl Anchor {
    /// Read both clocks now.
    pub fn now() -> Self {
        let mono_ns = now_ns();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { mono_ns, wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// The Unix time in nanoseconds of a monotonic stamp, whatever the wall clock did since.
    pub fn wall_ns(&self, mono_ns: u64) -> u64 {
        self.wall_ns.wrapping_add(mono_ns.wrapping_sub(self.mono_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back_and_is_never_zero() {
        let stamps: Vec<u64> = (0..1000).map(|_| now_ns()).collect();
        assert!(stamps.windows(2).all(|w| w[0] <= w[1]));
        assert!(stamps[0] > 0);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = thread_cpu_ns();
        let spent = (0..100_000u64).fold(0u64, |a, b| std::hint::black_box(a ^ b));
        assert!(thread_cpu_ns() > before || spent == u64::MAX);
    }

    #[test]
    fn an_anchor_dates_stamps_before_and_after_it() {
        let anchor = Anchor { mono_ns: 1_000, wall_ns: 50_000 };
        assert_eq!(anchor.wall_ns(1_500), 50_500);
        assert_eq!(anchor.wall_ns(400), 49_400);
    }
}
