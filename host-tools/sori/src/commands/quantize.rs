//! `sori quantize`: a trained MobileNetV2 to the package every target loads.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use sori_package::TensorShape;
use sori_quantize::contract::Contract;
use sori_quantize::{Gate, Quantized, Report, Request, Rows};

use crate::exit::Failure;
use crate::{audio, frontend, output};

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    /// The trained network: float, NCHW, with or without batch norm
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Audio files or .npy feature rows that set the activations' ranges
    #[arg(long, value_name = "DIR")]
    calib: PathBuf,
    /// The package to write
    #[arg(long, value_name = "FILE.sori")]
    out: PathBuf,
    /// Labels, mel settings and decision thresholds; overrides the file's `sori.contract`
    #[arg(long, value_name = "FILE.toml")]
    contract: Option<PathBuf>,
    /// Other audio or .npy rows, on which int8 and float are compared
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,
    /// Write nothing and exit with 3 unless all hold: agreement=0.98, sqnr=20, layer-sqnr=15
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = gates)]
    gate: Option<Gates>,
    /// Print the report as JSON
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
        let onnx = std::fs::read(&self.model)
            .with_context(|| format!("cannot read {}: check the path", self.model.display()))?;
        let contract = match &self.contract {
            Some(path) => Some(Contract::read(path)?),
            None => sori_quantize::embedded_contract(&onnx).with_context(|| self.cannot())?,
        };
        let shape = sori_quantize::input_shape(&onnx).with_context(|| self.cannot())?;
        let calibration = load(&self.calib, contract.as_ref(), shape)?;
        let evaluation = match &self.eval {
            Some(folder) => load(folder, contract.as_ref(), shape)?,
            None => Vec::new(),
        };
        let stem = self.model.file_stem().unwrap_or_default();
        let quantized = sori_quantize::quantize(Request {
            onnx: &onnx,
            name: stem.to_string_lossy().into_owned(),
            contract,
            calibration_name: describe(&self.calib, calibration.len()),
            calibration,
            evaluation,
        })
        .with_context(|| self.cannot())?;
        self.deliver(&quantized)
    }

    fn cannot(&self) -> String {
        format!("cannot quantize {}", self.model.display())
    }

    fn deliver(&self, quantized: &Quantized) -> Result<()> {
        let report = &quantized.report;
        if self.json {
            output::line(&serde_json::to_string(report)?)?;
        } else {
            print(report, &mut io::stdout())?;
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
            output::line(&format!("wrote {}", self.out.display()))?;
        }
        Ok(())
    }
}

/// The folder's own name, never the path that leads to it, and how much is in it.
fn describe(folder: &Path, clips: usize) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}: {clips} clips")
}

/// Every audio file and every .npy below a folder, as rows; all must be readable.
fn load(folder: &Path, contract: Option<&Contract>, shape: TensorShape) -> Result<Vec<Rows>> {
    let arrays = audio::with_extensions(folder, &["npy"])?;
    let recordings = audio::with_extensions(folder, &audio::EXTENSIONS)?;
    ensure!(
        !(arrays.is_empty() && recordings.is_empty()),
        "{} holds neither audio (wav, flac, mp3, ogg) nor .npy feature rows",
        folder.display()
    );
    let mut rows = Vec::new();
    for source in arrays {
        let bytes = std::fs::read(&source.path)
            .with_context(|| format!("cannot read {}", source.path.display()))?;
        rows.push(
            Rows::from_npy(&bytes, shape)
                .with_context(|| format!("cannot use {}", source.path.display()))?,
        );
    }
    if recordings.is_empty() {
        return Ok(rows);
    }
    let Some(contract) = contract else {
        bail!(
            "{} holds audio, but nothing says how to make features of it: give --contract FILE.toml, or .npy feature rows",
            folder.display()
        );
    };
    let tables = contract.mel.tables()?;
    let mel = tables.contract();
    let bar = output::progress(recordings.len());
    let heard: Result<Vec<Rows>> = recordings
        .par_iter()
        .map(|source| {
            let heard = frontend::rows_of(&source.path, &mel)?;
            for warning in heard.warnings {
                bar.suspend(|| eprintln!("sori: {}: {warning}", source.path.display()));
            }
            bar.inc(1);
            Ok(Rows::Int8(heard.features))
        })
        .collect();
    bar.finish_and_clear();
    rows.extend(heard?);
    Ok(rows)
}

fn print(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut table = output::table(&["layer", "ONNX node", "SQNR dB", "scale", "zero point"]);
    for layer in &report.layers {
        table.add_row([
            layer.role.clone(),
            layer.node.clone(),
            format!("{:.1}", layer.sqnr_db),
            format!("{:.6}", layer.scale),
            layer.zero_point.to_string(),
        ]);
    }
    output::align_right(&mut table, &[2, 3, 4]);
    writeln!(out, "{table}\n")?;
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    let compared = if report.held_out {
        "held-out windows"
    } else {
        "windows of the calibration itself (give --eval for others)"
    };
    writeln!(
        out,
        "int8 and float agree on {} of {} {compared}: {:.1} %",
        report.agreeing_windows,
        report.evaluation_windows,
        100.0 * report.top1_agreement
    )?;
    writeln!(out, "SQNR of the logits: {:.1} dB", report.logits_sqnr_db)?;
    writeln!(
        out,
        "{:.1} million multiplications for {} rows; package {} bytes",
        report.macs as f64 / 1e6,
        report.nominal_rows,
        report.package_bytes
    )?;
    writeln!(
        out,
        "arena, a row at a time: {} bytes; layer by layer it would be {} bytes",
        report.arena_bytes_row, report.layer_by_layer_bytes
    )?;
    Ok(())
}
