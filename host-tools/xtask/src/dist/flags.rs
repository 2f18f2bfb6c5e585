//! What a build is told, so that it finds the target's libraries and leaves no trace of the
//! machine it runs on: two checkouts in two places make the same bits.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};

use super::Target;
use crate::tools;

/// Variables of the environment, in the order in which they are printed.
pub(super) fn environment(target: &Target) -> anyhow::Result<Vec<(String, String)>> {
    let of_rustc = without_this_machine()?;
    let of_gcc: Vec<String> = renamed_folders()?
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .collect();
    let (lower, gcc) = (target.rust.replace('-', "_"), target.gcc());
    let upper = lower.to_uppercase();
    let libraries = format!("/usr/lib/{}/pkgconfig", target.gnu);
    Ok([
        ("PKG_CONFIG_ALLOW_CROSS".into(), "1".into()),
        (format!("PKG_CONFIG_PATH_{lower}"), libraries),
        (format!("CARGO_TARGET_{upper}_LINKER"), gcc.clone()),
        // SQLite is C.
        (format!("CC_{lower}"), gcc),
        (format!("CFLAGS_{lower}"), of_gcc.join(" ")),
        // Not the target's own variable, before which a user's RUSTFLAGS would win.
        ("RUSTFLAGS".into(), of_rustc.join(" ")),
        ("CARGO_PROFILE_DIST_STRIP".into(), "symbols".into()),
        ("CARGO_PROFILE_DIST_DEBUG".into(), "none".into()),
    ]
    .into())
}

/// For rustc: no folder of this machine in a program.
pub fn without_this_machine() -> anyhow::Result<Vec<String>> {
    let flag =
        |(from, to): (PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
    Ok(renamed_folders()?.into_iter().map(flag).collect())
}

/// The time that stands for all times: the last commit's, in seconds since 1970.
pub fn source_date_epoch() -> anyhow::Result<String> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let output = tools::captured(Command::new("git").args(["log", "-1", "--format=%ct"]))
        .context("outside a git checkout, set the build time: SOURCE_DATE_EPOCH=$(date +%s) cargo xtask dist")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Folders whose names would get into messages of panics, and what stands there instead.
fn renamed_folders() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut folders = vec![(env::current_dir()?, "/sori".to_owned())];
    // With the component rust-src, the standard library's own paths are this machine's.
    let rustc = |argument: &[&str]| -> anyhow::Result<String> {
        let output = tools::captured(Command::new("rustc").args(argument))?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let sysroot = rustc(&["--print", "sysroot"])?;
    let version = rustc(&["--version", "--verbose"])?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "));
    let commit = commit.context("rustc --version --verbose names no commit")?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    folders.push((source, format!("/rustc/{commit}")));
    // The folder's name is the registry's host, which a mirror changes.
    let registries = cargo_home()?.join("registry/src");
    let entries = fs::read_dir(&registries)
        .with_context(|| format!("cannot read {}: run cargo fetch", registries.display()))?;
    for entry in entries {
        folders.push((entry?.path(), "/crates".to_owned()));
    }
    folders[2..].sort();
    for (folder, _) in &folders {
        let text = folder.to_str().context("a path that is not Unicode")?;
        ensure!(
            !text.contains(char::is_whitespace) && !text.contains('='),
            "{text} contains a space or =, which compiler flags cannot express: move the folder"
        );
    }
    Ok(folders)
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    match (set("CARGO_HOME"), set("HOME")) {
        (Some(home), _) => Ok(home.into()),
        (None, Some(home)) => Ok(Path::new(&home).join(".cargo")),
        (None, None) => bail!("neither CARGO_HOME nor HOME is set"),
    }
}
