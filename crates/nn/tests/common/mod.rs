//! The oracle: whole tensors, layer by layer, 64 bits, straight from the formulas.

use sori_package::{Activation, Convolution, Kernel, Package};

/// `[rows][width][channels]` as 64-bit integers.
struct Tensor {
    rows: usize,
    width: usize,
    channels: usize,
    values: Vec<i64>,
}

impl Tensor {
    /// None outside the tensor.
    fn at(&self, y: isize, x: isize, c: usize) -> Option<i64> {
        let inside = (0..self.rows as isize).contains(&y) && (0..self.width as isize).contains(&x);
        inside.then(|| self.values[(y as usize * self.width + x as usize) * self.channels + c])
    }
}

fn requantize(kernel: &Kernel<'_>, activation: Activation, c: usize, acc: i64) -> i64 {
    let divisor = 1i128 << (31 + kernel.shift[c]);
    let product = i128::from(acc) * i128::from(kernel.multiplier[c]);
    let rounded = (product + divisor / 2).div_euclid(divisor) as i64;
    (rounded + i64::from(activation.zero_point)).clamp(activation.min.into(), activation.max.into())
}

fn convolution(
    conv: &Convolution<'_>,
    input: &Tensor,
    depthwise: bool,
    residual: Option<(&[i32], i8, &Tensor)>,
) -> Tensor {
    let c_out = usize::from(conv.output.channels);
    let (size, stride, pad_y, pad_x, bottom) = match conv.spatial {
        Some(s) => (
            3,
            [isize::from(s.stride_time), isize::from(s.stride_freq)],
            isize::from(s.pad_time[0]),
            isize::from(s.pad_freq[0]),
            isize::from(s.pad_time[1]),
        ),
        None => (1, [1, 1], 0, 0, 0),
    };
    let padded = input.rows as isize + pad_y + bottom;
    let rows = if padded < size {
        0
    } else {
        ((padded - size) / stride[0] + 1) as usize
    };
    let width = usize::from(conv.output.width);
    let c_in = if depthwise { 1 } else { input.channels };
    let mut values = Vec::with_capacity(rows * width * c_out);
    for y in 0..rows as isize {
        for x in 0..width as isize {
            for c in 0..c_out {
                let mut acc = i64::from(conv.kernel.bias[c]);
                for ky in 0..size {
                    for kx in 0..size {
                        for i in 0..c_in {
                            let tap = (ky * size + kx) as usize;
                            let (channel, weight) = if depthwise {
                                (c, tap * c_out + c)
                            } else {
                                (i, (c * (size * size) as usize + tap) * c_in + i)
                            };
                            let q = input
                                .at(
                                    y * stride[0] - pad_y + ky,
                                    x * stride[1] - pad_x + kx,
                                    channel,
                                )
                                .unwrap_or(conv.input_zero_point.into());
                            acc += q * i64::from(conv.kernel.weights[weight]);
                        }
                    }
                }
                if let Some((factor, zero_point, x_in)) = residual {
                    let value = x_in.at(y, x, c).expect("a residual keeps the shape");
                    acc += i64::from(factor[c]) * (value - i64::from(zero_point));
                }
                assert!(i32::try_from(acc).is_ok(), "parse proved that this fits");
                values.push(requantize(&conv.kernel, conv.activation, c, acc));
            }
        }
    }
    Tensor {
        rows,
        width,
        channels: c_out,
        values,
    }
}

/// The logits after each output row of a whole clip.
pub(crate) fn logits(package: &Package<'_>, rows: &[i8]) -> Vec<Vec<i8>> {
    let shape = package.input();
    let mut x = Tensor {
        rows: rows.len() / shape.row_len(),
        width: shape.width.into(),
        channels: shape.channels.into(),
        values: rows.iter().map(|&q| q.into()).collect(),
    };
    x = convolution(&package.stem(), &x, false, None);
    for block in package.blocks() {
        let wide = block.expansion.map(|e| convolution(&e, &x, false, None));
        let deep = convolution(&block.depthwise, wide.as_ref().unwrap_or(&x), true, None);
        let residual = block.residual.map(|k| (k, block.input_zero_point(), &x));
        x = convolution(&block.projection, &deep, false, residual);
    }
    if let Some(head) = package.head() {
        x = convolution(&head, &x, false, None);
    }
    let classifier = package.classifier();
    (1..=x.rows)
        .map(|end| {
            let start = end.saturating_sub(classifier.pool_rows);
            (0..classifier.classes)
                .map(|k| {
                    let mut total = 0;
                    for y in start..end {
                        total += i64::from(classifier.kernel.bias[k]);
                        for column in 0..x.width {
                            for c in 0..x.channels {
                                let q = x.at(y as isize, column as isize, c).expect("inside");
                                let w = classifier.kernel.weights[k * x.channels + c];
                                total +=
                                    i64::from(w) * (q - i64::from(classifier.input_zero_point));
                            }
                        }
                    }
                    let divisor = ((end - start) as i128) << (31 + classifier.kernel.shift[k]);
                    let product = i128::from(total) * i128::from(classifier.kernel.multiplier[k]);
                    let rounded = (2 * product + divisor).div_euclid(2 * divisor) as i64;
                    let a = classifier.activation;
                    (rounded + i64::from(a.zero_point)).clamp(a.min.into(), a.max.into()) as i8
                })
                .collect()
        })
        .collect()
}
