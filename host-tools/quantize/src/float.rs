//! The float network that an ONNX file turned out to be: weights in Sori's layouts, batch norm
//! folded, and how the file itself quantizes, if it does.

use serde::Serialize;
use sori_nn::memory::LayerKind;
use sori_package::Spatial;

use crate::engine;

/// Bounds of a convolution without activation.
pub(crate) const LINEAR: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// `x = (q − zero_point) · scale`, by which a quantized ONNX file stores a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) scale: f32,
    pub(crate) zero_point: i8,
}

/// What the graph does to its input before the stem: `x · scale + shift`, channel by channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preprocessing {
    /// One for all channels, or one each.
    pub scale: Vec<f32>,
    /// As many.
    pub shift: Vec<f32>,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            scale: vec![1.0],
            shift: vec![0.0],
        }
    }
}

impl Preprocessing {
    /// Both, one after the other; none where their numbers of channels differ.
    pub(crate) fn then(&self, scale: &[f32], shift: &[f32]) -> Option<Self> {
        let lens = [self.scale.len(), scale.len(), shift.len()];
        let channels = lens.into_iter().max()?;
        if lens.iter().any(|&len| len != 1 && len != channels) {
            return None;
        }
        let of = |values: &[f32], c: usize| values[if values.len() == 1 { 0 } else { c }];
        Some(Self {
            scale: (0..channels)
                .map(|c| of(&self.scale, c) * of(scale, c))
                .collect(),
            shift: (0..channels)
                .map(|c| of(&self.shift, c) * of(scale, c) + of(shift, c))
                .collect(),
        })
    }

    /// One entry a channel.
    pub(crate) fn for_channels(self, channels: usize) -> Option<Self> {
        match self.scale.len() {
            1 => self.then(&vec![1.0; channels], &[0.0]),
            n => (n == channels).then_some(self),
        }
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|&x| x == 1.0) && self.shift.iter().all(|&x| x == 0.0)
    }

    /// `[…][channels]`, in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        if self.is_identity() {
            return;
        }
        for pixel in values.chunks_exact_mut(self.scale.len()) {
            for ((x, scale), shift) in pixel.iter_mut().zip(&self.scale).zip(&self.shift) {
                *x = *x * scale + shift;
            }
        }
    }
}

/// A convolution with everything that folds into it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatConvolution {
    /// Name of the ONNX node.
    pub(crate) node: String,
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
    /// `[c_out]`: equalization left this part of a channel's values; its clamp is that part too.
    pub(crate) divisors: Vec<f32>,
    /// Of the output, where the file says.
    pub(crate) quantization: Option<Quantization>,
    /// Of each filter, where the file says.
    pub(crate) weight_scales: Option<Vec<f32>>,
}

impl FloatConvolution {
    /// Weights that make one output channel.
    pub(crate) fn filter(&self, c: usize) -> &[f32] {
        let taps = self.taps();
        &self.weights[c * taps..][..taps]
    }

    /// Weights of each output channel.
    pub(crate) fn taps(&self) -> usize {
        self.weights.len() / self.c_out
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
    /// Name of what the pool reads.
    pub(crate) input: String,
    /// Its layout.
    pub(crate) input_channels_last: bool,
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
    /// A channel each. Everything after it, calibration included, sees its results.
    pub(crate) preprocessing: Preprocessing,
    /// Of the preprocessed input, where the file says.
    pub(crate) input_quantization: Option<Quantization>,
    /// 3×3.
    pub(crate) stem: FloatConvolution,
    /// Inverted residuals.
    pub(crate) blocks: Vec<FloatBlock>,
    /// 1×1 before the pool.
    pub(crate) head: Option<FloatConvolution>,
    /// Fully connected layer.
    pub(crate) classifier: FloatClassifier,
}

/// A convolution and its place. Tensor `n` is the output of layer `n`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer<'n> {
    pub(crate) kind: LayerKind,
    pub(crate) convolution: &'n FloatConvolution,
    /// The tensor that is added to its output.
    pub(crate) residual: Option<usize>,
}

impl Layer<'_> {
    pub(crate) fn is_depthwise(&self) -> bool {
        matches!(self.kind, LayerKind::Depthwise(_))
    }

    /// What it is in MobileNetV2.
    pub(crate) fn role(&self) -> String {
        let residual = self.residual.map_or("", |_| " + residual");
        format!("{}{residual}", self.kind)
    }
}

impl FloatNetwork {
    /// All convolutions in order.
    pub(crate) fn layers(&self) -> Vec<Layer<'_>> {
        let mut layers = vec![Layer {
            kind: LayerKind::Stem,
            convolution: &self.stem,
            residual: None,
        }];
        for (n, block) in self.blocks.iter().enumerate() {
            let input = layers.len() - 1;
            let parts = [
                (LayerKind::Expansion(n), block.expansion.as_ref(), None),
                (LayerKind::Depthwise(n), Some(&block.depthwise), None),
                (
                    LayerKind::Projection(n),
                    Some(&block.projection),
                    block.residual.then_some(input),
                ),
            ];
            layers.extend(
                parts
                    .into_iter()
                    .filter_map(|(kind, convolution, residual)| {
                        Some(Layer {
                            kind,
                            convolution: convolution?,
                            residual,
                        })
                    }),
            );
        }
        layers.extend(self.head.iter().map(|convolution| Layer {
            kind: LayerKind::Head,
            convolution,
            residual: None,
        }));
        layers
    }

    /// All convolutions in order.
    pub(crate) fn convolutions_mut(&mut self) -> Vec<&mut FloatConvolution> {
        let blocks = self.blocks.iter_mut().flat_map(|block| {
            let expansion = block.expansion.iter_mut();
            expansion.chain([&mut block.depthwise, &mut block.projection])
        });
        std::iter::once(&mut self.stem)
            .chain(blocks)
            .chain(&mut self.head)
            .collect()
    }

    /// Columns of the last tensor.
    pub(crate) fn output_width(&self) -> usize {
        let layers = self.layers().into_iter();
        layers
            .filter_map(|layer| layer.convolution.spatial)
            .fold(self.width as u64, |width, spatial| {
                spatial.output_width(width)
            }) as usize
    }

    /// Rows of the last tensor.
    pub(crate) fn output_rows(&self, rows: usize) -> usize {
        let layers = self.layers().into_iter();
        layers
            .filter_map(|layer| layer.convolution.spatial)
            .fold(rows as u64, |rows, spatial| spatial.output_rows(rows)) as usize
    }

    /// Multiplications of the convolutions for `rows` input rows.
    pub(crate) fn macs(&self, rows: usize) -> u64 {
        let (mut rows, mut width, mut macs) = (rows as u64, self.width, 0);
        for layer in self.layers() {
            let convolution = layer.convolution;
            if let Some(spatial) = convolution.spatial {
                rows = spatial.output_rows(rows);
                width = engine::output_width(convolution, width);
            }
            macs += rows * (width * convolution.weights.len()) as u64;
        }
        macs
    }

    /// Whether the file was quantized before.
    pub(crate) fn is_quantized(&self) -> bool {
        self.stem.quantization.is_some()
    }
}
