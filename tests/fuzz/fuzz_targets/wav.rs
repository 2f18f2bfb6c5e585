//! Whatever is read as sound: the same samples however it comes in pieces, and none beyond full scale.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use sori_sound::{Encoding, FULL_SCALE, Layout, Reader};

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
    while reader.next_block(None, &mut block).expect("memory cannot fail") {
        all.extend_from_slice(&block);
    }
    Some((reader.layout(), all, reader.not_finite(), reader.is_cut()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[step, raw], bytes)) = data.split_first_chunk() else {
        return;
    };
    let raw = (raw < 128).then_some(Layout {
        encoding: [Encoding::S16, Encoding::S24Packed, Encoding::Float, Encoding::Double]
            [usize::from(raw % 4)],
        rate_hz: 16_000,
        channels: usize::from(raw / 4 % 8) + 1,
    });
    let whole = heard(bytes, usize::MAX, raw);
    assert_eq!(heard(bytes, usize::from(step) + 1, raw), whole);
    if let Some((_, samples, ..)) = whole {
        assert!(samples.iter().all(|x| (-FULL_SCALE..FULL_SCALE).contains(x)));
    }
});
