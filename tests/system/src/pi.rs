//! What `ci` leaves out for want of time: the Pi's own binary on an emulated processor, and the
//! page in a browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::dist::{self, ARM64};
use crate::steps::{Step, Steps};
use crate::tools;

pub(crate) fn run() -> anyhow::Result<()> {
    tools::require_library("alsa", "libasound2-dev")?;
    tools::require_quiet("mosquitto", "mosquitto")?;
    tools::require("npm", "npm")?;
    tools::require("chromium", "chromium")?;
    let mut steps = Steps::default();
    dist::build(&mut steps, &ARM64)?;
    let binary = ARM64.binary();
    let binary = fs::canonicalize(&binary).with_context(|| binary.display().to_string())?;
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
    cost()?;
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

/// Three hundredths of a Pi 4's core at 1.5 GHz, an instruction a cycle.
const MOST_INSTRUCTIONS_A_SECOND: u64 = 45_000_000;

/// Instructions for a second of sound from a stereo device, all threads, as on a Pi 4.
fn cost() -> anyhow::Result<()> {
    println!("\n── the cost of a second of audio");
    let folder = Path::new("target/dist/cost");
    fs::create_dir_all(folder)?;
    let plugin = folder.join("insn_count.so");
    let mut compiler = Command::new("cc");
    compiler.args([
        "-O2",
        "-shared",
        "-fPIC",
        "host-tools/xtask/qemu/insn_count.c",
        "-o",
    ]);
    tools::captured(compiler.arg(&plugin))?;
    let total = |seconds: u32| -> anyhow::Result<u64> {
        let sound = folder.join(format!("{seconds}.wav"));
        fs::write(&sound, noise(seconds))?;
        let mut sori = Command::new("qemu-aarch64");
        sori.args(["-cpu", "cortex-a72", "-d", "plugin", "-plugin"])
            .arg(&plugin)
            .arg(ARM64.binary())
            .args(["run", "--input"])
            .arg(&sound)
            .env("SORI_PI_HISTORY_PATH", folder.join("history.sqlite"))
            .env("SORI_PI_PAGE_LISTEN", "127.0.0.1:0");
        let output = tools::captured(&mut sori)?;
        let log = String::from_utf8_lossy(&output.stderr);
        let total = log.lines().find_map(|line| line.strip_prefix("total: "));
        Ok(total.context("QEMU counted nothing")?.trim().parse()?)
    };
    // The start is in both.
    let a_second = (total(20)? - total(10)?) / 10;
    println!("   {:.1} million instructions", a_second as f64 / 1e6);
    ensure!(
        a_second <= MOST_INSTRUCTIONS_A_SECOND,
        "more than {MOST_INSTRUCTIONS_A_SECOND} instructions: three hundredths of a Pi 4's core"
    );
    Ok(())
}

/// A WAV file as an I2S microphone would record it: 48 kHz, two channels, 32 bits.
fn noise(seconds: u32) -> Vec<u8> {
    let frames = 48_000 * seconds;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((36 + 8 * frames).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1, 0, 2, 0]);
    wav.extend(48_000_u32.to_le_bytes());
    wav.extend((8 * 48_000_u32).to_le_bytes());
    wav.extend([8, 0, 32, 0]);
    wav.extend(b"data");
    wav.extend((8 * frames).to_le_bytes());
    let mut chance = fastrand::Rng::with_seed(1);
    for _ in 0..2 * frames {
        wav.extend((chance.i32(..) >> 6).to_le_bytes());
    }
    wav
}
