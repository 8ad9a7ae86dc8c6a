//! Quantiles of times within a bounded error, in bounded memory.

use std::collections::BTreeMap;

/// How near quantiles are to the true ones, and with it the memory of a sketch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 2^7 buckets of each power of two, at most 7,424.
    #[default]
    Fine,
    /// 2^4 buckets of each power of two, at most 976.
    Coarse,
}

impl Precision {
    /// Error of a quantile, as a share of it: half of a bucket's width, and 0.5 % of rounding.
    pub const fn error(self) -> f64 {
        match self {
            Self::Fine => 0.01,
            Self::Coarse => 0.04,
        }
    }

    /// Buckets of each power of two, as a power of two.
    const fn bits(self) -> u32 {
        match self {
            Self::Fine => 7,
            Self::Coarse => 4,
        }
    }

    /// Most buckets: each value below 2^bits has its own, and each power of two above has 2^bits.
    pub const fn max_buckets(self) -> usize {
        ((64 - self.bits() as usize) + 1) << self.bits()
    }

    /// The bucket of a value: its highest bits, and their place.
    fn bucket(self, value: u64) -> u16 {
        let shift = (u64::BITS - value.leading_zeros()).saturating_sub(self.bits() + 1);
        // At most 8 bits and a shift of at most 56, or 5 bits and 59: below 2^14.
        ((u64::from(shift) << self.bits()) + (value >> shift)) as u16
    }

    /// The middle of a bucket.
    fn middle(self, bucket: u16) -> u64 {
        let shift = (bucket >> self.bits()).saturating_sub(1);
        let top = u64::from(bucket) - (u64::from(shift) << self.bits());
        (top << shift) + ((1u64 << shift) >> 1)
    }
}

/// Counts of values by buckets whose width is a share of their values: at most [`Precision::max_buckets`] of them, and no more than
/// values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    precision: Precision,
    buckets: BTreeMap<u16, u64>,
    count: u64,
    least: u64,
    most: u64,
}

impl Sketch {
    /// Of no values.
    pub fn new(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        *self.buckets.entry(self.precision.bucket(value)).or_default() += 1;
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.count += 1;
    }

    /// The value at or below which `percent` of all are, within [`Precision::error`]; `None` without values.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = u64::try_from((u128::from(self.count) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX).max(1);
        let mut seen = 0u64;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(bucket, _)| three_digits(self.precision.middle(*bucket)).clamp(self.least, self.most))
    }
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
mod tests {
    use super::*;

    const BOTH: [Precision; 2] = [Precision::Fine, Precision::Coarse];

    #[test]
    fn a_percentile_is_within_its_error_of_the_true_one() {
        let mut random = fastrand::Rng::with_seed(7);
        for (spread, precision) in
            [1, 40, 300, 1_000, 250_000, 90_000_000, u64::MAX / 3].into_iter().flat_map(|spread| BOTH.map(|p| (spread, p)))
        {
            let mut values: Vec<u64> = (0..2_000).map(|_| random.u64(0..spread)).collect();
            let mut sketch = Sketch::new(precision);
            values.iter().for_each(|value| sketch.add(*value));
            values.sort_unstable();
            for percent in [1, 50, 90, 99, 100] {
                let exact = values[values.len() * percent as usize / 100 - 1];
                let found = sketch.percentile(percent).unwrap();
                let most = precision.error() * exact as f64;
                assert!(found.abs_diff(exact) as f64 <= most, "{spread} {precision:?} p{percent}: {found} for {exact}");
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
            for (precision, share) in [(Precision::Fine, 256), (Precision::Coarse, 32)] {
                let bucket = precision.bucket(value);
                let near = precision.middle(bucket);
                assert!(near.abs_diff(value) <= value / share, "{value} {precision:?}: {near}");
                assert!(usize::from(bucket) < precision.max_buckets(), "{value} {precision:?}");
            }
        }
        for precision in BOTH {
            let bucket = |value| precision.bucket(value);
            assert!(bucket(u64::MAX) > bucket(u64::MAX / 2) && bucket(128) > bucket(127 - 8));
        }
        assert_eq!(BOTH.map(Precision::max_buckets), [7_424, 976]);
    }
}
