//! The accuracy lost by quantization, by layer and overall.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::ranges::Method;
use crate::{Options, Preprocessing};

/// Version of the report's JSON.
pub const SCHEMA_VERSION: u32 = 2;

/// The settings in effect, with every default resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Name of the network.
    pub name: String,
    /// SHA-256 of the ONNX file.
    pub source_sha256: String,
    /// What made the package.
    pub tool: String,
    /// The calibration data.
    pub calibration: String,
    /// Noise took the place of calibration data.
    pub data_free: bool,
    /// Windows that set the ranges.
    pub calibration_windows: usize,
    /// Windows that were compared.
    pub evaluation_windows: usize,
    /// Whether the compared windows differ from those that set the ranges.
    pub held_out: bool,
    /// Rows of a window.
    pub nominal_rows: usize,
    /// Columns and channels of a row.
    pub row: [usize; 2],
    /// Output rows in the running mean.
    pub pool_rows: u16,
    /// Techniques.
    pub options: Options,
    /// Preprocessing in the graph. The package expects its result as input.
    pub preprocessing: Preprocessing,
    /// Of the preprocessed input.
    pub input_scale: f32,
    /// Of the preprocessed input.
    pub input_zero_point: i8,
    /// The file was already quantized, and its scales were kept.
    pub was_quantized: bool,
}

/// A histogram of values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The lowest value.
    pub low: f32,
    /// The highest value.
    pub high: f32,
    /// Counts in equal bins between the two.
    pub counts: Vec<u32>,
}

/// Quality of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Name of the ONNX node.
    pub node: String,
    /// What it is in MobileNetV2: `stem`, `block 3 expansion`, …
    pub role: String,
    /// Signal to quantization noise of its output, dB, all earlier layers quantized too.
    pub sqnr_db: f64,
    /// The same on exact inputs: what this layer alone adds.
    pub local_sqnr_db: f64,
    /// Scale of its output.
    pub scale: f32,
    /// Zero point of its output.
    pub zero_point: i8,
    /// The method that chose the range; `None` if the file states it.
    pub method: Option<Method>,
    /// Share of its output that the range clips.
    pub clipped: f64,
    /// Output in calibration, after equalization.
    pub activations: Histogram,
    /// Weights, after equalization.
    pub weights: Histogram,
    /// Signal to noise of the rounded weights, dB.
    pub weight_sqnr_db: f64,
    /// Smallest number that equalization divided a channel by; 1 where it did nothing.
    pub smallest_divisor: f32,
    /// Multiplications for `nominal_rows`.
    pub macs: u64,
}

/// The effect of a technique.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// Its name.
    pub technique: String,
    /// Whether it was used. A technique that made the logits worse on calibration is not.
    pub kept: bool,
    /// SQNR of the logits on the evaluation windows without it, dB.
    pub before_db: f64,
    /// The same with it; `None` if the network then does not fit the arithmetic.
    pub after_db: Option<f64>,
}

/// Memory for a number of rows per step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ArenaBytes {
    /// Rows.
    pub stripe_rows: usize,
    /// Bytes, exact.
    pub bytes: usize,
}

/// Estimated time of an inference, from instruction counts and a processor model. It is never
/// measured on the machine itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The machine.
    pub target: String,
    /// Of `nominal_rows`, one core.
    pub milliseconds: f64,
}

/// The report of a quantization.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this structure.
    pub schema_version: u32,
    /// As resolved.
    pub settings: Settings,
    /// In the order tried, each added to those kept before it.
    pub techniques: Vec<Effect>,
    /// Layers in order.
    pub layers: Vec<LayerReport>,
    /// Signal to quantization noise of the logits, dB.
    pub logits_sqnr_db: f64,
    /// Share of windows whose best class is that of the float network.
    pub top1_agreement: f64,
    /// Windows with the same best class.
    pub agreeing_windows: usize,
    /// Largest difference of the float logits as imported from tract's, over their largest.
    pub import_error: f64,
    /// Multiplications for `nominal_rows`.
    pub macs: u64,
    /// Bytes of weights and tables in the file.
    pub package_bytes: usize,
    /// For each number of rows processed together.
    pub arena: Vec<ArenaBytes>,
    /// Bytes of activations if layers ran one after the other over `nominal_rows`.
    pub layer_by_layer_bytes: usize,
    /// For machines that Sori is built for.
    pub estimates: Vec<Estimate>,
    /// Channels that calibration never saw above zero, of all between expansion and projection.
    pub dead_channels: DeadChannels,
    /// Scales that had to be raised.
    pub notes: Vec<String>,
}

/// Channels of expanded tensors that do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeadChannels {
    /// Never above zero in calibration.
    pub in_calibration: usize,
    /// Constant for any input: `prune` removes them without changing a bit.
    pub provably: usize,
    /// All channels of expanded tensors.
    pub of: usize,
}

impl Report {
    /// The layers with the lowest SQNR on exact inputs, worst first.
    pub fn worst(&self, number: usize) -> Vec<&LayerReport> {
        let mut layers: Vec<_> = self.layers.iter().collect();
        layers.sort_by(|a, b| a.local_sqnr_db.total_cmp(&b.local_sqnr_db));
        layers.truncate(number);
        layers
    }

    /// Bytes of arena, a row at a time.
    pub fn arena_bytes_row(&self) -> usize {
        self.arena.first().map_or(0, |arena| arena.bytes)
    }
}

/// A condition on a report, from `KEY=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// Smallest share of windows that agree.
    Agreement(f64),
    /// Smallest SQNR of the logits, dB.
    Sqnr(f64),
    /// Smallest SQNR of any layer, dB.
    LayerSqnr(f64),
}

impl Gate {
    /// Reads `KEY=VALUE,…`.
    ///
    /// # Errors
    /// Names the unknown key, or the value that is not a number.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        text.split(',').map(str::trim).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self> {
        let (key, value) = text
            .split_once('=')
            .with_context(|| format!("gate {text:?}: write KEY=VALUE, such as agreement=0.98"))?;
        let number: f64 = value
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .with_context(|| format!("gate {key}: {value:?} is not a number"))?;
        Ok(match key {
            "agreement" => {
                ensure!(
                    (0.0..=1.0).contains(&number),
                    "gate agreement: {number} is not between 0 and 1"
                );
                Self::Agreement(number)
            }
            "sqnr" => Self::Sqnr(number),
            "layer-sqnr" => Self::LayerSqnr(number),
            _ => bail!("unknown gate {key}: choose agreement, sqnr or layer-sqnr"),
        })
    }

    /// Whether the report passes, with the figure found and the one required.
    pub fn check(&self, report: &Report) -> (bool, String) {
        let lowest = report
            .layers
            .iter()
            .min_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
        let (key, found, wanted) = match *self {
            Self::Agreement(wanted) => ("agreement".into(), report.top1_agreement, wanted),
            Self::Sqnr(wanted) => ("sqnr".into(), report.logits_sqnr_db, wanted),
            Self::LayerSqnr(wanted) => match lowest {
                Some(layer) => (
                    format!("layer-sqnr ({})", layer.role),
                    layer.sqnr_db,
                    wanted,
                ),
                None => ("layer-sqnr".into(), f64::INFINITY, wanted),
            },
        };
        let passed = found >= wanted;
        let verdict = if passed { "passed" } else { "failed" };
        (
            passed,
            format!("gate {key}: {found:.3}, required {wanted:.3}: {verdict}"),
        )
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreement(value) => write!(f, "agreement={value}"),
            Self::Sqnr(value) => write!(f, "sqnr={value}"),
            Self::LayerSqnr(value) => write!(f, "layer-sqnr={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_unknown_ones_refused() {
        assert_eq!(
            Gate::parse_list("agreement=0.98, sqnr=20").expect("both are known"),
            [Gate::Agreement(0.98), Gate::Sqnr(20.0)]
        );
        for (text, why) in [
            ("speed=3", "unknown"),
            ("agreement", "KEY=VALUE"),
            ("sqnr=high", "not a number"),
            ("agreement=98", "between 0 and 1"),
        ] {
            let message = Gate::parse_list(text).expect_err(text).to_string();
            assert!(message.contains(why), "{message}");
        }
    }
}
