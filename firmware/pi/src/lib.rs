//! Sori on a Raspberry Pi: everything of it that needs no hardware to be tested.
#![forbid(unsafe_code)]

pub mod board;
pub mod capture;
pub mod config;
pub mod engine;
pub mod history;
pub mod meter;
pub mod mic;
pub mod model;
