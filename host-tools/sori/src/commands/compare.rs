//! `sori compare`: the differences between two networks.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use sori_host::{ACCURACY, Comparison, Rows, logits_of_rows};
use sori_package::text::Plain;
use sori_package::write::PackageBytes;
use sori_package::{Package, TensorShape};

use crate::exit::Failure;
use crate::onnx::{self, Onnx, Reference};
use crate::{clips, output, package};

#[derive(Debug, Args)]
#[command(
    after_help = "If the clips are in folders named after labels (DIR/LABEL/*), the change in accuracy is shown as well."
)]
pub(crate) struct Compare {
    /// A package, or an ONNX network (run in float)
    #[arg(value_name = "A.sori|A.onnx")]
    first: PathBuf,
    /// The package or network to compare it with
    #[arg(value_name = "B.sori|B.onnx")]
    second: PathBuf,
    /// Folder of audio or .npy feature rows to run both on
    #[arg(long, value_name = "DIR")]
    on: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A file of either kind.
enum Network {
    Package(PackageBytes),
    Onnx(Box<Onnx>),
}

impl Network {
    fn read(path: &Path) -> Result<Self> {
        Ok(match onnx::is_onnx(path) {
            true => Self::Onnx(Box::new(onnx::read(path)?)),
            false => Self::Package(package::read(path)?),
        })
    }

    /// Makes it ready to run.
    fn contender(&self, path: &Path) -> Result<Contender<'_>> {
        Ok(match self {
            Self::Package(bytes) => Contender::Package(Box::new(package::parse(bytes, path)?)),
            Self::Onnx(onnx) => Contender::Onnx(onnx),
        })
    }
}

enum Contender<'a> {
    Package(Box<Package<'a>>),
    Onnx(&'a Onnx),
}

impl<'a> Contender<'a> {
    fn package(&self) -> Option<&Package<'a>> {
        match self {
            Self::Package(package) => Some(package),
            Self::Onnx(_) => None,
        }
    }

    fn onnx(&self) -> Option<&'a Onnx> {
        match *self {
            Self::Package(_) => None,
            Self::Onnx(onnx) => Some(onnx),
        }
    }

    /// Row shape and number of classes, which must be equal to compare two networks.
    fn shape(&self) -> (TensorShape, usize) {
        match self {
            Self::Package(package) => (package.input(), package.classifier().classes),
            Self::Onnx(onnx) => (onnx.input_shape(), onnx.classes()),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    networks: [String; 2],
    labels: Vec<&'a str>,
    #[serde(flatten)]
    comparison: Comparison,
}

impl Compare {
    pub(crate) fn run(self) -> Result<()> {
        let paths = [&self.first, &self.second];
        let files = [Network::read(paths[0])?, Network::read(paths[1])?];
        let networks = [files[0].contender(paths[0])?, files[1].contender(paths[1])?];
        // A package defines its input, and how many rows the mean of the logits covers.
        let packages = || networks.iter().filter_map(Contender::package);
        let Some(listener) = packages().min_by_key(|package| package.classifier().pool_rows) else {
            return Err(Failure::Usage(
                "both are ONNX networks: one of them must be a package, which defines the input"
                    .into(),
            )
            .into());
        };
        let [(row, classes), (other_row, other_classes)] = [0, 1].map(|n| networks[n].shape());
        ensure!(
            row == other_row && classes == other_classes,
            "cannot compare networks of different shapes: rows of {}×{} and {}×{}, {classes} and {other_classes} classes",
            row.width,
            row.channels,
            other_row.width,
            other_row.channels,
        );
        let labels: Vec<&str> = listener.labels().collect();
        let mel = packages().find_map(Package::mel);
        let clips = clips::load(&self.on, mel.as_ref(), row)?;
        let (expected, rows): (Vec<Option<usize>>, Vec<Rows>) = clips
            .into_iter()
            .map(|clip| {
                let class = labels.iter().position(|label| *label == clip.folder);
                (class, clip.rows)
            })
            .unzip();
        let preprocess = |rows: &mut [f32]| {
            if let Some(onnx) = networks.iter().find_map(Contender::onnx) {
                onnx.preprocess(rows);
            }
        };
        let logits = |network: &Contender<'_>| match network {
            Contender::Package(package) => logits_of_rows(package, &rows, &preprocess),
            Contender::Onnx(onnx) => Reference::new(onnx).logits_of_rows(
                &rows,
                &listener.input_activation(),
                listener.classifier().pool_rows,
            ),
        };
        let unknown = sori_host::unknown(listener);
        let pool_rows = listener.classifier().pool_rows;
        let answers = |network: &Contender<'_>| match network {
            Contender::Package(package) => sori_host::answers(package, &rows, &preprocess),
            Contender::Onnx(onnx) => {
                let reference = Reference::new(onnx);
                let input = listener.input_activation();
                rows.par_iter()
                    .map(|rows| {
                        let logits = reference.stream_logits(&rows.floats(&input), pool_rows)?;
                        sori_host::answer_of(&logits, unknown).context("no class can be named")
                    })
                    .collect()
            }
        };
        let [first, second] = [logits(&networks[0])?, logits(&networks[1])?];
        let [ours, theirs] = [answers(&networks[0])?, answers(&networks[1])?];
        let report = Report {
            networks: paths.map(|path| path.display().to_string()),
            comparison: Comparison::new([&first, &second], [&ours, &theirs], &expected)
                .context("no clips to compare on")?,
            labels,
        };
        match self.json {
            true => output::line(&serde_json::to_string_pretty(&report)?),
            false => Ok(report.print(&mut io::stdout())?),
        }
    }
}

impl Report<'_> {
    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let Comparison {
            clips,
            agreement,
            sqnr_db,
            largest_difference,
            mean_probability_change,
            accuracy,
            per_class,
            ..
        } = &self.comparison;
        let [a, b] = self.networks.each_ref().map(Plain);
        writeln!(out, "A {a}\nB {b}\n")?;
        let mut table =
            output::table(&["class", "named by A", "by B", "clips", "A right", "B right"]);
        for (n, class) in per_class.iter().enumerate() {
            let label = self
                .labels
                .get(n)
                .map_or_else(|| n.to_string(), |l| l.to_string());
            let right = class.right.map(|right| match class.labelled {
                0 => String::new(),
                _ => right.to_string(),
            });
            let [a, b] = class.named.map(|named| named.to_string());
            let [a_right, b_right] = right;
            let labelled = match class.labelled {
                0 => String::new(),
                n => n.to_string(),
            };
            table.add_row([label, a, b, labelled, a_right, b_right]);
        }
        output::align_right(&mut table, &[1, 2, 3, 4, 5]);
        writeln!(out, "{table}\n")?;
        writeln!(
            out,
            "same class for {:.1} % of {clips} clips",
            100.0 * agreement
        )?;
        writeln!(
            out,
            "logits: {sqnr_db:.1} dB, largest difference {largest_difference:.3}; probabilities change by {:.1} points on average",
            100.0 * mean_probability_change
        )?;
        if let Some([a, b]) = accuracy {
            writeln!(
                out,
                "accuracy: A {:.1} %, B {:.1} % ({:+.1} points); {ACCURACY}",
                100.0 * a,
                100.0 * b,
                100.0 * (b - a)
            )?;
        }
        Ok(())
    }
}
