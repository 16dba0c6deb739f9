//! Random draws that are a pure function of (seed, request, purpose, k), and the distributions a user can name.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::config::ConfigError;

/// What a draw is for, so that two uses of one request never share randomness.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Purpose {
    Ttft = 1,
    Gap = 2,
    Length = 3,
    ChunkTokens = 4,
    Error = 5,
    Stall = 6,
    Id = 7,
    /// Drawn by the prompt, not by the request.
    PromptStall = 8,
    /// Likewise.
    Word = 9,
    /// Rule `n` of the faults draws with `Fault + n`.
    Fault = 1 << 16,
}

/// A source of draws for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    base: u64,
}

impl Draws {
    pub(super) fn new(seed: u64, index: u64) -> Self {
        Self { base: mix(seed ^ mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15))) }
    }

    /// 64 random bits for the `k`-th use of `purpose`.
    pub(super) fn bits(self, purpose: u64, k: u64) -> u64 {
        mix(self.base ^ mix(purpose.wrapping_shl(40) ^ k))
    }

    /// A number in [0, 1).
    pub(super) fn unit(self, purpose: u64, k: u64) -> f64 {
        (self.bits(purpose, k) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A distribution of non-negative numbers; what falls below zero is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dist {
    /// Always this.
    Constant(f64),
    /// Evenly between the two.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// The bell curve, cut at zero.
    Normal {
        /// Its middle.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// The exponential of a bell curve: a long tail to the right.
    Lognormal {
        /// Half of the draws lie below it.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Memoryless gaps.
    Exponential {
        /// Its mean.
        mean: f64,
    },
}

impl Dist {
    /// The `k`-th draw for `purpose`.
    pub(super) fn draw(&self, draws: Draws, purpose: Purpose, k: u64) -> f64 {
        let purpose = purpose as u64;
        let value = match *self {
            Self::Constant(value) => return value,
            Self::Uniform { low, high } => low + (high - low) * draws.unit(purpose, k),
            Self::Normal { mean, std } => mean + std * bell(draws, purpose, k),
            Self::Lognormal { median, sigma } => median * (sigma * bell(draws, purpose, k)).exp(),
            Self::Exponential { mean } => -mean * (1.0 - draws.unit(purpose, k)).ln(),
        };
        value.max(0.0)
    }

    pub(super) fn check(&self, key: &'static str) -> Result<(), ConfigError> {
        let good = |x: f64| x.is_finite() && x >= 0.0;
        let ok = match *self {
            Self::Constant(value) => good(value),
            Self::Uniform { low, high } => good(low) && good(high) && low <= high,
            Self::Normal { mean, std } => good(mean) && good(std),
            Self::Lognormal { median, sigma } => good(median) && good(sigma),
            Self::Exponential { mean } => good(mean),
        };
        if ok { Ok(()) } else { Err(ConfigError::Distribution { key, value: format!("{self:?}") }) }
    }
}

/// A standard normal number (Box, Muller, "A note on the generation of random normal deviates", 1958).
fn bell(draws: Draws, purpose: u64, k: u64) -> f64 {
    let radius = (-2.0 * (1.0 - draws.unit(purpose, 2 * k)).ln()).sqrt();
    radius * (std::f64::consts::TAU * draws.unit(purpose, 2 * k + 1)).cos()
}

/// A distribution of times: numbers are milliseconds, strings carry their unit (`"50ms"`, `"2s"`, `"300us"`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay(pub Dist);

impl Delay {
    /// Always this many milliseconds.
    pub const fn ms(value: f64) -> Self {
        Self(Dist::Constant(value))
    }

    /// The `k`-th draw for `purpose`, in nanoseconds.
    pub(super) fn draw_ns(&self, draws: Draws, purpose: Purpose, k: u64) -> u64 {
        // A float-to-integer cast saturates; an hour bounds what a tail can ask for.
        ((self.0.draw(draws, purpose, k) * 1e6) as u64).min(3_600_000_000_000)
    }
}

impl Delay {
    /// The delay in nanoseconds, if it is always the same.
    pub(super) fn steady_ns(&self) -> Option<u64> {
        matches!(self.0, Dist::Constant(_)).then(|| self.draw_ns(Draws::new(0, 0), Purpose::Gap, 0))
    }
}

/// A span of time in nanoseconds, written as a delay that never varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Delay(dist) = Delay::deserialize(input)?;
        match dist {
            Dist::Constant(ms) if ms.is_finite() && ms >= 0.0 => Ok(Self((ms * 1e6) as u64)),
            _ => Err(D::Error::custom("a span of time is a number of milliseconds, 0 or more, or text with a unit")),
        }
    }
}

/// A distribution of whole numbers of tokens, rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count(pub Dist);

impl Count {
    /// The `k`-th draw for `purpose`, at least 1.
    pub(super) fn draw(&self, draws: Draws, purpose: Purpose, k: u64) -> u32 {
        (self.0.draw(draws, purpose, k).round() as u32).max(1)
    }
}

impl Count {
    /// The count, if it is always the same.
    pub(super) fn steady(&self) -> Option<u32> {
        matches!(self.0, Dist::Constant(_)).then(|| self.draw(Draws::new(0, 0), Purpose::ChunkTokens, 0))
    }
}

/// How a distribution may be written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
    Named(Named),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Named {
    Constant(Quantity),
    Uniform { low: Quantity, high: Quantity },
    Normal { mean: Quantity, std: Quantity },
    Lognormal { median: Quantity, sigma: f64 },
    Exponential { mean: Quantity },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(f64),
    Text(String),
}

impl Quantity {
    fn value(self, unit: fn(&str) -> Result<f64, String>) -> Result<f64, String> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Text(text) => unit(&text),
        }
    }
}

fn read<'de, D: Deserializer<'de>>(input: D, unit: fn(&str) -> Result<f64, String>) -> Result<Dist, D::Error> {
    let written = Written::deserialize(input).map_err(|_| {
        D::Error::custom(
            "a distribution is a number, a string with a unit, or one of {\"constant\": x}, {\"uniform\": {\"low\", \
             \"high\"}}, {\"normal\": {\"mean\", \"std\"}}, {\"lognormal\": {\"median\", \"sigma\"}}, \
             {\"exponential\": {\"mean\"}}",
        )
    })?;
    let named = match written {
        Written::Number(value) => Ok(Dist::Constant(value)),
        Written::Text(text) => unit(&text).map(Dist::Constant),
        Written::Named(named) => named.dist(unit),
    };
    named.map_err(D::Error::custom)
}

impl Named {
    fn dist(self, unit: fn(&str) -> Result<f64, String>) -> Result<Dist, String> {
        Ok(match self {
            Self::Constant(value) => Dist::Constant(value.value(unit)?),
            Self::Uniform { low, high } => Dist::Uniform { low: low.value(unit)?, high: high.value(unit)? },
            Self::Normal { mean, std } => Dist::Normal { mean: mean.value(unit)?, std: std.value(unit)? },
            Self::Lognormal { median, sigma } => Dist::Lognormal { median: median.value(unit)?, sigma },
            Self::Exponential { mean } => Dist::Exponential { mean: mean.value(unit)? },
        })
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        read(input, milliseconds).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        read(input, |text| Err(format!("{text:?} is not a number of tokens"))).map(Self)
    }
}

/// Read `"50ms"`, `"2s"`, `"300us"`, `"1m"` or a bare number of milliseconds.
fn milliseconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "" | "ms" => 1.0,
        "us" | "µs" => 1e-3,
        "ns" => 1e-6,
        "s" => 1e3,
        "m" => 60e3,
        _ => return Err(format!("{text:?} is not a time; write 50ms, 300us, 2s or 1m")),
    };
    number
        .trim()
        .parse::<f64>()
        .map(|value| value * scale)
        .map_err(|_| format!("{text:?} is not a time; write 50ms, 300us, 2s or 1m"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn delay(json: &str) -> Delay {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_way_to_write_a_time_is_read() {
        assert_eq!(delay("50"), Delay::ms(50.0));
        assert_eq!(delay("\"50ms\""), Delay::ms(50.0));
        assert_eq!(delay("{\"constant\": \"2s\"}"), Delay::ms(2000.0));
        assert_eq!(delay("{\"uniform\": {\"low\": \"300us\", \"high\": 1}}").0, Dist::Uniform { low: 0.3, high: 1.0 });
        assert_eq!(
            delay("{\"lognormal\": {\"median\": 50, \"sigma\": 0.5}}").0,
            Dist::Lognormal { median: 50.0, sigma: 0.5 }
        );
        let error = serde_json::from_str::<Delay>("\"5 parsecs\"").unwrap_err().to_string();
        assert!(error.contains("5 parsecs"), "{error}");
        assert!(serde_json::from_str::<Delay>("{\"gauss\": 1}").is_err());
    }

    #[test]
    fn draws_repeat_by_seed_and_differ_by_everything_else() {
        let first = Draws::new(7, 3).bits(1, 0);
        assert_eq!(first, Draws::new(7, 3).bits(1, 0));
        for other in [Draws::new(8, 3).bits(1, 0), Draws::new(7, 4).bits(1, 0), Draws::new(7, 3).bits(2, 0)] {
            assert_ne!(first, other);
        }
        assert_ne!(first, Draws::new(7, 3).bits(1, 1));
    }

    #[test]
    fn distributions_have_the_means_their_names_promise() {
        let cases = [
            (Dist::Uniform { low: 2.0, high: 6.0 }, 4.0),
            (Dist::Normal { mean: 10.0, std: 2.0 }, 10.0),
            (Dist::Exponential { mean: 3.0 }, 3.0),
            (Dist::Lognormal { median: 5.0, sigma: 0.5 }, 5.0 * (0.125f64).exp()),
        ];
        for (dist, mean) in cases {
            let n = 100_000u64;
            let sum: f64 = (0..n).map(|i| dist.draw(Draws::new(1, i), Purpose::Ttft, 0)).sum();
            let got = sum / n as f64;
            assert!((got / mean - 1.0).abs() < 0.02, "{dist:?}: {got} instead of {mean}");
        }
    }
}
