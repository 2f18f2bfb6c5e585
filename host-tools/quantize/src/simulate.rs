//! The package layer by layer on whole tensors, so that each layer can be compared
//! with its float original. Slow and simple; `sori-nn` must agree with its logits.

use sori_nn::Requantize;
use sori_package::{Activation, Classifier, Convolution, Package};

use crate::engine;

/// A convolution and what it reads.
#[derive(Clone, Copy)]
pub(crate) struct Step<'p> {
    pub(crate) convolution: Convolution<'p>,
    pub(crate) depthwise: bool,
    residual: Option<Residual<'p>>,
}

/// Steps before a projection's own at which its block's input was computed, at most.
pub(crate) const FARTHEST_BACK: usize = 3;

#[derive(Clone, Copy)]
struct Residual<'p> {
    factor: &'p [i32],
    zero_point: i8,
    /// How many steps before this one's input the block's input was computed.
    back: usize,
}

/// The convolutions of a package, in order.
pub(crate) fn steps<'p>(package: &Package<'p>) -> Vec<Step<'p>> {
    let step = |convolution| Step {
        convolution,
        depthwise: false,
        residual: None,
    };
    let mut steps = vec![step(package.stem())];
    for block in package.blocks() {
        steps.extend(block.expansion.map(step));
        steps.push(Step {
            depthwise: true,
            ..step(block.depthwise)
        });
        steps.push(Step {
            residual: block.residual.map(|factor| Residual {
                factor,
                zero_point: block.input_zero_point(),
                back: 1 + usize::from(block.expansion.is_some()),
            }),
            ..step(block.projection)
        });
    }
    steps.extend(package.head().map(step));
    steps
}

/// int8 tensor of each convolution in order, `[rows][width][channels]`.
pub(crate) fn layers(package: &Package<'_>, input: &[i8]) -> Vec<Vec<i8>> {
    let mut outputs = Vec::new();
    for step in steps(package) {
        let output = step.run(input, &outputs);
        outputs.push(output);
    }
    outputs
}

/// Logits after the last row of `[rows][width][channels]`, from the formula in
/// [`Classifier`]'s description, without a running sum.
pub(crate) fn logits(classifier: &Classifier<'_>, input: &[i8]) -> Vec<i8> {
    let channels = usize::from(classifier.input.channels);
    let rows: Vec<&[i8]> = input.chunks_exact(classifier.input.row_len()).collect();
    let last = &rows[rows.len().saturating_sub(classifier.pool_rows)..];
    let zero_point = i64::from(classifier.input_zero_point);
    let kernel = classifier.kernel;
    let logit = |class: usize| {
        let filter = &kernel.weights[class * channels..][..channels];
        let products = last.iter().flat_map(|row| {
            let weights = filter.iter().cycle();
            row.iter()
                .zip(weights)
                .map(|(&q, &w)| (i64::from(q) - zero_point) * i64::from(w))
        });
        let total = products.sum::<i64>() + last.len() as i64 * i64::from(kernel.bias[class]);
        let divisor = (last.len() as i128) << (31 + kernel.shift[class]);
        let product = i128::from(total) * i128::from(kernel.multiplier[class]);
        let rounded = (2 * product + divisor).div_euclid(2 * divisor);
        let Activation {
            zero_point,
            min,
            max,
            ..
        } = classifier.activation;
        (rounded + i128::from(zero_point)).clamp(min.into(), max.into()) as i8
    };
    match last {
        [] => Vec::new(),
        _ => (0..classifier.classes).map(logit).collect(),
    }
}

impl Step<'_> {
    /// The step's tensor after those of all `earlier` steps.
    pub(crate) fn run(&self, input: &[i8], earlier: &[Vec<i8>]) -> Vec<i8> {
        let conv = &self.convolution;
        let added = self.residual.map(|residual| {
            let x = &earlier[earlier.len() - 1 - residual.back];
            (residual, x)
        });
        let input = earlier.last().map_or(input, Vec::as_slice);
        let width = usize::from(conv.input.width);
        let c_in = usize::from(conv.input.channels);
        let c_out = usize::from(conv.output.channels);
        let pixels = input.len() / c_in;
        let mut output = Vec::with_capacity(pixels * c_out);
        let mut acc = vec![0i32; c_out];
        let mut finish = |acc: &[i32]| {
            for (c, &acc) in acc.iter().enumerate() {
                let mut acc = acc;
                if let Some((residual, x)) = added {
                    let x = i32::from(x[output.len()]) - i32::from(residual.zero_point);
                    acc += residual.factor[c] * x;
                }
                let requantize = Requantize {
                    multiplier: conv.kernel.multiplier[c],
                    shift: conv.kernel.shift[c],
                    zero_point: conv.activation.zero_point,
                    min: conv.activation.min,
                    max: conv.activation.max,
                };
                output.push(requantize.apply(acc));
            }
        };
        let (weights, bias) = (conv.kernel.weights, conv.kernel.bias);
        let Some(spatial) = conv.spatial else {
            for pixel in input.chunks_exact(c_in) {
                let filters = weights.chunks_exact(c_in).zip(bias);
                for (acc, (filter, bias)) in acc.iter_mut().zip(filters) {
                    *acc = bias + dot(filter, pixel);
                }
                finish(&acc);
            }
            return output;
        };
        let padding = vec![conv.input_zero_point; c_in];
        for taps in engine::taps(spatial, pixels / width, width) {
            acc.copy_from_slice(bias);
            for (tap, pixel) in taps.into_iter().enumerate() {
                let pixel = pixel.map_or(&padding[..], |pixel| &input[pixel * c_in..][..c_in]);
                if self.depthwise {
                    let weights = &weights[tap * c_out..][..c_out];
                    for ((acc, &w), &q) in acc.iter_mut().zip(weights).zip(pixel) {
                        *acc += i32::from(w) * i32::from(q);
                    }
                } else {
                    let filters = weights.chunks_exact(9 * c_in);
                    for (acc, filter) in acc.iter_mut().zip(filters) {
                        *acc += dot(&filter[tap * c_in..][..c_in], pixel);
                    }
                }
            }
            finish(&acc);
        }
        output
    }

    /// For each output pixel, for each tap of a 3×3 kernel, the pixel of the input.
    pub(crate) fn windows(&self, input: &[i8]) -> impl Iterator<Item = [Option<usize>; 9]> + use<> {
        let conv = &self.convolution;
        let rows = input.len() / conv.input.row_len();
        let spatial = conv.spatial.into_iter();
        let width = conv.input.width.into();
        spatial.flat_map(move |spatial| engine::taps(spatial, rows, width))
    }
}

fn dot(weights: &[i8], pixel: &[i8]) -> i32 {
    let products = weights.iter().zip(pixel);
    products.map(|(&w, &q)| i32::from(w) * i32::from(q)).sum()
}
