//! Finds the programs that checks need, and installs them where it may.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// Whether `program` can be started at all.
fn exists(program: &str) -> bool {
    succeeds(program, &["--version"])
}

/// Whether a command works, quietly.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command and keeps what it prints, which is the error if it fails.
pub(crate) fn captured(command: &mut Command) -> anyhow::Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} did not start"))?;
    if !output.status.success() {
        bail!(
            "failed, and to repeat it alone: {command:?}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Installs the Debian package that brings `program`, as root; elsewhere says what to type.
pub(crate) fn require(program: &str, debian_package: &str) -> anyhow::Result<()> {
    install_unless(|| exists(program), program, debian_package)
}

/// The same for a program that has no `--version`, or is where only root looks.
pub(crate) fn require_quiet(program: &str, debian_package: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = || {
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        folders
            .map(|folder| folder.join(program))
            .any(|file| file.exists())
    };
    install_unless(is_there, program, debian_package)
}

/// A folder with nothing in it.
pub(crate) fn emptied(folder: &Path) -> anyhow::Result<()> {
    let cannot = || format!("{} could not be emptied", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(cannot)?;
    }
    fs::create_dir_all(folder).with_context(cannot)
}

/// The same for a file that no program shows.
pub(crate) fn require_file(file: &str, debian_package: &str) -> anyhow::Result<()> {
    install_unless(|| Path::new(file).exists(), file, debian_package)
}

/// The same for a C library that pkg-config knows as `library`.
pub(crate) fn require_library(library: &str, debian_package: &str) -> anyhow::Result<()> {
    require("pkg-config", "pkg-config")?;
    let is_there = || succeeds("pkg-config", &["--exists", library]);
    install_unless(is_there, library, debian_package)
}

/// The same for another architecture of Debian's, whose libraries live in `folder`.
pub(crate) fn require_foreign_library(
    architecture: &str,
    folder: &str,
    library: &str,
    debian_package: &str,
) -> anyhow::Result<()> {
    let description = format!("{folder}/pkgconfig/{library}.pc");
    let package = format!("{debian_package}:{architecture}");
    let is_there = || Path::new(&description).exists();
    if !is_there() && exists("dpkg") {
        if !is_root() {
            bail!(
                "{description} is missing: sudo dpkg --add-architecture {architecture} && sudo apt-get update && sudo apt-get install {package}"
            );
        }
        captured(Command::new("dpkg").args(["--add-architecture", architecture]))?;
    }
    require("pkg-config", "pkg-config")?;
    install_unless(is_there, &description, &package)
}

/// Python 3 that can make environments, which Debian packs apart.
pub(crate) fn require_python() -> anyhow::Result<()> {
    let is_there = || succeeds("python3", &["-c", "import venv, ensurepip"]);
    install_unless(is_there, "Python 3 with venv", "python3-venv")
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install_unless(
    is_there: impl Fn() -> bool,
    what: &str,
    debian_package: &str,
) -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    if !is_root() || !exists("apt-get") {
        bail!("{what} is missing: sudo apt-get install {debian_package}");
    }
    eprintln!("installing {debian_package} for {what}");
    // An index can be out of step for a while and still be good enough to install from.
    let _ = Command::new("apt-get").args(["-qq", "update"]).status();
    let installed = Command::new("apt-get")
        .args([
            "-qq",
            "install",
            "-y",
            "--no-install-recommends",
            debian_package,
        ])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get did not start")?;
    if !installed.success() || !is_there() {
        bail!("{what} is missing and {debian_package} could not be installed");
    }
    Ok(())
}

/// Asks rustup for what `rust-toolchain.toml` names; without rustup it must be there already.
pub(crate) fn require_toolchain() -> anyhow::Result<()> {
    if !exists("rustup") {
        return Ok(());
    }
    let status = Command::new("rustup")
        .args(["toolchain", "install", "--no-self-update"])
        // Set by the `cargo` that started this; rustup would then not look for targets
        // in the file.
        .env_remove("RUSTUP_TOOLCHAIN")
        .status()
        .context("rustup did not start")?;
    if !status.success() {
        bail!(
            "the toolchain of rust-toolchain.toml could not be installed: rustup toolchain install"
        );
    }
    Ok(())
}
