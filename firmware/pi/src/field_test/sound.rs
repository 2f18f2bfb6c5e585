//! WAV files as samples of 24 bits, a piece at a time.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::Trouble;
use crate::engine::Layout;
use crate::meter::FULL_SCALE;

/// Frames that are read at a time.
const PIECE: usize = 4096;

/// An open WAV file.
pub(super) struct Sound {
    reader: WavReader<BufReader<File>>,
    pub(super) layout: Layout,
    /// Frames in it.
    pub(super) frames: usize,
}

impl Sound {
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let reader = WavReader::open(path).map_err(|error| Trouble::file(path, &error))?;
        let spec = reader.spec();
        let layout = Layout {
            rate_hz: spec.sample_rate,
            channels: usize::from(spec.channels.max(1)),
        };
        if !(8_000..=192_000).contains(&layout.rate_hz) {
            let why = format!("{} Hz is no rate from 8 to 192 kHz", layout.rate_hz);
            return Err(Trouble::file(path, &why));
        }
        Ok(Self {
            frames: reader.duration() as usize,
            reader,
            layout,
        })
    }

    /// Reads so many frames from one of them on; fewer, or none, where the file ends or
    /// breaks.
    pub(super) fn read(&mut self, from: usize, count: usize, mut on_frames: impl FnMut(&[i32])) {
        let count = count.min(self.frames.saturating_sub(from));
        let seek = u32::try_from(from).map(|from| self.reader.seek(from));
        if count == 0 || !matches!(seek, Ok(Ok(()))) {
            return;
        }
        let spec = self.reader.spec();
        let bits = u32::from(spec.bits_per_sample);
        match spec.sample_format {
            SampleFormat::Float => {
                let samples = self.reader.samples::<f32>().map_while(Result::ok);
                let whole = |x: f32| f64::from(x.clamp(-1.0, 1.0)) * (FULL_SCALE - 1.0);
                let samples = samples.map(|x| whole(x) as i32);
                pieces(samples, count, self.layout.channels, &mut on_frames);
            }
            SampleFormat::Int => {
                let samples = self.reader.samples::<i32>().map_while(Result::ok);
                let samples = samples.map(|x| match bits {
                    25.. => x >> (bits - 24),
                    _ => x << (24 - bits),
                });
                pieces(samples, count, self.layout.channels, &mut on_frames);
            }
        }
    }
}

fn pieces(
    mut samples: impl Iterator<Item = i32>,
    frames: usize,
    channels: usize,
    on_frames: &mut impl FnMut(&[i32]),
) {
    let mut left = frames;
    let mut piece = Vec::with_capacity(PIECE * channels);
    while left > 0 {
        let now = left.min(PIECE);
        piece.clear();
        piece.extend(samples.by_ref().take(now * channels));
        let whole = piece.len() - piece.len() % channels;
        on_frames(&piece[..whole]);
        if piece.len() < now * channels {
            return;
        }
        left -= now;
    }
}

/// The mean of the channels, at most so many seconds.
pub(super) fn mono(path: &Path, most_s: f64) -> Result<(Vec<i32>, u32), Trouble> {
    let mut sound = Sound::open(path)?;
    let Layout { rate_hz, channels } = sound.layout;
    let most = (most_s * f64::from(rate_hz)) as usize;
    let mut samples = Vec::new();
    sound.read(0, most, |frames| {
        samples.extend(frames.chunks_exact(channels).map(|frame| {
            let sum: i64 = frame.iter().copied().map(i64::from).sum();
            (sum / channels as i64) as i32
        }));
    });
    Ok((samples, rate_hz))
}
