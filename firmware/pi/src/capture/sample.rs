//! Samples as devices and files have them, and as Sori does: 24 bits in an `i32`.

/// Samples of interleaved frames, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Unsigned, 128 is zero: old files only.
    U8,
    /// Signed 16 bits.
    S16,
    /// Signed 24 bits in three bytes.
    S24,
    /// Signed 24 bits in the lower three of four bytes.
    S24In32,
    /// Signed 32 bits; an I2S microphone leaves the lowest eight zero.
    S32,
    /// From -1 to 1.
    F32,
}

impl Format {
    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S24In32 | Self::S32 | Self::F32 => 4,
        }
    }

    /// Appends the samples; bytes that make no whole one are left out.
    pub fn decode(self, bytes: &[u8], into: &mut Vec<i32>) {
        match self {
            Self::U8 => into.extend(bytes.iter().map(|&b| (i32::from(b) - 128) << 16)),
            Self::S16 => into.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| i32::from(i16::from_le_bytes(b)) << 8),
            ),
            Self::S24 => into.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            ),
            // What is in the highest byte is not defined.
            Self::S24In32 => into.extend(words(bytes).map(|b| (i32::from_le_bytes(b) << 8) >> 8)),
            Self::S32 => into.extend(words(bytes).map(|b| i32::from_le_bytes(b) >> 8)),
            Self::F32 => into.extend(words(bytes).map(|b| {
                // Also makes 0 of what is no number.
                ((f32::from_le_bytes(b) * 8_388_608.0) as i32).clamp(-8_388_608, 8_388_607)
            })),
        }
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(format: Format, bytes: &[u8]) -> Vec<i32> {
        let mut samples = Vec::new();
        format.decode(bytes, &mut samples);
        samples
    }

    #[test]
    fn full_scale_is_the_same_in_every_format() {
        for (format, least, most, top) in [
            (Format::U8, &[0][..], &[255][..], 127 << 16),
            (Format::S16, &[0, 0x80], &[0xff, 0x7f], 32_767 << 8),
            (Format::S24, &[0, 0, 0x80], &[0xff, 0xff, 0x7f], 8_388_607),
            (
                Format::S24In32,
                &[0, 0, 0x80, 0x55],
                &[0xff, 0xff, 0x7f, 0xaa],
                8_388_607,
            ),
            (
                Format::S32,
                &[9, 0, 0, 0x80],
                &[0xff, 0xff, 0xff, 0x7f],
                8_388_607,
            ),
            (
                Format::F32,
                &(-1f32).to_le_bytes(),
                &1f32.to_le_bytes(),
                8_388_607,
            ),
        ] {
            assert_eq!(decoded(format, least), [-8_388_608], "{format:?}");
            assert_eq!(decoded(format, most), [top], "{format:?}");
            assert_eq!(format.bytes(), least.len(), "{format:?}");
        }
    }

    #[test]
    fn the_lowest_bit_of_24_survives_and_the_order_stays() {
        assert_eq!(decoded(Format::S24, &[1, 0, 0, 0xff, 0xff, 0xff]), [1, -1]);
        let words = [0x0000_0100_i32, -0x100].map(i32::to_le_bytes).concat();
        assert_eq!(decoded(Format::S32, &words), [1, -1]);
        // Half a sample is no sample.
        assert_eq!(decoded(Format::S16, &[1, 0, 7]), [256]);
    }

    #[test]
    fn floats_that_are_no_numbers_are_silence_and_the_others_stay_in_range() {
        let floats = [f32::NAN, f32::INFINITY, -7.0].map(f32::to_le_bytes);
        assert_eq!(
            decoded(Format::F32, &floats.concat()),
            [0, 8_388_607, -8_388_608]
        );
    }
}
