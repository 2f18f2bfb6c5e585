use core::arch::x86_64::*;

use super::ymm::Ymm256;
use super::{ROUNDING, supported};
use crate::arch::pack::Fast;
use crate::arch::simd::{Clamp, Kernel, Simd, first, partial};

/// AVX-512 with VNNI: Ice Lake, Zen 4 and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    pub(crate) fn new() -> Option<Self> {
        let has = detected!("avx512f")
            && detected!("avx512bw")
            && detected!("avx512vl")
            && detected!("avx512vnni")
            && detected!("avx2")
            && detected!("fma");
        has.then_some(Self(()))
    }
}

#[inline(always)]
fn load(block: &[i8; 64]) -> __m512i {
    bytemuck::cast(*block)
}

/// One fused multiply-add in single precision, the zero point included; `scale` holds the bits
/// of an `f32`.
#[inline(always)]
fn scale_float(acc: __m512i, scale: __m512i, clamp: Clamp) -> __m512i {
    supported!({
        let rounding = _mm512_set1_ps(ROUNDING);
        let scale = _mm512_castsi512_ps(scale);
        let rounding_to = _mm512_set1_ps(ROUNDING + f32::from(clamp.zero_point));
        let rounded = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), scale, rounding_to);
        _mm512_sub_epi32(_mm512_castps_si512(rounded), _mm512_castps_si512(rounding))
    })
}

impl Simd for Avx512Vnni {
    type Acc = __m512i;
    type Bytes = __m512i;
    type Weights = __m512i;
    type Input = __m512i;
    type InputBlock = [i8; 4];
    type ByteBlock = [i8; 64];
    type LaneBlock = [i32; 16];
    type Half = Ymm256;

    const LANES: usize = 16;
    const STEPS: usize = 1;
    const UNSIGNED: bool = true;
    const FAST: Fast = Fast::Float;
    const PIXELS: [usize; 3] = [6, 8, 8];

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        #[inline(never)]
        fn vectorized<K: Kernel>(simd: Avx512Vnni, kernel: K) {
            kernel.run(simd);
        }
        // SAFETY: this token exists only where the processor has these features.
        unsafe { vectorized(self, kernel) }
    }

    #[inline(always)]
    fn half(self) -> Ymm256 {
        Ymm256::of_avx512(self)
    }

    #[inline(always)]
    fn lanes(self, block: &[i32; 16]) -> __m512i {
        bytemuck::cast(*block)
    }

    #[inline(always)]
    fn weights(self, block: &[i8; 64]) -> __m512i {
        load(block)
    }

    #[inline(always)]
    fn bytes(self, block: &[i8; 64]) -> __m512i {
        load(block)
    }

    #[inline(always)]
    fn bytes_partial(self, values: &[i8]) -> __m512i {
        let mask = (1u64 << values.len().min(63)) - 1;
        // SAFETY: the mask has no bit past the values, and the token stands for the features.
        unsafe { _mm512_maskz_loadu_epi8(mask, values.as_ptr()) }
    }

    #[inline(always)]
    fn splat(self, value: i8) -> __m512i {
        supported!(_mm512_set1_epi8(value))
    }

    #[inline(always)]
    fn input(self, block: &[i8; 4]) -> __m512i {
        supported!(_mm512_set1_epi32(bytemuck::cast(*block)))
    }

    #[inline(always)]
    fn input_partial(self, values: &[i8]) -> __m512i {
        self.input(&bytemuck::cast(partial(values) as u32))
    }

    #[inline(always)]
    fn dot_step<const STEP: usize>(
        self,
        acc: __m512i,
        input: __m512i,
        weights: __m512i,
    ) -> __m512i {
        self.dot(acc, input, weights)
    }

    #[inline(always)]
    fn interleave(self, [r0, r1, r2]: [__m512i; 3]) -> [__m512i; 4] {
        supported!({
            let zero = _mm512_setzero_si512();
            let (low, high) = (_mm512_unpacklo_epi8(r0, r1), _mm512_unpackhi_epi8(r0, r1));
            let (low2, high2) = (
                _mm512_unpacklo_epi8(r2, zero),
                _mm512_unpackhi_epi8(r2, zero),
            );
            [
                _mm512_unpacklo_epi16(low, low2),
                _mm512_unpackhi_epi16(low, low2),
                _mm512_unpacklo_epi16(high, high2),
                _mm512_unpackhi_epi16(high, high2),
            ]
        })
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, input: __m512i, weights: __m512i) -> __m512i {
        supported!(_mm512_dpbusd_epi32(acc, input, weights))
    }

    #[inline(always)]
    fn spread(self, bytes: __m512i) -> __m512i {
        bytes
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        supported!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn sum(self, acc: __m512i) -> i32 {
        supported!(_mm512_reduce_add_epi32(acc))
    }

    #[inline(always)]
    fn multiply_add(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        supported!(_mm512_add_epi32(acc, _mm512_mullo_epi32(a, b)))
    }

    #[inline(always)]
    fn widen<const C: usize>(self, values: &[i8]) -> [__m512i; C] {
        supported!({
            let zero = _mm512_setzero_si512();
            match C {
                1 => {
                    let values = values.first_chunk::<16>().expect("a vector of lanes");
                    let bytes = bytemuck::cast(*values);
                    [_mm512_cvtepu8_epi32(bytes); C]
                }
                2 => {
                    let values = values.first_chunk::<32>().expect("two vectors of lanes");
                    let words = _mm512_cvtepu8_epi16(bytemuck::cast(*values));
                    let wide = [
                        _mm512_unpacklo_epi16(words, zero),
                        _mm512_unpackhi_epi16(words, zero),
                    ];
                    first(wide)
                }
                _ => {
                    let bytes = load(values.first_chunk().expect("four vectors of lanes"));
                    let low = _mm512_unpacklo_epi8(bytes, zero);
                    let high = _mm512_unpackhi_epi8(bytes, zero);
                    let wide = [
                        _mm512_unpacklo_epi16(low, zero),
                        _mm512_unpackhi_epi16(low, zero),
                        _mm512_unpacklo_epi16(high, zero),
                        _mm512_unpackhi_epi16(high, zero),
                    ];
                    first(wide)
                }
            }
        })
    }

    #[inline(always)]
    fn scale<const FAST: bool>(
        self,
        acc: __m512i,
        multiplier: __m512i,
        shift: __m512i,
        clamp: Clamp,
    ) -> __m512i {
        if FAST {
            return scale_float(acc, multiplier, clamp);
        }
        supported!({
            let even_product = _mm512_mul_epi32(acc, multiplier);
            let (acc, multiplier) = (
                _mm512_srli_epi64::<32>(acc),
                _mm512_srli_epi64::<32>(multiplier),
            );
            let odd_product = _mm512_mul_epi32(acc, multiplier);
            // Bits 31 to 62 of each product; the multiplier is below 2^31, so they hold it.
            let high = _mm512_mask_blend_epi32(
                0xaaaa,
                _mm512_srli_epi64::<31>(even_product),
                _mm512_add_epi64(odd_product, odd_product),
            );
            // ⌊h / 2^s + ½⌋ = ⌊h / 2^s⌋ + bit s − 1 of h: nothing overflows.
            let one = _mm512_set1_epi32(1);
            let below = _mm512_srav_epi32(high, _mm512_sub_epi32(shift, one));
            _mm512_add_epi32(_mm512_srav_epi32(high, shift), _mm512_and_si512(below, one))
        })
    }

    #[inline(always)]
    fn narrow<const FAST: bool>(self, scaled: [__m512i; 4], clamp: Clamp) -> __m512i {
        supported!({
            let low = _mm512_packs_epi32(scaled[0], scaled[1]);
            let high = _mm512_packs_epi32(scaled[2], scaled[3]);
            let bytes = if FAST {
                _mm512_packus_epi16(low, high)
            } else {
                let zero_point = _mm512_set1_epi16(clamp.zero_point);
                _mm512_packus_epi16(
                    _mm512_adds_epi16(low, zero_point),
                    _mm512_adds_epi16(high, zero_point),
                )
            };
            if FAST {
                return bytes;
            }
            let bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(clamp.min));
            _mm512_min_epu8(bytes, _mm512_set1_epi8(clamp.max))
        })
    }

    #[inline(always)]
    fn arrange<const C: usize>(self, bytes: __m512i) -> __m512i {
        supported!(match C {
            1 => {
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                _mm512_permutexvar_epi32(order, bytes)
            }
            2 => {
                let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
                _mm512_permutexvar_epi64(order, bytes)
            }
            _ => bytes,
        })
    }

    #[inline(always)]
    fn store<const C: usize>(self, bytes: __m512i, n: usize, output: &mut [i8]) {
        supported!(match C {
            1 => {
                let output = output.first_chunk_mut::<16>().expect("a vector of lanes");
                let bytes = match n {
                    0 => _mm512_castsi512_si128(bytes),
                    1 => _mm512_extracti32x4_epi32::<1>(bytes),
                    2 => _mm512_extracti32x4_epi32::<2>(bytes),
                    _ => _mm512_extracti32x4_epi32::<3>(bytes),
                };
                *output = bytemuck::cast(bytes);
            }
            2 => {
                let output = output
                    .first_chunk_mut::<32>()
                    .expect("two vectors of lanes");
                let bytes = match n {
                    0 => _mm512_castsi512_si256(bytes),
                    _ => _mm512_extracti64x4_epi64::<1>(bytes),
                };
                *output = bytemuck::cast(bytes);
            }
            _ => {
                let output = output
                    .first_chunk_mut::<64>()
                    .expect("four vectors of lanes");
                *output = bytemuck::cast(bytes);
            }
        })
    }

    #[inline(always)]
    fn store_partial(self, bytes: __m512i, output: &mut [i8]) {
        let mask = (1u64 << output.len().min(63)) - 1;
        // SAFETY: the mask has no bit past the output, and the token stands for the features.
        unsafe { _mm512_mask_storeu_epi8(output.as_mut_ptr(), mask, bytes) }
    }
}
