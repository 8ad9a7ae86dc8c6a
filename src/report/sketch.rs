//! Quantiles of times within a bounded error, in bounded memory.

use std::collections::BTreeMap;

/// Error of a quantile, as a share of it.
pub const ERROR: f64 = 0.01;
/// Buckets of each power of two, as a power of two. The middle of a bucket is at most 1/256 from its values.
const BITS: u32 = 7;

/// Counts of values by buckets whose width is a share of their values: at most [`Sketch::MAX_BUCKETS`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    least: u64,
    most: u64,
}

impl Sketch {
    /// Most buckets: of the values below 2^7 each has its own, and each power of two above has 2^7.
    pub const MAX_BUCKETS: usize = ((64 - BITS as usize) + 1) << BITS;

    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.count += 1;
    }

    /// The value at or below which `percent` of all are, within [`ERROR`]; `None` without values.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = u64::try_from((u128::from(self.count) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX).max(1);
        let mut seen = 0u64;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(bucket, _)| three_digits(middle(*bucket)).clamp(self.least, self.most))
    }
}

/// Its highest bits, and their place.
fn bucket(value: u64) -> u16 {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    // At most 8 bits and a shift of at most 56: below 2^14.
    ((u64::from(shift) << BITS) + (value >> shift)) as u16
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let top = u64::from(bucket) - (u64::from(shift) << BITS);
    (top << shift) + ((1u64 << shift) >> 1)
}

/// Rounded to three digits, which is a change of at most 0.5 %.
fn three_digits(value: u64) -> u64 {
    let mut unit = 1u64;
    while value / unit >= 1000 {
        unit *= 10;
    }
    value.saturating_add(unit / 2) / unit * unit
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_its_error_of_the_true_one() {
        let mut random = fastrand::Rng::with_seed(7);
        for spread in [1, 40, 300, 1_000, 250_000, 90_000_000, u64::MAX / 3] {
            let mut values: Vec<u64> = (0..2_000).map(|_| random.u64(0..spread)).collect();
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(*value));
            values.sort_unstable();
            for percent in [1, 50, 90, 99, 100] {
                let exact = values[values.len() * percent as usize / 100 - 1];
                let found = sketch.percentile(percent).unwrap();
                assert!(found.abs_diff(exact) as f64 <= ERROR * exact as f64, "{spread} p{percent}: {found} for {exact}");
            }
        }
    }

    #[test]
    fn one_value_is_exact_and_none_is_none() {
        for value in [0, 1, 127, 128, 255, 256, 257, 123_456_789, u64::MAX] {
            let mut sketch = Sketch::default();
            assert_eq!(sketch.percentile(50), None);
            sketch.add(value);
            assert_eq!((sketch.percentile(50), sketch.percentile(99)), (Some(value), Some(value)));
        }
    }

    #[test]
    fn every_value_is_in_the_bucket_whose_middle_is_near() {
        for value in (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, (1u64 << bit).wrapping_sub(1), (1 << bit) | (1 << bit >> 3)]) {
            let near = middle(bucket(value));
            assert!(near.abs_diff(value) <= value / 256, "{value}: {near}");
            assert!(usize::from(bucket(value)) < Sketch::MAX_BUCKETS, "{value}");
        }
        assert!(bucket(u64::MAX) > bucket(u64::MAX / 2) && bucket(128) > bucket(127));
    }
}
