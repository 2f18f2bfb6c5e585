//! The float network as tract runs it: the truth that quantization is measured by.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::*;

use crate::float::FloatNetwork;
use crate::lower;

/// Runs the ONNX file and shows any of its tensors.
pub(crate) struct Reference<'n> {
    model: ModelProto,
    network: &'n FloatNetwork,
    /// The convolutions' outputs in order, then the logits.
    tensors: usize,
    /// Optimised for a number of rows.
    runnable: HashMap<usize, Arc<TypedRunnableModel>>,
}

/// One tensor, `[rows][width][channels]`.
pub(crate) type Activation = Vec<f32>;

impl<'n> Reference<'n> {
    pub(crate) fn new(model: &ModelProto, network: &'n FloatNetwork) -> Self {
        let mut model = model.clone();
        let names = network
            .convolutions()
            .map(|convolution| &convolution.output)
            .chain([&network.classifier.output]);
        let outputs: Vec<_> = names
            .map(|name| ValueInfoProto {
                name: name.clone(),
                ..Default::default()
            })
            .collect();
        let tensors = outputs.len();
        if let Some(graph) = &mut model.graph {
            graph.output = outputs;
            // Shapes noted for one number of rows would contradict another.
            graph.value_info.clear();
        }
        Self {
            model,
            network,
            tensors,
            runnable: HashMap::new(),
        }
    }

    /// The logits among what [`run`](Self::run) gave, as a stream ends with them: where
    /// there are more output rows than the running mean holds, of the last ones.
    pub(crate) fn logits(&self, tensors: &[Activation], pool_rows: usize) -> Activation {
        let [.., pooled, logits] = tensors else {
            return Activation::new();
        };
        let classifier = &self.network.classifier;
        let channels = classifier.weights.len() / classifier.bias.len();
        let row_len = lower::output_width(self.network) * channels;
        let Some(earlier) = pooled.len().checked_sub(pool_rows * row_len) else {
            return logits.clone();
        };
        let last = &pooled[earlier..];
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

    /// All activations for `rows` input rows `[rows][width][channels]`, logits last.
    pub(crate) fn run(&mut self, input: &[f32]) -> Result<Vec<Activation>> {
        let (width, channels) = (self.network.width, self.network.channels);
        let rows = input.len() / (width * channels);
        let hwc = Tensor::from_shape(&[1, rows, width, channels], input)?;
        let input = match self.network.channels_last {
            true => hwc,
            false => hwc.permute_axes(&[0, 3, 1, 2])?,
        };
        let runnable = match self.runnable.get(&rows) {
            Some(runnable) => runnable.clone(),
            None => {
                let fact = f32::fact(input.shape());
                let runnable = tract_onnx::onnx()
                    .model_for_proto_model(&self.model)
                    .and_then(|model| model.with_input_fact(0, fact.into()))
                    .and_then(|model| model.into_optimized())
                    .and_then(|model| model.into_runnable())
                    .with_context(|| format!("tract cannot run the model on {rows} rows"))?;
                self.runnable.insert(rows, runnable.clone());
                runnable
            }
        };
        let outputs = runnable.run(tvec![input.into_tvalue()])?;
        debug_assert_eq!(outputs.len(), self.tensors);
        outputs
            .iter()
            .map(|output| {
                let tensor = output.clone().into_tensor();
                let tensor = match tensor.rank() {
                    4 => tensor.permute_axes(&[0, 2, 3, 1])?,
                    _ => tensor,
                };
                Ok(tensor
                    .to_plain_array_view::<f32>()?
                    .iter()
                    .copied()
                    .collect())
            })
            .collect()
    }
}
