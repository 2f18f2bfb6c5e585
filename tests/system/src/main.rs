//! Tests of Sori as users get it, on whole systems: the card that `sori flash` writes, the Debian
//! package in a Debian, the appliance in QEMU, the page in a browser.
//!
//! | Command | Runs | Needs |
//! |---|---|---|
//! | `flash` | `sori flash` against other tools; with `--devices` on loop devices | `fdisk`, `dosfstools`, `mtools`, `xz-utils`; root, `fusefat` |
//! | `package-test` | installs, runs, upgrades, removes and purges sori-pi's package in a separate Debian | root, what `dist` needs, `debootstrap`, `ffmpeg` |
//! | `image` | builds the appliance image; with `--power-cuts`, boots it in QEMU and cuts its power; with `--deploy`, deploys to it there | root, what `package-test` needs, `dosfstools`, `mtools`, `fdisk`, `device-tree-compiler`; `qemu-system-arm`, `curl`, `openssh-client` |
//! | `pi` | the Pi's binary on the real alsa-lib under QEMU, its page in Chromium | what `dist` needs, `mosquitto`, `npm`, `chromium` |
//! | `fuzz` | each target of `tests/hostile`, or those named, for an hour or so many seconds | nightly, `cargo-fuzz` |
//! | `miri` | sori-package, sori-dsp, sori-nn's scalar code and a listener in an interpreter that sees undefined behaviour | nightly with Miri |
//! | `endurance` | `dist --twice`, `package-test`, `flash --devices`, both trials of `image`, an hour of noise, a day of audio, Miri, fuzzing | root, nightly with Miri, `cargo-fuzz` |
//!
//! `cargo xtask COMMAND` starts them. Nothing is skipped: a test that cannot run fails and says why.
#![forbid(unsafe_code)]

mod debian_root;
mod endurance;
mod flash;
mod fuzz;
mod image;
mod package_test;
mod pi;
mod sound;

use std::process::ExitCode;

use anyhow::Context as _;

use xtask::{dist, steps, tools};

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
    let result = match (command.as_str(), &arguments[..]) {
        ("flash", [devices]) if devices == "--devices" => flash::on_devices(),
        ("flash", []) => flash::check(),
        ("package-test", []) => package_test::run(),
        ("image", _) => image::run(&arguments),
        ("pi", []) => pi::run(),
        ("fuzz", _) => fuzz(&arguments),
        ("miri", []) => miri(),
        ("endurance", []) => endurance::run(),
        _ => {
            eprintln!(
                "Usage: cargo xtask flash [--devices] | package-test | image [--power-cuts | --deploy] | pi | fuzz [SECONDS [TARGET…]] | miri | endurance"
            );
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

fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    let mut steps = steps::Steps::default();
    let (seconds, names) = match arguments.split_first() {
        Some((seconds, names)) => (seconds.parse().context("SECONDS is a number")?, names),
        None => (3600, arguments),
    };
    fuzz::run(&mut steps, seconds, names)?;
    steps.summary();
    Ok(())
}

fn miri() -> anyhow::Result<()> {
    let mut steps = steps::Steps::default();
    endurance::miri(&mut steps)?;
    steps.summary();
    Ok(())
}
