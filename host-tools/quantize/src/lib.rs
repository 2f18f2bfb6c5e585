//! Takes a trained MobileNetV2 to the int8 package that every target loads, and says
//! what that cost.
//!
//! ```text
//! ONNX ─► import ─► float network ─► calibrate: ranges of every activation (tract, f32)
//!                                          │
//!            package ◄─ golden vectors ◄─ correct: biases ◄─ lower: integers
//!               │
//!               └─► report: SQNR of each layer, top-1 agreement with tract's float run
//! ```
//!
//! [`quantize`] does all of it; [`contract`] is what the network was trained on;
//! [`verify`] computes a package's golden vectors again. [`quantize_for_timing`] leaves out
//! all that does not change how long the package runs.
//!
//! # What it will not do
//! Decode audio or read folders (the `sori` command does), retrain, or take networks
//! outside the MobileNetV2 family: those are refused, naming the node.
#![forbid(unsafe_code)]

pub mod contract;
mod correct;
mod float;
mod golden;
mod import;
mod lower;
mod measure;
mod ranges;
mod reference;
mod report;
mod rows;
mod simulate;
mod tract;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use sori_dsp::FrontEnd;
use sori_dsp::design::MelTables;
use sori_nn::{memory, stripe_sizes};
use sori_package::write::{ConvolutionSpec, PackageBytes, PackageSpec, ProvenanceSpec, Sizes};
use sori_package::{Activation, Package, TensorShape};
use tract_onnx::pb::ModelProto;

use contract::Contract;
use float::FloatNetwork;
pub use golden::{VERIFIED_STRIPES, verify};
use measure::{measure, roles};
use ranges::{Observed, dequantize};
use reference::Reference;
pub use report::{Gate, LayerReport, Report, SCHEMA_VERSION};
pub use rows::Rows;
pub use tract::TractInference;

/// Rows of a window that are too few to say anything.
const FEWEST_ROWS: usize = 32;

/// A clip, or a part of it, as the package and as the float network see it.
#[derive(Debug, Clone)]
struct Window {
    rows: Vec<i8>,
    floats: Vec<f32>,
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
    contract_in(&model)
}

fn contract_in(model: &ModelProto) -> Result<Option<Contract>> {
    import::embedded_contract(model)
        .map(|text| Contract::parse(text).context("the contract in the file's metadata"))
        .transpose()
}

/// Shape of the rows that a network takes, for [`Rows::from_npy`].
///
/// # Errors
/// Names the node that is outside the family.
pub fn input_shape(onnx: &[u8]) -> Result<TensorShape> {
    let network = import::import(&import::decode(onnx)?)?;
    Ok(row_shape(&network))
}

fn row_shape(network: &FloatNetwork) -> TensorShape {
    TensorShape {
        width: network.width as u16,
        channels: network.channels as u16,
    }
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
        None => contract_in(&model)?,
    };
    if let Some(contract) = &contract {
        fits(contract, &network)?;
    }
    ensure!(
        !request.calibration.is_empty(),
        "calibration needs at least one clip: name a folder with music like that in training"
    );
    let row_len = network.width * network.channels;
    let nominal = match &contract {
        Some(contract) => contract.network.nominal_rows as usize,
        None => network
            .rows
            .unwrap_or_else(|| (longest(&request.calibration) / row_len).max(FEWEST_ROWS)),
    };
    let input = input_activation(contract.as_ref(), &request.calibration)?;
    let calibration = windows(&request.calibration, &input, row_len, nominal)?;
    let calibration_windows = calibration.len();
    let held_out = !request.evaluation.is_empty();
    let evaluation = match held_out {
        true => windows(&request.evaluation, &input, row_len, nominal)?,
        false => calibration.clone(),
    };

    let mut reference = Reference::new(&model, &network);
    let source_sha256 = hex(&Sha256::digest(request.onnx));
    let provenance = ProvenanceSpec {
        name: contract.as_ref().map_or(request.name, |c| c.name.clone()),
        source_sha256: source_sha256.clone(),
        calibration: format!(
            "{}, {calibration_windows} windows",
            request.calibration_name
        ),
        tool: TOOL.into(),
        metrics: String::new(),
    };
    let tables = contract.as_ref().map(|c| c.mel.tables()).transpose()?;
    let Draft {
        mut spec,
        activations,
        mut notes,
    } = draft(
        &network,
        contract.as_ref().zip(tables.as_ref()),
        provenance,
        input,
        nominal,
        &mut reference,
        &calibration,
    )?;
    let draft = spec
        .build(Sizes::default())
        .context("the integers break the package's rules")?;
    let corrected = correct::biases(&Package::parse(&draft)?, &mut reference, &calibration)?;
    for (convolution, bias) in convolution_specs(&mut spec).zip(corrected) {
        convolution.bias = bias;
    }
    let draft = spec
        .build(Sizes::default())
        .context("the corrected biases break the package's rules")?;
    let package = Package::parse(&draft)?;

    let measured = measure(&package, &mut reference, &evaluation)?;
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
    let report = Report {
        schema_version: SCHEMA_VERSION,
        name: spec.provenance.name.clone(),
        source_sha256,
        nominal_rows: nominal,
        pool_rows: spec.classifier.pool_rows,
        calibration_windows,
        evaluation_windows: evaluation.len(),
        held_out,
        layers: network
            .convolutions()
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
        top1_agreement,
        agreeing_windows: measured.agreeing,
        macs: memory::macs(&package, nominal),
        package_bytes: bytes.len(),
        arena_bytes_row: package.prologue().arena_bytes(1),
        layer_by_layer_bytes: memory::layer_by_layer_bytes(&package, nominal),
        notes,
    };
    Ok(Quantized { bytes, report })
}

/// A package of the network's geometry and weights, calibrated on noise: it takes as long
/// as a good one and names nothing. It has no golden vectors.
///
/// # Errors
/// As [`quantize`], and where neither the file nor its contract fixes the rows.
pub fn quantize_for_timing(onnx: &[u8], name: &str) -> Result<PackageBytes> {
    let model = import::decode(onnx)?;
    let network = import::import(&model)?;
    let contract = contract_in(&model)?;
    if let Some(contract) = &contract {
        fits(contract, &network)?;
    }
    let nominal = contract.as_ref().map(|c| c.network.nominal_rows as usize);
    let nominal = nominal.or(network.rows).with_context(|| {
        format!(
            "input {} has no fixed number of rows: export the model with it fixed",
            network.input
        )
    })?;
    let row_len = network.width * network.channels;
    let noise = golden::noise(nominal * row_len);
    let clip = match &contract {
        Some(_) => Rows::Int8(noise),
        None => Rows::Float(noise.iter().map(|&x| f32::from(x) / 64.0).collect()),
    };
    let clips = [clip];
    let input = input_activation(contract.as_ref(), &clips)?;
    let calibration = windows(&clips, &input, row_len, nominal)?;
    let provenance = ProvenanceSpec {
        name: contract.as_ref().map_or(name.into(), |c| c.name.clone()),
        source_sha256: hex(&Sha256::digest(onnx)),
        calibration: "noise, for timing only".into(),
        tool: TOOL.into(),
        metrics: String::new(),
    };
    let tables = contract.as_ref().map(|c| c.mel.tables()).transpose()?;
    let Draft { spec, .. } = draft(
        &network,
        contract.as_ref().zip(tables.as_ref()),
        provenance,
        input,
        nominal,
        &mut Reference::new(&model, &network),
        &calibration,
    )?;
    let bytes = spec
        .build(Sizes::default())
        .context("the integers break the package's rules")?;
    let sizes = sizes(&Package::parse(&bytes)?);
    Ok(spec.build(sizes)?)
}

/// The package's provenance: what made it.
const TOOL: &str = concat!("sori ", env!("CARGO_PKG_VERSION"));

/// A package before its biases are corrected.
struct Draft<'t> {
    spec: PackageSpec<'t>,
    /// Of the convolutions' outputs, in order.
    activations: Vec<Activation>,
    notes: Vec<String>,
}

/// Calibrates and lowers.
fn draft<'t>(
    network: &FloatNetwork,
    contract: Option<(&Contract, &'t MelTables)>,
    provenance: ProvenanceSpec,
    input: Activation,
    nominal: usize,
    reference: &mut Reference<'_>,
    calibration: &[Window],
) -> Result<Draft<'t>> {
    let pool_rows = match contract {
        Some((contract, _)) => contract.network.pool_rows,
        None => output_rows(network, nominal).clamp(1, u16::MAX.into()) as u16,
    };
    let (mut activations, logits) = calibrate(network, reference, calibration, pool_rows)?;
    let lowered = lower::lower(network, input, &mut activations, logits, pool_rows)?;
    let spec = PackageSpec {
        provenance,
        labels: contract.map_or_else(Vec::new, |(c, _)| c.labels.clone()),
        input: row_shape(network),
        input_activation: input,
        nominal_rows: u32::try_from(nominal).context("the input has too many rows")?,
        stem: lowered.stem,
        blocks: lowered.blocks,
        head: lowered.head,
        classifier: lowered.classifier,
        mel: contract.map(|(_, tables)| tables.contract()),
        decision: contract.map(|(c, _)| c.decision_rule()),
        golden: None,
    };
    Ok(Draft {
        spec,
        activations,
        notes: lowered.notes,
    })
}

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

/// Scales of the convolutions' outputs in order, and of the logits.
fn calibrate(
    network: &FloatNetwork,
    reference: &mut Reference<'_>,
    windows: &[Window],
    pool_rows: u16,
) -> Result<(Vec<Activation>, Activation)> {
    let mut observed: Vec<_> = network
        .convolutions()
        .map(|convolution| (convolution.clamp, Observed::default()))
        .collect();
    let mut logits = Observed::default();
    for window in windows {
        let tensors = reference.run(&window.floats)?;
        for ((_, observed), tensor) in observed.iter_mut().zip(&tensors) {
            observed.see(tensor);
        }
        logits.see(&reference.logits(&tensors, pool_rows.into()));
    }
    let activations = observed.iter().map(|(clamp, o)| o.activation(*clamp));
    Ok((activations.collect(), logits.whole()))
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

/// Cuts clips to what the network was trained on; what a long clip leaves over is not
/// used.
fn windows(
    clips: &[Rows],
    input: &Activation,
    row_len: usize,
    nominal: usize,
) -> Result<Vec<Window>> {
    let fewest = FEWEST_ROWS.min(nominal) * row_len;
    let mut windows = Vec::new();
    for clip in clips {
        let whole = match clip {
            Rows::Int8(rows) => Window {
                rows: rows.clone(),
                floats: rows.iter().map(|&q| dequantize(q, input)).collect(),
            },
            Rows::Float(floats) => Window {
                rows: floats.iter().map(|&x| ranges::quantize(x, input)).collect(),
                floats: floats.clone(),
            },
        };
        ensure!(
            whole.floats.iter().all(|x| x.is_finite()),
            "the calibration rows hold NaN or infinite values"
        );
        let len = whole.rows.len();
        ensure!(
            len.is_multiple_of(row_len),
            "a clip of {len} values does not consist of rows of {row_len}"
        );
        if len < fewest {
            continue;
        }
        let cut = (nominal * row_len).min(len);
        let parts = whole.rows.chunks_exact(cut);
        windows.extend(
            parts
                .zip(whole.floats.chunks_exact(cut))
                .map(|(rows, floats)| Window {
                    rows: rows.to_vec(),
                    floats: floats.to_vec(),
                }),
        );
    }
    ensure!(
        !windows.is_empty(),
        "no clip has {} rows: calibrate on longer ones",
        fewest / row_len
    );
    Ok(windows)
}

fn output_rows(network: &FloatNetwork, rows: usize) -> usize {
    let spatial = network.convolutions().filter_map(|c| c.spatial);
    spatial.fold(rows as u64, |rows, spatial| spatial.output_rows(rows)) as usize
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
