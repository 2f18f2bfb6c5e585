//! `cargo xtask dist`: sori-pi for Raspberry Pis, as Debian packages that name no folder and no
//! time of the machine they were built on.

mod deb;
mod elf;
pub mod flags;
mod target;
mod twice;

use std::fs;
use std::path::PathBuf;

use anyhow::bail;

use crate::steps::{Step, Steps};
use deb::About;
pub use deb::repacked;
pub use target::{ARM64, ARMHF, Target};

/// Where the packages are put.
const OUT: &str = "target/dist";

/// Programs that packing needs, of the versions that it needs.
const TOOLS: &str = "target/tools";

/// Builds, packs and tells of both packages; with `--twice` also once more, elsewhere.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let is_twice = match arguments {
        [] => false,
        [twice] if twice == "--twice" => true,
        _ => bail!(
            "dist takes no arguments or --twice, not: {}",
            arguments.join(" ")
        ),
    };
    let mut steps = Steps::default();
    let packages = if is_twice {
        check_twice(&mut steps)?
    } else {
        all(&mut steps)?
    };
    steps.summary();
    println!();
    for package in &packages {
        let megabytes = fs::metadata(package)?.len() as f64 / 1e6;
        println!("{}: {megabytes:.1} MB", package.display());
    }
    println!("docs/raspberry-pi.md describes how to install it.");
    Ok(())
}

/// The packages, of which another build elsewhere has the same bits.
pub fn check_twice(steps: &mut Steps) -> anyhow::Result<Vec<PathBuf>> {
    let packages = all(steps)?;
    twice::check(steps, &packages)?;
    Ok(packages)
}

/// Both packages.
pub fn all(steps: &mut Steps) -> anyhow::Result<Vec<PathBuf>> {
    [&ARM64, &ARMHF]
        .into_iter()
        .map(|target| package(steps, target))
        .collect()
}

/// Builds the binary and packs it; the package's path.
pub fn package(steps: &mut Steps, target: &Target) -> anyhow::Result<PathBuf> {
    let about = About::read()?;
    build(steps, target)?;
    elf::check(&target.binary(), about.depends())?;
    deb::make(steps, target, &about)
}

/// The version of everything here.
pub fn version() -> anyhow::Result<String> {
    Ok(About::read()?.version)
}

/// Builds the binary, and sees that it starts.
pub fn build(steps: &mut Steps, target: &Target) -> anyhow::Result<()> {
    target.require_tools()?;
    let command = format!(
        "cargo build --profile dist -p sori-pi --features alsa --target {} --locked",
        target.rust
    );
    let environment = flags::environment(target)?;
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let title = format!("sori-pi for {}", target.debian);
    steps.run(&Step::new(&title, &command).with(&environment))?;
    let command = format!("{} {} run --check-config", target.qemu, target.shown());
    let title = format!(
        "it starts on {}, and its package proves itself (QEMU)",
        target.debian
    );
    steps.run(&Step::new(&title, &command))
}
