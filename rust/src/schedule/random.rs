//! Seeded numbers: ChaCha8, one stream per purpose, so that a longer arrival plan never shifts the sample order.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream of numbers is for. The code is the ChaCha stream's number: part of the format, never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Gaps between arrivals.
    Arrivals = 1,
    /// Sample order.
    Order = 2,
    /// How long a retry backs off.
    Backoff = 3,
}

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The source for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// Go to draw number `index`, counting 64-bit draws from 0.
    pub fn seek(&mut self, index: u64) {
        self.0.set_word_pos(u128::from(index) * 2);
    }

    /// Uniform over all 64-bit numbers.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..n, by multiply and shift; its bias is below n / 2⁶⁴.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Exponential with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Standard normal, by the polar method (Marsaglia and Bray, 1964).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let s = x * x + y * y;
            if s > 0.0 && s < 1.0 {
                return x * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }

    /// Gamma of this shape and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // A gamma of shape + 1 times a power of a uniform has the smaller shape (section 6 of the source).
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 200_000;
        let xs: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = xs.iter().sum::<f64>() / n as f64;
        let variance = xs.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        (mean, variance)
    }

    #[test]
    fn exponential_normal_and_gamma_have_their_moments() {
        let mut r = Random::new(1, Purpose::Arrivals);
        let (mean, variance) = moments(|| r.exponential());
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let (mean, variance) = moments(|| r.normal());
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        for shape in [0.25, 0.9, 1.0, 4.0] {
            let (mean, variance) = moments(|| r.gamma(shape));
            assert!((mean / shape - 1.0).abs() < 0.03, "{shape}: {mean}");
            assert!((variance / shape - 1.0).abs() < 0.1, "{shape}: {variance}");
        }
    }

    #[test]
    fn purposes_and_seeds_give_different_numbers_and_the_same_give_the_same() {
        let first = |seed, purpose| Random::new(seed, purpose).bits();
        assert_eq!(first(7, Purpose::Order), first(7, Purpose::Order));
        assert_ne!(first(7, Purpose::Order), first(7, Purpose::Arrivals));
        assert_ne!(first(7, Purpose::Order), first(8, Purpose::Order));
    }

    #[test]
    fn seeking_lands_on_the_same_draw_as_walking() {
        let mut walked = Random::new(3, Purpose::Order);
        let draws: Vec<u64> = (0..50).map(|_| walked.bits()).collect();
        let mut sought = Random::new(3, Purpose::Order);
        for i in [49u64, 0, 17, 18] {
            sought.seek(i);
            assert_eq!(sought.bits(), draws[i as usize]);
        }
    }
}
