//! Recording what is played: nothing is kept until the beep is heard, then all until the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use sori_beeps::{BEEP_S, Beep, Ear, Hit};

use super::{Manifest, Trouble};
use crate::engine::Layout;
use crate::meter::{Meter, Reading};

/// A beep is a second, is noticed two after that at the latest, and something before it
/// shows the noise of the room.
const KEPT_S: f64 = 5.0;
/// After a peak a higher one may come within this.
const SETTLED_S: f64 = 0.5;
/// A player may stumble; the recording goes on so much longer than what is played.
const MARGIN_S: f64 = 3.0;

/// How a recording goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// For the beep.
    Waiting {
        /// So long.
        seconds: f64,
        /// The loudest channel, of the last second.
        level_dbfs: f64,
    },
    /// This clip, from 0.
    Hearing {
        /// Which.
        clip: usize,
    },
    /// All was played.
    Done,
}

/// Frames of a microphone in, the WAV file of a test out.
pub struct Recorder {
    layout: Layout,
    path: PathBuf,
    ears: Vec<Ear>,
    meters: Vec<Meter>,
    level_dbfs: f64,
    /// The last seconds, frames.
    kept: VecDeque<i32>,
    /// Frames that came.
    frames: u64,
    writing: Option<Writing>,
    /// Where clips begin after the beep, and where all ends.
    clips_s: Vec<f64>,
    end_s: f64,
}

struct Writing {
    writer: WavWriter<BufWriter<File>>,
    channel: usize,
    /// When the beep began, seconds.
    beep_s: f64,
}

impl Recorder {
    /// For frames of that layout; the best channel of them is written to `path` from the
    /// beep on.
    ///
    /// # Errors
    /// A rate that cannot be used.
    pub fn new(manifest: &Manifest, layout: Layout, path: &Path) -> Result<Self, Trouble> {
        let channels = layout.channels.max(1);
        let ears = (0..channels).map(|_| Ear::new(Beep::Start, layout.rate_hz));
        let ears: Option<Vec<Ear>> = ears.collect();
        let ears = ears.ok_or_else(|| {
            Trouble::file(path, &format!("{} Hz cannot be recorded", layout.rate_hz))
        })?;
        let after_beep = |at_s: f64| at_s - manifest.start_beep_s;
        Ok(Self {
            layout: Layout { channels, ..layout },
            path: path.into(),
            ears,
            meters: vec![Meter::new(layout.rate_hz); channels],
            level_dbfs: f64::NEG_INFINITY,
            kept: VecDeque::new(),
            frames: 0,
            writing: None,
            clips_s: manifest
                .clips
                .iter()
                .map(|c| after_beep(c.start_s))
                .collect(),
            end_s: after_beep(manifest.end_beep_s) + BEEP_S + MARGIN_S,
        })
    }

    /// Takes whole frames of 24-bit samples.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, frames: &[i32]) -> Result<Progress, Trouble> {
        // A beep may be noticed in the middle of them, and the level is of a second.
        let most = (self.layout.rate_hz as usize / 4).max(1) * self.layout.channels;
        let mut progress = self.progress();
        for part in frames.chunks(most) {
            if progress == Progress::Done {
                break;
            }
            self.take(part)?;
            progress = self.progress();
        }
        Ok(progress)
    }

    fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.layout.rate_hz)
    }

    fn progress(&self) -> Progress {
        let Some(writing) = &self.writing else {
            return Progress::Waiting {
                seconds: self.seconds(),
                level_dbfs: self.level_dbfs,
            };
        };
        let since_s = self.seconds() - writing.beep_s;
        if since_s >= self.end_s {
            return Progress::Done;
        }
        let begun = self.clips_s.iter().filter(|&&at_s| at_s <= since_s).count();
        Progress::Hearing {
            clip: begun.saturating_sub(1),
        }
    }

    fn take(&mut self, frames: &[i32]) -> Result<(), Trouble> {
        let channels = self.layout.channels;
        let second = |frames: u64| frames / u64::from(self.layout.rate_hz);
        let before = self.frames;
        self.frames += (frames.len() / channels) as u64;
        let is_next_second = second(self.frames) > second(before);
        if let Some(writing) = &mut self.writing {
            let channel = writing.channel;
            let samples = frames.chunks_exact(channels).map(|frame| frame[channel]);
            return write(writing, samples, &self.path);
        }
        self.kept.extend(frames);
        let most = (KEPT_S * f64::from(self.layout.rate_hz)) as usize * channels;
        self.kept.drain(..self.kept.len().saturating_sub(most));
        let mut mono = Vec::with_capacity(frames.len() / channels);
        for (channel, ear) in self.ears.iter_mut().enumerate() {
            mono.clear();
            mono.extend(frames.chunks_exact(channels).map(|frame| frame[channel]));
            ear.push(&mono);
            for &sample in &mono {
                self.meters[channel].push(sample);
            }
        }
        if is_next_second {
            let readings = self.meters.iter_mut().filter_map(Meter::take);
            let levels = readings.map(|reading: Reading| reading.rms_dbfs);
            self.level_dbfs = levels.fold(f64::NEG_INFINITY, f64::max);
        }
        self.begin()
    }

    /// Begins to write once a beep is found and no better one follows.
    fn begin(&mut self) -> Result<(), Trouble> {
        let best = self.ears.iter().enumerate().filter_map(|(channel, ear)| {
            let hit = *ear.hits().last()?;
            (ear.looked_at_s() >= hit.at_s + SETTLED_S).then_some((channel, hit))
        });
        let best = best.max_by(|(_, a): &(usize, Hit), (_, b)| a.score.total_cmp(&b.score));
        let Some((channel, hit)) = best else {
            return Ok(());
        };
        let spec = WavSpec {
            channels: 1,
            sample_rate: self.layout.rate_hz,
            bits_per_sample: 24,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(&self.path, spec);
        let mut writing = Writing {
            writer: writer.map_err(|error| Trouble::file(&self.path, &error))?,
            channel,
            beep_s: hit.at_s,
        };
        let kept = std::mem::take(&mut self.kept);
        let samples = kept.iter().skip(channel).step_by(self.layout.channels);
        write(&mut writing, samples.copied(), &self.path)?;
        self.writing = Some(writing);
        Ok(())
    }

    /// Closes the file.
    ///
    /// # Errors
    /// No beep was heard, or the file cannot be written.
    pub fn finish(self) -> Result<(), Trouble> {
        let seconds = self.seconds();
        let writing = self.writing.ok_or(Trouble::NoBeep {
            seconds,
            level_dbfs: self.level_dbfs,
        })?;
        let written = writing.writer.finalize();
        written.map_err(|error| Trouble::file(&self.path, &error))
    }
}

fn write(
    writing: &mut Writing,
    samples: impl Iterator<Item = i32>,
    path: &Path,
) -> Result<(), Trouble> {
    const MOST: i32 = (1 << 23) - 1;
    for sample in samples {
        let written = writing.writer.write_sample(sample.clamp(-MOST - 1, MOST));
        written.map_err(|error| Trouble::file(path, &error))?;
    }
    Ok(())
}

/// Records until all was played. `source` fills a buffer with whole frames, and says whether
/// there are more; `patience_s` is how long to wait for the beep. What happens goes to `log`.
///
/// # Errors
/// See [`Recorder`]; no beep in time; the source's own.
pub fn record(
    manifest: &Manifest,
    layout: Layout,
    mut source: impl FnMut(&mut Vec<i32>) -> Result<bool, Trouble>,
    patience_s: f64,
    path: &Path,
    log: &mut impl Write,
) -> Result<(), Trouble> {
    let mut recorder = Recorder::new(manifest, layout, path)?;
    let mut say = |line: String| {
        // A log that nobody reads stops nothing.
        let _ = writeln!(log, "{line}");
    };
    say("waiting for the beep: play the playlist now".into());
    let mut told = None;
    let mut frames = Vec::new();
    loop {
        frames.clear();
        let more = source(&mut frames)?;
        let progress = recorder.push(&frames)?;
        match progress {
            Progress::Waiting { seconds, .. } if seconds >= patience_s => break,
            Progress::Waiting { .. } => {}
            Progress::Hearing { clip } if told == Some(clip) => {}
            Progress::Hearing { clip } => {
                told = Some(clip);
                let clips = manifest.clips.len();
                say(format!("clip {} of {clips}", clip + 1));
            }
            Progress::Done => break,
        }
        if !more {
            break;
        }
    }
    recorder.finish()
}
