//! A recording laid over its playlist, and each clip of it recognized.

use std::path::Path;

use sori_beeps::{BEEP_S, Beep, Ear, Hit};
use sori_listener::{ClipSummary, Listener, Verdict};

use super::playlist::{GAP_S, read_clip};
use super::report::{Answer, Heard, Report, Straight};
use super::sound::Sound;
use super::{Manifest, Trouble};
use crate::meter::Meter;
use crate::model::Model;

/// Clocks differ by some 100 parts in a million; this is the most that is believed, besides
/// what a beep's place may be wrong by.
const MOST_DRIFT: f64 = 1e-3;
const PLACE_ERROR_S: f64 = 0.03;
/// How late a stumbling player may be.
const MOST_LATE_S: f64 = 60.0;
/// An earlier beep counts as the start if it is nearly as good as the best: a test may have
/// been played twice.
const NEARLY: f32 = 0.6;
/// Of a pause after a clip, the part in which its echoes are gone.
const PAUSE_FROM_S: f64 = 0.5 * GAP_S;
const PAUSE_UNTIL_S: f64 = 0.9 * GAP_S;
/// Of a clip this may be missing at the end of a recording.
const MAY_BE_MISSING_S: f64 = 0.05;

/// How a recording lies over its playlist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// The channel of the recording that has the beep.
    pub channel: usize,
    /// Where the beep begins in the recording, seconds.
    pub start_s: f64,
    /// How much of the sound was the beep, to 1.
    pub beep_score: f64,
    /// Seconds of the recording for one of the playlist; none without an end beep.
    pub scale: Option<f64>,
    /// Seconds that came too late at the end, more than clocks explain: sound was lost or
    /// held up on the way.
    pub slipped_s: Option<f64>,
}

impl Alignment {
    /// Finds the beeps of a recording.
    ///
    /// # Errors
    /// It cannot be read, or has no start beep.
    pub fn find(recording: &Path, manifest: &Manifest) -> Result<Self, Trouble> {
        let mut sound = Sound::open(recording)?;
        let (rate_hz, channels) = (sound.layout.rate_hz, sound.layout.channels);
        let ears = |beep| {
            (0..channels)
                .map(move |_| Ear::new(beep, rate_hz))
                .collect()
        };
        let unusable = || Trouble::file(recording, &format!("{rate_hz} Hz cannot be used"));
        let starts: Option<Vec<Ear>> = ears(Beep::Start);
        let ends: Option<Vec<Ear>> = ears(Beep::End);
        let (mut starts, mut ends) = starts.zip(ends).ok_or_else(unusable)?;
        let mut meter = Meter::new(rate_hz);
        let mut mono = Vec::new();
        sound.read(0, sound.frames, |frames| {
            for channel in 0..channels {
                mono.clear();
                mono.extend(frames.chunks_exact(channels).map(|frame| frame[channel]));
                starts[channel].push(&mono);
                ends[channel].push(&mono);
                mono.iter().for_each(|&sample| meter.push(sample));
            }
        });
        starts.iter_mut().chain(&mut ends).for_each(Ear::finish);
        let hits = starts.iter().enumerate();
        let hits = hits.flat_map(|(channel, ear)| ear.hits().iter().map(move |hit| (channel, hit)));
        let best = hits.max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
        let Some((channel, best)) = best else {
            return Err(Trouble::NoBeep {
                seconds: sound.frames as f64 / f64::from(rate_hz),
                level_dbfs: meter.take().map_or(f64::NEG_INFINITY, |r| r.rms_dbfs),
            });
        };
        let mut first = starts[channel].hits().iter();
        let start = first
            .find(|hit| hit.score >= NEARLY * best.score)
            .unwrap_or(best);
        let (scale, slipped_s) = span(manifest, start, ends[channel].hits());
        Ok(Self {
            channel,
            start_s: start.at_s,
            beep_score: start.score.into(),
            scale,
            slipped_s,
        })
    }

    /// Where a time of the playlist is in the recording, seconds.
    pub fn place_s(&self, manifest: &Manifest, at_s: f64) -> f64 {
        self.start_s + (at_s - manifest.start_beep_s) * self.scale.unwrap_or(1.0)
    }
}

/// The scale that the end beep gives, or by how much it is out of place.
fn span(manifest: &Manifest, start: &Hit, ends: &[Hit]) -> (Option<f64>, Option<f64>) {
    let played_s = manifest.end_beep_s - manifest.start_beep_s;
    let late_s = |hit: &&Hit| hit.at_s - start.at_s - played_s;
    let nearby = ends.iter().filter(|hit| late_s(hit).abs() <= MOST_LATE_S);
    let Some(end) = nearby.max_by(|a, b| a.score.total_cmp(&b.score)) else {
        return (None, None);
    };
    let late_s = late_s(&end);
    match late_s.abs() <= MOST_DRIFT * played_s + PLACE_ERROR_S {
        true => (Some((end.at_s - start.at_s) / played_s), None),
        false => (None, Some(late_s)),
    }
}

/// Recognizes every clip of a recording, and the same clips straight from their files, if
/// those are there: in `folder`, or else where the manifest says.
///
/// # Errors
/// No beep; nothing of any clip; a label that the package does not have; a file that cannot
/// be read.
pub fn judge(
    model: &Model,
    manifest: &Manifest,
    recording: &Path,
    folder: Option<&Path>,
) -> Result<Report, Trouble> {
    if let Some(clip) = manifest
        .clips
        .iter()
        .find(|c| !model.labels.contains(&c.label))
    {
        return Err(Trouble::Clips(format!(
            "{} has the label {}, which the package lacks: it has {}; make the playlist again with this package",
            clip.file.display(),
            clip.label,
            model.labels.join(", ")
        )));
    }
    let alignment = Alignment::find(recording, manifest)?;
    let mut sound = Sound::open(recording)?;
    let rate_hz = sound.layout.rate_hz;
    let heard = model.listen(rate_hz, |mut listener| {
        let mut hear = |clip| heard(model, &mut listener, &mut sound, &alignment, manifest, clip);
        (0..manifest.clips.len()).map(&mut hear).collect::<Vec<_>>()
    });
    let heard = heard.map_err(Trouble::Model)?;
    if heard.iter().all(Option::is_none) {
        return Err(Trouble::NoClip {
            seconds: sound.frames as f64 / f64::from(rate_hz),
        });
    }
    let folder = folder.unwrap_or(&manifest.folder);
    let straight = straight(model, manifest, folder);
    Ok(Report::new(model, manifest, alignment, heard, straight))
}

/// A clip of the recording; none if it is not all there.
fn heard(
    model: &Model,
    listener: &mut Listener<'_, '_>,
    sound: &mut Sound,
    alignment: &Alignment,
    manifest: &Manifest,
    clip: usize,
) -> Option<Heard> {
    let clip = &manifest.clips[clip];
    let rate = f64::from(sound.layout.rate_hz);
    let frame = |at_s: f64| (alignment.place_s(manifest, at_s) * rate).round().max(0.0) as usize;
    let (from, until) = (frame(clip.start_s), frame(clip.start_s + clip.seconds));
    if until > sound.frames + (MAY_BE_MISSING_S * rate) as usize {
        return None;
    }
    let channels = sound.layout.channels;
    let mut meter = Meter::new(sound.layout.rate_hz);
    let mut summary = model.summary();
    listener.reset();
    let mut mono = Vec::new();
    sound.read(from, until - from, |frames| {
        mono.clear();
        let samples = frames.chunks_exact(channels);
        mono.extend(samples.map(|frame| frame[alignment.channel]));
        mono.iter().for_each(|&sample| meter.push(sample));
        listener.push(&mono, &mut |event| summary.observe(&event));
    });
    listener.finish(&mut |event| summary.observe(&event));
    let reading = meter.take()?;
    let pause = clip.start_s + clip.seconds;
    let (from, until) = (frame(pause + PAUSE_FROM_S), frame(pause + PAUSE_UNTIL_S));
    sound.read(from, until - from, |frames| {
        for frame in frames.chunks_exact(channels) {
            meter.push(frame[alignment.channel]);
        }
    });
    Some(Heard {
        start_s: alignment.place_s(manifest, clip.start_s),
        level_dbfs: reading.rms_dbfs,
        clipped: reading.clipped,
        noise_dbfs: meter.take().map(|reading| reading.rms_dbfs),
        answer: answer(model, &summary),
    })
}

/// The answers to the files themselves, or why there are none.
fn straight(model: &Model, manifest: &Manifest, folder: &Path) -> Straight {
    let answers = manifest.clips.iter().map(|clip| {
        let (samples, rate_hz) = read_clip(&folder.join(&clip.file))?;
        let mut summary = model.summary();
        let listened = model.listen(rate_hz, |mut listener| {
            listener.push(&samples, &mut |event| summary.observe(&event));
            listener.finish(&mut |event| summary.observe(&event));
        });
        listened.map_err(Trouble::Model)?;
        Ok(answer(model, &summary))
    });
    let answers: Result<Vec<Answer>, Trouble> = answers.collect();
    answers.map_err(|trouble| trouble.to_string())
}

fn answer(model: &Model, summary: &ClipSummary) -> Answer {
    let clip = summary.clip();
    let label = |index: u8| model.labels.get(usize::from(index)).cloned();
    Answer {
        best: match clip.verdict {
            Verdict::Silence => None,
            _ => clip.best.and_then(label),
        },
        said: crate::engine::name(clip.verdict, &model.labels).into(),
    }
}

const _: () = assert!(BEEP_S > PLACE_ERROR_S);
