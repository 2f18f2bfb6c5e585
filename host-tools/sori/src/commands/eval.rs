//! `sori eval`: accuracy on labelled audio, clean and in simulated rooms, and rejection of
//! non-music.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use sori_dsp::FrontEnd;
use sori_host::{dequantize, largest};
use sori_listener::{ClipSummary, Event};
use sori_nn::{Backend, Prepared};
use sori_package::write::PackageBytes;
use sori_package::{MelContract, Package};

use crate::backend::Weights;
use crate::evaluation::conditions::{self, CLEAN, CONDITIONS, Condition};
use crate::evaluation::{Answer, Evaluation, Excerpt, NotMusic};
use crate::exit::Failure;
use crate::hearing::Workspace;
use crate::onnx::{self, Onnx, Reference};
use crate::package::{self, Audible};
use crate::{audio, batch, exit, frontend, hearing, output};

#[derive(Debug, Args)]
#[command(
    after_help = "With --split, clips belong to tracks and tracks to folds, and accuracy is counted by track.\n`{fold}` in --model and --float is replaced by each fold's number, so that every clip is classified\nby the network trained without it (cross-validation)."
)]
pub(crate) struct Eval {
    /// A folder with one subfolder per genre: DIR/GENRE/*.wav|flac|mp3|ogg
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The package [default: the built-in genre model]
    #[arg(long, value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// CSV that assigns clips to tracks and folds; columns: file, genre, track, fold
    #[arg(long, value_name = "FILE.csv")]
    split: Option<PathBuf>,
    /// Evaluate only this fold's clips
    #[arg(long, value_name = "N", requires = "split")]
    fold: Option<usize>,
    /// The float network that the package was made from, for comparison
    #[arg(long, value_name = "FILE.onnx")]
    float: Option<PathBuf>,
    /// Also evaluate at low level, through a microphone, in rooms and in noise (all simulated),
    /// and on silence and noise alone
    #[arg(long)]
    conditions: bool,
    /// Folder of non-music (speech, …), which should be called unknown; repeatable
    #[arg(long, value_name = "DIR")]
    not_music: Vec<PathBuf>,
    /// Write an HTML report
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Draw the confusion matrix
    #[arg(long, value_name = "FILE.png")]
    png: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: batch::Threads,
}

/// A labelled file.
#[derive(Debug)]
struct Labelled {
    source: audio::Source,
    label: usize,
    track: String,
    fold: Option<usize>,
}

/// A line of a split file.
#[derive(Debug, Deserialize)]
struct SplitLine {
    file: PathBuf,
    genre: String,
    track: String,
    fold: usize,
}

/// The files that make up a network.
struct Files {
    fold: Option<usize>,
    path: Option<PathBuf>,
    bytes: PackageBytes,
    float: Option<Onnx>,
}

/// A network, ready to run.
struct Network<'n> {
    fold: Option<usize>,
    prepared: Prepared<'n>,
    mel: MelContract<'n>,
    float: Option<Reference<'n>>,
}

impl Eval {
    pub(crate) fn run(self, backend: Backend) -> Result<()> {
        self.threads.limit()?;
        let split = self.split.as_deref().map(read_split).transpose()?;
        let files = self.files(split.as_deref())?;
        let models = files
            .iter()
            .map(|files| Audible::new(&files.bytes, files.path.as_deref()))
            .collect::<Result<Vec<_>>>()?;
        let labels = models[0].labels.clone();
        ensure!(
            models.iter().all(|model| model.labels == labels),
            "the folds' packages have different labels: train all folds with the same labels"
        );
        let mut weights: Vec<_> = models
            .iter()
            .map(|model| Weights::new(&model.package, backend))
            .collect();
        let mut networks = Vec::new();
        for ((model, weights), files) in models.iter().zip(&mut weights).zip(&files) {
            networks.push(Network {
                fold: files.fold,
                prepared: weights.prepare(&model.package, backend)?,
                mel: model.mel,
                float: files.float.as_ref().map(Reference::new),
            });
        }
        let clips = self.clips(split, &labels)?;
        if !self.json {
            output::line(&models[0].headline(clips.len()))?;
        }
        let unknown = sori_host::unknown(&models[0].package);
        let asked = match self.conditions {
            true => [&[CLEAN][..], &CONDITIONS].concat(),
            false => vec![CLEAN],
        };
        let mut excerpts = Vec::new();
        let sources: Vec<_> = clips.iter().map(|clip| clip.source.clone()).collect();
        let outcome = batch::run(
            &sources,
            |n, source| network_for(&networks, clips[n].fold)?.hear(&source.path, &asked, unknown),
            |n, source, result| {
                let Ok((answers, float, warnings)) = result else {
                    return Ok(());
                };
                batch::warn(source, &warnings);
                if answers[0].best.is_none() {
                    exit::warn(format_args!(
                        "{} is too short to classify: it is not counted",
                        source.path.display()
                    ));
                }
                excerpts.push(Excerpt {
                    label: clips[n].label,
                    track: clips[n].track.clone(),
                    fold: clips[n].fold,
                    answers,
                    float,
                });
                Ok(())
            },
        );
        let (not_music, other_outcome) = self.not_music(&networks)?;
        let counted = excerpts.iter().filter(|e| e.answers[0].best.is_some());
        let failed = clips.len() - counted.count();
        let name = models[0].package.provenance().name.to_string();
        let evaluation = Evaluation::new(name, &labels, unknown, failed, &excerpts, &not_music);
        let Some(evaluation) = evaluation else {
            outcome?;
            bail!(
                "no clip in {} is long enough to classify",
                self.folder.display()
            );
        };
        if self.json {
            output::line(&serde_json::to_string(&evaluation)?)?;
        } else {
            evaluation.print(&mut std::io::stdout())?;
        }
        if let Some(path) = &self.png {
            output::write_atomically(path, &evaluation.confusion().png(evaluation.labels())?)?;
        }
        if let Some(path) = &self.report {
            output::write_atomically(path, evaluation.html().as_bytes())?;
        }
        outcome.and(other_outcome)
    }

    /// One network, or one per fold if the paths contain `{fold}`.
    fn files(&self, split: Option<&[SplitLine]>) -> Result<Vec<Files>> {
        let by_fold = |path: &Option<PathBuf>| {
            path.as_ref()
                .is_some_and(|path| path.to_string_lossy().contains("{fold}"))
        };
        let mut folds = vec![None];
        if by_fold(&self.model) || by_fold(&self.float) {
            let Some(split) = split else {
                return Err(Failure::Usage(
                    "{fold} needs --split FILE.csv, which lists the folds".into(),
                )
                .into());
            };
            folds = split.iter().map(|line| Some(line.fold)).collect();
            folds.sort_unstable();
            folds.dedup();
            folds.retain(|fold| self.fold.is_none() || *fold == self.fold);
        }
        let filled = |path: &Option<PathBuf>, fold: Option<usize>| {
            let text = path.as_ref()?.to_string_lossy().into_owned();
            Some(PathBuf::from(match fold {
                Some(fold) => text.replace("{fold}", &fold.to_string()),
                None => text,
            }))
        };
        folds
            .into_iter()
            .map(|fold| {
                let path = filled(&self.model, fold);
                let float = filled(&self.float, fold);
                Ok(Files {
                    fold,
                    bytes: package::read_or_built_in(path.as_deref())?,
                    path,
                    float: float.as_deref().map(onnx::read).transpose()?,
                })
            })
            .collect()
    }

    /// The clips to evaluate: the split's lines, or all files in folders named after labels.
    fn clips(&self, split: Option<Vec<SplitLine>>, labels: &[&str]) -> Result<Vec<Labelled>> {
        ensure!(
            self.folder.is_dir(),
            "{} is not a folder: name one with a subfolder per genre",
            self.folder.display()
        );
        let Some(split) = split else {
            return labelled(&self.folder, labels);
        };
        let mut clips = Vec::new();
        for line in split {
            if self.fold.is_some_and(|fold| fold != line.fold) {
                continue;
            }
            let label = labels.iter().position(|label| same(label, &line.genre));
            let label = label.with_context(|| {
                format!(
                    "{} in the split file is not one of the labels ({}): remove it",
                    line.genre,
                    labels.join(", ")
                )
            })?;
            clips.push(Labelled {
                source: audio::Source {
                    path: self.folder.join(&line.file),
                    relative: line.file,
                },
                label,
                track: line.track,
                fold: Some(line.fold),
            });
        }
        ensure!(
            !clips.is_empty(),
            "the split file has no clips of that fold"
        );
        Ok(clips)
    }

    /// Answers to non-music, by every network in turn; and whether every file could be
    /// processed.
    fn not_music(&self, networks: &[Network<'_>]) -> Result<(Vec<NotMusic>, Result<()>)> {
        let mut sets = Vec::new();
        let mut outcome = Ok(());
        if self.conditions {
            let made = conditions::not_music(networks[0].mel.sample_rate_hz, 10);
            for (name, clips) in made {
                let turns = clips.iter().zip(networks.iter().cycle());
                let answers = turns.map(|(clip, network)| network.listen(clip));
                sets.push(NotMusic {
                    name: name.into(),
                    answers: answers.collect::<Result<_>>()?,
                });
            }
        }
        for folder in &self.not_music {
            let sources = audio::find(std::slice::from_ref(folder))?;
            let mut answers = Vec::new();
            let heard = batch::run(
                &sources,
                |n, source| networks[n % networks.len()].hear(&source.path, &[CLEAN], None),
                |_, _, result| {
                    answers.extend(result.into_iter().flat_map(|(answers, ..)| answers));
                    Ok(())
                },
            );
            outcome = outcome.and(heard);
            let name = folder.file_name().unwrap_or(folder.as_os_str());
            sets.push(NotMusic {
                name: name.to_string_lossy().into_owned(),
                answers,
            });
        }
        Ok((sets, outcome))
    }
}

fn network_for<'a, 'n>(
    networks: &'a [Network<'n>],
    fold: Option<usize>,
) -> Result<&'a Network<'n>> {
    let fits = |network: &&Network<'_>| network.fold.is_none() || network.fold == fold;
    networks
        .iter()
        .find(fits)
        .context("no network for this fold")
}

/// Answers under each condition, the float network's probabilities, and warnings.
type Hearing = (Vec<Answer>, Option<Vec<f64>>, Vec<String>);

impl Network<'_> {
    fn package(&self) -> &Package<'_> {
        self.prepared.package()
    }

    fn hear(&self, path: &Path, asked: &[Condition], unknown: Option<usize>) -> Result<Hearing> {
        let rate_hz = self.mel.sample_rate_hz;
        let mut samples = Vec::new();
        let decoded = audio::stream(path, rate_hz, &mut |block| samples.extend_from_slice(block))?;
        if samples.len() < self.mel.window_samples {
            return Err(frontend::too_short(path, &self.mel));
        }
        // Seeded by the file's name, so that results do not depend on the order of work.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let seed = name.bytes().fold(1u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let answers = asked
            .iter()
            .map(|condition| self.listen(&condition.apply(&samples, rate_hz, seed)))
            .collect::<Result<_>>()?;
        let float = match &self.float {
            Some(float) => self.float(float, &samples, unknown)?,
            None => None,
        };
        Ok((answers, float, decoded.warnings))
    }

    fn listen(&self, samples: &[i32]) -> Result<Answer> {
        let mut workspace = Workspace::new(&self.prepared, &self.mel);
        let mut listener = workspace.listener(&self.prepared, self.mel.sample_rate_hz)?;
        let mut summary = ClipSummary::new(self.package());
        let unknown = sori_host::unknown(self.package());
        let row_seconds = self.mel.hop_samples as f64 / f64::from(self.mel.sample_rate_hz);
        let (mut rows, mut stream) = (0u32, Vec::new());
        let mut observe = |event: Event<'_>| {
            match event {
                Event::Row { .. } => rows += 1,
                Event::Output {
                    probabilities_q15, ..
                } => {
                    let fractions = fractions(probabilities_q15);
                    let best = largest(&fractions, unknown);
                    stream.extend(best.map(|best| (f64::from(rows) * row_seconds, best)));
                }
                Event::Decision(_) => {}
            }
            summary.observe(&event);
        };
        listener.push(samples, &mut observe);
        listener.finish(&mut observe);
        let clip = summary.clip();
        Ok(Answer {
            verdict: clip.verdict,
            probabilities: fractions(&clip.probabilities_q15),
            best: clip.best.map(usize::from),
            stream,
        })
    }

    /// The float network's mean probabilities for the same feature rows.
    fn float(
        &self,
        float: &Reference<'_>,
        samples: &[i32],
        unknown: Option<usize>,
    ) -> Result<Option<Vec<f64>>> {
        let mut workspace = vec![0; FrontEnd::workspace_len(&self.mel)];
        let mut frontend = FrontEnd::new(&self.mel, &mut workspace).context("the front end")?;
        let input = self.package().input_activation();
        let mut rows = Vec::new();
        frontend.push(samples, &mut |row| {
            let floats = row.features.iter().map(|&q| dequantize(q, &input));
            rows.extend(floats);
        });
        let logits = float.stream_logits(&rows, self.package().classifier().pool_rows)?;
        let mean = sori_host::mean_probabilities(&logits);
        Ok(mean.filter(|mean| largest(mean, unknown).is_some()))
    }
}

fn fractions(probabilities_q15: &[u16]) -> Vec<f64> {
    let fractions = probabilities_q15.iter().map(|&p| hearing::fraction(p));
    fractions.collect()
}

fn read_split(path: &Path) -> Result<Vec<SplitLine>> {
    let cannot = || format!("cannot use the split file {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(cannot)?;
    let lines: Result<Vec<SplitLine>, _> = reader.deserialize().collect();
    let lines = lines.with_context(|| {
        format!(
            "{}: it needs the columns file, genre, track and fold",
            cannot()
        )
    })?;
    ensure!(!lines.is_empty(), "{}: it is empty", cannot());
    Ok(lines)
}

/// The audio in folders named after labels; each file is its own track.
fn labelled(folder: &Path, labels: &[&str]) -> Result<Vec<Labelled>> {
    let mut unlabelled = Vec::<String>::new();
    let clips: Vec<_> = audio::find(&[folder.to_path_buf()])?
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
            Some(Labelled {
                track: source.relative.to_string_lossy().into_owned(),
                label: label?,
                source,
                fold: None,
            })
        })
        .collect();
    let known = labels.join(", ");
    if clips.is_empty() {
        bail!(
            "{} has no audio in a folder named after a label: {known}",
            folder.display()
        );
    }
    for genre in unlabelled {
        exit::warn(format_args!(
            "{genre} is not one of the labels ({known}): its files are not counted"
        ));
    }
    Ok(clips)
}

/// `Hip-Hop` and `hiphop` are one genre.
fn same(label: &str, folder: &str) -> bool {
    let plain = |text: &str| {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    plain(label) == plain(folder)
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
