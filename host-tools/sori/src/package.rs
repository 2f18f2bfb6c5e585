//! Packages from files.

use std::path::Path;

use anyhow::{Context as _, Result};
use sori_package::write::PackageBytes;
use sori_package::{MelContract, Package};

use crate::exit::Incompatible;

/// A package file in memory, aligned as its tables need.
pub(crate) fn read(path: &Path) -> Result<PackageBytes> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read {}: check the path", path.display()))?;
    Ok(PackageBytes::copy_from(&bytes))
}

/// Parses it, naming the file when it cannot be used.
pub(crate) fn parse<'a>(bytes: &'a PackageBytes, path: &Path) -> Result<Package<'a>> {
    Package::parse(bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// Its mel contract; a package without one takes feature rows only.
pub(crate) fn mel<'a>(package: &Package<'a>, path: &Path) -> Result<MelContract<'a>> {
    package.mel().ok_or_else(|| {
        Incompatible(format!(
            "{} has no mel contract and takes feature rows only: quantize it with --contract FILE.toml",
            path.display()
        ))
        .into()
    })
}
