//! The ONNX file as tract runs it: the reference that quantization is measured against.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use sori_host::Rows;
use sori_package::Activation;
use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::*;

use crate::engine;
use crate::onnx::Onnx;

/// Runs the file and shows its logits.
#[derive(Debug)]
pub struct Reference<'o> {
    onnx: &'o Onnx,
    /// With the logits as its output, whatever follows them.
    model: ModelProto,
    /// Optimized for a number of rows.
    runnable: Mutex<HashMap<usize, Arc<TypedRunnableModel>>>,
}

impl<'o> Reference<'o> {
    /// Runs nothing yet; the model for a number of rows is prepared on first use.
    pub fn new(onnx: &'o Onnx) -> Self {
        let mut model = onnx.model.clone();
        let classifier = &onnx.network.classifier;
        if let Some(graph) = &mut model.graph {
            let output = |name: &String| ValueInfoProto {
                name: name.clone(),
                ..Default::default()
            };
            graph.output = vec![output(&classifier.input), output(&classifier.output)];
            // Shapes noted for one number of rows would contradict another.
            graph.value_info.clear();
        }
        Self {
            onnx,
            model,
            runnable: Mutex::default(),
        }
    }

    /// Logits of clips, as [`sori_host::logits_of_rows`] has a package's whose running mean holds
    /// `pool_rows` output rows; int8 rows are steps of `input`.
    ///
    /// # Errors
    /// When tract cannot run the network on that many rows.
    pub fn logits_of_rows(
        &self,
        clips: &[Rows],
        input: &Activation,
        pool_rows: usize,
    ) -> Result<Vec<Vec<f32>>> {
        clips
            .par_iter()
            .map(|clip| self.logits(&clip.floats(input), pool_rows))
            .collect()
    }

    /// Logits after rows `[rows][width][channels]` as the file takes them, as a stream ends with
    /// them: where there are more output rows than the running mean holds, of the last ones.
    pub(crate) fn logits(&self, input: &[f32], pool_rows: usize) -> Result<Vec<f32>> {
        let outputs = self.run(input)?;
        if self.output_rows(input) <= pool_rows {
            return values(outputs[1].clone().into_tensor());
        }
        let last = self.last(&outputs)?;
        Ok(engine::logits(&self.onnx.network, &last, pool_rows))
    }

    /// Logits after every output row at which a running mean of `pool_rows` is full, in order;
    /// after the last one where it never is. Rows as for a package's input, `[rows][width][channels]`.
    ///
    /// # Errors
    /// When tract cannot run the network on that many rows.
    pub fn stream_logits(&self, input: &[f32], pool_rows: usize) -> Result<Vec<Vec<f32>>> {
        let network = &self.onnx.network;
        let last = self.last(&self.run(input)?)?;
        let outputs = self.output_rows(input);
        let row_len = last.len() / outputs;
        Ok((pool_rows.min(outputs)..=outputs)
            .map(|end| engine::logits(network, &last[..end * row_len], pool_rows))
            .collect())
    }

    fn output_rows(&self, input: &[f32]) -> usize {
        let network = &self.onnx.network;
        network.output_rows(input.len() / (network.width * network.channels))
    }

    fn run(&self, input: &[f32]) -> Result<TVec<TValue>> {
        let network = &self.onnx.network;
        let (width, channels) = (network.width, network.channels);
        let rows = input.len() / (width * channels);
        let hwc = Tensor::from_shape(&[1, rows, width, channels], input)?;
        let input = match network.channels_last {
            true => hwc,
            false => hwc.permute_axes(&[0, 3, 1, 2])?,
        };
        self.runnable(rows, input.shape())?
            .run(tvec![input.into_tvalue()])
    }

    /// The last convolution's output, `[rows][width][channels]`.
    fn last(&self, outputs: &TVec<TValue>) -> Result<Vec<f32>> {
        let last = outputs[0].clone().into_tensor();
        values(match self.onnx.network.classifier.input_channels_last {
            true => last,
            false => last.permute_axes(&[0, 2, 3, 1])?,
        })
    }

    fn runnable(&self, rows: usize, shape: &[usize]) -> Result<Arc<TypedRunnableModel>> {
        let mut all = self.runnable.lock().expect("nobody panics with the models");
        if let Some(runnable) = all.get(&rows) {
            return Ok(runnable.clone());
        }
        let runnable = tract_onnx::onnx()
            .model_for_proto_model(&self.model)
            .and_then(|model| model.with_input_fact(0, f32::fact(shape).into()))
            .and_then(|model| model.into_optimized())
            .and_then(|model| model.into_runnable())
            .with_context(|| format!("tract cannot run the model on {rows} rows"))?;
        all.insert(rows, runnable.clone());
        Ok(runnable)
    }
}

fn values(tensor: Tensor) -> Result<Vec<f32>> {
    let values = tensor.to_plain_array_view::<f32>()?;
    Ok(values.iter().copied().collect())
}
