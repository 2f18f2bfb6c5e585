//! The float network that an ONNX file turned out to be: weights in Sori's layouts,
//! batch norm folded, and the name of each tensor that becomes an int8 activation.

use sori_package::Spatial;

/// A convolution with everything that folds into it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatConvolution {
    /// Name of the ONNX node.
    pub(crate) node: String,
    /// Name of the tensor it ends in, activation and residual included.
    pub(crate) output: String,
    /// Input channels (of each filter: 1 for a depthwise).
    pub(crate) c_in: usize,
    /// Output channels.
    pub(crate) c_out: usize,
    /// Stride and padding of a 3×3 kernel; none for pointwise.
    pub(crate) spatial: Option<Spatial>,
    /// Stem `[c_out][ky][kx][c_in]`, pointwise `[c_out][c_in]`, depthwise `[c][ky][kx]`.
    pub(crate) weights: Vec<f32>,
    /// `[c_out]`.
    pub(crate) bias: Vec<f32>,
    /// Bounds of the fused activation; infinite where there is none.
    pub(crate) clamp: [f32; 2],
}

impl FloatConvolution {
    /// Weights that make one output channel.
    pub(crate) fn filter(&self, c: usize) -> &[f32] {
        let taps = self.weights.len() / self.c_out;
        &self.weights[c * taps..][..taps]
    }
}

/// An inverted residual.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatBlock {
    /// Absent when t = 1.
    pub(crate) expansion: Option<FloatConvolution>,
    /// 3×3.
    pub(crate) depthwise: FloatConvolution,
    /// Linear; its output is the sum where there is a residual.
    pub(crate) projection: FloatConvolution,
    /// Whether the block's input is added.
    pub(crate) residual: bool,
}

/// The fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatClassifier {
    /// Name of the ONNX node.
    pub(crate) node: String,
    /// Name of the logits.
    pub(crate) output: String,
    /// `[classes][channels]`.
    pub(crate) weights: Vec<f32>,
    /// `[classes]`.
    pub(crate) bias: Vec<f32>,
}

/// A MobileNetV2 in float.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatNetwork {
    /// Name of the input tensor.
    pub(crate) input: String,
    /// Channels of the input.
    pub(crate) channels: usize,
    /// Width of a row: frequency bands, or an image's columns.
    pub(crate) width: usize,
    /// Rows, where the file fixes them.
    pub(crate) rows: Option<usize>,
    /// Whether the file wants `[N, rows, width, channels]` and not channels first.
    pub(crate) channels_last: bool,
    /// 3×3.
    pub(crate) stem: FloatConvolution,
    /// Inverted residuals.
    pub(crate) blocks: Vec<FloatBlock>,
    /// 1×1 before the pool.
    pub(crate) head: Option<FloatConvolution>,
    /// Fully connected layer.
    pub(crate) classifier: FloatClassifier,
}

impl FloatNetwork {
    /// All convolutions in order.
    pub(crate) fn convolutions(&self) -> impl Iterator<Item = &FloatConvolution> {
        std::iter::once(&self.stem)
            .chain(self.blocks.iter().flat_map(|block| {
                block
                    .expansion
                    .iter()
                    .chain([&block.depthwise, &block.projection])
            }))
            .chain(&self.head)
    }
}
