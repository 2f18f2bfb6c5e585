//! Sori on a Raspberry Pi: everything of it that needs no hardware to be tested.
#![forbid(unsafe_code)]

pub mod board;
pub mod config;
pub mod engine;
pub mod field_test;
pub mod hardware;
pub mod history;
pub mod latency;
pub mod meter;
pub mod model;
pub mod outputs;
pub mod page;
pub mod service;
pub mod thermal;
