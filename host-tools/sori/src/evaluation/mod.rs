//! Evaluates a network: its answers under every condition, and their statistics.

pub(crate) mod conditions;
mod page;
pub(crate) mod statistics;

use std::collections::BTreeMap;

use serde::Serialize;
use sori_host::largest;
use sori_listener::Verdict;

use crate::confusion::Confusion;
use statistics::{Calibration, McNemar, Roc, Share};

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 2;

/// A listener's answer to one excerpt.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// One per class; empty if there was no output row.
    pub(crate) probabilities: Vec<f64>,
    /// The most probable class that can be named.
    pub(crate) best: Option<usize>,
    /// The same after each output row, and the time of that row in seconds.
    pub(crate) stream: Vec<(f64, usize)>,
}

/// An excerpt of known genre, and all answers to it.
#[derive(Debug, Clone)]
pub(crate) struct Excerpt {
    pub(crate) label: usize,
    pub(crate) track: String,
    pub(crate) fold: Option<usize>,
    /// Clean, then under each of [`conditions::CONDITIONS`] if requested.
    pub(crate) answers: Vec<Answer>,
    /// The float network's probabilities, clean.
    pub(crate) float: Option<Vec<f64>>,
}

/// Recordings of non-music.
#[derive(Debug, Clone)]
pub(crate) struct NotMusic {
    pub(crate) name: String,
    pub(crate) answers: Vec<Answer>,
}

/// The results of an evaluation.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation<'a> {
    schema_version: u32,
    model: String,
    /// Share of the clips whose most probable label is their own.
    pub(crate) accuracy: f64,
    /// Clips that were classified.
    n: usize,
    /// Clips that could not be read, or were too short.
    failed: usize,
    /// Clips that a listener would have called `unknown` or `silence`.
    rejected: usize,
    /// Those that can be a verdict.
    labels: Vec<&'a str>,
    /// Clips, `[own label][most probable label]`.
    confusion: Vec<Vec<usize>>,
    per_label: Vec<PerLabel<'a>>,
    clips: Share,
    /// A track's probabilities are the mean of its clips'.
    tracks: Share,
    folds: Vec<Fold>,
    /// Of all output rows, from one second on.
    segments: Option<Share>,
    after: Vec<After>,
    calibration: Calibration,
    /// Share of the music that gets a label.
    kept: Option<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Float>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<UnderCondition<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejection: Vec<Rejection>,
}

#[derive(Debug, Serialize)]
struct PerLabel<'a> {
    label: &'a str,
    n: usize,
    recall: Option<f64>,
    precision: Option<f64>,
    f1: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Fold {
    fold: usize,
    tracks: Share,
}

#[derive(Debug, Serialize)]
struct After {
    seconds: f64,
    clips: Share,
}

/// The float network compared with the package.
#[derive(Debug, Serialize)]
struct Float {
    tracks: Share,
    clips: Share,
    /// Share of the clips to which both give the same label.
    agreement: Share,
    /// By track; the first is float.
    mcnemar: McNemar,
}

#[derive(Debug, Serialize)]
struct UnderCondition<'a> {
    condition: &'a str,
    tracks: Share,
    /// Percentage points of accuracy by track below clean.
    lost_points: f64,
    /// The label given most often, and its share of the tracks.
    most_named: (&'a str, f64),
    /// That label's true share of the tracks.
    most_named_in_truth: f64,
    /// Share of the clips that get a label.
    kept: Option<Share>,
}

#[derive(Debug, Serialize)]
struct Rejection {
    what: String,
    /// Called `unknown` or `silence`.
    rejected: Share,
    /// Music against this set, by the probability of any genre.
    #[serde(skip_serializing_if = "Option::is_none")]
    roc: Option<Roc>,
}

impl<'a> Evaluation<'a> {
    /// `None` if no excerpt was long enough. `unknown` is the class that is never a verdict.
    pub(crate) fn new(
        model: String,
        labels: &[&'a str],
        unknown: Option<usize>,
        failed: usize,
        excerpts: &[Excerpt],
        not_music: &[NotMusic],
    ) -> Option<Self> {
        let told: Vec<&Excerpt> = excerpts
            .iter()
            .filter(|excerpt| excerpt.answers[0].best.is_some())
            .collect();
        let right = |excerpt: &&&Excerpt| excerpt.answers[0].best == Some(excerpt.label);
        let correct = told.iter().filter(right).count();
        let clips = Share::of(correct, told.len())?;
        let nameable: Vec<usize> = (0..labels.len()).filter(|&k| Some(k) != unknown).collect();
        let place = |class: usize| nameable.iter().position(|&k| k == class);
        let mut confusion = Confusion::new(nameable.len());
        for excerpt in &told {
            let best = excerpt.answers[0].best.and_then(place);
            if let (Some(label), Some(best)) = (place(excerpt.label), best) {
                confusion.add(label, best);
            }
        }
        let names: Vec<&str> = nameable.iter().map(|&k| labels[k]).collect();
        let per_label = names
            .iter()
            .enumerate()
            .map(|(k, label)| PerLabel {
                label,
                n: confusion.with_label(k),
                recall: confusion.recall(k),
                precision: confusion.precision(k),
                f1: confusion.f1(k),
            })
            .collect();

        let clean = Tracks::of(&told, unknown, |excerpt| &excerpt.answers[0].probabilities);
        let conditions = (0..told[0].answers.len().saturating_sub(1)).filter_map(|n| {
            let of = |excerpt: &&Excerpt| excerpt.answers[n + 1].clone();
            let answers: Vec<Answer> = told.iter().map(of).collect();
            let tracks = Tracks::of(&told, unknown, |excerpt| {
                &excerpt.answers[n + 1].probabilities
            });
            let (class, named) = tracks.most_named(labels.len())?;
            let in_truth = tracks
                .0
                .values()
                .filter(|track| track.label == class)
                .count();
            Some(UnderCondition {
                condition: conditions::CONDITIONS[n].name,
                lost_points: 100.0 * (clean.share()?.share - tracks.share()?.share),
                tracks: tracks.share()?,
                most_named: (labels[class], named),
                most_named_in_truth: in_truth as f64 / tracks.0.len() as f64,
                kept: named_share(&answers),
            })
        });
        let conditions = conditions.collect();

        let answers: Vec<Answer> = told.iter().map(|e| e.answers[0].clone()).collect();
        let rows = told.iter().flat_map(|excerpt| {
            let stream = &excerpt.answers[0].stream;
            stream
                .iter()
                .filter(|row| row.0 >= 1.0)
                .map(|row| row.1 == excerpt.label)
        });
        let rows: Vec<bool> = rows.collect();
        let after = [1.0, 3.0, 10.0].into_iter().filter_map(|seconds| {
            let then = told.iter().filter_map(|excerpt| {
                let stream = &excerpt.answers[0].stream;
                let row = stream.iter().find(|row| row.0 >= seconds)?;
                Some(row.1 == excerpt.label)
            });
            let then: Vec<bool> = then.collect();
            Some(After {
                seconds,
                clips: share(&then)?,
            })
        });
        let confidences = told.iter().filter_map(|excerpt| {
            let best = excerpt.answers[0].best?;
            Some((
                excerpt.answers[0].probabilities[best],
                best == excerpt.label,
            ))
        });
        let music: Vec<f64> = answers.iter().map(|a| some_genre(a, unknown)).collect();
        let rejection = not_music.iter().filter_map(|set| {
            let kept = named_share(&set.answers)?;
            let sounding: Vec<f64> = set
                .answers
                .iter()
                .filter(|answer| answer.verdict != Verdict::Silence)
                .map(|answer| some_genre(answer, unknown))
                .collect();
            let rejected = kept.n - (kept.share * kept.n as f64).round() as usize;
            Some(Rejection {
                what: set.name.clone(),
                rejected: Share::of(rejected, kept.n)?,
                roc: Roc::of(&music, &sounding),
            })
        });
        Some(Self {
            schema_version: SCHEMA_VERSION,
            model,
            accuracy: clips.share,
            n: told.len(),
            failed,
            rejected: answers.iter().filter(|answer| !is_named(answer)).count(),
            confusion: confusion.rows().to_vec(),
            per_label,
            clips,
            tracks: clean.share()?,
            folds: clean.folds(),
            segments: share(&rows),
            after: after.collect(),
            calibration: Calibration::of(confidences),
            kept: named_share(&answers),
            float: Float::beside(&told, &clean, unknown),
            conditions,
            rejection: rejection.collect(),
            labels: names,
        })
    }
}

impl Float {
    fn beside(told: &[&Excerpt], clean: &Tracks, unknown: Option<usize>) -> Option<Self> {
        let heard: Vec<&Excerpt> = told.iter().copied().filter(|e| e.float.is_some()).collect();
        let of = |excerpt: &&Excerpt| largest(excerpt.float.as_deref().unwrap_or(&[]), unknown);
        let same: Vec<bool> = heard.iter().map(|e| of(e) == e.answers[0].best).collect();
        let right: Vec<bool> = heard.iter().map(|e| of(e) == Some(e.label)).collect();
        let float = Tracks::of(&heard, unknown, |e| {
            e.float.as_ref().unwrap_or(&e.answers[0].probabilities)
        });
        let (mut only_float, mut only_int8) = (0, 0);
        for (name, track) in &float.0 {
            let int8 = clean.0.get(name).is_some_and(Track::is_right);
            only_float += usize::from(track.is_right() && !int8);
            only_int8 += usize::from(!track.is_right() && int8);
        }
        Some(Self {
            tracks: float.share()?,
            clips: share(&right)?,
            agreement: share(&same)?,
            mcnemar: McNemar::new(only_float, only_int8),
        })
    }
}

#[derive(Debug)]
struct Track {
    label: usize,
    fold: Option<usize>,
    named: usize,
}

impl Track {
    fn is_right(&self) -> bool {
        self.named == self.label
    }
}

/// By name.
#[derive(Debug)]
struct Tracks(BTreeMap<String, Track>);

impl Tracks {
    fn of<'e>(
        excerpts: &[&'e Excerpt],
        unknown: Option<usize>,
        probabilities: impl Fn(&'e Excerpt) -> &'e Vec<f64>,
    ) -> Self {
        let mut sums: BTreeMap<&str, (Vec<f64>, &Excerpt)> = BTreeMap::new();
        for &excerpt in excerpts {
            let probabilities = probabilities(excerpt);
            let sum = sums.entry(&excerpt.track).or_insert((Vec::new(), excerpt));
            sum.0.resize(probabilities.len().max(sum.0.len()), 0.0);
            sum.0
                .iter_mut()
                .zip(probabilities)
                .for_each(|(sum, p)| *sum += p);
        }
        let track = |(name, (sums, excerpt)): (&str, (Vec<f64>, &Excerpt))| {
            let track = Track {
                label: excerpt.label,
                fold: excerpt.fold,
                named: largest(&sums, unknown)?,
            };
            Some((name.to_string(), track))
        };
        Self(sums.into_iter().filter_map(track).collect())
    }

    fn share(&self) -> Option<Share> {
        let right: Vec<bool> = self.0.values().map(Track::is_right).collect();
        share(&right)
    }

    fn folds(&self) -> Vec<Fold> {
        let mut folds: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
        for track in self.0.values() {
            if let Some(fold) = track.fold {
                folds.entry(fold).or_default().push(track.is_right());
            }
        }
        let fold = |(fold, right): (usize, Vec<bool>)| {
            let tracks = share(&right)?;
            Some(Fold { fold, tracks })
        };
        folds.into_iter().filter_map(fold).collect()
    }

    fn most_named(&self, classes: usize) -> Option<(usize, f64)> {
        let mut counts = vec![0; classes];
        self.0.values().for_each(|track| counts[track.named] += 1);
        let (class, &count) = counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
        Some((class, count as f64 / self.0.len() as f64))
    }
}

/// The probability of any genre: one minus that of the class `unknown`, if there is one.
fn some_genre(answer: &Answer, unknown: Option<usize>) -> f64 {
    let at = |class: Option<usize>| class.and_then(|k| answer.probabilities.get(k));
    match at(unknown) {
        Some(none) => 1.0 - none,
        None => at(answer.best).copied().unwrap_or(0.0),
    }
}

fn is_named(answer: &Answer) -> bool {
    matches!(answer.verdict, Verdict::Label(_))
}

fn named_share(answers: &[Answer]) -> Option<Share> {
    let named: Vec<bool> = answers.iter().map(is_named).collect();
    share(&named)
}

fn share(right: &[bool]) -> Option<Share> {
    Share::of(right.iter().filter(|&&right| right).count(), right.len())
}
