//! `sori classify`: the genre of each file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sori_nn::Backend;

use crate::backend::Weights;
use crate::hearing::{self, Heard};
use crate::output::Shown as _;
use crate::package::{self, Audible};
use crate::{audio, batch, output};

#[derive(Debug, Args)]
pub(crate) struct Classify {
    /// Audio files (wav, flac, mp3, ogg), or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    inputs: Vec<PathBuf>,
    /// The package [default: the built-in genre model]
    #[arg(long, value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// Print one line of JSON per file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: batch::Threads,
}

/// Version of the JSON lines.
const SCHEMA_VERSION: u32 = 1;

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema_version: u32,
    file: String,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Heard {
        /// A label, `unknown` or `silence`.
        verdict: &'a str,
        /// The most probable label, whatever the verdict; `None` if the clip is too short.
        best: Option<&'a str>,
        confidence: Option<f64>,
        probabilities: BTreeMap<&'a str, f64>,
        seconds: f64,
        peak_dbfs: f64,
        warnings: &'a [String],
    },
    Failed {
        error: String,
    },
}

impl Classify {
    pub(crate) fn run(self, backend: Backend) -> Result<()> {
        self.threads.limit()?;
        let bytes = package::read_or_built_in(self.model.as_deref())?;
        let model = Audible::new(&bytes, self.model.as_deref())?;
        let mut weights = Weights::new(&model.package, backend);
        let prepared = weights.prepare(&model.package, backend)?;
        let sources = audio::find(&self.inputs)?;
        let started = Instant::now();
        let mut table = output::table(&["clip", "genre", "probability", "", "then", "length"]);
        let (mut heard, mut seconds) = (0, 0.0);
        let mut stdout = std::io::stdout();
        if !self.json {
            output::line(&model.headline(sources.len()))?;
        }
        let outcome = batch::run(
            &sources,
            |_, source| hearing::hear(&source.path, &prepared, &model.mel),
            |_, source, result| {
                if let Ok(clip) = &result {
                    batch::warn(source, &clip.warnings);
                    heard += 1;
                    seconds += clip.seconds;
                }
                if self.json {
                    let line = line(source, &result, &model.labels);
                    writeln!(stdout, "{}", serde_json::to_string(&line)?)?;
                } else if let Ok(clip) = &result {
                    table.add_row(row(source, clip, &model.labels));
                }
                Ok(())
            },
        );
        if heard > 0 && !self.json {
            output::align_right(&mut table, &[3, 5]);
            let spent = started.elapsed().as_secs_f64();
            let clips = if heard == 1 { "clip" } else { "clips" };
            writeln!(stdout, "{table}\n")?;
            writeln!(
                stdout,
                "{heard} {clips}, {seconds:.1} s of audio, in {spent:.2} s: {:.0} × real time",
                seconds / spent.max(1e-9)
            )?;
        }
        outcome
    }
}

fn line<'a>(source: &audio::Source, result: &'a Result<Heard>, labels: &[&'a str]) -> Line<'a> {
    let outcome = match result {
        Ok(heard) => {
            let clip = &heard.clip;
            let probabilities = clip.probabilities_q15.iter();
            let best = clip.best.map(usize::from);
            Outcome::Heard {
                verdict: hearing::name(clip.verdict, labels),
                best: best.map(|best| labels[best]),
                confidence: best.map(|best| hearing::fraction(clip.probabilities_q15[best])),
                probabilities: labels
                    .iter()
                    .copied()
                    .zip(probabilities.map(|&p| hearing::fraction(p)))
                    .collect(),
                seconds: heard.seconds,
                peak_dbfs: hearing::decibels(clip.peak_dbfs_q8),
                warnings: &heard.warnings,
            }
        }
        Err(error) => Outcome::Failed {
            error: format!("{error:#}"),
        },
    };
    Line {
        schema_version: SCHEMA_VERSION,
        file: source.path.display().to_string(),
        outcome,
    }
}

/// Clip, verdict, a bar and its probability, the two most probable others, length.
fn row(source: &audio::Source, heard: &Heard, labels: &[&str]) -> [String; 6] {
    let clip = &heard.clip;
    let mut ranked: Vec<(&str, f64)> = labels
        .iter()
        .copied()
        .zip(clip.probabilities_q15.iter().map(|&p| hearing::fraction(p)))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let percent = |(label, p): &(&str, f64)| format!("{label} {:.0} %", 100.0 * p);
    let verdict = hearing::name(clip.verdict, labels);
    let said = ranked.iter().find(|(label, _)| *label == verdict);
    let (bar, confidence) = match said.or(ranked.first()) {
        Some((_, p)) => (output::bar(*p, 10), format!("{:.0} %", 100.0 * p)),
        None => (String::new(), "too short".into()),
    };
    // For `unknown`, these are the closest genres.
    let others = ranked.iter().filter(|(label, _)| *label != verdict);
    let then: Vec<String> = others.take(2).map(percent).collect();
    [
        source.relative.shown().to_string(),
        verdict.into(),
        bar,
        confidence,
        then.join(", "),
        format!("{:.1} s", heard.seconds),
    ]
}
