//! An ONNX network in tract, to compare Sori's speed with.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use crate::golden;

/// Any ONNX network with one input, fed with noise. tract runs it on one thread.
#[derive(Debug)]
pub struct TractInference {
    runnable: Arc<TypedRunnableModel>,
    input: TValue,
}

impl TractInference {
    /// Optimizes the network for a batch of one, and for `rows` if another dimension is not fixed.
    ///
    /// # Errors
    /// When tract cannot run it, or its input's shape is unknown.
    pub fn new(onnx: &[u8], rows: usize) -> Result<Self> {
        let read = || -> TractResult<_> {
            let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx)?;
            let fact = model.input_fact(0)?;
            let rank = fact.shape.rank().concretize();
            let rank = rank.context("the input's shape is unknown")? as usize;
            let shape: Vec<_> = (0..rank)
                .map(|axis| {
                    let dim = fact.shape.dim(axis);
                    let known =
                        dim.and_then(|dim| usize::try_from(dim.concretize()?.to_i64().ok()?).ok());
                    known.unwrap_or(if axis == 0 { 1 } else { rows })
                })
                .collect();
            let noise: Vec<_> = golden::noise(shape.iter().product())
                .iter()
                .map(|&x| f32::from(x) / 64.0)
                .collect();
            let input = Tensor::from_shape(&shape, &noise)?.into_tvalue();
            model.set_input_fact(0, f32::fact(&shape).into())?;
            Ok((model.into_optimized()?.into_runnable()?, input))
        };
        let (runnable, input) = read().context("tract cannot run this network")?;
        Ok(Self { runnable, input })
    }

    /// One inference.
    ///
    /// # Errors
    /// When tract fails.
    pub fn run(&self) -> Result<()> {
        std::hint::black_box(self.runnable.run(tvec![self.input.clone()])?);
        Ok(())
    }
}
