//! Views of a parsed package: plain borrowed structs, ready for kernels.

use crate::desc::{Activation, BlockDesc, MelScale, Spatial, TensorShape};
use crate::parse::{Blob, StageShapes};

/// Weights of one layer, and the requantization from `i32` to `i8`, per output channel.
///
/// The input's zero point is folded into `bias`, so that
/// `acc = bias[c] + Σ w·q` with raw `q`.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<'a> {
    /// Pointwise `[c_out][c_in]`, depthwise `[ky][kx][c]`, stem `[c_out][ky][kx][c_in]`; never -128.
    pub weights: &'a [i8],
    /// `[c_out]`.
    pub bias: &'a [i32],
    /// `[c_out]`, each in `[2^30, 2^31)`.
    pub multiplier: &'a [i32],
    /// `[c_out]`, each in `1..=31`.
    pub shift: &'a [u8],
}

/// A convolution: 3×3 (stem, depthwise) if `spatial` is present, otherwise pointwise.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// Shape of an input row.
    pub input: TensorShape,
    /// Zero point of the input, which is also the padding's value.
    pub input_zero_point: i8,
    /// Shape of an output row.
    pub output: TensorShape,
    /// Quantization and clamp of the output.
    pub activation: Activation,
    /// Stride and padding of a 3×3 kernel.
    pub spatial: Option<Spatial>,
    /// Weights and requantization.
    pub kernel: Kernel<'a>,
}

/// MobileNetV2's block: a pointwise expansion (absent when t = 1), a 3×3
/// depthwise, and a linear pointwise projection, with the residual in its epilogue
/// (arXiv:1801.04381, §3).
#[derive(Debug, Clone, Copy)]
pub struct InvertedResidual<'a> {
    /// Narrow to wide, ReLU6.
    pub expansion: Option<Convolution<'a>>,
    /// Wide to wide, 3×3, ReLU6.
    pub depthwise: Convolution<'a>,
    /// Wide to narrow, no activation: the linear bottleneck.
    pub projection: Convolution<'a>,
    /// `K_c` of the residual: `acc += K_c · (x − zero_point(x))`, one per output channel.
    pub residual: Option<&'a [i32]>,
}

impl<'a> InvertedResidual<'a> {
    /// The block's narrow input row.
    pub fn input(&self) -> TensorShape {
        self.expansion.as_ref().unwrap_or(&self.depthwise).input
    }

    /// Zero point of the block's input.
    pub fn input_zero_point(&self) -> i8 {
        self.expansion
            .as_ref()
            .unwrap_or(&self.depthwise)
            .input_zero_point
    }

    /// Stride and padding, which are the depthwise's.
    pub fn spatial(&self) -> Spatial {
        self.depthwise
            .spatial
            .expect("parse refuses a depthwise without stride and padding")
    }
}

/// Global average pool over frequency and the last `pool_rows` rows, then one
/// fully connected layer, with a single rounding at the very end:
///
/// ```text
/// acc_row[k] = Σ_c weights[k][c] · Σ_w (q[w][c] − input_zero_point)
/// total[k]   = Σ over the last n = min(rows so far, pool_rows) of (acc_row[k] + bias[k])
/// logit[k]   = clamp(zero_point + ⌊total[k] · multiplier[k] / (n · 2^(31 + shift[k])) + ½⌋)
/// ```
///
/// The multiplier includes the division by the width. Parsing proves that `total` fits an `i32`.
#[derive(Debug, Clone, Copy)]
pub struct Classifier<'a> {
    /// Shape of the rows that are pooled.
    pub input: TensorShape,
    /// Zero point of those rows.
    pub input_zero_point: i8,
    /// Number of classes.
    pub classes: usize,
    /// Rows of the running mean, K.
    pub pool_rows: usize,
    /// Weights `[classes][channels]` and requantization per class; `bias` is added once per row.
    pub kernel: Kernel<'a>,
    /// Quantization of the logits.
    pub activation: Activation,
    /// log2(e) · scale of a logit, Q16: exponent of 2 per integer step, for the integer softmax.
    pub softmax_step_q16: u32,
}

/// Iterator over the inverted residuals, decoded on the fly: no table in RAM.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    pub(crate) records: &'a [u8],
    pub(crate) remaining: u16,
    pub(crate) blob: Blob<'a>,
    pub(crate) shapes: StageShapes,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = InvertedResidual<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        // Parsing went through the same records, so neither step fails here.
        let (desc, rest) = postcard::take_from_bytes::<BlockDesc>(self.records).ok()?;
        self.records = rest;
        self.shapes.inverted_residual(self.blob, &desc).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Blocks<'_> {}

/// Iterator over the labels, in the order of the logits.
#[derive(Debug, Clone)]
pub struct Labels<'a>(pub(crate) core::str::Lines<'a>);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }
}

/// One triangular filter: weights over consecutive FFT bins.
#[derive(Debug, Clone, Copy)]
pub struct MelBand<'a> {
    /// First FFT bin with a weight.
    pub first_bin: usize,
    /// Weights from that bin on, Q15, at most 32768.
    pub weights_q15: &'a [u16],
}

/// Everything the front end needs to compute the features the network was
/// trained on.
#[derive(Debug, Clone, Copy)]
pub struct MelContract<'a> {
    /// Rate of the front end's input, Hz.
    pub sample_rate_hz: u32,
    /// Points of the real FFT: 256, 512, 1024 or 2048.
    pub fft: usize,
    /// Samples under the window, at most `fft`; the rest of the transform is zeros.
    pub window_samples: usize,
    /// Samples from frame to frame.
    pub hop_samples: usize,
    /// Number of mel bands, the width of a feature row.
    pub bands: usize,
    /// Lower edge of the filterbank, Hz (informative).
    pub low_hz: f32,
    /// Upper edge of the filterbank, Hz (informative).
    pub high_hz: f32,
    /// Spacing of the bands (informative).
    pub scale: MelScale,
    /// The DC blocker follows the mean with weight 2^-dc_shift per sample.
    pub dc_shift: u8,
    /// How far the level reference falls per frame, log2 of power, Q16.
    pub reference_release_q16: u32,
    /// The reference never falls below this, log2 of power, Q16 (see `sori-dsp`).
    pub reference_floor_q16: i32,
    /// Feature steps per log2 unit as `multiplier · 2^-(31 + shift)` of a Q16 value.
    pub feature_multiplier: i32,
    /// See `feature_multiplier`.
    pub feature_shift: u8,
    /// The feature value of a band that equals the reference.
    pub feature_top: i8,
    /// First half of the symmetric-periodic window, Q31: `window_samples / 2 + 1` values,
    /// `w[n] = w[window_samples − n]`.
    pub window_q31: &'a [i32],
    /// Per band the first FFT bin with a weight and the number of bins: `[bands][2]`.
    pub band_bins: &'a [u16],
    /// The bands' weights end to end, Q15, at most 32768.
    pub band_weights_q15: &'a [u16],
}

impl<'a> MelContract<'a> {
    /// The filterbank, lowest band first.
    pub fn filterbank(&self) -> impl Iterator<Item = MelBand<'a>> + use<'a> {
        let mut weights = self.band_weights_q15;
        self.band_bins
            .as_chunks()
            .0
            .iter()
            .map(move |&[first, len]| {
                let (band, rest) = weights.split_at(usize::from(len).min(weights.len()));
                weights = rest;
                MelBand {
                    first_bin: usize::from(first),
                    weights_q15: band,
                }
            })
    }

    /// Checks every property that the front end relies on. The contract of a parsed package
    /// has passed this check; one put together by hand has not.
    ///
    /// # Errors
    /// [`Error::MelContract`](crate::Error::MelContract), naming the property violated.
    pub fn validate(&self) -> Result<(), crate::Error> {
        let bad = |what| Err(crate::Error::MelContract { what });
        if !matches!(self.fft, 256 | 512 | 1024 | 2048) {
            return bad("the FFT length is not 256, 512, 1024 or 2048");
        }
        if self.window_samples < 2
            || self.window_samples > self.fft
            || !self.window_samples.is_multiple_of(2)
        {
            return bad("the window is odd, empty or longer than the FFT");
        }
        if self.window_q31.len() != self.window_samples / 2 + 1 {
            return bad("the window table does not have window / 2 + 1 values");
        }
        if self.window_q31.iter().any(|&w| w < 0) {
            return bad("the window has a negative value");
        }
        if self.hop_samples == 0 || self.hop_samples > self.window_samples {
            return bad("the hop is zero or longer than the window");
        }
        if !(4_000..=192_000).contains(&self.sample_rate_hz) {
            return bad("the sample rate is outside 4 to 192 kHz");
        }
        if self.bands == 0 || self.bands > 256 || self.band_bins.len() != 2 * self.bands {
            return bad("the number of bands is not 1 to 256, or not the table's");
        }
        let mut weights = 0;
        for &[first, len] in self.band_bins.as_chunks::<2>().0 {
            if len == 0 || usize::from(first) + usize::from(len) > self.fft / 2 + 1 {
                return bad("a mel band is empty or reaches past the Nyquist bin");
            }
            weights += usize::from(len);
        }
        if weights != self.band_weights_q15.len() {
            return bad("the mel weights do not add up to the bands");
        }
        if self.band_weights_q15.iter().any(|&w| w > 1 << 15) {
            return bad("a mel weight is above 1");
        }
        if !(4..=16).contains(&self.dc_shift) {
            return bad("the DC blocker's shift is not 4 to 16");
        }
        if self.reference_release_q16 > 64 << 16
            || self.reference_floor_q16.unsigned_abs() > 128 << 16
        {
            return bad("the level reference is outside its range");
        }
        if self.feature_multiplier < 1 << 30 || !(1..=31).contains(&self.feature_shift) {
            return bad("the feature scale is not a normalised multiplier and shift");
        }
        Ok(())
    }
}

/// Golden vectors: a target that reproduces them computes the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Golden<'a> {
    /// PCM at the contract's rate, 16-bit; none for packages without a mel contract.
    pub audio: Option<&'a [i16]>,
    /// Feature rows, `[rows][width][channels]`.
    pub features: &'a [i8],
    /// Logits after each output row, those of the final flush included: `[outputs][classes]`.
    pub logits: &'a [i8],
}
