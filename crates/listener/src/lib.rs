//! Sori without hardware: samples in, decisions out. No `std`, no allocation.
//!
//! ```text
//! samples ─► Resampler ─► FrontEnd ─► Network ─► softmax ─► Decider ─► Decision
//!                            └─ level of each row ────────────┘
//! ```
//!
//! A [`Listener`] owns the whole chain and borrows its memory. [`Decider`] turns
//! probabilities and levels into what to say: smoothing, hysteresis, `unknown`,
//! `silence`. [`ClipSummary`] is the answer for a clip that has an end. [`verify()`]
//! reproduces a package's golden vectors, which a target does before it listens.
//!
//! # What it will not do
//! Know where samples come from or what shows a decision; read a clock (time is
//! counted in samples).
#![no_std]
#![forbid(unsafe_code)]

mod clip;
mod decider;
mod error;
mod listener;
mod verify;

pub use clip::{Clip, ClipSummary};
pub use decider::{Decider, Verdict};
pub use error::Error;
pub use listener::{Decision, Event, Listener, Memory, NOTHING_HEARD};
pub use verify::{Mismatch, Verified, verify};

/// Most classes that a listener decides between.
pub const MAX_CLASSES: usize = 64;

/// One probability a class, Q15.
pub type Probabilities = heapless::Vec<u16, MAX_CLASSES>;

/// The class with the largest probability; the first of equals.
pub fn largest(probabilities_q15: &[u16]) -> Option<(usize, u16)> {
    let classes = probabilities_q15.iter().copied().enumerate().rev();
    classes.max_by_key(|&(_, p)| p)
}
