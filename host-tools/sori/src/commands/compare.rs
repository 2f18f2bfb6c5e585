//! `sori compare`: what changes between two networks.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_package::Package;
use sori_package::write::PackageBytes;
use sori_quantize::{Comparison, Contender, Labelled, Onnx, compare};

use crate::exit::Failure;
use crate::package;
use crate::{clips, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Clips in folders named like labels (DIR/LABEL/*) also tell how accuracy changes."
)]
pub(crate) struct Compare {
    /// A package, or an ONNX network, which runs in float
    #[arg(value_name = "A.sori|A.onnx")]
    first: PathBuf,
    /// The other
    #[arg(value_name = "B.sori|B.onnx")]
    second: PathBuf,
    /// Audio files or .npy feature rows to run both on
    #[arg(long, value_name = "DIR")]
    on: PathBuf,
    /// Print the result as JSON
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
        let extension = path.extension();
        if extension.is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            let onnx =
                Onnx::read(path).with_context(|| format!("cannot use {}", path.display()))?;
            return Ok(Self::Onnx(Box::new(onnx)));
        }
        Ok(Self::Package(package::read(path)?))
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
        let networks = [Network::read(paths[0])?, Network::read(paths[1])?];
        let mut packages = Vec::new();
        for (network, path) in networks.iter().zip(paths) {
            packages.push(match network {
                Network::Package(bytes) => Some(package::parse(bytes, path)?),
                Network::Onnx(_) => None,
            });
        }
        let contender = |n: usize| match (&networks[n], &packages[n]) {
            (Network::Onnx(onnx), _) => Contender::Onnx(onnx),
            (_, Some(package)) => Contender::Package(package),
            (Network::Package(_), None) => unreachable!("it was parsed"),
        };
        let contenders = [contender(0), contender(1)];
        let listener: Option<&Package<'_>> = packages.iter().flatten().next();
        let Some(listener) = listener else {
            return Err(Failure::Usage(
                "both are ONNX networks: one of the two must be a package, which says how its input is made".into(),
            )
            .into());
        };
        let labels: Vec<&str> = listener.labels().collect();
        let found = clips::load(&self.on, listener.mel().as_ref(), listener.input())?;
        let clips: Vec<Labelled> = found
            .into_iter()
            .map(|clip| Labelled {
                class: labels.iter().position(|label| *label == clip.folder),
                rows: clip.rows,
            })
            .collect();
        let report = Report {
            networks: paths.map(|path| path.display().to_string()),
            comparison: compare(contenders, &clips)?,
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
        writeln!(out, "A {}\nB {}\n", self.networks[0], self.networks[1])?;
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
            "the same class on {:.1} % of {clips} clips",
            100.0 * agreement
        )?;
        writeln!(
            out,
            "logits: {sqnr_db:.1} dB, largest difference {largest_difference:.3}; probabilities change by {:.1} points in the mean",
            100.0 * mean_probability_change
        )?;
        if let Some([a, b]) = accuracy {
            writeln!(
                out,
                "accuracy: A {:.1} %, B {:.1} %, a change of {:+.1} points",
                100.0 * a,
                100.0 * b,
                100.0 * (b - a)
            )?;
        }
        Ok(())
    }
}
