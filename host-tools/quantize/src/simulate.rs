//! The package layer by layer on whole tensors, so that each layer can be compared
//! with its float original. Slow and simple; `sori-nn` must agree with its logits.

use sori_nn::Requantize;
use sori_package::{Activation, Classifier, Convolution, Package};

/// A convolution and what it reads.
#[derive(Clone, Copy)]
pub(crate) struct Step<'p> {
    pub(crate) convolution: Convolution<'p>,
    depthwise: bool,
    residual: Option<Residual<'p>>,
}

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
        let output = step.run(step.convolution.kernel.bias, input, &outputs);
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
    /// The step's tensor after those of all `earlier` steps, with a bias of the caller's.
    pub(crate) fn run(&self, bias: &[i32], input: &[i8], earlier: &[Vec<i8>]) -> Vec<i8> {
        let conv = &self.convolution;
        let added = self.residual.map(|residual| {
            let x = &earlier[earlier.len() - 1 - residual.back];
            (residual, x)
        });
        let input = earlier.last().map_or(input, Vec::as_slice);
        let (width, c_in) = (
            usize::from(conv.input.width),
            usize::from(conv.input.channels),
        );
        let (out_width, c_out) = (
            usize::from(conv.output.width),
            usize::from(conv.output.channels),
        );
        let rows = input.len() / (width * c_in);
        let (size, stride, pads, bottom) = match conv.spatial {
            Some(s) => (
                3,
                [usize::from(s.stride_time), usize::from(s.stride_freq)],
                [usize::from(s.pad_time[0]), usize::from(s.pad_freq[0])],
                usize::from(s.pad_time[1]),
            ),
            None => (1, [1, 1], [0, 0], 0),
        };
        let out_rows = match (rows + pads[0] + bottom).checked_sub(size) {
            Some(beyond) => beyond / stride[0] + 1,
            None => 0,
        };
        let padding = vec![conv.input_zero_point; c_in];
        let mut output = Vec::with_capacity(out_rows * out_width * c_out);
        let mut acc = vec![0i32; c_out];
        for y in 0..out_rows {
            for x in 0..out_width {
                acc.copy_from_slice(bias);
                for tap in 0..size * size {
                    let row = (y * stride[0] + tap / size)
                        .checked_sub(pads[0])
                        .filter(|&r| r < rows);
                    let column = (x * stride[1] + tap % size)
                        .checked_sub(pads[1])
                        .filter(|&c| c < width);
                    let pixel = match (row, column) {
                        (Some(row), Some(column)) => {
                            &input[(row * width + column) * c_in..][..c_in]
                        }
                        _ => &padding[..],
                    };
                    if self.depthwise {
                        let weights = &conv.kernel.weights[tap * c_out..][..c_out];
                        for ((acc, &w), &q) in acc.iter_mut().zip(weights).zip(pixel) {
                            *acc += i32::from(w) * i32::from(q);
                        }
                    } else {
                        let taps = size * size;
                        let filters = conv.kernel.weights.chunks_exact(taps * c_in);
                        for (acc, filter) in acc.iter_mut().zip(filters) {
                            let products = filter[tap * c_in..][..c_in].iter().zip(pixel);
                            *acc += products
                                .map(|(&w, &q)| i32::from(w) * i32::from(q))
                                .sum::<i32>();
                        }
                    }
                }
                for (c, acc) in acc.iter_mut().enumerate() {
                    if let Some((residual, x)) = added {
                        let x = i32::from(x[output.len()]) - i32::from(residual.zero_point);
                        *acc += residual.factor[c] * x;
                    }
                    let requantize = Requantize {
                        multiplier: conv.kernel.multiplier[c],
                        shift: conv.kernel.shift[c],
                        zero_point: conv.activation.zero_point,
                        min: conv.activation.min,
                        max: conv.activation.max,
                    };
                    output.push(requantize.apply(*acc));
                }
            }
        }
        output
    }
}
