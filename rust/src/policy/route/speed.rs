//! What is known of how long a node takes for an item: measured, forgotten with time, and sooner when it no longer fits.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2};

/// How much the times of one node scatter before any was seen: the standard deviation of their logarithm.
const SPREAD: f64 = 0.3;

/// How many observations the prior spread weighs as much as.
const SPREAD_WEIGHT: f64 = 4.0;

/// An observation this many standard deviations off is a surprise. One alone may be a stall, and counts as if it were just
/// so far off; the second in a row to the same side is a new speed, and what was known before counts as one observation.
const SURPRISE: f64 = 3.0;

/// An item that was dropped unfinished would have taken about this much longer than it had.
const DROPPED: f64 = 1.5;

/// The time a node takes for an item, as a lognormal whose memory halves every half-life.
#[derive(Clone, Debug)]
pub(super) struct Speed {
    half_life_ns: f64,
    /// How many observations are remembered, decayed.
    weight: f64,
    /// Mean of the logarithm of the time in nanoseconds, and the sum of squares around it.
    mean: f64,
    squares: f64,
    /// When it was last decayed.
    at: u64,
    /// Whether the last observation was a surprise: 1 too slow, -1 too fast.
    surprised: i8,
    /// What follows from the above: asked for again and again between two observations.
    follows: Follows,
}

/// What a speed comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Follows {
    /// The standard deviation of the logarithm.
    deviation: f64,
    /// The mean time of an item, in ns.
    mean_ns: f64,
    /// An item that has been under way for less is no surprise, in ns.
    usual_ns: f64,
    /// The deviation of what remains: the mean itself is only known to so much, and few observations widen what may come.
    wide: f64,
    /// The mean with that deviation, in ns.
    wide_mean_ns: f64,
}

/// Below what is a surprise by more than rounding can make out.
const SURELY: f64 = 1.0 - 1e-9;

impl Speed {
    /// Nothing is known yet.
    pub(super) fn unknown(half_life_ns: u64) -> Self {
        let follows = Follows::default();
        Self { half_life_ns: half_life_ns as f64, weight: 0.0, mean: 0.0, squares: 0.0, at: 0, surprised: 0, follows }
    }

    /// An earlier batch has measured a mean of `service_ns`; it weighs as much as `weight` observations.
    pub(super) fn remembered(half_life_ns: u64, service_ns: f64, weight: f64) -> Self {
        let mean = service_ns.ln() - SPREAD * SPREAD / 2.0;
        Self { weight, mean, squares: weight * SPREAD * SPREAD, ..Self::unknown(half_life_ns) }.settled()
    }

    /// Whether anything was ever seen.
    pub(super) fn is_known(&self) -> bool {
        self.weight > 0.0
    }

    /// An item was served in `service_ns`.
    pub(super) fn served(&mut self, now: u64, service_ns: u64) {
        self.observe(now, service_ns as f64);
    }

    /// An item was dropped unfinished after `elapsed_ns`: that tells something only if it is longer than it should have been.
    pub(super) fn dropped(&mut self, now: u64, elapsed_ns: u64) {
        let elapsed = elapsed_ns as f64;
        if self.mean_ns().is_none_or(|mean| elapsed > mean) {
            self.observe(now, elapsed * DROPPED);
        }
    }

    /// From now on it is asked otherwise: what is known counts as one observation.
    pub(super) fn shift(&mut self) {
        self.weight = self.weight.min(1.0);
        self.squares = self.squares.min(SPREAD * SPREAD);
        self.follows = self.follow();
    }

    /// The mean time of an item, in ns.
    pub(super) fn mean_ns(&self) -> Option<f64> {
        self.is_known().then_some(self.follows.mean_ns)
    }

    /// How much longer an item is expected to take that has been running for `elapsed_ns`.
    pub(super) fn left_ns(&self, elapsed_ns: u64) -> Option<f64> {
        let Follows { wide, wide_mean_ns, .. } = self.follows;
        self.is_known().then(|| left_of_lognormal(self.mean, wide, wide_mean_ns, elapsed_ns as f64))
    }

    /// What the next item will take, while one is under way since `elapsed_ns`: what takes far too long says that the node has
    /// become slow, before it says so by ending.
    pub(super) fn next_ns(&self, elapsed_ns: u64) -> Option<f64> {
        let mean = self.mean_ns()?;
        let elapsed = (elapsed_ns as f64).max(1.0);
        if elapsed < self.follows.usual_ns {
            return Some(mean);
        }
        let off = (elapsed.ln() - self.mean) / self.follows.deviation;
        Some(if off > SURPRISE { mean.max(elapsed) } else { mean })
    }

    fn observe(&mut self, now: u64, service_ns: f64) {
        let x = service_ns.max(1.0).ln();
        self.decay(now);
        let x = if self.is_known() { self.believable(x) } else { x };
        self.weight += 1.0;
        let off = x - self.mean;
        self.mean += off / self.weight;
        self.squares += off * (x - self.mean);
        self.follows = self.follow();
    }

    fn settled(mut self) -> Self {
        self.follows = self.follow();
        self
    }

    fn follow(&self) -> Follows {
        let deviation = self.deviation();
        let wide = deviation * (1.0 + 1.0 / self.weight.max(0.5)).sqrt();
        Follows {
            deviation,
            mean_ns: (self.mean + deviation * deviation / 2.0).exp(),
            usual_ns: (self.mean + SURPRISE * deviation).exp() * SURELY,
            wide,
            wide_mean_ns: (self.mean + wide * wide / 2.0).exp(),
        }
    }

    /// The observation, or what is believed of it; forgets the old speed when there is a new one.
    fn believable(&mut self, x: f64) -> f64 {
        let sd = self.deviation();
        let off = (x - self.mean) / sd;
        let side = if off > SURPRISE { 1 } else { -i8::from(off < -SURPRISE) };
        let again = side != 0 && side == self.surprised;
        self.surprised = side;
        if again {
            self.weight = self.weight.min(1.0);
            // The old scatter says nothing of the new speed.
            self.squares = 0.0;
            self.mean = x;
            return x;
        }
        self.mean + off.clamp(-SURPRISE, SURPRISE) * sd
    }

    fn decay(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at) as f64;
        self.at = now;
        let kept = (-LN_2 * passed / self.half_life_ns).exp();
        self.weight *= kept;
        self.squares *= kept;
    }

    fn deviation(&self) -> f64 {
        ((self.squares + SPREAD_WEIGHT * SPREAD * SPREAD) / (self.weight + SPREAD_WEIGHT)).sqrt().max(0.01)
    }
}

/// The mean of what remains of a lognormal time, which is `whole` at its start, when `elapsed` has passed: E[X − e | X > e].
fn left_of_lognormal(mean: f64, sd: f64, whole: f64, elapsed: f64) -> f64 {
    if elapsed <= 0.0 {
        return whole;
    }
    let off = (elapsed.ln() - mean) / sd;
    let beyond = above(off);
    // So far out that only its own age is left to judge by: it has changed its speed, and is about half-way.
    if beyond < 1e-6 {
        return elapsed;
    }
    (whole * above(off - sd) / beyond - elapsed).max(0.0)
}

/// The share of a standard normal above `x`, to 1.2e-7 of itself (a rational approximation of erfc, Numerical Recipes 6.2).
fn above(x: f64) -> f64 {
    const TERMS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let z = (x * FRAC_1_SQRT_2).abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    let series = TERMS.iter().fold(0.0, |sum, term| sum * t + term);
    let tail = 0.5 * t * (series - z * z).exp();
    if x >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn after(times: &[u64]) -> Speed {
        let mut speed = Speed::unknown(60 * S);
        let mut now = 0;
        for &time in times {
            now += time;
            speed.served(now, time);
        }
        speed
    }

    #[test]
    fn the_tail_of_the_normal_is_the_tables() {
        for (x, share) in
            [(0.0, 0.5), (1.0, 0.158_655_254), (1.96, 0.024_997_895), (-1.0, 0.841_344_746), (4.0, 3.167_124e-5)]
        {
            assert!((above(x) / share - 1.0).abs() < 1e-6, "{x}: {} {share}", above(x));
        }
    }

    #[test]
    fn nothing_seen_says_nothing() {
        let speed = Speed::unknown(S);
        assert_eq!((speed.mean_ns(), speed.left_ns(5), speed.next_ns(5)), (None, None, None));
    }

    #[test]
    fn equal_times_are_their_mean() {
        let mean = after(&[2 * S; 50]).mean_ns().unwrap();
        assert!((mean / 2e9 - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn what_remains_shrinks_and_then_grows() {
        let speed = after(&[S; 50]);
        let left: Vec<f64> = [0, S / 2, S, 2 * S, 20 * S].iter().map(|&e| speed.left_ns(e).unwrap() / 1e9).collect();
        assert!((left[0] - 1.0).abs() < 0.05, "{left:?}");
        assert!(left[1] < left[0] && left[2] < left[1], "{left:?}");
        assert!(left[4] > 10.0, "{left:?}");
    }

    #[test]
    fn one_stall_is_no_new_speed_and_two_in_a_row_are() {
        let mut speed = after(&[S; 50]);
        speed.served(100 * S, 10 * S);
        let stalled = speed.mean_ns().unwrap();
        assert!(stalled < 1.2e9, "{stalled}");
        speed.served(110 * S, 10 * S);
        let slow = speed.mean_ns().unwrap();
        assert!(slow > 9e9, "{slow}");
    }

    #[test]
    fn one_item_under_way_too_long_is_heard_before_it_ends() {
        let speed = after(&[S; 50]);
        assert!(speed.next_ns(S).unwrap() < 1.1e9);
        assert!(speed.next_ns(8 * S).unwrap() >= 8e9);
    }

    #[test]
    fn a_short_drop_says_nothing_and_a_long_one_does() {
        let mut speed = after(&[S; 5]);
        let before = speed.mean_ns();
        speed.dropped(10 * S, S / 10);
        assert_eq!(speed.mean_ns(), before);
        speed.dropped(10 * S, 3 * S);
        assert!(speed.mean_ns() > before);
    }

    #[test]
    fn the_past_is_forgotten_with_the_half_life() {
        let mut quick = Speed::unknown(10 * S);
        let mut slow = Speed::unknown(1_000 * S);
        for speed in [&mut quick, &mut slow] {
            (0..20).for_each(|_| speed.served(S, 2 * S));
            (0..4).for_each(|_| speed.served(100 * S, 3 * S / 2));
        }
        assert!(quick.mean_ns().unwrap() < 1.6e9, "{:?}", quick.mean_ns());
        assert!(slow.mean_ns().unwrap() > 1.8e9, "{:?}", slow.mean_ns());
    }

    /// The mean time of an item, from what was seen alone.
    fn mean_anew(speed: &Speed) -> Option<f64> {
        let sd = speed.deviation();
        speed.is_known().then(|| (speed.mean + sd * sd / 2.0).exp())
    }

    /// What the next item takes, from the same.
    fn next_anew(speed: &Speed, elapsed_ns: u64) -> Option<f64> {
        let (mean, sd) = (mean_anew(speed)?, speed.deviation());
        let elapsed = (elapsed_ns as f64).max(1.0);
        Some(if (elapsed.ln() - speed.mean) / sd > SURPRISE { mean.max(elapsed) } else { mean })
    }

    /// What remains of an item, from the same.
    fn left_anew(speed: &Speed, elapsed_ns: u64) -> Option<f64> {
        let sd = speed.deviation() * (1.0 + 1.0 / speed.weight.max(0.5)).sqrt();
        let whole = (speed.mean + sd * sd / 2.0).exp();
        speed.is_known().then(|| left_of_lognormal(speed.mean, sd, whole, elapsed_ns as f64))
    }

    proptest! {
        #[test]
        fn what_follows_is_always_what_follows_from_all_that_was_seen(
            remembered in prop::option::of((1.0f64..1e11, 0.5f64..20.0)),
            steps in prop::collection::vec((0u8..5, 0u64..30 * S, 0u64..100 * S), 0..40),
            around in -3i64..4,
        ) {
            let mut speed = remembered.map_or_else(|| Speed::unknown(S), |(ns, weight)| Speed::remembered(S, ns, weight));
            let mut now = 0;
            for (what, passed, time) in steps {
                now += passed;
                match what {
                    0 => speed.shift(),
                    1 => speed.dropped(now, time),
                    _ => speed.served(now, time),
                }
                // Also just where a surprise begins.
                let edge = (speed.mean + SURPRISE * speed.deviation()).exp() as u64;
                for elapsed in [time, passed, edge.saturating_add_signed(around)] {
                    prop_assert_eq!(speed.next_ns(elapsed), next_anew(&speed, elapsed));
                    prop_assert_eq!(speed.left_ns(elapsed), left_anew(&speed, elapsed));
                }
                prop_assert_eq!(speed.mean_ns(), mean_anew(&speed));
            }
        }
    }
}
