//! Packages from files, and the built-in one.

use std::path::Path;

use anyhow::{Context as _, Result};
use sori_listener::Budget;
use sori_nn::Backend;
use sori_package::file::{self, Unreadable};
use sori_package::write::PackageBytes;
use sori_package::{MAX_STRIPE, MelContract, Package};

use crate::exit::Failure;
use crate::output::Shown as _;

/// What a package may take of a laptop: no network of the family comes near it.
const BUDGET: Budget = Budget {
    memory_bytes: 1 << 30,
    verification: 500_000_000_000,
};

/// A package file in memory, aligned as its tables need.
pub(crate) fn read(path: &Path) -> Result<PackageBytes> {
    match file::read(path) {
        Err(Unreadable::Package(error)) => {
            Err(error).with_context(|| format!("cannot use {}", path.display()))
        }
        read => read.with_context(|| format!("cannot read {}: check the path", path.display())),
    }
}

/// The package that `--model` names, or the built-in one.
pub(crate) fn read_or_built_in(path: Option<&Path>) -> Result<PackageBytes> {
    match path {
        Some(path) => read(path),
        None => Ok(PackageBytes::copy_from(sori_genre::PACKAGE)),
    }
}

/// Its name in messages.
pub(crate) fn name(path: Option<&Path>) -> &Path {
    path.unwrap_or(Path::new("the built-in genre.sori"))
}

/// Parses it and looks at what it would take; the error names the file.
pub(crate) fn parse<'a>(bytes: &'a PackageBytes, path: &Path) -> Result<Package<'a>> {
    let cannot = || format!("cannot use {}", path.display());
    let package = Package::parse(bytes).with_context(cannot)?;
    BUDGET
        .admit(&package, Backend::detect(), MAX_STRIPE)
        .map_err(|over| Failure::Incompatible(over.to_string()))
        .with_context(cannot)?;
    Ok(package)
}

/// A package that hears audio.
#[derive(Debug)]
pub(crate) struct Audible<'a> {
    pub(crate) package: Package<'a>,
    pub(crate) mel: MelContract<'a>,
    pub(crate) labels: Vec<&'a str>,
    name: &'a Path,
}

impl<'a> Audible<'a> {
    /// From the bytes that [`read_or_built_in`] returned for the same path.
    pub(crate) fn new(bytes: &'a PackageBytes, path: Option<&'a Path>) -> Result<Self> {
        let name = name(path);
        let package = parse(bytes, name)?;
        Ok(Self {
            mel: mel(&package, name)?,
            labels: package.labels().collect(),
            package,
            name,
        })
    }

    /// The first line of human-readable output.
    pub(crate) fn headline(&self, files: usize) -> String {
        let plural = if files == 1 { "" } else { "s" };
        format!(
            "{} ({}), {} labels, {files} file{plural}\n",
            self.package.provenance().name,
            self.name.shown(),
            self.labels.len()
        )
    }
}

/// Its mel contract; a package without one takes feature rows only.
pub(crate) fn mel<'a>(package: &Package<'a>, path: &Path) -> Result<MelContract<'a>> {
    package.mel().ok_or_else(|| {
        Failure::Incompatible(format!(
            "{} has no mel contract and takes feature rows only: quantize it with --contract FILE.toml",
            path.display()
        ))
        .into()
    })
}
