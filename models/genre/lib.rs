//! The genre model that Sori ships, as bytes that every target can load, without a file system.
//!
//! ```
//! use sori_package::{Aligned, Package};
//!
//! static GENRE: &Aligned<[u8]> = &Aligned(*sori_genre::PACKAGE);
//!
//! let package = Package::parse(&GENRE.0).unwrap();
//! assert!(package.labels().any(|label| label == "jazz"));
//! ```
//!
//! [`MODEL_CARD`] says what it was trained on, how often it is right, and where it errs.
#![no_std]
#![forbid(unsafe_code)]

/// The package. It promises no alignment; `sori_package::Aligned` does.
pub const PACKAGE: &[u8; include_bytes!("genre.sori").len()] = include_bytes!("genre.sori");

/// The model card, Markdown.
pub const MODEL_CARD: &str = include_str!("MODEL_CARD.md");
