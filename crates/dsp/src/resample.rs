//! Rational resampling by a windowed sinc, integers only.
//!
//! Output n lies at input time n·from/to. Its taps are read from one prototype
//! (a sinc under a Kaiser window, J. O. Smith, *Digital Audio Resampling*), finely
//! sampled and interpolated between its points, and stretched when the rate goes
//! down so that nothing above the lower Nyquist frequency folds back.

use crate::fft::mul_high;
use crate::{Backend, Error};

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

/// Input samples kept, at least both sides of the prototype at [`HIGHEST_DECIMATION`]: the
/// fewer they are, the rarer the last ones must go back to the front.
const HISTORY: usize = 1024;
const HIGHEST_DECIMATION: u32 = 14;

/// Values that a resampler works with: its history, and taps.
const MEMORY_LEN: usize = HISTORY + HISTORY / 2;

/// Louder input is saturated, which keeps the sums within 64 bits.
const FULL_SCALE: i32 = 1 << crate::FULL_SCALE_BITS;

/// Taps that are worth a table: 4 MiB. Rates with little in common have more.
const MOST_TAPS: usize = 1 << 20;

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
///
/// Every output has its own taps, unless the rate falls by a whole factor. They are
/// interpolated each time, which costs more than using them, or once, if there is
/// memory for a table `T` ([`with_table`](Self::with_table)); the bits are the same.
///
/// Its 6 KiB of working memory are its own, or `M` is memory lent by the caller
/// ([`in_memory`](Self::in_memory)) and the resampler itself only a few words.
///
/// ```
/// use sori_dsp::Resampler;
///
/// # fn main() -> Result<(), sori_dsp::Error> {
/// let resampler = Resampler::new(44_100, 16_000)?;
/// let table = vec![0; resampler.table_len()];
/// let mut resampler = resampler.with_table(table)?;
/// let mut output = Vec::new();
/// resampler.push(&[0; 44_100], &mut |sample| output.push(sample));
/// resampler.flush(&mut |sample| output.push(sample));
/// assert_eq!(output.len(), 16_000);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Resampler<T = [i32; 0], M = [i32; MEMORY_LEN]> {
    backend: Backend,
    from: u32,
    to: u32,
    /// Prototype points per input sample, with [`POSITION_BITS`] of fraction.
    step: u32,
    /// Input samples on each side of an output's position.
    reach: u32,
    /// The last input samples, oldest first; those before `write` are there. Behind them taps:
    /// where the rate falls by a whole factor every output has the same; one side of
    /// them, `reach` values from the centre outwards, then zeros. An I2S microphone's 48 kHz are such a case.
    memory: M,
    write: usize,
    /// Empty, or the taps of each phase over its `2 · reach` samples, oldest first.
    table_q30: T,
    /// Inputs that must still arrive before the next output.
    missing: u32,
    /// The next output's position after an input sample, in 1/`to` of a sample.
    phase: u32,
}

impl Resampler {
    /// Values of memory for [`in_memory`](Self::in_memory).
    pub const MEMORY_LEN: usize = MEMORY_LEN;

    /// From `from_hz` to `to_hz`, on the [default](Backend::default) backend.
    ///
    /// # Errors
    /// [`Error::SampleRate`] for a rate outside 8 to 192 kHz, [`Error::Decimation`] for
    /// more than 14 to 1.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, Error> {
        Self::in_memory(from_hz, to_hz, [0; MEMORY_LEN])
    }
}

impl<M: AsRef<[i32]> + AsMut<[i32]>> Resampler<[i32; 0], M> {
    /// As [`new`](Resampler::new), in [`MEMORY_LEN`](Resampler::MEMORY_LEN) values of memory.
    ///
    /// # Errors
    /// As there, and [`Error::WorkspaceTooSmall`].
    pub fn in_memory(from_hz: u32, to_hz: u32, mut memory: M) -> Result<Self, Error> {
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
        let found = memory.as_ref().len();
        let Some((_, taps_q30)) = memory.as_mut().split_at_mut_checked(HISTORY) else {
            return Err(Error::WorkspaceTooSmall {
                needed: MEMORY_LEN,
                found,
            });
        };
        let Some(taps_q30) = taps_q30.get_mut(..HISTORY / 2) else {
            return Err(Error::WorkspaceTooSmall {
                needed: MEMORY_LEN,
                found,
            });
        };
        taps_q30.fill(0);
        if to_hz == divisor {
            for (tap, n) in taps_q30.iter_mut().zip(0..reach) {
                *tap = tap_q30(n * step).unwrap_or(0);
            }
        }
        let mut resampler = Self {
            backend: Backend::default(),
            from: from_hz / divisor,
            to: to_hz / divisor,
            step,
            reach,
            memory,
            write: 0,
            table_q30: [],
            missing: 0,
            phase: 0,
        };
        resampler.reset();
        Ok(resampler)
    }

    /// Fills `table`, of at least [`table_len`](Self::table_len) values, with the taps of every
    /// phase, and uses them from then on; an empty table is not used.
    ///
    /// # Errors
    /// [`Error::TableTooSmall`].
    pub fn with_table<T>(self, mut table: T) -> Result<Resampler<T, M>, Error>
    where
        T: AsRef<[i32]> + AsMut<[i32]>,
    {
        let rows = table.as_mut();
        let (needed, found) = (self.table_len(), rows.len());
        if (1..needed).contains(&found) {
            return Err(Error::TableTooSmall { needed, found });
        }
        for (row, phase) in rows.chunks_exact_mut(self.samples()).zip(0..self.to) {
            let (before, after) = row.split_at_mut(self.reach as usize);
            let fraction = self.fraction(phase);
            self.fill_side(fraction, before.iter_mut().rev());
            self.fill_side(self.step - fraction, after.iter_mut());
        }
        Ok(Resampler {
            backend: self.backend,
            from: self.from,
            to: self.to,
            step: self.step,
            reach: self.reach,
            memory: self.memory,
            write: self.write,
            table_q30: table,
            missing: self.missing,
            phase: self.phase,
        })
    }

    fn fill_side<'t>(&self, mut position: u32, taps: impl Iterator<Item = &'t mut i32>) {
        for tap in taps {
            *tap = tap_q30(position).unwrap_or(0);
            position += self.step;
        }
    }
}

impl<T: AsRef<[i32]>, M: AsRef<[i32]> + AsMut<[i32]>> Resampler<T, M> {
    /// Values in a [table](Resampler::with_table) for these rates; 0 if none would help.
    /// 30 720 from 44.1 to 16 kHz, and several million if the rates have little in common.
    pub fn table_len(&self) -> usize {
        match self.from == self.to || self.to == 1 {
            true => 0,
            false => self.to as usize * self.samples(),
        }
    }

    /// The same for whoever has memory to spare: 0 also where a table would take more than 4 MiB.
    pub fn ample_table_len(&self) -> usize {
        match self.table_len() {
            taps @ ..=MOST_TAPS => taps,
            _ => 0,
        }
    }

    /// The same on another backend: the same bits.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Back to the state of a new resampler.
    pub fn reset(&mut self) {
        self.write = self.samples() + 1;
        self.memory.as_mut()[..self.write].fill(0);
        self.missing = self.reach + 1;
        self.phase = 0;
    }

    /// Takes any number of samples and emits those that are ready.
    pub fn push(&mut self, mut samples: &[i32], sink: &mut impl FnMut(i32)) {
        if self.from == self.to {
            samples.iter().for_each(|&x| sink(saturated(x)));
            return;
        }
        while !samples.is_empty() {
            let arrived = self.keep(samples);
            samples = &samples[arrived - self.write..];
            while self.missing as usize <= arrived - self.write {
                self.write += self.missing as usize;
                sink(self.output());
                self.phase += self.from;
                self.missing = self.phase / self.to;
                self.phase %= self.to;
            }
            self.missing -= (arrived - self.write) as u32;
            self.write = arrived;
        }
    }

    /// Takes as many samples as there is room for; where the history then ends.
    ///
    /// Not inlined: the sinks are many and flash is not.
    #[inline(never)]
    fn keep(&mut self, samples: &[i32]) -> usize {
        let kept = self.samples() + 1;
        let history = &mut self.memory.as_mut()[..HISTORY];
        if self.write == HISTORY {
            history.copy_within(HISTORY - kept.., 0);
            self.write = kept;
        }
        let room = &mut history[self.write..];
        let taken = samples.len().min(room.len());
        for (slot, &x) in room.iter_mut().zip(samples) {
            *slot = saturated(x);
        }
        self.write + taken
    }

    /// Ends the stream: emits what was still waiting for more samples.
    pub fn flush(&mut self, sink: &mut impl FnMut(i32)) {
        if self.from != self.to {
            for _ in 0..self.reach {
                self.push(&[0], sink);
            }
        }
        self.reset();
    }

    /// Input samples under an output's taps.
    fn samples(&self) -> usize {
        2 * self.reach as usize
    }

    /// Points of the prototype, as `step` has them, from the input sample at or before an
    /// output to the output.
    fn fraction(&self, phase: u32) -> u32 {
        (u64::from(self.step) * u64::from(phase) / u64::from(self.to)) as u32
    }

    /// The output between the two samples in the middle of the last `2 · reach`.
    fn output(&self) -> i32 {
        let reach = self.reach as usize;
        let (history, taps_q30) = self.memory.as_ref().split_at(HISTORY);
        let (older, after) = history[..self.write].split_at(self.write - reach);
        let (_, samples) = history[..self.write].split_at(self.write - 2 * reach);
        let before = &samples[..reach];
        let sum = if self.to == 1 {
            // The output lies on an input, outwards of which both sides have the same taps:
            // `reach` of them, though the last is zero, for 104 fill vectors and 103 do not.
            let (centre, older) = older.split_last().unwrap_or((&0, &[]));
            i64::from(taps_q30[0]) * i64::from(*centre)
                + self.backend.dot_mirrored(
                    &older[older.len() - reach..],
                    after,
                    &taps_q30[1..=reach],
                )
        } else if let Some(rows) = self
            .table_q30
            .as_ref()
            .get(self.phase as usize * 2 * reach..)
            && let Some(taps) = rows.get(..2 * reach)
        {
            self.backend.dot(samples, taps)
        } else {
            let fraction = self.fraction(self.phase);
            self.side(fraction, before.iter().rev()) + self.side(self.step - fraction, after.iter())
        };
        // The taps add up to 1/step of the prototype's points: bring the sum back to 1.
        let scale = u64::from(self.step) / STEPS as u64;
        let scaled = ((sum >> 30) * scale as i64 + (1 << (POSITION_BITS - 1))) >> POSITION_BITS;
        scaled.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// Σ tap · sample on one side, going outwards from `position` in the prototype.
    #[inline]
    fn side<'s>(&self, mut position: u32, samples: impl Iterator<Item = &'s i32>) -> i64 {
        let mut sum = 0;
        for &x in samples {
            let Some(tap) = tap_q30(position) else {
                break;
            };
            sum += i64::from(tap) * i64::from(x);
            position += self.step;
        }
        sum
    }
}

#[inline]
fn saturated(x: i32) -> i32 {
    x.clamp(-FULL_SCALE, FULL_SCALE)
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

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    /// Modified Bessel function of order 0, by its series.
    fn bessel(x: f64) -> f64 {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..60 {
            term *= (x / 2.0 / f64::from(k)).powi(2);
            sum += term;
        }
        sum
    }

    /// By its definition, to the last two bits.
    #[test]
    fn the_prototype_is_a_sinc_under_a_kaiser_window() {
        let end = (CROSSINGS * STEPS) as f64;
        for (n, &tap) in PROTOTYPE_Q30.iter().enumerate() {
            let x = PI * n as f64 / STEPS as f64;
            let sinc = if n == 0 { 1.0 } else { x.sin() / x };
            let edge = (1.0 - (n as f64 / end).powi(2)).sqrt();
            let exact = sinc * bessel(BETA as f64 * edge) / bessel(BETA as f64);
            let error = f64::from(tap) - exact * f64::from(1 << 30);
            assert!(error.abs() < 2.0, "{n}: {tap} is {error} too much");
        }
    }
}
