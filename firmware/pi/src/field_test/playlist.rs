//! What is played: a beep, the clips at one loudness with a second between them, a beep.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use serde::{Deserialize, Serialize};
use sori_beeps::{BEEP_S, Beep};
use sori_dsp::Resampler;

use super::{Trouble, sound};
use crate::board::SCHEMA_VERSION;
use crate::meter::FULL_SCALE;

/// What every player plays without resampling.
const RATE_HZ: u32 = 48_000;
/// Silence around everything.
pub(super) const GAP_S: f64 = 1.0;
/// Less says nothing of a genre.
const SHORTEST_S: f64 = 1.0;
/// More of a clip is not played.
const LONGEST_S: f64 = 60.0;
/// A file of 16-bit samples has a size of 32 bits; this is less.
const LONGEST_PLAYLIST_S: f64 = 10.0 * 3600.0;
/// Loudness of the clips, without their quiet parts, where their peaks allow it.
const LOUDNESS_DBFS: f64 = -20.0;
const PEAK_DBFS: f64 = -1.0;
const BEEP_AMPLITUDE: f64 = 0.5;
/// Formats that are music, but not read here.
const OTHERS: [&str; 8] = ["flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "wma"];

/// What is on a playlist, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Where the files of the clips are.
    pub folder: PathBuf,
    /// Where the rising beep begins, seconds after the start of the playlist.
    pub start_beep_s: f64,
    /// Where the falling beep begins.
    pub end_beep_s: f64,
    /// In the order in which they are played.
    pub clips: Vec<Clip>,
}

/// A clip of a playlist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// Below the folder.
    pub file: PathBuf,
    /// What it is.
    pub label: String,
    /// Seconds after the start of the playlist.
    pub start_s: f64,
    /// How long it is.
    pub seconds: f64,
}

impl Manifest {
    /// Reads one that [`make`] wrote.
    ///
    /// # Errors
    /// It cannot be read, or is no manifest.
    pub fn read(path: &Path) -> Result<Self, Trouble> {
        let text = fs::read_to_string(path).map_err(|error| Trouble::file(path, &error))?;
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| Trouble::file(path, &error))?;
        let refuse = |why: &str| Err(Trouble::file(path, &why));
        if manifest.schema_version != SCHEMA_VERSION {
            return refuse("it was written by another version: run field-test make again");
        }
        let mut from = manifest.start_beep_s;
        for clip in &manifest.clips {
            // Also where one of them is no number.
            if !(clip.start_s >= from && clip.seconds > 0.0) {
                return refuse("its clips overlap: run field-test make again");
            }
            from = clip.start_s + clip.seconds;
        }
        if manifest.clips.is_empty() || !(manifest.end_beep_s >= from && from.is_finite()) {
            return refuse("it has no clips between its beeps: run field-test make again");
        }
        Ok(manifest)
    }
}

/// Makes the playlist `out`, and beside it the manifest, `.json` in place of `.wav`, which is
/// returned with its path. `FOLDER/LABEL/*.wav` are the clips; `labels` are the package's.
///
/// # Errors
/// A folder that is no label, a file that is no WAV, nothing to play, nowhere to write.
pub fn make(folder: &Path, labels: &[String], out: &Path) -> Result<(Manifest, PathBuf), Trouble> {
    let clips = find(folder, labels)?;
    let folder = fs::canonicalize(folder).map_err(|error| Trouble::file(folder, &error))?;
    let mut playlist = Playlist::create(out)?;
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        start_beep_s: 0.0,
        end_beep_s: 0.0,
        clips: Vec::new(),
        folder,
    };
    playlist.silence()?;
    manifest.start_beep_s = playlist.beep(Beep::Start)?;
    playlist.silence()?;
    for (label, file) in clips {
        let (start_s, seconds) = playlist.clip(&manifest.folder.join(&file))?;
        manifest.clips.push(Clip {
            file,
            label,
            start_s,
            seconds,
        });
        playlist.silence()?;
    }
    manifest.end_beep_s = playlist.beep(Beep::End)?;
    playlist.silence()?;
    playlist.finish()?;
    let path = out.with_extension("json");
    let text = serde_json::to_string_pretty(&manifest);
    let text = text.map_err(|error| Trouble::file(&path, &error))?;
    fs::write(&path, text + "\n").map_err(|error| Trouble::file(&path, &error))?;
    Ok((manifest, path))
}

/// Labels and files below the folder, sorted.
fn find(folder: &Path, labels: &[String]) -> Result<Vec<(String, PathBuf)>, Trouble> {
    let entries = |path: &Path| -> Result<Vec<PathBuf>, Trouble> {
        let read = fs::read_dir(path).and_then(|entries| {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<Result<Vec<_>, _>>()
        });
        let mut paths = read.map_err(|error| Trouble::file(path, &error))?;
        paths.sort();
        Ok(paths)
    };
    let mut clips = Vec::new();
    for sub in entries(folder)? {
        let name = sub.file_name().unwrap_or_default().to_string_lossy();
        if !sub.is_dir() || name.starts_with('.') {
            continue;
        }
        let label = labels
            .iter()
            .find(|label| label.eq_ignore_ascii_case(&name));
        for file in entries(&sub)? {
            let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
            let extension = extension.to_string_lossy();
            let below = || file.strip_prefix(folder).unwrap_or(&file).to_path_buf();
            if OTHERS.contains(&&*extension) {
                return Err(Trouble::Clips(format!(
                    "{} is not a WAV file: ffmpeg -i X.{extension} X.wav converts it",
                    file.display()
                )));
            }
            if extension != "wav" {
                continue;
            }
            let Some(label) = label else {
                return Err(Trouble::Clips(format!(
                    "the folder {name} is not a label of the package, which has {}",
                    labels.join(", ")
                )));
            };
            clips.push((label.clone(), below()));
        }
    }
    if clips.is_empty() {
        return Err(Trouble::Clips(format!(
            "no clips in {}: put them there as LABEL/name.wav, such as jazz/one.wav",
            folder.display()
        )));
    }
    Ok(clips)
}

/// The samples of a clip, and their rate: what is played, and what is heard straight from
/// the file.
pub(super) fn read_clip(path: &Path) -> Result<(Vec<i32>, u32), Trouble> {
    let (samples, rate_hz) = sound::mono(path, LONGEST_S)?;
    let seconds = samples.len() as f64 / f64::from(rate_hz);
    if seconds < SHORTEST_S {
        let why = format!("{seconds:.1} s are too short: a clip needs at least one second");
        return Err(Trouble::file(path, &why));
    }
    Ok((samples, rate_hz))
}

/// A playlist that is being written.
struct Playlist<'p> {
    path: &'p Path,
    writer: WavWriter<BufWriter<File>>,
    samples: u64,
}

impl<'p> Playlist<'p> {
    fn create(path: &'p Path) -> Result<Self, Trouble> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: RATE_HZ,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(path, spec);
        let writer = writer.map_err(|error| Trouble::file(path, &error))?;
        Ok(Self {
            path,
            writer,
            samples: 0,
        })
    }

    fn now_s(&self) -> f64 {
        self.samples as f64 / f64::from(RATE_HZ)
    }

    fn write(&mut self, samples: impl Iterator<Item = f64>) -> Result<(), Trouble> {
        for sample in samples {
            let sample = (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16;
            let written = self.writer.write_sample(sample);
            written.map_err(|error| Trouble::file(self.path, &error))?;
            self.samples += 1;
        }
        Ok(())
    }

    fn silence(&mut self) -> Result<(), Trouble> {
        let samples = (GAP_S * f64::from(RATE_HZ)) as usize;
        self.write(std::iter::repeat_n(0.0, samples))
    }

    /// Returns where it begins.
    fn beep(&mut self, beep: Beep) -> Result<f64, Trouble> {
        let at_s = self.now_s();
        let samples = beep.samples(RATE_HZ).into_iter();
        self.write(samples.map(|sample| BEEP_AMPLITUDE * sample))?;
        Ok(at_s)
    }

    /// Returns where it begins, and its seconds.
    fn clip(&mut self, path: &Path) -> Result<(f64, f64), Trouble> {
        let (samples, rate_hz) = read_clip(path)?;
        let at_s = self.now_s();
        if at_s + LONGEST_S + 2.0 * GAP_S + BEEP_S > LONGEST_PLAYLIST_S {
            return Err(Trouble::Clips(
                "the clips are longer than ten hours: split them into several playlists".into(),
            ));
        }
        let samples = match rate_hz {
            RATE_HZ => samples,
            _ => {
                let mut resampler = Resampler::new(rate_hz, RATE_HZ)
                    .map_err(|error| Trouble::file(path, &error))?;
                let mut resampled = Vec::new();
                resampler.push(&samples, &mut |sample| resampled.push(sample));
                resampler.flush(&mut |sample| resampled.push(sample));
                resampled
            }
        };
        let gain = gain(&samples).ok_or_else(|| Trouble::file(path, &"it is silent"))?;
        self.write(samples.iter().map(|&x| gain * f64::from(x) / FULL_SCALE))?;
        Ok((at_s, samples.len() as f64 / f64::from(RATE_HZ)))
    }

    fn finish(self) -> Result<(), Trouble> {
        let path = self.path;
        let written = self.writer.finalize();
        written.map_err(|error| Trouble::file(path, &error))
    }
}

/// What brings the louder parts of a clip to one loudness: the mean power of those tenths of
/// a second that are within 20 dB of the loudest. None for silence.
fn gain(samples: &[i32]) -> Option<f64> {
    let squares = samples.chunks(RATE_HZ as usize / 10).map(|part| {
        let squares = part.iter().map(|&x| f64::from(x) * f64::from(x));
        squares.sum::<f64>() / part.len() as f64
    });
    let powers: Vec<f64> = squares.collect();
    let loudest = powers.iter().copied().fold(0.0, f64::max);
    let loud: Vec<f64> = powers
        .into_iter()
        .filter(|&p| p > loudest / 100.0)
        .collect();
    let rms = (loud.iter().sum::<f64>() / loud.len() as f64).sqrt() / FULL_SCALE;
    let peak = samples.iter().map(|x| x.unsigned_abs()).max()?;
    let amplitude = |dbfs: f64| 10f64.powf(dbfs / 20.0);
    (loudest > 0.0).then(|| {
        let for_peak = amplitude(PEAK_DBFS) * FULL_SCALE / f64::from(peak);
        (amplitude(LOUDNESS_DBFS) / rms).min(for_peak)
    })
}
