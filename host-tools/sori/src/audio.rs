//! Decodes audio files to mono samples in 24-bit scale, where bit-exactness begins: the
//! channels of integer PCM are averaged in integers, so that a WAV and its FLAC give the
//! same samples.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context as _, Result, bail};
use sori_dsp::Resampler;
use sori_sound::{FULL_SCALE, from_float, mean};
use symphonia::core::audio::{AudioBuffer, AudioBufferRef, Signal as _};
use symphonia::core::codecs::{CODEC_TYPE_NULL, Decoder, DecoderOptions};
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::probe::Hint;
use symphonia::core::sample::Sample;

/// Extensions of audio files.
pub(crate) const EXTENSIONS: [&str; 5] = ["wav", "flac", "mp3", "ogg", "oga"];

/// One file to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its path below the folder given, or its file name.
    pub(crate) relative: PathBuf,
}

/// The files that the arguments name, in the order of the arguments, each folder's sorted by
/// name. Missing files and folders without audio stay in the list: they are reported in their
/// turn, and do not stop the others.
pub(crate) fn find(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let before = sources.len();
        if input.is_dir() {
            sources.extend(with_extensions(input, &EXTENSIONS)?);
        }
        if sources.len() == before {
            sources.push(Source {
                path: input.clone(),
                relative: input.file_name().unwrap_or(input.as_os_str()).into(),
            });
        }
    }
    Ok(sources)
}

/// The files below a folder with one of the extensions, sorted by name. Links are followed, and
/// each folder is looked at once, however many ways lead to it.
pub(crate) fn with_extensions(folder: &Path, extensions: &[&str]) -> Result<Vec<Source>> {
    let mut walk = Walk {
        root: folder,
        extensions,
        seen: HashSet::new(),
        sources: Vec::new(),
    };
    walk.folder(folder)?;
    Ok(walk.sources)
}

struct Walk<'a> {
    root: &'a Path,
    extensions: &'a [&'a str],
    seen: HashSet<FolderId>,
    sources: Vec<Source>,
}

/// Device and inode; where there is no such thing, the path without links.
#[cfg(unix)]
type FolderId = (u64, u64);
#[cfg(not(unix))]
type FolderId = PathBuf;

#[cfg(unix)]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(folder)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    folder.canonicalize()
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let cannot = || format!("cannot list {}: check the path", folder.display());
        if !self.seen.insert(folder_id(folder).with_context(cannot)?) {
            return Ok(());
        }
        let mut entries = std::fs::read_dir(folder)
            .with_context(cannot)?
            .collect::<io::Result<Vec<_>>>()
            .with_context(cannot)?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = entry.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else if has_extension(&path, self.extensions) {
                let relative = path.strip_prefix(self.root).unwrap_or(&path).into();
                self.sources.push(Source { path, relative });
            }
        }
        Ok(())
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|found| extensions.iter().any(|e| e.eq_ignore_ascii_case(found)))
}

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
    let mut resampler = None;
    let mut resampled = Vec::new();
    while let Some((rate_hz, block)) = file.next_block() {
        let resampler = match &mut resampler {
            Some(resampler) => resampler,
            None => resampler.insert(
                Resampler::new(rate_hz, to_hz)
                    .with_context(|| format!("cannot use {}", path.display()))?,
            ),
        };
        resampled.clear();
        resampler.push(block, &mut |sample| resampled.push(sample));
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
    Ok(file.decoded())
}

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

struct AudioFile {
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
    mono: Vec<i32>,
}

impl AudioFile {
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
        let file = File::open(path).context("check its permissions")?;
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
            mono: Vec::new(),
        })
    }

    /// The next samples with their rate; `None` at the end, or if nothing more can be decoded.
    fn next_block(&mut self) -> Option<(u32, &[i32])> {
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
            self.not_a_number += mix_down(&buffer, &mut self.mono);
            if self.mono.is_empty() {
                continue;
            }
            self.rate_hz = rate_hz;
            self.frames += self.mono.len() as u64;
            return Some((rate_hz, &self.mono));
        }
    }

    fn decoded(self) -> Decoded {
        let mut warnings = Vec::new();
        // MP3 headers only estimate the length.
        let is_short = |promised: u64| self.frames < promised - promised / 50;
        if self.ended_early || self.promised.is_some_and(is_short) {
            let seconds = self.frames as f64 / f64::from(self.rate_hz.max(1));
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
        if self.not_a_number > 0 {
            warnings.push(format!(
                "{} values are NaN or infinite and were replaced by 0",
                self.not_a_number
            ));
        }
        Decoded {
            rate_hz: self.rate_hz,
            frames: self.frames,
            warnings,
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

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

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

    /// The decoder here, and what reads pipes here and files and pages on a Pi: one recording is
    /// one sequence of samples, to the last bit, in every form that both read.
    #[test]
    fn every_door_gives_the_same_samples() {
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
                for n in 0..4_000 * u32::from(channels) {
                    let x = noise(n);
                    match format {
                        hound::SampleFormat::Float => writer.write_sample(x as f32).unwrap(),
                        hound::SampleFormat::Int => {
                            let scaled = x * f64::from(1u32 << (bits - 1));
                            writer.write_sample(scaled.floor() as i32).unwrap();
                        }
                    }
                }
                writer.finalize().unwrap();
                let file = File::open(&path).unwrap();
                let mut reader = sori_sound::Reader::new(file, None).unwrap();
                let (mut piped, mut block) = (Vec::new(), Vec::new());
                while reader.next_block(None, &mut block).unwrap() {
                    piped.extend_from_slice(&block);
                }
                assert_eq!(piped.len(), 4_000);
                assert_eq!(read(&path, 16_000).unwrap().0, piped, "{spec:?}");
            }
        }
    }

    /// Folders that lead to each other in every way, and one that is deeper than any path.
    #[cfg(unix)]
    #[test]
    fn each_folder_is_looked_at_once_however_many_ways_lead_to_it() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let folders: Vec<_> = (0..12).map(|n| root.path().join(format!("f{n}"))).collect();
        for folder in &folders {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("x.wav"), b"").unwrap();
        }
        for from in &folders {
            for (n, to) in folders.iter().enumerate() {
                symlink(to, from.join(format!("to{n}"))).unwrap();
            }
        }
        let found = with_extensions(root.path(), &["wav"]).unwrap();
        assert_eq!(found.len(), 12);
        let mut deep = root.path().join("deep");
        while deep.as_os_str().len() < 3_900 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("x.wav"), b"").unwrap();
        assert_eq!(with_extensions(root.path(), &["wav"]).unwrap().len(), 13);
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

    #[test]
    fn folders_are_listed_by_name_and_other_files_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("jazz")).unwrap();
        for name in ["b.wav", "jazz/c.OGG", "a.flac", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let missing = PathBuf::from("missing.wav");
        let sources = find(&[missing, folder.path().into()]).unwrap();
        let names: Vec<_> = sources
            .iter()
            .map(|s| s.relative.to_str().unwrap())
            .collect();
        assert_eq!(names, ["missing.wav", "a.flac", "b.wav", "jazz/c.OGG"]);
    }
}
