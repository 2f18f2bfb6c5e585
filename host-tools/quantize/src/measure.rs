//! The package beside the float network, layer by layer and in the end.

use anyhow::{Result, ensure};
use sori_nn::memory::LayerKind;
use sori_package::{Activation, Package};

use crate::float::FloatNetwork;
use crate::ranges::dequantize;
use crate::reference::Reference;
use crate::report::Sqnr;
use crate::{Window, golden, simulate};

/// Windows whose layers are compared one by one; logits are compared on all.
const LAYER_WINDOWS: usize = 16;
/// Rows at a time; any number gives the same bits.
const STRIPE: usize = 64;

/// What the comparison added up to.
pub(crate) struct Measured {
    /// Of the convolutions, in order.
    pub(crate) layers: Vec<Sqnr>,
    pub(crate) logits: Sqnr,
    /// Windows whose best class is the same.
    pub(crate) agreeing: usize,
}

pub(crate) fn measure(
    package: &Package<'_>,
    reference: &mut Reference<'_>,
    windows: &[Window],
) -> Result<Measured> {
    let activations = activations(package);
    let classifier = package.classifier();
    let mut measured = Measured {
        layers: vec![Sqnr::default(); activations.len()],
        logits: Sqnr::default(),
        agreeing: 0,
    };
    // Spread over the clips, which come in the order of their names.
    let every = windows.len().div_ceil(LAYER_WINDOWS).max(1);
    for (n, window) in windows.iter().enumerate() {
        let exact = reference.run(&window.floats)?;
        let streamed = golden::logits(package, &window.rows, STRIPE)?;
        let found = &streamed[streamed.len().saturating_sub(classifier.classes)..];
        if n % every == 0 {
            let layers = simulate::layers(package, &window.rows);
            let sums = measured.layers.iter_mut().zip(&activations);
            for ((sqnr, activation), (found, exact)) in sums.zip(layers.iter().zip(&exact)) {
                ensure!(
                    found.len() == exact.len(),
                    "tract's tensors have other shapes than the package's layers"
                );
                for (&q, &x) in found.iter().zip(exact) {
                    sqnr.add(x, dequantize(q, activation));
                }
            }
            let last = layers.last().map_or(&[][..], Vec::as_slice);
            ensure!(
                simulate::logits(&classifier, last) == found,
                "the streamed network and its layers one by one differ: this is an error in Sori, please report it"
            );
        }
        let exact = reference.logits(&exact, classifier.pool_rows);
        ensure!(
            found.len() == classifier.classes && exact.len() == classifier.classes,
            "a window of {} rows gives no logits",
            window.rows.len() / package.input().row_len()
        );
        for (&q, &x) in found.iter().zip(&exact) {
            let found = dequantize(q, &classifier.activation);
            measured.logits.add(x, found);
        }
        // Of equal int8 logits the first wins, as on a device.
        let chosen = (0..found.len()).rev().max_by_key(|&k| found[k]);
        let best = (0..exact.len()).max_by(|&a, &b| exact[a].total_cmp(&exact[b]));
        measured.agreeing += usize::from(best == chosen);
    }
    Ok(measured)
}

/// Of the convolutions, in order.
fn activations(package: &Package<'_>) -> Vec<Activation> {
    let mut activations = vec![package.stem().activation];
    for block in package.blocks() {
        activations.extend(block.expansion.map(|expansion| expansion.activation));
        activations.extend([block.depthwise.activation, block.projection.activation]);
    }
    activations.extend(package.head().map(|head| head.activation));
    activations
}

/// What the convolutions are in MobileNetV2, in order.
pub(crate) fn roles(network: &FloatNetwork) -> Vec<String> {
    let mut roles = vec![LayerKind::Stem.to_string()];
    for (n, block) in network.blocks.iter().enumerate() {
        if block.expansion.is_some() {
            roles.push(LayerKind::Expansion(n).to_string());
        }
        roles.push(LayerKind::Depthwise(n).to_string());
        let residual = if block.residual { " + residual" } else { "" };
        roles.push(format!("{}{residual}", LayerKind::Projection(n)));
    }
    if network.head.is_some() {
        roles.push(LayerKind::Head.to_string());
    }
    roles
}
