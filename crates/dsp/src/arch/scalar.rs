//! The specification: plain Rust.

use sori_package::MelContract;

use super::{Block, Scratch};
use crate::POWER_SHIFT;
use crate::dc::DcBlocker;
use crate::fft::{Complex, Fft, mul_high};

#[inline(always)]
pub(super) fn block_dc(dc: &mut DcBlocker, from: &[i32], to: &mut [i32]) {
    // A copy stays in registers.
    let mut state = *dc;
    for (to, &x) in to.iter_mut().zip(from) {
        *to = state.process(x);
    }
    *dc = state;
}

#[inline(always)]
pub(super) fn move_down(values: &mut [i32], by: usize) {
    values.copy_within(by.., 0);
}

#[inline(always)]
pub(super) fn magnitudes(values: &[i32]) -> i32 {
    values.iter().fold(0, |or, &x| or | (x ^ (x >> 31)))
}

#[inline(always)]
pub(super) fn transform(fft: Fft, block: &Block<'_>, _: &mut Scratch, spectrum: &mut [Complex]) {
    load(fft, block, spectrum);
    fft.transform(spectrum);
}

/// The samples under the window, in the transform's order.
#[inline(always)]
pub(super) fn load(fft: Fft, block: &Block<'_>, spectrum: &mut [Complex]) {
    let samples = block.samples.iter().map(|&x| x << block.shift);
    match block.window_q31 {
        Some(window) => {
            let (rise, fall) = (window.iter(), window[1..window.len() - 1].iter().rev());
            let windowed = samples.zip(rise.chain(fall));
            fft.load(windowed.map(|(x, &w)| mul_high(x, w)), spectrum);
        }
        None => fft.load(samples.map(|x| x >> 1), spectrum),
    }
}

#[inline(always)]
pub(super) fn powers(bins: &mut [Complex], headroom: u32) -> u64 {
    let mut sum = 0;
    for bin in bins {
        let [re, im] = bin.map(|x| i64::from(x << headroom));
        // Each square may be 2^62: their sum needs the sign bit.
        let power = ((re * re) as u64 + (im * im) as u64) >> POWER_SHIFT;
        *bin = [power as u32 as i32, (power >> 32) as i32];
        sum += power;
    }
    sum
}

/// A bin after [`powers`].
#[inline(always)]
fn power_of([low, high]: Complex) -> u64 {
    u64::from(high as u32) << 32 | u64::from(low as u32)
}

#[inline(always)]
pub(super) fn band_powers(
    powers: &[Complex],
    contract: &MelContract<'_>,
    mut on_band: impl FnMut(u64),
) {
    for band in contract.filterbank() {
        on_band(band_power(&powers[band.first_bin..], band.weights_q15));
    }
}

#[inline(always)]
pub(super) fn band_power(powers: &[Complex], weights_q15: &[u16]) -> u64 {
    powers
        .iter()
        .zip(weights_q15)
        .map(|(&bin, &weight)| power_of(bin) * u64::from(weight))
        .sum()
}

#[inline(always)]
pub(super) fn dot(samples: &[i32], taps: &[i32]) -> i64 {
    let products = samples.iter().zip(taps);
    products
        .map(|(&x, &tap)| i64::from(x) * i64::from(tap))
        .sum()
}

#[inline(always)]
pub(super) fn dot_mirrored(before: &[i32], after: &[i32], taps: &[i32]) -> i64 {
    let pairs = before.iter().rev().zip(after);
    pairs
        .zip(taps)
        .map(|((&x, &y), &tap)| i64::from(x + y) * i64::from(tap))
        .sum()
}
