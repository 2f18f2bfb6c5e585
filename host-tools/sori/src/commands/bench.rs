//! `sori bench`: time and memory of a network on this machine.

use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_dsp::FrontEnd;
use sori_nn::memory::{self, LayerKind};
use sori_nn::{Backend, CacheLine, Network, Prepared};
use sori_package::text::Plain;
use sori_package::write::PackageBytes;
use sori_package::{MelContract, Package};

use crate::backend::Weights;
use crate::onnx::{self, TractInference};
use crate::stopwatch::{self, Clock, Lent, Spread};
use crate::{output, package};

#[derive(Debug, Args)]
#[command(
    after_help = "Weights are packed before timing starts. One inference is one whole input as trained."
)]
pub(crate) struct Bench {
    /// A package, or an ONNX network (calibrated on noise, for timing only)
    /// [default: the built-in genre model]
    #[arg(value_name = "FILE.sori|FILE.onnx")]
    model: Option<PathBuf>,
    /// Threads sharing one inference
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// An ONNX network to time in tract for comparison, on one thread; repeatable
    #[arg(long, value_name = "FILE.onnx")]
    tract: Vec<PathBuf>,
    /// Seconds to repeat each measurement
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print only the median time of one inference, in nanoseconds
    #[arg(long, conflicts_with_all = ["json", "tract"])]
    median_ns: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "it must be between 0 and 3600".into())
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema_version: u32,
    name: &'a str,
    file: String,
    /// An ONNX network was given: the package's results are meaningless.
    calibrated_on_noise: bool,
    backend: &'a str,
    threads: u16,
    /// Rows, width, channels of one whole input.
    input: [usize; 3],
    /// Multiplications for one whole input.
    macs: u64,
    /// One whole input at once.
    inference: Inference,
    /// The same rows, one at a time.
    row_by_row: Spread,
    /// Other networks in tract.
    tract: Vec<Peer>,
    /// Only of networks that hear audio.
    audio: Option<Audio>,
    layers: Vec<Cost>,
    stages: Vec<Cost>,
    memory: Memory,
}

#[derive(Debug, Serialize)]
struct Inference {
    #[serde(flatten)]
    spread: Spread,
    gmacs_per_second: f64,
    per_second: f64,
}

/// A whole inference by another engine.
#[derive(Debug, Serialize)]
struct Peer {
    file: String,
    #[serde(flatten)]
    spread: Spread,
    /// Its median divided by Sori's.
    ratio: f64,
}

/// One second of audio, live.
#[derive(Debug, Serialize)]
struct Audio {
    network: Spread,
    front_end: Spread,
    front_end_backend: &'static str,
    /// Seconds of audio processed per second.
    real_time_factor: f64,
}

/// The share of one layer, or stage, in one inference.
#[derive(Debug, Serialize)]
struct Cost {
    name: String,
    median_ns: f64,
    /// Of the sum over all layers.
    share: f64,
    macs: u64,
    gmacs_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Bytes, for a whole input at once.
    arena: usize,
    /// Bytes, for a row at a time.
    arena_row: usize,
    /// Bytes that the backend needs besides the package.
    packed_weights: usize,
    /// Size of the file in bytes.
    package: usize,
}

impl Bench {
    pub(crate) fn run(self, backend: Backend) -> Result<()> {
        let bytes = self.package()?;
        let package = package::parse(&bytes, self.name())?;
        let mut weights = Weights::new(&package, backend);
        let packed_weights = weights.bytes();
        let subject = Subject {
            prepared: weights.prepare(&package, backend)?,
            threads: self.threads.into(),
            seconds: self.seconds,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.into());
        let pool = pool.build().context("cannot start the threads")?;
        if self.median_ns {
            let spread = pool.install(|| subject.inference())?;
            return output::line(&format!("{:.0}", spread.median_ns));
        }
        let layers = Layers::of(&package);
        let macs = layers.macs.iter().sum();
        let (inference, row_by_row, times) = pool.install(|| {
            anyhow::Ok((
                subject.inference()?,
                subject.row_by_row()?,
                subject.layers(&layers)?,
            ))
        })?;
        let costs = layers.costs(&times);
        let rows = package.nominal_rows();
        let shape = package.input();
        let mel = package.mel();
        let report = Report {
            schema_version: SCHEMA_VERSION,
            name: package.provenance().name,
            file: self.name().display().to_string(),
            calibrated_on_noise: self.is_onnx(),
            backend: backend.name(),
            threads: self.threads,
            input: [rows, shape.width.into(), shape.channels.into()],
            macs,
            inference: Inference {
                spread: inference,
                gmacs_per_second: macs as f64 / inference.median_ns,
                per_second: 1e9 / inference.median_ns,
            },
            row_by_row,
            tract: self.tract(rows, inference.median_ns)?,
            audio: mel
                .map(|mel| subject.audio(&mel, row_by_row.scaled(1.0 / rows as f64)))
                .transpose()?,
            stages: stages(&layers, &costs),
            layers: costs,
            memory: Memory {
                arena: Network::arena_bytes(&subject.prepared, rows),
                arena_row: Network::arena_bytes(&subject.prepared, 1),
                packed_weights,
                package: bytes.len(),
            },
        };
        match self.json {
            true => output::line(&serde_json::to_string_pretty(&report)?),
            false => Ok(report.print(&mut io::stdout())?),
        }
    }

    /// Compares with an inference of `ours_ns` nanoseconds.
    fn tract(&self, rows: usize, ours_ns: f64) -> Result<Vec<Peer>> {
        let peer = |path: &PathBuf| {
            let onnx = sori_host::file::read(path, sori_host::file::MAX_DATA)
                .with_context(|| format!("cannot read {}: check the path", path.display()))?;
            let tract = TractInference::new(&onnx, rows)
                .with_context(|| format!("cannot time {}", path.display()))?;
            tract.run()?;
            let spread = stopwatch::time(self.seconds, &mut || {
                // It already ran once without an error.
                let _ = tract.run();
            });
            Ok(Peer {
                file: path.display().to_string(),
                ratio: spread.median_ns / ours_ns,
                spread,
            })
        };
        self.tract.iter().map(peer).collect()
    }

    fn name(&self) -> &Path {
        package::name(self.model.as_deref())
    }

    fn is_onnx(&self) -> bool {
        self.model.as_deref().is_some_and(onnx::is_onnx)
    }

    fn package(&self) -> Result<PackageBytes> {
        match self.model.as_deref() {
            Some(path) if onnx::is_onnx(path) => onnx::package_for_timing(path),
            model => package::read_or_built_in(model),
        }
    }
}

/// The network being timed.
struct Subject<'p> {
    prepared: Prepared<'p>,
    threads: usize,
    seconds: f64,
}

impl Subject<'_> {
    fn rows(&self) -> usize {
        self.prepared.package().nominal_rows()
    }

    /// One whole input.
    fn clip(&self) -> Vec<i8> {
        noise(self.rows() * self.prepared.package().input().row_len())
            .map(|x| x as i8)
            .collect()
    }

    fn with_network<T>(
        &self,
        stripe: usize,
        clock: Option<&Clock>,
        run: impl FnOnce(&mut Network<'_, '_, Lent<'_>>) -> T,
    ) -> Result<T> {
        let lines = Network::arena_bytes(&self.prepared, stripe).div_ceil(size_of::<CacheLine>());
        let mut arena = vec![CacheLine([0; 64]); lines];
        let arena = bytemuck::cast_slice_mut(&mut arena);
        let lent = Lent {
            threads: self.threads,
            clock,
        };
        let mut network = Network::with_runtime(&self.prepared, arena, stripe, lent)?;
        Ok(run(&mut network))
    }

    fn inference(&self) -> Result<Spread> {
        let clip = self.clip();
        self.with_network(self.rows(), None, |network| {
            stopwatch::time(self.seconds, &mut || {
                black_box(network.clip(black_box(&clip)));
            })
        })
    }

    /// In one endless stream.
    fn row_by_row(&self) -> Result<Spread> {
        let clip = self.clip();
        self.with_network(1, None, |network| {
            let row_len = network.row_len();
            stopwatch::time(self.seconds, &mut || {
                for row in clip.chunks_exact(row_len) {
                    network.push(black_box(row), &mut |logits| {
                        black_box(logits);
                    });
                }
            })
        })
    }

    /// Median nanoseconds of each layer.
    fn layers(&self, layers: &Layers) -> Result<Vec<f64>> {
        let clip = self.clip();
        let clock = Clock::new(layers.kinds.clone());
        self.with_network(self.rows(), Some(&clock), |network| {
            stopwatch::time(self.seconds, &mut || {
                black_box(network.clip(black_box(&clip)));
                clock.stop();
            })
        })?;
        Ok(clock.medians())
    }

    fn audio(&self, mel: &MelContract<'_>, row: Spread) -> Result<Audio> {
        let rows_per_second = f64::from(mel.sample_rate_hz) / mel.hop_samples as f64;
        let network = row.scaled(rows_per_second);
        let backend = sori_listener::frontend_backend(self.prepared.backend());
        let mut workspace = vec![0; FrontEnd::workspace_len(mel)];
        let mut frontend = FrontEnd::new(mel, &mut workspace)?.with_backend(backend);
        // A second, 24 dB below full scale.
        let second: Vec<i32> = noise(mel.sample_rate_hz as usize)
            .map(|x| x >> 12)
            .collect();
        let front_end = stopwatch::time(self.seconds, &mut || {
            for block in second.chunks(mel.hop_samples) {
                frontend.push(black_box(block), &mut |row| {
                    black_box(row.features);
                });
            }
        });
        Ok(Audio {
            network,
            front_end,
            front_end_backend: backend.name(),
            real_time_factor: 1e9 / (network.median_ns + front_end.median_ns),
        })
    }
}

/// The same numbers every time.
fn noise(len: usize) -> impl Iterator<Item = i32> {
    let mut state = 1u64;
    (0..len).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as i32
    })
}

/// The layers in order, and their multiplications in one inference.
struct Layers {
    kinds: Vec<LayerKind>,
    macs: Vec<u64>,
}

impl Layers {
    fn of(package: &Package<'_>) -> Self {
        let mut rows = package.nominal_rows();
        let (mut kinds, mut macs) = (Vec::new(), Vec::new());
        memory::for_each_layer(package, &mut |layer| {
            rows = layer.output_rows(rows);
            // The classifier runs once, on the mean of all rows.
            let times = match layer.kind {
                LayerKind::Classifier => 1,
                _ => rows as u64,
            };
            kinds.push(layer.kind);
            macs.push(times * layer.macs_per_row);
        });
        Self { kinds, macs }
    }

    fn costs(&self, times: &[f64]) -> Vec<Cost> {
        let sum: f64 = times.iter().sum();
        let kinds = self.kinds.iter().zip(&self.macs);
        let cost = |((kind, &macs), &median_ns): ((&LayerKind, _), _)| {
            Cost::new(kind.to_string(), median_ns, sum, macs)
        };
        kinds.zip(times).map(cost).collect()
    }
}

impl Cost {
    fn new(name: String, median_ns: f64, sum: f64, macs: u64) -> Self {
        Self {
            name,
            median_ns,
            share: median_ns / sum.max(1.0),
            macs,
            gmacs_per_second: macs as f64 / median_ns.max(1.0),
        }
    }
}

/// The sums over layers of one kind.
fn stages(layers: &Layers, costs: &[Cost]) -> Vec<Cost> {
    let sum = costs.iter().map(|cost| cost.median_ns).sum();
    let all = LayerKind::STAGES.into_iter().map(|name| {
        let mine = layers.kinds.iter().zip(costs);
        let mine = mine.filter(|(kind, _)| kind.stage() == name);
        let (time, macs) = mine.fold((0.0, 0), |(time, macs), (_, cost)| {
            (time + cost.median_ns, macs + cost.macs)
        });
        Cost::new(name.into(), time, sum, macs)
    });
    all.filter(|stage| stage.macs > 0).collect()
}

impl Report<'_> {
    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let [rows, width, channels] = self.input;
        let plural = if self.threads == 1 { "" } else { "s" };
        let machine = format!("{}, {} thread{plural}", self.backend, self.threads);
        writeln!(
            out,
            "{} ({}), {machine}, input {rows}×{width}×{channels}, {:.1} million multiplications",
            self.name,
            Plain(&self.file),
            self.macs as f64 / 1e6
        )?;
        if self.calibrated_on_noise {
            writeln!(
                out,
                "calibrated on noise, for timing only: `sori quantize` makes a package to use"
            )?;
        }

        let mut table = output::table(&["", "median", "p10", "p90", "runs"]);
        let mut add = |what: String, spread: &Spread| {
            let [median, p10, p90] = [spread.median_ns, spread.p10_ns, spread.p90_ns].map(duration);
            table.add_row([what, median, p10, p90, spread.runs.to_string()]);
        };
        add("one inference".into(), &self.inference.spread);
        add(
            format!("the same {rows} rows, one at a time"),
            &self.row_by_row,
        );
        for peer in &self.tract {
            add(
                format!("tract, {} (× {:.1})", Plain(&peer.file), peer.ratio),
                &peer.spread,
            );
        }
        if let Some(audio) = &self.audio {
            add("one second of audio, row by row".into(), &audio.network);
            let backend = audio.front_end_backend;
            add(
                format!("its front end ({backend}, 1 thread)"),
                &audio.front_end,
            );
        }
        output::align_right(&mut table, &[1, 2, 3, 4]);
        writeln!(out, "\n{table}\n")?;

        costs("layer", &self.layers, out)?;
        costs("stage", &self.stages, out)?;
        let Memory {
            arena,
            arena_row,
            packed_weights,
            package,
        } = self.memory;
        writeln!(
            out,
            "arena {arena} bytes ({arena_row} row by row), packed weights {packed_weights} bytes, package {package} bytes"
        )?;
        writeln!(
            out,
            "{:.1} GMAC/s, {:.1} inferences per second",
            self.inference.gmacs_per_second, self.inference.per_second
        )?;
        match &self.audio {
            Some(audio) => writeln!(
                out,
                "live, front end and network: real time × {:.0} on this machine, {machine}",
                audio.real_time_factor
            ),
            None => writeln!(
                out,
                "{:.0} images per second on this machine, {machine}",
                self.inference.per_second
            ),
        }
    }
}

fn costs(heading: &str, costs: &[Cost], out: &mut impl io::Write) -> io::Result<()> {
    let mut table = output::table(&[heading, "µs", "share", "", "million MACs", "GMAC/s"]);
    for cost in costs {
        table.add_row([
            cost.name.clone(),
            format!("{:.1}", cost.median_ns / 1e3),
            format!("{:.1} %", 100.0 * cost.share),
            output::bar(cost.share, 10),
            format!("{:.2}", cost.macs as f64 / 1e6),
            format!("{:.1}", cost.gmacs_per_second),
        ]);
    }
    output::align_right(&mut table, &[1, 2, 4, 5]);
    writeln!(out, "{table}\n")
}

/// A human-readable duration.
fn duration(ns: f64) -> String {
    match ns {
        _ if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        _ if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}
