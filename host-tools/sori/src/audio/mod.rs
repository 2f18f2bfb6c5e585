//! Reads audio files as mono samples in 24-bit scale, where bit-exactness begins: the channels of
//! integer PCM are averaged in integers, so that a WAV and its FLAC give the same samples.

mod coded;
mod files;

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sori_dsp::Resampler;
use sori_sound::{Reader, wav};

use coded::Coded;
pub(crate) use files::{EXTENSIONS, Source, find, with_extensions};

/// Properties of a decoded file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoded {
    /// Sample rate of the file, Hz.
    pub(crate) rate_hz: u32,
    /// Samples per channel that could be decoded.
    pub(crate) frames: u64,
    /// Warnings: damage, a missing end, values that are not numbers.
    pub(crate) warnings: Vec<String>,
}

/// Decodes a file block by block and resamples it to `to_hz`; `on_samples` sees
/// mono blocks in 24-bit scale. The whole file is never in memory.
pub(crate) fn stream(
    path: &Path,
    to_hz: u32,
    on_samples: &mut impl FnMut(&[i32]),
) -> Result<Decoded> {
    let mut file =
        AudioFile::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut rate_hz, mut frames) = (0, 0);
    let mut resampler = None;
    let (mut mono, mut resampled) = (Vec::new(), Vec::new());
    while let Some(block_rate_hz) = file.next_block(&mut mono) {
        let resampler = match &mut resampler {
            Some(resampler) => resampler,
            None => resampler.insert(
                with_table(block_rate_hz, to_hz)
                    .with_context(|| format!("cannot use {}", path.display()))?,
            ),
        };
        rate_hz = block_rate_hz;
        frames += mono.len() as u64;
        resampled.clear();
        resampler.push(&mono, &mut |sample| resampled.push(sample));
        on_samples(&resampled);
    }
    let Some(mut resampler) = resampler else {
        bail!(
            "{} contains no audio: record or export it again",
            path.display()
        );
    };
    resampled.clear();
    resampler.flush(&mut |sample| resampled.push(sample));
    on_samples(&resampled);
    Ok(Decoded {
        rate_hz,
        frames,
        warnings: file.losses().warnings(frames as f64 / f64::from(rate_hz)),
    })
}

/// A resampler that has its taps ready.
fn with_table(from_hz: u32, to_hz: u32) -> Result<Resampler<Vec<i32>>, sori_dsp::Error> {
    let resampler = Resampler::new(from_hz, to_hz)?;
    let table = vec![0; resampler.ample_table_len()];
    resampler.with_table(table)
}

/// What of a file could not be used.
struct Losses {
    /// It ends early.
    is_cut: bool,
    damaged_packets: u64,
    /// Values that are NaN or infinite.
    not_finite: u64,
}

impl Losses {
    fn warnings(&self, seconds: f64) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_cut {
            warnings.push(format!(
                "the file is truncated: only the first {seconds:.1} s were used"
            ));
        }
        if self.damaged_packets > 0 {
            warnings.push(format!(
                "{} damaged packets were skipped",
                self.damaged_packets
            ));
        }
        if self.not_finite > 0 {
            warnings.push(format!(
                "{} values are NaN or infinite and were replaced by 0",
                self.not_finite
            ));
        }
        warnings
    }
}

enum AudioFile {
    Wav(Reader<File>),
    Coded(Box<Coded>),
}

impl AudioFile {
    /// By its first bytes: names say anything.
    fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).context("check the path")?;
        if metadata.is_dir() {
            bail!("the folder contains no audio files: wav, flac, mp3 and ogg are supported");
        }
        if !metadata.is_file() {
            bail!("it is not a regular file: pipe raw PCM or WAV into `sori listen`");
        }
        if metadata.len() == 0 {
            bail!("the file is empty: record or export it again");
        }
        let mut file = File::open(path).context("check its permissions")?;
        let mut tag = Vec::new();
        (&mut file).take(4).read_to_end(&mut tag)?;
        file.rewind()?;
        if !wav::is_begun(&tag) {
            return Ok(Self::Coded(Box::new(Coded::open(path, file)?)));
        }
        match Reader::new(file, None) {
            Ok(reader) => Ok(Self::Wav(reader)),
            Err(why) => bail!("{why}: convert it to FLAC or 16-bit WAV first"),
        }
    }

    /// The next samples, and their rate; `None` at the end, or if nothing more can be read.
    fn next_block(&mut self, mono: &mut Vec<i32>) -> Option<u32> {
        match self {
            Self::Wav(reader) => match reader.next_block(None, mono) {
                Ok(true) => Some(reader.layout().rate_hz),
                Ok(false) | Err(_) => None,
            },
            Self::Coded(coded) => coded.next_block(mono),
        }
    }

    fn losses(&self) -> Losses {
        match self {
            Self::Wav(reader) => Losses {
                is_cut: reader.is_cut(),
                damaged_packets: 0,
                not_finite: reader.not_finite(),
            },
            Self::Coded(coded) => coded.losses(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use sori_sound::FULL_SCALE;

    use super::*;

    fn spec(channels: u16, rate_hz: u32) -> hound::WavSpec {
        hound::WavSpec {
            channels,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        }
    }

    fn write<S: hound::Sample>(path: &Path, spec: hound::WavSpec, samples: Vec<S>) {
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for sample in samples {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
    }

    fn read(path: &Path, to_hz: u32) -> Result<(Vec<i32>, Decoded)> {
        let mut samples = Vec::new();
        let decoded = stream(path, to_hz, &mut |block| samples.extend_from_slice(block))?;
        Ok((samples, decoded))
    }

    fn tone(frames: usize, rate_hz: u32) -> impl Iterator<Item = i16> {
        let step = TAU * 440.0 / f64::from(rate_hz);
        (0..frames).map(move |n| ((n as f64 * step).sin() * 20_000.0).round() as i16)
    }

    /// Against another reader: every width, and several channels.
    #[test]
    fn samples_are_those_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let noise = |n: u32| f64::from(n.wrapping_mul(2_654_435_761)) / f64::from(1u32 << 31) - 1.0;
        for channels in [1, 2, 5] {
            for (bits, format) in [
                (8, hound::SampleFormat::Int),
                (16, hound::SampleFormat::Int),
                (24, hound::SampleFormat::Int),
                (32, hound::SampleFormat::Int),
                (32, hound::SampleFormat::Float),
            ] {
                let spec = hound::WavSpec {
                    bits_per_sample: bits,
                    sample_format: format,
                    ..spec(channels, 16_000)
                };
                let mut writer = hound::WavWriter::create(&path, spec).unwrap();
                let count = 4_000 * u32::from(channels);
                let mut written = Vec::new();
                for x in (0..count).map(noise) {
                    match format {
                        hound::SampleFormat::Float => {
                            writer.write_sample(x as f32).unwrap();
                            let rounded = (f64::from(x as f32) * f64::from(FULL_SCALE)).round();
                            written.push((rounded as i64).min(i64::from(FULL_SCALE - 1)));
                        }
                        hound::SampleFormat::Int => {
                            let scaled = (x * f64::from(1u32 << (bits - 1))).floor() as i32;
                            writer.write_sample(scaled).unwrap();
                            written.push((i64::from(scaled) << (32 - bits)) >> 8);
                        }
                    }
                }
                writer.finalize().unwrap();
                let frames = written.chunks(channels.into());
                let means = frames.map(|frame| {
                    let sum: i64 = frame.iter().sum();
                    (sum as f64 / f64::from(channels) + 0.5).floor() as i32
                });
                assert_eq!(
                    read(&path, 16_000).unwrap().0,
                    means.collect::<Vec<_>>(),
                    "{spec:?}"
                );
            }
        }
    }

    /// As hound leaves 24 bits in four bytes, under a header that says no more: in three of them
    /// they would be noise.
    #[test]
    fn wide_containers_are_read_by_their_frames() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let samples = [1, -2, 8_388_607, -8_388_608];
        let mut bytes = b"RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\xfa\0\0\x04\0\x18\0data\x10\0\0\0".to_vec();
        bytes.extend(samples.map(i32::to_le_bytes).concat());
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path, 16_000).unwrap().0, samples);
    }

    /// A single channel passes unchanged; several differ in sign and size.
    #[test]
    fn one_to_eight_channels_are_averaged_in_integers() {
        let folder = tempfile::tempdir().unwrap();
        for channels in 1..=8u16 {
            let path = folder.path().join("x.wav");
            let gains: Vec<i32> = (0..i32::from(channels)).map(|c| c * 3 - 7).collect();
            let frames: Vec<i32> = (0..500).map(|n| n * 7 % 1000 - 500).collect();
            let samples = frames
                .iter()
                .flat_map(|x| gains.iter().map(move |g| (x * g) as i16))
                .collect();
            write(&path, spec(channels, 16_000), samples);
            let expected: Vec<i32> = frames
                .iter()
                .map(|x| {
                    let sum: i32 = gains.iter().map(|g| (x * g) << 8).sum();
                    (f64::from(sum) / f64::from(channels) + 0.5).floor() as i32
                })
                .collect();
            assert_eq!(read(&path, 16_000).unwrap().0, expected, "{channels}");
        }
    }

    #[test]
    fn every_rate_from_8_to_192_khz_keeps_the_duration() {
        let folder = tempfile::tempdir().unwrap();
        for rate_hz in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000] {
            let path = folder.path().join("x.wav");
            let frames = rate_hz as usize / 2;
            write(&path, spec(1, rate_hz), tone(frames, rate_hz).collect());
            let (samples, decoded) = read(&path, 16_000).unwrap();
            assert!(samples.len().abs_diff(8_000) <= 2, "{}", samples.len());
            assert_eq!((decoded.rate_hz, decoded.frames), (rate_hz, frames as u64));
            assert_eq!(decoded.warnings, [""; 0]);
        }
    }

    #[test]
    fn rates_outside_that_range_are_refused_with_the_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        write(&path, spec(1, 4_000), tone(4_000, 4_000).collect());
        let error = format!("{:#}", read(&path, 16_000).unwrap_err());
        assert!(error.contains("8000 to 192000 Hz"), "{error}");
    }

    #[test]
    fn nan_and_infinity_are_taken_as_zero_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let spec = hound::WavSpec {
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
            ..spec(1, 16_000)
        };
        let values = vec![0.5f32, f32::NAN, f32::INFINITY, -0.25, 3.0, -3.0];
        write(&path, spec, values);
        let (samples, decoded) = read(&path, 16_000).unwrap();
        let clipped = [FULL_SCALE - 1, -FULL_SCALE];
        assert_eq!(samples[..4], [FULL_SCALE / 2, 0, 0, -FULL_SCALE / 4]);
        assert_eq!(samples[4..], clipped);
        assert!(decoded.warnings[0].starts_with("2 values"), "{decoded:?}");
    }

    #[test]
    fn a_truncated_file_gives_what_is_there_and_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        write(&path, spec(1, 16_000), tone(32_000, 16_000).collect());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let (samples, decoded) = read(&path, 16_000).unwrap();
        assert!(
            (14_000..=16_000).contains(&samples.len()),
            "{}",
            samples.len()
        );
        assert!(decoded.warnings[0].contains("truncated"), "{decoded:?}");
    }

    #[test]
    fn files_without_audio_are_refused_and_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let cases: [(&[u8], &str); 2] = [(b"", "empty"), (b"not audio at all", "convert it")];
        for (bytes, why) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read(&path, 16_000).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        write(&path, spec(1, 16_000), Vec::<i16>::new());
        let error = format!("{:#}", read(&path, 16_000).unwrap_err());
        assert!(error.contains("contains no audio"), "{error}");
    }
}
