//! Whether two checkouts of the same files, in two places, make the same packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{TOOLS, flags};
use crate::steps::{Step, Steps};
use crate::tools;

/// The other checkout: deeper, and elsewhere.
const OTHER: &str = "target/dist/another/place";

/// Builds everything again from nothing, and compares with these packages.
pub(super) fn check(steps: &mut Steps, packages: &[PathBuf]) -> anyhow::Result<()> {
    let other = Path::new(OTHER);
    if other.exists() {
        fs::remove_dir_all(other).with_context(|| OTHER.to_owned())?;
    }
    checkout(other)?;
    let epoch = flags::source_date_epoch()?;
    steps.run(
        &Step::new("everything again, elsewhere", "cargo xtask dist")
            .within(OTHER)
            .with(&[("SOURCE_DATE_EPOCH", &epoch)]),
    )?;
    for package in packages {
        let again = other.join(package);
        if fs::read(package)? != fs::read(&again)? {
            bail!(
                "two builds differ: diffoscope {} {}",
                package.display(),
                again.display()
            );
        }
        println!("   {}: the same bits twice", package.display());
    }
    fs::remove_dir_all("target/dist/another").context("cannot remove target/dist/another")
}

/// The files that git knows, as they are now.
fn checkout(to: &Path) -> anyhow::Result<()> {
    let output = tools::captured(Command::new("git").args(["ls-files", "-z"]))
        .context("git must list the files of the checkout")?;
    for name in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let file = to.join(name);
        fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
        fs::copy(name, &file).with_context(|| name.to_owned())?;
    }
    // The tools are no part of the result, and take minutes to compile.
    let programs = Path::new(TOOLS).join("bin");
    fs::create_dir_all(to.join(&programs))?;
    for program in fs::read_dir(&programs).context("the tools")? {
        let program = program?.path();
        fs::copy(&program, to.join(&program))?;
    }
    Ok(())
}
