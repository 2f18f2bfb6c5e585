//! What Sori's host tools share, and what none of them needs an ONNX reader for.
//!
//! - [`contract`]: what a network was trained on, a TOML file that a person writes.
//! - [`Rows`]: feature rows from `.npy` files.
//! - [`logits`]: a package's answers to clips; [`Sqnr`], [`softmax`] and [`best`] judge them.
//! - [`Comparison`]: how two networks' answers to the same clips differ.
//! - [`verify`]: a package's golden vectors computed again, in memory of its own.
//! - [`page`]: HTML reports in one file.
#![forbid(unsafe_code)]

mod answers;
mod comparison;
pub mod contract;
mod golden;
pub mod page;
mod rows;

pub use answers::{Sqnr, best, dequantize, logits, logits_of_rows, quantize, softmax};
pub use comparison::{ClassChange, Comparison};
pub use golden::{VERIFIED_STRIPES, verify};
pub use rows::Rows;
