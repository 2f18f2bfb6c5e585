//! What Sori's host tools share, and what none of them needs an ONNX reader for.
//!
//! - [`contract`]: what a network was trained on, a TOML file that a person writes.
//! - [`Rows`]: feature rows from `.npy` files.
//! - [`logits`]: what a package computes of clips; [`Sqnr`], [`softmax`] and [`best`] judge it.
//! - [`answers`]: what it says of them, by which every accuracy is counted.
//! - [`Comparison`]: how two networks' answers to the same clips differ.
//! - [`verify`]: a package's golden vectors computed again, in memory of its own.
//! - [`mod@file`]: reads files of bounded length.
//! - [`page`]: HTML reports in one file.
#![forbid(unsafe_code)]

mod answers;
mod comparison;
pub mod contract;
pub mod file;
mod golden;
pub mod page;
mod rows;

pub use answers::{
    ACCURACY, Sqnr, answer_of, answers, best, dequantize, largest, logits, logits_of_rows,
    mean_probabilities, quantize, softmax, unknown,
};
pub use comparison::{ClassChange, Comparison};
pub use golden::{VERIFIED_STRIPES, verify};
pub use rows::Rows;
