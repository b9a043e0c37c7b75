//! How many of so many values are how large, in a fixed number of bytes.
//!
//! Values below eight have a bucket each; above, each doubling is cut into eight equal parts. So a percentile is told as
//! at most an eighth more than it is, however many values there were.

/// Parts of one doubling.
const PARTS: usize = 8;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// What has more bits shares the last bucket: in microseconds, what took above an hour.
const BITS_MAX: u32 = 32;
const BUCKETS: usize = PARTS * (BITS_MAX - PART_BITS + 1) as usize;

/// Counts of values by their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    count: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, largest: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.largest = self.largest.max(value);
    }

    /// Values that were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The end of the bucket of the smallest value that so many of a hundred are not above; none if there is no value.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut passed = 0;
        let reached = self.counts.iter().position(|count| {
            passed += u128::from(*count);
            passed >= rank
        })?;
        Some(end_of(reached).min(self.largest))
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS as u64 {
        return value as usize;
    }
    let bits = u64::BITS - value.leading_zeros();
    if bits > BITS_MAX {
        return BUCKETS - 1;
    }
    // The part is what the bits behind the leading one begin with.
    let part = (value >> (bits - 1 - PART_BITS)) as usize - PARTS;
    PARTS * (bits - PART_BITS) as usize + part
}

/// The largest value of a bucket; the last one has none.
fn end_of(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let (octave, part) = (bucket / PARTS, bucket % PARTS);
    (((PARTS + part + 1) as u64) << (octave - 1)) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_is_no_percentile_of_nothing() {
        assert_eq!(Histogram::default().percentile(50), None);
    }

    #[test]
    fn each_value_lies_in_its_bucket_and_each_bucket_follows_the_one_before() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(super::bucket(end_of(bucket)), bucket);
            assert_eq!(super::bucket(end_of(bucket) + 1), bucket + 1);
        }
        assert_eq!(super::bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_percentile_is_at_most_an_eighth_too_large(
            mut values in prop::collection::vec(0_u64..4_000_000_000, 1..300),
            percent in 1_u64..=100,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.add(*value));
            values.sort_unstable();
            let exact = values[(values.len() * percent as usize).div_ceil(100) - 1];
            let told = histogram.percentile(percent).unwrap();
            prop_assert!(told >= exact && told <= exact + exact / 8, "{told} for {exact}");
            prop_assert_eq!(histogram.count(), values.len() as u64);
        }
    }
}
