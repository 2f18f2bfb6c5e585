//! aarch64: plain NEON (Cortex-A53, A72), and with the dot product of Armv8.2 (Cortex-A76).
//! Bytes are multiplied signed by signed, so activations are kept as they are.

use core::arch::aarch64::*;
use core::arch::asm;

use super::pack::Fast;
use super::simd::{Clamp, Kernel, Simd, first, partial};

/// NEON, which every aarch64 processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neon(());

/// NEON with SDOT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dotprod(());

impl Neon {
    pub(crate) fn new() -> Option<Self> {
        detected!("neon").then_some(Self(()))
    }
}

impl Dotprod {
    pub(crate) fn new() -> Option<Self> {
        detected!("dotprod").then_some(Self(()))
    }
}

/// Calls intrinsics that need the features of the token at hand.
macro_rules! supported {
    ($call:expr) => {
        // SAFETY: nothing but registers is read or written, and only methods of a token, which
        // exists only where the processor has the features, come here.
        unsafe { $call }
    };
}

#[inline(always)]
fn load(block: &[i8; 16]) -> int8x16_t {
    bytemuck::cast(*block)
}

#[inline(always)]
fn load_partial(values: &[i8]) -> int8x16_t {
    match values.first_chunk::<8>() {
        Some(half) if values.len() == 8 => {
            supported!(vcombine_s8(bytemuck::cast(*half), vdup_n_s8(0)))
        }
        _ => load(&bytemuck::cast(partial(values))),
    }
}

/// `[r0, r1]` of the lower and of the upper channels, then `[r2, 0]` of them.
#[inline(always)]
fn byte_pairs([r0, r1, r2]: [int8x16_t; 3]) -> [int8x16_t; 4] {
    supported!({
        let zero = vdupq_n_s8(0);
        [
            vzip1q_s8(r0, r1),
            vzip2q_s8(r0, r1),
            vzip1q_s8(r2, zero),
            vzip2q_s8(r2, zero),
        ]
    })
}

/// What does not depend on the dot product.
macro_rules! common {
    ($features:literal) => {
        type Acc = int32x4_t;
        type Bytes = int8x16_t;
        type Weights = int8x16_t;
        type Input = int8x16_t;
        type ByteBlock = [i8; 16];
        type LaneBlock = [i32; 4];
        type Half = Self;

        const LANES: usize = 4;
        const UNSIGNED: bool = false;
        const FAST: Fast = Fast::Words;

        #[inline(always)]
        fn vectorize<K: Kernel>(self, kernel: K) {
            #[target_feature(enable = $features)]
            #[inline(never)]
            fn vectorized<K: Kernel, S: Simd>(simd: S, kernel: K) {
                kernel.run(simd);
            }
            // SAFETY: this token exists only where the processor has these features.
            unsafe { vectorized(self, kernel) }
        }

        #[inline(always)]
        fn half(self) -> Self {
            self
        }

        #[inline(always)]
        fn lanes(self, block: &[i32; 4]) -> int32x4_t {
            bytemuck::cast(*block)
        }

        #[inline(always)]
        fn weights(self, block: &[i8; 16]) -> int8x16_t {
            load(block)
        }

        #[inline(always)]
        fn bytes(self, block: &[i8; 16]) -> int8x16_t {
            load(block)
        }

        #[inline(always)]
        fn bytes_partial(self, values: &[i8]) -> int8x16_t {
            load_partial(values)
        }

        #[inline(always)]
        fn splat(self, value: i8) -> int8x16_t {
            supported!(vdupq_n_s8(value))
        }

        #[inline(always)]
        fn spread(self, bytes: int8x16_t) -> int8x16_t {
            bytes
        }

        #[inline(always)]
        fn zero(self) -> int32x4_t {
            supported!(vdupq_n_s32(0))
        }

        #[inline(always)]
        fn sum(self, acc: int32x4_t) -> i32 {
            supported!(vaddvq_s32(acc))
        }

        #[inline(always)]
        fn multiply_add(self, acc: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            supported!(vmlaq_s32(acc, a, b))
        }

        #[inline(always)]
        fn widen<const C: usize>(self, values: &[i8]) -> [int32x4_t; C] {
            supported!({
                let bytes = match C {
                    1 => {
                        let values = values.first_chunk::<4>().expect("a vector of lanes");
                        let bits = bytemuck::cast(*values);
                        vreinterpretq_s8_u32(vdupq_n_u32(bits))
                    }
                    2 => {
                        let values = values.first_chunk::<8>().expect("two vectors of lanes");
                        vcombine_s8(bytemuck::cast(*values), vdup_n_s8(0))
                    }
                    _ => load(values.first_chunk().expect("four vectors of lanes")),
                };
                let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
                let wide = [
                    vmovl_s16(vget_low_s16(low)),
                    vmovl_high_s16(low),
                    vmovl_s16(vget_low_s16(high)),
                    vmovl_high_s16(high),
                ];
                first(wide)
            })
        }

        // Exactly the one rounding of `Requantize`: doubling gives bits 31 to 62 of the
        // product, and the multiplier is below 2^31, so nothing saturates.
        #[inline(always)]
        fn scale<const FAST: bool>(
            self,
            acc: int32x4_t,
            multiplier: int32x4_t,
            shift: int32x4_t,
            _: Clamp,
        ) -> int32x4_t {
            supported!(vrshlq_s32(vqdmulhq_s32(acc, multiplier), shift))
        }

        #[inline(always)]
        fn narrow<const FAST: bool>(self, scaled: [int32x4_t; 4], clamp: Clamp) -> int8x16_t {
            supported!({
                let zero_point = vdupq_n_s16(clamp.zero_point);
                let bytes = if FAST {
                    // The upper halves are nothing but signs.
                    let [a, b, c, d] = scaled;
                    let low = vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
                    let high = vuzp1q_s16(vreinterpretq_s16_s32(c), vreinterpretq_s16_s32(d));
                    let (low, high) = (vaddq_s16(low, zero_point), vaddq_s16(high, zero_point));
                    vqmovn_high_s16(vqmovn_s16(low), high)
                } else {
                    let low = vqmovn_high_s32(vqmovn_s32(scaled[0]), scaled[1]);
                    let high = vqmovn_high_s32(vqmovn_s32(scaled[2]), scaled[3]);
                    let (low, high) = (vqaddq_s16(low, zero_point), vqaddq_s16(high, zero_point));
                    vqmovn_high_s16(vqmovn_s16(low), high)
                };
                if FAST {
                    return bytes;
                }
                let bytes = vmaxq_s8(bytes, vdupq_n_s8(clamp.min));
                vminq_s8(bytes, vdupq_n_s8(clamp.max))
            })
        }

        #[inline(always)]
        fn arrange<const C: usize>(self, bytes: int8x16_t) -> int8x16_t {
            bytes
        }

        #[inline(always)]
        fn store<const C: usize>(self, bytes: int8x16_t, n: usize, output: &mut [i8]) {
            supported!(match C {
                1 => {
                    let output = output.first_chunk_mut::<4>().expect("a vector of lanes");
                    let bits = vreinterpretq_s32_s8(bytes);
                    let value = match n {
                        0 => vgetq_lane_s32::<0>(bits),
                        1 => vgetq_lane_s32::<1>(bits),
                        2 => vgetq_lane_s32::<2>(bits),
                        _ => vgetq_lane_s32::<3>(bits),
                    };
                    *output = bytemuck::cast(value);
                }
                2 => {
                    let output = output.first_chunk_mut::<8>().expect("two vectors of lanes");
                    let bytes = match n {
                        0 => vget_low_s8(bytes),
                        _ => vget_high_s8(bytes),
                    };
                    *output = bytemuck::cast(bytes);
                }
                _ => {
                    let output = output
                        .first_chunk_mut::<16>()
                        .expect("four vectors of lanes");
                    *output = bytemuck::cast(bytes);
                }
            })
        }

        #[inline(always)]
        fn store_partial(self, bytes: int8x16_t, output: &mut [i8]) {
            if output.len() == 8 {
                return self.store::<2>(bytes, 0, output);
            }
            let mut block = [0; 16];
            self.store::<4>(bytes, 0, &mut block);
            output.copy_from_slice(&block[..output.len()]);
        }
    };
}

impl Simd for Neon {
    const PIXELS: [usize; 3] = [3, 4, 8];

    common!("neon");

    // With sixteen the orders of four steps would not stay in registers beside the accumulators.
    type InputBlock = [i8; 8];

    const STEPS: usize = 2;

    #[inline(always)]
    fn input(self, block: &[i8; 8]) -> int8x16_t {
        supported!(vcombine_s8(bytemuck::cast(*block), vdup_n_s8(0)))
    }

    #[inline(always)]
    fn input_partial(self, values: &[i8]) -> int8x16_t {
        self.input(&bytemuck::cast(partial(values) as u64))
    }

    // Weights stand as [k0 k1] of four channels, then [k2 k3] of them, and the input as
    // [x0 x1] four times, then [x2 x3].
    #[inline(always)]
    fn dot_step<const STEP: usize>(
        self,
        acc: int32x4_t,
        input: int8x16_t,
        weights: int8x16_t,
    ) -> int32x4_t {
        debug_assert!(STEP < Self::STEPS);
        let spread: [u8; 16] = const {
            let mut spread = [0; 16];
            let mut i = 0;
            while i < 16 {
                spread[i] = (4 * STEP + 2 * (i / 8) + i % 2) as u8;
                i += 1;
            }
            spread
        };
        let input = supported!(vqtbl1q_s8(input, bytemuck::cast(spread)));
        self.dot(acc, input, weights)
    }

    #[inline(always)]
    fn interleave(self, rows: [int8x16_t; 3]) -> [int8x16_t; 4] {
        supported!({
            let [low, high, low2, high2] = byte_pairs(rows);
            let (low, low2) = (vreinterpretq_s64_s8(low), vreinterpretq_s64_s8(low2));
            let (high, high2) = (vreinterpretq_s64_s8(high), vreinterpretq_s64_s8(high2));
            [
                vreinterpretq_s8_s64(vzip1q_s64(low, low2)),
                vreinterpretq_s8_s64(vzip2q_s64(low, low2)),
                vreinterpretq_s8_s64(vzip1q_s64(high, high2)),
                vreinterpretq_s8_s64(vzip2q_s64(high, high2)),
            ]
        })
    }

    // Two products share one i16 lane before widening. The largest magnitude is
    // 128 · 127 · 2 = 32512, which fits; it would not with a weight of -128, which is why
    // `Package::parse` refuses such weights.
    #[inline(always)]
    fn dot(self, acc: int32x4_t, input: int8x16_t, weights: int8x16_t) -> int32x4_t {
        supported!({
            let pair = vmull_s8(vget_low_s8(input), vget_low_s8(weights));
            let pair = vmlal_high_s8(pair, input, weights);
            vpadalq_s16(acc, pair)
        })
    }
}

impl Simd for Dotprod {
    const PIXELS: [usize; 3] = [6, 8, 8];

    common!("neon,dotprod");

    type InputBlock = [i8; 16];

    const STEPS: usize = 4;

    #[inline(always)]
    fn input(self, block: &[i8; 16]) -> int8x16_t {
        load(block)
    }

    #[inline(always)]
    fn input_partial(self, values: &[i8]) -> int8x16_t {
        load_partial(values)
    }

    #[inline(always)]
    fn dot_step<const STEP: usize>(
        self,
        acc: int32x4_t,
        input: int8x16_t,
        weights: int8x16_t,
    ) -> int32x4_t {
        supported!(sdot_lane::<STEP>(acc, weights, input))
    }

    #[inline(always)]
    fn interleave(self, rows: [int8x16_t; 3]) -> [int8x16_t; 4] {
        supported!({
            let [low, high, low2, high2] = byte_pairs(rows);
            let (low, low2) = (vreinterpretq_s16_s8(low), vreinterpretq_s16_s8(low2));
            let (high, high2) = (vreinterpretq_s16_s8(high), vreinterpretq_s16_s8(high2));
            [
                vreinterpretq_s8_s16(vzip1q_s16(low, low2)),
                vreinterpretq_s8_s16(vzip2q_s16(low, low2)),
                vreinterpretq_s8_s16(vzip1q_s16(high, high2)),
                vreinterpretq_s8_s16(vzip2q_s16(high, high2)),
            ]
        })
    }

    #[inline(always)]
    fn dot(self, acc: int32x4_t, input: int8x16_t, weights: int8x16_t) -> int32x4_t {
        supported!(sdot(acc, weights, input))
    }
}

// `vdotq_s32` and `vdotq_laneq_s32` become stable with Rust 1.98: then these two go.

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction of the enabled features, on registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// The four bytes of `b` at place `LANE` with each four of `a`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_lane<const LANE: usize>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction of the enabled features, on registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
