use sori_package::Convolution;

use super::scale::{Fast, Scale};
use super::{Columns, Core, DepthwiseChannel, FIRST_COLUMN, MOST_WINDOWS, SPAN, STEP, get, put};
use crate::Requantize;
use crate::plan::spatial;

/// One output row `[width][channels]` of a 3×3 depthwise convolution, from three planar rows
/// `[channels][width]`.
pub(crate) fn depthwise<K: Core>(
    core: K,
    fast: bool,
    convolution: &Convolution<'_>,
    rows: [&[i8]; 3],
    output: &mut [i8],
) {
    match (fast, spatial(convolution).stride_freq) {
        (true, 1) => row::<K, Fast, 1>(core, convolution, rows, output),
        (true, _) => row::<K, Fast, 2>(core, convolution, rows, output),
        (false, 1) => row::<K, Requantize, 1>(core, convolution, rows, output),
        (false, _) => row::<K, Requantize, 2>(core, convolution, rows, output),
    }
}

#[inline(never)]
fn row<K: Core, S: Scale, const STRIDE: usize>(
    core: K,
    convolution: &Convolution<'_>,
    rows: [&[i8]; 3],
    output: &mut [i8],
) {
    let [width, channels] = [convolution.input.width, convolution.input.channels].map(usize::from);
    let width_out = usize::from(convolution.output.width);
    let pad_low = usize::from(spatial(convolution).pad_freq[0]);
    let kernel = convolution.kernel;
    // What loads and stores rely on.
    assert!(rows.iter().all(|row| row.len() == channels * width));
    assert_eq!(output.len(), channels * width_out);
    assert_eq!(kernel.weights.len(), 9 * channels);
    assert!(kernel.bias.len() == channels && kernel.multiplier.len() == channels);
    assert_eq!(kernel.shift.len(), channels);

    let outputs = STEP / STRIDE;
    let mut columns = Columns([[0; _]; 3]);
    for first in (0..width_out).step_by(MOST_WINDOWS * outputs) {
        let left = width_out - first;
        // Where the windows begin, in a row with its padding, and the columns of the row in them.
        let start = first * STRIDE;
        let low = start.saturating_sub(pad_low);
        let before = (pad_low + low) - start;
        let high = (low + MOST_WINDOWS * STEP + SPAN - before).min(width);
        let len = high.saturating_sub(low);
        for row in &mut columns.0 {
            row.fill(convolution.input_zero_point);
        }
        for c in 0..channels {
            // SAFETY: every channel has a plane in each row, which `high` does not exceed; and `len`
            // columns have room behind the first one.
            unsafe {
                let planes = rows.map(|row| row.get_unchecked(c * width + low..).as_ptr());
                copy(planes, &mut columns, len);
            }
            let mut weights = [0; 9];
            let mut at = c;
            for weight in &mut weights {
                // SAFETY: there are nine weights for each channel.
                *weight = unsafe { get(kernel.weights, at) };
                at += channels;
            }
            // SAFETY: every channel has these.
            let (bias, multiplier, shift) = unsafe {
                (
                    get(kernel.bias, c),
                    get(kernel.multiplier, c),
                    get(kernel.shift, c),
                )
            };
            let scale = S::channel(multiplier, shift, convolution.activation);
            let mut channel = DepthwiseChannel {
                scale: Fast::channel(multiplier, shift, convolution.activation),
                bias,
                stride: channels,
                start: FIRST_COLUMN - before,
                taps: core.taps(weights),
            };
            // SAFETY: `first` is less than the width of the output, `c` than its channels.
            let output = unsafe { output.get_unchecked_mut(first * channels + c..) };
            let whole = (left / outputs).min(MOST_WINDOWS);
            if whole > 0 {
                match S::FAST {
                    // SAFETY: `whole` windows are at most those that the columns were filled for,
                    // and all their outputs are of this row.
                    true => unsafe { core.windows::<STRIDE>(&channel, &columns, whole, output) },
                    false => {
                        windows::<K, S, STRIDE>(core, &channel, scale, &columns, whole, output);
                    }
                }
            }
            // What is left of the row's outputs.
            let rest = if whole < MOST_WINDOWS {
                left % outputs
            } else {
                0
            };
            if rest > 0 {
                channel.stride = 1;
                channel.start += whole * STEP;
                let mut some = [0; STEP];
                match S::FAST {
                    // SAFETY: there is room for one more window, whose outputs are `some`.
                    true => unsafe { core.windows::<STRIDE>(&channel, &columns, 1, &mut some) },
                    false => {
                        windows::<K, S, STRIDE>(core, &channel, scale, &columns, 1, &mut some);
                    }
                }
                for (n, &value) in some[..rest].iter().enumerate() {
                    // SAFETY: there are so many outputs left of the row.
                    unsafe { put(output, (whole * outputs + n) * channels, value) };
                }
            }
        }
    }
}

/// Copies so many values of each plane: mostly too few for a call to be worth it.
///
/// # Safety
/// Each plane has them, and so have the columns.
#[inline(always)]
unsafe fn copy(planes: [*const i8; 3], columns: &mut Columns, len: usize) {
    let to = columns
        .0
        .each_mut()
        .map(|row| row[FIRST_COLUMN..].as_mut_ptr());
    let copy_at = |at: usize| {
        for (to, plane) in to.into_iter().zip(planes) {
            // SAFETY: the caller's promise, of `at` and three more.
            unsafe {
                let word = plane.add(at).cast::<u32>().read_unaligned();
                to.add(at).cast::<u32>().write_unaligned(word);
            }
        }
    };
    let mut at = 0;
    while at + 4 <= len {
        copy_at(at);
        at += 4;
    }
    if at == len {
        return;
    }
    if len > 4 {
        // Some of them again.
        return copy_at(len - 4);
    }
    while at < len {
        for (to, plane) in to.into_iter().zip(planes) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(at) = *plane.add(at) };
        }
        at += 1;
    }
}

/// [`Core::windows`] of any scale.
#[inline(always)]
pub(super) fn windows<K: Core, S: Scale, const STRIDE: usize>(
    core: K,
    channel: &DepthwiseChannel<K::Taps>,
    scale: S,
    columns: &Columns,
    count: usize,
    output: &mut [i8],
) {
    let mut at = 0;
    for n in 0..count {
        let start = channel.start + n * STEP;
        let window = columns
            .0
            .each_ref()
            .map(|row| row[start..].first_chunk().expect("the windows fit"));
        let mut keep = |acc| {
            output[at] = scale.apply(acc);
            at += channel.stride;
        };
        match STRIDE {
            1 => {
                let acc = core.quad(channel.bias, window, &channel.taps);
                acc.into_iter().for_each(&mut keep);
            }
            _ => {
                let acc = core.pair(channel.bias, window, &channel.taps);
                acc.into_iter().for_each(&mut keep);
            }
        }
    }
}
