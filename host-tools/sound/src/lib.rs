//! Sound as files, pipes and devices have it, as the samples that Sori listens to: 24 bits in an
//! `i32`.
//!
//! Bit-exactness begins here, so there is one rule for each step and no second place that has it:
//! [`Encoding::decode`] for samples, [`mean`] for the channels of a frame, [`wav::head`] for the
//! beginning of a WAV file. [`Reader`] puts them together for whatever can be read.
//!
//! # What it will not do
//! Decompress (symphonia does, in `sori`), resample (`sori-dsp`), open files or devices.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod encoding;
mod reader;
pub mod wav;

pub use encoding::{Encoding, FULL_SCALE, from_float, mean};
pub use reader::{Reader, Unreadable};

/// How the samples of a stream lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Of each sample.
    pub encoding: Encoding,
    /// Frames a second.
    pub rate_hz: u32,
    /// Interleaved channels, at least 1.
    pub channels: usize,
}

impl Layout {
    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.encoding.bytes() * self.channels
    }
}
