use sori_package::{Convolution, Spatial};

use super::dot;
use crate::Requantize;

/// One output row of the 3×3 stem from three input rows `[width][c_in]`.
pub(crate) fn stem(stem: &Convolution<'_>, spatial: Spatial, rows: [&[i8]; 3], output: &mut [i8]) {
    let (width, c_in) = (
        usize::from(stem.input.width),
        usize::from(stem.input.channels),
    );
    let c_out = usize::from(stem.output.channels);
    let taps = 3 * c_in;
    for (x, pixel) in output.chunks_exact_mut(c_out).enumerate() {
        // The window's columns are first..first + 3, of which some may be padding.
        let first =
            (x * usize::from(spatial.stride_freq)) as isize - isize::from(spatial.pad_freq[0]);
        let before = (-first).max(0) as usize;
        let after = (first + 3 - width as isize).max(0) as usize;
        let inside = before * c_in..taps.saturating_sub(after * c_in);
        let start = (first.max(0) as usize) * c_in;
        for (c, out) in pixel.iter_mut().enumerate() {
            let mut acc = stem.kernel.bias[c];
            let weights = &stem.kernel.weights[c * 3 * taps..][..3 * taps];
            for (row, weights) in rows.iter().zip(weights.chunks_exact(taps)) {
                let (padding, weights) = (padding(weights, &inside), &weights[inside.clone()]);
                acc += padding * i32::from(stem.input_zero_point);
                acc += dot(weights, &row[start..][..weights.len()]);
            }
            *out = Requantize::channel(&stem.kernel, stem.activation, c).apply(acc);
        }
    }
}

/// Sum of the weights that fall on padding.
#[inline(always)]
fn padding(weights: &[i8], inside: &core::ops::Range<usize>) -> i32 {
    let outside = weights[..inside.start].iter().chain(&weights[inside.end..]);
    outside.map(|&w| i32::from(w)).sum()
}
