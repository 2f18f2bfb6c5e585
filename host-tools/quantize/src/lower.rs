//! Float weights to the integers of the arithmetic contract.
//!
//! With input scale `s_in`, weight scale `s_w` (per output channel) and output scale
//! `s_out`, a convolution is `out = zp + round(acc · s_in·s_w / s_out)`: the package
//! carries the factor as multiplier and shift, which must lie in [2^-32, 1/2). Where it
//! would not, a scale gives way: `s_w` upwards for a channel that is nearly dead, `s_out`
//! upwards where the output is finer than the accumulator.
//!
//! The residual enters the accumulator as `K_c · (x − zp_x)`. It is exact when
//! `s_x = K_c · s_in · s_w`, so `s_w` is raised to the next value for which K_c is whole;
//! where K_c would be 0, `s_x` is raised to make it 1.

use anyhow::{Result, bail, ensure};
use sori_package::Activation;
use sori_package::write::{ClassifierSpec, ConvolutionSpec, InvertedResidualSpec};

use crate::float::{FloatClassifier, FloatConvolution, FloatNetwork, LINEAR};
use crate::ranges::with_scale;

/// Factors from accumulator to output that a multiplier and shift can express.
const SMALLEST: f64 = 1.0 / 4_294_967_296.0;
const LARGEST: f64 = 0.499_999;
/// Keeps `128 · K` far within the accumulator.
const LARGEST_RESIDUAL: f64 = 1_048_576.0;
const LARGEST_BIAS: f64 = 536_870_912.0;
/// Scales that raise each other have no end.
const LARGEST_SCALE: f32 = 1e9;
/// Far more than a trained network needs.
const MOST_RAISES: usize = 2_000;

/// The integer layers, and what had to give way.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) stem: ConvolutionSpec,
    pub(crate) blocks: Vec<InvertedResidualSpec>,
    pub(crate) head: Option<ConvolutionSpec>,
    pub(crate) classifier: ClassifierSpec,
    pub(crate) notes: Vec<String>,
}

/// Lowers the network. `activations` are those of the convolutions in order; scales in
/// it are raised where the contract asks for it.
pub(crate) fn lower(
    network: &FloatNetwork,
    input: Activation,
    activations: &mut [Activation],
    logits: Activation,
    pool_rows: u16,
) -> Result<Lowered> {
    let mut notes = Vec::new();
    // Raising a block's input scale changes the layers before it: start over.
    for _ in 0..MOST_RAISES {
        let mut scales = Scales {
            activations: &mut *activations,
            next: 0,
            notes: &mut notes,
        };
        match scales.network(network, input, logits, pool_rows) {
            Ok(mut lowered) => {
                lowered.notes = notes;
                return Ok(lowered);
            }
            Err(Stop::Raise { scale, .. }) if scale > LARGEST_SCALE => break,
            Err(Stop::Raise { tensor, scale }) => {
                let Activation { zero_point, .. } = activations[tensor];
                let clamp = clamp_of(network, tensor);
                activations[tensor] = with_scale(scale, zero_point, clamp);
            }
            Err(Stop::Refuse(error)) => return Err(error),
        }
    }
    bail!(
        "no scales fit the arithmetic: {}; the weights of these channels are too large",
        notes.last().map_or("", String::as_str)
    )
}

fn clamp_of(network: &FloatNetwork, tensor: usize) -> [f32; 2] {
    let layers = network.layers();
    layers
        .get(tensor)
        .map_or(LINEAR, |layer| layer.convolution.clamp)
}

enum Stop {
    Raise { tensor: usize, scale: f32 },
    Refuse(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Refuse(error)
    }
}

struct Scales<'a> {
    activations: &'a mut [Activation],
    next: usize,
    notes: &'a mut Vec<String>,
}

/// The block's input, for a residual.
#[derive(Clone, Copy)]
struct Added {
    tensor: usize,
    activation: Activation,
}

impl Scales<'_> {
    fn network(
        &mut self,
        network: &FloatNetwork,
        input: Activation,
        logits: Activation,
        pool_rows: u16,
    ) -> Result<Lowered, Stop> {
        let mut x = input;
        let (stem, _) = self.convolution(&network.stem, &mut x, None)?;
        let mut blocks = Vec::new();
        for block in &network.blocks {
            let added = Added {
                tensor: self.next - 1,
                activation: x,
            };
            let expansion = match &block.expansion {
                Some(expansion) => Some(self.convolution(expansion, &mut x, None)?.0),
                None => None,
            };
            let (depthwise, _) = self.convolution(&block.depthwise, &mut x, None)?;
            let added = block.residual.then_some(added);
            let (projection, residual) = self.convolution(&block.projection, &mut x, added)?;
            blocks.push(InvertedResidualSpec {
                expansion,
                depthwise: transposed(depthwise),
                projection,
                residual,
            });
        }
        let head = match &network.head {
            Some(head) => Some(self.convolution(head, &mut x, None)?.0),
            None => None,
        };
        let width = network.output_width();
        let classifier = classifier(&network.classifier, x, logits, pool_rows, width)?;
        Ok(Lowered {
            stem,
            blocks,
            head,
            classifier,
            notes: Vec::new(),
        })
    }

    fn convolution(
        &mut self,
        float: &FloatConvolution,
        x: &mut Activation,
        added: Option<Added>,
    ) -> Result<(ConvolutionSpec, Option<Vec<i32>>), Stop> {
        let tensor = self.next;
        self.next += 1;
        let output = self.activations[tensor];
        let (s_in, s_out) = (f64::from(x.scale), f64::from(output.scale));
        let channels = float.c_out;
        let mut spec = ConvolutionSpec {
            c_out: channels as u16,
            spatial: float.spatial,
            weights: Vec::with_capacity(float.weights.len()),
            bias: Vec::with_capacity(channels),
            multiplier: Vec::with_capacity(channels),
            shift: Vec::with_capacity(channels),
            activation: output,
        };
        let mut residual = added.map(|_| Vec::with_capacity(channels));
        for c in 0..channels {
            let filter = float.filter(c);
            let bias = f64::from(float.bias[c]);
            let largest = filter.iter().fold(0f32, |max, w| max.max(w.abs()));
            let fitting = match &float.weight_scales {
                Some(scales) => f64::from(scales[c]),
                None => f64::from(largest) / 127.0,
            };
            let mut s_w = fitting
                .max(1.0001 * SMALLEST * s_out / s_in)
                .max(bias.abs() / (s_in * LARGEST_BIAS));
            if let (Some(added), Some(residual)) = (added, &mut residual) {
                let s_x = f64::from(added.activation.scale);
                let k = (s_x / (s_in * s_w)).floor().min(LARGEST_RESIDUAL);
                if k < 1.0 {
                    self.notes.push(format!(
                        "{} channel {c}: raised the scale of the block's input from {s_x:.4} to keep the residual exact",
                        float.node
                    ));
                    return Err(Stop::Raise {
                        tensor: added.tensor,
                        scale: (1.000_01 * s_in * s_w) as f32,
                    });
                }
                s_w = s_x / (s_in * k);
                residual.push(k as i32);
            }
            let factor = s_in * s_w / s_out;
            if factor >= LARGEST {
                self.notes.push(format!(
                    "{} channel {c}: raised the scale of the output from {s_out:.4} to keep it coarser than the accumulator",
                    float.node
                ));
                return Err(Stop::Raise {
                    tensor,
                    scale: (s_in * s_w / LARGEST * 1.000_01) as f32,
                });
            }
            let (multiplier, shift) = normalised(factor);
            let mut sum = 0;
            for &w in filter {
                let q = (f64::from(w) / s_w).round().clamp(-127.0, 127.0) as i8;
                sum += i64::from(q);
                spec.weights.push(q);
            }
            let folded = (bias / (s_in * s_w)).round() as i64 - i64::from(x.zero_point) * sum;
            spec.bias.push(i32::try_from(folded).map_err(|_| {
                anyhow::anyhow!(
                    "{} channel {c}: the bias is too large for its weights",
                    float.node
                )
            })?);
            spec.multiplier.push(multiplier);
            spec.shift.push(shift);
        }
        *x = output;
        Ok((spec, residual))
    }
}

/// `[c][ky][kx]` to `[ky][kx][c]`.
fn transposed(mut depthwise: ConvolutionSpec) -> ConvolutionSpec {
    let channels = usize::from(depthwise.c_out);
    let weights = &depthwise.weights;
    depthwise.weights = (0..9 * channels)
        .map(|i| weights[i % channels * 9 + i / channels])
        .collect();
    depthwise
}

fn classifier(
    float: &FloatClassifier,
    x: Activation,
    logits: Activation,
    pool_rows: u16,
    width: usize,
) -> Result<ClassifierSpec> {
    let classes = float.bias.len();
    let channels = float.weights.len() / classes;
    let (s_in, s_out) = (f64::from(x.scale), f64::from(logits.scale));
    let mut spec = ClassifierSpec {
        classes: classes as u16,
        pool_rows,
        weights: Vec::with_capacity(float.weights.len()),
        bias: Vec::with_capacity(classes),
        multiplier: Vec::with_capacity(classes),
        shift: Vec::with_capacity(classes),
        activation: logits,
        softmax_step_q16: ((s_out * std::f64::consts::LOG2_E * 65_536.0).round() as u32)
            .clamp(1, 1 << 24),
    };
    for (k, filter) in float.weights.chunks_exact(channels).enumerate() {
        let largest = filter.iter().fold(0f32, |max, w| max.max(w.abs()));
        let bias = f64::from(float.bias[k]) * width as f64;
        let s_w = (f64::from(largest) / 127.0)
            .max(1.0001 * SMALLEST * s_out * width as f64 / s_in)
            .max(bias.abs() / (s_in * LARGEST_BIAS));
        let factor = s_in * s_w / (s_out * width as f64);
        ensure!(
            factor < LARGEST,
            "{} class {k}: its weights are too large for the range of the logits",
            float.node
        );
        let (multiplier, shift) = normalised(factor);
        let quantized = filter
            .iter()
            .map(|&w| (f64::from(w) / s_w).round().clamp(-127.0, 127.0) as i8);
        spec.weights.extend(quantized);
        let folded = (bias / (s_in * s_w)).round() as i32;
        spec.bias.push(folded);
        // The bound that a package is parsed with: 255 · width · Σ|w| + |bias| a row.
        let filter = &spec.weights[k * channels..];
        let magnitude: i64 = filter.iter().map(|w| i64::from(w.unsigned_abs())).sum();
        let row = 255 * width as i64 * magnitude + i64::from(folded).abs();
        ensure!(
            row * i64::from(pool_rows) <= i64::from(i32::MAX),
            "{} class {k}: the mean over {pool_rows} rows could overflow; with these weights pool_rows can be at most {}",
            float.node,
            i64::from(i32::MAX) / row
        );
        spec.multiplier.push(multiplier);
        spec.shift.push(shift);
    }
    Ok(spec)
}

/// `factor` as `multiplier · 2^-(31 + shift)`, to within 2^-23.
///
/// The multiplier has 24 significant bits, of which the last is 1: then a single-precision
/// multiply-add rounds exactly as the integers do, and `sori-nn` uses it where that is faster.
fn normalised(factor: f64) -> (i32, u8) {
    let mut shift = -(factor.log2().floor() as i32) - 1;
    let mut multiplier = (factor * 2f64.powi(31 + shift)).round();
    if multiplier >= 2f64.powi(31) {
        multiplier /= 2.0;
        shift -= 1;
    }
    (multiplier as i32 & !0xff | 0x80, shift.clamp(1, 31) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of the range, and what rounds up to the next power of two.
    #[test]
    fn every_factor_becomes_a_normalised_multiplier() {
        let powers = (1..=32).map(|n| 2f64.powi(-n));
        let factors = powers.flat_map(|p| [p, p * 0.999_999_999_9, p * 1.000_000_1, p * 1.5]);
        for factor in factors.filter(|f| (SMALLEST..LARGEST).contains(f)) {
            let (multiplier, shift) = normalised(factor);
            assert!(multiplier >= 1 << 30, "{factor}: {multiplier}");
            assert!((1..=31).contains(&shift), "{factor}: {shift}");
            let found = f64::from(multiplier) * 2f64.powi(-31 - i32::from(shift));
            assert!((found / factor - 1.0).abs() < 1.3e-7, "{factor}: {found}");
            assert_eq!(multiplier & 0xff, 0x80, "{factor}: {multiplier:#x}");
        }
    }
}
