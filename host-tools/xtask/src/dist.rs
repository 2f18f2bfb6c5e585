//! What is copied to a Raspberry Pi: the `sori-pi` binary for aarch64, and its files.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::steps::{Step, Steps};
use crate::tools;

/// Debian's triplet and Rust's.
const LIBRARIES: &str = "/usr/lib/aarch64-linux-gnu";
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Where it is put together.
const OUT: &str = "target/dist/sori-pi-aarch64";

/// The binary among the build's results.
pub(crate) const BINARY: &str = "target/aarch64-unknown-linux-gnu/release/sori-pi";

/// Files that go beside the binary.
const FILES: [&str; 3] = [
    "firmware/pi/sori-pi.toml",
    "firmware/pi/systemd/sori-pi.service",
    "firmware/pi/systemd/sori-pi.sysusers",
];

/// What a build for a Pi is told.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PKG_CONFIG_ALLOW_CROSS", "1"),
    (
        "PKG_CONFIG_PATH_aarch64_unknown_linux_gnu",
        "/usr/lib/aarch64-linux-gnu/pkgconfig",
    ),
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
        "aarch64-linux-gnu-gcc",
    ),
    // SQLite is C.
    ("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    let mut steps = Steps::default();
    build(&mut steps)?;
    fs::create_dir_all(OUT).with_context(|| OUT.to_string())?;
    for file in FILES.iter().chain(&[BINARY]) {
        let name = Path::new(file).file_name().context("a file has a name")?;
        let to = Path::new(OUT).join(name);
        fs::copy(file, &to).with_context(|| format!("{file} to {}", to.display()))?;
    }
    steps.summary();
    let bytes = fs::metadata(BINARY)?.len();
    println!("\n{OUT}: sori-pi has {:.1} MB", bytes as f64 / 1e6);
    println!("Copy the folder to a Pi; README.md, On a Raspberry Pi, says how it goes on.");
    Ok(())
}

/// Builds the binary, and sees that it starts.
pub(crate) fn build(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")?;
    tools::require_foreign_library("arm64", LIBRARIES, "alsa", "libasound2-dev")?;
    tools::require("qemu-aarch64", "qemu-user")?;
    let command =
        format!("cargo build --release -p sori-pi --features alsa --target {TARGET} --locked");
    steps.run(&Step::new("sori-pi for a Raspberry Pi", &command).with(&ENVIRONMENT))?;
    let command = format!("qemu-aarch64 {BINARY} run --check-config");
    steps.run(&Step::new(
        "it starts, and its package proves itself (QEMU)",
        &command,
    ))
}

/// What `ci` leaves out for want of time: the Pi's own binary on an emulated processor, and the
/// page in a browser.
pub(crate) fn check() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    tools::require_library("alsa", "libasound2-dev")?;
    tools::require_mosquitto()?;
    tools::require("npm", "npm")?;
    tools::require("chromium", "chromium")?;
    let mut steps = Steps::default();
    build(&mut steps)?;
    let binary = fs::canonicalize(BINARY).with_context(|| BINARY.to_string())?;
    let foreign = format!("qemu-aarch64 {}", binary.display());
    let environment = [
        ("SORI_PI", foreign.as_str()),
        ("SHIM_CC", "aarch64-linux-gnu-gcc"),
    ];
    steps.run(
        &Step::new(
            "the Pi's binary on the real alsa-lib (QEMU)",
            "cargo test -p sori-pi --features alsa --test run",
        )
        .with(&environment),
    )?;
    steps.run(&Step::new(
        "the page's example",
        "cargo build -p sori-pi --example page",
    ))?;
    let page = "firmware/pi/tests/page";
    steps.run(&Step::new("the page's tests: their packages", "npm ci --no-audit").within(page))?;
    steps.run(&Step::new("the page in Chromium", "npm test").within(page))?;
    steps.summary();
    Ok(())
}

/// For the end of `ci`.
pub(crate) const HOLDS: &str = "\
   not run here; cargo xtask pi (10 minutes) holds:
     sori-pi as it is copied to a Raspberry Pi, on the real alsa-lib under QEMU
     its page in headless Chromium";
