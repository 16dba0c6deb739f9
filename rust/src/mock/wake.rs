//! When to wake up for a timer: a little early, and then watch without sleeping until it is due.

/// How long before its moment a timer is watched. Measured: epoll wakes 20 to 60 µs late.
const WATCH_NS: u64 = 60_000;

/// Only timers at least so far away are watched: it then costs an eighth of a processor at the most, however many there are.
/// Those that come closer together hold each other up by no more than the sockets do.
const FAR_NS: u64 = 500_000;

/// The waits of one thread for the earliest of its timers.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// The moment that was far away when it became the next.
    far: Option<u64>,
}

impl Wake {
    /// How many nanoseconds to wait for sockets now, with the next timer at `due`: none while that is watched.
    pub(super) fn timeout(&mut self, due: u64, now: u64) -> u64 {
        let left = due.saturating_sub(now);
        if left >= FAR_NS {
            self.far = Some(due);
        }
        if self.far == Some(due) { left.saturating_sub(WATCH_NS) } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_far_away_is_slept_for_and_then_watched_until_it_is_due() {
        let mut wake = Wake::default();
        let due = 10_000_000;
        assert_eq!(wake.timeout(due, 0), due - WATCH_NS);
        assert_eq!(wake.timeout(due, due - 400_000), 400_000 - WATCH_NS, "a socket had something in between");
        assert_eq!(wake.timeout(due, due - WATCH_NS), 0);
        assert_eq!(wake.timeout(due, due - 1), 0);
        assert_eq!(wake.timeout(due, due + 1), 0);
    }

    #[test]
    fn timers_close_to_each_other_are_slept_for_to_the_end() {
        let mut wake = Wake::default();
        assert_eq!(wake.timeout(FAR_NS - 1, 0), FAR_NS - 1);
        assert_eq!(wake.timeout(FAR_NS - 1, FAR_NS - 1_000), 999);
    }

    #[test]
    fn one_that_comes_in_between_is_not_taken_for_the_one_far_away() {
        let mut wake = Wake::default();
        wake.timeout(10_000_000, 9_000_000);
        assert_eq!(wake.timeout(9_100_000, 9_000_000), 100_000);
        assert_eq!(wake.timeout(10_000_000, 9_100_000), 900_000 - WATCH_NS);
    }

    #[test]
    fn watching_takes_an_eighth_of_the_time_at_the_most() {
        // Every timer is exactly far away when the one before it has gone off: no other spacing costs more.
        let mut wake = Wake::default();
        let (mut now, mut slept) = (0, 0);
        for number in 1..=1_000 {
            let wait = wake.timeout(number * FAR_NS, now);
            slept += wait;
            now = number * FAR_NS;
        }
        assert!((now - slept) * 8 <= now, "{} of {now} ns", now - slept);
    }
}
