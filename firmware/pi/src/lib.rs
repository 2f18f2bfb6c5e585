//! Sori on a Raspberry Pi: everything of it that needs no hardware to be tested.
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sori-pi runs on Linux only: build it with --target aarch64-unknown-linux-gnu, or by cargo xtask dist"
);

pub mod asking;
pub mod board;
pub mod capture;
pub mod config;
pub mod engine;
pub mod field_test;
pub mod hardware;
pub mod history;
pub mod keeping;
pub mod latency;
pub mod listening;
pub mod meter;
pub mod mic;
pub mod model;
pub mod network;
pub mod outputs;
pub mod package_file;
pub mod page;
pub mod run;
pub mod service;
pub mod thermal;
