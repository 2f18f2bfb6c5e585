//! Chooses the range of each tensor by what it does to the logits.

use rayon::prelude::*;
use sori_host::{dequantize, quantize};
use sori_package::Activation;

use crate::Window;
use crate::engine::{self, Tensor};
use crate::float::{FloatNetwork, Layer};
use crate::ranges::{Method, Observed, with_scale};

/// Multiplications that choosing may take, over all tensors, candidates and windows.
const BUDGET: u64 = 30_000_000_000;
/// Windows that are enough to tell candidates apart.
const WINDOWS: u64 = 32;

/// A range, and the method that proposed it; none where the file states it.
pub(crate) type Choice = (Activation, Option<Method>);

/// Ranges of all tensors, in order.
pub(crate) fn select(
    network: &FloatNetwork,
    observed: &[Observed],
    windows: &[Window],
    method: Method,
    pool_rows: usize,
    macs: u64,
) -> Vec<Choice> {
    let layers = network.layers();
    let candidates: Vec<Vec<Choice>> = layers
        .iter()
        .zip(observed)
        .map(|(layer, observed)| candidates(layer, observed, method))
        .collect();
    let open = candidates
        .iter()
        .map(|all| all.len().saturating_sub(1) as u64);
    // A tensor in the middle runs half of the network again.
    let cost = open.sum::<u64>().max(1) * macs / 2;
    let number = (BUDGET / cost.max(1)).clamp(2, WINDOWS) as usize;
    let every = windows.len().div_ceil(number).max(1);
    let runs: Vec<Run> = windows
        .iter()
        .step_by(every)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|window| Run::new(network, window, pool_rows))
        .collect();
    candidates
        .into_par_iter()
        .enumerate()
        .map(|(n, all)| match all[..] {
            [only] => only,
            _ => all
                .into_iter()
                .map(|choice| {
                    let errors = runs
                        .iter()
                        .map(|run| run.error(network, n, &choice.0, pool_rows));
                    (errors.sum::<f64>(), choice)
                })
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, choice)| choice)
                .expect("each method proposes a range"),
        })
        .collect()
}

fn candidates(layer: &Layer<'_>, observed: &Observed, method: Method) -> Vec<Choice> {
    let clamp = layer.convolution.clamp;
    if let Some(stated) = layer.convolution.quantization {
        let activation = with_scale(stated.scale, stated.zero_point, clamp);
        return vec![(activation, None)];
    }
    let methods = match method {
        Method::Auto => &Method::CHOICES[..],
        _ => &[method],
    };
    let mut all: Vec<Choice> = Vec::new();
    for &method in methods {
        let activation = observed.activation(method, clamp);
        if all.iter().all(|(known, _)| *known != activation) {
            all.push((activation, Some(method)));
        }
    }
    all
}

/// A window through the float network.
struct Run {
    tensors: Vec<Tensor>,
    logits: Vec<f32>,
}

impl Run {
    fn new(network: &FloatNetwork, window: &Window, pool_rows: usize) -> Self {
        let tensors = engine::run(network, &window.floats);
        let last = tensors.last().map_or(&[][..], Vec::as_slice);
        Self {
            logits: engine::logits(network, last, pool_rows),
            tensors,
        }
    }

    /// Squared error of the logits if one tensor had steps.
    fn error(
        &self,
        network: &FloatNetwork,
        n: usize,
        activation: &Activation,
        pool_rows: usize,
    ) -> f64 {
        let steps = self.tensors[n].iter();
        let steps = steps.map(|&x| dequantize(quantize(x, activation), activation));
        let last = engine::rerun(network, &self.tensors, n, steps.collect());
        let found = engine::logits(network, &last, pool_rows);
        let pairs = found.iter().zip(&self.logits);
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }
}
