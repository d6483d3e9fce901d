//! Sums of floats that do not depend on the order: two integers, of coarse and of fine parts.
//!
//! A float is split, exactly, into a multiple of `2^-coarse_bits` and a rest that is kept to `2^-(coarse_bits + 72)`; each part is
//! summed as an integer. So a value that comes and goes leaves nothing behind, and every worker gets the same sum.

/// How a float is split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fixed {
    coarse_bits: i32,
    /// Values of this magnitude and above cannot be summed: 2^33 of those below can.
    bound: f64,
}

/// Bits of the fine part: as many additions as fit above them into 127 bits are 2^55.
const FINE_BITS: i32 = 72;
const FINE: f64 = (1u128 << FINE_BITS) as f64;

/// For sums: to 2^-96, values below 2^70.
pub(super) const OF_VALUES: Fixed = Fixed { coarse_bits: 24, bound: (1u128 << 70) as f64 };
/// For sums of squares: to 2^-72, squares below 2^94.
pub(super) const OF_SQUARES: Fixed = Fixed { coarse_bits: 0, bound: (1u128 << 94) as f64 };

impl Fixed {
    /// The coarse and the fine part; none where the value is too large or not a number.
    pub fn split(self, value: f64) -> Option<(i128, i128)> {
        if value.is_nan() || value.abs() >= self.bound {
            return None;
        }
        let scaled = value * exp2(self.coarse_bits);
        let coarse = scaled.trunc();
        Some((coarse as i128, ((scaled - coarse) * FINE) as i128))
    }

    /// A sum as two floats, the second of which is what the first leaves over.
    pub fn join(self, coarse: i128, fine: i128) -> Double {
        let carry = fine >> FINE_BITS;
        let coarse = coarse.wrapping_add(carry);
        let fine = fine - (carry << FINE_BITS);
        // Each integer in two steps, so that no bit is lost of what two floats can hold.
        let high = coarse as f64;
        let low = (coarse - high as i128) as f64;
        let rest = fine as f64 / FINE;
        Double::of_sum(high, low).plus(rest).times_power(-self.coarse_bits)
    }
}

fn exp2(bits: i32) -> f64 {
    f64::from(bits).exp2()
}

/// A number as the sum of two floats: about 106 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Double {
    high: f64,
    low: f64,
}

impl Double {
    /// The exact sum of two floats.
    pub fn of_sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let part = high - a;
        Self { high, low: (a - (high - part)) + (b - part) }
    }

    /// The exact product of two floats.
    pub fn of_product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self { high, low: a.mul_add(b, -high) }
    }

    pub fn plus(self, value: f64) -> Self {
        let sum = Self::of_sum(self.high, value);
        Self::of_sum(sum.high, sum.low + self.low)
    }

    pub fn minus(self, other: Self) -> Self {
        let sum = Self::of_sum(self.high, -other.high);
        Self::of_sum(sum.high, sum.low + self.low - other.low)
    }

    pub fn times(self, other: Self) -> Self {
        let product = Self::of_product(self.high, other.high);
        Self::of_sum(product.high, product.low + self.high * other.low + self.low * other.high)
    }

    pub fn divided_by(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let rest = self.minus(Self::of_product(quotient, divisor));
        Self::of_sum(quotient, rest.high / divisor)
    }

    fn times_power(self, bits: i32) -> Self {
        Self { high: self.high * exp2(bits), low: self.low * exp2(bits) }
    }

    pub fn rounded(self) -> f64 {
        self.high + self.low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let (coarse, fine) = values.iter().map(|&value| OF_VALUES.split(value).unwrap()).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        OF_VALUES.join(coarse, fine).rounded()
    }

    proptest! {
        #[test]
        fn one_value_is_itself(value in -1e18f64..1e18) {
            prop_assert_eq!(sum(&[value]), value);
        }

        #[test]
        fn the_order_does_not_matter(mut values in prop::collection::vec(-1e12f64..1e12, 0..50)) {
            let forwards = sum(&values);
            values.reverse();
            prop_assert_eq!(forwards.to_bits(), sum(&values).to_bits());
            let naive: f64 = values.iter().sum();
            prop_assert!((forwards - naive).abs() <= 1e-2);
        }
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        assert_eq!(sum(&[0.1, 1e18, -0.1, -1e18]), 0.0);
        assert_eq!(sum(&[0.1, 0.2, -0.1]), 0.2);
        assert_eq!(sum(&[-1e-20, 1e-20]), 0.0);
    }

    #[test]
    fn what_is_too_large_is_not_split() {
        assert_eq!(OF_VALUES.split(2f64.powi(70)), None);
        assert_eq!(OF_VALUES.split(f64::NAN), None);
        assert!(OF_VALUES.split(-2f64.powi(69)).is_some());
    }
}
