use sori_package::{Activation, Kernel};

use crate::Requantize;

/// From an accumulator to an activation, for one channel.
pub(super) trait Scale: Copy {
    /// Whether [`Core`](super::Core)'s own loops may be used.
    const FAST: bool;

    fn channel(multiplier: i32, shift: u8, activation: Activation) -> Self;
    fn apply(self, acc: i32) -> i8;
}

/// [`Requantize`] with everything but the product prepared:
///
/// ```text
/// zp + ⌊acc·m / 2^(31+s) + ½⌋ = ⌊(acc·m + (2·zp + 1)·2^(30+s)) / 2^(31+s)⌋
///                             = ⌊((2·zp + 1)·2^(s-2) + ⌊acc·m / 2^32⌋) / 2^(s-1)⌋
/// ```
///
/// for `s ≥ 2`, because 2^32 divides the first addend. That is SMMLA, a shift and a saturation. With
/// `s ≤ 22` the sum is below 2^30 + 2^28; and the activation's range is all of a byte.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Fast {
    pub(super) multiplier: i32,
    pub(super) addend: i32,
    pub(super) shift: u32,
}

/// Whether every channel of a layer may be scaled by [`Fast`].
pub(crate) fn is_fast(kernel: &Kernel<'_>, activation: Activation) -> bool {
    (activation.min, activation.max) == (i8::MIN, i8::MAX)
        && kernel.shift.iter().all(|shift| (2..=22).contains(shift))
}

impl Scale for Fast {
    const FAST: bool = true;

    #[inline(always)]
    fn channel(multiplier: i32, shift: u8, activation: Activation) -> Self {
        let rounding = 2 * i32::from(activation.zero_point) + 1;
        let shift = u32::from(shift);
        Self {
            multiplier,
            addend: rounding.wrapping_shl(shift.wrapping_sub(2)),
            shift: shift.wrapping_sub(1),
        }
    }

    #[inline(always)]
    fn apply(self, acc: i32) -> i8 {
        let high = ((i64::from(acc) * i64::from(self.multiplier)) >> 32) as i32;
        let value = self.addend.wrapping_add(high).wrapping_shr(self.shift);
        value.clamp(i8::MIN.into(), i8::MAX.into()) as i8
    }
}

impl Scale for Requantize {
    const FAST: bool = false;

    #[inline(always)]
    fn channel(multiplier: i32, shift: u8, activation: Activation) -> Self {
        Self {
            multiplier,
            shift,
            zero_point: activation.zero_point,
            min: activation.min,
            max: activation.max,
        }
    }

    #[inline(always)]
    fn apply(self, acc: i32) -> i8 {
        Self::apply(self, acc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    /// Every shift that is allowed, the extremes of everything, and noise around the clamps.
    #[test]
    fn the_short_way_is_requantize() {
        let mut noise = Noise::new(1);
        for shift in 2..=22u8 {
            for zero_point in [-128, -127, -1, 0, 1, 127] {
                let activation = Activation {
                    scale: 1.0,
                    zero_point,
                    min: -128,
                    max: 127,
                };
                for multiplier in [1 << 30, (1 << 30) + 1, 0x5a82_799a, i32::MAX] {
                    let fast = Fast::channel(multiplier, shift, activation);
                    let exact = <Requantize as Scale>::channel(multiplier, shift, activation);
                    let check = |acc| {
                        assert_eq!(fast.apply(acc), Scale::apply(exact, acc), "{exact:?} {acc}");
                    };
                    let half = 1i32 << (shift - 1);
                    for acc in [
                        i32::MIN,
                        i32::MIN + 1,
                        -half - 1,
                        -half,
                        -1,
                        0,
                        1,
                        half,
                        i32::MAX,
                    ] {
                        check(acc);
                    }
                    for _ in 0..100 {
                        let most = 300 << (shift + 1).min(22);
                        check(noise.between(-most, most));
                    }
                }
            }
        }
    }
}
