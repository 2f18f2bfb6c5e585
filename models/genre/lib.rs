//! The genre model that Sori ships, as bytes that any target can load without a file system.
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
//! [`MODEL_CARD`] describes its training data, accuracy and limitations.
#![no_std]
#![forbid(unsafe_code)]

/// The package. It has no guaranteed alignment; wrap it in `sori_package::Aligned`.
pub const PACKAGE: &[u8; include_bytes!("genre.sori").len()] = include_bytes!("genre.sori");

/// The model card, in Markdown.
pub const MODEL_CARD: &str = include_str!("MODEL_CARD.md");
