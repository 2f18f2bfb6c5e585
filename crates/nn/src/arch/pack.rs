//! Weights and requantization in the order in which the vector kernels read them.
//!
//! A layer becomes a region of whole cache lines:
//!
//! ```text
//! pointwise: header │ panel … │     panel: bias, multiplier, shift (, K) of its vectors,
//!                                          then for each 4 input channels its weights
//! depthwise: header │ group … │     group: bias, multiplier, shift of four vectors,
//!                                          then for each kx the weights [ky 0, 1, 2, none]
//! ```

use bytemuck::{Pod, Zeroable};
use sori_package::Convolution;

use super::simd::channel_of_lane;
use crate::CacheLine;

/// How a backend wants its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// Whether there are vectors of half the lanes.
    pub(crate) half: bool,
    /// Whether activations are `q + 128`.
    pub(crate) unsigned: bool,
    /// Whether the four bytes of a lane are two and two, half a vector apart.
    pub(crate) paired: bool,
    /// What makes a layer fast.
    pub(crate) fast: Fast,
    /// What the length of the stem's patches is a multiple of.
    pub(crate) patch_multiple: usize,
}

/// What a backend can do with fewer instructions, if the accumulators allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each instruction set has one of them")]
pub(crate) enum Fast {
    /// Scale by a multiply-add in single precision.
    Float,
    /// Take scaled accumulators for 16-bit words; in either case, clamp to a whole byte.
    Words,
}

/// The start of a region.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Header {
    /// Bytes of the region, header included.
    pub(crate) bytes: u32,
    /// Whether every channel is [`Fast`].
    pub(crate) fast: u32,
    reserved: [u32; 14],
}

/// Panels of a pointwise layer's output channels that are alike and follow one another, or groups
/// of a depthwise layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panels {
    /// Channel at which the first one starts, and the last.
    first: usize,
    last: usize,
    pub(crate) count: usize,
    /// Of each.
    pub(crate) vectors: usize,
    /// Of half the lanes.
    pub(crate) half: bool,
    /// Whether each has all its channels.
    pub(crate) whole: bool,
}

impl Panels {
    /// The first channel of each, where each but the last has so many.
    #[inline(always)]
    pub(crate) fn starts(self, channels: usize) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |n| (self.first + n * channels).min(self.last))
    }
}

impl Layout {
    /// Takes `c_out` channels four vectors at a time, then two, one and half of one.
    pub(crate) fn panels(self, c_out: usize) -> impl Iterator<Item = Panels> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let rest = c_out.checked_sub(next).filter(|&rest| rest > 0)?;
            let half = self.half && 2 * rest <= self.lanes;
            let (vectors, count) = match rest / self.lanes {
                0 | 1 => (1, 1),
                2 | 3 => (2, 1),
                whole => (4, whole / 4),
            };
            let size = vectors * if half { self.lanes / 2 } else { self.lanes };
            let first = next;
            next += count * size;
            Some(Panels {
                first,
                last: next - size,
                count,
                vectors,
                half,
                whole: count * size <= rest,
            })
        })
    }

    /// Takes `channels` four vectors at a time. The last ones overlap those before rather
    /// than end in the middle, where there are enough channels.
    pub(crate) fn groups(self, channels: usize) -> impl Iterator<Item = Panels> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let rest = channels.checked_sub(next).filter(|&rest| rest > 0)?;
            let half = self.half && rest < 4 * self.lanes;
            let size = if half { 2 * self.lanes } else { 4 * self.lanes };
            // Where there are halves, they take the rest.
            let count = match self.half && !half {
                true => rest / size,
                false => rest.div_ceil(size),
            };
            let last = (next + (count - 1) * size).min(channels.saturating_sub(size));
            let first = next.min(last);
            next = last + size;
            Some(Panels {
                first,
                last,
                count,
                vectors: 4,
                half,
                whole: size <= channels,
            })
        })
    }

    pub(crate) fn lanes_of(self, panels: Panels) -> usize {
        if panels.half {
            self.lanes / 2
        } else {
            self.lanes
        }
    }

    pub(crate) fn pointwise_bytes(self, c_in: usize, c_out: usize, residual: bool) -> usize {
        let vectors = parameters_of(residual) + c_in.div_ceil(4);
        self.region(self.panels(c_out), vectors)
    }

    pub(crate) fn depthwise_bytes(self, channels: usize) -> usize {
        self.region(self.groups(channels), parameters_of(false) + 3)
    }

    /// Bytes of a region with so many vectors of 32 bits a lane for each of a panel's.
    fn region(self, panels: impl Iterator<Item = Panels>, vectors: usize) -> usize {
        let bytes = panels
            .map(|panels| panels.count * panels.vectors * self.lanes_of(panels) * 4 * vectors);
        size_of::<Header>()
            + bytes
                .sum::<usize>()
                .next_multiple_of(size_of::<CacheLine>())
    }

    /// Packs a layer whose weights are `[c_out][taps]`, to be applied to `c_in ≥ taps` inputs.
    pub(crate) fn pack_pointwise(
        self,
        convolution: &Convolution<'_>,
        c_in: usize,
        residual: Option<Factors<'_>>,
        region: &mut [CacheLine],
    ) {
        let kernel = &convolution.kernel;
        let c_out = kernel.bias.len();
        let taps = kernel.weights.len() / c_out;
        let weight = |c: usize, k: usize| match k < taps {
            true => kernel.weights[c * taps + k],
            false => 0,
        };
        self.pack(
            convolution,
            c_in,
            weight,
            residual,
            self.panels(c_out),
            region,
        );
    }

    /// Packs a layer whose weights are `[ky][kx][c]`.
    pub(crate) fn pack_depthwise(self, convolution: &Convolution<'_>, region: &mut [CacheLine]) {
        let kernel = &convolution.kernel;
        let channels = kernel.bias.len();
        // Twelve taps: three columns of three rows and none.
        let weight = |c: usize, tap: usize| match (tap % 4, tap / 4) {
            (3, _) => 0,
            (ky, kx) => kernel.weights[(3 * ky + kx) * channels + c],
        };
        self.pack(convolution, 12, weight, None, self.groups(channels), region);
    }

    fn pack(
        self,
        convolution: &Convolution<'_>,
        taps: usize,
        weight: impl Fn(usize, usize) -> i8,
        residual: Option<Factors<'_>>,
        panels: impl Iterator<Item = Panels>,
        region: &mut [CacheLine],
    ) {
        let (kernel, activation) = (&convolution.kernel, convolution.activation);
        let c_out = kernel.bias.len();
        let factor = |c: usize| residual.map_or(0, |residual| residual.factor[c]);
        let sum = |c: usize, of: fn(i32) -> i32| -> i32 {
            (0..taps).map(|k| of(weight(c, k).into())).sum()
        };
        // The whole range of a byte needs no clamp; that is what a ReLU's zero point of -128 gives.
        let whole_range = (activation.min, activation.max) == (i8::MIN, i8::MAX);
        let fast = whole_range
            && (0..c_out).all(|c| {
                let largest = 128 * i64::from(sum(c, i32::abs))
                    + 255 * i64::from(factor(c))
                    + i64::from(kernel.bias[c].unsigned_abs());
                let (multiplier, shift) = (kernel.multiplier[c], kernel.shift[c]);
                match self.fast {
                    Fast::Float => float_is_exact(multiplier, shift, largest),
                    // With room for the zero point and the rounding.
                    Fast::Words => scaled(multiplier, shift, largest) < (1 << 15) - 129,
                }
            });
        let float = fast && self.fast == Fast::Float;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(region);
        let length = bytes.len() as u32;
        let (header, mut rest) = bytes.split_at_mut(size_of::<Header>());
        header.copy_from_slice(bytemuck::bytes_of(&Header {
            bytes: length,
            fast: fast.into(),
            reserved: [0; 14],
        }));

        let bias = |c: usize| {
            // What `q + 128` adds for every weight, and the residual's zero point, wrapping:
            // the accumulator they belong to fits 32 bits.
            let excess = if self.unsigned { sum(c, |w| w) << 7 } else { 0 };
            let zero_point = residual.map_or(0, |residual| residual.zero_point);
            let zero_point = self.encode(zero_point);
            let zero_point = factor(c).wrapping_mul(self.value(zero_point));
            kernel.bias[c].wrapping_sub(excess).wrapping_sub(zero_point)
        };
        let multiplier = |c: usize| match float {
            true => float_bits(kernel.multiplier[c], kernel.shift[c]) as i32,
            false => kernel.multiplier[c],
        };
        let shift = |c: usize| match self.unsigned {
            true => i32::from(kernel.shift[c]),
            // NEON shifts to the left.
            false => -i32::from(kernel.shift[c]),
        };
        let parameters: [&dyn Fn(usize) -> i32; 4] = [&bias, &multiplier, &shift, &factor];
        let parameters = &parameters[..parameters_of(residual.is_some())];
        let starts = panels.flat_map(|panels| {
            let size = panels.vectors * self.lanes_of(panels);
            panels.starts(size).map(move |first| (panels, first))
        });
        for (panels, first) in starts {
            let (vectors, lanes) = (panels.vectors, self.lanes_of(panels));
            let channel = |vector, lane| first + channel_of_lane(vectors, vector, lane);
            let groups = taps.div_ceil(4);
            let length = (parameters.len() + groups) * vectors * 4 * lanes;
            let (now, later) = rest.split_at_mut(length);
            rest = later;
            for (n, out) in now.chunks_exact_mut(4 * lanes).enumerate() {
                let (row, vector) = (n / vectors, n % vectors);
                for lane in 0..lanes {
                    let c = channel(vector, lane);
                    let bytes = match (c < c_out, row.checked_sub(parameters.len())) {
                        (false, _) => [0; 4],
                        (true, None) => parameters[row](c).to_ne_bytes(),
                        (true, Some(group)) => {
                            core::array::from_fn(|i| weight(c, 4 * group + i) as u8)
                        }
                    };
                    let paired = self.paired && row >= parameters.len();
                    for (i, byte) in bytes.into_iter().enumerate() {
                        let place = match paired {
                            true => 2 * lanes * (i / 2) + 2 * lane + i % 2,
                            false => 4 * lane + i,
                        };
                        out[place] = byte;
                    }
                }
            }
        }
    }

    /// An activation as this backend keeps it.
    pub(crate) fn encode(self, q: i8) -> i8 {
        if self.unsigned { q ^ i8::MIN } else { q }
    }

    /// The integer for which the kernels take a kept activation.
    fn value(self, kept: i8) -> i32 {
        match self.unsigned {
            true => (kept as u8).into(),
            false => kept.into(),
        }
    }
}

/// The residual of a projection: `K`, and the zero point of what is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors<'a> {
    pub(crate) factor: &'a [i32],
    pub(crate) zero_point: i8,
}

/// Vectors of parameters for each vector of output channels: bias, multiplier, shift, K.
fn parameters_of(residual: bool) -> usize {
    3 + usize::from(residual)
}

/// Whether `round(acc · scale)`, by one fused multiply-add in single precision that rounds to
/// the nearest integer, is [`crate::Requantize`]'s rounding for every `|acc| ≤ largest`.
///
/// The multiplier must have 24 significant bits, of which the last is 1, so that the scale is an
/// `f32`; then `acc`, below 2^24, is one too, and the fused product rounds once. Ties, which a
/// float rounds to even, do not happen: with an odd m, `acc · m` is half of
/// `2^(24 + shift)` only for an `acc` that `2^(23 + shift)` divides. The result, zero point and all, must stay below
/// 2^22 for the integer to appear in the low bits.
fn float_is_exact(multiplier: i32, shift: u8, largest: i64) -> bool {
    multiplier & 0xff == 0x80
        && largest < 1 << 24
        && scaled(multiplier, shift, largest) < (1 << 22) - 129
}

/// The scaled accumulator, rounded down.
fn scaled(multiplier: i32, shift: u8, acc: i64) -> i128 {
    (i128::from(acc) * i128::from(multiplier)) >> (31 + u32::from(shift))
}

/// The bits of `multiplier · 2^-(31 + shift)` as an `f32`.
fn float_bits(multiplier: i32, shift: u8) -> u32 {
    // The multiplier is 1.m · 2^30.
    ((126 - u32::from(shift)) << 23) | (multiplier as u32 >> 7 & 0x7f_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_as_a_float_is_the_multiplier_exactly() {
        for shift in 1..=31u8 {
            for multiplier in [1 << 30, (1 << 30) + 128, 0x5a82_7980, 0x7fff_ff80] {
                let scale = f64::from(f32::from_bits(float_bits(multiplier, shift)));
                let exact = f64::from(multiplier) / 2f64.powi(31 + i32::from(shift));
                assert_eq!(scale, exact, "{multiplier:#x} {shift}");
            }
        }
    }

    /// Every channel in exactly one panel, and in at least one group.
    #[test]
    fn panels_and_groups_cover_the_channels() {
        for (lanes, half) in [(4, false), (8, false), (16, true)] {
            let layout = Layout {
                lanes,
                half,
                unsigned: true,
                paired: false,
                fast: Fast::Float,
                patch_multiple: 4,
            };
            for channels in 1..300 {
                let mut next = 0;
                for panels in layout.panels(channels) {
                    let size = panels.vectors * layout.lanes_of(panels);
                    for first in panels.starts(size) {
                        assert_eq!(first, next, "{channels}");
                        next += size;
                        assert_eq!(panels.whole, next <= channels, "{channels}");
                    }
                }
                assert!(next >= channels && next < channels + lanes, "{channels}");
                let mut covered = 0;
                for groups in layout.groups(channels) {
                    let size = groups.vectors * layout.lanes_of(groups);
                    for first in groups.starts(size) {
                        assert!(first <= covered, "{channels}");
                        assert!(first + size <= channels.max(size), "{channels}");
                        covered = first + size;
                        assert_eq!(groups.whole, covered <= channels, "{channels}");
                    }
                }
                assert!(covered >= channels, "{channels}");
            }
        }
    }
}
