//! Rounds the weights again so that each layer computes what it should on calibration data, and
//! takes the mean error that is left out of the biases.
//!
//! Layer after layer, on what the int8 layers before it really give. With `e` the difference of
//! a filter from its exact weights, in steps, and `H` the covariance of what it reads, `eᵀHe` is
//! the power of its error. A weight moves by a step, up or down, while that falls: the aim of
//! AdaRound (arXiv:2004.10568), by coordinate descent on the exact objective in place of a
//! relaxation. The mean error is a bias's to correct (arXiv:1906.04721, §4.2, with data in place
//! of batch norm's statistics), and of both what the package proves about overflow still holds:
//! it is built and parsed anew.

use rayon::prelude::*;
use sori_host::Sqnr;
use sori_package::{Activation, Kernel, Package};
use tract_onnx::prelude::tract_ndarray::ArrayView2;

use crate::Window;
use crate::engine;
use crate::float::{FloatNetwork, Layer};
use crate::simulate::{self, FARTHEST_BACK, Step};

/// Windows that are enough for means and covariances.
const WINDOWS: usize = 48;
/// Values of a layer's input, times what it reads of them, that its covariance is taken over.
const LARGEST_SAMPLE: usize = 1 << 22;
/// Of the mean variance, added to each: what calibration did not show varies too.
const DAMPING: f64 = 0.01;
/// Over all weights of a filter; few need more than three.
const SWEEPS: usize = 20;
/// A channel without weights worth the name, whose steps are tiny, is left alone: the
/// accumulator must not overflow.
const LARGEST_CORRECTION: f64 = 268_435_456.0;

/// Which of the two to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) rounding: bool,
    pub(crate) bias_correction: bool,
}

/// A layer's integers.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) weights: Vec<i8>,
    pub(crate) bias: Vec<i32>,
}

/// The convolutions in order, then the classifier.
pub(crate) fn rebuild(
    package: &Package<'_>,
    network: &FloatNetwork,
    windows: &[Window],
    wanted: Wanted,
    on_layer: &dyn Fn(),
) -> Vec<Rebuilt> {
    let every = windows.len().div_ceil(WINDOWS).max(1);
    let windows: Vec<&Window> = windows.iter().step_by(every).collect();
    let exact_means = match wanted.bias_correction {
        true => means(network, &windows),
        false => Vec::new(),
    };
    let mut earlier: Vec<Vec<Vec<i8>>> = vec![Vec::new(); windows.len()];
    let mut input_activation = package.input_activation();
    let mut all = Vec::new();
    let layers = network.layers();
    for (n, (step, layer)) in simulate::steps(package).iter().zip(&layers).enumerate() {
        let convolution = &step.convolution;
        let activation = convolution.activation;
        let mut rebuilt = Rebuilt {
            weights: convolution.kernel.weights.to_vec(),
            bias: convolution.kernel.bias.to_vec(),
        };
        let inputs = || {
            let inputs = windows.par_iter().zip(&earlier);
            inputs.map(|(window, earlier)| earlier.last().map_or(&window.rows[..], Vec::as_slice))
        };
        if wanted.rounding {
            let exact = Exact {
                weights: &layer.convolution.weights,
                bias: &layer.convolution.bias,
                steps: steps(&convolution.kernel, input_activation, activation),
            };
            let inputs: Vec<_> = inputs().collect();
            round(step, &inputs, &exact, wanted, &mut rebuilt);
        }
        let run = |rebuilt: &Rebuilt, window: &Window, earlier: &[Vec<i8>]| {
            let mut step = *step;
            step.convolution.kernel.weights = &rebuilt.weights;
            step.convolution.kernel.bias = &rebuilt.bias;
            step.run(&window.rows, earlier)
        };
        let pairs = || windows.par_iter().zip(&earlier);
        if wanted.bias_correction {
            let channels = rebuilt.bias.len();
            let sums: Vec<(Vec<i64>, usize)> = pairs()
                .map(|(window, earlier)| {
                    let output = run(&rebuilt, window, earlier);
                    let mut sums = vec![0i64; channels];
                    for pixel in output.chunks_exact(channels) {
                        for (sum, &q) in sums.iter_mut().zip(pixel) {
                            *sum += i64::from(q);
                        }
                    }
                    (sums, output.len() / channels)
                })
                .collect();
            let pixels = sums.iter().map(|(_, pixels)| pixels).sum::<usize>().max(1);
            for c in 0..channels {
                let sum: i64 = sums.iter().map(|(sums, _)| sums[c]).sum();
                let found = sum as f64 / pixels as f64 - f64::from(activation.zero_point);
                let error = found - exact_means[n][c] / f64::from(activation.scale);
                let kernel = convolution.kernel;
                let correction = (error / factor(&kernel, c)).round();
                if correction.abs() <= LARGEST_CORRECTION {
                    rebuilt.bias[c] = rebuilt.bias[c].saturating_sub(correction as i32);
                }
            }
        }
        let outputs: Vec<_> = pairs()
            .map(|(window, earlier)| run(&rebuilt, window, earlier))
            .collect();
        for (earlier, output) in earlier.iter_mut().zip(outputs) {
            earlier.push(output);
            if let Some(past) = earlier.len().checked_sub(FARTHEST_BACK + 1) {
                earlier[past] = Vec::new();
            }
        }
        input_activation = activation;
        all.push(rebuilt);
        on_layer();
    }

    let classifier = package.classifier();
    let mut rebuilt = Rebuilt {
        weights: classifier.kernel.weights.to_vec(),
        bias: classifier.kernel.bias.to_vec(),
    };
    if wanted.rounding {
        let channels = usize::from(classifier.input.channels);
        let width = f64::from(classifier.input.width);
        let scale = f64::from(input_activation.scale) / width;
        let exact = Exact {
            weights: &network.classifier.weights,
            bias: &network.classifier.bias,
            steps: (0..classifier.classes)
                .map(|k| {
                    factor(&classifier.kernel, k) * f64::from(classifier.activation.scale) / scale
                })
                .collect(),
        };
        let inputs: Vec<_> = earlier
            .iter()
            .filter_map(|earlier| earlier.last().map(Vec::as_slice))
            .collect();
        let pixels = Sample::of_pixels(&inputs, channels, input_activation.zero_point.into());
        let moments = pixels.moments(0..channels, wanted.bias_correction);
        // The running mean takes the zero point off by itself.
        round_filters(&moments, &exact, 0, &mut rebuilt);
    }
    on_layer();
    all.push(rebuilt);
    all
}

/// Of each layer's channels, over the same windows that the integers are run on.
fn means(network: &FloatNetwork, windows: &[&Window]) -> Vec<Vec<f64>> {
    let layers = network.layers();
    let mut sums: Vec<Vec<f64>> = layers
        .iter()
        .map(|layer| vec![0.0; layer.convolution.c_out])
        .collect();
    let mut pixels = vec![0usize; layers.len()];
    for some in windows.chunks(rayon::current_num_threads()) {
        let runs: Vec<_> = some
            .par_iter()
            .map(|window| engine::run(network, &window.floats))
            .collect();
        for tensors in &runs {
            for ((tensor, sums), pixels) in tensors.iter().zip(&mut sums).zip(&mut pixels) {
                *pixels += tensor.len() / sums.len();
                for pixel in tensor.chunks_exact(sums.len()) {
                    for (sum, &x) in sums.iter_mut().zip(pixel) {
                        *sum += f64::from(x);
                    }
                }
            }
        }
    }
    for (sums, pixels) in sums.iter_mut().zip(pixels) {
        sums.iter_mut().for_each(|sum| *sum /= pixels.max(1) as f64);
    }
    sums
}

/// How well a layer's rounded weights stand for its exact ones.
pub(crate) fn weight_sqnr(
    steps: &[Step<'_>],
    n: usize,
    layer: &Layer<'_>,
    input: Activation,
) -> Sqnr {
    let convolution = steps[n].convolution;
    let before = n.checked_sub(1).map(|n| steps[n].convolution.activation);
    let scales = self::steps(
        &convolution.kernel,
        before.unwrap_or(input),
        convolution.activation,
    );
    let channels = layer.convolution.c_out;
    let taps = layer.convolution.taps();
    let mut sqnr = Sqnr::default();
    for (n, &exact) in layer.convolution.weights.iter().enumerate() {
        let (c, tap) = (n / taps, n % taps);
        let at = match layer.is_depthwise() {
            true => tap * channels + c,
            false => n,
        };
        let found = f64::from(convolution.kernel.weights[at]) * scales[c];
        sqnr.add(exact, found as f32);
    }
    sqnr
}

/// What the integers stand for.
struct Exact<'f> {
    weights: &'f [f32],
    bias: &'f [f32],
    /// Scale of each filter's weights.
    steps: Vec<f64>,
}

/// From accumulator to output, of a channel.
fn factor(kernel: &Kernel<'_>, c: usize) -> f64 {
    f64::from(kernel.multiplier[c]) * 2f64.powi(-31 - i32::from(kernel.shift[c]))
}

/// Scales of the filters' weights.
fn steps(kernel: &Kernel<'_>, input: Activation, output: Activation) -> Vec<f64> {
    (0..kernel.bias.len())
        .map(|c| factor(kernel, c) * f64::from(output.scale) / f64::from(input.scale))
        .collect()
}

fn round(
    step: &Step<'_>,
    inputs: &[&[i8]],
    exact: &Exact<'_>,
    wanted: Wanted,
    rebuilt: &mut Rebuilt,
) {
    let convolution = &step.convolution;
    let centred = wanted.bias_correction;
    let zero_point = i32::from(convolution.input_zero_point);
    let channels = usize::from(convolution.input.channels);
    if !step.depthwise {
        let sample = match convolution.spatial {
            Some(_) => Sample::of_windows(step, inputs),
            None => Sample::of_pixels(inputs, channels, zero_point),
        };
        let moments = sample.moments(0..sample.len, centred);
        return round_filters(&moments, exact, zero_point, rebuilt);
    }
    // `[tap][channel]`, as the package has both the windows and the weights.
    let sample = Sample::of_windows(step, inputs);
    for c in 0..channels {
        let taps = (0..9).map(|tap| tap * channels + c);
        let moments = sample.moments(taps.clone(), centred);
        let filter = &exact.weights[9 * c..][..9];
        let mut weights: Vec<i8> = taps.clone().map(|at| rebuilt.weights[at]).collect();
        let before: i32 = weights.iter().map(|&w| i32::from(w)).sum();
        descend(&moments, filter, exact.steps[c], &mut weights);
        let after: i32 = weights.iter().map(|&w| i32::from(w)).sum();
        rebuilt.bias[c] = rebuilt.bias[c].saturating_sub(zero_point * (after - before));
        for (at, w) in taps.zip(weights) {
            rebuilt.weights[at] = w;
        }
    }
}

/// Filters that all read the same; the zero point's part of a bias follows its weights.
fn round_filters(moments: &Moments, exact: &Exact<'_>, zero_point: i32, rebuilt: &mut Rebuilt) {
    let taps = exact.weights.len() / exact.bias.len();
    let filters = rebuilt.weights.par_chunks_exact_mut(taps);
    let all = filters.zip(&mut rebuilt.bias).zip(&exact.steps);
    all.zip(exact.weights.par_chunks_exact(taps))
        .for_each(|(((weights, bias), &step), filter)| {
            let before: i32 = weights.iter().map(|&w| i32::from(w)).sum();
            descend(moments, filter, step, weights);
            let after: i32 = weights.iter().map(|&w| i32::from(w)).sum();
            *bias = bias.saturating_sub(zero_point * (after - before));
        });
}

/// Moves weights by steps while the error's power falls.
fn descend(moments: &Moments, exact: &[f32], step: f64, weights: &mut [i8]) {
    let taps = weights.len();
    let off = |q: i8, w: f32| f64::from(q) - f64::from(w) / step;
    // H·e.
    let mut slopes = vec![0.0; taps];
    for (k, (&q, &w)) in weights.iter().zip(exact).enumerate() {
        let e = off(q, w);
        for (slope, h) in slopes.iter_mut().zip(moments.row(k)) {
            *slope += h * e;
        }
    }
    for _ in 0..SWEEPS {
        let mut moved = false;
        for k in 0..taps {
            let row = moments.row(k);
            let direction = -slopes[k].signum();
            let gain = 2.0 * direction * slopes[k] + row[k];
            let q = f64::from(weights[k]) + direction;
            // Farther than a step from its exact value a weight fits these data alone.
            let near = (q - f64::from(exact[k]) / step).abs() < 1.0;
            if gain < -1e-9 * row[k] && near && q.abs() <= 127.0 {
                weights[k] = q as i8;
                for (slope, h) in slopes.iter_mut().zip(row) {
                    *slope += h * direction;
                }
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// What a layer reads, zero points taken off.
struct Sample {
    /// Values that go into one sum.
    len: usize,
    /// `[n][len]`.
    values: Vec<f32>,
}

impl Sample {
    fn of_pixels(inputs: &[&[i8]], channels: usize, zero_point: i32) -> Self {
        let pixels: usize = inputs.iter().map(|input| input.len() / channels).sum();
        let every = (pixels * channels * channels)
            .div_ceil(LARGEST_SAMPLE * 64)
            .max(1);
        let all = inputs.iter().flat_map(|input| input.chunks_exact(channels));
        let values = all.step_by(every).flatten();
        let values = values
            .map(|&q| (i32::from(q) - zero_point) as f32)
            .collect();
        Self {
            len: channels,
            values,
        }
    }

    fn of_windows(step: &Step<'_>, inputs: &[&[i8]]) -> Self {
        let channels = usize::from(step.convolution.input.channels);
        let len = 9 * channels;
        let total: usize = inputs.iter().map(|input| step.windows(input).count()).sum();
        let every = (total * len).div_ceil(LARGEST_SAMPLE).max(1);
        let all = inputs.iter().flat_map(|input| {
            let windows = step.windows(input);
            windows.map(move |taps| (*input, taps))
        });
        let zero_point = i32::from(step.convolution.input_zero_point);
        let mut values = Vec::new();
        for (input, taps) in all.step_by(every) {
            for pixel in taps {
                match pixel {
                    Some(pixel) => {
                        let pixel = &input[pixel * channels..][..channels];
                        values.extend(pixel.iter().map(|&q| (i32::from(q) - zero_point) as f32));
                    }
                    None => values.extend(std::iter::repeat_n(0.0, channels)),
                }
            }
        }
        Self { len, values }
    }

    /// Of some of the values, about their means or about zero.
    fn moments(&self, which: impl Iterator<Item = usize> + Clone, centred: bool) -> Moments {
        let which: Vec<usize> = which.collect();
        let len = which.len();
        let rows = self.values.len() / self.len.max(1);
        let mut picked = Vec::with_capacity(rows * len);
        for row in self.values.chunks_exact(self.len) {
            picked.extend(which.iter().map(|&at| row[at]));
        }
        if centred {
            let mut means = vec![0f64; len];
            for row in picked.chunks_exact(len) {
                for (mean, &x) in means.iter_mut().zip(row) {
                    *mean += f64::from(x) / rows as f64;
                }
            }
            for row in picked.chunks_exact_mut(len) {
                for (x, mean) in row.iter_mut().zip(&means) {
                    *x -= *mean as f32;
                }
            }
        }
        let matrix = ArrayView2::from_shape((rows, len), &picked).expect("rows of this length");
        let products = matrix.t().dot(&matrix);
        let count = rows.max(1) as f64;
        let mut values: Vec<f64> = products.iter().map(|&h| f64::from(h) / count).collect();
        let trace: f64 = (0..len).map(|k| values[k * len + k]).sum();
        for k in 0..len {
            values[k * len + k] += DAMPING * trace / len.max(1) as f64 + 1e-9;
        }
        Moments { len, values }
    }
}

/// `H`, symmetric.
struct Moments {
    len: usize,
    values: Vec<f64>,
}

impl Moments {
    fn row(&self, k: usize) -> &[f64] {
        &self.values[k * self.len..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two inputs that always agree: one may be rounded up for the other down.
    #[test]
    fn errors_of_correlated_inputs_cancel() {
        let sample = Sample {
            len: 2,
            values: (0..100).flat_map(|n| [n as f32; 2]).collect(),
        };
        let moments = sample.moments(0..2, true);
        let mut weights = [0, 0];
        descend(&moments, &[0.4, 0.4], 1.0, &mut weights);
        assert_eq!(i32::from(weights[0]) + i32::from(weights[1]), 1);
    }

    #[test]
    fn independent_inputs_keep_the_nearest_steps() {
        let sample = Sample {
            len: 2,
            values: (0..100)
                .flat_map(|n| [(n % 10) as f32, (n / 10) as f32])
                .collect(),
        };
        let moments = sample.moments(0..2, true);
        let mut weights = [3, -2];
        descend(&moments, &[3.4, -1.7], 1.0, &mut weights);
        assert_eq!(weights, [3, -2]);
    }
}
