//! The checks themselves.

use std::process::Command;

use anyhow::{Context as _, bail};

use xtask::sori;

use crate::boards::BOARDS;
use crate::firmware::Suite;
use crate::lanes::{self, Group};
use crate::steps::{Step, Steps};
use crate::{bench, deny, firmware, portable, recipe, release, tools};

/// The crates that run on bare metal.
const NO_STD: [&str; 4] = ["sori-package", "sori-dsp", "sori-nn", "sori-listener"];

/// The target on which the tests of [`NO_STD`] run under QEMU.
const AARCH64: &str = "aarch64-unknown-linux-musl";

/// Zero 2 W and Pi 3, Pi 4, Pi 5: the last has the dot product instructions.
pub(crate) const PI_CORES: [&str; 3] = ["cortex-a53", "cortex-a72", "cortex-a76"];

/// One core per instruction set. More of the same would only take time.
const CORES_IN_CI: [&str; 2] = ["cortex-a53", "cortex-a76"];

/// `sori` without ONNX support, beside everything else as it is with all features: what they share
/// is not compiled a second time.
const LIGHT: &str = "--workspace --features sori/microphone,sori-beeps/room,sori-conformance/host,\
                     sori-dsp/design,sori-dsp/dsp,sori-dsp/std,sori-nn/dsp,sori-nn/std,sori-nn/testing,\
                     sori-package/write,sori-pi/alsa";

/// Everything that `ci` runs, in the order in which lanes take it: the longest first. The second
/// needs nothing from the root's workspace, and the third not at once, so that they can begin
/// together.
const GROUPS: [Group; 9] = [
    Group {
        name: "tests",
        about: "tests on this machine, golden results included",
        run: tests,
    },
    Group {
        name: "boards",
        about: "the firmware on Cortex-M3, M4, M7 and M33, and the Raspberry Pi Pico 2's build",
        run: |steps| firmware::run(steps, Suite::OfEachProgram),
    },
    Group {
        name: "recipe",
        about: "the genre network's recipe, on generated tones",
        run: recipe::smoke,
    },
    Group {
        name: "flash",
        about: "sori flash against mkfs.vfat, mtools, fsck and xz",
        run: flash,
    },
    Group {
        name: "cores",
        about: "the tests on Cortex-A53 and A76",
        run: |steps| cores(steps, &CORES_IN_CI),
    },
    Group {
        name: "lints",
        about: "formatting, clippy, documentation",
        run: lints,
    },
    Group {
        name: "no-std",
        about: "each bare-metal crate alone: no std, no alloc",
        run: no_std,
    },
    Group {
        name: "crates",
        about: "licences and sources of dependencies, packages for crates.io, Windows",
        run: crates,
    },
    Group {
        name: "counts",
        about: "instruction counts against the baseline",
        run: counts,
    },
];

/// The checks that `ci` omits, printed at its end.
const HELD_ELSEWHERE: &str = "\
   not run here; cargo xtask qemu checks:
     the tests on cortex-a72, which has the instructions of cortex-a53
     the conformance suite on cortex-m7, which runs the cortex-m4's program
   not run here; cargo xtask portable, and CI on GitHub, checks:
     sori compiles for macOS
   not run here; cargo xtask pi (10 minutes) checks:
     sori-pi as it is copied to a Raspberry Pi, on the real alsa-lib under QEMU
     its page in headless Chromium
   not run here; cargo xtask endurance (hours) checks:
     sori-pi's Debian packages, built twice in two places: the same bits
     that package in a separate Debian: installed, run, upgraded, removed, purged
     sori flash on loop devices, its files read by cloud-init's schema and by netplan
     the appliance's image: booted in QEMU, its power cut 20 times, sori deploy to it
     an hour of noise through the listener: row by row against batches
     models/ci/boards.sh: the shipped package in sori-pi on a Pi's cores
     a day of audio through sori-pi: memory, open files, every decision and row
     Miri over parts of sori-package and small networks behind a listener
     each target of tests/hostile under libFuzzer, for 10 minutes
   not run here; cargo xtask deny (daily on GitHub) checks:
     known vulnerabilities of dependencies: their database is a git repository on the internet
   not run here; cargo xtask release checks:
     static sori binaries on x86-64 and aarch64; each crate built from its package for crates.io";

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [] => {
            lanes::run(&GROUPS)?;
            println!("{}\n{HELD_ELSEWHERE}", bench::HOLDS);
            Ok(())
        }
        [only, names @ ..] if only == "--only" && !names.is_empty() => {
            let named = |name: &String| {
                let mut groups = GROUPS.iter();
                groups
                    .find(|group| group.name == name)
                    .with_context(|| format!("ci has no group {name}; it has:\n{}", list()))
            };
            let groups: Vec<&Group> = names.iter().map(named).collect::<Result<_, _>>()?;
            lanes::alone(&groups)
        }
        _ => bail!(
            "ci takes no arguments, or --only and names of groups:\n{}",
            list()
        ),
    }
}

fn list() -> String {
    let line = |group: &Group| format!("   {:8} {}", group.name, group.about);
    GROUPS.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn qemu() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    cores(&mut steps, &PI_CORES)?;
    firmware::run(&mut steps, Suite::OnEachBoard)?;
    steps.summary();
    Ok(())
}

pub(crate) fn firmware() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    firmware::run(&mut steps, Suite::OnEachBoard)?;
    steps.summary();
    Ok(())
}

fn tests(steps: &mut Steps) -> anyhow::Result<()> {
    sori::require_libraries()?;
    if cfg!(target_os = "linux") {
        // For sori-pi's.
        tools::require_quiet("mosquitto", "mosquitto")?;
        // For `sori deploy`.
        tools::require_quiet("sshd", "openssh-server")?;
    }
    for (title, options) in [
        ("the tests build", " --no-run"),
        ("tests on this machine, golden results included", ""),
    ] {
        let command = format!("cargo test --workspace --all-features{options}");
        steps.run(&Step::new(title, &command))?;
    }
    // The code that all features disable.
    steps.run(&Step::new(
        "sori without ONNX support",
        &format!("cargo test {LIGHT} --test light"),
    ))
}

fn flash(steps: &mut Steps) -> anyhow::Result<()> {
    sori::build(steps)?;
    steps.run(&Step::new(
        "sori flash against mkfs.vfat, mtools, fsck and xz",
        "cargo xtask flash",
    ))
}

fn lints(steps: &mut Steps) -> anyhow::Result<()> {
    sori::require_libraries()?;
    tools::require_component("rustfmt")?;
    tools::require_component("clippy")?;
    steps.run(&Step::new("formatting", "cargo fmt --all -- --check"))?;
    steps.run(&Step::new(
        "clippy",
        "cargo clippy --workspace --all-targets --all-features -- -D warnings",
    ))?;
    steps.run(&Step::new(
        "clippy of sori without ONNX support",
        &format!("cargo clippy {LIGHT} --all-targets -- -D warnings"),
    ))?;
    steps.run(
        &Step::new(
            "documentation",
            "cargo doc --workspace --all-features --no-deps",
        )
        .with(&[("RUSTDOCFLAGS", "-D warnings")]),
    )
}

fn crates(steps: &mut Steps) -> anyhow::Result<()> {
    deny::check(steps)?;
    release::publishable(steps)?;
    portable::in_ci(steps)
}

fn counts(steps: &mut Steps) -> anyhow::Result<()> {
    steps.run(&Step::new(
        "instruction counts against the baseline",
        bench::IN_CI,
    ))
}

/// Regenerates `tests/golden`, in two steps: the second program contains what the first one
/// writes.
pub(crate) fn golden() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    for part in ["contracts", "results"] {
        let title = format!("golden {part}");
        let command =
            format!("cargo run --quiet -p sori-conformance --features host --bin golden -- {part}");
        steps.run(&Step::new(&title, &command))?;
    }
    println!(
        "\nCommit the changes with their reason, or restore the files: git status tests/golden"
    );
    Ok(())
}

/// Each crate alone, so that another's features cannot hide what it needs. Features are the same
/// on every target, and the firmware is built for the others.
fn no_std(steps: &mut Steps) -> anyhow::Result<()> {
    let target = BOARDS[0].target;
    tools::require_targets(&[target])?;
    for package in NO_STD {
        steps.run(&Step::new(
            &format!("{package} alone on bare metal"),
            &format!("cargo check -p {package} --target {target}"),
        ))?;
    }
    no_alloc_features(steps)
}

/// A dependency with `std` or `alloc` turned on would still compile for targets that
/// have an allocator, so look at the resolved features too.
fn no_alloc_features(steps: &mut Steps) -> anyhow::Result<()> {
    for package in NO_STD {
        let output = Command::new("cargo")
            // Macros run on the build machine and may use anything.
            .args(["tree", "-e", "normal,features,no-proc-macro"])
            .args(["--prefix", "none", "-p", package])
            .args(["--target", BOARDS[0].target])
            .output()
            .context("cannot start cargo tree")?;
        let tree = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || tree.is_empty() {
            bail!("cargo tree -p {package} failed");
        }
        if let Some(offender) = allocates(&tree) {
            bail!("{package} must do without std and alloc, but has {offender}");
        }
        steps.say(&format!("{package}: no std, no alloc"));
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

fn cores(steps: &mut Steps, cores: &[&str]) -> anyhow::Result<()> {
    tools::require_targets(&[AARCH64])?;
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
                &format!("cargo test --all-features --target {AARCH64}{packages}"),
            )
            // The native run covers the full number of random cases.
            .with(&[("QEMU_CPU", core), ("PROPTEST_CASES", "8")]),
        )?;
    }
    Ok(())
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

    /// Once each, or a check would be held nowhere but here.
    #[test]
    fn every_group_is_in_a_job_of_the_workflow() {
        let workflow = include_str!("../../../.github/workflows/ci.yml");
        let jobs = workflow
            .split_once(" groups: [")
            .and_then(|(_, rest)| rest.split_once(']'));
        let (jobs, _) = jobs.expect("the matrix lists groups");
        let mut jobs: Vec<&str> = jobs.split([',', ' ']).filter(|w| !w.is_empty()).collect();
        let mut groups = GROUPS.map(|group| group.name);
        jobs.sort();
        groups.sort();
        assert_eq!(jobs, groups);
    }

    #[test]
    fn an_unknown_group_is_answered_with_those_that_there_are() {
        let error = run(&["--only".into(), "boars".into()]).expect_err("there is none");
        assert!(error.to_string().contains("boards"), "{error}");
    }
}
