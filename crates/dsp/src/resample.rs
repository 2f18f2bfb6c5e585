//! Rational resampling by a windowed sinc, integers only.
//!
//! Output n lies at input time n·from/to. Its taps are read from one prototype
//! (a sinc under a Kaiser window, J. O. Smith, *Digital Audio Resampling*), finely
//! sampled and interpolated between its points, and stretched when the rate goes
//! down so that nothing above the lower Nyquist frequency folds back.

use crate::Error;
use crate::fft::mul_high;

/// Zero crossings of the prototype on each side.
const CROSSINGS: usize = 32;
/// Points of the prototype between two zero crossings.
const STEPS: usize = 128;
/// -6 dB point, in thousandths of the lower Nyquist frequency.
const CUTOFF_PER_MILLE: u64 = 925;
/// Kaiser's β: 90 dB in the stop band.
const BETA: i128 = 9;
/// Fraction bits of a position within the prototype.
const POSITION_BITS: u32 = 18;

/// Input samples kept: both sides of the prototype at [`HIGHEST_DECIMATION`].
const HISTORY: usize = 1024;
const HIGHEST_DECIMATION: u32 = 14;

/// Louder input is saturated, which keeps the sums within 64 bits.
const FULL_SCALE: i32 = 1 << crate::FULL_SCALE_BITS;

const LOWEST_HZ: u32 = 8_000;
const HIGHEST_HZ: u32 = 192_000;

/// Modified Bessel function of order 0 of 2·√y, Q40, by its series.
const fn bessel_i0_q40(y_q40: i128) -> i128 {
    let one = 1i128 << 40;
    let (mut sum, mut term, mut k) = (one, one, 1);
    while term > 0 {
        term = ((term * y_q40) >> 40) / (k * k);
        sum += term;
        k += 1;
    }
    sum
}

/// sin(π·k/STEPS) for k in `0..STEPS`, Q40, by its Taylor series.
const fn sin_pi_q40(k: usize) -> i128 {
    const PI_Q40: i128 = 3_454_217_652_358;
    let k = if k > STEPS / 2 { STEPS - k } else { k };
    let x = PI_Q40 * k as i128 / STEPS as i128;
    let square = (x * x) >> 40;
    let (mut sum, mut term, mut n) = (x, x, 1);
    while n < 12 {
        term = -((term * square) >> 40) / ((2 * n) * (2 * n + 1));
        sum += term;
        n += 1;
    }
    sum
}

/// One side of the prototype, Q30. 16 KiB of flash, where a resampler is used.
#[allow(
    long_running_const_eval,
    reason = "4097 Bessel functions, about a second, once"
)]
static PROTOTYPE_Q30: [i32; CROSSINGS * STEPS + 1] = {
    const PI_Q40: i128 = 3_454_217_652_358;
    let mut table = [0; CROSSINGS * STEPS + 1];
    table[0] = 1 << 30;
    let quarter_beta_squared = ((BETA * BETA) << 40) / 4;
    let at_centre = bessel_i0_q40(quarter_beta_squared);
    let end = (CROSSINGS * STEPS) as i128;
    let mut i = 1;
    while i < table.len() {
        let n = i as i128;
        let window = bessel_i0_q40(quarter_beta_squared * (end * end - n * n) / (end * end));
        let sine = sin_pi_q40(i % STEPS) * if (i / STEPS) % 2 == 1 { -1 } else { 1 };
        let sinc = (sine << 40) / (PI_Q40 * n / STEPS as i128);
        table[i] = ((sinc * window / at_centre) >> 10) as i32;
        i += 1;
    }
    table
};

/// Changes the rate of a stream of 24-bit-scale samples, 8 to 192 kHz, any ratio.
///
/// Flat within 0.1 dB to 0.8 of the lower Nyquist frequency, 80 dB down from 1.02
/// of it. Any chunking gives the same bits. Equal rates pass through.
#[derive(Debug, Clone)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Prototype points per input sample, with [`POSITION_BITS`] of fraction.
    step: u32,
    /// Input samples on each side of an output's position.
    reach: u32,
    history: [i32; HISTORY],
    /// Where the rate falls by a whole factor every output has the same taps: one side of
    /// them, `reach` values from the centre outwards. An I2S microphone's 48 kHz are such a case.
    taps_q30: [i32; HISTORY / 2],
    /// Input samples so far, modulo the history.
    write: usize,
    /// Inputs that must still arrive before the next output.
    missing: u32,
    /// The next output's position after an input sample, in 1/`to` of a sample.
    phase: u32,
}

impl Resampler {
    /// From `from_hz` to `to_hz`.
    ///
    /// # Errors
    /// [`Error::SampleRate`] for a rate outside 8 to 192 kHz, [`Error::Decimation`] for
    /// more than 14 to 1.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, Error> {
        for found_hz in [from_hz, to_hz] {
            if !(LOWEST_HZ..=HIGHEST_HZ).contains(&found_hz) {
                return Err(Error::SampleRate { found_hz });
            }
        }
        if from_hz > HIGHEST_DECIMATION * to_hz {
            return Err(Error::Decimation { from_hz, to_hz });
        }
        let divisor = greatest_common_divisor(from_hz, to_hz);
        let per_mille = CUTOFF_PER_MILLE * u64::from(from_hz.min(to_hz));
        let step = ((per_mille * STEPS as u64) << POSITION_BITS) / (1000 * u64::from(from_hz));
        let end = (CROSSINGS * STEPS) as u64;
        let reach = (end << POSITION_BITS).div_ceil(step) as u32;
        debug_assert!(2 * reach as usize + 2 <= HISTORY);
        let step = step as u32;
        let mut taps_q30 = [0; HISTORY / 2];
        if to_hz == divisor {
            for (tap, n) in taps_q30.iter_mut().zip(0..reach) {
                *tap = tap_q30(n * step).unwrap_or(0);
            }
        }
        Ok(Self {
            from: from_hz / divisor,
            to: to_hz / divisor,
            step,
            reach,
            history: [0; HISTORY],
            taps_q30,
            write: 0,
            missing: reach + 1,
            phase: 0,
        })
    }

    /// Back to the state of a new resampler.
    pub fn reset(&mut self) {
        self.history.fill(0);
        self.write = 0;
        self.missing = self.reach + 1;
        self.phase = 0;
    }

    /// Takes any number of samples and hands on those that are ready.
    pub fn push(&mut self, samples: &[i32], sink: &mut impl FnMut(i32)) {
        if self.from == self.to {
            samples
                .iter()
                .for_each(|&x| sink(x.clamp(-FULL_SCALE, FULL_SCALE)));
            return;
        }
        for &x in samples {
            self.history[self.write] = x.clamp(-FULL_SCALE, FULL_SCALE);
            self.write = (self.write + 1) % HISTORY;
            self.missing -= 1;
            while self.missing == 0 {
                sink(self.output());
                self.phase += self.from;
                self.missing += self.phase / self.to;
                self.phase %= self.to;
            }
        }
    }

    /// Ends the stream: hands on what still waits for samples that will not come.
    pub fn flush(&mut self, sink: &mut impl FnMut(i32)) {
        if self.from != self.to {
            for _ in 0..self.reach {
                self.push(&[0], sink);
            }
        }
        self.reset();
    }

    /// The output between the two samples in the middle of the history.
    fn output(&self) -> i32 {
        // The newest sample is `reach` after the one at or before the output.
        let centre = self.write + HISTORY - 1 - self.reach as usize;
        let (before, after) = if self.to == 1 {
            self.sides_of_whole_factor(centre)
        } else {
            let fraction = u64::from(self.step) * u64::from(self.phase) / u64::from(self.to);
            let fraction = fraction as u32;
            (
                self.side(fraction, |n| centre - n),
                self.side(self.step - fraction, |n| centre + 1 + n),
            )
        };
        // The taps add up to 1/step of the prototype's points: bring the sum back to 1.
        let scale = u64::from(self.step) / STEPS as u64;
        let sum = (before + after) >> 30;
        let scaled = (sum * scale as i64 + (1 << (POSITION_BITS - 1))) >> POSITION_BITS;
        scaled.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// What [`side`](Self::side) gives on both sides where every output lies on an input:
    /// the stored taps over the history, which is two runs in memory.
    fn sides_of_whole_factor(&self, centre: usize) -> (i64, i64) {
        let taps = &self.taps_q30[..self.reach as usize];
        let (older, newer) = self.runs(centre + 1 - taps.len(), taps.len());
        let (near, far) = taps.split_at(newer.len());
        let before = dot(newer, near.iter().rev()) + dot(older, far.iter().rev());
        let taps = &taps[1..];
        let (older, newer) = self.runs(centre + 1, taps.len());
        let (near, far) = taps.split_at(older.len());
        let after = dot(older, near.iter()) + dot(newer, far.iter());
        (before, after)
    }

    /// `len` samples of the history from `first` on, oldest first.
    fn runs(&self, first: usize, len: usize) -> (&[i32], &[i32]) {
        let first = first % HISTORY;
        let until_end = len.min(HISTORY - first);
        (
            &self.history[first..first + until_end],
            &self.history[..len - until_end],
        )
    }

    /// Σ tap · sample on one side, going outwards from `position` in the prototype.
    #[inline]
    fn side(&self, mut position: u32, sample: impl Fn(usize) -> usize) -> i64 {
        let mut sum = 0;
        let mut n = 0;
        while let Some(tap) = tap_q30(position) {
            sum += i64::from(tap) * i64::from(self.history[sample(n) % HISTORY]);
            position += self.step;
            n += 1;
        }
        sum
    }
}

fn dot<'t>(samples: &[i32], taps: impl Iterator<Item = &'t i32>) -> i64 {
    let products = samples.iter().zip(taps);
    products
        .map(|(&x, &tap)| i64::from(x) * i64::from(tap))
        .sum()
}

/// The prototype between its points; none beyond its end.
#[inline]
fn tap_q30(position: u32) -> Option<i32> {
    let index = (position >> POSITION_BITS) as usize;
    let &[low, high] = PROTOTYPE_Q30.get(index..)?.first_chunk()?;
    let fraction = (position & ((1 << POSITION_BITS) - 1)) << (31 - POSITION_BITS);
    Some(low + (mul_high(high - low, fraction as i32) << 1))
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
