//! Which ranks hold a percentile and its confidence interval: order statistics, no distribution assumed.

/// Half of what a 95 % interval leaves out.
const TAIL: f64 = 0.025;
/// The normal distribution's 97.5 % point.
const Z: f64 = 1.959_963_984_540_054;
/// Up to this many values beyond the percentile the binomial is summed, however many there are in all; with more, its
/// normal approximation is within one rank.
const SUMMED_UP_TO: f64 = 5_000.0;

/// Ranks of the two ends of the 95 % confidence interval of a percentile; `None` where the sample is too small to
/// have such an end.
///
/// `X(l) ≤ ξ ≤ X(u)` holds with P(l ≤ B < u), B binomial(n, q), whatever the distribution: l is the greatest rank
/// with P(B < l) ≤ 2.5 %, u the least with P(B ≥ u) ≤ 2.5 %. Source: David & Nagaraja, Order Statistics, 3rd ed.,
/// section 7.1.
pub(super) fn interval_ranks(percent: f64, n: u64) -> (Option<u64>, Option<u64>) {
    let q = percent / 100.0;
    if n == 0 || q <= 0.0 || q >= 1.0 {
        return (None, None);
    }
    // n − B is binomial with 1 − q: the rarer side is summed, and the other's ranks are counted from the far end.
    let rarer = q.min(1.0 - q);
    if n as f64 * rarer > SUMMED_UP_TO {
        let (mean, deviation) = (n as f64 * q, (n as f64 * q * (1.0 - q)).sqrt());
        let lower = (mean - Z * deviation - 0.5).floor();
        let upper = (mean + Z * deviation + 0.5).ceil() + 1.0;
        return ((lower >= 1.0).then_some(lower as u64), (upper <= n as f64).then_some(upper as u64));
    }
    let (lower, upper) = summed_ranks(rarer, n);
    let from_the_end = |rank: u64| n + 1 - rank;
    if q > 0.5 { (upper.map(from_the_end), lower.map(from_the_end)) } else { (lower, upper) }
}

/// The interval of a series pooled from `clusters` streams: as wide as if each stream had given a single value.
///
/// Gaps of one stream are not independent; taking each stream for one observation is the widest they can make it
/// (design effect = cluster size; Kish, Survey Sampling, 1965, section 5.4).
pub(super) fn clustered_ranks(percent: f64, n: u64, clusters: u64) -> (Option<u64>, Option<u64>) {
    let clusters = clusters.min(n);
    let (lower, upper) = interval_ranks(percent, clusters);
    let scale = |rank: u64, up: bool| {
        let scaled = u128::from(rank) * u128::from(n);
        let divisor = u128::from(clusters);
        (if up { scaled.div_ceil(divisor) } else { scaled / divisor }) as u64
    };
    (lower.map(|rank| scale(rank - 1, false).max(1)), upper.map(|rank| scale(rank, true).min(n)))
}

/// Greatest l with P(B < l) ≤ 2.5 % and least u with P(B < u) ≥ 97.5 %, for B binomial(n, q).
fn summed_ranks(q: f64, n: u64) -> (Option<u64>, Option<u64>) {
    let odds = (q / (1.0 - q)).ln();
    // By logarithms: the first masses are far below what a float can hold.
    let mut log_mass = n as f64 * (1.0 - q).ln();
    let (mut below, mut lower) = (0.0, 0);
    for rank in 0..=n {
        if below <= TAIL {
            lower = rank;
        }
        if below >= 1.0 - TAIL {
            return ((lower > 0).then_some(lower), Some(rank));
        }
        below += log_mass.exp();
        log_mass += ((n - rank) as f64 / (rank + 1) as f64).ln() + odds;
    }
    ((lower > 0).then_some(lower), None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_the_median_are_the_tabulated_ones() {
        // Ranks of the 95 % interval of a median (Conover, Practical Nonparametric Statistics, table A3).
        for (n, lower, upper) in [(6, 1, 6), (10, 2, 9), (15, 4, 12), (20, 6, 15), (50, 18, 33), (100, 40, 61)] {
            assert_eq!(interval_ranks(50.0, n), (Some(lower), Some(upper)), "n {n}");
        }
        assert_eq!(interval_ranks(50.0, 5), (None, None));
    }

    #[test]
    fn a_percentile_needs_enough_values_beyond_it() {
        // 0.99^n ≤ 2.5 % from n = 368 on, 0.999^n from 3,688 on.
        assert_eq!(interval_ranks(99.0, 367).1, None);
        assert_eq!(interval_ranks(99.0, 368).1, Some(368));
        assert_eq!(interval_ranks(99.9, 3_687).1, None);
        assert_eq!(interval_ranks(99.9, 3_688).1, Some(3_688));
        // The same far above: 0.9999^n from 36,887 on, 0.99999^n from 368,887 on.
        assert_eq!(interval_ranks(99.99, 36_886).1, None);
        assert_eq!(interval_ranks(99.99, 36_887).1, Some(36_887));
        assert_eq!(interval_ranks(99.999, 368_886).1, None);
        assert_eq!(interval_ranks(99.999, 368_887).1, Some(368_887));
    }

    #[test]
    fn a_percentile_and_its_mirror_have_mirrored_intervals() {
        for (percent, n) in [(1.0, 500), (10.0, 77), (25.0, 4_000), (0.125, 40_000)] {
            let (lower, upper) = interval_ranks(percent, n);
            let mirror = (upper.map(|rank| n + 1 - rank), lower.map(|rank| n + 1 - rank));
            assert_eq!(interval_ranks(100.0 - percent, n), mirror, "p{percent} of {n}");
        }
    }

    #[test]
    fn the_approximation_meets_the_sum() {
        let summed = interval_ranks(90.0, 50_000);
        let approximated = interval_ranks(90.0, 50_010);
        // Ten more values: nine ranks further.
        let summed = (summed.0.map(|rank| rank + 9), summed.1.map(|rank| rank + 9));
        assert!(summed.0.unwrap().abs_diff(approximated.0.unwrap()) <= 2, "{summed:?} {approximated:?}");
        assert!(summed.1.unwrap().abs_diff(approximated.1.unwrap()) <= 3, "{summed:?} {approximated:?}");
    }

    #[test]
    fn pooled_gaps_get_the_interval_of_their_streams() {
        assert_eq!(clustered_ranks(50.0, 1_000, 10), (Some(100), Some(900)));
        assert_eq!(clustered_ranks(50.0, 1_000, 4), (None, None));
    }
}
