//! Runs a [`FloatNetwork`]: every tensor of it, or again from a tensor that was changed.
//!
//! tract runs the file as it is and is what agreement is measured against; here the network can
//! be taken apart, equalized and disturbed.

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};

use sori_package::Spatial;

use crate::float::{FloatConvolution, FloatNetwork, Layer};

/// One tensor, `[rows][width][channels]`.
pub(crate) type Tensor = Vec<f32>;

/// The output of every layer, for the input's rows.
pub(crate) fn run(network: &FloatNetwork, input: &[f32]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut width = network.width;
    for layer in &network.layers() {
        let x = tensors.last().map_or(input, Vec::as_slice);
        let added = layer.residual.map(|tensor| &tensors[tensor][..]);
        let output = layer.run(x, added, width);
        tensors.push(output);
        width = output_width(layer.convolution, width);
    }
    tensors
}

/// The last tensor, if tensor `n` of a run were another.
pub(crate) fn rerun(
    network: &FloatNetwork,
    tensors: &[Tensor],
    n: usize,
    changed: Tensor,
) -> Tensor {
    let mut new = vec![changed];
    let mut width = network.width;
    for (m, layer) in network.layers().iter().enumerate() {
        if m > n {
            let added = layer.residual.map(|tensor| match tensor.checked_sub(n) {
                Some(since) => &new[since][..],
                None => &tensors[tensor][..],
            });
            let output = layer.run(&new[m - n - 1], added, width);
            new.push(output);
        }
        width = output_width(layer.convolution, width);
    }
    new.pop().unwrap_or_default()
}

/// Logits of the mean over the last `pool_rows` rows, or all where there are fewer.
pub(crate) fn logits(network: &FloatNetwork, last: &[f32], pool_rows: usize) -> Vec<f32> {
    let classifier = &network.classifier;
    let channels = classifier.weights.len() / classifier.bias.len();
    let row_len = network.output_width() * channels;
    let last = &last[last.len().saturating_sub(pool_rows * row_len)..];
    let mut means = vec![0.0; channels];
    for pixel in last.chunks_exact(channels) {
        for (mean, &x) in means.iter_mut().zip(pixel) {
            *mean += f64::from(x) * channels as f64 / last.len() as f64;
        }
    }
    let filters = classifier.weights.chunks_exact(channels);
    filters
        .zip(&classifier.bias)
        .map(|(filter, &bias)| {
            let products = filter.iter().zip(&means).map(|(&w, x)| f64::from(w) * x);
            (products.sum::<f64>() + f64::from(bias)) as f32
        })
        .collect()
}

pub(crate) fn output_width(convolution: &FloatConvolution, width: usize) -> usize {
    convolution
        .spatial
        .map_or(width, |spatial| spatial.output_width(width as u64) as usize)
}

impl Layer<'_> {
    /// Its output for rows of `width` pixels; `added` has the output's shape.
    pub(crate) fn run(&self, input: &[f32], added: Option<&[f32]>, width: usize) -> Tensor {
        let convolution = self.convolution;
        let mut output = self.linear(input, width);
        if let Some(added) = added {
            for (y, x) in output.iter_mut().zip(added) {
                *y += x;
            }
        }
        let [low, high] = convolution.clamp;
        for pixel in output.chunks_exact_mut(convolution.c_out) {
            for (y, divisor) in pixel.iter_mut().zip(&convolution.divisors) {
                *y = y.clamp(low / divisor, high / divisor);
            }
        }
        output
    }

    /// Before residual and activation.
    pub(crate) fn linear(&self, input: &[f32], width: usize) -> Tensor {
        let convolution = self.convolution;
        match convolution.spatial {
            None => product(convolution, input),
            Some(spatial) if self.is_depthwise() => depthwise(convolution, spatial, input, width),
            Some(spatial) => {
                let windows = windows(convolution, spatial, input, width);
                product(convolution, &windows)
            }
        }
    }
}

/// `bias + weights · x` for each group of `taps` values.
fn product(convolution: &FloatConvolution, input: &[f32]) -> Tensor {
    let (taps, c_out) = (convolution.taps(), convolution.c_out);
    let pixels = input.len() / taps;
    let mut output: Vec<f32> = convolution
        .bias
        .iter()
        .copied()
        .cycle()
        .take(pixels * c_out)
        .collect();
    let shapes = "lengths follow from the shapes";
    let x = ArrayView2::from_shape((pixels, taps), &input[..pixels * taps]).expect(shapes);
    let weights = ArrayView2::from_shape((c_out, taps), &convolution.weights).expect(shapes);
    let mut y = ArrayViewMut2::from_shape((pixels, c_out), &mut output).expect(shapes);
    general_mat_mul(1.0, &x, &weights.t(), 1.0, &mut y);
    output
}

/// What a 3×3 kernel over `width` pixels a row reads: for each output pixel, for each tap in
/// order, the pixel of the input, or none in the padding.
pub(crate) fn taps(
    spatial: Spatial,
    rows: usize,
    width: usize,
) -> impl Iterator<Item = [Option<usize>; 9]> {
    let top = usize::from(spatial.pad_time[0]);
    let left = usize::from(spatial.pad_freq[0]);
    let strides = [spatial.stride_time, spatial.stride_freq].map(usize::from);
    let out_rows = spatial.output_rows(rows as u64) as usize;
    let out_width = spatial.output_width(width as u64) as usize;
    (0..out_rows).flat_map(move |y| {
        (0..out_width).map(move |x| {
            std::array::from_fn(|tap| {
                let row = (y * strides[0] + tap / 3).checked_sub(top);
                let column = (x * strides[1] + tap % 3).checked_sub(left);
                let row = row.filter(|&row| row < rows)?;
                let column = column.filter(|&column| column < width)?;
                Some(row * width + column)
            })
        })
    })
}

/// The 9 · c_in values under the kernel, for each output pixel.
fn windows(
    convolution: &FloatConvolution,
    spatial: Spatial,
    input: &[f32],
    width: usize,
) -> Vec<f32> {
    let c_in = convolution.c_in;
    let rows = input.len() / (width * c_in);
    let mut windows = Vec::new();
    for pixels in taps(spatial, rows, width) {
        for pixel in pixels {
            match pixel {
                Some(pixel) => windows.extend_from_slice(&input[pixel * c_in..][..c_in]),
                None => windows.extend(std::iter::repeat_n(0.0, c_in)),
            }
        }
    }
    windows
}

fn depthwise(
    convolution: &FloatConvolution,
    spatial: Spatial,
    input: &[f32],
    width: usize,
) -> Tensor {
    let channels = convolution.c_out;
    let rows = input.len() / (width * channels);
    // Channels side by side, so that the loop over them is one of vectors.
    let by_tap: Vec<f32> = (0..9 * channels)
        .map(|n| convolution.weights[n % channels * 9 + n / channels])
        .collect();
    let mut output = Vec::new();
    for pixels in taps(spatial, rows, width) {
        let start = output.len();
        output.extend_from_slice(&convolution.bias);
        let sums = &mut output[start..];
        for (pixel, weights) in pixels.into_iter().zip(by_tap.chunks_exact(channels)) {
            let Some(pixel) = pixel else { continue };
            let x = &input[pixel * channels..][..channels];
            for ((sum, &w), &x) in sums.iter_mut().zip(weights).zip(x) {
                *sum += w * x;
            }
        }
    }
    output
}
