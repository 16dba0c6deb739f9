//! Which value a percentile is: one convention for live metrics and for reports.

/// Nearest rank of percentile `percent` among `n` values: the least rank with at least that share at or below it.
pub fn nearest_rank(percent: f64, n: u64) -> u64 {
    // In units of 10⁻⁶ %, so that 99.9 % of 1,000 is rank 999 and not 1,000 by a rounding error.
    let share = (percent * 1e6).round() as u128;
    let rank = (share * u128::from(n)).div_ceil(100_000_000);
    (rank as u64).clamp(1, n.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ranks_are_those_of_the_definition() {
        for (percent, n, rank) in [
            (50.0, 1, 1),
            (50.0, 2, 1),
            (50.0, 3, 2),
            (90.0, 10, 9),
            (99.9, 1_000, 999),
            (99.9, 999, 999),
            (99.0, 100, 99),
            (100.0, 7, 7),
            (0.0, 7, 1),
            (99.999, 100_000, 99_999),
        ] {
            assert_eq!(nearest_rank(percent, n), rank, "p{percent} of {n}");
        }
    }
}
