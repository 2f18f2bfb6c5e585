//! The one file every Sori target loads, `*.sori`: the quantized network, the
//! mel contract it was trained on, its labels, decision thresholds, provenance,
//! and the golden vectors with which a device proves that it computes the same
//! bits as the machine that built the package.
//!
//! ```text
//! ┌──────────┬────────────────────────────┬───────┬─────────────────────┬───────┐
//! │ prologue │ header (postcard)          │ zeros │ blob                │ CRC32 │
//! │ 96 bytes │ Header, then one BlockDesc │ to 64 │ weights, tables,    │       │
//! │ fixed    │ per inverted residual      │       │ golden vectors      │       │
//! └──────────┴────────────────────────────┴───────┴─────────────────────┴───────┘
//! ```
//!
//! A [`Signature`] may follow in the same file: a target with a key rejects packages not signed by
//! it, every other target ignores the signature. `FORMAT.md` beside this crate specifies every byte.
//!
//! # A tour
//! 1. [`Prologue`] reads the fixed head in `const` context, so that firmware
//!    sizes its arena at compile time from `include_bytes!`.
//! 2. [`Package::parse`] checks everything once: CRC, bounds, shapes, shifts,
//!    and, from the actual weights, that no accumulator can overflow.
//! 3. Views ([`Convolution`], [`InvertedResidual`], [`Classifier`],
//!    [`MelContract`], [`Golden`]) borrow from the file's bytes. Nothing is
//!    copied or allocated, and no accessor can fail.
//! 4. With feature `write`, [`write::PackageSpec`] builds the same file from owned
//!    parts. Host tools and tests use it; targets leave it off.
//! 5. With feature `std`, `file::read` reads package files within bounds.
//!
//! # What it will not do
//! Run the network (`sori-nn`), compute features (`sori-dsp`), sign or check signatures
//! (`sori-sign`).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "write")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod aligned;
mod desc;
mod error;
#[cfg(feature = "std")]
pub mod file;
mod parse;
mod prologue;
mod signature;
pub mod text;
mod view;
#[cfg(feature = "write")]
pub mod write;

pub use aligned::Aligned;
pub use desc::{
    Activation, BlockPlan, DecisionRule, MelScale, Provenance, Spatial, TensorShape, Thresholds,
};
pub use error::Error;
pub use parse::Package;
pub use prologue::{ALIGNMENT, MAX_BLOCKS, MAX_STRIPE, Prologue, VERSION};
pub use signature::Signature;
pub use view::{
    Blocks, Classifier, Convolution, Golden, InvertedResidual, Kernel, Labels, MelBand, MelContract,
};
