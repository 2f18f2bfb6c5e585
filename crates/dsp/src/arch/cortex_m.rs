//! Cortex-M3 and up, with the DSP extension or without.
//!
//! LLVM would compute all real parts of a butterfly before it turns to the imaginary ones,
//! and has thirteen registers for twenty-two values: half of its instructions are spills. The
//! operations in [`ops`] are therefore sequences of instructions whose order keeps few values
//! alive; everything around them is plain Rust. Hosts test these kernels with the operations
//! in Rust, and the firmware's conformance suite tests them as they are.
//!
//! Loops end where a pointer that such a sequence returns meets the end: LLVM takes
//! assembly for one instruction, and would unroll a loop whose length it knows into kilobytes.

use sori_package::MelContract;

use super::{Block, Scratch, scalar};
use crate::dc::DcBlocker;
use crate::fft::{self, Complex, Fft, TRIPLES_Q30};
use crate::trig::SPLIT_Q31;

mod ops;

/// [`DcBlocker::process`] of each sample.
#[inline(never)]
pub(super) fn block_dc(dc: &mut DcBlocker, from: &[i32], to: &mut [i32]) {
    debug_assert_eq!(from.len(), to.len());
    let mut state = ops::WithoutMean {
        from: from.as_ptr(),
        to: to.as_mut_ptr(),
        negative_mean_q16: -dc.mean_q16,
    };
    let shift = u32::from(dc.shift);
    let weight = -1 << (32 - shift);
    ops::saturated();
    let end = from.as_ptr_range().end;
    let fours = from[..from.len() / 4 * 4].as_ptr_range().end;
    // SAFETY: `from` and `to` take as many steps as they have values.
    unsafe {
        while state.from != fours {
            for _ in 0..4 {
                state = ops::without_mean(state, shift, weight);
            }
        }
        while state.from != end {
            state = ops::without_mean(state, shift, weight);
        }
    }
    if ops::saturated() {
        // Rare: a sample beyond full scale, or just at its upper end.
        scalar::block_dc(dc, from, to);
    } else {
        dc.mean_q16 = -state.negative_mean_q16;
    }
}

/// `values.copy_within(by.., 0)`: `memmove` of bare metal takes four instructions a word.
#[inline(never)]
pub(super) fn move_down(values: &mut [i32], by: usize) {
    let moved = (values.len() - by) / 8 * 8;
    let to = values.as_mut_ptr();
    let (mut from, mut to) = (to.wrapping_add(by).cast_const(), to);
    let end = from.wrapping_add(moved);
    while from != end {
        // SAFETY: `from` goes from `by` to the end of the values, `to` from their
        // beginning, by eight each as often as eight are left. `to` overwrites nothing
        // that `from` has not read, whatever `by` is.
        (from, to) = unsafe { ops::move_eight(from, to) };
    }
    values.copy_within(by + moved.., moved);
}

#[inline(never)]
pub(super) fn magnitudes(values: &[i32]) -> i32 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut or = scalar::magnitudes(rest);
    let (mut eight, end) = (eights.as_ptr(), eights.as_ptr_range().end);
    while eight != end {
        // SAFETY: `eight` goes through `eights`.
        (or, eight) = unsafe { ops::or_eight(or, eight) };
    }
    or
}

#[inline(never)]
pub(super) fn transform(fft: Fft, block: &Block<'_>, _: &mut Scratch, spectrum: &mut [Complex]) {
    let half = spectrum.len() - 1;
    let complex = &mut spectrum[..half];
    match half {
        128 => {
            first_radix8::<128>(fft, block, complex);
            radix4::<8, 32>(complex);
            radix4::<32, 128>(complex);
            split::<8>(spectrum);
        }
        256 => {
            scalar::load(fft, block, complex);
            fft.first_stage(complex);
            fft::radix4::<4, 16>(complex);
            radix4::<16, 64>(complex);
            radix4::<64, 256>(complex);
            split::<4>(spectrum);
        }
        512 => {
            first_radix8::<512>(fft, block, complex);
            radix4::<8, 32>(complex);
            radix4::<32, 128>(complex);
            radix4::<128, 512>(complex);
            split::<2>(spectrum);
        }
        _ => {
            scalar::load(fft, block, complex);
            fft.first_stage(complex);
            fft::radix4::<4, 16>(complex);
            radix4::<16, 64>(complex);
            radix4::<64, 256>(complex);
            fft::radix4::<256, 1024>(complex);
            split::<1>(spectrum);
        }
    }
}

/// The samples in the transform's order, and its radix-2 and first radix-4 stage.
fn first_radix8<const HALF: usize>(fft: Fft, block: &Block<'_>, complex: &mut [Complex]) {
    let samples = block.samples.as_chunks().0;
    let (Ok(samples), Ok(to)) = (samples.try_into(), (&mut *complex).try_into()) else {
        // A window that is shorter than the transform.
        scalar::load(fft, block, complex);
        fft.first_stage(complex);
        return;
    };
    match block.window_q31 {
        Some(window) => first_radix2_windowed::<HALF>(samples, block.shift, window, to),
        None => first_radix2::<HALF>(samples, block.shift, to),
    }
    second_radix4(complex);
}

/// Where the samples lie whose sums and differences begin block `n` of eight: `n`'s base-4
/// digits reversed.
#[inline(always)]
fn first_of_block<const HALF: usize>(n: usize) -> usize {
    let bits = (n as u32).reverse_bits() >> (32 - (HALF / 8).trailing_zeros());
    (((bits & 0x5555_5555) << 1) | ((bits >> 1) & 0x5555_5555)) as usize
}

/// Puts sums and differences of what is half the block apart where the next stage reads.
#[inline(never)]
fn first_radix2<const HALF: usize>(
    samples: &[Complex; HALF],
    shift: u32,
    complex: &mut [Complex; HALF],
) {
    let halved = |[re, im]: Complex| [(re << shift) >> 2, (im << shift) >> 2];
    for (n, block) in complex.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let first = first_of_block::<HALF>(n);
        for (leg, to) in block.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // The remainder saves the check of the index.
            let at = (first + leg * (HALF / 8)) % (HALF / 2);
            let (x, y) = (halved(samples[at]), halved(samples[at + HALF / 2]));
            *to = [fft::add(x, y), fft::sub(x, y)];
        }
    }
}

/// [`first_radix2`] of samples under the window.
#[inline(never)]
fn first_radix2_windowed<const HALF: usize>(
    samples: &[Complex; HALF],
    shift: u32,
    window_q31: &[i32],
    complex: &mut [Complex; HALF],
) {
    let rising = &window_q31.as_chunks::<2>().0[..HALF / 2];
    let falling = &window_q31[1..].as_chunks::<2>().0[..HALF / 2];
    for (n, block) in complex.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let first = first_of_block::<HALF>(n);
        let mut from = ops::Windowed {
            samples: &raw const samples[first],
            rise: &raw const rising[first],
            fall: &raw const falling[HALF / 2 - 1 - first],
            to: block.as_mut_ptr(),
        };
        for _ in 0..4 {
            // SAFETY: `first` is below HALF / 8, and `from` goes from there in four steps of
            // HALF / 8, downwards in `falling`: all below HALF / 2, the length of `rising`
            // and `falling`. `samples` has as many more, and `block` two values a step.
            from = unsafe { ops::halve_windowed::<HALF>(from, shift) };
        }
    }
}

/// The first radix-4 stage after a radix-2 one: its twiddles are eighths of a turn.
#[inline(never)]
fn second_radix4(complex: &mut [Complex]) {
    for block in complex.as_chunks_mut::<8>().0 {
        ops::second_radix4(block, fft::EIGHTH_Q30);
    }
}

/// [`fft::radix4`].
#[inline(never)]
fn radix4<const QUARTER: usize, const BLOCK: usize>(complex: &mut [Complex]) {
    const { assert!(BLOCK == 4 * QUARTER && QUARTER >= 8 && QUARTER <= 128) };
    for block in complex.as_chunks_mut::<BLOCK>().0 {
        let (lower, upper) = block.split_at_mut(BLOCK / 2);
        // An offset reaches 1020 bytes: from between two legs it reaches either.
        let mut lower = lower[QUARTER / 2..].as_mut_ptr();
        let mut upper = upper[QUARTER / 2..].as_mut_ptr();
        let mut twiddles = TRIPLES_Q30.as_ptr();
        while twiddles != TRIPLES_Q30.as_ptr_range().end {
            // SAFETY: `twiddles` takes `QUARTER` steps of `256 / QUARTER` through a table of
            // 256. `lower` and `upper` go meanwhile through the `QUARTER` values from the
            // middle of their halves' first legs on, two at a time, so that what lies
            // `QUARTER / 2` before and after is all of the first and all of the second leg.
            unsafe {
                twiddles = ops::butterfly::<QUARTER, 0>(lower, upper, twiddles);
                twiddles = ops::butterfly::<QUARTER, 1>(lower, upper, twiddles);
            }
            lower = lower.wrapping_add(2);
            upper = upper.wrapping_add(2);
        }
    }
}

/// [`fft::split`] with every `STRIDE`th twiddle.
#[inline(never)]
fn split<const STRIDE: usize>(spectrum: &mut [Complex]) {
    fft::split_ends(spectrum);
    let half = 1024 / STRIDE;
    let (low, high) = spectrum[..half].split_at_mut(half / 2);
    let mut z = low[1..].as_mut_ptr();
    let mut mirror = &raw mut high[half / 2 - 1];
    let mut twiddle = &raw const SPLIT_Q31[STRIDE];
    while z.cast_const() < mirror.cast_const() {
        // SAFETY: in `half / 2 - 1` steps `z` goes up from bin 1 through `low`, `mirror` down
        // from bin `half - 1` through `high`, until they meet; `twiddle` goes by `STRIDE` each
        // up to 512 - STRIDE.
        (z, mirror, twiddle) = unsafe { ops::separate::<STRIDE>(z, mirror, twiddle) };
    }
}

#[inline(never)]
pub(super) fn powers(bins: &mut [Complex], headroom: u32) -> u64 {
    let fours = bins.len() / 4 * 4;
    let (mut bin, mut sum) = (bins.as_mut_ptr(), 0);
    let (fours, end) = (bin.wrapping_add(fours), bin.wrapping_add(bins.len()));
    // SAFETY: `bin` takes as many steps as there are bins.
    unsafe {
        while bin != fours {
            for _ in 0..4 {
                (bin, sum) = ops::power(bin, headroom, sum);
            }
        }
        while bin != end {
            (bin, sum) = ops::power(bin, headroom, sum);
        }
    }
    sum
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
fn band_power(powers: &[Complex], weights_q15: &[u16]) -> u64 {
    let powers = &powers[..weights_q15.len()];
    let mut sum = ops::Weighed {
        power: powers.as_ptr(),
        weight: weights_q15.as_ptr(),
        low: 0,
        high: 0,
    };
    let end = weights_q15.as_ptr_range().end;
    let fours = weights_q15[..weights_q15.len() / 4 * 4].as_ptr_range().end;
    // SAFETY: `sum` takes as many steps as there are weights, and there are as many powers.
    unsafe {
        while sum.weight != fours {
            for _ in 0..4 {
                sum = ops::weigh(sum);
            }
        }
        while sum.weight != end {
            sum = ops::weigh(sum);
        }
    }
    sum.low + (u64::from(sum.high) << 32)
}

pub(super) use scalar::{dot, dot_mirrored};
