/// Tracks the mean of the signal and subtracts it:
///
/// ```text
/// y = x − mean,   mean += y · 2^-shift
/// ```
///
/// A shift of 8 at 16 kHz is a high-pass at 10 Hz. MEMS microphones need it: some
/// have an offset far above the music.
#[derive(Debug, Clone, Copy)]
pub struct DcBlocker {
    /// Q16, so that its rounding stays far below the last bit of a quiet signal.
    pub(crate) mean_q16: i64,
    pub(crate) shift: u8,
}

impl DcBlocker {
    /// Fraction bits of [`process`](Self::process)' output.
    pub const FRACTION_BITS: u32 = 6;

    /// A blocker at rest, `shift` as in `MelContract::dc_shift`.
    pub fn new(shift: u8) -> Self {
        Self { mean_q16: 0, shift }
    }

    /// One sample in 24-bit scale in, saturated at ±2^23; the difference in the same
    /// scale with [`FRACTION_BITS`](Self::FRACTION_BITS) more, below 2^30, out.
    #[inline]
    pub fn process(&mut self, x: i32) -> i32 {
        const FULL_SCALE: i32 = 1 << crate::FULL_SCALE_BITS;
        let x = x.clamp(-FULL_SCALE, FULL_SCALE);
        let y_q16 = (i64::from(x) << 16) - self.mean_q16;
        self.mean_q16 += y_q16 >> self.shift;
        (y_q16 >> (16 - Self::FRACTION_BITS)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offset of a quarter of full scale, as an SPH0645 may have.
    #[test]
    fn an_offset_decays_to_nothing() {
        let mut dc = DcBlocker::new(8);
        let last = (0..20_000).map(|_| dc.process(1 << 21)).last();
        assert!(
            last.is_some_and(|y| y.abs() <= 1 << DcBlocker::FRACTION_BITS),
            "{last:?}"
        );
    }
}
