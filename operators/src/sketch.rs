//! A quantile sketch of relative error 1 %: DDSketch's logarithmic buckets.
//!
//! A bucket holds the values between two powers of [`GAMMA`], so that its middle is within [`RELATIVE_ERROR`] of each of them.
//! A sketch is nothing but how many values fell into each bucket: so sketches add and subtract, and a window can slide.
//! (Masson, Rim, Lee: DDSketch, VLDB 2019.)

/// How far a quantile may be from the value of that rank, as a part of that value.
pub const RELATIVE_ERROR: f64 = 0.01;

/// The ratio of a bucket's edges.
pub const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

/// Values nearer to zero than this are zero.
pub const SMALLEST: f64 = 1e-9;

/// Of values `SMALLEST * GAMMA^index`; positive values have buckets from 1 on, negative ones from -1 down, zero has 0.
const OFFSET: i32 = 1_037;

/// The greatest bucket: the infinities and what comes near to them.
const GREATEST: i32 = 40_000;

/// The bucket of a value. Greater values have greater buckets; NaN has none.
pub fn bucket(value: f64) -> Option<i32> {
    if value.is_nan() {
        return None;
    }
    let magnitude = value.abs();
    if magnitude < SMALLEST {
        return Some(0);
    }
    // ceil(log_gamma(magnitude)), moved such that the least is at least 1.
    let index = ((magnitude.ln() / GAMMA.ln()).ceil() + f64::from(OFFSET)).clamp(1.0, f64::from(GREATEST)) as i32;
    Some(if value < 0.0 { -index } else { index })
}

/// The value that stands for a bucket's: within [`RELATIVE_ERROR`] of each of them.
pub fn value(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let magnitude = if bucket.abs() >= GREATEST {
        f64::INFINITY
    } else {
        // The point between gamma^(i-1) and gamma^i from which both edges are equally far, in relation to them.
        ((f64::from(bucket.abs() - OFFSET) * GAMMA.ln()).exp() * (2.0 / (GAMMA + 1.0))).min(f64::MAX)
    };
    if bucket < 0 { -magnitude } else { magnitude }
}

/// The quantile `q` of buckets in ascending order with how many values each has: the value of rank `floor(q (n - 1))`, counted
/// from 0. None where there are no values. `q` is brought between 0 and 1.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> BTreeMap<i32, u64> {
        let mut buckets = BTreeMap::new();
        for bucket in values.iter().filter_map(|&value| bucket(value)) {
            *buckets.entry(bucket).or_default() += 1;
        }
        buckets
    }

    proptest! {
        #[test]
        fn a_value_is_within_a_hundredth_of_its_bucket(magnitude in -20.0f64..250.0, negative: bool) {
            let exact = 10f64.powf(magnitude) * if negative { -1.0 } else { 1.0 };
            let got = value(bucket(exact).unwrap());
            if exact.abs() < SMALLEST {
                prop_assert_eq!(got, 0.0);
            } else {
                prop_assert!((got - exact).abs() <= exact.abs() * RELATIVE_ERROR * (1.0 + 1e-9), "{} {}", exact, got);
            }
        }

        #[test]
        fn buckets_keep_the_order(a: f64, b: f64) {
            if let (Some(of_a), Some(of_b)) = (bucket(a), bucket(b)) {
                let (less, greater) = if a <= b { (of_a, of_b) } else { (of_b, of_a) };
                prop_assert!(less <= greater);
                prop_assert!(value(less) <= value(greater));
            }
        }

        #[test]
        fn a_quantile_is_within_a_hundredth_of_the_value_of_its_rank(mut values in prop::collection::vec(-1e6f64..1e6, 1..200), q in 0.0f64..=1.0) {
            values.sort_by(f64::total_cmp);
            let exact = values[(q * (values.len() - 1) as f64).floor() as usize];
            let got = quantile(sketch(&values).iter().map(|(bucket, count)| (*bucket, *count)), q).unwrap();
            prop_assert!((got - exact).abs() <= exact.abs() * RELATIVE_ERROR * (1.0 + 1e-9) + SMALLEST, "{} {}", exact, got);
        }
    }

    #[test]
    fn edges() {
        assert_eq!(bucket(f64::NAN), None);
        assert_eq!(bucket(0.0), Some(0));
        assert_eq!(bucket(-0.0), Some(0));
        assert!(bucket(SMALLEST).unwrap() >= 1);
        assert_eq!(value(bucket(f64::INFINITY).unwrap()), f64::INFINITY);
        assert_eq!(value(bucket(f64::NEG_INFINITY).unwrap()), f64::NEG_INFINITY);
        assert!(value(bucket(f64::MAX).unwrap()).is_finite());
        assert_eq!(quantile(std::iter::empty(), 0.5), None);
    }
}
