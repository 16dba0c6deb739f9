//! How limit, rate, what is in flight and hedges changed over time: bounded, coarser the longer it lasts.

/// Points kept at most.
const MOST: usize = 4_096;
/// The least time between two points at first: 10 ms.
const GAP: u64 = 10_000_000;

/// The state at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at_ns: u64,
    /// How many may be in flight.
    pub limit: u32,
    /// Starts per second that the pacer lets pass; not a number while it knows no bound.
    pub rate: f32,
    /// How many are in flight.
    pub in_flight: u32,
    /// How many of these are copies.
    pub hedges: u32,
}

/// Points in the order of time.
#[derive(Clone, Debug)]
pub struct Trace {
    points: Vec<Point>,
    gap: u64,
    /// The limit changed within a gap: to be noted then in any case.
    skipped: Option<Point>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { points: Vec::new(), gap: GAP, skipped: None }
    }

    /// The points; the last one is the present state.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.points.iter().copied().chain(self.skipped)
    }

    /// Note the state. Between two points there is at least the gap, which doubles whenever there are too many of them.
    #[inline]
    pub(super) fn note(&mut self, point: Point) {
        if self.points.last().is_some_and(|last| point.at_ns < last.at_ns + self.gap) {
            self.skipped = Some(point);
            return;
        }
        self.keep(point);
    }

    fn keep(&mut self, point: Point) {
        // What was the case until now: without it a plot would slope where there was a step.
        self.points.extend(self.skipped.take());
        self.points.push(point);
        if self.points.len() >= MOST {
            self.gap *= 2;
            let mut last = None;
            let gap = self.gap;
            self.points.retain(|point| {
                let keep = last.is_none_or(|last| point.at_ns >= last + gap);
                if keep {
                    last = Some(point.at_ns);
                }
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ns: u64, limit: u32) -> Point {
        Point { at_ns, limit, rate: f32::NAN, in_flight: 0, hedges: 0 }
    }

    #[test]
    fn a_step_stays_a_step_and_the_last_state_is_there() {
        let mut trace = Trace::new();
        for (ms, limit) in [(0, 8), (1, 8), (2, 4), (50, 5), (51, 6)] {
            trace.note(at(ms * 1_000_000, limit));
        }
        let seen: Vec<(u64, u32)> = trace.points().map(|p| (p.at_ns / 1_000_000, p.limit)).collect();
        assert_eq!(seen, [(0, 8), (2, 4), (50, 5), (51, 6)]);
    }

    #[test]
    fn a_long_run_has_bounded_points_over_all_of_its_time() {
        let mut trace = Trace::new();
        let end = 3_600_000;
        (0..end).for_each(|ms| trace.note(at(ms * 1_000_000, 1)));
        let times: Vec<u64> = trace.points().map(|p| p.at_ns / 1_000_000).collect();
        assert!(times.len() <= MOST + 1 && times.len() > MOST / 8, "{}", times.len());
        assert!(times.is_sorted() && times[0] == 0 && times[times.len() - 1] == end - 1);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < end / 256));
    }
}
