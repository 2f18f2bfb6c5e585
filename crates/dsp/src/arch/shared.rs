//! What the vector backends share: the FFT's twiddles in the order in which four
//! butterflies at a time want them, and what the compiler turns into vectors by itself.

use super::Block;
use crate::fft::mul_high;
use crate::trig::{SPLIT_Q31, TWIDDLES_Q30};

/// `[re, im]` of four neighbours.
pub(super) type Four = [[i32; 4]; 2];

/// w, w² and w³ for butterflies 4u to 4u + 3 of a stage.
pub(super) type Triple = [Four; 3];

/// The stages after a first radix-4 stage, shortest first.
pub(super) static AFTER_RADIX4: [&[Triple]; 4] = {
    static Q4: [Triple; 1] = stage();
    static Q16: [Triple; 4] = stage();
    static Q64: [Triple; 16] = stage();
    static Q256: [Triple; 64] = stage();
    [&Q4, &Q16, &Q64, &Q256]
};

/// The stages after a first radix-8 stage, shortest first.
pub(super) static AFTER_RADIX8: [&[Triple]; 3] = {
    static Q8: [Triple; 2] = stage();
    static Q32: [Triple; 8] = stage();
    static Q128: [Triple; 32] = stage();
    [&Q8, &Q32, &Q128]
};

const fn stage<const UNITS: usize>() -> [Triple; UNITS] {
    let mut table = [[[[0; 4]; 2]; 3]; UNITS];
    let mut k = 0;
    while k < 4 * UNITS {
        let mut power = 0;
        while power < 3 {
            let [re, im] = TWIDDLES_Q30[(power + 1) * k * (256 / (4 * UNITS))];
            table[k / 4][power][0][k % 4] = re;
            table[k / 4][power][1][k % 4] = im;
            power += 1;
        }
        k += 1;
    }
    table
}

/// `[cos, sin]` of the split's bins 4u to 4u + 3, for a spectrum of `half` + 1 bins.
pub(super) fn split(half: usize) -> &'static [Four] {
    static HALF128: [Four; 16] = split_units();
    static HALF256: [Four; 32] = split_units();
    static HALF512: [Four; 64] = split_units();
    static HALF1024: [Four; 128] = split_units();
    match half {
        128 => &HALF128,
        256 => &HALF256,
        512 => &HALF512,
        _ => &HALF1024,
    }
}

const fn split_units<const UNITS: usize>() -> [Four; UNITS] {
    let mut table = [[[0; 4]; 2]; UNITS];
    let mut k = 0;
    while k < 4 * UNITS {
        let [cos, sin] = SPLIT_Q31[k * (1024 / (8 * UNITS))];
        table[k / 4][0][k % 4] = cos;
        table[k / 4][1][k % 4] = sin;
        k += 1;
    }
    table
}

/// The longest FFT.
pub(super) const MAX_POINTS: usize = 2048;

impl Block<'_> {
    /// The samples under the window, then zeros.
    #[inline(always)]
    pub(super) fn windowed(&self, to: &mut [i32]) {
        let Some(window_q31) = self.window_q31 else {
            let (to, rest) = to.split_at_mut(self.samples.len());
            rest.fill(0);
            for (to, x) in to.iter_mut().zip(self.samples) {
                *to = (x << self.shift) >> 1;
            }
            return;
        };
        let half = window_q31.len() - 1;
        let (rising, falling) = self.samples.split_at(half);
        let (to_rising, to_falling) = to.split_at_mut(half);
        let (to_falling, rest) = to_falling.split_at_mut(falling.len());
        rest.fill(0);
        for ((to, x), w) in to_rising.iter_mut().zip(rising).zip(window_q31) {
            *to = mul_high(x << self.shift, *w);
        }
        let window = window_q31[1..].iter().rev();
        for ((to, x), w) in to_falling.iter_mut().zip(falling).zip(window) {
            *to = mul_high(x << self.shift, *w);
        }
    }
}
