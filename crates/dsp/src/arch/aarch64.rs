//! NEON, which every AArch64 processor has.
//!
//! Between the FFT's first and last stage four complex values lie as `[re × 4, im × 4]`,
//! so that no stage has to sort them.

use core::arch::aarch64::*;

use sori_package::MelContract;

use super::shared::{self, Four, Triple};
use super::{Block, Scratch, scalar};
use crate::POWER_SHIFT;
use crate::dc::DcBlocker;
use crate::fft::{self, Complex, Fft};

/// Four complex values, in either order.
type Unit = [i32; 8];

/// Real and imaginary parts of four complex values.
#[derive(Clone, Copy)]
struct Vector {
    re: int32x4_t,
    im: int32x4_t,
}

#[inline]
#[target_feature(enable = "neon")]
fn load_four(from: &[i32; 4]) -> int32x4_t {
    // SAFETY: a load of the 16 bytes that the reference covers.
    unsafe { vld1q_s32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_four(to: &mut [i32; 4], x: int32x4_t) {
    // SAFETY: a store to the 16 bytes that the reference covers.
    unsafe { vst1q_s32(to.as_mut_ptr(), x) }
}

/// From `[re, im] × 4`.
#[inline]
#[target_feature(enable = "neon")]
fn load_pairs(from: &[i32; 8]) -> Vector {
    // SAFETY: a load of the 32 bytes that the reference covers.
    let int32x4x2_t(re, im) = unsafe { vld2q_s32(from.as_ptr()) };
    Vector { re, im }
}

/// To `[re, im] × 4`.
#[inline]
#[target_feature(enable = "neon")]
fn store_pairs(to: &mut [i32; 8], x: Vector) {
    // SAFETY: a store to the 32 bytes that the reference covers.
    unsafe { vst2q_s32(to.as_mut_ptr(), int32x4x2_t(x.re, x.im)) }
}

/// Four weights, widened.
#[inline]
#[target_feature(enable = "neon")]
fn load_weights(from: &[u16; 4]) -> uint32x4_t {
    // SAFETY: a load of the 8 bytes that the reference covers.
    vmovl_u16(unsafe { vld1_u16(from.as_ptr()) })
}

/// From `[re × 4, im × 4]`.
#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[i32; 8]) -> Vector {
    let [re, im] = halves(from);
    Vector {
        re: load_four(re),
        im: load_four(im),
    }
}

/// To `[re × 4, im × 4]`.
#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [i32; 8], x: Vector) {
    let (halves, _) = to.as_chunks_mut();
    store_four(&mut halves[0], x.re);
    store_four(&mut halves[1], x.im);
}

#[inline]
fn halves(x: &[i32; 8]) -> [&[i32; 4]; 2] {
    let (halves, _) = x.as_chunks();
    [&halves[0], &halves[1]]
}

/// [`fft::mul_high`] in all lanes. The instruction doubles the product, and halving it
/// again rounds down once more, which changes nothing: ⌊⌊2ab/2^32⌋/2⌋ = ⌊ab/2^32⌋. It
/// saturates only where both are -2^31, and one factor here is always a table's.
#[inline]
#[target_feature(enable = "neon")]
fn mul_high(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    vshrq_n_s32::<1>(vqdmulhq_s32(a, b))
}

/// `acc` + [`mul_high`].
#[inline]
#[target_feature(enable = "neon")]
fn add_mul_high(acc: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    vsraq_n_s32::<1>(acc, vqdmulhq_s32(a, b))
}

#[inline]
#[target_feature(enable = "neon")]
fn reversed(x: int32x4_t) -> int32x4_t {
    let pairs = vrev64q_s32(x);
    vextq_s32::<2>(pairs, pairs)
}

impl Vector {
    #[inline]
    #[target_feature(enable = "neon")]
    fn map(self, f: impl Fn(int32x4_t) -> int32x4_t) -> Self {
        Self {
            re: f(self.re),
            im: f(self.im),
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn add(self, other: Self) -> Self {
        Self {
            re: vaddq_s32(self.re, other.re),
            im: vaddq_s32(self.im, other.im),
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn sub(self, other: Self) -> Self {
        Self {
            re: vsubq_s32(self.re, other.re),
            im: vsubq_s32(self.im, other.im),
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn halved(self) -> Self {
        self.map(|x| vshrq_n_s32::<1>(x))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn quartered(self) -> Self {
        self.map(|x| vshrq_n_s32::<2>(x))
    }

    /// self · w / 4, rounded as in the scalar transform.
    #[inline]
    #[target_feature(enable = "neon")]
    fn rotated_quarter(self, w: Self) -> Self {
        Self {
            re: vsubq_s32(mul_high(self.re, w.re), mul_high(self.im, w.im)),
            im: add_mul_high(mul_high(self.re, w.im), self.im, w.re),
        }
    }

    /// −i · self / 4, rounded as in the scalar transform.
    #[inline]
    #[target_feature(enable = "neon")]
    fn turned_quarter(self) -> Self {
        Self {
            re: vnegq_s32(vshrq_n_s32::<2>(vnegq_s32(self.im))),
            im: vshrq_n_s32::<2>(vnegq_s32(self.re)),
        }
    }

    /// The first value last.
    #[inline]
    #[target_feature(enable = "neon")]
    fn reversed(self) -> Self {
        self.map(|x| reversed(x))
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn butterfly(p: Vector, q: Vector, r: Vector, s: Vector) -> [Vector; 4] {
    let (even, odd) = (p.add(r), p.sub(r));
    let (sum, difference) = (q.add(s), q.sub(s));
    let turned = Vector {
        re: difference.im,
        im: vnegq_s32(difference.re),
    };
    [
        even.add(sum),
        odd.add(turned),
        even.sub(sum),
        odd.sub(turned),
    ]
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "neon")]
fn transposed(rows: [Vector; 4]) -> [Vector; 4] {
    let [re0, re1, re2, re3] = transposed_parts(rows.map(|x| x.re));
    let [im0, im1, im2, im3] = transposed_parts(rows.map(|x| x.im));
    [
        Vector { re: re0, im: im0 },
        Vector { re: re1, im: im1 },
        Vector { re: re2, im: im2 },
        Vector { re: re3, im: im3 },
    ]
}

#[inline]
#[target_feature(enable = "neon")]
fn transposed_parts([a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 4] {
    let wide = |x| vreinterpretq_s64_s32(x);
    let narrow = |x| vreinterpretq_s32_s64(x);
    let (ab_even, ab_odd) = (wide(vtrn1q_s32(a, b)), wide(vtrn2q_s32(a, b)));
    let (cd_even, cd_odd) = (wide(vtrn1q_s32(c, d)), wide(vtrn2q_s32(c, d)));
    [
        narrow(vtrn1q_s64(ab_even, cd_even)),
        narrow(vtrn1q_s64(ab_odd, cd_odd)),
        narrow(vtrn2q_s64(ab_even, cd_even)),
        narrow(vtrn2q_s64(ab_odd, cd_odd)),
    ]
}

#[target_feature(enable = "neon")]
pub(super) fn block_dc(dc: &mut DcBlocker, from: &[i32], to: &mut [i32]) {
    scalar::block_dc(dc, from, to);
}

#[target_feature(enable = "neon")]
pub(super) fn move_down(values: &mut [i32], by: usize) {
    scalar::move_down(values, by);
}

#[target_feature(enable = "neon")]
pub(super) fn magnitudes(values: &[i32]) -> i32 {
    scalar::magnitudes(values)
}

#[target_feature(enable = "neon")]
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
    for stage in stages {
        match units.len() / stage.len() {
            0..4 => break,
            4 => radix4::<true>(stage, units),
            _ => radix4::<false>(stage, units),
        }
    }
    split(shared::split(half), spectrum);
}

/// Takes four blocks at a time, leg by leg, and puts each where the next stage reads it.
#[target_feature(enable = "neon")]
fn first_radix4(fft: Fft, samples: &[Unit], units: &mut [Unit]) {
    let leg = samples.len() / 4;
    for group in 0..units.len() / 4 {
        let [p, q, r, s] = [0, 1, 2, 3].map(|n| load_pairs(&samples[group + n * leg]).quartered());
        let blocks = transposed(butterfly(p, q, r, s));
        let at = fft.position(4 * group) / 4;
        for (n, x) in blocks.into_iter().enumerate() {
            store(&mut units[at + n * (units.len() / 4)], x);
        }
    }
}

/// [`first_radix4`], with the radix-2 stage before it.
#[target_feature(enable = "neon")]
fn first_radix8(fft: Fft, samples: &[Unit], units: &mut [Unit]) {
    let leg = samples.len() / 8;
    let eighth = vdupq_n_s32(fft::EIGHTH_Q30);
    let minus_eighth = vdupq_n_s32(-fft::EIGHTH_Q30);
    let w1 = Vector {
        re: eighth,
        im: minus_eighth,
    };
    let w3 = Vector {
        re: minus_eighth,
        im: minus_eighth,
    };
    for group in 0..units.len() / 8 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| {
            let [x, y] = [n, n + 4].map(|n| load_pairs(&samples[group + n * leg]).halved());
            [x.add(y), x.sub(y)]
        });
        let [p, q, r, s] = [a[0], b[0], c[0], d[0]].map(|x| x.quartered());
        let even = butterfly(p, q, r, s);
        let (q, s) = (b[1].rotated_quarter(w1), d[1].rotated_quarter(w3));
        let odd = butterfly(a[1].quartered(), q, c[1].turned_quarter(), s);
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

/// The `LAST` stage hands on complex values in pairs.
#[target_feature(enable = "neon")]
fn radix4<const LAST: bool>(twiddles: &[Triple], units: &mut [Unit]) {
    let quarter = twiddles.len();
    for block in units.chunks_exact_mut(4 * quarter) {
        let (p, q) = block.split_at_mut(quarter);
        let (q, r) = q.split_at_mut(quarter);
        let (r, s) = r.split_at_mut(quarter);
        let legs = p.iter_mut().zip(q).zip(r.iter_mut().zip(s));
        for (((p, q), (r, s)), [w1, w2, w3]) in legs.zip(twiddles) {
            let rotated = |x: &Unit, [re, im]: &Four| {
                let (re, im) = (load_four(re), load_four(im));
                load(x).rotated_quarter(Vector { re, im })
            };
            let joined = butterfly(
                load(p).quartered(),
                rotated(q, w1),
                rotated(r, w2),
                rotated(s, w3),
            );
            for (to, x) in [p, q, r, s].into_iter().zip(joined) {
                if LAST {
                    store_pairs(to, x);
                } else {
                    store(to, x);
                }
            }
        }
    }
}

/// The split of the real bins, four and their mirrors at a time.
#[target_feature(enable = "neon")]
fn split(twiddles: &[Four], spectrum: &mut [Complex]) {
    // The first vector takes bin 0 along, which has no mirror yet: it comes afterwards.
    let first = spectrum[0];
    let half = spectrum.len() - 1;
    let (low, high) = spectrum.split_at_mut(half / 2 + 1);
    let low = low.as_flattened_mut().as_chunks_mut().0;
    let high = high.as_flattened_mut().as_chunks_mut().0;
    let mirrored = low.iter_mut().zip(high.iter_mut().rev());
    for ((z, mirror), [cos, sin]) in mirrored.zip(twiddles) {
        let (a, b) = (load_pairs(z), load_pairs(mirror).reversed());
        let (quarter_a, quarter_b) = (a.quartered(), b.quartered());
        let even = Vector {
            re: vaddq_s32(quarter_a.re, quarter_b.re),
            im: vsubq_s32(quarter_a.im, quarter_b.im),
        };
        let (a, b) = (a.halved(), b.halved());
        let odd = Vector {
            re: vaddq_s32(a.im, b.im),
            im: vsubq_s32(b.re, a.re),
        };
        let (cos, sin) = (load_four(cos), load_four(sin));
        let turned = Vector {
            re: add_mul_high(mul_high(odd.re, cos), odd.im, sin),
            im: vsubq_s32(mul_high(odd.im, cos), mul_high(odd.re, sin)),
        };
        store_pairs(z, even.add(turned));
        let conjugate = Vector {
            re: vsubq_s32(even.re, turned.re),
            im: vsubq_s32(turned.im, even.im),
        };
        store_pairs(mirror, conjugate.reversed());
    }
    spectrum[0] = first;
    fft::split_ends(spectrum);
}

#[target_feature(enable = "neon")]
pub(super) fn powers(bins: &mut [Complex], headroom: u32) -> u64 {
    let shift = vdupq_n_s32(headroom as i32);
    let (pairs, last) = bins.as_chunks_mut::<2>();
    let mut sum = vdupq_n_u64(0);
    for bins in pairs
        .as_flattened_mut()
        .as_flattened_mut()
        .as_chunks_mut()
        .0
    {
        let x = vshlq_s32(load_four(bins), shift);
        let low = vmull_s32(vget_low_s32(x), vget_low_s32(x));
        let power = vreinterpretq_u64_s64(vpaddq_s64(low, vmull_high_s32(x, x)));
        let power = vshrq_n_u64::<{ POWER_SHIFT as i32 }>(power);
        sum = vaddq_u64(sum, power);
        store_four(bins, vreinterpretq_s32_u64(power));
    }
    vaddvq_u64(sum) + scalar::powers(last, headroom)
}

#[target_feature(enable = "neon")]
pub(super) fn band_powers(
    powers: &[Complex],
    contract: &MelContract<'_>,
    mut on_band: impl FnMut(u64),
) {
    for band in contract.filterbank() {
        on_band(band_power(&powers[band.first_bin..], band.weights_q15));
    }
}

/// Weights of 16 bits against both halves of the powers. The upper halves have 7 bits at
/// most (see [`POWER_SHIFT`]): their sums fit 32.
#[inline]
#[target_feature(enable = "neon")]
fn band_power(powers: &[Complex], weights_q15: &[u16]) -> u64 {
    let (weights, weights_left) = weights_q15.as_chunks();
    let (fours, left) = powers[..weights_q15.len()].split_at(4 * weights.len());
    let fours = fours.as_flattened().as_chunks().0;
    let (mut low_sum, mut high_sum) = (vdupq_n_u64(0), vdupq_n_u32(0));
    for (power, weights) in fours.iter().zip(weights) {
        let [first, second] = halves(power).map(|x| load_four(x));
        let low = vreinterpretq_u32_s32(vuzp1q_s32(first, second));
        let high = vreinterpretq_u32_s32(vuzp2q_s32(first, second));
        let weights = load_weights(weights);
        low_sum = vmlal_u32(low_sum, vget_low_u32(low), vget_low_u32(weights));
        low_sum = vmlal_high_u32(low_sum, low, weights);
        high_sum = vmlaq_u32(high_sum, high, weights);
    }
    vaddvq_u64(low_sum) + (vaddlvq_u32(high_sum) << 32) + scalar::band_power(left, weights_left)
}

#[target_feature(enable = "neon")]
pub(super) fn dot(samples: &[i32], taps: &[i32]) -> i64 {
    scalar::dot(samples, taps)
}

#[target_feature(enable = "neon")]
pub(super) fn dot_mirrored(before: &[i32], after: &[i32], taps: &[i32]) -> i64 {
    scalar::dot_mirrored(before, after, taps)
}
