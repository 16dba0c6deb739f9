//! Which bucket a value belongs to: HDR's index rule at three significant digits.
//!
//! Source: G. Tene, HdrHistogram, `countsArrayIndex`; the `hdrhistogram` crate is the oracle in the tests. Values from
//! one power of two to the next share 1,024 buckets, so a bucket is at most a thousandth as wide as its values are large.

use super::error::SeriesError;

/// Significant decimal digits of every histogram.
pub const DIGITS: u8 = 3;
/// `2 × 10^DIGITS`, rounded up to a power of two: values below that many units have a bucket each.
const SUB_BITS: u32 = 11;
const HALF: usize = 1 << (SUB_BITS - 1);

/// The range in which a series tells values apart. What lies outside counts as the nearer end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    low: u64,
    high: u64,
    unit_bits: u32,
}

impl Bounds {
    /// Times: a microsecond to an hour, in nanoseconds.
    pub const TIMES: Self = Self { low: 1_000, high: 3_600_000_000_000, unit_bits: 9 };

    /// From `low` (at least 1) to `high` (at least twice that).
    pub fn new(low: u64, high: u64) -> Result<Self, SeriesError> {
        let too_fine = low.checked_ilog2().is_none_or(|bits| bits + SUB_BITS > 63);
        if too_fine || high / 2 < low {
            return Err(SeriesError::Bounds { low, high });
        }
        Ok(Self { low, high, unit_bits: low.ilog2() })
    }

    /// The lowest value told apart from 0.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The highest value told apart from what is above.
    pub fn high(&self) -> u64 {
        self.high
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        // Octave 0 has two halves, whether or not the upper one is reached.
        (self.rule(self.high) / HALF + 1).max(2) * HALF
    }

    /// The bucket of `value`, or of the nearer end.
    #[inline]
    pub fn index(&self, value: u64) -> usize {
        self.rule(value.clamp(self.low, self.high))
    }

    /// The lowest value of a bucket.
    pub fn lowest(&self, index: usize) -> u64 {
        let (shift, sub) = self.place(index);
        sub << shift
    }

    /// The highest value of a bucket.
    pub fn highest(&self, index: usize) -> u64 {
        let (shift, sub) = self.place(index);
        (sub << shift) + ((1 << shift) - 1)
    }

    #[inline]
    fn rule(&self, value: u64) -> usize {
        let mask = ((1 << SUB_BITS) - 1) << self.unit_bits;
        let octave = 64 - self.unit_bits - SUB_BITS - (value | mask).leading_zeros();
        let sub = (value >> (octave + self.unit_bits)) as usize;
        // Octave 0 has both halves of its sub-buckets; of the others the lower half is the octave below.
        octave as usize * HALF + sub
    }

    fn place(&self, index: usize) -> (u32, u64) {
        let octave = (index / HALF).saturating_sub(1);
        (octave as u32 + self.unit_bits, (index - octave * HALF) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn bounds() -> impl Strategy<Value = (u64, u64)> {
        (0u32..50, 1u32..14).prop_flat_map(|(low, span)| {
            (1u64 << low..1 << (low + 1), 1u64 << span..1 << (span + 1)).prop_map(|(low, span)| (low, low * span))
        })
    }

    #[test]
    fn times_have_the_bounds_they_name() {
        let (low, high) = (Bounds::TIMES.low(), Bounds::TIMES.high());
        assert_eq!(Bounds::new(low, high).unwrap(), Bounds::TIMES);
        assert_eq!(Bounds::TIMES.buckets(), 24 * HALF);
    }

    #[test]
    fn bounds_that_no_histogram_can_have_are_refused() {
        for (low, high) in [(0, 100), (10, 19), (1 << 53, u64::MAX)] {
            let text = Bounds::new(low, high).unwrap_err().to_string();
            assert!(text.contains(&low.to_string()) && text.contains(&high.to_string()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_rule_is_that_of_the_reference((low, high) in bounds(), values in prop::collection::vec(any::<u64>(), 1..50)) {
            let bounds = Bounds::new(low, high).unwrap();
            let oracle = Histogram::<u64>::new_with_bounds(low, high, DIGITS).unwrap();
            prop_assert_eq!(bounds.buckets(), oracle.distinct_values());
            for value in values.into_iter().map(|v| low + v % (high - low + 1)).chain([low, high]) {
                let index = bounds.index(value);
                prop_assert!(index < bounds.buckets());
                prop_assert_eq!(bounds.lowest(index), oracle.lowest_equivalent(value));
                prop_assert_eq!(bounds.highest(index), oracle.highest_equivalent(value));
            }
        }

        #[test]
        fn what_lies_outside_is_in_the_bucket_of_the_nearer_end((low, high) in bounds(), value in any::<u64>()) {
            let bounds = Bounds::new(low, high).unwrap();
            let expected = if value < low { low } else if value > high { high } else { value };
            prop_assert_eq!(bounds.index(value), bounds.index(expected));
        }
    }
}
