//! `cargo xtask release`: all files of a release, each of them tried, in one folder.
//!
//! | File | |
//! |---|---|
//! | `sori-VERSION-TARGET.tar.gz` | the command with its licences and completions; static on Linux |
//! | `sori-pi_VERSION-1_ARCHITECTURE.deb` | what `dist` makes |
//! | `sori-pico2-VERSION.uf2` | the firmware, to be copied to the board's drive |
//! | `*.cdx.json` | their bills of materials, CycloneDX |
//! | `SHA256SUMS` | of all these |

mod archive;
mod inventory;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use xtask::dist::{self, flags};

use crate::boards::DIRECTORY;
use crate::steps::{Step, Steps};
use crate::{firmware, tools};
use inventory::{Inventory, Program};

/// Where it all is put.
const OUT: &str = "target/publish";

const CLIPS: &str = "models/genre/demo";
const PACKAGE: &str = "models/genre/genre.sori";

/// What this system builds all of.
const ON_LINUX: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// What takes long to compile, and needs nothing where it runs.
const FEATURES: &str = "quantize";

/// Everything; with `--target TRIPLE` only `sori`, for a system that Linux does not build for.
/// With `--check VERSION` nothing but whether this is the version to release.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let version = dist::version()?;
    let mut steps = Steps::default();
    match words[..] {
        [] => {
            tools::emptied(Path::new(OUT))?;
            everything(&mut steps, &version)?;
        }
        ["--target", target] => {
            tools::emptied(Path::new(OUT))?;
            sori(&mut steps, target, &version)?;
        }
        ["--check", tag] => return check(&mut steps, tag, &version),
        _ => bail!(
            "release takes no arguments, --target TRIPLE or --check vVERSION, not: {}",
            words.join(" ")
        ),
    }
    steps.summary();
    println!();
    for name in names()? {
        let bytes = fs::metadata(Path::new(OUT).join(&name))?.len();
        println!("{:8.2} MB  {OUT}/{name}", bytes as f64 / 1e6);
    }
    Ok(())
}

fn everything(steps: &mut Steps, version: &str) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "a whole release needs Linux; here, cargo xtask release --target TRIPLE builds sori alone"
    );
    let mut built = Vec::new();
    for target in ON_LINUX {
        built.push(sori(steps, target, version)?);
    }
    let [first, others @ ..] = &built[..] else {
        bail!("nothing was built");
    };
    for other in others {
        ensure!(
            other.answers == first.answers,
            "{} and {} hear {CLIPS} differently:\n{}\n{}",
            first.target,
            other.target,
            first.answers,
            other.answers
        );
    }
    steps.say("all targets hear the same, to the last digit");
    for package in dist::all(steps)? {
        fs::copy(&package, in_out(package.file_name().context("a name")?))?;
    }
    for target in [&dist::ARM64, &dist::ARMHF] {
        let program = Program {
            package: "sori-pi",
            workspace: ".",
            target: target.rust,
            features: "alsa",
        };
        bill(&program, &format!("sori-pi-{version}-{}", target.debian))?;
    }
    let here = built.iter().find(|built| built.runner.is_empty());
    pico2(steps, here.unwrap_or(first), version)?;
    let sums = tools::captured(Command::new("sha256sum").args(names()?).current_dir(OUT))?;
    fs::write(in_out("SHA256SUMS"), sums.stdout).context("SHA256SUMS")
}

/// A program that was built, and what it says.
struct Built {
    target: String,
    /// What runs it here: an emulator, or nothing.
    runner: &'static str,
    binary: String,
    answers: String,
}

/// Builds `sori`, has it prove the shipped package, and packs it.
fn sori(steps: &mut Steps, target: &str, version: &str) -> anyhow::Result<Built> {
    tools::require_targets(&[target])?;
    let runner = runner(target)?;
    let command = format!(
        "cargo build --profile dist --locked -p sori --features {FEATURES} --target {target}"
    );
    let flags = flags::without_this_machine()?.join(" ");
    // tract is in assembler here and there, for which any compiler of the processor's will do.
    let [x86_64, aarch64] = ON_LINUX.map(|target| format!("CC_{}", target.replace('-', "_")));
    let environment = [
        ("RUSTFLAGS", flags.as_str()),
        ("CARGO_PROFILE_DIST_STRIP", "symbols"),
        ("CARGO_PROFILE_DIST_DEBUG", "none"),
        (&x86_64, "x86_64-linux-gnu-gcc"),
        (&aarch64, "aarch64-linux-gnu-gcc"),
    ];
    if target == ON_LINUX[1] {
        tools::require("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")?;
    }
    let title = format!("sori for {target}");
    steps.run(&Step::new(&title, &command).with(&environment))?;
    let exe = match target.contains("windows") {
        true => ".exe",
        false => "",
    };
    let binary = format!("target/{target}/dist/sori{exe}");
    if target.ends_with("-musl") {
        alone(&binary)?;
    }
    let said = |steps: &mut Steps, what: &str, arguments: &str| {
        let title = format!("sori for {target}: {what}");
        steps.output(&Step::new(
            &title,
            &format!("{runner} {binary} {arguments}"),
        ))
    };
    said(
        steps,
        "it computes the package's bits",
        &format!("verify --backend all {PACKAGE}"),
    )?;
    let answers = said(steps, "what it hears", &format!("classify --json {CLIPS}"))?;
    ensure!(
        answers.lines().count() == 10,
        "it should hear ten clips in {CLIPS}"
    );
    let program = Program {
        package: "sori",
        workspace: ".",
        target,
        features: FEATURES,
    };
    let name = format!("sori-{version}-{target}");
    let inventory = bill(&program, &name)?;
    let folder = Path::new("target").join(target).join(&name);
    tools::emptied(&folder)?;
    let copy = |from: &str, to: &str| -> anyhow::Result<()> {
        fs::copy(from, folder.join(to)).with_context(|| from.to_owned())?;
        Ok(())
    };
    copy(&binary, &format!("sori{exe}"))?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        copy(file, file)?;
    }
    fs::write(folder.join("THIRD-PARTY.txt"), inventory.licences()?)?;
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = said(
            steps,
            &format!("completions for {shell}"),
            &format!("completions {shell}"),
        )?;
        fs::write(folder.join(format!("sori.{shell}")), script)?;
    }
    archive::pack(&folder, Path::new(OUT))?;
    Ok(Built {
        target: target.to_owned(),
        runner,
        binary,
        answers,
    })
}

/// How a target's programs run on this machine.
fn runner(target: &str) -> anyhow::Result<&'static str> {
    let mut parts = target.split('-');
    let is_processor = parts.next() == Some(std::env::consts::ARCH);
    // `macos` is called darwin there.
    let system = std::env::consts::OS.replace("macos", "darwin");
    let is_system = parts.any(|part| part == system);
    match target {
        _ if is_processor && is_system => Ok(""),
        "aarch64-unknown-linux-musl" if is_system => {
            tools::require("qemu-aarch64", "qemu-user")?;
            Ok("qemu-aarch64")
        }
        // By Rosetta.
        "x86_64-apple-darwin" if is_system => Ok(""),
        _ => bail!(
            "{target}: this machine cannot run its programs, and nothing is released untested"
        ),
    }
}

/// Fails unless a program runs on any Linux.
fn alone(binary: &str) -> anyhow::Result<()> {
    tools::require("readelf", "binutils")?;
    let output = tools::captured(Command::new("readelf").args(["-ldW", binary]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    for asks in ["(NEEDED)", "INTERP"] {
        ensure!(!text.contains(asks), "{binary} is not static: {asks}");
    }
    Ok(())
}

/// The Pico 2's firmware, made a UF2 file by this machine's `sori`.
fn pico2(steps: &mut Steps, sori: &Built, version: &str) -> anyhow::Result<()> {
    let flags: Vec<String> = flags::without_this_machine()?
        .iter()
        .map(|flag| format!("\"{flag}\""))
        .collect();
    // RUSTFLAGS would replace what the firmware's own configuration says.
    let config = format!(
        "target.'{}'.rustflags=[{}]",
        firmware::PICO2_TARGET,
        flags.join(",")
    );
    tools::require_targets(&[firmware::PICO2_TARGET])?;
    let command = format!("cargo build {} --config {config}", firmware::PICO2);
    steps.run(&Step::new("the Pico 2's firmware", &command).within(DIRECTORY))?;
    let uf2 = format!("{OUT}/sori-pico2-{version}.uf2");
    let (runner, binary, elf) = (sori.runner, &sori.binary, firmware::PICO2_PROGRAM);
    let command = format!("{runner} {binary} flash --board pico2 --firmware {elf} {uf2}");
    steps.run(&Step::new("the same as UF2", &command))?;
    let program = Program {
        package: "sori-pico2",
        workspace: DIRECTORY,
        target: firmware::PICO2_TARGET,
        features: "",
    };
    bill(&program, &format!("sori-pico2-{version}")).map(|_| ())
}

/// Writes a bill of materials.
fn bill(program: &Program<'_>, name: &str) -> anyhow::Result<Inventory> {
    let inventory = Inventory::of(program).with_context(|| format!("what is in {name}"))?;
    let bill = serde_json::to_string_pretty(&inventory.bill(program.target))?;
    fs::write(in_out(format!("{name}.cdx.json")), bill + "\n").context("a bill")?;
    Ok(inventory)
}

fn in_out(name: impl AsRef<Path>) -> PathBuf {
    Path::new(OUT).join(name)
}

/// The files so far, in order.
fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(OUT).context(OUT)? {
        let name = entry?.file_name();
        names.push(name.into_string().ok().context("a name in Unicode")?);
    }
    names.sort();
    Ok(names)
}

/// Before a tag: the version, its entry in the changelog, and crates that build from what
/// crates.io would have of them.
fn check(steps: &mut Steps, tag: &str, version: &str) -> anyhow::Result<()> {
    ensure!(
        tag.strip_prefix('v') == Some(version),
        "{tag} is not v{version}, the version in Cargo.toml"
    );
    let changelog = fs::read_to_string("CHANGELOG.md").context("CHANGELOG.md")?;
    ensure!(
        changelog.contains(&format!("\n## [{version}] - ")),
        "CHANGELOG.md has no section [{version}] with a date"
    );
    steps.run(&Step::new(
        "crates as crates.io would have them",
        "cargo publish --workspace --dry-run --locked",
    ))?;
    steps.summary();
    Ok(())
}

/// For `ci`: that crates can be packed, without building each again from its package.
pub(crate) fn publishable(steps: &mut Steps) -> anyhow::Result<()> {
    steps.run(&Step::new(
        "crates can be packed for crates.io",
        "cargo publish --workspace --dry-run --locked --no-verify --allow-dirty",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_foreign_is_not_released_untried() {
        let here = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        assert_eq!(runner(&here).ok(), cfg!(target_os = "linux").then_some(""));
        let other = if cfg!(windows) {
            "x86_64-unknown-linux-musl"
        } else {
            "x86_64-pc-windows-msvc"
        };
        let error = runner(other).expect_err("it is of another system");
        assert!(error.to_string().contains("untested"), "{error}");
    }
}
