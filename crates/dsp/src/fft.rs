//! Real FFT of 256 to 2048 points in 32-bit fixed point.
//!
//! A real signal of N points is taken as N/2 complex ones (even samples real, odd
//! samples imaginary), transformed by radix-4 decimation in time, and split
//! (Proakis & Manolakis, *Digital Signal Processing*, §8.2).
//!
//! The block exponent is chosen once, before the transform: the caller scales its
//! block to just below 2^30 ([`load`](Fft::load) places it). From there every
//! radix-4 stage divides by 4, which costs nothing: twiddles are Q30, and a product's
//! high word is x·w/4. No stage has to look for headroom, none can overflow, and
//! the rounding noise stays some 30 dB below that of a 24-bit converter.

use crate::trig::{SPLIT_Q31, TWIDDLES_Q30};

/// `[re, im]`.
pub(crate) type Complex = [i32; 2];

/// High word of the product: `a · b / 2^32`, rounded down. One SMMUL on Cortex-M4.
#[inline(always)]
pub(crate) fn mul_high(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

/// x · w / 4 for a Q30 twiddle.
#[inline(always)]
pub(crate) fn rotate_quarter(x: Complex, w: Complex) -> Complex {
    [
        mul_high(x[0], w[0]) - mul_high(x[1], w[1]),
        mul_high(x[0], w[1]) + mul_high(x[1], w[0]),
    ]
}

#[inline(always)]
pub(crate) fn add(a: Complex, b: Complex) -> Complex {
    [a[0] + b[0], a[1] + b[1]]
}

#[inline(always)]
pub(crate) fn sub(a: Complex, b: Complex) -> Complex {
    [a[0] - b[0], a[1] - b[1]]
}

/// −i · a.
#[inline(always)]
fn turn(a: Complex) -> Complex {
    [a[1], -a[0]]
}

/// A real FFT of a fixed length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fft {
    /// Real points.
    points: usize,
    /// Radix-4 stages of the complex transform.
    stages: u32,
    /// Whether a radix-2 stage comes first.
    radix2: bool,
}

impl Fft {
    /// `points` is 256, 512, 1024 or 2048: what `MelContract` allows.
    pub(crate) fn new(points: usize) -> Self {
        debug_assert!(matches!(points, 256 | 512 | 1024 | 2048));
        let log2 = (points / 2).trailing_zeros();
        Self {
            points,
            stages: log2 / 2,
            radix2: log2 % 2 == 1,
        }
    }

    /// log2 of what the output must be multiplied by: the stages' scaling and the
    /// split's one half.
    pub(crate) fn output_exponent(self) -> i32 {
        (self.points.trailing_zeros()) as i32
    }

    /// Where complex sample `n` goes, so that the stages read in order.
    #[inline(always)]
    pub(crate) fn position(self, n: usize) -> usize {
        let digits = 2 * self.stages;
        let bits = (n as u32).reverse_bits() >> (32 - digits);
        let base4 = ((bits & 0x5555_5555) << 1) | ((bits >> 1) & 0x5555_5555);
        if self.radix2 {
            2 * base4 as usize + (n >> digits)
        } else {
            base4 as usize
        }
    }

    /// Places the block's samples, already scaled below 2^30 in magnitude, in the
    /// order the transform wants; what is missing at the end is zero.
    pub(crate) fn load(self, samples: impl Iterator<Item = i32>, spectrum: &mut [Complex]) {
        let mut samples = samples;
        for n in 0..self.points / 2 {
            let even = samples.next().unwrap_or(0);
            let odd = samples.next().unwrap_or(0);
            spectrum[self.position(n)] = [even, odd];
        }
    }

    /// Transforms a loaded block in place. Afterwards `spectrum[k]`, for `k` from 0 to
    /// N/2, is bin k times 2^-[`output_exponent`](Self::output_exponent).
    ///
    /// `spectrum` has N/2 + 1 elements.
    pub(crate) fn transform(self, spectrum: &mut [Complex]) {
        debug_assert_eq!(spectrum.len(), self.points / 2 + 1);
        let complex = &mut spectrum[..self.points / 2];
        self.first_stage(complex);
        if self.radix2 {
            radix4::<8, 32>(complex);
            radix4::<32, 128>(complex);
            radix4::<128, 512>(complex);
        } else {
            radix4::<4, 16>(complex);
            radix4::<16, 64>(complex);
            radix4::<64, 256>(complex);
            radix4::<256, 1024>(complex);
        }
        split(spectrum);
    }

    /// The stages whose twiddles are eighths of a turn at most.
    pub(crate) fn first_stage(self, complex: &mut [Complex]) {
        if self.radix2 {
            first_radix8(complex);
        } else {
            first_radix4(complex);
        }
    }
}

/// `[w, w², w³]` with w = e^(−2πi·k/1024): what one butterfly of the longest stage
/// needs, side by side; shorter stages step through it. 6 KiB of flash.
pub(crate) static TRIPLES_Q30: [[Complex; 3]; 256] = {
    let mut table = [[[0; 2]; 3]; 256];
    let mut k = 0;
    while k < table.len() {
        table[k] = [TWIDDLES_Q30[k], TWIDDLES_Q30[2 * k], TWIDDLES_Q30[3 * k]];
        k += 1;
    }
    table
};

/// Joins four sub-transforms' values: `p` is already a quarter, as the rotated ones are.
#[inline(always)]
pub(crate) fn butterfly(p: Complex, q: Complex, r: Complex, s: Complex) -> [Complex; 4] {
    let (even, odd) = (add(p, r), sub(p, r));
    let (sum, difference) = (add(q, s), turn(sub(q, s)));
    [
        add(even, sum),
        add(odd, difference),
        sub(even, sum),
        sub(odd, difference),
    ]
}

#[inline(always)]
pub(crate) fn quartered(x: Complex) -> Complex {
    [x[0] >> 2, x[1] >> 2]
}

/// −i · x / 4, rounded as [`rotate_quarter`] by the table's −i rounds.
#[inline(always)]
pub(crate) fn turned_quarter(x: Complex) -> Complex {
    [-(-x[1] >> 2), -x[0] >> 2]
}

/// The first stage where no radix-2 stage comes before it: every twiddle is 1, and a
/// product with 1 in Q30 is a shift.
fn first_radix4(complex: &mut [Complex]) {
    for block in complex.as_chunks_mut::<4>().0 {
        let [p, q, r, s] = block.map(quartered);
        *block = butterfly(p, q, r, s);
    }
}

/// cos of an eighth of a turn.
pub(crate) const EIGHTH_Q30: i32 = TWIDDLES_Q30[128][0];

/// The radix-2 stage and the radix-4 stage after it, whose twiddles are eighths of a turn.
fn first_radix8(complex: &mut [Complex]) {
    // A product with a constant that it can see LLVM takes apart into four instructions.
    let [w1, w2, w3] = core::hint::black_box(TRIPLES_Q30[128]);
    debug_assert_eq!(w1, [EIGHTH_Q30, -EIGHTH_Q30]);
    debug_assert_eq!(w2, [0, -(1 << 30)]);
    debug_assert_eq!(w3, [-EIGHTH_Q30, -EIGHTH_Q30]);
    for block in complex.as_chunks_mut::<8>().0 {
        let [a, b, c, d] = [0, 2, 4, 6].map(|n| {
            let [x, y] = [block[n], block[n + 1]].map(|x| [x[0] >> 1, x[1] >> 1]);
            [add(x, y), sub(x, y)]
        });
        let [p, q, r, s] = [a[0], b[0], c[0], d[0]].map(quartered);
        let even = butterfly(p, q, r, s);
        let (q, s) = (rotate_quarter(b[1], w1), rotate_quarter(d[1], w3));
        let odd = butterfly(quartered(a[1]), q, turned_quarter(c[1]), s);
        for n in 0..4 {
            block[2 * n] = even[n];
            block[2 * n + 1] = odd[n];
        }
    }
}

/// One stage: combines sub-transforms of length `QUARTER` four by four, scaled by 1/4.
///
/// The lengths are constants so that all four legs lie at constant distances from one
/// pointer: with a pointer for each, Cortex-M has too few registers.
#[inline(never)]
pub(crate) fn radix4<const QUARTER: usize, const BLOCK: usize>(complex: &mut [Complex]) {
    const { assert!(BLOCK == 4 * QUARTER) };
    for block in complex.as_chunks_mut::<BLOCK>().0 {
        for k in 0..QUARTER {
            let [w1, w2, w3] = &TRIPLES_Q30[k * (TRIPLES_Q30.len() / QUARTER)];
            let q = rotate_quarter(block[k + QUARTER], *w1);
            let s = rotate_quarter(block[k + 3 * QUARTER], *w3);
            let r = rotate_quarter(block[k + 2 * QUARTER], *w2);
            let p = quartered(block[k]);
            [
                block[k],
                block[k + QUARTER],
                block[k + 2 * QUARTER],
                block[k + 3 * QUARTER],
            ] = butterfly(p, q, r, s);
        }
    }
}

/// Separates the even and odd samples' transforms and joins them to N/2 + 1 real bins:
/// X\[k\]/2 = E/2 + W·O/2, with E and O the halves of Z\[k\] ± Z*\[N/2−k\].
fn split(spectrum: &mut [Complex]) {
    split_ends(spectrum);
    let half = spectrum.len() - 1;
    let stride = 1024 / half;
    let (low, high) = spectrum[1..half].split_at_mut(half / 2);
    let middle = low.len() - 1;
    let mut k = 0;
    for (z, mirror) in low[..middle].iter_mut().zip(high.iter_mut().rev()) {
        k += stride;
        // The remainder changes nothing and saves the check of the index.
        separate(z, mirror, SPLIT_Q31[k % 512]);
    }
}

/// Bins k and N/2 − k by themselves, [cos, sin] of 2π·k/N.
#[inline(always)]
pub(crate) fn separate(z: &mut Complex, mirror: &mut Complex, [cos, sin]: Complex) {
    let (a, b) = (*z, *mirror);
    let even = [(a[0] >> 2) + (b[0] >> 2), (a[1] >> 2) - (b[1] >> 2)];
    // O = −i·(Z[k] − Z*[N/2−k]) / 2, here doubled: the Q31 product halves it again.
    let odd = [(a[1] >> 1) + (b[1] >> 1), (b[0] >> 1) - (a[0] >> 1)];
    let turned = [
        mul_high(odd[0], cos) + mul_high(odd[1], sin),
        mul_high(odd[1], cos) - mul_high(odd[0], sin),
    ];
    *z = add(even, turned);
    *mirror = [even[0] - turned[0], turned[1] - even[1]];
}

/// The bins that no other one mirrors: k = 0, N/2 and, where the twiddle is −i, N/4.
pub(crate) fn split_ends(spectrum: &mut [Complex]) {
    let half = spectrum.len() - 1;
    let [re, im] = spectrum[0];
    spectrum[0] = [(re >> 1) + (im >> 1), 0];
    spectrum[half] = [(re >> 1) - (im >> 1), 0];
    let [re, im] = spectrum[half / 2];
    spectrum[half / 2] = [re >> 1, -(im >> 1)];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealFft, reference};

    /// SNR in dB over all bins.
    fn snr_db(samples: &[i32]) -> f64 {
        let mut workspace = vec![[0; 2]; samples.len() / 2 + 1];
        let mut fft = RealFft::new(samples.len(), &mut workspace).expect("a possible length");
        let spectrum = fft.transform(samples);
        let exact: Vec<_> = samples.iter().map(|&x| [f64::from(x), 0.0]).collect();
        let scale = 2f64.powi(spectrum.exponent);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (bin, exact) in spectrum.bins.iter().zip(reference::fft(&exact)) {
            for part in 0..2 {
                signal += exact[part].powi(2);
                noise += (exact[part] - f64::from(bin[part]) * scale).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    }

    fn noise(samples: usize, amplitude: f64) -> Vec<i32> {
        let mut state = 1u64;
        (0..samples)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                ((state >> 33) as f64 / 2f64.powi(30) - 1.0) * amplitude
            })
            .map(|x| x as i32)
            .collect()
    }

    fn sine(samples: usize, cycles: f64, amplitude: f64) -> Vec<i32> {
        let phase = |n: usize| core::f64::consts::TAU * cycles * n as f64 / samples as f64;
        (0..samples)
            .map(|n| (amplitude * phase(n).sin()) as i32)
            .collect()
    }

    /// Levels of 24-bit samples: full scale, and what a microphone delivers.
    #[test]
    fn the_fft_is_within_90_db_of_exact_at_every_length_and_level() {
        println!("points  level   sine on a bin  sine between  noise");
        for points in [256, 512, 1024, 2048] {
            for level_db in [0, -20, -50, -90] {
                let amplitude = 8_388_607.0 * 10f64.powf(f64::from(level_db) / 20.0);
                let snrs = [
                    snr_db(&sine(points, 16.0, amplitude)),
                    snr_db(&sine(points, 37.3, amplitude)),
                    snr_db(&noise(points, amplitude)),
                ];
                println!("{points:6} {level_db:6} {snrs:14.1?}");
                assert!(
                    snrs.iter().all(|&snr| snr >= 110.0),
                    "{points} {level_db}: {snrs:?}"
                );
            }
        }
    }

    /// Signals that drive every butterfly to its limit. Debug builds check overflow.
    #[test]
    fn no_stage_overflows_at_the_largest_input() {
        for points in [256, 512, 1024, 2048] {
            let fft = Fft::new(points);
            let limit = 1 << 30;
            let signals: [fn(usize) -> bool; 5] = [
                |_| true,
                |n| n % 2 == 0,
                |n| n % 4 < 2,
                |n| n % 3 == 0,
                |n| n * n % 7 < 3,
            ];
            for positive in signals {
                let mut spectrum = vec![[0; 2]; points / 2 + 1];
                let samples = (0..points).map(|n| if positive(n) { limit - 1 } else { -limit });
                fft.load(samples, &mut spectrum);
                fft.transform(&mut spectrum);
            }
        }
    }

    /// microfft's single precision is what a float front end would have.
    #[test]
    fn the_fixed_point_fft_is_as_accurate_as_single_precision() {
        let samples = noise(1024, 8_388_607.0);
        let mut float: [f32; 1024] = core::array::from_fn(|n| samples[n] as f32);
        let exact: Vec<_> = samples.iter().map(|&x| [f64::from(x), 0.0]).collect();
        let bins = microfft::real::rfft_1024(&mut float);
        let (mut signal, mut error) = (0.0, 0.0);
        for (bin, exact) in bins.iter().zip(reference::fft(&exact)).skip(1) {
            signal += exact[0].powi(2) + exact[1].powi(2);
            error +=
                (exact[0] - f64::from(bin.re)).powi(2) + (exact[1] - f64::from(bin.im)).powi(2);
        }
        let microfft_db = 10.0 * (signal / error).log10();
        let ours_db = snr_db(&samples);
        println!("noise, 1024 points: sori {ours_db:.1} dB, microfft (f32) {microfft_db:.1} dB");
        assert!(ours_db > microfft_db - 3.0);
    }
}
