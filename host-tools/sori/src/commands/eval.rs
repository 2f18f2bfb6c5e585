//! `sori eval`: accuracy on labelled audio, and what is taken for what.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use sori_listener::Verdict;
use sori_nn::Backend;

use crate::backend::Weights;
use crate::confusion::Confusion;
use crate::package::{self, Audible};
use crate::{audio, batch, hearing, output};

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A folder with one folder a genre: DIR/GENRE/*.wav|flac|mp3|ogg
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The package; without it the genre model that is built in
    #[arg(long, value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// Draw the confusion matrix
    #[arg(long, value_name = "FILE.png")]
    png: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: batch::Threads,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema_version: u32,
    model: &'a str,
    /// Share of the clips whose most probable label is their folder's.
    accuracy: f64,
    /// Clips that were heard.
    n: usize,
    /// Clips that could not be read, or were too short to tell.
    failed: usize,
    /// Clips that a listener would have called `unknown` or `silence`.
    rejected: usize,
    labels: &'a [&'a str],
    /// `[folder's label][most probable label]`.
    confusion: &'a [Vec<usize>],
    per_label: Vec<PerLabel<'a>>,
}

#[derive(Debug, Serialize)]
struct PerLabel<'a> {
    label: &'a str,
    n: usize,
    recall: Option<f64>,
    precision: Option<f64>,
}

impl Eval {
    pub(crate) fn run(self, backend: Backend) -> Result<()> {
        self.threads.limit()?;
        let bytes = package::read_or_built_in(self.model.as_deref())?;
        let model = Audible::new(&bytes, self.model.as_deref())?;
        let mut weights = Weights::new(&model.package, backend);
        let prepared = weights.prepare(&model.package, backend)?;
        let (sources, truth) = labelled(&self.folder, &model.labels)?;
        if !self.json {
            output::line(&model.headline(sources.len()))?;
        }
        let mut confusion = Confusion::new(model.labels.len());
        let (mut rejected, mut n) = (0, 0);
        let outcome = batch::run(
            &sources,
            |source| hearing::hear(&source.path, &prepared, &model.mel),
            |source, result| {
                let label = truth[n];
                n += 1;
                let Ok(heard) = result else {
                    return Ok(());
                };
                batch::warn(source, &heard.warnings);
                match heard.clip.best {
                    Some(best) => {
                        confusion.add(label, best.into());
                        let named = matches!(heard.clip.verdict, Verdict::Label(_));
                        rejected += usize::from(!named);
                    }
                    None => eprintln!(
                        "sori: {} is too short to tell: it is not counted",
                        source.path.display()
                    ),
                }
                Ok(())
            },
        );
        let counted = confusion.total();
        if counted == 0 {
            outcome?;
            bail!(
                "no clip of {} is long enough to tell",
                self.folder.display()
            );
        }
        let report = Report {
            schema_version: SCHEMA_VERSION,
            model: model.package.provenance().name,
            accuracy: confusion.accuracy(),
            n: counted,
            failed: sources.len() - counted,
            rejected,
            labels: &model.labels,
            confusion: confusion.rows(),
            per_label: model
                .labels
                .iter()
                .enumerate()
                .map(|(k, label)| PerLabel {
                    label,
                    n: confusion.with_label(k),
                    recall: confusion.recall(k),
                    precision: confusion.precision(k),
                })
                .collect(),
        };
        if self.json {
            output::line(&serde_json::to_string(&report)?)?;
        } else {
            print(&report, &mut io::stdout())?;
        }
        if let Some(path) = &self.png {
            output::write_atomically(path, &confusion.png(&model.labels)?)?;
        }
        outcome
    }
}

/// The audio below the folders that bear a label, and the number of each one's label.
fn labelled(folder: &Path, labels: &[&str]) -> Result<(Vec<audio::Source>, Vec<usize>)> {
    ensure!(
        folder.is_dir(),
        "{} is no folder: give one that holds a folder a genre",
        folder.display()
    );
    let mut unlabelled = Vec::<String>::new();
    let pairs: Vec<_> = audio::find(&[folder.to_path_buf()])?
        .into_iter()
        .filter_map(|source| {
            let parts = source.relative.components().count();
            let genre = match source.relative.components().next() {
                Some(first) if parts > 1 => first.as_os_str().to_string_lossy().into_owned(),
                _ => ".".into(),
            };
            let label = labels.iter().position(|label| same(label, &genre));
            if label.is_none() && !unlabelled.contains(&genre) {
                unlabelled.push(genre);
            }
            Some((source, label?))
        })
        .collect();
    let known = labels.join(", ");
    if pairs.is_empty() {
        bail!(
            "{} has no folder named after a label with audio in it: {known}",
            folder.display()
        );
    }
    for genre in unlabelled {
        eprintln!("sori: {genre} is none of the labels ({known}): its files are not counted");
    }
    Ok(pairs.into_iter().unzip())
}

/// `Hip-Hop` and `hiphop` are one genre.
fn same(label: &str, folder: &str) -> bool {
    let plain = |text: &str| {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    plain(label) == plain(folder)
}

fn print(report: &Report<'_>, out: &mut impl io::Write) -> io::Result<()> {
    let mut headings = vec!["", "clips", "recall", "precision", "│"];
    headings.extend(report.labels);
    let mut table = output::table(&headings);
    let percent = |share: Option<f64>| match share {
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => "–".into(),
    };
    for (line, counts) in report.per_label.iter().zip(report.confusion) {
        let mut row = vec![
            line.label.to_string(),
            line.n.to_string(),
            percent(line.recall),
            percent(line.precision),
            "│".into(),
        ];
        row.extend(counts.iter().map(|&count| match count {
            0 => "·".into(),
            count => count.to_string(),
        }));
        table.add_row(row);
    }
    let columns: Vec<usize> = (1..headings.len()).collect();
    output::align_right(&mut table, &columns);
    writeln!(out, "{table}\n")?;
    writeln!(
        out,
        "accuracy {:.1} % of {} clips ({} would be called unknown or silence)",
        100.0 * report.accuracy,
        report.n,
        report.rejected
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_may_spell_a_label_their_own_way() {
        assert!(same("hiphop", "Hip-Hop"));
        assert!(same("rock", "rock"));
        assert!(!same("rock", "blues-rock"));
    }
}
