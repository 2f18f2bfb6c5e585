//! The checks themselves.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::tools;

/// The crates that run on bare metal.
const NO_STD: [&str; 4] = ["sori-package", "sori-dsp", "sori-nn", "sori-listener"];

/// ARMv7-M (Cortex-M3) and ARMv7E-M with a hard-float ABI (Cortex-M4F, M7).
const BARE_METAL: [&str; 2] = ["thumbv7m-none-eabi", "thumbv7em-none-eabihf"];

/// Zero 2 W and Pi 3, Pi 4, Pi 5: the last has the dot product instructions.
const PI_CORES: [&str; 3] = ["cortex-a53", "cortex-a72", "cortex-a76"];

/// Runs steps one after the other and remembers their times.
#[derive(Default)]
struct Steps(Vec<(String, Duration)>);

impl Steps {
    fn run(&mut self, title: &str, command: &str) -> anyhow::Result<()> {
        self.run_with(title, command, &[])
    }

    fn run_with(
        &mut self,
        title: &str,
        command: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        println!("\n── {title}\n   {command}");
        let start = Instant::now();
        let mut words = command.split_whitespace();
        let program = words.next().context("an empty command")?;
        let status = Command::new(program)
            .args(words)
            .envs(environment.iter().copied())
            .status()
            .with_context(|| format!("{program} did not start"))?;
        if !status.success() {
            let environment: String = environment
                .iter()
                .map(|(key, value)| format!("{key}='{value}' "))
                .collect();
            bail!("{title} failed; to repeat it alone: {environment}{command}");
        }
        self.0.push((title.to_owned(), start.elapsed()));
        Ok(())
    }

    fn summary(&self) {
        println!("\n── all green");
        for (title, time) in &self.0 {
            println!("   {:7.1} s  {title}", time.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|(_, time)| time).sum();
        println!("   {:7.1} s  in all", total.as_secs_f64());
    }
}

pub(crate) fn all() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    let mut steps = Steps::default();
    steps.run("formatting", "cargo fmt --all -- --check")?;
    steps.run(
        "clippy",
        "cargo clippy --workspace --all-targets --all-features -- -D warnings",
    )?;
    steps.run(
        "tests on this machine",
        "cargo test --workspace --all-features",
    )?;
    steps.run_with(
        "documentation",
        "cargo doc --workspace --all-features --no-deps",
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    bare_metal(&mut steps)?;
    emulated(&mut steps)?;
    steps.summary();
    Ok(())
}

pub(crate) fn qemu() -> anyhow::Result<()> {
    tools::require_toolchain()?;
    let mut steps = Steps::default();
    emulated(&mut steps)?;
    steps.summary();
    Ok(())
}

/// Each crate alone, so that another one's features cannot hide what it needs.
fn bare_metal(steps: &mut Steps) -> anyhow::Result<()> {
    for target in BARE_METAL {
        for package in NO_STD {
            steps.run(
                &format!("{package} alone on {target}"),
                &format!("cargo check -p {package} --target {target}"),
            )?;
        }
    }
    no_alloc_features()
}

/// A dependency with `std` or `alloc` turned on would still compile for targets that
/// have an allocator, so look at the resolved features too.
fn no_alloc_features() -> anyhow::Result<()> {
    for package in NO_STD {
        let output = Command::new("cargo")
            .args(["tree", "-e", "normal,features", "--prefix", "none"])
            .args(["-p", package, "--target", BARE_METAL[0]])
            .output()
            .context("cargo tree did not start")?;
        let tree = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("cargo tree -p {package} failed");
        }
        // Macros run on the build machine and may use what they like.
        let offender = tree.lines().find(|line| {
            [" feature \"std\"", " feature \"alloc\""]
                .iter()
                .any(|feature| line.contains(feature))
                && !line.starts_with("proc-macro2 ")
                && !line.starts_with("quote ")
                && !line.starts_with("syn ")
                && !line.starts_with("serde_derive ")
        });
        if let Some(offender) = offender {
            bail!("{package} must do without std and alloc, but has {offender}");
        }
        println!("   {package}: no std, no alloc");
    }
    Ok(())
}

fn emulated(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require("qemu-aarch64", "qemu-user")?;
    let packages: String = NO_STD.iter().map(|name| format!(" -p {name}")).collect();
    for core in PI_CORES {
        steps.run_with(
            &format!("tests on {core} (QEMU)"),
            &format!("cargo test --all-features --target aarch64-unknown-linux-musl{packages}"),
            &[("QEMU_CPU", core)],
        )?;
    }
    Ok(())
}
