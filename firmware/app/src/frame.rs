//! Extracts one channel from the two slots of an I2S frame.

/// A frame as it is on the wire: the left slot, then the right one. The sample is in the
/// upper 24 of 32 bits (Philips I2S, "24 bits in 32-bit slots"); the lower eight
/// are undefined.
pub type Frame = [u32; 2];

/// Selects the slot that has a microphone: one wired to the other slot leaves this
/// one floating or pulled down, so its bits do not change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side(usize);

impl Side {
    /// Where `L/R` at ground puts a microphone.
    pub(crate) const LEFT: Self = Self(0);

    /// Keeps the current slot while its bits change, or while neither's do.
    pub(crate) fn choose(&mut self, frames: &[Frame]) {
        if still(frames, self.0) && !still(frames, 1 - self.0) {
            self.0 = 1 - self.0;
        }
    }

    /// In 24-bit scale.
    pub(crate) fn sample(self, frame: Frame) -> i32 {
        frame[self.0].cast_signed() >> 8
    }
}

/// Whether a line never changes: all zeros, or all ones.
fn still(frames: &[Frame], side: usize) -> bool {
    let sample = |frame: &Frame| frame[side].cast_signed() >> 8;
    let Some(first) = frames.first().map(sample) else {
        return true;
    };
    (first == 0 || first == -1) && frames.iter().all(|frame| sample(frame) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUDEST: i32 = 0x7f_ffff;
    const QUIETEST: i32 = -0x80_0000;

    fn word(sample: i32) -> u32 {
        (sample << 8).cast_unsigned()
    }

    #[test]
    fn a_sample_keeps_its_24_bits_and_its_sign() {
        for sample in [LOUDEST, QUIETEST, 1, -1, 0] {
            let undefined = 0xa5;
            assert_eq!(
                Side::LEFT.sample([word(sample) | undefined, word(7)]),
                sample,
                "{sample}"
            );
        }
    }

    #[test]
    fn the_side_that_moves_is_heard_whichever_it_is() {
        let noise = [word(5), word(-3), word(2)];
        for still in [0, u32::MAX] {
            let mut side = Side::LEFT;
            side.choose(&noise.map(|sample| [still, sample]));
            assert_eq!(side.sample([word(1), word(2)]), 2, "right, left {still:x}");
            side.choose(&noise.map(|sample| [sample, still]));
            assert_eq!(side.sample([word(1), word(2)]), 1, "left, right {still:x}");
        }
    }

    /// A microphone that says nothing for once, and two of them, are no reason to change.
    #[test]
    fn the_side_stays_while_the_other_is_no_better() {
        let mut side = Side(1);
        side.choose(&[[0, 0]; 4]);
        side.choose(&[[word(9), word(1)], [word(8), word(2)]]);
        side.choose(&[]);
        assert_eq!(side.sample([word(1), word(2)]), 2);
    }
}
