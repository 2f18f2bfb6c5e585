//! Fixed-point audio front end: PCM in, int8 log-mel rows out, the same bits on
//! every processor. Integers only; no allocation; no `std`.
//!
//! ```text
//! any rate ─► Resampler ─► DcBlocker ─► frames ─► window ─► real FFT ─► power
//!             8–192 kHz                                                   │
//!                 int8 row, level ◄─ level normalization ◄─ log2 ◄─ mel ◄─┘
//! ```
//!
//! Samples are `i32` in 24-bit scale (full scale ±2^23), which preserves what an I2S
//! microphone delivers; [`from_i16`] and [`from_i32`] convert other PCM. The package's
//! `MelContract` sets what the stages compute; with feature `design`
//! (host only) the `design` module creates one, and `reference` is the `f64` front end that
//! tests compare with.
//!
//! FFT, powers, mel bands and the resampler's sums have a [`Backend`] for AVX2 and one for
//! NEON, with the same bits as the scalar code. The front end also has one for Cortex-M3 and up;
//! feature `dsp` enables the DSP extension there. Every bare-metal Arm target is assumed to be Thumb-2.
//! [`FrontEnd`], [`RealFft`] (its transform alone) and [`Resampler`] use the fastest backend
//! available, which feature `std` detects at run time.
//!
//! # What it will not do
//! Read files, allocate, or touch a floating-point number on the device.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[allow(
    unsafe_code,
    reason = "loads, stores and calls of a processor's own instructions"
)]
mod arch;
mod dc;
#[cfg(feature = "design")]
pub mod design;
mod error;
mod fft;
mod frontend;
mod log2;
mod real_fft;
#[cfg(feature = "design")]
pub mod reference;
mod resample;
mod trig;

pub use arch::Backend;
pub use dc::DcBlocker;
pub use error::Error;
pub use frontend::{FrontEnd, Row};
pub use real_fft::{RealFft, Spectrum};
pub use resample::Resampler;

/// log2 of a full-scale sample.
const FULL_SCALE_BITS: i32 = 23;

/// Bits dropped from a bin's power so that a band of every bin at full weight
/// still fits 64 bits: 63 − 25 + 15 + log2(1025) < 64. What is lost lies 114 dB
/// below the frame's strongest bin.
pub(crate) const POWER_SHIFT: u32 = 25;

/// Converts 16-bit PCM to 24-bit scale.
pub const fn from_i16(sample: i16) -> i32 {
    (sample as i32) << 8
}

/// Converts 32-bit PCM, as carried by I2S slots, to 24-bit scale.
pub const fn from_i32(sample: i32) -> i32 {
    sample >> 8
}
