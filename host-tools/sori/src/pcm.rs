//! Reads raw PCM from a pipe as mono samples in 24-bit scale.

use std::io::{self, Read};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::audio::{self, from_float};
use crate::exit::Failure;

/// Sample formats, little-endian, by ALSA's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// 16 bits
    #[value(name = "S16_LE", alias = "s16")]
    S16,
    /// 24 bits in the low bits of 32
    #[value(name = "S24_LE", alias = "s24")]
    S24,
    /// 24 bits in 3 bytes
    #[value(name = "S24_3LE", alias = "s24_3")]
    S24Packed,
    /// 32 bits, as I2S microphones deliver
    #[value(name = "S32_LE", alias = "s32")]
    S32,
    /// 32-bit floating point, full scale ±1
    #[value(name = "FLOAT_LE", alias = "f32")]
    Float,
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S24Packed => 3,
            Self::S24 | Self::S32 | Self::Float => 4,
        }
    }

    /// One sample of [`bytes`](Self::bytes) bytes; anything not finite is silence.
    fn sample(self, bytes: &[u8]) -> i32 {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        let value = i32::from_le_bytes(word);
        match self {
            Self::S16 => sori_dsp::from_i16(value as i16),
            Self::S24 | Self::S24Packed => value << 8 >> 8,
            Self::S32 => sori_dsp::from_i32(value),
            Self::Float => from_float(f32::from_le_bytes(word).into()).unwrap_or(0),
        }
    }
}

/// The format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) encoding: Encoding,
    pub(crate) rate_hz: u32,
    pub(crate) channels: usize,
    /// The channel to use, from 0; `None` for the mean of all.
    pub(crate) channel: Option<usize>,
}

/// Reads mono samples from bytes as they arrive.
#[derive(Debug)]
pub(crate) struct PcmReader<R> {
    input: R,
    layout: Layout,
    bytes: Vec<u8>,
    /// Bytes of an incomplete frame at the start of `bytes`.
    left: usize,
    mono: Vec<i32>,
}

/// Bytes read at a time: 64 ms at most, of 8 kHz in 16 bits.
const BLOCK: usize = 1024;

/// The stream: its first bytes again, then the rest, up to its end.
type Input<R> = io::Take<io::Chain<io::Cursor<Vec<u8>>, R>>;

impl<R: Read> PcmReader<Input<R>> {
    /// Looks at the first bytes: a WAV header, as `arecord` writes without `-t raw`, overrides
    /// the command line.
    pub(crate) fn new(mut input: R, layout: Layout) -> Result<Self> {
        let mut head = Vec::new();
        let start = input.by_ref().take(4).read_to_end(&mut head);
        start.context("cannot read standard input")?;
        let is_wav = head == b"RIFF";
        let mut input = io::Cursor::new(head).chain(input);
        let (layout, bytes) = match is_wav {
            true => {
                let header = wav_header(&mut input);
                let (found, bytes) = header.context("the WAV header on standard input")?;
                let channel = layout.channel;
                (Layout { channel, ..found }, bytes)
            }
            false => (layout, u64::MAX),
        };
        let input = input.take(bytes);
        if let Some(channel) = layout.channel
            && channel >= layout.channels
        {
            return Err(Failure::Usage(format!(
                "the stream has no channel {channel}: it has {}, counted from 0",
                layout.channels
            ))
            .into());
        }
        Ok(Self {
            input,
            layout,
            bytes: vec![0; BLOCK],
            left: 0,
            mono: Vec::new(),
        })
    }
}

impl<R: Read> PcmReader<R> {
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The next samples, as soon as any arrive; `None` at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<&[i32]>> {
        let Layout {
            encoding,
            channels,
            channel,
            ..
        } = self.layout;
        let frame = encoding.bytes() * channels;
        self.bytes.resize(BLOCK.max(2 * frame), 0);
        loop {
            let read = match self.input.read(&mut self.bytes[self.left..]) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read standard input"),
            };
            let there = self.left + read;
            let whole = there / frame * frame;
            self.mono.clear();
            for frame in self.bytes[..whole].chunks_exact(frame) {
                let mut samples = frame
                    .chunks_exact(encoding.bytes())
                    .map(|b| encoding.sample(b));
                let sample = match channel {
                    Some(channel) => samples.nth(channel).unwrap_or(0),
                    None => audio::mean(samples.map(i64::from).sum(), channels),
                };
                self.mono.push(sample);
            }
            self.bytes.copy_within(whole..there, 0);
            self.left = there - whole;
            if !self.mono.is_empty() {
                return Ok(Some(&self.mono));
            }
        }
    }
}

/// Reads a WAV header up to the first sample; returns the format, and how many bytes follow.
///
/// A writer that cannot seek does not know the length and writes 0 or a huge one, which
/// libraries for files, not pipes, take for damage.
fn wav_header(input: &mut impl Read) -> Result<(Layout, u64)> {
    const UNKNOWN: u32 = 0x7fff_0000;
    let mut take = |bytes: u64| -> Result<Vec<u8>> {
        let mut chunk = Vec::new();
        input.by_ref().take(bytes).read_to_end(&mut chunk)?;
        ensure!(chunk.len() as u64 == bytes, "it ends too early: send more");
        Ok(chunk)
    };
    ensure!(
        take(12)?[8..] == *b"WAVE",
        "it is not WAV: send WAV or raw PCM"
    );
    let mut layout = None;
    loop {
        let head = take(8)?;
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match (&head[..4], layout) {
            (b"data", Some(layout)) => {
                let known = (1..UNKNOWN).contains(&size);
                return Ok((layout, if known { size.into() } else { u64::MAX }));
            }
            (b"fmt ", _) if (16..=64).contains(&size) => {
                layout = Some(wav_layout(&take(size.into())?)?)
            }
            _ => {
                ensure!(size < 1 << 20, "it is damaged: record it again");
                // Chunks are padded to an even length.
                take(u64::from(size.next_multiple_of(2)))?;
            }
        }
    }
}

/// The `fmt ` chunk, of at least 16 bytes.
fn wav_layout(chunk: &[u8]) -> Result<Layout> {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    const EXTENSIBLE: u16 = 0xfffe;
    let u16_at = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
    let tag = match u16_at(0) {
        // The tag proper is the start of the subformat's identifier.
        EXTENSIBLE if chunk.len() >= 26 => u16_at(24),
        tag => tag,
    };
    let bits = u16_at(14);
    let encoding = match (tag, bits) {
        (PCM, 16) => Encoding::S16,
        (PCM, 24) => Encoding::S24Packed,
        (PCM, 32) => Encoding::S32,
        (FLOAT, 32) => Encoding::Float,
        _ => bail!(
            "samples of {bits} bits, format {tag}, are not supported: record with -f S16_LE or S32_LE"
        ),
    };
    ensure!(
        (1..=32).contains(&u16_at(2)),
        "{} channels are not supported: record 1 to 32",
        u16_at(2)
    );
    Ok(Layout {
        encoding,
        rate_hz: u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        channels: u16_at(2).into(),
        channel: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(encoding: Encoding, channels: usize, channel: Option<usize>) -> Layout {
        Layout {
            encoding,
            rate_hz: 48_000,
            channels,
            channel,
        }
    }

    /// Returns a few bytes at a time, as a pipe may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let now = self.1.min(self.0.len()).min(buffer.len());
            buffer[..now].copy_from_slice(&self.0[..now]);
            self.0 = &self.0[now..];
            Ok(now)
        }
    }

    fn all(bytes: &[u8], step: usize, layout: Layout) -> Vec<i32> {
        let mut reader = PcmReader::new(Dribble(bytes, step), layout).unwrap();
        let mut samples = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            samples.extend_from_slice(block);
        }
        samples
    }

    /// -1/2 of full scale, then its smallest step or silence.
    #[test]
    fn every_encoding_comes_to_24_bit_scale() {
        let half = -(1 << 22);
        let cases: [(Encoding, Vec<u8>, [i32; 2]); 5] = [
            (Encoding::S16, [0x00, 0xc0, 1, 0].into(), [half, 256]),
            (Encoding::S24Packed, [0, 0, 0xc0, 1, 0, 0].into(), [half, 1]),
            // What lies above the 24 bits is not part of the sample.
            (Encoding::S24, [0, 0, 0xc0, 0, 1, 0, 0, 0].into(), [half, 1]),
            (Encoding::S32, [0, 0, 0, 0xc0, 0, 1, 0, 0].into(), [half, 1]),
            (
                Encoding::Float,
                [(-0.5f32).to_le_bytes(), f32::NAN.to_le_bytes()].concat(),
                [half, 0],
            ),
        ];
        for (encoding, bytes, expected) in cases {
            assert_eq!(
                all(&bytes, 99, layout(encoding, 1, None)),
                expected,
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn frames_may_arrive_in_any_pieces() {
        let bytes: Vec<u8> = (0..6 * 100).map(|n| (n * 7 % 251) as u8).collect();
        let whole = all(&bytes, 600, layout(Encoding::S16, 3, None));
        assert_eq!(whole.len(), 100);
        for step in [1, 2, 5, 7] {
            assert_eq!(all(&bytes, step, layout(Encoding::S16, 3, None)), whole);
        }
    }

    #[test]
    fn one_channel_of_two_can_be_chosen() {
        let bytes = [100i16, -200, 300, -400].map(i16::to_le_bytes).concat();
        let only = |channel| all(&bytes, 3, layout(Encoding::S16, 2, channel));
        assert_eq!(only(Some(0)), [100 << 8, 300 << 8]);
        assert_eq!(only(Some(1)), [-200 << 8, -400 << 8]);
        assert_eq!(only(None), [-50 << 8, -50 << 8]);
        let wrong = PcmReader::new(&bytes[..], layout(Encoding::S16, 2, Some(2)));
        assert!(wrong.unwrap_err().to_string().contains("channel 2"));
    }

    #[test]
    fn a_wav_header_says_what_follows() {
        let mut bytes = io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 22_050,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for sample in [256, 768, -256, -768] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let reader = PcmReader::new(&bytes.get_ref()[..], layout(Encoding::S16, 1, None)).unwrap();
        assert_eq!(reader.layout().rate_hz, 22_050);
        let mut bytes = bytes.into_inner();
        // What follows the samples is no sound, as long as their length is known.
        bytes.extend(b"LIST\x04\x00\x00\x00\x7f\x7f\x7f\x7f");
        let heard = |bytes: &[u8]| all(bytes, 5, layout(Encoding::S16, 1, None));
        assert_eq!(heard(&bytes), [2, -2]);
        let length = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
        for unknown in [0, 0x7fff_ffff, u32::MAX] {
            let end = bytes.len() - 12;
            bytes[length..][..4].copy_from_slice(&unknown.to_le_bytes());
            assert_eq!(heard(&bytes[..end]), [2, -2], "{unknown:x}");
        }
    }

    #[test]
    fn a_damaged_wav_header_is_refused() {
        let good =
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data";
        for end in 5..good.len() {
            let short = PcmReader::new(&good[..end], layout(Encoding::S16, 1, None));
            assert!(short.is_err(), "{end}");
        }
        for (at, byte) in [(8, b'X'), (20, 9), (22, 0), (34, 12)] {
            let mut bytes = [&good[..], &[4, 0, 0, 0, 1, 2, 3, 4]].concat();
            let reader = |bytes: &[u8]| {
                PcmReader::new(
                    io::Cursor::new(bytes.to_vec()),
                    layout(Encoding::S16, 1, None),
                )
                .map(|_| ())
            };
            assert!(reader(&bytes).is_ok());
            bytes[at] = byte;
            assert!(reader(&bytes).is_err(), "{at}");
        }
    }
}
