//! `sori inspect`: a package's contents and memory.

use std::fmt;
use std::io;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sori_dsp::design::DB_PER_LOG2;
use sori_nn::Network;
use sori_nn::memory::{self, Layer};
use sori_package::{MelScale, Package, TensorShape};

use crate::commands::manifold;
use crate::memory_plan::Summary;
use crate::{hearing, output, package};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The package, or with --manifold an ONNX network [default: the built-in genre model]
    #[arg(value_name = "FILE.sori|FILE.onnx")]
    model: Option<PathBuf>,
    /// Measure the information that an ONNX network's ReLUs preserve, on the clips of --calib
    #[arg(long, requires = "calib", requires = "model")]
    manifold: bool,
    /// Folder of audio or .npy feature rows like the training data
    #[arg(long, value_name = "DIR", requires = "manifold")]
    calib: Option<PathBuf>,
    /// Write the measurements as an HTML report
    #[arg(long, value_name = "FILE.html", requires = "manifold")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Rows per call for which the arena is listed, besides a whole clip.
const STRIPES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

impl Inspect {
    pub(crate) fn run(self) -> Result<()> {
        if let (true, Some(model), Some(calib)) = (self.manifold, &self.model, &self.calib) {
            return manifold::run(model, calib, self.report.as_deref(), self.json);
        }
        let bytes = package::read_or_built_in(self.model.as_deref())?;
        let package = package::parse(&bytes, package::name(self.model.as_deref()))?;
        let inspected = Inspected::new(&package, bytes.len(), Signed::of(&bytes));
        if self.json {
            output::line(&serde_json::to_string_pretty(&inspected)?)?;
        } else {
            inspected.print(&mut io::stdout())?;
        }
        Ok(())
    }
}

/// The output, as text or JSON.
#[derive(Debug, Serialize)]
struct Inspected<'a> {
    schema_version: u32,
    provenance: Provenance<'a>,
    labels: Vec<&'a str>,
    package_bytes: usize,
    signature: Signed,
    weight_bytes: usize,
    parameters: usize,
    /// Rows of one whole input as trained.
    nominal_rows: usize,
    /// For one whole input.
    macs: u64,
    /// Only of networks that hear audio.
    macs_per_second: Option<f64>,
    layers: Vec<LayerLine>,
    memory: Memory,
    mel: Option<Mel>,
    pool_rows: usize,
    decision: Option<Decision>,
    golden: Option<Golden>,
}

#[derive(Debug, Serialize)]
struct Provenance<'a> {
    name: &'a str,
    source_sha256: &'a str,
    calibration: &'a str,
    tool: &'a str,
    metrics: &'a str,
}

/// The package's signer; whether to trust it is for `sori verify --key` to check.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Signed {
    Unsigned,
    Holds { public_key: String },
    Altered,
}

impl Signed {
    fn of(file: &[u8]) -> Self {
        match sori_sign::signer(file) {
            Ok(None) => Self::Unsigned,
            Ok(Some(key)) => Self::Holds {
                public_key: key.to_string(),
            },
            Err(_) => Self::Altered,
        }
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("no"),
            Self::Holds { public_key } => write!(f, "by {public_key}, unchanged since"),
            Self::Altered => f.write_str("but changed since: the signature is invalid"),
        }
    }
}

#[derive(Debug, Serialize)]
struct LayerLine {
    role: String,
    /// Rows, width, channels of one whole input.
    input: [usize; 3],
    output: [usize; 3],
    /// Along time and frequency.
    stride: Option<[u8; 2]>,
    /// Past and future, low and high.
    padding: Option<[[u8; 2]; 2]>,
    residual: bool,
    macs: u64,
    weight_bytes: usize,
    state_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Exact bytes for each number of rows at a time.
    arena: Vec<Arena>,
    /// The same for a whole clip at once.
    arena_whole_clip_bytes: usize,
    /// What running layer by layer over whole tensors would need.
    layer_by_layer_bytes: usize,
    frontend_bytes: usize,
    /// On a microcontroller that processes one row at a time: arena and front end.
    static_bytes: usize,
    /// The package itself.
    flash_bytes: usize,
    plan: Option<Summary>,
}

#[derive(Debug, Serialize)]
struct Arena {
    stripe_rows: usize,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Mel {
    sample_rate_hz: u32,
    fft: usize,
    window_samples: usize,
    hop_samples: usize,
    bands: usize,
    low_hz: f32,
    high_hz: f32,
    scale: &'static str,
    range_db: f64,
    release_db_per_s: f64,
    reference_floor_db: f64,
    dc_shift: u8,
}

#[derive(Debug, Serialize)]
struct Decision {
    silence_dbfs: f64,
    silence_seconds: Option<f64>,
    enter: f64,
    leave: f64,
    smoothing_shift: u8,
}

#[derive(Debug, Serialize)]
struct Golden {
    audio_samples: Option<usize>,
    feature_rows: usize,
    output_rows: usize,
}

impl<'a> Inspected<'a> {
    fn new(package: &Package<'a>, package_bytes: usize, signature: Signed) -> Self {
        let nominal_rows = package.nominal_rows();
        let provenance = package.provenance();
        let mut layers = Vec::new();
        let (mut rows, mut parameters) = (nominal_rows, 0);
        memory::for_each_layer(package, &mut |layer| {
            let input_rows = rows;
            rows = layer.output_rows(rows);
            parameters += layer.parameters;
            layers.push(LayerLine::new(&layer, input_rows, rows));
        });
        let macs = memory::macs(package, nominal_rows);
        let mel = package.mel();
        let rows_per_second = mel.map(|mel| f64::from(mel.sample_rate_hz) / mel.hop_samples as f64);
        let row_len = package.input().row_len();
        let classifier = package.classifier();
        Self {
            schema_version: SCHEMA_VERSION,
            provenance: Provenance {
                name: provenance.name,
                source_sha256: provenance.source_sha256,
                calibration: provenance.calibration,
                tool: provenance.tool,
                metrics: provenance.metrics,
            },
            labels: package.labels().collect(),
            package_bytes,
            signature,
            weight_bytes: layers.iter().map(|layer| layer.weight_bytes).sum(),
            parameters,
            nominal_rows,
            macs,
            macs_per_second: rows_per_second
                .map(|per_second| macs as f64 / nominal_rows as f64 * per_second),
            layers,
            memory: Memory {
                arena: STRIPES
                    .map(|stripe_rows| Arena {
                        stripe_rows,
                        bytes: Network::arena_bytes(package, stripe_rows),
                    })
                    .into(),
                arena_whole_clip_bytes: Network::arena_bytes(package, nominal_rows),
                layer_by_layer_bytes: memory::layer_by_layer_bytes(package, nominal_rows),
                frontend_bytes: package.prologue().frontend_bytes(),
                static_bytes: Network::arena_bytes(package, 1)
                    + package.prologue().frontend_bytes(),
                flash_bytes: package_bytes,
                plan: Summary::of(package),
            },
            mel: mel.map(|mel| {
                let db = |log2_q16: f64| log2_q16 / 65_536.0 * DB_PER_LOG2;
                let steps_per_log2 = f64::from(mel.feature_multiplier) * 65_536.0
                    / 2f64.powi(31 + i32::from(mel.feature_shift));
                Mel {
                    sample_rate_hz: mel.sample_rate_hz,
                    fft: mel.fft,
                    window_samples: mel.window_samples,
                    hop_samples: mel.hop_samples,
                    bands: mel.bands,
                    low_hz: mel.low_hz,
                    high_hz: mel.high_hz,
                    scale: match mel.scale {
                        MelScale::Htk => "htk",
                        MelScale::Slaney => "slaney",
                    },
                    range_db: rounded(255.0 / steps_per_log2 * DB_PER_LOG2),
                    release_db_per_s: rounded(
                        db(mel.reference_release_q16.into()) * rows_per_second.unwrap_or(0.0),
                    ),
                    reference_floor_db: rounded(db(mel.reference_floor_q16.into())),
                    dc_shift: mel.dc_shift,
                }
            }),
            pool_rows: classifier.pool_rows,
            decision: package.decision().map(|rule| Decision {
                silence_dbfs: hearing::decibels(rule.thresholds.silence_dbfs_q8),
                silence_seconds: rows_per_second
                    .map(|per_second| rounded(f64::from(rule.silence_rows) / per_second)),
                enter: rounded(hearing::fraction(rule.thresholds.enter_q15)),
                leave: rounded(hearing::fraction(rule.thresholds.leave_q15)),
                smoothing_shift: rule.smoothing_shift,
            }),
            golden: package.golden().map(|golden| Golden {
                audio_samples: golden.audio.map(<[i16]>::len),
                feature_rows: golden.features.len() / row_len,
                output_rows: golden.logits.len() / classifier.classes,
            }),
        }
    }

    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let provenance = &self.provenance;
        writeln!(out, "{}: {}", provenance.name, self.labels.join(", "))?;
        writeln!(out, "  made by      {}", provenance.tool)?;
        writeln!(out, "  from         {} (SHA-256)", provenance.source_sha256)?;
        writeln!(out, "  calibrated   {}", provenance.calibration)?;
        writeln!(out, "  measured     {}", provenance.metrics)?;
        writeln!(out, "  signed       {}", self.signature)?;
        writeln!(
            out,
            "  size         {} bytes, of which {} weights; {} parameters\n",
            self.package_bytes, self.weight_bytes, self.parameters
        )?;

        let mut table = output::table(&[
            "layer",
            "input",
            "output",
            "stride",
            "MACs",
            "weights B",
            "state B",
        ]);
        for layer in &self.layers {
            let residual = if layer.residual { " + residual" } else { "" };
            table.add_row([
                format!("{}{residual}", layer.role),
                shape(layer.input),
                shape(layer.output),
                layer
                    .stride
                    .map_or(String::new(), |[time, frequency]| match time == frequency {
                        true => time.to_string(),
                        false => format!("{time}×{frequency}"),
                    }),
                layer.macs.to_string(),
                layer.weight_bytes.to_string(),
                layer.state_bytes.to_string(),
            ]);
        }
        output::align_right(&mut table, &[3, 4, 5, 6]);
        writeln!(out, "{table}\n")?;
        write!(
            out,
            "{:.2} million MACs for {} rows",
            self.macs as f64 / 1e6,
            self.nominal_rows
        )?;
        match self.macs_per_second {
            Some(per_second) => {
                writeln!(out, "; {:.2} million per second of audio", per_second / 1e6)?
            }
            None => writeln!(out)?,
        }

        let memory = &self.memory;
        writeln!(out, "\narena in bytes (exact), by rows per call:")?;
        let whole = Arena {
            stripe_rows: self.nominal_rows,
            bytes: memory.arena_whole_clip_bytes,
        };
        for arena in memory.arena.iter().chain([&whole]) {
            writeln!(out, "  {:6} {:9}", arena.stripe_rows, arena.bytes)?;
        }
        writeln!(
            out,
            "  layer by layer over whole tensors, it would be {}",
            memory.layer_by_layer_bytes
        )?;
        if memory.frontend_bytes > 0 {
            writeln!(
                out,
                "  the front end needs another {}",
                memory.frontend_bytes
            )?;
        }
        writeln!(
            out,
            "on a microcontroller, row by row: exactly {} bytes of flash for the package and {} bytes of static memory; `cargo xtask firmware` measures program and stack",
            memory.flash_bytes, memory.static_bytes
        )?;
        if let Some(plan) = &memory.plan {
            writeln!(out)?;
            plan.print(out)?;
        }

        if let Some(mel) = &self.mel {
            writeln!(
                out,
                "\nmel contract: {} Hz, FFT {}, window {}, hop {} ({:.1} ms per row), {} bands {}–{} Hz ({}),",
                mel.sample_rate_hz,
                mel.fft,
                mel.window_samples,
                mel.hop_samples,
                1000.0 * mel.hop_samples as f64 / f64::from(mel.sample_rate_hz),
                mel.bands,
                mel.low_hz,
                mel.high_hz,
                mel.scale
            )?;
            writeln!(
                out,
                "  range {} dB below a reference that falls {} dB/s, to no less than {} dB; DC blocker 2^-{}",
                mel.range_db, mel.release_db_per_s, mel.reference_floor_db, mel.dc_shift
            )?;
        } else {
            writeln!(out, "\nno mel contract: takes feature rows, not audio")?;
        }
        writeln!(
            out,
            "logits: running mean over {} output rows",
            self.pool_rows
        )?;
        if let Some(decision) = &self.decision {
            writeln!(
                out,
                "decision: a label enters at {} and leaves below {}; silence below {} dBFS",
                decision.enter, decision.leave, decision.silence_dbfs
            )?;
        }
        match &self.golden {
            Some(golden) => writeln!(
                out,
                "golden vectors: {} samples, {} feature rows, {} output rows",
                golden.audio_samples.unwrap_or(0),
                golden.feature_rows,
                golden.output_rows
            )?,
            None => writeln!(out, "no golden vectors")?,
        }
        Ok(())
    }
}

impl LayerLine {
    fn new(layer: &Layer, input_rows: usize, output_rows: usize) -> Self {
        let whole = |rows, shape: TensorShape| [rows, shape.width.into(), shape.channels.into()];
        Self {
            role: layer.kind.to_string(),
            input: whole(input_rows, layer.input),
            output: whole(output_rows, layer.output),
            stride: layer.spatial.map(|s| [s.stride_time, s.stride_freq]),
            padding: layer.spatial.map(|s| [s.pad_time, s.pad_freq]),
            residual: layer.residual,
            macs: layer.macs_per_row * output_rows as u64,
            weight_bytes: layer.weight_bytes,
            state_bytes: layer.state_bytes,
        }
    }
}

fn shape([rows, width, channels]: [usize; 3]) -> String {
    format!("{rows}×{width}×{channels}")
}

/// The value as written in the contract, before it became an integer.
fn rounded(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
