//! Compressed files, by symphonia.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use anyhow::{Context as _, Result, bail};
use sori_sound::{FULL_SCALE, from_float, mean};
use symphonia::core::audio::{AudioBuffer, AudioBufferRef, Signal as _};
use symphonia::core::codecs::{CODEC_TYPE_NULL, Decoder, DecoderOptions};
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::probe::Hint;
use symphonia::core::sample::Sample;

use super::Losses;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs the decoder, which panics on some damaged files (such as a header with 0 Hz); `None`
/// if it did. One file must not stop the others.
fn guarded<T>(decode: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                report(info);
            }
        }));
    });
    DECODING.set(true);
    // The decoder is never used again after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(false);
    result.ok()
}

/// A compressed file.
pub(super) struct Coded {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn Decoder>,
    track: u32,
    /// Samples per channel according to the file's header.
    promised: Option<u64>,
    rate_hz: u32,
    frames: u64,
    damaged_packets: u64,
    not_a_number: u64,
    ended_early: bool,
}

impl Coded {
    pub(super) fn open(path: &Path, file: File) -> Result<Self> {
        guarded(|| Self::decode(path, file))
            .unwrap_or_else(|| bail!("the file is damaged: convert it first"))
    }

    fn decode(path: &Path, file: File) -> Result<Self> {
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let format = symphonia::default::get_probe()
            .format(
                &hint,
                MediaSourceStream::new(Box::new(file), Default::default()),
                &FormatOptions::default(),
                &MetadataOptions::default(),
            )
            .context("it is not a readable wav, flac, mp3 or ogg file: convert it first")?
            .format;
        let track = format
            .tracks()
            .iter()
            .find(|track| track.codec_params.codec != CODEC_TYPE_NULL)
            .context("the file has no audio track")?;
        let decoder = symphonia::default::get_codecs()
            .make(&track.codec_params, &DecoderOptions::default())
            .context("its codec is not supported: convert it to FLAC or 16-bit WAV first")?;
        Ok(Self {
            track: track.id,
            promised: track.codec_params.n_frames,
            decoder,
            format,
            rate_hz: 0,
            frames: 0,
            damaged_packets: 0,
            not_a_number: 0,
            ended_early: false,
        })
    }

    /// The next samples, and their rate; `None` at the end, or if nothing more can be decoded.
    pub(super) fn next_block(&mut self, mono: &mut Vec<i32>) -> Option<u32> {
        loop {
            let packet = match guarded(|| self.format.next_packet()) {
                Some(Ok(packet)) => packet,
                Some(Err(DecodeError::IoError(error)))
                    if error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    return None;
                }
                _ => {
                    self.ended_early = true;
                    return None;
                }
            };
            if packet.track_id() != self.track {
                continue;
            }
            let decoder = &mut self.decoder;
            let Some(Ok(buffer)) = guarded(move || decoder.decode(&packet)) else {
                self.damaged_packets += 1;
                continue;
            };
            let rate_hz = buffer.spec().rate;
            if self.rate_hz != 0 && self.rate_hz != rate_hz {
                self.ended_early = true;
                return None;
            }
            self.not_a_number += mix_down(&buffer, mono);
            if mono.is_empty() {
                continue;
            }
            self.rate_hz = rate_hz;
            self.frames += mono.len() as u64;
            return Some(rate_hz);
        }
    }

    pub(super) fn losses(&self) -> Losses {
        // MP3 headers only estimate the length.
        let is_short = |promised: u64| self.frames < promised - promised / 50;
        Losses {
            is_cut: self.ended_early || self.promised.is_some_and(is_short),
            damaged_packets: self.damaged_packets,
            not_finite: self.not_a_number,
        }
    }
}

/// Averages the channels into `mono`; returns how many values were not finite.
fn mix_down(buffer: &AudioBufferRef<'_>, mono: &mut Vec<i32>) -> u64 {
    let mut not_a_number = 0;
    let mut or_silence = |x: f64| {
        from_float(x).unwrap_or_else(|| {
            not_a_number += 1;
            0
        })
    };
    match buffer {
        AudioBufferRef::U8(b) => average(b, |x| (i32::from(x) - 0x80) << 16, mono),
        AudioBufferRef::U16(b) => average(b, |x| (i32::from(x) - 0x8000) << 8, mono),
        AudioBufferRef::U24(b) => average(b, |x| x.inner() as i32 - FULL_SCALE, mono),
        AudioBufferRef::U32(b) => average(b, |x| (x >> 8) as i32 - FULL_SCALE, mono),
        AudioBufferRef::S8(b) => average(b, |x| i32::from(x) << 16, mono),
        AudioBufferRef::S16(b) => average(b, sori_dsp::from_i16, mono),
        AudioBufferRef::S24(b) => average(b, |x| x.inner(), mono),
        AudioBufferRef::S32(b) => average(b, sori_dsp::from_i32, mono),
        AudioBufferRef::F32(b) => average(b, |x| or_silence(x.into()), mono),
        AudioBufferRef::F64(b) => average(b, or_silence, mono),
    }
    not_a_number
}

fn average<S: Sample>(
    buffer: &AudioBuffer<S>,
    mut to_sample: impl FnMut(S) -> i32,
    mono: &mut Vec<i32>,
) {
    let channels = buffer.spec().channels.count();
    mono.clear();
    mono.extend((0..buffer.frames()).map(|frame| {
        let of_channel = |channel| i64::from(to_sample(buffer.chan(channel)[frame]));
        mean((0..channels).map(of_channel).sum(), channels)
    }));
}
