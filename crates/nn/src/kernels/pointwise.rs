use sori_package::Convolution;

use super::dot;
use crate::Requantize;

/// Pixels that share one pass over the weights.
const PIXELS: usize = 4;

/// What a residual adds to the projection's accumulator: `K_c · (x − zero_point)`.
#[derive(Clone, Copy)]
pub(crate) struct Residual<'a> {
    /// `[pixels][c_out]`, the block's input.
    pub(crate) input: &'a [i8],
    pub(crate) zero_point: i8,
    /// `K_c`, `[c_out]`.
    pub(crate) factor: &'a [i32],
}

/// 1×1 convolution of any number of pixels, `[pixels][c_in]` to `[pixels][c_out]`.
pub(crate) fn pointwise(
    pointwise: &Convolution<'_>,
    residual: Option<Residual<'_>>,
    input: &[i8],
    output: &mut [i8],
) {
    let c_in = usize::from(pointwise.input.channels);
    let c_out = usize::from(pointwise.output.channels);
    let whole = output.len() / (PIXELS * c_out) * PIXELS;
    let (input, input_tail) = input.split_at(whole * c_in);
    let (output, output_tail) = output.split_at_mut(whole * c_out);
    let added = |pixel: usize, c: usize| match residual {
        Some(r) => r.factor[c] * (i32::from(r.input[pixel * c_out + c]) - i32::from(r.zero_point)),
        None => 0,
    };
    let groups = input
        .chunks_exact(PIXELS * c_in)
        .zip(output.chunks_exact_mut(PIXELS * c_out));
    for (group, (input, output)) in groups.enumerate() {
        for c in 0..c_out {
            let weights = &pointwise.kernel.weights[c * c_in..][..c_in];
            let requantize = Requantize::channel(&pointwise.kernel, pointwise.activation, c);
            let sums = dot_pixels(weights, input);
            for (pixel, sum) in sums.into_iter().enumerate() {
                let acc = pointwise.kernel.bias[c] + sum + added(group * PIXELS + pixel, c);
                output[pixel * c_out + c] = requantize.apply(acc);
            }
        }
    }
    let tail = input_tail
        .chunks_exact(c_in)
        .zip(output_tail.chunks_exact_mut(c_out));
    for (pixel, (input, output)) in tail.enumerate() {
        for (c, out) in output.iter_mut().enumerate() {
            let weights = &pointwise.kernel.weights[c * c_in..][..c_in];
            let acc = pointwise.kernel.bias[c] + dot(weights, input) + added(whole + pixel, c);
            *out = Requantize::channel(&pointwise.kernel, pointwise.activation, c).apply(acc);
        }
    }
}

/// The same weights over [`PIXELS`] pixels that lie side by side.
#[inline(always)]
fn dot_pixels(weights: &[i8], pixels: &[i8]) -> [i32; PIXELS] {
    let c_in = weights.len();
    let (p0, rest) = pixels.split_at(c_in);
    let (p1, rest) = rest.split_at(c_in);
    let (p2, p3) = rest.split_at(c_in);
    let mut sums = [0; PIXELS];
    for ((((&w, &q0), &q1), &q2), &q3) in weights.iter().zip(p0).zip(p1).zip(p2).zip(p3) {
        let w = i32::from(w);
        sums[0] += w * i32::from(q0);
        sums[1] += w * i32::from(q1);
        sums[2] += w * i32::from(q2);
        sums[3] += w * i32::from(q3);
    }
    sums
}
