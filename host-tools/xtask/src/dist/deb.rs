//! The Debian package of a binary, by cargo-deb and `[package.metadata.deb]` in
//! `firmware/pi/Cargo.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{OUT, TOOLS, Target, flags};
use crate::steps::{Step, Steps};
use crate::tools;

/// A program of its own, since `cargo xtask ci` would have to compile the library each time.
const CARGO_DEB: &str = "3.8.0";

/// Packs the target's binary; the package's path.
pub(super) fn make(steps: &mut Steps, target: &Target, about: &About) -> anyhow::Result<PathBuf> {
    require_cargo_deb()?;
    tools::require("lintian", "lintian")?;
    share(target)?;
    let package = about.file(target);
    let epoch = flags::source_date_epoch()?;
    let command = format!(
        "{TOOLS}/bin/cargo-deb -p sori-pi --profile dist --target {} --no-build --no-strip --locked --output {}",
        target.rust,
        package.display()
    );
    let title = format!("its package for {}", target.debian);
    steps.run(&Step::new(&title, &command).with(&[("SOURCE_DATE_EPOCH", &epoch)]))?;
    let command = format!("lintian --fail-on error,warning {}", package.display());
    let title = format!("Debian's rules, {}", target.debian);
    steps.run(&Step::new(&title, &command))?;
    Ok(package)
}

/// The package as another version, with something in its tree changed; its path.
pub fn repacked(
    package: &Path,
    version: &str,
    change: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let tree = Path::new(OUT).join("repacked");
    tools::emptied(&tree)?;
    let mut unpack = Command::new("dpkg-deb");
    tools::captured(unpack.arg("--raw-extract").arg(package).arg(&tree))?;
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let lines = text
        .lines()
        .map(|line| match line.starts_with("Version: ") {
            true => format!("Version: {version}\n"),
            false => format!("{line}\n"),
        });
    fs::write(&control, lines.collect::<String>())?;
    change(&tree)?;
    let to = Path::new(OUT).join(format!("repacked_{version}.deb"));
    let mut pack = Command::new("dpkg-deb");
    // Quick, and nobody keeps it.
    pack.args(["--root-owner-group", "-Znone", "--build"]);
    tools::captured(pack.arg(&tree).arg(&to))?;
    Ok(to)
}

/// What the package says of itself.
pub(super) struct About {
    /// The program's.
    pub(super) version: String,
    deb: Value,
}

impl About {
    /// As Cargo reads `firmware/pi/Cargo.toml`.
    pub(super) fn read() -> anyhow::Result<Self> {
        let mut cargo = Command::new("cargo");
        let output = tools::captured(cargo.args(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let mut ours = packages.filter(|package| package["name"] == "sori-pi");
        let ours = ours.next().context("the workspace has no sori-pi")?;
        let version = ours["version"].as_str().context("sori-pi has no version")?;
        Ok(Self {
            version: version.to_owned(),
            deb: ours["metadata"]["deb"].clone(),
        })
    }

    /// Debian's: the program's, and how often it was packed.
    fn version(&self) -> String {
        // cargo-deb's default.
        let revision = self.deb["revision"].as_str().unwrap_or("1");
        format!("{}-{revision}", self.version)
    }

    pub(super) fn depends(&self) -> &str {
        self.deb["depends"].as_str().unwrap_or_default()
    }

    fn file(&self, target: &Target) -> PathBuf {
        let name = format!("sori-pi_{}_{}.deb", self.version(), target.debian);
        Path::new(OUT).join(name)
    }
}

fn require_cargo_deb() -> anyhow::Result<()> {
    let program = format!("{TOOLS}/bin/cargo-deb");
    let found = Command::new(&program).arg("--version").output();
    let version = format!("cargo-deb {CARGO_DEB}");
    if found.is_ok_and(|found| found.stdout.trim_ascii() == version.as_bytes()) {
        return Ok(());
    }
    eprintln!("installing cargo-deb {CARGO_DEB} into {TOOLS}");
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", "cargo-deb"]);
    // Packing is not to depend on the machine's liblzma.
    install.args(["--version", CARGO_DEB, "--features", "static-lzma"]);
    let installed = install.args(["--root", TOOLS]).status();
    ensure!(
        installed.context("cannot start cargo")?.success(),
        "cargo-deb could not be installed; rerun it alone with: {install:?}"
    );
    Ok(())
}

/// Manual pages and completions, beside the binary, which writes them itself: built for this
/// machine, it would take minutes more to say the same.
fn share(target: &Target) -> anyhow::Result<()> {
    let folder = target.binary().with_file_name("share");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let man = folder.join("man");
    fs::create_dir_all(&man).with_context(|| man.display().to_string())?;
    let sori = || {
        let mut sori = Command::new(target.qemu);
        sori.arg(target.binary());
        sori
    };
    tools::captured(sori().arg("man").arg(&man))?;
    // cargo-deb does so only to files that no build makes. Without -n the time would be in there.
    let pages: Vec<_> = fs::read_dir(&man)?
        .map(|page| page.map(|page| page.path()))
        .collect::<Result<_, _>>()?;
    tools::captured(Command::new("gzip").arg("-9n").args(pages))?;
    for shell in ["bash", "zsh", "fish"] {
        let output = tools::captured(sori().args(["completions", shell]))?;
        fs::write(folder.join(format!("sori-pi.{shell}")), output.stdout)?;
    }
    fs::write(folder.join("crates.txt"), crates(target)?)?;
    Ok(())
}

/// The crates that are in the binary, with their licences.
fn crates(target: &Target) -> anyhow::Result<String> {
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--locked", "-p", "sori-pi", "--features", "alsa"])
        .args(["--target", target.rust, "-e", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}: {l}"]);
    let output = tools::captured(&mut tree)?;
    let text = String::from_utf8(output.stdout)?;
    // Our own are named by where they are.
    let theirs: BTreeSet<&str> = text.lines().filter(|line| !line.contains(" (/")).collect();
    ensure!(theirs.len() > 10, "cargo tree lists no crates:\n{text}");
    let lines = theirs.into_iter().map(|line| format!("{line}\n"));
    Ok(lines.collect())
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
