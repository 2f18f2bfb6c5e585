//! Whatever is read as sound: the same samples however it comes in pieces, and none beyond full scale.

use std::io::{self, Read};

use sori_sound::{Encoding, FULL_SCALE, Layout, Reader};

use crate::noise;

/// A few bytes at a time, as a pipe may have them.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = self.1.min(self.0.len()).min(buffer.len());
        buffer[..now].copy_from_slice(&self.0[..now]);
        self.0 = &self.0[now..];
        Ok(now)
    }
}

fn heard(bytes: &[u8], step: usize, raw: Option<Layout>) -> Option<(Layout, Vec<i32>, u64, bool)> {
    let mut reader = Reader::new(Dribble(bytes, step), raw).ok()?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while reader
        .next_block(None, &mut block)
        .expect("memory cannot fail")
    {
        all.extend_from_slice(&block);
    }
    Some((reader.layout(), all, reader.not_finite(), reader.is_cut()))
}

pub(crate) fn check(data: &[u8]) {
    let Some((&[step, raw], bytes)) = data.split_first_chunk() else {
        return;
    };
    let raw = (raw < 128).then_some(Layout {
        encoding: [
            Encoding::S16,
            Encoding::S24Packed,
            Encoding::Float,
            Encoding::Double,
        ][usize::from(raw % 4)],
        rate_hz: 16_000,
        channels: usize::from(raw / 4 % 8) + 1,
    });
    let whole = heard(bytes, usize::MAX, raw);
    assert_eq!(heard(bytes, usize::from(step) + 1, raw), whole);
    if let Some((_, samples, ..)) = whole {
        assert!(
            samples
                .iter()
                .all(|x| (-FULL_SCALE..FULL_SCALE).contains(x))
        );
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let head = |tag: u8, channels: u8, bytes: u8, bits: u8| {
        let mut file = b"\x10\xffRIFF\x34\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        file.extend([
            tag,
            0,
            channels,
            0,
            0x80,
            0x3e,
            0,
            0,
            0,
            0x7d,
            0,
            0,
            bytes * channels,
            0,
        ]);
        file.extend([bits, 0]);
        file.extend(b"data\x30\0\0\0");
        file.extend(noise(0x9e37_79b9, 12));
        file
    };
    vec![
        head(1, 1, 1, 8),
        head(1, 2, 2, 16),
        head(1, 3, 3, 24),
        head(1, 1, 4, 24),
        head(1, 2, 4, 32),
        head(3, 1, 4, 32),
        head(3, 2, 8, 64),
        head(6, 1, 1, 8),
        head(7, 2, 1, 8),
        b"\x02\x05raw samples, of as many bytes as there are".to_vec(),
    ]
}
