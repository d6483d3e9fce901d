//! A sketch of a distribution that answers quantiles within 1 % of the value: DDSketch (Masson, Rim, Lee; VLDB 2019).
//!
//! A value is counted in the bucket of its logarithm, so buckets are as wide as 2 % of the values in them. Counts are signed
//! and add up: sketches merge, what was added can be taken away again, and the order of both does not matter. A maintained
//! view and a query that use it therefore agree exactly, which no sketch with sampling or centroids could promise.
//!
//! ```
//! use weir_operators::sketch::Sketch;
//!
//! let mut sketch = Sketch::default();
//! (1..=1000).for_each(|ms| sketch.add(f64::from(ms)));
//! let p95 = sketch.quantile(0.95).unwrap();
//! assert!((p95 - 950.0).abs() <= 0.01 * 951.0, "{p95}");
//! ```

/// How far a quantile may be from the value of that rank, relative to the value.
pub const RELATIVE_ERROR: f64 = 0.01;
/// The logarithm of the ratio of a bucket's bounds, `(1 + ε) / (1 − ε)`.
const LOG_GAMMA: f64 = 0.020_000_666_706_669_435;
/// Magnitudes below this count as zero.
pub const LEAST_MAGNITUDE: f64 = 1e-9;

/// The counts of a distribution.
///
/// Takes 8 bytes for every bucket between the least and the greatest value of a sign: below 1,200 for values that lie
/// within ten orders of magnitude, and below 72,000 for any two values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    positive: Buckets,
    negative: Buckets,
    zero: i64,
}

/// Counts of neighbouring buckets. Neither the first nor the last is zero, so equal contents are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Buckets {
    first: i32,
    counts: Vec<i64>,
}

/// Bytes that are not those of a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no sketch of this version")]
pub struct NoSketch;

/// The first byte of the serial form; another would mean another relative error or another layout.
const VERSION: u8 = 1;

impl Sketch {
    /// Counts a value; NaN counts nowhere, infinities count as the greatest finite values.
    pub fn add(&mut self, value: f64) {
        self.count(value, 1);
    }

    /// Takes back a value that was added.
    pub fn remove(&mut self, value: f64) {
        self.count(value, -1);
    }

    /// Counts a value `weight` times; a negative weight takes back.
    pub fn count(&mut self, value: f64, weight: i64) {
        if value.is_nan() || weight == 0 {
            return;
        }
        let magnitude = value.abs().min(f64::MAX);
        if magnitude < LEAST_MAGNITUDE {
            self.zero += weight;
        } else if value > 0.0 {
            self.positive.count(index(magnitude), weight);
        } else {
            self.negative.count(index(magnitude), weight);
        }
    }

    /// Adds all that another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
        self.zero += other.zero;
    }

    /// How many values are counted.
    pub fn len(&self) -> i64 {
        self.positive.total() + self.negative.total() + self.zero
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() <= 0
    }

    /// The value of rank `⌊q · (n − 1)⌋` in ascending order, to within [`RELATIVE_ERROR`]; `None` without values. `q` is
    /// brought into 0 to 1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let n = self.len();
        if n <= 0 || q.is_nan() {
            return None;
        }
        let mut rank = (q.clamp(0.0, 1.0) * (n - 1) as f64).floor() as i64;
        // Ascending: the greatest negative magnitude first.
        for (index, count) in self.negative.iter().rev() {
            rank -= count;
            if rank < 0 {
                return Some(-magnitude(index));
            }
        }
        rank -= self.zero;
        if rank < 0 {
            return Some(0.0);
        }
        for (index, count) in self.positive.iter() {
            rank -= count;
            if rank < 0 {
                return Some(magnitude(index));
            }
        }
        None
    }

    /// The serial form, the same for equal contents: version, zeros, then for each sign the number of buckets and each
    /// bucket that has a count as index and count, all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.zero.to_le_bytes());
        for buckets in [&self.positive, &self.negative] {
            let filled = || buckets.iter().filter(|(_, count)| *count != 0);
            bytes.extend_from_slice(&(filled().count() as u32).to_le_bytes());
            for (index, count) in filled() {
                bytes.extend_from_slice(&index.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads the serial form.
    ///
    /// # Errors
    /// Where the bytes are not those of [`Sketch::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoSketch> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [VERSION] {
            return Err(NoSketch);
        }
        let zero = i64::from_le_bytes(take(&mut rest)?);
        let mut read = || {
            let mut buckets = Buckets::default();
            for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
                let (index, count) = (i32::from_le_bytes(take(&mut rest)?), i64::from_le_bytes(take(&mut rest)?));
                if !INDEXES.contains(&index) {
                    return Err(NoSketch);
                }
                buckets.count(index, count);
            }
            Ok(buckets)
        };
        let (positive, negative) = (read()?, read()?);
        if rest.is_empty() { Ok(Self { positive, negative, zero }) } else { Err(NoSketch) }
    }

    /// What it takes in memory beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        (self.positive.counts.capacity() + self.negative.counts.capacity()) * size_of::<i64>()
    }
}

/// The buckets that values can be in: those of `LEAST_MAGNITUDE` and of the greatest number, rounded outwards.
const INDEXES: std::ops::RangeInclusive<i32> = -1_040..=35_490;

/// The bucket `(γ^(i−1), γ^i]` of a magnitude.
fn index(magnitude: f64) -> i32 {
    (magnitude.ln() / LOG_GAMMA).ceil() as i32
}

/// The value that is within the relative error of everything in a bucket.
fn magnitude(index: i32) -> f64 {
    ((f64::from(index) * LOG_GAMMA).exp() * (1.0 - RELATIVE_ERROR)).min(f64::MAX)
}

/// What is added to the index of a magnitude to make the number of a bucket, which is 1 at least.
const OFFSET: i32 = 1 - *INDEXES.start();

/// The number of a value's bucket, for whoever keeps the counts: greater values have greater ones, negative values have negative
/// ones, zero has 0, and NaN has none.
pub fn bucket(value: f64) -> Option<i32> {
    let magnitude = value.abs().min(f64::MAX);
    match (value.is_nan(), magnitude < LEAST_MAGNITUDE) {
        (true, _) => None,
        (_, true) => Some(0),
        _ => Some((index(magnitude) + OFFSET) * if value < 0.0 { -1 } else { 1 }),
    }
}

/// The value that stands for those of a bucket.
pub fn value(bucket: i32) -> f64 {
    match bucket {
        0 => 0.0,
        _ => magnitude(bucket.abs() - OFFSET).copysign(f64::from(bucket)),
    }
}

/// The quantile `q` of buckets in ascending order with how many values each has, as [`Sketch::quantile`] has it.
pub fn quantile(buckets: impl Iterator<Item = (i32, u64)> + Clone, q: f64) -> Option<f64> {
    let count: u64 = buckets.clone().map(|(_, count)| count).sum();
    let last = count.checked_sub(1)?;
    let rank = ((q.clamp(0.0, 1.0) * last as f64).floor() as u64).min(last);
    let mut before = 0;
    for (bucket, count) in buckets {
        before += count;
        if before > rank {
            return Some(value(bucket));
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NoSketch> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(NoSketch)?;
    *rest = after;
    Ok(*taken)
}

impl Buckets {
    fn count(&mut self, index: i32, weight: i64) {
        if self.counts.is_empty() {
            self.first = index;
        }
        if index < self.first {
            let missing = (self.first - index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = index;
        }
        let at = (index - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += weight;
        if self.counts[at] == 0 {
            self.trim();
        }
    }

    /// Drops zeros at both ends.
    fn trim(&mut self) {
        let filled = self.counts.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
        self.counts.truncate(filled);
        let leading = self.counts.iter().position(|count| *count != 0).unwrap_or_default();
        self.counts.drain(..leading);
        self.first = if self.counts.is_empty() { 0 } else { self.first + leading as i32 };
    }

    fn merge(&mut self, other: &Self) {
        other.iter().filter(|(_, count)| *count != 0).for_each(|(index, count)| self.count(index, count));
    }

    fn total(&self) -> i64 {
        self.counts.iter().sum()
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, i64)> {
        self.counts.iter().enumerate().map(|(at, count)| (self.first + at as i32, *count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gamma_is_that_of_the_relative_error() {
        assert_eq!(LOG_GAMMA, ((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)).ln());
        assert!(INDEXES.contains(&index(LEAST_MAGNITUDE)) && INDEXES.contains(&index(f64::MAX)));
        assert!(!INDEXES.contains(&(index(LEAST_MAGNITUDE) - 10)) && !INDEXES.contains(&(index(f64::MAX) + 10)));
    }

    #[test]
    fn what_has_no_place() {
        let mut sketch = Sketch::default();
        assert_eq!((sketch.quantile(0.5), sketch.len()), (None, 0));
        sketch.add(f64::NAN);
        assert!(sketch.is_empty());
        sketch.add(f64::INFINITY);
        assert!(sketch.quantile(0.5).is_some_and(|v| v.is_finite() && v > 1e308));
        for bytes in [&[][..], &[2], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 127, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Sketch::from_bytes(bytes), Err(NoSketch));
        }
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![Just(0.0), -1e6..1e6, 1e-7..1e-3, 1e12..1e13];
        prop::collection::vec(value, 1..200)
    }

    proptest! {
        /// Who keeps the counts of buckets and who keeps a sketch answer the same.
        #[test]
        fn buckets_that_are_kept_apart_answer_as_a_sketch(values in values(), q in 0.0f64..=1.0) {
            let (mut sketch, mut buckets) = (Sketch::default(), std::collections::BTreeMap::new());
            for value in values.into_iter().chain([f64::INFINITY]) {
                sketch.add(value);
                *buckets.entry(bucket(value).unwrap()).or_insert(0) += 1;
            }
            prop_assert_eq!(quantile(buckets.iter().map(|(bucket, count)| (*bucket, *count)), q), sketch.quantile(q));
        }

        /// The slow twin: sort, and take the value of the rank.
        #[test]
        fn quantiles_are_within_the_error(mut values in values(), q in 0.0f64..=1.0) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|v| sketch.add(*v));
            values.sort_by(f64::total_cmp);
            let exact = values[(q * (values.len() as f64 - 1.0)).floor() as usize];
            let got = sketch.quantile(q).unwrap();
            prop_assert!((got - exact).abs() <= exact.abs() * (RELATIVE_ERROR + 1e-9), "{} for {}", got, exact);
        }

        #[test]
        fn counts_are_linear(kept in values(), gone in values()) {
            let sketch_of = |values: &[f64]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|v| sketch.add(*v));
                sketch
            };
            let want = sketch_of(&kept);
            let mut merged = sketch_of(&gone);
            merged.merge(&want);
            gone.iter().for_each(|v| merged.remove(*v));
            prop_assert_eq!(&merged, &want);
            prop_assert_eq!(Sketch::from_bytes(&merged.to_bytes()), Ok(want));
        }
    }
}
