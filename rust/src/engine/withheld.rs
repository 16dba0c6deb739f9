//! What the machine withholds from a run: stolen time, and throttling.

/// Ticks that the hypervisor gave to others, over all CPUs; `None` where the kernel does not tell.
pub(super) fn steal_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    steal_of(stat.lines().next()?)
}

/// Nanoseconds that the container's CPU limit held this group back; `None` where there is no such limit.
pub(super) fn throttled_ns() -> Option<u64> {
    throttled_of(&std::fs::read_to_string("/sys/fs/cgroup/cpu.stat").ok()?)
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
}
