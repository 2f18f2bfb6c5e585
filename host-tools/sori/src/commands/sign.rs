//! `sori sign`: signs a package, so that a device can check who made it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_sign::{PublicKey, SecretKey};

use crate::exit::Failure;
use crate::output::Shown as _;
use crate::{output, package, signing_key};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sori sign model.sori                    with your key, created on first use
  sori sign                               only print the line for [model] in sori-pi.toml
  sori sign --new-key team.pem            create another key
  sori sign model.sori --key team.pem     sign with that key

The signature follows the package in the same file, which every target accepts. With the printed
line in its sori-pi.toml, a Raspberry Pi accepts no other packages.")]
pub(crate) struct Sign {
    /// The package
    #[arg(value_name = "FILE.sori")]
    package: Option<PathBuf>,
    /// The secret key, PKCS#8 in PEM [default: ~/.config/sori/signing-key.pem]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Create a key in this file
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    new_key: Option<PathBuf>,
    /// Where to write the signed package [default: replace the package]
    #[arg(long, value_name = "FILE.sori", requires = "package")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Signed<'a> {
    schema_version: u32,
    public_key: String,
    /// The secret key's file.
    key_file: &'a Path,
    new_key: bool,
    /// The signed file.
    package: Option<&'a Path>,
}

impl Sign {
    pub(crate) fn run(self) -> Result<()> {
        // First, so that a package that cannot be signed leaves no new key.
        let signed = self.package.as_deref().map(read).transpose()?;
        let (path, key, new_key) = self.key()?;
        let to = self.out.as_deref().or(self.package.as_deref());
        if let (Some(bytes), Some(to)) = (signed, to) {
            output::write_atomically(to, &sori_sign::sign(&bytes, &key)?)?;
        }
        if self.json {
            return output::line(&serde_json::to_string(&Signed {
                schema_version: SCHEMA_VERSION,
                public_key: key.public().to_string(),
                key_file: &path,
                new_key,
                package: to,
            })?);
        }
        if new_key {
            output::line(&format!(
                "created the key {}; keep a copy: without it you cannot sign packages for devices that require it",
                path.display()
            ))?;
        }
        if let Some(to) = to {
            output::line(&format!("signed {}", to.shown()))?;
        }
        output::line(&format!(
            "in sori-pi.toml, to accept only packages signed with this key:\n[model]\nkey = \"{}\"",
            key.public()
        ))
    }

    /// The key, its path, and whether it was just created.
    fn key(&self) -> Result<(PathBuf, SecretKey, bool)> {
        if let Some(path) = &self.new_key {
            return Ok((path.clone(), signing_key::create(path)?, true));
        }
        if let Some(path) = &self.key {
            return Ok((path.clone(), signing_key::read(path)?, false));
        }
        let path = signing_key::usual()?;
        match path.exists() {
            true => Ok((path.clone(), signing_key::read(&path)?, false)),
            false => Ok((path.clone(), signing_key::create(&path)?, true)),
        }
    }
}

/// Only a package that runs is worth signing.
fn read(path: &Path) -> Result<sori_package::write::PackageBytes> {
    let bytes = package::read(path)?;
    package::parse(&bytes, path)?;
    Ok(bytes)
}

/// Checks that `key` signed the package at `path`.
pub(crate) fn check(bytes: &[u8], key: &PublicKey, path: &Path) -> Result<()> {
    sori_sign::check(bytes, key)
        .map_err(|refusal| Failure::Incompatible(refusal.to_string()))
        .with_context(|| format!("cannot accept {}", path.display()))
}
