//! Takes the mean error that rounded weights leave in each channel out of its bias.
//!
//! Rounding moves a channel's sum by Σ δw·x, whose mean over music is not zero. The mean
//! difference from the float network is measured layer after layer, each with all
//! earlier layers corrected (arXiv:1906.04721, §4.2, with data in place of batch norm's
//! statistics).

use anyhow::Result;
use sori_package::Package;

use crate::Window;
use crate::ranges::dequantize;
use crate::reference::Reference;
use crate::simulate;

/// Windows that are enough for a mean.
const WINDOWS: usize = 48;
/// A channel without weights worth the name, whose steps are tiny, is left alone: the
/// accumulator must not overflow.
const LARGEST: f64 = 268_435_456.0;

/// The corrected biases of the convolutions, in order.
pub(crate) fn biases(
    package: &Package<'_>,
    reference: &mut Reference<'_>,
    windows: &[Window],
) -> Result<Vec<Vec<i32>>> {
    let every = windows.len().div_ceil(WINDOWS).max(1);
    let windows: Vec<&Window> = windows.iter().step_by(every).collect();
    let exact = windows
        .iter()
        .map(|window| reference.run(&window.floats))
        .collect::<Result<Vec<_>>>()?;
    let mut earlier = vec![Vec::new(); windows.len()];
    let mut biases = Vec::new();
    for (n, step) in simulate::steps(package).iter().enumerate() {
        let convolution = &step.convolution;
        let kernel = convolution.kernel;
        let channels = kernel.bias.len();
        let mut errors = vec![0.0; channels];
        let mut pixels = 0;
        for ((window, earlier), exact) in windows.iter().zip(&earlier).zip(&exact) {
            let found = step.run(kernel.bias, &window.rows, earlier);
            let found = found.chunks_exact(channels);
            pixels += found.len();
            for (found, exact) in found.zip(exact[n].chunks_exact(channels)) {
                for ((error, &q), &x) in errors.iter_mut().zip(found).zip(exact) {
                    *error += f64::from(dequantize(q, &convolution.activation) - x);
                }
            }
        }
        let bias: Vec<i32> = (0..channels)
            .map(|c| {
                let output_steps =
                    errors[c] / pixels.max(1) as f64 / f64::from(convolution.activation.scale);
                let factor =
                    f64::from(kernel.multiplier[c]) * 2f64.powi(-31 - i32::from(kernel.shift[c]));
                let correction = (output_steps / factor).round();
                match correction.abs() <= LARGEST {
                    true => kernel.bias[c].saturating_sub(correction as i32),
                    false => kernel.bias[c],
                }
            })
            .collect();
        for (window, earlier) in windows.iter().zip(&mut earlier) {
            let output = step.run(&bias, &window.rows, earlier);
            earlier.push(output);
        }
        biases.push(bias);
    }
    Ok(biases)
}
