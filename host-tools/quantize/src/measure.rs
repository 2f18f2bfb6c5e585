//! The package beside the float network, layer by layer and in the end.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use sori_host::{Sqnr, best, dequantize, logits, quantize};
use sori_package::{Activation, Package};

use crate::float::FloatNetwork;
use crate::{Window, engine, simulate};

/// Windows whose layers are compared one by one; logits are compared on all.
const LAYER_WINDOWS: usize = 16;

/// The logits of windows beside tract's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) logits: Sqnr,
    /// Windows whose best class is the same.
    pub(crate) agreeing: usize,
}

/// What a package reads of the windows.
pub(crate) fn rows<'w>(windows: impl IntoIterator<Item = &'w Window>) -> Vec<&'w [i8]> {
    let windows = windows.into_iter();
    windows.map(|window| &window.rows[..]).collect()
}

/// Beside the exact logits of the same windows.
pub(crate) fn measure(
    package: &Package<'_>,
    windows: &[Window],
    exact: &[Vec<f32>],
) -> Result<Measured> {
    let classifier = package.classifier();
    let mut measured = Measured::default();
    for (found, exact) in logits(package, &rows(windows))?.iter().zip(exact) {
        ensure!(
            found.len() == exact.len(),
            "the float network has {} classes, but the package has {}",
            exact.len(),
            found.len()
        );
        for (&q, &x) in found.iter().zip(exact) {
            measured
                .logits
                .add(x, dequantize(q, &classifier.activation));
        }
        measured.agreeing += usize::from(best(exact) == best(found));
    }
    Ok(measured)
}

/// Signal and noise of a layer's output.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LayerNoise {
    /// All earlier layers quantized too.
    pub(crate) cumulative: Sqnr,
    /// On exact inputs.
    pub(crate) local: Sqnr,
}

/// Of the convolutions in order, in the units before equalization.
pub(crate) fn layers(
    package: &Package<'_>,
    network: &FloatNetwork,
    windows: &[Window],
) -> Result<Vec<LayerNoise>> {
    let steps = simulate::steps(package);
    let layers = network.layers();
    // Spread over the clips, which come in the order of their names.
    let every = windows.len().div_ceil(LAYER_WINDOWS).max(1);
    let windows: Vec<_> = windows.iter().step_by(every).collect();
    let streamed = logits(package, &rows(windows.iter().copied()))?;
    let one = |(window, streamed): (&&Window, &Vec<i8>)| -> Result<Vec<LayerNoise>> {
        let exact = engine::run(network, &window.floats);
        let found = simulate::layers(package, &window.rows);
        let last = found.last().map_or(&[][..], Vec::as_slice);
        ensure!(
            simulate::logits(&package.classifier(), last) == *streamed,
            "the streamed network and its layers run one by one disagree: this is a bug in Sori, please report it"
        );
        let as_steps: Vec<Vec<i8>> = exact
            .iter()
            .zip(&steps)
            .map(|(tensor, step)| {
                let activation = step.convolution.activation;
                tensor.iter().map(|&x| quantize(x, &activation)).collect()
            })
            .collect();
        let mut all = Vec::new();
        for (n, (step, layer)) in steps.iter().zip(&layers).enumerate() {
            let activation = step.convolution.activation;
            let local = step.run(&window.rows, &as_steps[..n]);
            let units = &layer.convolution.divisors;
            let mut noise = LayerNoise::default();
            let cumulative = &mut noise.cumulative;
            add_all(cumulative, &exact[n], &found[n], &activation, units);
            add_all(&mut noise.local, &exact[n], &local, &activation, units);
            all.push(noise);
        }
        Ok(all)
    };
    let all: Vec<Vec<LayerNoise>> = windows
        .par_iter()
        .zip(&streamed)
        .map(one)
        .collect::<Result<_>>()?;
    let mut sums = vec![LayerNoise::default(); layers.len()];
    for (sum, noise) in all.iter().flat_map(|noises| (0..).zip(noises)) {
        let sum: &mut LayerNoise = &mut sums[sum];
        sum.cumulative.join(noise.cumulative);
        sum.local.join(noise.local);
    }
    Ok(sums)
}

/// Adds a tensor whose channels count in other units.
fn add_all(noise: &mut Sqnr, exact: &[f32], found: &[i8], activation: &Activation, units: &[f32]) {
    for ((&x, &q), unit) in exact.iter().zip(found).zip(units.iter().cycle()) {
        noise.add(x * unit, dequantize(q, activation) * unit);
    }
}
