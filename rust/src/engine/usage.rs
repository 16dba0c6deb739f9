//! What the run costs this machine, and what the machine withholds: CPU time, stolen time, throttling.

/// CPU time of this process in nanoseconds.
pub(super) fn process_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of the calling thread in nanoseconds.
pub(super) fn thread_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Ticks that the hypervisor gave to others, over all CPUs; `None` where the kernel does not tell.
pub(super) fn steal_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    steal_of(stat.lines().next()?)
}

/// Nanoseconds that the container's CPU limit held this group back; `None` where there is no such limit.
pub(super) fn throttled_ns() -> Option<u64> {
    throttled_of(&std::fs::read_to_string("/sys/fs/cgroup/cpu.stat").ok()?)
}

fn cpu_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// The eighth number of the `cpu` line (proc(5)).
fn steal_of(line: &str) -> Option<u64> {
    line.strip_prefix("cpu ")?.split_ascii_whitespace().nth(7)?.parse().ok()
}

fn throttled_of(stat: &str) -> Option<u64> {
    let micros = stat.lines().find_map(|l| l.strip_prefix("throttled_usec "))?;
    Some(micros.parse::<u64>().ok()? * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number() {
        assert_eq!(steal_of("cpu  10 20 30 40 50 60 70 80 90 100"), Some(80));
        assert_eq!(steal_of("cpu  10 20"), None);
    }

    #[test]
    fn throttling_is_read_in_microseconds() {
        assert_eq!(throttled_of("usage_usec 5\nthrottled_usec 7\n"), Some(7_000));
        assert_eq!(throttled_of("usage_usec 5\n"), None);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = thread_cpu_ns();
        let spent = (0..100_000u64).fold(0u64, |a, b| std::hint::black_box(a ^ b));
        assert!(thread_cpu_ns() > before || spent == u64::MAX);
    }
}
