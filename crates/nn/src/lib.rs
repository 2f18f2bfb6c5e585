//! Runs int8 MobileNetV2 on a stream of rows, without `std` or allocation, with the same bits
//! on every processor.
//!
//! ```text
//! rows ─► stem 3×3 ─► inverted residuals ─► head 1×1 ─► running mean ─► classifier ─► logits
//!         (2 rows of history each)                      (last K rows)
//! ```
//!
//! A row is one step of time, `[width][channels]`, int8. [`Network::push`] takes one
//! row (a live stream) or many (a clip, an image); however the rows are split, the logits
//! have the same bits. Every 3×3 kernel keeps the last two rows of its input, so
//! nothing is computed twice, memory does not grow with the clip, and the
//! expanded tensor of a block, t times wider than its input, exists only a few
//! rows at a time (arXiv:1801.04381, §5).
//!
//! The layers, from the bottom: [`Requantize`] is the one rounding rule; `kernels` holds
//! one scalar operator per file, the specification that every faster kernel must
//! match; `arch` holds the faster ones, and a [`Backend`] selects them; [`Prepared`] is a package
//! with its weights packed for one; `plan` lays out the arena; `split` runs a block in less of it;
//! `executor` moves the rows, for [`Network`], which is generic over the runtime.
//!
//! # What it will not do
//! Allocate, start threads (a [`Runtime`] may lend some), check anything after [`Network::new`]
//! (a parsed `Package` is the proof that nothing overflows), or run networks outside the
//! MobileNetV2 family.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "testing")]
extern crate alloc;
#[cfg(all(feature = "std", not(test)))]
extern crate std;

mod arch;
mod arena;
mod caches;
mod error;
mod executor;
mod kernels;
pub mod memory;
mod network;
mod plan;
mod requantize;
mod runtime;
mod split;
#[cfg(feature = "testing")]
pub mod testing;
mod window;

pub use arch::{Backend, CacheLine, Prepared};
pub use arena::Arena;
pub use caches::Caches;
pub use error::Error;
pub use kernels::softmax::softmax_q15;
pub use network::Network;
pub use plan::{ARENA_ALIGNMENT, stripe_sizes};
pub use requantize::Requantize;
pub use runtime::{Bare, Runtime};
pub use split::BlockShape;
