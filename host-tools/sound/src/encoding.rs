/// Full scale of the samples: they lie in `-FULL_SCALE..FULL_SCALE`.
pub const FULL_SCALE: i32 = 1 << 23;

/// Samples of interleaved frames, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Unsigned 8 bits, 128 is zero: old WAV files.
    U8,
    /// Signed 16 bits.
    S16,
    /// Signed 24 bits in three bytes.
    S24Packed,
    /// Signed 24 bits in the lower three of four bytes; the highest is not defined.
    S24,
    /// Signed 32 bits; an I2S microphone leaves the lowest eight zero.
    S32,
    /// 32-bit floating point, full scale ±1.
    Float,
    /// 64-bit floating point, full scale ±1.
    Double,
}

impl Encoding {
    /// Bytes of a sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16 => 2,
            Self::S24Packed => 3,
            Self::S24 | Self::S32 | Self::Float => 4,
            Self::Double => 8,
        }
    }

    /// One sample of [`bytes`](Self::bytes) bytes; none if it is NaN or infinite.
    ///
    /// # Panics
    /// With more bytes than those.
    pub fn sample(self, bytes: &[u8]) -> Option<i32> {
        let mut word = [0; 8];
        word[..self.bytes()][..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, ..] = word;
        let value = i32::from_le_bytes([a, b, c, d]);
        Some(match self {
            Self::U8 => (value - 128) << 16,
            Self::S16 => value << 16 >> 8,
            Self::S24 | Self::S24Packed => value << 8 >> 8,
            Self::S32 => value >> 8,
            Self::Float => return from_float(f32::from_bits(value as u32).into()),
            Self::Double => return from_float(f64::from_le_bytes(word)),
        })
    }

    /// Appends samples, those that are no numbers as silence, and returns how many those were.
    /// Bytes that make no whole sample are left out.
    pub fn decode(self, bytes: &[u8], into: &mut Vec<i32>) -> u64 {
        let mut not_finite = 0;
        into.extend(bytes.chunks_exact(self.bytes()).map(|bytes| {
            self.sample(bytes).unwrap_or_else(|| {
                not_finite += 1;
                0
            })
        }));
        not_finite
    }
}

/// A sample of full scale ±1, rounded to the nearest and clipped; none if it is not finite.
pub fn from_float(x: f64) -> Option<i32> {
    let scaled = (x * f64::from(FULL_SCALE)).round();
    let clipped = scaled.clamp(f64::from(-FULL_SCALE), f64::from(FULL_SCALE - 1));
    x.is_finite().then_some(clipped as i32)
}

/// Mean over the channels of a frame from their sum, rounded to the nearest with halves going up.
pub fn mean(sum: i64, channels: usize) -> i32 {
    let divisor = channels.max(1) as i64;
    (sum + divisor / 2).div_euclid(divisor) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<i32> {
        let mut samples = Vec::new();
        encoding.decode(bytes, &mut samples);
        samples
    }

    #[test]
    fn full_scale_is_the_same_in_every_encoding() {
        for (encoding, least, most, top) in [
            (Encoding::U8, &[0][..], &[255][..], 127 << 16),
            (Encoding::S16, &[0, 0x80], &[0xff, 0x7f], 32_767 << 8),
            (
                Encoding::S24Packed,
                &[0, 0, 0x80],
                &[0xff, 0xff, 0x7f],
                8_388_607,
            ),
            (
                Encoding::S24,
                &[0, 0, 0x80, 0x55],
                &[0xff, 0xff, 0x7f, 0xaa],
                8_388_607,
            ),
            (
                Encoding::S32,
                &[9, 0, 0, 0x80],
                &[0xff, 0xff, 0xff, 0x7f],
                8_388_607,
            ),
            (
                Encoding::Float,
                &(-1f32).to_le_bytes(),
                &1f32.to_le_bytes(),
                8_388_607,
            ),
            (
                Encoding::Double,
                &(-1f64).to_le_bytes(),
                &1f64.to_le_bytes(),
                8_388_607,
            ),
        ] {
            assert_eq!(decoded(encoding, least), [-FULL_SCALE], "{encoding:?}");
            assert_eq!(decoded(encoding, most), [top], "{encoding:?}");
            assert_eq!(encoding.bytes(), least.len(), "{encoding:?}");
        }
    }

    #[test]
    fn the_lowest_bit_of_24_survives_and_the_order_stays() {
        let packed = [1, 0, 0, 0xff, 0xff, 0xff];
        assert_eq!(decoded(Encoding::S24Packed, &packed), [1, -1]);
        let words = [0x0000_0100_i32, -0x100].map(i32::to_le_bytes).concat();
        assert_eq!(decoded(Encoding::S32, &words), [1, -1]);
        // Half a sample is no sample.
        assert_eq!(decoded(Encoding::S16, &[1, 0, 7]), [256]);
    }

    /// Half a step goes away from zero, as `round` has it; truncation would make 0 of all four.
    #[test]
    fn floats_are_rounded_clipped_and_silent_where_they_are_no_numbers() {
        let step = 1.0 / FULL_SCALE as f32;
        let floats = [0.5 * step, 0.49 * step, -0.5 * step, 0.9 * step];
        let bytes = floats.map(f32::to_le_bytes).concat();
        assert_eq!(decoded(Encoding::Float, &bytes), [1, 0, -1, 1]);
        let floats = [f32::NAN, f32::INFINITY, -7.0, 7.0].map(f32::to_le_bytes);
        let mut samples = Vec::new();
        let not_finite = Encoding::Float.decode(&floats.concat(), &mut samples);
        assert_eq!(samples, [0, 0, -FULL_SCALE, FULL_SCALE - 1]);
        assert_eq!(not_finite, 2);
    }

    #[test]
    fn halves_of_a_mean_go_up() {
        assert_eq!(
            [3, -3, 4, 1].map(|sum| mean(sum, 2)),
            [2, -1, 2, 1],
            "of two"
        );
        assert_eq!([-2, -1, 1, 2].map(|sum| mean(sum, 3)), [-1, 0, 0, 1]);
    }
}
