/// Full scale of the samples: they lie in `-FULL_SCALE..FULL_SCALE`.
pub const FULL_SCALE: i32 = 1 << 23;

/// Samples of interleaved frames, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Unsigned 8 bits, 128 is zero: old WAV files.
    U8,
    /// 8 bits of a logarithmic scale: European telephony (ITU-T G.711).
    ALaw,
    /// The same: American and Japanese telephony.
    MuLaw,
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
            Self::U8 | Self::ALaw | Self::MuLaw => 1,
            Self::S16 => 2,
            Self::S24Packed => 3,
            Self::S24 | Self::S32 | Self::Float => 4,
            Self::Double => 8,
        }
    }

    /// Appends samples, those that are NaN or infinite as silence, and returns how many those
    /// were. Bytes that make no whole sample are left out.
    pub fn decode(self, bytes: &[u8], into: &mut Vec<i32>) -> u64 {
        self.mix(bytes, 1, None, into)
    }

    /// The same of interleaved frames, a sample for each: of one channel, counted from 0, or the
    /// [`mean`] of all. Bytes that make no whole frame are left out.
    ///
    /// # Panics
    /// Without channels, or if the one to take is none of them.
    pub fn mix(
        self,
        bytes: &[u8],
        channels: usize,
        channel: Option<usize>,
        into: &mut Vec<i32>,
    ) -> u64 {
        let mut not_finite = 0;
        let mut or_silence = |x: f64| {
            from_float(x).unwrap_or_else(|| {
                not_finite += 1;
                0
            })
        };
        let frames = Frames {
            bytes,
            channels,
            channel,
            into,
        };
        match self {
            Self::U8 => frames.of(|[x]| (i32::from(x) - 128) << 16),
            Self::ALaw => frames.of(|[x]| from_i16(a_law(x))),
            Self::MuLaw => frames.of(|[x]| from_i16(mu_law(x))),
            Self::S16 => frames.of(|bytes| from_i16(i16::from_le_bytes(bytes))),
            Self::S24Packed => frames.of(|[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            Self::S24 => frames.of(|bytes| i32::from_le_bytes(bytes) << 8 >> 8),
            Self::S32 => frames.of(|bytes| i32::from_le_bytes(bytes) >> 8),
            Self::Float => frames.of(|bytes| or_silence(f32::from_le_bytes(bytes).into())),
            Self::Double => frames.of(|bytes| or_silence(f64::from_le_bytes(bytes))),
        }
        not_finite
    }
}

/// Where samples come from and where they go, whatever their encoding.
struct Frames<'a> {
    bytes: &'a [u8],
    channels: usize,
    channel: Option<usize>,
    into: &'a mut Vec<i32>,
}

impl Frames<'_> {
    /// A loop for each encoding, so that none decides anything sample by sample.
    fn of<const N: usize>(self, mut sample: impl FnMut([u8; N]) -> i32) {
        let samples = self.bytes.as_chunks::<N>().0;
        let frames = samples.chunks_exact(self.channels);
        match (self.channel, self.channels) {
            (None, 1) => self.into.extend(samples.iter().map(|&x| sample(x))),
            (None, channels) => self.into.extend(frames.map(|frame| {
                let sum = frame.iter().map(|&x| i64::from(sample(x))).sum();
                mean(sum, channels)
            })),
            (Some(channel), _) => self.into.extend(frames.map(|frame| sample(frame[channel]))),
        }
    }
}

fn from_i16(x: i16) -> i32 {
    i32::from(x) << 8
}

/// ITU-T G.711, table 1: sign, segment and step, every other bit inverted.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (segment, step) = (code >> 4 & 7, i16::from(code & 15));
    let magnitude = match segment {
        0 => (step << 4) + 8,
        segment => ((step << 4) + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// ITU-T G.711, table 2: the same with a bias, all bits inverted.
fn mu_law(code: u8) -> i16 {
    const BIAS: i16 = 0x84;
    let code = !code;
    let (segment, step) = (code >> 4 & 7, i16::from(code & 15));
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// A sample of full scale ±1, rounded to the nearest, halves away from zero, and clipped; none if
/// it is not finite.
#[inline]
pub fn from_float(x: f64) -> Option<i32> {
    let (least, most) = (f64::from(-FULL_SCALE), f64::from(FULL_SCALE - 1));
    let scaled = (x * f64::from(FULL_SCALE)).clamp(least, most);
    // As `f64::round`, which is a call of a library where the processor need not have it: what is
    // just below a half reaches the next integer from a half on.
    let rounded = scaled + 0.5_f64.next_down().copysign(scaled);
    x.is_finite().then_some(rounded as i32)
}

/// Mean over the channels of a frame from their sum, rounded to the nearest with halves going up.
#[inline]
pub fn mean(sum: i64, channels: usize) -> i32 {
    match channels {
        // Most of what there is, and a division is a tenth of reading it.
        ..=1 => sum as i32,
        2 => ((sum + 1) >> 1) as i32,
        _ => {
            let divisor = channels as i64;
            (sum + divisor / 2).div_euclid(divisor) as i32
        }
    }
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

    /// Against the library's function, at halves and next to them above all.
    #[test]
    fn rounding_is_that_of_the_library() {
        let mut random = 1u64;
        for n in 0..200_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let half = (random >> 40) as f64 / 2.0 - f64::from(FULL_SCALE / 2);
            let scaled = [half, half.next_up(), half.next_down(), half * 1e-7][n % 4];
            let x = scaled / f64::from(FULL_SCALE);
            assert_eq!(from_float(x), Some(scaled.round() as i32), "{scaled:e}");
        }
        for (x, most) in [
            (1.0, FULL_SCALE - 1),
            (f64::MAX, FULL_SCALE - 1),
            (-2.0, -FULL_SCALE),
        ] {
            assert_eq!(from_float(x), Some(most));
        }
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(from_float(x), None);
        }
    }

    /// Ends, zeros and segment borders of G.711's tables.
    #[test]
    fn telephone_codes_have_their_values() {
        let of = |encoding, codes: &[u8]| {
            let samples = decoded(encoding, codes);
            samples.iter().map(|x| x >> 8).collect::<Vec<_>>()
        };
        assert_eq!(
            of(Encoding::ALaw, &[0xd5, 0x55, 0xaa, 0x2a, 0xc5, 0xf5]),
            [8, -8, 32_256, -32_256, 264, 528]
        );
        assert_eq!(
            of(Encoding::MuLaw, &[0xff, 0x7f, 0x80, 0x00, 0xef, 0x8f]),
            [0, 0, 32_124, -32_124, 132, 16_764]
        );
    }

    #[test]
    fn frames_become_their_mean_or_one_of_their_channels() {
        let bytes = [100i16, -200, 300, -400, 500]
            .map(i16::to_le_bytes)
            .concat();
        let mixed = |channel| {
            let mut samples = Vec::new();
            assert_eq!(Encoding::S16.mix(&bytes, 2, channel, &mut samples), 0);
            samples
        };
        assert_eq!(mixed(None), [-50 << 8, -50 << 8]);
        assert_eq!(mixed(Some(1)), [-200 << 8, -400 << 8]);
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
