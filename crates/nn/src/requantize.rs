use sori_package::{Activation, Kernel};

/// Maps an `i32` accumulator back to an `i8` activation.
///
/// ```text
/// out = clamp(zero_point + round(acc · multiplier · 2^-(31 + shift)), min, max)
/// ```
///
/// `round` is to nearest with halves going up, done once on the exact 64-bit
/// product. Every backend must reproduce it bit for bit.
///
/// ```
/// # use sori_nn::Requantize;
/// // scale = 0.75 · 2^-1, zero point -10, no fused activation
/// let rq = Requantize { multiplier: 0x6000_0000, shift: 1, zero_point: -10, min: -128, max: 127 };
/// assert_eq!(rq.apply(100), -10 + 38); // 37.5 rounds up
/// assert_eq!(rq.apply(-100), -10 - 37); // -37.5 rounds up too
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requantize {
    /// In `[2^30, 2^31)`.
    pub multiplier: i32,
    /// In `1..=31`.
    pub shift: u8,
    /// The integer that stands for real zero.
    pub zero_point: i8,
    /// Lower clamp.
    pub min: i8,
    /// Upper clamp.
    pub max: i8,
}

impl Requantize {
    /// That of one output channel.
    #[inline(always)]
    pub(crate) fn channel(kernel: &Kernel<'_>, activation: Activation, c_out: usize) -> Self {
        Self {
            multiplier: kernel.multiplier[c_out],
            shift: kernel.shift[c_out],
            zero_point: activation.zero_point,
            min: activation.min,
            max: activation.max,
        }
    }

    /// Rounds and clamps one accumulator.
    #[inline(always)]
    pub fn apply(self, acc: i32) -> i8 {
        let shift = 31 + u32::from(self.shift);
        let product = i64::from(acc) * i64::from(self.multiplier);
        // |product| < 2^62 and the half is at most 2^61: no overflow. The quotient is
        // below 2^30 in magnitude, so an i32 holds it and the zero point.
        let rounded = ((product + (1 << (shift - 1))) >> shift) as i32;
        (i32::from(self.zero_point) + rounded).clamp(self.min.into(), self.max.into()) as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a fused activation.
    fn to_int8(multiplier: i32, shift: u8, zero_point: i8) -> Requantize {
        Requantize {
            multiplier,
            shift,
            zero_point,
            min: -128,
            max: 127,
        }
    }

    fn exact(rq: Requantize, acc: i32) -> i8 {
        let shift = 31 + u32::from(rq.shift);
        let product = i128::from(acc) * i128::from(rq.multiplier) * 2;
        let rounded = (product + (1i128 << shift)).div_euclid(1i128 << (shift + 1));
        (i128::from(rq.zero_point) + rounded).clamp(rq.min.into(), rq.max.into()) as i8
    }

    /// Every shift with the extreme accumulators, multipliers and zero points.
    #[test]
    fn the_rounding_is_exact_at_every_extreme() {
        for shift in 1..=31 {
            for multiplier in [1 << 30, (1 << 30) + 1, 0x5a82_799a, i32::MAX] {
                for zero_point in [-128, 0, 127] {
                    let rq = to_int8(multiplier, shift, zero_point);
                    for acc in [
                        i32::MIN,
                        i32::MIN + 1,
                        -3,
                        -1,
                        0,
                        1,
                        3,
                        i32::MAX - 1,
                        i32::MAX,
                    ] {
                        assert_eq!(rq.apply(acc), exact(rq, acc), "{rq:?}, acc {acc}");
                    }
                }
            }
        }
    }

    /// The least accumulator whose exact output, unclamped and without zero point, is `k`.
    fn least(multiplier: i32, shift: u32, k: i128) -> i128 {
        // acc · m / 2^(31 + s) + 1/2 ≥ k
        let numerator = (2 * k - 1) << (31 + shift - 1);
        -(-numerator).div_euclid(multiplier.into())
    }

    /// All 2³² accumulators: the output only rises with them, a positive multiplier, a sum, a shift
    /// and a clamp being what it is made of; so it is right everywhere if it is on both sides of
    /// each place where the exact one rises.
    #[test]
    #[cfg_attr(miri, ignore = "millions of cases")]
    fn every_accumulator_is_rounded_exactly() {
        let mut multipliers = vec![1 << 30, (1 << 30) + 1, i32::MAX, i32::MAX - 1];
        let mut random = 0x5a82_799a_u32;
        multipliers.extend((0..12).map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (1 << 30) + (random >> 2) as i32
        }));
        for multiplier in multipliers {
            for shift in 1..=31 {
                for zero_point in [-128, -7, 127] {
                    let rq = to_int8(multiplier, shift, zero_point);
                    for k in -256..=256 {
                        let rises = least(multiplier, shift.into(), k);
                        for acc in [rises - 1, rises].map(i32::try_from).into_iter().flatten() {
                            assert_eq!(rq.apply(acc), exact(rq, acc), "{rq:?}, acc {acc}");
                        }
                    }
                }
            }
        }
    }
}
