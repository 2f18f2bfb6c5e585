use sori_package::{Convolution, Spatial};

use crate::Requantize;

/// Channels whose accumulators stay in registers.
const LANES: usize = 16;

/// One output row of a 3×3 depthwise convolution from three input rows `[width][c]`.
pub(crate) fn depthwise(
    depthwise: &Convolution<'_>,
    spatial: Spatial,
    rows: [&[i8]; 3],
    output: &mut [i8],
) {
    let width = usize::from(depthwise.input.width);
    let channels = usize::from(depthwise.input.channels);
    let padding = [depthwise.input_zero_point; LANES];
    for (x, pixel) in output.chunks_exact_mut(channels).enumerate() {
        let first =
            (x * usize::from(spatial.stride_freq)) as isize - isize::from(spatial.pad_freq[0]);
        // The nine pixels under the kernel; none where it hangs over the edge.
        let mut window: [Option<&[i8]>; 9] = [None; 9];
        for (ky, row) in rows.iter().enumerate() {
            for kx in 0..3 {
                let column = first + kx as isize;
                if (0..width as isize).contains(&column) {
                    window[3 * ky + kx] = Some(&row[column as usize * channels..][..channels]);
                }
            }
        }
        for start in (0..channels).step_by(LANES) {
            let lanes = LANES.min(channels - start);
            let mut acc = [0; LANES];
            acc[..lanes].copy_from_slice(&depthwise.kernel.bias[start..][..lanes]);
            for (tap, values) in window.iter().enumerate() {
                let weights = &depthwise.kernel.weights[tap * channels + start..][..lanes];
                let values = match values {
                    Some(values) => &values[start..][..lanes],
                    None => &padding[..lanes],
                };
                multiply_add(&mut acc, weights, values);
            }
            for (lane, out) in pixel[start..][..lanes].iter_mut().enumerate() {
                let requantize =
                    Requantize::channel(&depthwise.kernel, depthwise.activation, start + lane);
                *out = requantize.apply(acc[lane]);
            }
        }
    }
}

#[inline(always)]
fn multiply_add(acc: &mut [i32; LANES], weights: &[i8], values: &[i8]) {
    // The whole vector is the common case; known lengths let it become one.
    if let (Some(weights), Some(values)) = (
        weights.first_chunk::<LANES>(),
        values.first_chunk::<LANES>(),
    ) {
        for lane in 0..LANES {
            acc[lane] += i32::from(weights[lane]) * i32::from(values[lane]);
        }
    } else {
        for (acc, (&w, &q)) in acc.iter_mut().zip(weights.iter().zip(values)) {
            *acc += i32::from(w) * i32::from(q);
        }
    }
}
