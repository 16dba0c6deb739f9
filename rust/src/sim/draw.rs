//! Random draws that are a function of (seed, item, copy) alone, so that every strategy meets the same service.

/// The draws of one attempt: its `copy`-th of an item, or `PROMPT` for what all copies share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    base: u64,
}

/// Stands for the item itself where an attempt's number would stand.
pub(super) const PROMPT: u32 = u32::MAX;

impl Draws {
    pub(super) fn new(seed: u64, item: u32, copy: u32) -> Self {
        let at = (u64::from(item) << 32) | u64::from(copy);
        Self { base: mix(mix(seed) ^ mix(at.wrapping_add(0x51_7c_c1_b7_27_22_0a_95))) }
    }

    /// The `k`-th number in [0, 1), in steps of 2⁻⁵³.
    pub(super) fn unit(self, k: u64) -> f64 {
        (mix(self.base ^ mix(k)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The `k`-th standard normal (Box and Muller, 1958); takes two draws of its own.
    pub(super) fn normal(self, k: u64) -> f64 {
        let (u, v) = (1.0 - self.unit(k), self.unit(k + (1 << 32)));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_attempt_draws_the_same_whoever_asks_and_another_one_does_not() {
        assert_eq!(Draws::new(1, 2, 3).unit(0), Draws::new(1, 2, 3).unit(0));
        let others = [Draws::new(2, 2, 3), Draws::new(1, 3, 3), Draws::new(1, 2, 4), Draws::new(1, 3, 2)];
        for other in others {
            assert_ne!(other.unit(0), Draws::new(1, 2, 3).unit(0));
        }
        assert_ne!(Draws::new(1, 2, 3).unit(0), Draws::new(1, 2, 3).unit(1));
    }

    #[test]
    fn normals_have_their_mean_and_variance() {
        let n = 100_000u32;
        let xs: Vec<f64> = (0..n).map(|i| Draws::new(5, i, 0).normal(2)).collect();
        let mean = xs.iter().sum::<f64>() / f64::from(n);
        let variance = xs.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
