//! The records of the postcard header. Offsets count bytes from the start of
//! the blob; lengths follow from the shapes, so that they cannot disagree.

use serde::{Deserialize, Serialize};

/// How an int8 tensor maps to real values and where its activation clamps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// Real value of one step. Informative: devices do not use it.
    pub scale: f32,
    /// The integer that represents real zero; also the padding's value.
    pub zero_point: i8,
    /// Lower clamp of the fused activation (`zero_point` for ReLU, -128 for none).
    pub min: i8,
    /// Upper clamp of the fused activation (quantized 6 for ReLU6, 127 for none).
    pub max: i8,
}

/// Stride and zero padding of a 3×3 kernel, `[before, after]` for each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spatial {
    /// Stride along time (rows), 1 or 2.
    pub stride_time: u8,
    /// Stride along frequency (columns), 1 or 2.
    pub stride_freq: u8,
    /// Rows of padding in the past and in the future; causal is `[2, 0]`.
    pub pad_time: [u8; 2],
    /// Columns of padding on the low and on the high side.
    pub pad_freq: [u8; 2],
}

impl Spatial {
    /// Rows that a 3×3 kernel gives for a clip of the given length, including both paddings.
    pub const fn output_rows(self, rows: u64) -> u64 {
        outputs(rows, self.pad_time, self.stride_time)
    }

    /// The same for columns.
    pub const fn output_width(self, width: u64) -> u64 {
        outputs(width, self.pad_freq, self.stride_freq)
    }
}

/// Along one axis.
const fn outputs(len: u64, pads: [u8; 2], stride: u8) -> u64 {
    let padded = len + pads[0] as u64 + pads[1] as u64;
    match padded.checked_sub(3) {
        Some(beyond) => beyond / stride as u64 + 1,
        None => 0,
    }
}

/// One row of a tensor: `width` positions of `channels` values, HWC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorShape {
    /// Positions along frequency (an image's columns).
    pub width: u16,
    /// Channels at each position.
    pub channels: u16,
}

impl TensorShape {
    /// Bytes of one int8 row.
    pub const fn row_len(self) -> usize {
        self.width as usize * self.channels as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConvDesc {
    pub c_out: u16,
    /// Only for 3×3 kernels.
    pub spatial: Option<Spatial>,
    pub weights: u32,
    pub bias: u32,
    pub multiplier: u32,
    pub shift: u32,
    pub output: Activation,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlockDesc {
    pub expansion: Option<ConvDesc>,
    pub depthwise: ConvDesc,
    pub projection: ConvDesc,
    /// Offset of `K_c`, one `i32` per output channel.
    pub residual: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassifierDesc {
    pub classes: u16,
    pub pool_rows: u16,
    pub weights: u32,
    pub bias: u32,
    pub multiplier: u32,
    pub shift: u32,
    pub output: Activation,
    pub softmax_step_q16: u32,
}

/// Spacing of the mel filterbank. Informative: the bands themselves are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MelScale {
    /// 2595·log10(1 + f/700).
    Htk,
    /// Linear below 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    Slaney,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct MelDesc {
    pub sample_rate_hz: u32,
    pub fft: u16,
    pub window_samples: u16,
    pub hop_samples: u16,
    pub bands: u16,
    pub low_hz: f32,
    pub high_hz: f32,
    pub scale: MelScale,
    pub dc_shift: u8,
    pub reference_release_q16: u32,
    pub reference_floor_q16: i32,
    pub feature_multiplier: i32,
    pub feature_shift: u8,
    pub feature_top: i8,
    pub window: u32,
    /// `u16` pairs (first bin, number of bins), one for each band.
    pub band_bins: u32,
    /// All bands' weights, end to end.
    pub band_weights: u32,
    pub band_weights_len: u32,
}

/// Thresholds of level and probability for decisions, determined from data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A row quieter than this is silence, in 1/256 dB relative to a full-scale sine.
    pub silence_dbfs_q8: i32,
    /// Smoothed probability from which a label is accepted, Q15.
    pub enter_q15: u16,
    /// Smoothed probability below which the current label is dropped, Q15.
    pub leave_q15: u16,
}

/// How logits become decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRule {
    /// Thresholds.
    pub thresholds: Thresholds,
    /// Smoothing of the probabilities between output rows: each new one enters
    /// with weight 2^-smoothing_shift (0 = no smoothing).
    pub smoothing_shift: u8,
    /// Rows of silence after which the decision becomes `silence`.
    pub silence_rows: u16,
}

/// How one inverted residual uses memory when an executor runs row by row, in place.
///
/// The 3×3 kernel needs the last two rows of the expanded tensor, t times wider than the block's
/// input. Rows that are not kept are recomputed from their input rows; the expanded channels
/// may be processed a group at a time (arXiv:1801.04381, §5.1: any split gives the same bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockPlan {
    /// Rows of the expanded tensor that are kept, 0 to 2, oldest first. For the others, the input rows are kept.
    pub kept_rows: u16,
    /// Expanded channels that go through expansion and depthwise together; the last group may have fewer.
    pub group: u16,
}

/// Provenance of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance<'a> {
    /// The network's name.
    pub name: &'a str,
    /// SHA-256 of the source ONNX file, in hexadecimal.
    pub source_sha256: &'a str,
    /// The data that activations were calibrated on.
    pub calibration: &'a str,
    /// Tool and version that wrote the package.
    pub tool: &'a str,
    /// Measured results, `key=value` separated by single spaces.
    pub metrics: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoldenDesc {
    /// Offset and number of samples; none for packages without a mel contract.
    pub audio: Option<(u32, u32)>,
    pub rows: u32,
    pub features: u32,
    /// Output rows, those of the final flush included.
    pub outputs: u32,
    pub logits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header<'a> {
    #[serde(borrow)]
    pub provenance: Provenance<'a>,
    /// Labels joined by line feeds.
    pub labels: &'a str,
    pub input: TensorShape,
    pub input_activation: Activation,
    /// Rows of one whole input as trained (an image's height, a training clip).
    pub nominal_rows: u32,
    pub stem: ConvDesc,
    pub blocks: u16,
    pub head: Option<ConvDesc>,
    pub classifier: ClassifierDesc,
    pub mel: Option<MelDesc>,
    pub decision: Option<DecisionRule>,
    pub golden: Option<GoldenDesc>,
}
