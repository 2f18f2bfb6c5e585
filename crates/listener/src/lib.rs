//! Sori without hardware: samples in, decisions out. No `std`, no allocation.
//!
//! ```text
//! samples ─► Resampler ─► FrontEnd ─► Network ─► softmax ─► Decider ─► Decision
//!                            └─ level of each row ────────────┘
//! ```
//!
//! A [`Listener`] owns the whole chain and borrows its memory. [`Decider`] turns
//! probabilities and levels into verdicts: smoothing, hysteresis, `unknown`,
//! `silence`. [`ClipSummary`] is the verdict on a whole clip. [`verify()`]
//! reproduces a package's golden vectors, as every target does before it listens; a [`Budget`]
//! says what a package of unknown origin may take for that.
//!
//! Both take a package that is [`Prepared`](sori_nn::Prepared) for a backend, or an unprepared
//! package for the scalar one. The events have the same bits on all of them.
//!
//! # What it will not do
//! Know where samples come from or what shows a decision; read a clock (time is
//! counted in samples).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod budget;
mod clip;
mod decider;
mod error;
mod listener;
mod verify;

pub use budget::{Budget, OverBudget};
pub use clip::{Clip, ClipSummary};
pub use decider::{Decider, Verdict};
pub use error::Error;
pub use listener::{Decision, Event, Listener, Memory, NOTHING_HEARD};
pub use verify::{Mismatch, Verified, verify};

/// Most classes that a listener decides between.
pub const MAX_CLASSES: usize = 64;

/// One probability per class, Q15.
pub type Probabilities = heapless::Vec<u16, MAX_CLASSES>;

/// The front end's backend to go with the network's: scalar with scalar, otherwise the fastest
/// available.
pub fn frontend_backend(network: sori_nn::Backend) -> sori_dsp::Backend {
    match network == sori_nn::Backend::SCALAR {
        true => sori_dsp::Backend::SCALAR,
        false => sori_dsp::Backend::detect(),
    }
}

/// The label of a class for anything that is none of the others: speech, noise, a passing train.
/// It is never named. If its probability is one half or more, the verdict is
/// [`Verdict::Unknown`].
pub const UNKNOWN_LABEL: &str = "unknown";

/// The class labelled [`UNKNOWN_LABEL`], if the package has one.
pub fn unknown_class(package: &sori_package::Package<'_>) -> Option<u8> {
    let position = package.labels().position(|label| label == UNKNOWN_LABEL)?;
    u8::try_from(position).ok()
}

/// The most probable class that can be named, and its probability; the first of equals.
/// `unknown` is the class that cannot be.
pub fn best(probabilities_q15: &[u16], unknown: Option<u8>) -> Option<(u8, u16)> {
    let classes = (0..=u8::MAX).zip(probabilities_q15.iter().copied());
    let nameable = classes.filter(|&(class, _)| Some(class) != unknown);
    nameable.fold(None, |best, (class, p)| match best {
        Some((_, most)) if most >= p => best,
        _ => Some((class, p)),
    })
}

/// The best class, and whether it is more probable that none can be named.
fn nameable(probabilities_q15: &[u16], unknown: Option<u8>) -> Option<(u8, u16, bool)> {
    let (class, p) = best(probabilities_q15, unknown)?;
    let of_none = unknown.and_then(|unknown| probabilities_q15.get(usize::from(unknown)));
    Some((class, p, of_none.is_some_and(|&p| p >= 1 << 14)))
}
