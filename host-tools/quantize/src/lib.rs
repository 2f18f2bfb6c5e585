//! Takes a trained MobileNetV2 to the int8 package that every target loads, and says
//! what that cost.
//!
//! ```text
//! ONNX ─► import ─► float network ─┬─► calibrate: ranges of every activation (tract, f32)
//!                                  └─► lower: weights, biases, multipliers ─► package
//!                                                              golden vectors ─┘    │
//!            report: SQNR of each layer, top-1 agreement with tract's float run ◄───┘
//! ```
//!
//! [`quantize`] does all of it; [`contract`] is what the network was trained on;
//! [`verify`] runs a package's golden vectors again.
#![forbid(unsafe_code)]

pub mod contract;
mod float;
mod golden;
mod import;
mod lower;
mod ranges;
mod reference;
mod report;
mod simulate;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use sori_dsp::FrontEnd;
use sori_nn::{memory, stripe_sizes};
use sori_package::write::{PackageBytes, PackageSpec, ProvenanceSpec, Sizes};
use sori_package::{Activation, Package, TensorShape};

use contract::Contract;
use float::FloatNetwork;
pub use golden::{Verified, verify};
use ranges::Observed;
use reference::Reference;
use report::Sqnr;
pub use report::{Gate, LayerReport, Report, SCHEMA_VERSION};

/// Rows of a window that are too few to say anything.
const FEWEST_ROWS: usize = 32;
/// Windows whose layers are compared one by one; logits are compared on all.
const LAYER_WINDOWS: usize = 16;

/// Feature rows of one clip, `[rows][width][channels]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// From the front end.
    Int8(Vec<i8>),
    /// As the network was trained, for packages without a contract.
    Float(Vec<f32>),
}

/// What to quantize, and on what.
#[derive(Debug)]
pub struct Request<'a> {
    /// The ONNX file.
    pub onnx: &'a [u8],
    /// What to call the network where no contract does.
    pub name: String,
    /// Overrides the contract in the file's metadata.
    pub contract: Option<Contract>,
    /// Clips that set the ranges.
    pub calibration: Vec<Rows>,
    /// What they are, for the provenance.
    pub calibration_name: String,
    /// Clips that judge the result; the calibration's again where there are none.
    pub evaluation: Vec<Rows>,
}

/// A package and what is known about it.
#[derive(Debug)]
pub struct Quantized {
    /// The file.
    pub bytes: PackageBytes,
    /// What it cost.
    pub report: Report,
}

/// The contract that an ONNX file carries in its metadata under `sori.contract`.
///
/// # Errors
/// When the file is no ONNX, or its contract is wrong.
pub fn embedded_contract(onnx: &[u8]) -> Result<Option<Contract>> {
    let model = import::decode(onnx)?;
    import::embedded_contract(&model)
        .map(|text| Contract::parse(text).context("the contract in the file's metadata"))
        .transpose()
}

/// Quantizes a network.
///
/// # Errors
/// Names the node that is outside the family, the channel that does not fit the
/// arithmetic, or what the calibration lacks.
pub fn quantize(request: Request<'_>) -> Result<Quantized> {
    let model = import::decode(request.onnx)?;
    let network = import::import(&model)?;
    let contract = match request.contract {
        Some(contract) => Some(contract),
        None => embedded_contract(request.onnx)?,
    };
    if let Some(contract) = &contract {
        fits(contract, &network)?;
    }
    let row_len = network.width * network.channels;
    let nominal = match &contract {
        Some(contract) => contract.network.nominal_rows as usize,
        None => network.rows.unwrap_or(network.width),
    };

    ensure!(
        !request.calibration.is_empty(),
        "calibration needs at least one clip: name a folder with music like that in training"
    );
    let input = input_activation(contract.as_ref(), &request.calibration)?;
    let calibration = windows(&request.calibration, &input, row_len, nominal)?;
    let held_out = !request.evaluation.is_empty();
    let evaluation = match held_out {
        true => windows(&request.evaluation, &input, row_len, nominal)?,
        false => calibration.clone(),
    };

    let mut reference = Reference::new(&model, &network);
    let convolutions: Vec<_> = network.convolutions().collect();
    let mut observed = vec![Observed::default(); convolutions.len() + 1];
    for window in &calibration {
        let tensors = reference.run(&floats(window, &input))?;
        for (observed, tensor) in observed.iter_mut().zip(&tensors) {
            observed.see(tensor);
        }
    }
    let mut activations: Vec<Activation> = convolutions
        .iter()
        .zip(&observed)
        .map(|(convolution, observed)| observed.activation(convolution.clamp))
        .collect();
    let logits = observed[convolutions.len()].whole();
    let output_rows = output_rows(&network, nominal);
    let pool_rows = match &contract {
        Some(contract) => contract.network.pool_rows,
        None => output_rows.clamp(1, u16::MAX.into()) as u16,
    };
    let lowered = lower::lower(&network, input, &mut activations, logits, pool_rows)?;

    let source_sha256 = hex(&Sha256::digest(request.onnx));
    let tables = contract.as_ref().map(|c| c.mel.tables()).transpose()?;
    let mut spec = PackageSpec {
        provenance: ProvenanceSpec {
            name: contract.as_ref().map_or(request.name, |c| c.name.clone()),
            source_sha256: source_sha256.clone(),
            calibration: format!(
                "{}, {} windows",
                request.calibration_name,
                calibration.len()
            ),
            tool: concat!("sori ", env!("CARGO_PKG_VERSION")).into(),
            metrics: String::new(),
        },
        labels: contract
            .as_ref()
            .map_or_else(Vec::new, |c| c.labels.clone()),
        input: TensorShape {
            width: network.width as u16,
            channels: network.channels as u16,
        },
        input_activation: input,
        nominal_rows: nominal as u32,
        stem: lowered.stem,
        blocks: lowered.blocks,
        head: lowered.head,
        classifier: lowered.classifier,
        mel: tables.as_ref().map(|tables| tables.contract()),
        decision: contract.as_ref().map(Contract::decision_rule),
        golden: None,
    };
    let draft = spec
        .build(Sizes::default())
        .context("the integers break the package's rules")?;
    let package = Package::parse(&draft)?;

    let measured = measure(&package, &network, &mut reference, &evaluation, &input)?;
    spec.golden = Some(golden::make(&package)?);
    spec.provenance.metrics = format!(
        "top-1 agreement with float {:.4} on {} {} windows, SQNR of the logits {:.1} dB",
        measured.agreeing as f64 / evaluation.len() as f64,
        evaluation.len(),
        if held_out { "held-out" } else { "calibration" },
        measured.logits.db()
    );
    let sizes = Sizes {
        arena: stripe_sizes(&package),
        frontend_bytes: spec.mel.as_ref().map_or(0, |mel| {
            (FrontEnd::workspace_len(mel) * size_of::<i32>()) as u32
        }),
    };
    let bytes = spec.build(sizes)?;
    let package = Package::parse(&bytes)?;
    verify(&package).context("the package does not reproduce its own golden vectors")?;

    let mut notes = lowered.notes;
    notes.dedup();
    let report = Report {
        schema_version: SCHEMA_VERSION,
        name: spec.provenance.name.clone(),
        source_sha256,
        calibration_windows: calibration.len(),
        evaluation_windows: evaluation.len(),
        held_out,
        layers: convolutions
            .iter()
            .zip(roles(&network))
            .zip(measured.layers.iter().zip(&activations))
            .map(|((convolution, role), (sqnr, activation))| LayerReport {
                node: convolution.node.clone(),
                role,
                sqnr_db: sqnr.db(),
                scale: activation.scale,
                zero_point: activation.zero_point,
            })
            .collect(),
        logits_sqnr_db: measured.logits.db(),
        top1_agreement: measured.agreeing as f64 / evaluation.len() as f64,
        agreeing_windows: measured.agreeing,
        macs: memory::macs(&package, nominal),
        package_bytes: bytes.len(),
        arena_bytes_row: package.prologue().arena_bytes(1),
        layer_by_layer_bytes: memory::layer_by_layer_bytes(&package, nominal),
        notes,
    };
    Ok(Quantized { bytes, report })
}

/// Whether contract and network speak of the same input and classes.
fn fits(contract: &Contract, network: &FloatNetwork) -> Result<()> {
    ensure!(
        network.channels == 1 && network.width == contract.mel.bands,
        "the contract has {} mel bands and the network takes rows of {}×{}",
        contract.mel.bands,
        network.width,
        network.channels
    );
    let classes = network.classifier.bias.len();
    ensure!(
        contract.labels.len() == classes,
        "the contract has {} labels and the network {classes} classes",
        contract.labels.len()
    );
    Ok(())
}

fn input_activation(contract: Option<&Contract>, clips: &[Rows]) -> Result<Activation> {
    if let Some(contract) = contract {
        return Ok(Activation {
            scale: contract.input.scale,
            zero_point: contract.input.zero_point,
            min: i8::MIN,
            max: i8::MAX,
        });
    }
    let mut observed = Observed::default();
    for clip in clips {
        match clip {
            Rows::Float(values) => observed.see(values),
            Rows::Int8(_) => bail!(
                "int8 rows have no scale of their own: give --contract, or calibrate on float rows"
            ),
        }
    }
    Ok(observed.activation([f32::NEG_INFINITY, f32::INFINITY]))
}

/// Cuts clips to what the network was trained on.
fn windows(
    clips: &[Rows],
    input: &Activation,
    row_len: usize,
    nominal: usize,
) -> Result<Vec<Vec<i8>>> {
    let mut windows = Vec::new();
    for clip in clips {
        let rows: Vec<i8> = match clip {
            Rows::Int8(rows) => rows.clone(),
            Rows::Float(rows) => {
                ensure!(
                    rows.iter().all(|x| x.is_finite()),
                    "the calibration rows hold NaN or infinite values"
                );
                rows.iter().map(|&x| ranges::quantize(x, input)).collect()
            }
        };
        ensure!(
            rows.len().is_multiple_of(row_len),
            "a clip of {} values does not consist of rows of {row_len}",
            rows.len()
        );
        let fewest = FEWEST_ROWS.min(nominal) * row_len;
        let cut = rows.chunks(nominal * row_len);
        windows.extend(cut.filter(|w| w.len() >= fewest).map(<[i8]>::to_vec));
    }
    ensure!(
        !windows.is_empty(),
        "no clip has {FEWEST_ROWS} rows: calibrate on longer ones"
    );
    Ok(windows)
}

fn floats(rows: &[i8], input: &Activation) -> Vec<f32> {
    rows.iter().map(|&q| ranges::dequantize(q, input)).collect()
}

fn output_rows(network: &FloatNetwork, rows: usize) -> usize {
    let spatial = network.convolutions().filter_map(|c| c.spatial);
    spatial.fold(rows, |rows, spatial| {
        let padded = rows + usize::from(spatial.pad_time[0] + spatial.pad_time[1]);
        padded.saturating_sub(3) / usize::from(spatial.stride_time) + 1
    })
}

struct Measured {
    layers: Vec<Sqnr>,
    logits: Sqnr,
    agreeing: usize,
}

fn measure(
    package: &Package<'_>,
    network: &FloatNetwork,
    reference: &mut Reference<'_>,
    windows: &[Vec<i8>],
    input: &Activation,
) -> Result<Measured> {
    let scales: Vec<Activation> = activations(package);
    let classes = network.classifier.bias.len();
    let mut measured = Measured {
        layers: vec![Sqnr::default(); scales.len()],
        logits: Sqnr::default(),
        agreeing: 0,
    };
    let logits_activation = package.classifier().activation;
    // Spread over the clips, which come in the order of their names.
    let every = windows.len().div_ceil(LAYER_WINDOWS);
    for (n, window) in windows.iter().enumerate() {
        let exact = reference.run(&floats(window, input))?;
        if n % every == 0 {
            let layers = simulate::layers(package, window);
            for ((sqnr, activation), (found, exact)) in measured
                .layers
                .iter_mut()
                .zip(&scales)
                .zip(layers.iter().zip(&exact))
            {
                ensure!(
                    found.len() == exact.len(),
                    "tract's tensors have other shapes than the package's layers"
                );
                for (&q, &x) in found.iter().zip(exact) {
                    sqnr.add(x, ranges::dequantize(q, activation));
                }
            }
        }
        let found = golden::logits(package, window, 64)?;
        let found = &found[found.len().saturating_sub(classes)..];
        let exact = &exact[exact.len() - 1];
        ensure!(
            found.len() == classes && exact.len() == classes,
            "a window of {} rows gives no logits",
            window.len() / package.input().row_len()
        );
        for (&q, &x) in found.iter().zip(exact) {
            measured
                .logits
                .add(x, ranges::dequantize(q, &logits_activation));
        }
        let best = exact
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(k, _)| k);
        // Of equal int8 logits the first wins, as on a device.
        let chosen = (0..classes).rev().max_by_key(|&k| found[k]);
        measured.agreeing += usize::from(best == chosen);
    }
    Ok(measured)
}

/// Of the convolutions, in order.
fn activations(package: &Package<'_>) -> Vec<Activation> {
    let mut activations = vec![package.stem().activation];
    for block in package.blocks() {
        activations.extend(block.expansion.map(|expansion| expansion.activation));
        activations.extend([block.depthwise.activation, block.projection.activation]);
    }
    activations.extend(package.head().map(|head| head.activation));
    activations
}

fn roles(network: &FloatNetwork) -> Vec<String> {
    let mut roles = vec!["stem".to_string()];
    for (n, block) in network.blocks.iter().enumerate() {
        if block.expansion.is_some() {
            roles.push(format!("block {n} expansion"));
        }
        roles.push(format!("block {n} depthwise"));
        let residual = if block.residual { " + residual" } else { "" };
        roles.push(format!("block {n} projection{residual}"));
    }
    if network.head.is_some() {
        roles.push("head".into());
    }
    roles
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
