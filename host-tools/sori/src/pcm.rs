//! What stands on standard input, by ALSA's names.

use std::io::Read;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use sori_sound::{Encoding, Layout, Reader};

use crate::exit::Failure;

/// Sample formats, little-endian, by ALSA's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
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

impl From<Format> for Encoding {
    fn from(format: Format) -> Self {
        match format {
            Format::S16 => Self::S16,
            Format::S24 => Self::S24,
            Format::S24Packed => Self::S24Packed,
            Format::S32 => Self::S32,
            Format::Float => Self::Float,
        }
    }
}

/// Looks at the first bytes: a WAV header, as `arecord` writes without `-t raw`, overrides the
/// command line. The channel to use is counted from 0; none is the mean of all.
pub(crate) fn open<R: Read>(input: R, layout: Layout, channel: Option<usize>) -> Result<Reader<R>> {
    let reader = Reader::new(input, Some(layout)).context("cannot read standard input")?;
    let channels = reader.layout().channels;
    if let Some(channel) = channel
        && channel >= channels
    {
        return Err(Failure::Usage(format!(
            "the stream has no channel {channel}: it has {channels}, counted from 0"
        ))
        .into());
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_not_there_is_an_error_of_use() {
        let layout = Layout {
            encoding: Format::S16.into(),
            rate_hz: 48_000,
            channels: 2,
        };
        assert!(open(&[0; 8][..], layout, Some(1)).is_ok());
        let wrong = open(&[0; 8][..], layout, Some(2)).expect_err("there are two");
        assert!(wrong.to_string().contains("channel 2"), "{wrong}");
    }
}
