//! Turns a trained MobileNetV2 into the int8 package that every target loads, and reports
//! the accuracy lost.
//!
//! ```text
//! ONNX ─► onnx: recognized, batch norm folded ─► float network ─► equalize
//!                                                     │ engine: every tensor, f32
//!            ranges ◄─ select: by error of the logits ◄┘
//!               │
//!               └─► lower: integers ─► reconstruct: rounding, biases ─► golden vectors ─► package
//!                                                                          │
//!              report: SQNR of each layer, agreement with tract's run of the file ◄┘
//! ```
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use sori_quantize::{Onnx, Options, Request, Rows, quantize};
//!
//! let onnx = Onnx::read("model.onnx".as_ref())?;
//! let clip = std::fs::read("calibration.npy")?;
//! let quantized = quantize(Request {
//!     name: "my network".into(),
//!     calibration: vec![Rows::from_npy(&clip, onnx.input_shape())?],
//!     calibration_name: "one clip".into(),
//!     ..Request::new(&onnx)
//! })?;
//! std::fs::write("model.sori", &quantized.bytes[..])?;
//! println!("{:.1} dB", quantized.report.logits_sqnr_db);
//! # Ok(()) }
//! ```
//!
//! [`contract`] describes what the network was trained on. [`quantize_for_timing`] skips everything
//! that does not affect the package's speed.
//!
//! # What it will not do
//! Decode audio or read folders (the `sori` command does), retrain, or accept networks
//! outside the MobileNetV2 family: those are [`Refused`], with the unsupported node's name.
#![forbid(unsafe_code)]

mod engine;
mod equalize;
mod estimate;
mod float;
mod golden;
mod html;
mod lower;
mod manifold;
mod measure;
mod onnx;
mod prune;
mod ranges;
mod reconstruct;
mod reference;
mod report;
mod select;
mod simulate;
mod tract;

use std::cell::RefCell;

use anyhow::{Context as _, Result, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use sori_dsp::FrontEnd;
use sori_dsp::design::MelTables;
use sori_host::contract::Contract;
pub use sori_host::{Rows, contract};
use sori_host::{dequantize, logits, verify};
use sori_nn::{memory, stripe_sizes};
use sori_package::write::{
    ClassifierSpec, ConvolutionSpec, PackageBytes, PackageSpec, ProvenanceSpec, Sizes,
};
use sori_package::{Activation, Package, TensorShape};

use float::FloatNetwork;
pub use float::Preprocessing;
pub use manifold::{Bottleneck, Disturbance, Embedding, Manifold, figure_1, manifold, spiral};
use measure::Measured;
pub use onnx::{Onnx, Refused};
pub use ranges::Method;
use ranges::Observed;
use reconstruct::{Rebuilt, Wanted};
pub use reference::Reference;
pub use report::{
    ArenaBytes, DeadChannels, Effect, Estimate, Gate, Histogram, LayerReport, Report,
    SCHEMA_VERSION, Settings,
};
use select::Choice;
pub use tract::TractInference;

/// The fewest rows of a window that say anything.
const FEWEST_ROWS: usize = 32;

/// A clip or part of one, as seen by the package and by the float network.
#[derive(Debug, Clone)]
struct Window {
    /// Steps of the preprocessed input.
    rows: Vec<i8>,
    /// Preprocessed.
    floats: Vec<f32>,
    /// As the file takes them, if that differs.
    raw: Option<Vec<f32>>,
}

impl Window {
    fn raw(&self) -> &[f32] {
        self.raw.as_deref().unwrap_or(&self.floats)
    }
}

/// Techniques that reduce quantization noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Options {
    /// How ranges are chosen.
    pub ranges: Method,
    /// Cross-layer equalization.
    pub equalize: bool,
    /// Layer-wise rounding: weights are rounded together to preserve the layer's output.
    pub rounding: bool,
    /// Bias correction: each channel's mean error is removed through its bias.
    pub bias_correction: bool,
    /// Remove channels that provably do nothing.
    pub prune: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ranges: Method::Auto,
            equalize: true,
            rounding: true,
            bias_correction: true,
            prune: false,
        }
    }
}

impl Options {
    /// Min/max ranges and rounding to nearest, nothing else.
    pub const PLAIN: Self = Self {
        ranges: Method::MinMax,
        equalize: false,
        rounding: false,
        bias_correction: false,
        prune: false,
    };
}

/// A network to quantize, and the data to do it with.
pub struct Request<'a> {
    /// The network.
    pub onnx: &'a Onnx,
    /// The network's name if there is no contract.
    pub name: String,
    /// Overrides the contract in the file's metadata.
    pub contract: Option<Contract>,
    /// Clips that set the ranges; if empty and `data_free` is set, noise.
    pub calibration: Vec<Rows>,
    /// Describes them in the package's provenance.
    pub calibration_name: String,
    /// Calibrate on noise. The ranges are then a guess: the network's own data is always better.
    pub data_free: bool,
    /// Clips that the result is evaluated on; if empty, the calibration clips.
    pub evaluation: Vec<Rows>,
    /// Techniques.
    pub options: Options,
    /// Called from any thread with the current stage and the fraction done.
    pub on_progress: &'a (dyn Fn(&str, f64) + Sync),
}

impl<'a> Request<'a> {
    /// All techniques enabled; `calibration` is still empty.
    pub fn new(onnx: &'a Onnx) -> Self {
        Self {
            onnx,
            name: String::new(),
            contract: None,
            calibration: Vec::new(),
            calibration_name: String::new(),
            data_free: false,
            evaluation: Vec::new(),
            options: Options::default(),
            on_progress: &|_, _| {},
        }
    }
}

/// A package and its report.
#[derive(Debug)]
pub struct Quantized {
    /// The file.
    pub bytes: PackageBytes,
    /// The accuracy lost, and the package's costs.
    pub report: Report,
}

impl Onnx {
    /// Shape of the rows that the network takes, for [`Rows::from_npy`].
    pub fn input_shape(&self) -> TensorShape {
        row_shape(&self.network)
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.network.classifier.bias.len()
    }

    /// Does to rows what the graph does before its stem, which a package leaves out.
    pub fn preprocess(&self, rows: &mut [f32]) {
        self.network.preprocessing.apply(rows);
    }
}

fn row_shape(network: &FloatNetwork) -> TensorShape {
    TensorShape {
        width: network.width as u16,
        channels: network.channels as u16,
    }
}

/// An import whose logits differ from the file's by more than this share of the largest is
/// wrong.
const LARGEST_IMPORT_ERROR: f64 = 1e-2;
/// Windows that an import is checked on.
const IMPORT_WINDOWS: usize = 4;

/// Quantizes a network.
///
/// # Errors
/// Names the channel that does not fit the arithmetic, or what is missing from the calibration data.
pub fn quantize(request: Request<'_>) -> Result<Quantized> {
    let Request {
        onnx,
        options,
        on_progress,
        data_free,
        ..
    } = request;
    let network = &onnx.network;
    let contract = request.contract.as_ref().or(onnx.contract.as_ref());
    if let Some(contract) = contract {
        fits(contract, network)?;
    }
    let row_len = network.width * network.channels;
    let mut clips = request.calibration;
    if data_free && clips.is_empty() {
        clips = noise_clips(network, contract, NOISE_CLIPS)?;
    }
    ensure!(
        !clips.is_empty(),
        "calibration needs at least one clip: give a folder of audio like that used in training"
    );
    let nominal = match contract {
        Some(contract) => contract.network.nominal_rows as usize,
        None => network
            .rows
            .unwrap_or_else(|| (longest(&clips) / row_len).max(FEWEST_ROWS)),
    };
    let input = input_activation(network, contract, &clips)?;
    let calibration = windows(network, &clips, &input, nominal)?;
    let held_out = !request.evaluation.is_empty();
    let evaluation = match held_out {
        true => windows(network, &request.evaluation, &input, nominal)?,
        false => calibration.clone(),
    };
    let settings = Settings {
        calibration: match data_free {
            true => "noise, no data given".into(),
            false => format!(
                "{}, {} windows",
                request.calibration_name,
                calibration.len()
            ),
        },
        data_free,
        calibration_windows: calibration.len(),
        evaluation_windows: evaluation.len(),
        held_out,
        options,
        ..Settings::new(onnx, contract, request.name, nominal, &input)
    };
    let pool_rows = settings.pool_rows;
    let tables = contract.map(|c| c.mel.tables()).transpose()?;
    let maker = Maker {
        contract: contract.zip(tables.as_ref()),
        settings: &settings,
        input,
        calibration: &calibration,
        on_progress,
        known: RefCell::default(),
    };

    let reference = Reference::new(onnx);
    let exact = |windows: &[Window], what: &str| -> Result<Vec<Vec<f32>>> {
        let done = Progress::new(on_progress, what, windows.len());
        windows
            .par_iter()
            .map(|window| {
                let logits = reference.logits(window.raw(), pool_rows.into());
                done.one();
                logits
            })
            .collect()
    };
    let judges = Judges {
        calibration: exact(&calibration, "float network on calibration")?,
        evaluation: match held_out {
            true => exact(&evaluation, "float network on evaluation")?,
            false => Vec::new(),
        },
    };
    let import_error = import_error(network, &calibration, &judges.calibration, pool_rows);
    ensure!(
        network.is_quantized() || import_error <= LARGEST_IMPORT_ERROR,
        "the imported network's logits differ from tract's run of the file by {:.1} %: this is a bug in Sori, please report it",
        100.0 * import_error
    );

    let judge = |made: &Made<'_>, windows: &[Window], exact: &[Vec<f32>]| {
        let bytes = made.spec.build(Sizes::default())?;
        measure::measure(&Package::parse(&bytes)?, windows, exact)
    };
    let (judged_on, exact) = match held_out {
        true => (&evaluation, &judges.evaluation),
        false => (&calibration, &judges.calibration),
    };
    // Techniques are chosen on windows that they did not see: ranges that fit the calibration
    // alone are found out.
    let is_fitted = |n: usize| n.is_multiple_of(2) || calibration.len() < FEWEST_TO_SPLIT;
    let is_spared = |n: usize| !n.is_multiple_of(2) || calibration.len() < FEWEST_TO_SPLIT;
    let fitted = picked(&calibration, is_fitted);
    let spared = picked(&calibration, is_spared);
    let spared_exact = picked(&judges.calibration, is_spared);
    let trial = Maker {
        calibration: &fitted,
        known: RefCell::default(),
        ..maker
    };
    let tried = improve(&trial, network, options, &|made| {
        judge(made, &spared, &spared_exact)
    })?;
    let mut made = maker.make(network, Options::PLAIN)?;
    let mut measured = judge(&made, judged_on, exact)?;
    let mut so_far = Options::PLAIN;
    let mut techniques = Vec::new();
    for technique in tried {
        let with = so_far.and(technique.adds);
        let next = maker.make(network, with).and_then(|made| {
            let measured = judge(&made, judged_on, exact)?;
            Ok((made, measured))
        });
        techniques.push(Effect {
            technique: technique.name,
            kept: technique.helps && next.is_ok(),
            before_db: measured.logits.db(),
            after_db: next.as_ref().ok().map(|(_, measured)| measured.logits.db()),
        });
        if let (Ok(next), true) = (next, technique.helps) {
            (made, measured) = next;
            so_far = with;
        }
    }
    let Made {
        mut spec,
        network: equalized,
        observed,
        choices,
        mut notes,
    } = made;

    let draft = spec.build(Sizes::default())?;
    let package = Package::parse(&draft)?;
    on_progress("measuring layers", 0.0);
    let noises = measure::layers(&package, &equalized, &evaluation)?;
    let weight_sqnrs: Vec<f64> = {
        let (steps, layers) = (simulate::steps(&package), equalized.layers());
        let of = |n| reconstruct::weight_sqnr(&steps, n, &layers[n], input).db();
        (0..layers.len()).map(of).collect()
    };
    let scales: Vec<f32> = simulate::steps(&package)
        .iter()
        .map(|step| step.convolution.activation.scale)
        .collect();
    let mut dead_channels = dead_channels(&equalized.layers(), &observed);
    let mut smaller = spec.clone();
    dead_channels.provably = prune::prune(&mut smaller);
    let pruned;
    let package = if options.prune && dead_channels.provably > 0 {
        spec = smaller;
        pruned = spec.build(Sizes::default())?;
        let smaller = Package::parse(&pruned)?;
        let rows = measure::rows(&evaluation);
        ensure!(
            logits(&smaller, &rows)? == logits(&package, &rows)?,
            "pruning changed the network's results: this is a bug in Sori, please report it"
        );
        smaller
    } else {
        package
    };
    spec.golden = Some(golden::make(&package)?);
    let top1_agreement = measured.agreeing as f64 / evaluation.len() as f64;
    spec.provenance.metrics = format!(
        "agreement={top1_agreement:.4} logits_sqnr_db={:.1} windows={} held_out={held_out}",
        measured.logits.db(),
        evaluation.len(),
    );
    let bytes = spec.build(sizes(&package))?;
    let package = Package::parse(&bytes)?;
    verify(&package).context("the package does not reproduce its own golden vectors")?;

    notes.dedup();
    let mut macs = Vec::new();
    let mut rows = nominal;
    memory::for_each_layer(&package, &mut |layer| {
        rows = layer.output_rows(rows);
        macs.push(rows as u64 * layer.macs_per_row);
    });
    let layers = equalized.layers();
    let layer_reports = layers.iter().enumerate().map(|(n, layer)| {
        let (activation, method) = choices[n];
        let activation = Activation {
            scale: scales[n],
            ..activation
        };
        let convolution = layer.convolution;
        LayerReport {
            node: convolution.node.clone(),
            role: layer.role(),
            sqnr_db: noises[n].cumulative.db(),
            local_sqnr_db: noises[n].local.db(),
            scale: activation.scale,
            zero_point: activation.zero_point,
            method,
            clipped: observed[n].clipped(&activation),
            activations: Histogram {
                low: observed[n].low(),
                high: observed[n].high(),
                counts: observed[n].histogram(BINS),
            },
            weights: histogram(&convolution.weights),
            weight_sqnr_db: weight_sqnrs[n],
            smallest_divisor: convolution.divisors.iter().copied().fold(1.0, f32::min),
            macs: macs.get(n).copied().unwrap_or(0),
        }
    });
    let report = Report {
        schema_version: SCHEMA_VERSION,
        techniques,
        layers: layer_reports.collect(),
        logits_sqnr_db: measured.logits.db(),
        top1_agreement,
        agreeing_windows: measured.agreeing,
        import_error,
        macs: memory::macs(&package, nominal),
        package_bytes: bytes.len(),
        arena: (0..8)
            .map(|n| ArenaBytes {
                stripe_rows: 1 << n,
                bytes: package.prologue().arena_bytes(1 << n),
            })
            .collect(),
        layer_by_layer_bytes: memory::layer_by_layer_bytes(&package, nominal),
        estimates: estimate::estimates(&package, nominal),
        dead_channels,
        notes,
        settings: settings.clone(),
    };
    Ok(Quantized { bytes, report })
}

/// Bins of the report's histograms.
const BINS: usize = 48;

fn histogram(values: &[f32]) -> Histogram {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let width = ((high - low) / BINS as f32).max(f32::MIN_POSITIVE);
    let mut counts = vec![0; BINS];
    for &x in values {
        counts[(((x - low) / width) as usize).min(BINS - 1)] += 1;
    }
    Histogram { low, high, counts }
}

fn dead_channels(layers: &[float::Layer<'_>], observed: &[Observed]) -> DeadChannels {
    let mut dead = DeadChannels {
        in_calibration: 0,
        provably: 0,
        of: 0,
    };
    for (layer, observed) in layers.iter().zip(observed) {
        if layer.is_depthwise() {
            let channels = 0..layer.convolution.c_out;
            dead.of += channels.len();
            dead.in_calibration += channels.filter(|&c| observed.active(c) == 0.0).count();
        }
    }
    dead
}

/// Logits of the windows as tract has them.
struct Judges {
    calibration: Vec<Vec<f32>>,
    /// Empty where the calibration judges.
    evaluation: Vec<Vec<f32>>,
}

/// Of the import, over the largest logit.
fn import_error(
    network: &FloatNetwork,
    windows: &[Window],
    exact: &[Vec<f32>],
    pool_rows: u16,
) -> f64 {
    let errors = windows.iter().zip(exact).take(IMPORT_WINDOWS);
    let errors = errors.map(|(window, exact)| {
        let tensors = engine::run(network, &window.floats);
        let last = tensors.last().map_or(&[][..], Vec::as_slice);
        let found = engine::logits(network, last, pool_rows.into());
        let largest = exact.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
        let off = found.iter().zip(exact).map(|(a, b)| (a - b).abs());
        f64::from(off.fold(0.0, f32::max) / largest)
    });
    errors.fold(0.0, f64::max)
}

/// Calibrations of fewer windows are not divided.
const FEWEST_TO_SPLIT: usize = 8;

fn picked<T: Clone>(all: &[T], is_picked: impl Fn(usize) -> bool) -> Vec<T> {
    let numbered = all.iter().enumerate();
    let picked = numbered.filter(|(n, _)| is_picked(*n));
    picked.map(|(_, one)| one.clone()).collect()
}

/// Something that may help.
struct Technique {
    name: String,
    adds: Options,
    /// On windows that it did not see, on top of those before it that help.
    helps: bool,
}

/// Tries the wanted techniques one on top of the other, and leaves out what makes the judge's
/// logits worse.
fn improve(
    maker: &Maker<'_, '_>,
    network: &FloatNetwork,
    wanted: Options,
    judge: &dyn Fn(&Made<'_>) -> Result<Measured>,
) -> Result<Vec<Technique>> {
    let mut options = Options::PLAIN;
    let mut best = judge(&maker.make(network, options)?)?.logits.db();
    let mut techniques = wanted.techniques(network.is_quantized());
    for technique in &mut techniques {
        let with = options.and(technique.adds);
        // Extreme weights may fit the arithmetic only without it.
        let tried = maker.make(network, with).and_then(|made| judge(&made));
        let after = tried.map_or(f64::NEG_INFINITY, |measured| measured.logits.db());
        technique.helps = after > best;
        if technique.helps {
            (best, options) = (after, with);
        }
    }
    Ok(techniques)
}

impl Options {
    /// What is wanted, one by one. The scales of a network that was quantized before stay.
    fn techniques(self, was_quantized: bool) -> Vec<Technique> {
        let plain = Self::PLAIN;
        let ranges = Self {
            ranges: self.ranges,
            ..plain
        };
        let bias_correction = Self {
            bias_correction: self.bias_correction,
            ..plain
        };
        let equalize = Self {
            equalize: self.equalize,
            ..plain
        };
        let rounding = Self {
            rounding: self.rounding,
            ..plain
        };
        let all = [
            (
                format!("ranges: {:?}", self.ranges).to_lowercase(),
                ranges,
                !was_quantized,
            ),
            ("bias correction".into(), bias_correction, true),
            ("cross-layer equalization".into(), equalize, !was_quantized),
            ("layer-wise rounding".into(), rounding, true),
        ];
        all.into_iter()
            .filter(|(_, adds, possible)| *possible && *adds != plain)
            .map(|(name, adds, _)| Technique {
                name,
                adds,
                helps: false,
            })
            .collect()
    }

    fn and(self, other: Self) -> Self {
        Self {
            ranges: match other.ranges {
                Method::MinMax => self.ranges,
                ranges => ranges,
            },
            equalize: self.equalize || other.equalize,
            rounding: self.rounding || other.rounding,
            bias_correction: self.bias_correction || other.bias_correction,
            prune: self.prune || other.prune,
        }
    }
}

/// Makes integers of a float network.
struct Maker<'a, 't> {
    contract: Option<(&'a Contract, &'t MelTables)>,
    settings: &'a Settings,
    input: Activation,
    calibration: &'a [Window],
    on_progress: &'a (dyn Fn(&str, f64) + Sync),
    /// By equalization and method of the ranges.
    known: RefCell<Vec<((bool, Method), Calibrated)>>,
}

/// A network, equalized or not, and its ranges.
#[derive(Clone)]
struct Calibrated {
    network: FloatNetwork,
    observed: Vec<Observed>,
    logits: Observed,
    choices: Vec<Choice>,
}

/// The integers, and the network that they stand for.
struct Made<'t> {
    spec: PackageSpec<'t>,
    network: FloatNetwork,
    observed: Vec<Observed>,
    choices: Vec<Choice>,
    notes: Vec<String>,
}

impl<'t> Maker<'_, 't> {
    fn make(&self, network: &FloatNetwork, options: Options) -> Result<Made<'t>> {
        let pool_rows = self.settings.pool_rows;
        let Calibrated {
            network,
            observed,
            logits,
            mut choices,
        } = self.calibrate(network, options);
        let mut activations: Vec<_> = choices.iter().map(|(activation, _)| *activation).collect();
        let lowered = lower::lower(
            &network,
            self.input,
            &mut activations,
            logits.roomy(),
            pool_rows,
        )?;
        let contract = self.contract;
        let mut spec = PackageSpec {
            provenance: ProvenanceSpec {
                name: self.settings.name.clone(),
                source_sha256: self.settings.source_sha256.clone(),
                calibration: self.settings.calibration.clone(),
                tool: TOOL.into(),
                metrics: String::new(),
            },
            labels: contract.map_or_else(Vec::new, |(c, _)| c.labels.clone()),
            input: row_shape(&network),
            input_activation: self.input,
            nominal_rows: u32::try_from(self.settings.nominal_rows)
                .context("the input has too many rows")?,
            stem: lowered.stem,
            blocks: lowered.blocks,
            head: lowered.head,
            classifier: lowered.classifier,
            mel: contract.map(|(_, tables)| tables.contract()),
            decision: contract.map(|(c, _)| c.decision_rule()),
            golden: None,
        };
        let wanted = Wanted {
            rounding: options.rounding,
            bias_correction: options.bias_correction,
        };
        if wanted.rounding || wanted.bias_correction {
            let draft = spec
                .build(Sizes::default())
                .context("the integers violate the package's rules")?;
            let done = Progress::new(
                self.on_progress,
                "rounding layers",
                network.layers().len() + 1,
            );
            let rebuilt = reconstruct::rebuild(
                &Package::parse(&draft)?,
                &network,
                self.calibration,
                wanted,
                &|| done.one(),
            );
            replace(&mut spec, rebuilt);
        }
        for ((activation, _), lowered) in choices.iter_mut().zip(activations) {
            *activation = lowered;
        }
        Ok(Made {
            spec,
            network,
            observed,
            choices,
            notes: lowered.notes,
        })
    }

    /// Once for all options that agree on ranges and equalization.
    fn calibrate(&self, network: &FloatNetwork, options: Options) -> Calibrated {
        let key = (options.equalize, options.ranges);
        let known = self.known.borrow().iter().find(|(k, _)| *k == key).cloned();
        if let Some((_, known)) = known {
            return known;
        }
        let mut network = network.clone();
        let (mut observed, mut logits) = self.observe(&network);
        if options.equalize {
            equalize::equalize(&mut network, &observed);
            (observed, logits) = self.observe(&network);
        }
        (self.on_progress)("choosing ranges", 0.0);
        let choices = select::select(
            &network,
            &observed,
            self.calibration,
            options.ranges,
            self.settings.pool_rows.into(),
            network.macs(self.settings.nominal_rows),
        );
        let calibrated = Calibrated {
            network,
            observed,
            logits,
            choices,
        };
        self.known.borrow_mut().push((key, calibrated.clone()));
        calibrated
    }

    /// Every tensor over the calibration, and the logits.
    fn observe(&self, network: &FloatNetwork) -> (Vec<Observed>, Observed) {
        let layers = network.layers();
        let mut observed: Vec<_> = layers
            .iter()
            .map(|layer| Observed::new(layer.convolution.c_out))
            .collect();
        let mut logits = Observed::new(network.classifier.bias.len());
        let done = Progress::new(self.on_progress, "calibration", self.calibration.len());
        // A few at a time: all tensors of all windows would not fit a small machine.
        for some in self.calibration.chunks(rayon::current_num_threads()) {
            let runs: Vec<_> = some
                .par_iter()
                .map(|window| engine::run(network, &window.floats))
                .collect();
            for tensors in runs {
                for (observed, tensor) in observed.iter_mut().zip(&tensors) {
                    observed.see(tensor);
                }
                let last = tensors.last().map_or(&[][..], Vec::as_slice);
                logits.see(&engine::logits(
                    network,
                    last,
                    self.settings.pool_rows.into(),
                ));
                done.one();
            }
        }
        (observed, logits)
    }
}

/// The convolutions' weights and biases in order, then the classifier's.
fn replace(spec: &mut PackageSpec<'_>, rebuilt: Vec<Rebuilt>) {
    let mut rebuilt = rebuilt.into_iter();
    for (convolution, new) in convolution_specs(spec).zip(&mut rebuilt) {
        convolution.weights = new.weights;
        convolution.bias = new.bias;
    }
    let ClassifierSpec { weights, bias, .. } = &mut spec.classifier;
    if let Some(new) = rebuilt.next() {
        (*weights, *bias) = (new.weights, new.bias);
    }
}

/// Counts what is done.
struct Progress<'a> {
    on_progress: &'a (dyn Fn(&str, f64) + Sync),
    what: String,
    done: std::sync::atomic::AtomicUsize,
    of: usize,
}

impl<'a> Progress<'a> {
    fn new(on_progress: &'a (dyn Fn(&str, f64) + Sync), what: &str, of: usize) -> Self {
        on_progress(what, 0.0);
        Self {
            on_progress,
            what: what.into(),
            done: 0.into(),
            of,
        }
    }

    fn one(&self) {
        let done = 1 + self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (self.on_progress)(&self.what, done as f64 / self.of.max(1) as f64);
    }
}

/// A package with the network's geometry and weights, calibrated on noise: it runs as fast
/// as a real one, but its results mean nothing. It has no golden vectors.
///
/// # Errors
/// As [`quantize`], and where neither the file nor its contract fixes the rows.
pub fn quantize_for_timing(onnx: &Onnx, name: &str) -> Result<PackageBytes> {
    let network = &onnx.network;
    let contract = onnx.contract.as_ref();
    if let Some(contract) = contract {
        fits(contract, network)?;
    }
    let nominal = fixed_rows(network, contract)?;
    let clips = noise_clips(network, contract, 1)?;
    let input = input_activation(network, contract, &clips)?;
    let settings = Settings {
        calibration: "noise, for timing only".into(),
        ..Settings::new(onnx, contract, name.into(), nominal, &input)
    };
    let tables = contract.map(|c| c.mel.tables()).transpose()?;
    let maker = Maker {
        contract: contract.zip(tables.as_ref()),
        settings: &settings,
        input,
        calibration: &windows(network, &clips, &input, nominal)?,
        on_progress: &|_, _| {},
        known: RefCell::default(),
    };
    let Made { spec, .. } = maker.make(network, Options::PLAIN)?;
    let bytes = spec
        .build(Sizes::default())
        .context("the integers violate the package's rules")?;
    let sizes = sizes(&Package::parse(&bytes)?);
    Ok(spec.build(sizes)?)
}

impl Settings {
    /// Of a network on no data yet, without techniques.
    fn new(
        onnx: &Onnx,
        contract: Option<&Contract>,
        name: String,
        nominal: usize,
        input: &Activation,
    ) -> Self {
        let network = &onnx.network;
        Self {
            name: contract.map_or(name, |c| c.name.clone()),
            source_sha256: onnx.sha256.clone(),
            tool: TOOL.into(),
            calibration: String::new(),
            data_free: true,
            calibration_windows: 0,
            evaluation_windows: 0,
            held_out: false,
            nominal_rows: nominal,
            row: [network.width, network.channels],
            pool_rows: match contract {
                Some(contract) => contract.network.pool_rows,
                None => network.output_rows(nominal).clamp(1, u16::MAX.into()) as u16,
            },
            options: Options::PLAIN,
            preprocessing: network.preprocessing.clone(),
            input_scale: input.scale,
            input_zero_point: input.zero_point,
            was_quantized: network.is_quantized(),
        }
    }
}

/// Clips of noise in place of data.
fn noise_clips(
    network: &FloatNetwork,
    contract: Option<&Contract>,
    number: usize,
) -> Result<Vec<Rows>> {
    let len = fixed_rows(network, contract)? * network.width * network.channels;
    let noise = golden::noise(number * len);
    let clips = noise.chunks_exact(len);
    Ok(clips
        .map(|clip| match contract {
            Some(_) => Rows::Int8(clip.to_vec()),
            // Of variance 1 once preprocessed, as networks are trained on.
            None => {
                let Preprocessing { scale, shift } = &network.preprocessing;
                let constants = scale.iter().zip(shift).cycle();
                let values = clip.iter().zip(constants).map(|(&x, (scale, shift))| {
                    let scale = if *scale == 0.0 { 1.0 } else { *scale };
                    (f32::from(x) / 74.0 - shift) / scale
                });
                Rows::Float(values.collect())
            }
        })
        .collect())
}

const NOISE_CLIPS: usize = 16;

/// Rows of a window, where no data says how many there are.
fn fixed_rows(network: &FloatNetwork, contract: Option<&Contract>) -> Result<usize> {
    let rows = contract.map(|c| c.network.nominal_rows as usize);
    rows.or(network.rows).with_context(|| {
        format!(
            "input {} has no fixed number of rows: export the model with a fixed number",
            network.input
        )
    })
}

/// The package's provenance: what made it.
const TOOL: &str = concat!("sori ", env!("CARGO_PKG_VERSION"));

/// What the prologue states.
fn sizes(package: &Package<'_>) -> Sizes {
    let frontend_len = package.mel().map_or(0, |mel| FrontEnd::workspace_len(&mel));
    Sizes {
        arena: stripe_sizes(package),
        frontend_bytes: (frontend_len * size_of::<i32>()) as u32,
    }
}

/// All convolutions, in order.
fn convolution_specs<'s>(
    spec: &'s mut PackageSpec<'_>,
) -> impl Iterator<Item = &'s mut ConvolutionSpec> {
    let blocks = spec.blocks.iter_mut().flat_map(|block| {
        let expansion = block.expansion.iter_mut();
        expansion.chain([&mut block.depthwise, &mut block.projection])
    });
    std::iter::once(&mut spec.stem)
        .chain(blocks)
        .chain(&mut spec.head)
}

/// Values of the longest clip.
fn longest(clips: &[Rows]) -> usize {
    let lens = clips.iter().map(|clip| match clip {
        Rows::Int8(rows) => rows.len(),
        Rows::Float(rows) => rows.len(),
    });
    lens.max().unwrap_or(0)
}

/// Whether contract and network speak of the same input and classes.
fn fits(contract: &Contract, network: &FloatNetwork) -> Result<()> {
    ensure!(
        network.channels == 1 && network.width == contract.mel.bands,
        "the contract has {} mel bands, but the network takes rows of {}×{}",
        contract.mel.bands,
        network.width,
        network.channels
    );
    let classes = network.classifier.bias.len();
    ensure!(
        contract.labels.len() == classes,
        "the contract has {} labels, but the network has {classes} classes",
        contract.labels.len()
    );
    Ok(())
}

fn input_activation(
    network: &FloatNetwork,
    contract: Option<&Contract>,
    clips: &[Rows],
) -> Result<Activation> {
    if let Some(contract) = contract {
        ensure!(
            network.preprocessing.is_identity(),
            "the graph scales or shifts its input, but the contract already defines the features: export the model without preprocessing"
        );
        return Ok(Activation {
            scale: contract.input.scale,
            zero_point: contract.input.zero_point,
            min: i8::MIN,
            max: i8::MAX,
        });
    }
    if let Some(stated) = network.input_quantization {
        return Ok(ranges::with_scale(
            stated.scale,
            stated.zero_point,
            float::LINEAR,
        ));
    }
    let mut observed = Observed::new(network.channels);
    for clip in clips {
        match clip {
            Rows::Float(values) => {
                ensure!(
                    values
                        .len()
                        .is_multiple_of(network.width * network.channels),
                    "a clip of {} values is not a whole number of rows of {}",
                    values.len(),
                    network.width * network.channels
                );
                let mut values = values.clone();
                network.preprocessing.apply(&mut values);
                observed.see(&values);
            }
            Rows::Int8(_) => {
                bail!("int8 rows carry no scale: give --contract, or calibrate on float rows")
            }
        }
    }
    Ok(observed.activation(Method::Mse, float::LINEAR))
}

/// Cuts clips to what the network was trained on; what a long clip leaves over is not
/// used.
fn windows(
    network: &FloatNetwork,
    clips: &[Rows],
    input: &Activation,
    nominal: usize,
) -> Result<Vec<Window>> {
    let row_len = network.width * network.channels;
    let preprocessing = &network.preprocessing;
    let fewest = FEWEST_ROWS.min(nominal) * row_len;
    let mut windows = Vec::new();
    for clip in clips {
        let (rows, floats, raw) = match clip {
            Rows::Int8(rows) => {
                let floats = rows.iter().map(|&q| dequantize(q, input)).collect();
                (rows.clone(), floats, None)
            }
            Rows::Float(given) => {
                let mut floats = given.clone();
                ensure!(
                    floats.len().is_multiple_of(row_len),
                    "a clip of {} values is not a whole number of rows of {row_len}",
                    floats.len()
                );
                preprocessing.apply(&mut floats);
                let rows = floats
                    .iter()
                    .map(|&x| sori_host::quantize(x, input))
                    .collect();
                let raw = (!preprocessing.is_identity()).then(|| given.clone());
                (rows, floats, raw)
            }
        };
        ensure!(
            floats.iter().all(|x| x.is_finite()),
            "the calibration rows contain NaN or infinite values"
        );
        let len: usize = Vec::len(&rows);
        ensure!(
            len.is_multiple_of(row_len),
            "a clip of {len} values is not a whole number of rows of {row_len}"
        );
        if len < fewest {
            continue;
        }
        let cut = (nominal * row_len).min(len);
        for start in (0..=len - cut).step_by(cut) {
            let part = start..start + cut;
            windows.push(Window {
                rows: rows[part.clone()].to_vec(),
                floats: floats[part.clone()].to_vec(),
                raw: raw.as_ref().map(|raw: &Vec<f32>| raw[part].to_vec()),
            });
        }
    }
    ensure!(
        !windows.is_empty(),
        "every clip has fewer than {} rows: calibrate on longer ones",
        fewest / row_len
    );
    Ok(windows)
}
