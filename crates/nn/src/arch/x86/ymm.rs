//! 256-bit vectors: AVX2, AVX-VNNI, and the half vectors of AVX-512. They differ in the
//! dot product alone.

use core::arch::x86_64::*;

use super::avx512::Avx512Vnni;
use super::{ROUNDING, supported};
use crate::arch::pack::Fast;
use crate::arch::simd::{Clamp, Kernel, Simd, first, partial};

/// AVX2 and FMA: Haswell, Zen and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// AVX2, FMA and AVX-VNNI: Alder Lake, Zen 5 and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AvxVnni(());

/// AVX-512 VNNI on half vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ymm256(Avx512Vnni);

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        (detected!("avx2") && detected!("fma")).then_some(Self(()))
    }
}

impl AvxVnni {
    pub(crate) fn new() -> Option<Self> {
        (detected!("avxvnni") && detected!("avx2") && detected!("fma")).then_some(Self(()))
    }
}

impl Ymm256 {
    pub(crate) fn of_avx512(token: Avx512Vnni) -> Self {
        Self(token)
    }
}

/// Bytes as two vectors of 16-bit words, those at even and those at odd places.
#[derive(Clone, Copy)]
pub(crate) struct EvenOdd(__m256i, __m256i);

#[inline(always)]
fn load(block: &[i8; 32]) -> __m256i {
    bytemuck::cast(*block)
}

#[inline(always)]
fn broadcast(block: &[i8; 4]) -> __m256i {
    supported!(_mm256_set1_epi32(bytemuck::cast(*block)))
}

#[inline(always)]
fn interleave([r0, r1, r2]: [__m256i; 3]) -> [__m256i; 4] {
    supported!({
        let zero = _mm256_setzero_si256();
        let (low, high) = (_mm256_unpacklo_epi8(r0, r1), _mm256_unpackhi_epi8(r0, r1));
        let (low2, high2) = (
            _mm256_unpacklo_epi8(r2, zero),
            _mm256_unpackhi_epi8(r2, zero),
        );
        [
            _mm256_unpacklo_epi16(low, low2),
            _mm256_unpackhi_epi16(low, low2),
            _mm256_unpacklo_epi16(high, high2),
            _mm256_unpackhi_epi16(high, high2),
        ]
    })
}

/// One fused multiply-add in single precision, the zero point included; `scale` holds the bits
/// of an `f32`.
#[inline(always)]
fn scale_float(acc: __m256i, scale: __m256i, clamp: Clamp) -> __m256i {
    supported!({
        let rounding = _mm256_set1_ps(ROUNDING);
        let scale = _mm256_castsi256_ps(scale);
        let rounding_to = _mm256_set1_ps(ROUNDING + f32::from(clamp.zero_point));
        let rounded = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), scale, rounding_to);
        _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_castps_si256(rounding))
    })
}

/// What does not depend on the dot product.
macro_rules! common {
    ($features:literal) => {
        type Acc = __m256i;
        type Bytes = __m256i;
        type InputBlock = [i8; 4];
        type ByteBlock = [i8; 32];
        type LaneBlock = [i32; 8];
        type Half = Self;

        const LANES: usize = 8;
        const STEPS: usize = 1;
        const UNSIGNED: bool = true;
        const FAST: Fast = Fast::Float;

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
        fn lanes(self, block: &[i32; 8]) -> __m256i {
            bytemuck::cast(*block)
        }

        #[inline(always)]
        fn bytes(self, block: &[i8; 32]) -> __m256i {
            load(block)
        }

        #[inline(always)]
        fn bytes_partial(self, values: &[i8]) -> __m256i {
            // MobileNets have channels by the eight.
            match (
                values.len(),
                values.first_chunk::<16>(),
                values.last_chunk::<8>(),
            ) {
                (24, Some(low), Some(high)) => supported!(_mm256_set_m128i(
                    _mm_cvtsi64_si128(bytemuck::cast(*high)),
                    bytemuck::cast(*low),
                )),
                (16, Some(low), _) => supported!(_mm256_castsi128_si256(bytemuck::cast(*low))),
                (8, _, Some(low)) => supported!(_mm256_castsi128_si256(_mm_cvtsi64_si128(
                    bytemuck::cast(*low)
                ))),
                _ => {
                    let mut block = [0; 32];
                    block[..values.len()].copy_from_slice(values);
                    load(&block)
                }
            }
        }

        #[inline(always)]
        fn splat(self, value: i8) -> __m256i {
            supported!(_mm256_set1_epi8(value))
        }

        #[inline(always)]
        fn input_partial(self, values: &[i8]) -> Self::Input {
            self.input(&bytemuck::cast(partial(values) as u32))
        }

        #[inline(always)]
        fn dot_step<const STEP: usize>(
            self,
            acc: __m256i,
            input: Self::Input,
            weights: Self::Weights,
        ) -> __m256i {
            self.dot(acc, input, weights)
        }

        #[inline(always)]
        fn zero(self) -> __m256i {
            supported!(_mm256_setzero_si256())
        }

        #[inline(always)]
        fn sum(self, acc: __m256i) -> i32 {
            let lanes: [i32; 8] = bytemuck::cast(acc);
            lanes.into_iter().sum()
        }

        #[inline(always)]
        fn multiply_add(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
            supported!(_mm256_add_epi32(acc, _mm256_mullo_epi32(a, b)))
        }

        #[inline(always)]
        fn widen<const C: usize>(self, values: &[i8]) -> [__m256i; C] {
            supported!({
                let zero = _mm256_setzero_si256();
                match C {
                    1 => {
                        let values = values.first_chunk::<8>().expect("a vector of lanes");
                        let bytes = _mm_cvtsi64_si128(bytemuck::cast(*values));
                        [_mm256_cvtepu8_epi32(bytes); C]
                    }
                    2 => {
                        let values = values.first_chunk::<16>().expect("two vectors of lanes");
                        let words = _mm256_cvtepu8_epi16(bytemuck::cast(*values));
                        let wide = [
                            _mm256_unpacklo_epi16(words, zero),
                            _mm256_unpackhi_epi16(words, zero),
                        ];
                        first(wide)
                    }
                    _ => {
                        let bytes = load(values.first_chunk().expect("four vectors of lanes"));
                        let low = _mm256_unpacklo_epi8(bytes, zero);
                        let high = _mm256_unpackhi_epi8(bytes, zero);
                        let wide = [
                            _mm256_unpacklo_epi16(low, zero),
                            _mm256_unpackhi_epi16(low, zero),
                            _mm256_unpacklo_epi16(high, zero),
                            _mm256_unpackhi_epi16(high, zero),
                        ];
                        first(wide)
                    }
                }
            })
        }

        #[inline(always)]
        fn scale<const FAST: bool>(
            self,
            acc: __m256i,
            multiplier: __m256i,
            shift: __m256i,
            clamp: Clamp,
        ) -> __m256i {
            if FAST {
                return scale_float(acc, multiplier, clamp);
            }
            supported!({
                let even_product = _mm256_mul_epi32(acc, multiplier);
                let (acc, multiplier) = (
                    _mm256_srli_epi64::<32>(acc),
                    _mm256_srli_epi64::<32>(multiplier),
                );
                let odd_product = _mm256_mul_epi32(acc, multiplier);
                // As for AVX-512: bits 31 to 62, then one rounding.
                let high = _mm256_blend_epi32::<0xaa>(
                    _mm256_srli_epi64::<31>(even_product),
                    _mm256_add_epi64(odd_product, odd_product),
                );
                let one = _mm256_set1_epi32(1);
                let below = _mm256_srav_epi32(high, _mm256_sub_epi32(shift, one));
                _mm256_add_epi32(_mm256_srav_epi32(high, shift), _mm256_and_si256(below, one))
            })
        }

        #[inline(always)]
        fn narrow<const FAST: bool>(self, scaled: [__m256i; 4], clamp: Clamp) -> __m256i {
            supported!({
                let low = _mm256_packs_epi32(scaled[0], scaled[1]);
                let high = _mm256_packs_epi32(scaled[2], scaled[3]);
                let bytes = if FAST {
                    _mm256_packus_epi16(low, high)
                } else {
                    let zero_point = _mm256_set1_epi16(clamp.zero_point);
                    _mm256_packus_epi16(
                        _mm256_adds_epi16(low, zero_point),
                        _mm256_adds_epi16(high, zero_point),
                    )
                };
                if FAST {
                    return bytes;
                }
                let bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(clamp.min));
                _mm256_min_epu8(bytes, _mm256_set1_epi8(clamp.max))
            })
        }

        #[inline(always)]
        fn arrange<const C: usize>(self, bytes: __m256i) -> __m256i {
            supported!(match C {
                1 => {
                    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                    _mm256_permutevar8x32_epi32(bytes, order)
                }
                2 => _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes),
                _ => bytes,
            })
        }

        #[inline(always)]
        fn store<const C: usize>(self, bytes: __m256i, n: usize, output: &mut [i8]) {
            supported!(match C {
                1 => {
                    let output = output.first_chunk_mut::<8>().expect("a vector of lanes");
                    let value = match n {
                        0 => _mm256_extract_epi64::<0>(bytes),
                        1 => _mm256_extract_epi64::<1>(bytes),
                        2 => _mm256_extract_epi64::<2>(bytes),
                        _ => _mm256_extract_epi64::<3>(bytes),
                    };
                    *output = bytemuck::cast(value);
                }
                2 => {
                    let output = output
                        .first_chunk_mut::<16>()
                        .expect("two vectors of lanes");
                    let bytes = match n {
                        0 => _mm256_castsi256_si128(bytes),
                        _ => _mm256_extracti128_si256::<1>(bytes),
                    };
                    *output = bytemuck::cast(bytes);
                }
                _ => {
                    let output = output
                        .first_chunk_mut::<32>()
                        .expect("four vectors of lanes");
                    *output = bytemuck::cast(bytes);
                }
            })
        }

        #[inline(always)]
        fn store_partial(self, bytes: __m256i, output: &mut [i8]) {
            match output.len() {
                24 => {
                    let (low, high) = output.split_at_mut(16);
                    self.store::<2>(bytes, 0, low);
                    self.store::<1>(bytes, 2, high);
                }
                16 => self.store::<2>(bytes, 0, output),
                8 => self.store::<1>(bytes, 0, output),
                len => {
                    let mut block = [0; 32];
                    self.store::<4>(bytes, 0, &mut block);
                    output.copy_from_slice(&block[..len]);
                }
            }
        }
    };
}

macro_rules! with_vnni {
    ($dpbusd:ident) => {
        type Weights = __m256i;
        type Input = __m256i;

        #[inline(always)]
        fn weights(self, block: &[i8; 32]) -> __m256i {
            load(block)
        }

        #[inline(always)]
        fn input(self, block: &[i8; 4]) -> __m256i {
            broadcast(block)
        }

        #[inline(always)]
        fn interleave(self, rows: [__m256i; 3]) -> [__m256i; 4] {
            interleave(rows)
        }

        #[inline(always)]
        fn spread(self, bytes: __m256i) -> __m256i {
            bytes
        }

        #[inline(always)]
        fn dot(self, acc: __m256i, input: __m256i, weights: __m256i) -> __m256i {
            supported!($dpbusd(acc, input, weights))
        }
    };
}

impl Simd for Ymm256 {
    const PIXELS: [usize; 3] = [6, 8, 8];

    common!("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma");
    with_vnni!(_mm256_dpbusd_epi32);
}

impl Simd for AvxVnni {
    const PIXELS: [usize; 3] = [3, 4, 8];

    common!("avxvnni,avx2,fma");
    with_vnni!(_mm256_dpbusd_avx_epi32);
}

impl Simd for Avx2 {
    const PIXELS: [usize; 3] = [2, 4, 4];

    common!("avx2,fma");

    type Weights = EvenOdd;
    type Input = EvenOdd;

    #[inline(always)]
    fn weights(self, block: &[i8; 32]) -> EvenOdd {
        let bytes = load(block);
        supported!(EvenOdd(
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)),
            _mm256_srai_epi16::<8>(bytes),
        ))
    }

    #[inline(always)]
    fn input(self, block: &[i8; 4]) -> EvenOdd {
        unsigned(broadcast(block))
    }

    #[inline(always)]
    fn interleave(self, rows: [__m256i; 3]) -> [EvenOdd; 4] {
        let [a, b, c, d] = interleave(rows);
        [unsigned(a), unsigned(b), unsigned(c), unsigned(d)]
    }

    #[inline(always)]
    fn spread(self, bytes: __m256i) -> EvenOdd {
        unsigned(bytes)
    }

    // `vpmaddubsw` would do, were 255 · 127 · 2 below 2^15.
    #[inline(always)]
    fn dot(self, acc: __m256i, input: EvenOdd, weights: EvenOdd) -> __m256i {
        supported!({
            let even = _mm256_madd_epi16(input.0, weights.0);
            let odd = _mm256_madd_epi16(input.1, weights.1);
            _mm256_add_epi32(_mm256_add_epi32(acc, even), odd)
        })
    }
}

#[inline(always)]
fn unsigned(bytes: __m256i) -> EvenOdd {
    supported!(EvenOdd(
        _mm256_and_si256(bytes, _mm256_set1_epi16(0xff)),
        _mm256_srli_epi16::<8>(bytes),
    ))
}
