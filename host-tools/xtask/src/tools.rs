//! Finds the programs that checks need, and installs them as root.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, bail};

/// Held while something is installed: steps in both lanes may need the same.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Whether `program` can be started at all.
fn exists(program: &str) -> bool {
    succeeds(program, &["--version"])
}

/// Whether a command works, quietly.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command and captures its output, which becomes the error if it fails.
pub fn captured(command: &mut Command) -> anyhow::Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "failed; rerun it alone with: {command:?}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// As root, installs the Debian package that contains `program`; otherwise the error names it.
pub fn require(program: &str, debian_package: &str) -> anyhow::Result<()> {
    install_unless(|| exists(program), program, debian_package)
}

/// The same for a program that has no `--version`, or is only in root's path.
pub fn require_quiet(program: &str, debian_package: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = || {
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        folders
            .map(|folder| folder.join(program))
            .any(|file| file.exists())
    };
    install_unless(is_there, program, debian_package)
}

/// Makes an empty folder.
pub fn emptied(folder: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot empty {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(cannot)?;
    }
    fs::create_dir_all(folder).with_context(cannot)
}

/// The same for a file that no program reveals.
pub fn require_file(file: &str, debian_package: &str) -> anyhow::Result<()> {
    install_unless(|| Path::new(file).exists(), file, debian_package)
}

/// The same for a C library that pkg-config knows as `library`.
pub fn require_library(library: &str, debian_package: &str) -> anyhow::Result<()> {
    require("pkg-config", "pkg-config")?;
    let is_there = || succeeds("pkg-config", &["--exists", library]);
    install_unless(is_there, library, debian_package)
}

/// The same for another Debian architecture, with its libraries in `folder`.
pub fn require_foreign_library(
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
pub fn require_python() -> anyhow::Result<()> {
    let is_there = || succeeds("python3", &["-c", "import venv, ensurepip"]);
    install_unless(is_there, "Python 3 with venv", "python3-venv")
}

/// Whether this user may do everything.
pub fn is_root() -> bool {
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
    let _alone = INSTALLING.lock();
    if is_there() {
        return Ok(());
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
            // A step that is a process of its own may be installing, too.
            "-o",
            "DPkg::Lock::Timeout=300",
            debian_package,
        ])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    if !installed.success() || !is_there() {
        bail!("{what} is missing, and {debian_package} could not be installed");
    }
    Ok(())
}

/// Asks rustup for a component of the toolchain; without rustup it must be there already.
pub fn require_component(component: &str) -> anyhow::Result<()> {
    rustup("component", &[component])
}

/// The same for the standard library of targets.
pub fn require_targets(targets: &[&str]) -> anyhow::Result<()> {
    rustup("target", targets)
}

fn rustup(kind: &str, names: &[&str]) -> anyhow::Result<()> {
    if !exists("rustup") {
        return Ok(());
    }
    let _alone = INSTALLING.lock();
    let added = captured(Command::new("rustup").args([kind, "add"]).args(names));
    added.map(|_| ()).with_context(|| {
        let names = names.join(" ");
        format!("the toolchain lacks parts that could not be installed: rustup {kind} add {names}")
    })
}
