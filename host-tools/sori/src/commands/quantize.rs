//! `sori quantize`: from a trained MobileNetV2 to the package that every target loads.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_host::Rows;
use sori_host::contract::Contract;
use sori_package::{Package, TensorShape};
use sori_quantize::{Gate, Method, Onnx, Options, Quantized, Report, Request};

use crate::exit::Failure;
use crate::memory_plan::{self, Summary};
use crate::output::Shown as _;
use crate::{clips, output};

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    /// The trained network, as written by torch.onnx, tf2onnx, timm, onnxsim or onnxruntime's
    /// quantizer
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Folder of audio or .npy feature rows that set the activations' ranges
    #[arg(long, value_name = "DIR", required_unless_present = "data_free")]
    calib: Option<PathBuf>,
    /// Estimate the ranges from noise instead; real data is always better
    #[arg(long, conflicts_with = "calib")]
    data_free: bool,
    /// The package to write
    #[arg(long, value_name = "FILE.sori")]
    out: PathBuf,
    /// Labels, mel settings and decision thresholds; overrides the file's `sori.contract`
    #[arg(long, value_name = "FILE.toml")]
    contract: Option<PathBuf>,
    /// Other audio or .npy feature rows, to compare int8 and float on
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,
    /// Write nothing and exit with 3 unless all hold: agreement=0.98, sqnr=20, layer-sqnr=15
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = gates)]
    gate: Option<Gates>,
    /// How to choose ranges: auto, minmax, percentile, mse or entropy
    #[arg(long, value_name = "METHOD", default_value = "auto", value_parser = Method::from_str)]
    ranges: Method,
    /// Disable cross-layer equalization
    #[arg(long)]
    no_equalize: bool,
    /// Disable layer-wise rounding: round each weight to the nearest step
    #[arg(long)]
    no_rounding: bool,
    /// Disable bias correction
    #[arg(long)]
    no_bias_correction: bool,
    /// Remove channels that provably do nothing; the results keep every bit
    #[arg(long)]
    prune: bool,
    /// Use the fastest memory plan that fits an arena of SIZE bytes (49152, 48K, 48KiB); write
    /// nothing and exit with 3 if none fits
    #[arg(long, value_name = "SIZE", value_parser = memory_plan::size)]
    arena: Option<usize>,
    /// Write an HTML report
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Gates(Vec<Gate>);

fn gates(text: &str) -> Result<Gates> {
    Gate::parse_list(text).map(Gates)
}

impl Quantize {
    pub(crate) fn run(self) -> Result<()> {
        let onnx = Onnx::read(&self.model).with_context(|| self.cannot())?;
        let own = match &self.contract {
            Some(path) => Some(Contract::read(path)?),
            None => None,
        };
        let contract = own.as_ref().or(onnx.contract());
        let load = |folder: &Option<PathBuf>| match folder {
            Some(folder) => rows(folder, contract, onnx.input_shape()),
            None => Ok(Vec::new()),
        };
        let calibration = load(&self.calib)?;
        let evaluation = load(&self.eval)?;
        if self.data_free {
            eprintln!(
                "sori: WARNING: no calibration data: ranges are estimated from noise, and accuracy may be much lower; give --calib DIR"
            );
        }
        let stem = self.model.file_stem().unwrap_or_default();
        let bar = output::stages();
        let quantized = sori_quantize::quantize(Request {
            name: stem.to_string_lossy().into_owned(),
            calibration_name: match &self.calib {
                Some(folder) => describe(folder, calibration.len()),
                None => String::new(),
            },
            contract: own,
            calibration,
            data_free: self.data_free,
            evaluation,
            options: Options {
                ranges: self.ranges,
                equalize: !self.no_equalize,
                rounding: !self.no_rounding,
                bias_correction: !self.no_bias_correction,
                prune: self.prune,
            },
            on_progress: &|what, share| {
                bar.set_message(what.to_string());
                bar.set_position((share * 1000.0) as u64);
            },
            ..Request::new(&onnx)
        });
        bar.finish_and_clear();
        let mut quantized = quantized.with_context(|| self.cannot())?;
        let plan = match self.arena {
            Some(arena) => Some(fit(&mut quantized, arena).with_context(|| self.cannot())?),
            None => None,
        };
        self.deliver(&quantized, plan)
    }

    fn cannot(&self) -> String {
        format!("cannot quantize {}", self.model.display())
    }

    fn deliver(&self, quantized: &Quantized, plan: Option<Summary>) -> Result<()> {
        let report = &quantized.report;
        if self.json {
            output::line(&serde_json::to_string(&WithPlan {
                report,
                memory_plan: plan,
            })?)?;
        } else {
            print(report, &mut io::stdout())?;
            if let Some(plan) = plan {
                plan.print(&mut io::stdout())?;
            }
        }
        if let Some(path) = &self.report {
            output::write_atomically(path, report.html().as_bytes())?;
        }
        let gates = self.gate.iter().flat_map(|gates| &gates.0);
        let mut failed = 0;
        for gate in gates {
            let (passed, line) = gate.check(report);
            eprintln!("{line}");
            failed += u32::from(!passed);
        }
        if failed > 0 {
            return Err(Failure::Gate(format!(
                "{} not written: quantization costs more than --gate allows; calibrate on audio closer to what the network will hear, or train it with less extreme weights",
                self.out.display()
            ))
            .into());
        }
        output::write_atomically(&self.out, &quantized.bytes)?;
        if !self.json {
            output::line(&format!("wrote {}", self.out.shown()))?;
        }
        Ok(())
    }
}

/// The report, with the memory plan if there is one.
#[derive(Debug, Serialize)]
struct WithPlan<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_plan: Option<Summary>,
}

/// Stores the plan in the package, and its sizes in the report.
fn fit(quantized: &mut Quantized, arena: usize) -> Result<Summary> {
    let (bytes, plan) = memory_plan::fit(&quantized.bytes, arena)?;
    let summary = Summary::new(&Package::parse(&bytes)?, &plan);
    quantized.report.package_bytes = bytes.len();
    if let Some(row) = quantized.report.arena.first_mut() {
        row.bytes = plan.arena_bytes;
    }
    quantized.bytes = bytes;
    Ok(summary)
}

/// The folder's own name, never its path, and its number of clips.
fn describe(folder: &Path, clips: usize) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}: {clips} clips")
}

/// A folder's clips as feature rows, by the contract's front end.
pub(crate) fn rows(
    folder: &Path,
    contract: Option<&Contract>,
    shape: TensorShape,
) -> Result<Vec<Rows>> {
    let tables = contract.map(|contract| contract.mel.tables()).transpose()?;
    let mel = tables.as_ref().map(|tables| tables.contract());
    let clips = clips::load(folder, mel.as_ref(), shape)?;
    Ok(clips.into_iter().map(|clip| clip.rows).collect())
}

fn print(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let settings = &report.settings;
    writeln!(
        out,
        "{}: {}×{}×{} values, calibrated on {}",
        settings.name,
        settings.nominal_rows,
        settings.row[0],
        settings.row[1],
        settings.calibration
    )?;
    if settings.was_quantized {
        writeln!(out, "already quantized: its scales are kept")?;
    }
    let mut table = output::table(&[
        "layer",
        "ONNX node",
        "SQNR dB",
        "alone",
        "range by",
        "clipped",
        "scale",
        "zero point",
    ]);
    for layer in &report.layers {
        table.add_row([
            layer.role.clone(),
            layer.node.clone(),
            format!("{:.1}", layer.sqnr_db),
            format!("{:.1}", layer.local_sqnr_db),
            match layer.method {
                Some(method) => format!("{method:?}").to_lowercase(),
                None => "file".into(),
            },
            format!("{:.3} %", 100.0 * layer.clipped),
            format!("{:.6}", layer.scale),
            layer.zero_point.to_string(),
        ]);
    }
    output::align_right(&mut table, &[2, 3, 5, 6, 7]);
    writeln!(out, "{table}\n")?;
    for effect in &report.techniques {
        let kept = if effect.kept { "" } else { ", not kept" };
        let after = match effect.after_db {
            Some(db) => format!("{db:.1} dB"),
            None => "does not fit the arithmetic".into(),
        };
        writeln!(
            out,
            "{}: {:.1} → {after}{kept}",
            effect.technique, effect.before_db
        )?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    let compared = if settings.held_out {
        "held-out windows"
    } else {
        "calibration windows (give --eval for held-out ones)"
    };
    writeln!(
        out,
        "int8 and float agree on {} of {} {compared}: {:.1} %",
        report.agreeing_windows,
        settings.evaluation_windows,
        100.0 * report.top1_agreement
    )?;
    writeln!(out, "SQNR of the logits: {:.1} dB", report.logits_sqnr_db)?;
    writeln!(
        out,
        "{:.1} million multiplications for {} rows; package {} bytes",
        report.macs as f64 / 1e6,
        settings.nominal_rows,
        report.package_bytes
    )?;
    writeln!(
        out,
        "arena, row by row: {} bytes; layer by layer it would be {} bytes",
        report.arena_bytes_row(),
        report.layer_by_layer_bytes
    )?;
    Ok(())
}
