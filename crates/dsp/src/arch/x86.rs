//! AVX2. A vector is four complex values, `[re, im]` side by side as in memory.
//!
//! `_mm256_mul_epi32` multiplies the even lanes to 64 bits, so a product's high word
//! comes to lie in the odd lane: sums and differences of high words are taken there,
//! whatever the even lanes hold, and real parts go back to the even lanes at the end.

use core::arch::x86_64::*;

use sori_package::MelContract;

use super::shared::{self, Four, Triple};
use super::{Block, Scratch, scalar};
use crate::POWER_SHIFT;
use crate::dc::DcBlocker;
use crate::fft::{self, Complex, Fft};

/// Four complex values.
type Unit = [i32; 8];

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[i32; 8]) -> __m256i {
    // SAFETY: an unaligned load of the 32 bytes that the reference covers.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [i32; 8], x: __m256i) {
    // SAFETY: an unaligned store to the 32 bytes that the reference covers.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
}

/// One value to an even lane each.
#[inline]
#[target_feature(enable = "avx2")]
fn load_widened(from: &[i32; 4]) -> __m256i {
    // SAFETY: an unaligned load of the 16 bytes that the reference covers.
    _mm256_cvtepi32_epi64(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

/// One weight to a 64-bit lane each.
#[inline]
#[target_feature(enable = "avx2")]
fn load_weights(from: &[u16; 4]) -> __m256i {
    // SAFETY: a load of the 8 bytes that the reference covers.
    _mm256_cvtepu16_epi64(unsafe { _mm_loadl_epi64(from.as_ptr().cast()) })
}

/// The odd lanes to the even ones.
#[inline]
#[target_feature(enable = "avx2")]
fn odd(x: __m256i) -> __m256i {
    _mm256_srli_epi64::<32>(x)
}

/// Real parts and imaginary parts, both in the odd lanes, to where they belong.
#[inline]
#[target_feature(enable = "avx2")]
fn join(re: __m256i, im: __m256i) -> __m256i {
    _mm256_blend_epi32::<0b1010_1010>(odd(re), im)
}

/// 1 for real and −1 for imaginary parts.
#[inline]
#[target_feature(enable = "avx2")]
fn conjugate(x: __m256i) -> __m256i {
    _mm256_sign_epi32(x, _mm256_set1_epi64x((-1 << 32) | 1))
}

/// `[im, re]`.
#[inline]
#[target_feature(enable = "avx2")]
fn swapped(x: __m256i) -> __m256i {
    _mm256_shuffle_epi32::<0b10_11_00_01>(x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn reversed(x: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0))
}

/// x · w / 4, rounded as in the scalar transform; `re` and `im` of w in the even lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_quarter(x: __m256i, re: __m256i, im: __m256i) -> __m256i {
    let x_im = odd(x);
    join(
        _mm256_sub_epi32(_mm256_mul_epi32(x, re), _mm256_mul_epi32(x_im, im)),
        _mm256_add_epi32(_mm256_mul_epi32(x, im), _mm256_mul_epi32(x_im, re)),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn quartered(x: __m256i) -> __m256i {
    _mm256_srai_epi32::<2>(x)
}

/// −i · x / 4, rounded as in the scalar transform.
#[inline]
#[target_feature(enable = "avx2")]
fn turned_quarter(x: __m256i) -> __m256i {
    let minus_one = _mm256_set1_epi64x((1 << 32) | 0xffff_ffff);
    _mm256_sign_epi32(
        quartered(_mm256_sub_epi32(_mm256_setzero_si256(), swapped(x))),
        minus_one,
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn butterfly(p: __m256i, q: __m256i, r: __m256i, s: __m256i) -> [__m256i; 4] {
    let (even, odd) = (_mm256_add_epi32(p, r), _mm256_sub_epi32(p, r));
    let sum = _mm256_add_epi32(q, s);
    let difference = conjugate(swapped(_mm256_sub_epi32(q, s)));
    [
        _mm256_add_epi32(even, sum),
        _mm256_add_epi32(odd, difference),
        _mm256_sub_epi32(even, sum),
        _mm256_sub_epi32(odd, difference),
    ]
}

/// Rows to columns, of complex values.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_even, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd_even, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab_even, cd_even),
        _mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd),
        _mm256_permute2x128_si256::<0x31>(ab_even, cd_even),
        _mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd),
    ]
}

#[target_feature(enable = "avx2")]
pub(super) fn block_dc(dc: &mut DcBlocker, from: &[i32], to: &mut [i32]) {
    scalar::block_dc(dc, from, to);
}

#[target_feature(enable = "avx2")]
pub(super) fn move_down(values: &mut [i32], by: usize) {
    scalar::move_down(values, by);
}

#[target_feature(enable = "avx2")]
pub(super) fn magnitudes(values: &[i32]) -> i32 {
    scalar::magnitudes(values)
}

#[target_feature(enable = "avx2")]
pub(super) fn transform(
    fft: Fft,
    block: &Block<'_>,
    scratch: &mut Scratch,
    spectrum: &mut [Complex],
) {
    let half = spectrum.len() - 1;
    let samples = &mut scratch.windowed[..2 * half];
    block.windowed(samples);
    let samples = samples.as_chunks().0;
    let units = spectrum[..half].as_flattened_mut().as_chunks_mut().0;
    let stages = if half.trailing_zeros() % 2 == 1 {
        first_radix8(fft, samples, units);
        &shared::AFTER_RADIX8[..]
    } else {
        first_radix4(fft, samples, units);
        &shared::AFTER_RADIX4[..]
    };
    let lengths = units.len();
    for stage in stages.iter().take_while(|stage| stage.len() < lengths) {
        radix4(stage, units);
    }
    split(shared::split(half), spectrum);
}

/// Takes four blocks at a time, leg by leg, and puts each where the next stage reads it.
#[inline]
#[target_feature(enable = "avx2")]
fn first_radix4(fft: Fft, samples: &[Unit], units: &mut [Unit]) {
    let leg = samples.len() / 4;
    for group in 0..units.len() / 4 {
        let part = |n| quartered(load(&samples[group + n * leg]));
        let (p, q, r, s) = (part(0), part(1), part(2), part(3));
        let blocks = transposed(butterfly(p, q, r, s));
        let at = fft.position(4 * group) / 4;
        for (n, x) in blocks.into_iter().enumerate() {
            store(&mut units[at + n * (units.len() / 4)], x);
        }
    }
}

/// [`first_radix4`], with the radix-2 stage before it.
#[inline]
#[target_feature(enable = "avx2")]
fn first_radix8(fft: Fft, samples: &[Unit], units: &mut [Unit]) {
    let leg = samples.len() / 8;
    let eighth = _mm256_set1_epi32(fft::EIGHTH_Q30);
    let minus_eighth = _mm256_set1_epi32(-fft::EIGHTH_Q30);
    for group in 0..units.len() / 8 {
        let part = |n| _mm256_srai_epi32::<1>(load(&samples[group + n * leg]));
        let radix2 = |n| {
            let (x, y) = (part(n), part(n + 4));
            [_mm256_add_epi32(x, y), _mm256_sub_epi32(x, y)]
        };
        // Not `map`: what has no AVX2 itself does not let the closure in.
        let (a, b, c, d) = (radix2(0), radix2(1), radix2(2), radix2(3));
        let even = butterfly(
            quartered(a[0]),
            quartered(b[0]),
            quartered(c[0]),
            quartered(d[0]),
        );
        let q = rotate_quarter(b[1], eighth, minus_eighth);
        let s = rotate_quarter(d[1], minus_eighth, minus_eighth);
        let odd = butterfly(quartered(a[1]), q, turned_quarter(c[1]), s);
        let low = transposed([even[0], odd[0], even[1], odd[1]]);
        let high = transposed([even[2], odd[2], even[3], odd[3]]);
        let at = fft.position(4 * group) / 4;
        for (n, (low, high)) in low.into_iter().zip(high).enumerate() {
            let at = at + n * (units.len() / 4);
            store(&mut units[at], low);
            store(&mut units[at + 1], high);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn radix4(twiddles: &[Triple], units: &mut [Unit]) {
    let quarter = twiddles.len();
    for block in units.chunks_exact_mut(4 * quarter) {
        let (p, q) = block.split_at_mut(quarter);
        let (q, r) = q.split_at_mut(quarter);
        let (r, s) = r.split_at_mut(quarter);
        let legs = p.iter_mut().zip(q).zip(r.iter_mut().zip(s));
        for (((p, q), (r, s)), [w1, w2, w3]) in legs.zip(twiddles) {
            let rotated = |x: &Unit, [re, im]: &Four| {
                rotate_quarter(load(x), load_widened(re), load_widened(im))
            };
            let joined = butterfly(
                quartered(load(p)),
                rotated(q, w1),
                rotated(r, w2),
                rotated(s, w3),
            );
            for (to, x) in [p, q, r, s].into_iter().zip(joined) {
                store(to, x);
            }
        }
    }
}

/// The split of the real bins, four and their mirrors at a time.
#[inline]
#[target_feature(enable = "avx2")]
fn split(twiddles: &[Four], spectrum: &mut [Complex]) {
    // The first vector takes bin 0 along, which has no mirror yet: it comes afterwards.
    let first = spectrum[0];
    let half = spectrum.len() - 1;
    let (low, high) = spectrum.split_at_mut(half / 2 + 1);
    let low = low.as_flattened_mut().as_chunks_mut().0;
    let high = high.as_flattened_mut().as_chunks_mut().0;
    for ((z, mirror), [cos, sin]) in low.iter_mut().zip(high.iter_mut().rev()).zip(twiddles) {
        let (a, b) = (load(z), load(mirror));
        let b = _mm256_permute4x64_epi64::<0b00_01_10_11>(b);
        let even = _mm256_add_epi32(quartered(a), conjugate(quartered(b)));
        let (a, b) = (_mm256_srai_epi32::<1>(a), _mm256_srai_epi32::<1>(b));
        let odd_re = odd(_mm256_add_epi32(a, b));
        let odd_im = _mm256_sub_epi32(b, a);
        let (cos, sin) = (load_widened(cos), load_widened(sin));
        let turned = join(
            _mm256_add_epi32(_mm256_mul_epi32(odd_re, cos), _mm256_mul_epi32(odd_im, sin)),
            _mm256_sub_epi32(_mm256_mul_epi32(odd_im, cos), _mm256_mul_epi32(odd_re, sin)),
        );
        store(z, _mm256_add_epi32(even, turned));
        let mirrored = conjugate(_mm256_sub_epi32(even, turned));
        store(mirror, _mm256_permute4x64_epi64::<0b00_01_10_11>(mirrored));
    }
    spectrum[0] = first;
    fft::split_ends(spectrum);
}

#[target_feature(enable = "avx2")]
pub(super) fn powers(bins: &mut [Complex], headroom: u32) -> u64 {
    let (fours, rest) = bins.as_chunks_mut::<4>();
    let shift = _mm_cvtsi32_si128(headroom as i32);
    let mut total = _mm256_setzero_si256();
    for bins in fours
        .as_flattened_mut()
        .as_flattened_mut()
        .as_chunks_mut()
        .0
    {
        let re = _mm256_sll_epi32(load(bins), shift);
        let im = odd(re);
        let power = _mm256_add_epi64(_mm256_mul_epi32(re, re), _mm256_mul_epi32(im, im));
        let power = _mm256_srli_epi64::<{ POWER_SHIFT as i32 }>(power);
        total = _mm256_add_epi64(total, power);
        store(bins, power);
    }
    sum(total) as u64 + scalar::powers(rest, headroom)
}

#[target_feature(enable = "avx2")]
pub(super) fn band_powers(
    powers: &[Complex],
    contract: &MelContract<'_>,
    mut on_band: impl FnMut(u64),
) {
    for band in contract.filterbank() {
        on_band(band_power(&powers[band.first_bin..], band.weights_q15));
    }
}

/// Weights of 16 bits against both halves of the powers, whose sum fits 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn band_power(powers: &[Complex], weights_q15: &[u16]) -> u64 {
    let (weights, weights_left) = weights_q15.as_chunks();
    let (fours, left) = powers[..weights_q15.len()].split_at(4 * weights.len());
    let fours = fours.as_flattened().as_chunks().0;
    let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (power, weights) in fours.iter().zip(weights) {
        let (power, weights) = (load(power), load_weights(weights));
        low = _mm256_add_epi64(low, _mm256_mul_epu32(power, weights));
        high = _mm256_add_epi64(high, _mm256_mul_epu32(odd(power), weights));
    }
    let both = _mm256_add_epi64(low, _mm256_slli_epi64::<32>(high));
    sum(both) as u64 + scalar::band_power(left, weights_left)
}

#[target_feature(enable = "avx2")]
pub(super) fn dot(samples: &[i32], taps: &[i32]) -> i64 {
    scalar::dot(samples, taps)
}

#[target_feature(enable = "avx2")]
pub(super) fn dot_mirrored(before: &[i32], after: &[i32], taps: &[i32]) -> i64 {
    let (older, before) = before.as_rchunks();
    let (after, newer) = after.as_chunks();
    let (taps, last) = taps.as_chunks();
    let (mut even, mut odds) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for ((x, y), taps) in before.iter().rev().zip(after).zip(taps) {
        let (x, taps) = (_mm256_add_epi32(reversed(load(x)), load(y)), load(taps));
        even = _mm256_add_epi64(even, _mm256_mul_epi32(x, taps));
        odds = _mm256_add_epi64(odds, _mm256_mul_epi32(odd(x), odd(taps)));
    }
    sum(_mm256_add_epi64(even, odds)) + scalar::dot_mirrored(older, newer, last)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(x: __m256i) -> i64 {
    let x = _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    _mm_cvtsi128_si64(_mm_add_epi64(x, _mm_unpackhi_epi64(x, x)))
}
