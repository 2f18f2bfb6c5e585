//! The checks themselves.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::boards::{BOARDS, Board};
use crate::steps::{Step, Steps};
use crate::{bench, endurance, firmware, flash, pi, recipe, tools};

/// The crates that run on bare metal.
const NO_STD: [&str; 4] = ["sori-package", "sori-dsp", "sori-nn", "sori-listener"];

/// Zero 2 W and Pi 3, Pi 4, Pi 5: the last has the dot product instructions.
pub(crate) const PI_CORES: [&str; 3] = ["cortex-a53", "cortex-a72", "cortex-a76"];

/// One for each set of instructions. Another of the same only takes its time of the half hour.
const CORES_IN_CI: [&str; 2] = ["cortex-a53", "cortex-a76"];
const LEFT_OUT: &str = "\
   not run here; cargo xtask qemu holds:
     the tests on cortex-a72, which has the instructions of cortex-a53";

pub(crate) fn all() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    if cfg!(target_os = "linux") {
        // For `sori listen --microphone` and sori-pi's, which are behind features.
        tools::require_library("alsa", "libasound2-dev")?;
        tools::require_quiet("mosquitto", "mosquitto")?;
        // For `sori deploy`.
        tools::require_quiet("sshd", "openssh-server")?;
    }
    let mut steps = Steps::default();
    steps.run(&Step::new("formatting", "cargo fmt --all -- --check"))?;
    steps.run(&Step::new(
        "clippy",
        "cargo clippy --workspace --all-targets --all-features -- -D warnings",
    ))?;
    steps.run(&Step::new(
        "tests on this machine, golden results included",
        "cargo test --workspace --all-features",
    ))?;
    recipe::smoke(&mut steps)?;
    flash::check()?;
    steps.run(
        &Step::new(
            "documentation",
            "cargo doc --workspace --all-features --no-deps",
        )
        .with(&[("RUSTDOCFLAGS", "-D warnings")]),
    )?;
    bare_metal(&mut steps)?;
    emulated(&mut steps, &CORES_IN_CI)?;
    steps.run(&Step::new(
        "instruction counts against the accepted ones",
        bench::IN_CI,
    ))?;
    steps.summary();
    for held_elsewhere in [LEFT_OUT, bench::HOLDS, pi::HOLDS, endurance::HOLDS] {
        println!("{held_elsewhere}");
    }
    Ok(())
}

pub(crate) fn qemu() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    let mut steps = Steps::default();
    emulated(&mut steps, &PI_CORES)?;
    steps.summary();
    Ok(())
}

pub(crate) fn firmware() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    let mut steps = Steps::default();
    firmware::run(&mut steps)?;
    steps.summary();
    Ok(())
}

/// Writes `tests/golden` again, in two steps: the second program contains what the
/// first one writes.
pub(crate) fn golden() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    for part in ["contracts", "results"] {
        let title = format!("golden {part}");
        let command =
            format!("cargo run --quiet -p sori-conformance --features host --bin golden -- {part}");
        steps.run(&Step::new(&title, &command))?;
    }
    println!("\nCommit what changed, and why it may, or restore it: git status tests/golden");
    Ok(())
}

/// Each crate alone, so that another one's features cannot hide what it needs.
fn bare_metal(steps: &mut Steps) -> anyhow::Result<()> {
    for target in Board::builds().map(|board| board.target) {
        for package in NO_STD {
            steps.run(&Step::new(
                &format!("{package} alone on {target}"),
                &format!("cargo check -p {package} --target {target}"),
            ))?;
        }
    }
    no_alloc_features()
}

/// A dependency with `std` or `alloc` turned on would still compile for targets that
/// have an allocator, so look at the resolved features too.
fn no_alloc_features() -> anyhow::Result<()> {
    for package in NO_STD {
        let output = Command::new("cargo")
            // Macros run on the build machine and may use what they like.
            .args(["tree", "-e", "normal,features,no-proc-macro"])
            .args(["--prefix", "none", "-p", package])
            .args(["--target", BOARDS[0].target])
            .output()
            .context("cargo tree did not start")?;
        let tree = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || tree.is_empty() {
            bail!("cargo tree -p {package} failed");
        }
        if let Some(offender) = allocates(&tree) {
            bail!("{package} must do without std and alloc, but has {offender}");
        }
        println!("   {package}: no std, no alloc");
    }
    Ok(())
}

/// The first line of a feature tree that turns on an allocator.
fn allocates(tree: &str) -> Option<&str> {
    tree.lines().find(|line| {
        [" feature \"std\"", " feature \"alloc\""]
            .iter()
            .any(|feature| line.contains(feature))
    })
}

fn emulated(steps: &mut Steps, cores: &[&str]) -> anyhow::Result<()> {
    tools::require("qemu-aarch64", "qemu-user")?;
    let packages: String = NO_STD
        .iter()
        .chain(&["sori-conformance"])
        .map(|name| format!(" -p {name}"))
        .collect();
    for &core in cores {
        steps.run(
            &Step::new(
                &format!("tests on {core} (QEMU)"),
                &format!("cargo test --all-features --target aarch64-unknown-linux-musl{packages}"),
            )
            // The native run has the full number of random cases.
            .with(&[("QEMU_CPU", core), ("PROPTEST_CASES", "64")]),
        )?;
    }
    firmware::run(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_with_std_is_seen_in_the_feature_tree() {
        let clean = "sori-nn v0.1.0\nbytemuck v1.25.0\nbytemuck feature \"min_const_generics\"\n";
        assert_eq!(allocates(clean), None);
        let std = format!("{clean}serde feature \"std\"\n");
        assert_eq!(allocates(&std), Some("serde feature \"std\""));
        let alloc = format!("{clean}postcard feature \"alloc\" (*)\n");
        assert!(allocates(&alloc).is_some());
    }
}
