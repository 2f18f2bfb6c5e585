//! The beginning of a WAV file (RIFF with Microsoft's `WAVEFORMATEX` or `WAVEFORMATEXTENSIBLE`; RF64
//! of EBU Tech 3306 for more than 4 GB), as much of it as has come: on a pipe it comes in parts, and
//! its lengths may not be known.

use std::fmt;

use crate::{Encoding, Layout};

/// What a WAV file begins with: of 32-bit lengths, or of 64-bit ones by either name.
const TAGS: [[u8; 4]; 3] = [*b"RIFF", *b"RF64", *b"BW64"];

/// Most channels. A header that claims more is damaged, and would ask for gigabytes.
pub const MAX_CHANNELS: usize = 64;

/// What may come before the samples: no more of it needs to be read in search of them.
pub const MAX_HEAD: usize = 16 << 20;

/// A writer that does not know the length yet writes 0, or one near the end of 31 or 32 bits.
const UNKNOWN_LENGTH: u32 = 0x7fff_0000;

/// Longest description of a format: the extensible one has 40 bytes.
const MAX_FORMAT: usize = 1 << 10;

/// What comes before the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How they lie.
    pub layout: Layout,
    /// Where they begin, bytes from the file's first.
    pub begin: usize,
    /// Their bytes, if the writer knew.
    pub len: Option<u64>,
}

/// Why a WAV file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// It is something else.
    NotWav,
    /// Its samples come before what describes them, or that is too short.
    Undescribed,
    /// Not PCM, by its format tag.
    Compressed {
        /// `wFormatTag`.
        tag: u16,
    },
    /// A width of samples that nothing writes.
    Width {
        /// Significant bits.
        bits: u16,
        /// Bytes that they lie in.
        bytes: u16,
    },
    /// No channel, or more than [`MAX_CHANNELS`].
    Channels {
        /// So many.
        found: u16,
    },
    /// No samples begin in the first [`MAX_HEAD`] bytes.
    Endless,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWav => f.write_str("it is not a WAV file"),
            Self::Undescribed => f.write_str("nothing describes its samples: the file is damaged"),
            Self::Compressed { tag } => {
                write!(f, "its samples are compressed (format {tag})")
            }
            Self::Width { bits, bytes } => {
                write!(f, "its samples have {bits} bits in {bytes} bytes")
            }
            Self::Channels { found } => write!(
                f,
                "it has {found} channels; 1 to {MAX_CHANNELS} are supported"
            ),
            Self::Endless => write!(f, "no samples begin in its first {} MB", MAX_HEAD >> 20),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Whether that can be nothing else.
pub fn is_begun(bytes: &[u8]) -> bool {
    TAGS.iter().any(|tag| bytes.starts_with(tag))
}

/// Finds the samples; none if there are too few bytes to say.
///
/// # Errors
/// See [`Unsupported`].
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Unsupported> {
    let tag = &bytes[..bytes.len().min(4)];
    let kind = bytes.get(8..12).unwrap_or(b"WAVE");
    if !TAGS.iter().any(|known| known.starts_with(tag)) || kind != b"WAVE" {
        return Err(Unsupported::NotWav);
    }
    let (mut at, mut layout, mut long) = (12usize, None, None);
    while let Some((&name, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<4>) {
        let Some((&len, _)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let (begin, len) = (at + 8, u32::from_le_bytes(len));
        let end = begin.saturating_add(len as usize);
        match &name {
            b"data" => {
                return Ok(Some(Head {
                    layout: layout.ok_or(Unsupported::Undescribed)?,
                    begin,
                    len: match len {
                        1..UNKNOWN_LENGTH => Some(len.into()),
                        _ => long.filter(|&len| len > 0),
                    },
                }));
            }
            b"fmt " => {
                if len as usize > MAX_FORMAT {
                    return Err(Unsupported::Undescribed);
                }
                let Some(format) = bytes.get(begin..end) else {
                    break;
                };
                layout = Some(self::layout(format)?);
            }
            b"ds64" => {
                // After the length of the whole file.
                let Some(length) = bytes.get(begin + 8..begin + 16) else {
                    break;
                };
                long = length.first_chunk().copied().map(u64::from_le_bytes);
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = end.saturating_add(len as usize % 2);
        if at > MAX_HEAD {
            return Err(Unsupported::Endless);
        }
    }
    Ok(None)
}

/// From the `fmt ` chunk.
fn layout(format: &[u8]) -> Result<Layout, Unsupported> {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    const A_LAW: u16 = 6;
    const MU_LAW: u16 = 7;
    const EXTENSIBLE: u16 = 0xfffe;
    let Some(head) = format.first_chunk::<16>() else {
        return Err(Unsupported::Undescribed);
    };
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let (channels, frame, width) = (word(2), word(12), word(14));
    let (tag, bits) = match (word(0), format.get(18..26)) {
        // The significant bits, and the tag proper, which begins the subformat's identifier.
        (EXTENSIBLE, Some(more)) => (
            u16::from_le_bytes([more[6], more[7]]),
            u16::from_le_bytes([more[0], more[1]]),
        ),
        (tag, _) => (tag, width),
    };
    let bits = if bits == 0 { width } else { bits };
    if !(1..=MAX_CHANNELS).contains(&usize::from(channels)) {
        return Err(Unsupported::Channels { found: channels });
    }
    let bytes = frame / channels;
    let encoding = match (tag, bits, bytes) {
        (PCM, 8, 1) => Encoding::U8,
        (PCM, 16, 2) => Encoding::S16,
        // As libraries write 24 bits: in three bytes, or in four, in their lower or upper part.
        (PCM, 24, 3) => Encoding::S24Packed,
        (PCM, 24, 4) if width == 24 => Encoding::S24,
        (PCM, 24 | 32, 4) => Encoding::S32,
        (FLOAT, 32, 4) => Encoding::Float,
        (FLOAT, 64, 8) => Encoding::Double,
        (A_LAW, 8, 1) => Encoding::ALaw,
        (MU_LAW, 8, 1) => Encoding::MuLaw,
        (PCM | FLOAT | A_LAW | MU_LAW, ..) => return Err(Unsupported::Width { bits, bytes }),
        _ => return Err(Unsupported::Compressed { tag }),
    };
    Ok(Layout {
        encoding,
        rate_hz: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        channels: channels.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head of 16-bit mono at 16 kHz.
    const GOOD: &[u8; 44] = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\x08\0\0\0";

    #[test]
    fn it_is_found_as_soon_as_it_is_there() {
        for end in 0..44 {
            assert_eq!(head(&GOOD[..end]), Ok(None), "{end}");
        }
        let found = head(GOOD).unwrap().expect("all of it");
        assert_eq!((found.begin, found.len), (44, Some(8)));
        assert_eq!(
            found.layout,
            Layout {
                encoding: Encoding::S16,
                rate_hz: 16_000,
                channels: 1
            }
        );
        for unknown in [0, 0x7fff_0000, 0x7fff_ffff, u32::MAX] {
            let mut bytes = *GOOD;
            bytes[40..].copy_from_slice(&unknown.to_le_bytes());
            assert_eq!(head(&bytes).unwrap().unwrap().len, None, "{unknown:x}");
        }
    }

    #[test]
    fn what_stands_between_is_skipped() {
        let mut bytes = GOOD[..12].to_vec();
        bytes.extend(b"JUNK\x03\0\0\0abc\0");
        bytes.extend(&GOOD[12..]);
        assert_eq!(head(&bytes).unwrap().unwrap().begin, 44 + 12);
        bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(head(&bytes), Err(Unsupported::Endless));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let with = |at: usize, value: &[u8]| {
            let mut bytes = *GOOD;
            bytes[at..][..value.len()].copy_from_slice(value);
            head(&bytes)
        };
        assert_eq!(head(b"ID3\x04"), Err(Unsupported::NotWav));
        assert_eq!(with(8, b"AVI "), Err(Unsupported::NotWav));
        assert_eq!(with(12, b"data"), Err(Unsupported::Undescribed));
        assert_eq!(with(16, &[0, 0, 1]), Err(Unsupported::Undescribed));
        assert_eq!(with(20, &[2]), Err(Unsupported::Compressed { tag: 2 }));
        assert_eq!(with(22, &[0]), Err(Unsupported::Channels { found: 0 }));
        assert_eq!(with(22, &[65]), Err(Unsupported::Channels { found: 65 }));
        assert_eq!(
            with(34, &[12]),
            Err(Unsupported::Width { bits: 12, bytes: 2 })
        );
    }

    /// As hound writes every width, extensible headers among them.
    #[test]
    fn another_writer_s_heads_are_understood() {
        use hound::SampleFormat::{Float, Int};
        for (bits, format, channels, encoding) in [
            (8, Int, 1, Encoding::U8),
            (16, Int, 2, Encoding::S16),
            (24, Int, 3, Encoding::S24Packed),
            (32, Int, 8, Encoding::S32),
            (32, Float, 2, Encoding::Float),
        ] {
            let spec = hound::WavSpec {
                channels,
                sample_rate: 44_100,
                bits_per_sample: bits,
                sample_format: format,
            };
            let mut file = std::io::Cursor::new(Vec::new());
            hound::WavWriter::new(&mut file, spec)
                .and_then(hound::WavWriter::finalize)
                .unwrap();
            let found = head(file.get_ref()).unwrap().expect("a whole file");
            let expected = Layout {
                encoding,
                rate_hz: 44_100,
                channels: channels.into(),
            };
            assert_eq!(found.layout, expected, "{spec:?}");
            assert_eq!(found.begin, file.get_ref().len());
        }
    }
}
