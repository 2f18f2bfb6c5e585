//! What a field test says: how often the microphone's answer was right, and how surely.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::Manifest;
use super::judge::Alignment;
use crate::board::SCHEMA_VERSION;
use crate::model::Model;

/// A share, with the interval that holds the true one 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Of `of`.
    pub right: usize,
    /// Clips.
    pub of: usize,
    /// From 0 to 1.
    pub share: f64,
    /// Wilson's score interval (1927).
    pub low: f64,
    /// Its other end.
    pub high: f64,
}

impl Share {
    /// None of nothing.
    pub fn of(right: usize, of: usize) -> Option<Self> {
        const Z: f64 = 1.959_964;
        if of == 0 {
            return None;
        }
        let n = of as f64;
        let share = right as f64 / n;
        let middle = share + Z * Z / (2.0 * n);
        let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let whole = 1.0 + Z * Z / n;
        Some(Self {
            right,
            of,
            share,
            low: ((middle - reach) / whole).max(0.0),
            high: ((middle + reach) / whole).min(1.0),
        })
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} right: {:.1} % (95 %: {:.1} to {:.1})",
            self.right,
            self.of,
            100.0 * self.share,
            100.0 * self.low,
            100.0 * self.high
        )
    }
}

/// The answer to a clip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The most probable class that can be named; none for silence. It is what counts.
    pub best: Option<String>,
    /// What a listener says: a label, `silence` or `unknown`.
    pub said: String,
}

impl Answer {
    /// What counts as the answer: for a clip that is nothing to be named, what is said.
    fn counted(&self, label: &str) -> &str {
        match (&self.best, label) {
            (_, "unknown") | (None, _) => &self.said,
            (Some(best), _) => best,
        }
    }
}

/// A clip through the microphone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heard {
    /// Where it begins in the recording, seconds.
    pub start_s: f64,
    /// Its level, dBFS.
    pub level_dbfs: f64,
    /// That of the pause after it.
    pub noise_dbfs: Option<f64>,
    /// Samples at full scale.
    pub clipped: u32,
    /// The answer.
    pub answer: Answer,
}

impl Heard {
    /// Of the clip without the noise, to the noise, dB.
    fn snr_db(&self) -> Option<f64> {
        let power = |dbfs: f64| 10f64.powf(dbfs / 10.0);
        let noise = power(self.noise_dbfs?);
        let sound = power(self.level_dbfs) - noise;
        (noise > 0.0 && sound > 0.0).then(|| 10.0 * (sound / noise).log10())
    }
}

/// Answers to the files, or why there are none.
pub(super) type Straight = Result<Vec<Answer>, String>;

/// A clip of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Below the folder.
    pub file: String,
    /// What it is.
    pub label: String,
    /// Through the microphone; none if the recording does not have it.
    pub heard: Option<Heard>,
    /// Straight from the file; none if that is not there.
    pub straight: Option<Answer>,
}

/// What a field test says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What the package calls itself.
    pub package: String,
    /// Through the microphone, of the clips that were recorded.
    pub microphone: Option<Share>,
    /// Straight from the files, of the same clips.
    pub files: Option<Share>,
    /// Clips that both answer alike, of the same.
    pub agreement: Option<Share>,
    /// Why there are no answers to the files.
    pub files_problem: Option<String>,
    /// Median of the clips, dBFS.
    pub level_dbfs: Option<f64>,
    /// Median of the pauses, dBFS.
    pub noise_dbfs: Option<f64>,
    /// Median, dB.
    pub snr_db: Option<f64>,
    /// How much of what was heard at first was the beep, to 1.
    pub beep_score: f64,
    /// By how much the recording's clock is faster, parts in a million; none without an end
    /// beep in its place.
    pub drift_ppm: Option<f64>,
    /// Seconds that the end came too late, more than clocks explain.
    pub slipped_s: Option<f64>,
    /// Files of clips that the recording does not have.
    pub missing: Vec<String>,
    /// Through the microphone: label, answer, clips.
    pub confusion: BTreeMap<String, BTreeMap<String, usize>>,
    /// All clips, in the order in which they were played.
    pub clips: Vec<Line>,
}

impl Report {
    pub(super) fn new(
        model: &Model,
        manifest: &Manifest,
        alignment: Alignment,
        heard: Vec<Option<Heard>>,
        straight: Straight,
    ) -> Self {
        let answers = straight.as_deref().unwrap_or_default().iter().cloned();
        let answers = answers.map(Some).chain(std::iter::repeat(None));
        let clips: Vec<Line> = manifest
            .clips
            .iter()
            .zip(heard)
            .zip(answers)
            .map(|((clip, heard), straight)| Line {
                file: clip.file.display().to_string(),
                label: clip.label.clone(),
                heard,
                straight,
            })
            .collect();
        let mut confusion: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        let (mut right, mut right_files, mut alike, mut both) = (0, 0, 0, 0);
        for line in &clips {
            let Some(heard) = &line.heard else { continue };
            let answer = heard.answer.counted(&line.label);
            let row = confusion.entry(line.label.clone()).or_default();
            *row.entry(answer.into()).or_default() += 1;
            right += usize::from(answer == line.label);
            if let Some(straight) = &line.straight {
                let of_file = straight.counted(&line.label);
                both += 1;
                right_files += usize::from(of_file == line.label);
                alike += usize::from(of_file == answer);
            }
        }
        let recorded = || clips.iter().filter_map(|line| line.heard.as_ref());
        let missing = clips.iter().filter(|line| line.heard.is_none());
        Self {
            schema_version: SCHEMA_VERSION,
            package: model.name.clone(),
            microphone: Share::of(right, recorded().count()),
            files: Share::of(right_files, both),
            agreement: Share::of(alike, both),
            files_problem: straight.err(),
            level_dbfs: median(recorded().map(|heard| heard.level_dbfs)),
            noise_dbfs: median(recorded().filter_map(|heard| heard.noise_dbfs)),
            snr_db: median(recorded().filter_map(Heard::snr_db)),
            beep_score: alignment.beep_score,
            drift_ppm: alignment.scale.map(|scale| (scale - 1.0) * 1e6),
            slipped_s: alignment.slipped_s,
            missing: missing.map(|line| line.file.clone()).collect(),
            confusion,
            clips,
        }
    }

    /// Every clip was recorded. The command fails if not.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// A JSON object.
    ///
    /// # Errors
    /// Nobody takes it.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// For people.
    ///
    /// # Errors
    /// Nobody takes it.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(share) = self.microphone {
            writeln!(out, "through the microphone  {share}")?;
        }
        match (&self.files, &self.files_problem) {
            (Some(share), _) => writeln!(out, "straight from the files {share}")?,
            (None, Some(why)) => writeln!(
                out,
                "the files themselves were not classified: {why}: give their folder with --clips"
            )?,
            (None, None) => {}
        }
        if let Some(alike) = self.agreement {
            writeln!(
                out,
                "the same answer to      {} of {}",
                alike.right, alike.of
            )?;
        }
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.1}"));
        writeln!(
            out,
            "level {} dBFS, noise {} dBFS, SNR {} dB",
            number(self.level_dbfs),
            number(self.noise_dbfs),
            number(self.snr_db)
        )?;
        self.write_notes(out)?;
        writeln!(out)?;
        self.write_table(out)
    }

    fn write_notes(&self, out: &mut impl Write) -> io::Result<()> {
        match (self.drift_ppm, self.slipped_s) {
            (Some(ppm), _) => writeln!(out, "the clocks differ by {ppm:.0} ppm")?,
            (None, Some(late_s)) => writeln!(
                out,
                "the end came {late_s:.2} s late: audio was lost or delayed between player and microphone, so clips may be misaligned; play from a local file, not over a network, and try again"
            )?,
            (None, None) => writeln!(out, "no end beep was heard: assuming equal clocks")?,
        }
        if self.snr_db.is_some_and(|snr| snr < 10.0) {
            writeln!(
                out,
                "the room is noisy: play louder or closer to the microphone"
            )?;
        }
        let overloaded = self.clips.iter().filter_map(|line| line.heard.as_ref());
        let overloaded = overloaded.filter(|heard| heard.clipped > 0).count();
        if overloaded > 0 {
            writeln!(
                out,
                "{overloaded} clips overloaded the microphone: play more quietly"
            )?;
        }
        if !self.is_complete() {
            writeln!(
                out,
                "the recording is incomplete; missing clips: {}",
                self.missing.join(", ")
            )?;
        }
        Ok(())
    }

    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let answers: Vec<&String> = {
            let of_rows = self.confusion.values().flat_map(BTreeMap::keys);
            let mut all: Vec<&String> = self.confusion.keys().chain(of_rows).collect();
            all.sort();
            all.dedup();
            all
        };
        let width = |text: &str| text.chars().count().max(5);
        let first = answers.iter().map(|label| width(label)).max().unwrap_or(5);
        write!(out, "{:first$}  clips  right", "")?;
        for answer in &answers {
            write!(out, "  {answer:>0$}", width(answer))?;
        }
        writeln!(out)?;
        for (label, row) in &self.confusion {
            let clips: usize = row.values().sum();
            let right = row.get(label).copied().unwrap_or(0);
            write!(out, "{label:first$}  {clips:5}  {right:5}")?;
            for answer in &answers {
                let width = width(answer);
                match row.get(*answer) {
                    Some(count) => write!(out, "  {count:width$}")?,
                    None => write!(out, "  {:>width$}", "·")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (right, of, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let share = Share::of(right, of).unwrap();
            assert!((share.low - low).abs() < 1e-4, "{share:?}");
            assert!((share.high - high).abs() < 1e-4, "{share:?}");
        }
        assert_eq!(Share::of(0, 0), None);
    }

    #[test]
    fn a_ratio_to_the_noise_leaves_the_noise_out_of_the_sound() {
        let heard = |level_dbfs, noise_dbfs| Heard {
            start_s: 0.0,
            level_dbfs,
            noise_dbfs,
            clipped: 0,
            answer: Answer {
                best: None,
                said: "silence".into(),
            },
        };
        let equal = heard(-57.0, Some(-60.0103)).snr_db().unwrap();
        assert!(equal.abs() < 0.05, "{equal}");
        assert_eq!(heard(-60.0, Some(-59.0)).snr_db(), None);
        assert_eq!(heard(-60.0, Some(f64::NEG_INFINITY)).snr_db(), None);
        assert_eq!(heard(-60.0, None).snr_db(), None);
    }

    #[test]
    fn what_is_nothing_to_be_named_is_right_if_it_is_not_named() {
        let answer = |said: &str| Answer {
            best: Some("jazz".into()),
            said: said.into(),
        };
        assert_eq!(answer("unknown").counted("unknown"), "unknown");
        assert_eq!(answer("jazz").counted("unknown"), "jazz");
        assert_eq!(answer("unknown").counted("jazz"), "jazz");
    }
}
