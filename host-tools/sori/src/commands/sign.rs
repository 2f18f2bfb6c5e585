//! `sori sign`: a package that a device can know to be from its owner.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_sign::{PublicKey, SecretKey};

use crate::exit::Failure;
use crate::{output, package, signing_key};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sori sign model.sori                    with your key, which is made at the first time
  sori sign                               only the line for [model] of sori-pi.toml
  sori sign --new-key team.pem            another key
  sori sign model.sori --key team.pem     and a package with it

The signature stands behind the package in the same file, and every target takes that file. With
the printed line in its sori-pi.toml a Raspberry Pi takes no other packages.")]
pub(crate) struct Sign {
    /// The package
    #[arg(value_name = "FILE.sori")]
    package: Option<PathBuf>,
    /// The secret key, PKCS#8 in PEM [default: yours, ~/.config/sori/signing-key.pem]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make a key, and write it there
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    new_key: Option<PathBuf>,
    /// Where the signed package goes [default: in place of the package]
    #[arg(long, value_name = "FILE.sori", requires = "package")]
    out: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Signed<'a> {
    schema_version: u32,
    public_key: String,
    /// Where the secret half is.
    key_file: &'a Path,
    new_key: bool,
    /// The signed file.
    package: Option<&'a Path>,
}

impl Sign {
    pub(crate) fn run(self) -> Result<()> {
        // A package that cannot be signed is no reason to make a key.
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
                "made a key: {}; keep a copy, for without it nothing can be signed again for devices that ask for it",
                path.display()
            ))?;
        }
        if let Some(to) = to {
            output::line(&format!("signed {}", to.display()))?;
        }
        output::line(&format!(
            "in sori-pi.toml, for packages of this key only:\n[model]\nkey = \"{}\"",
            key.public()
        ))
    }

    /// The key, where it is, and whether it was made just now.
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

/// A package that runs: nobody should put their name to another.
fn read(path: &Path) -> Result<sori_package::write::PackageBytes> {
    let bytes = package::read(path)?;
    package::parse(&bytes, path)?;
    Ok(bytes)
}

/// That `key` signed the package at `path`.
pub(crate) fn check(bytes: &[u8], key: &PublicKey, path: &Path) -> Result<()> {
    sori_sign::check(bytes, key)
        .map_err(|refusal| Failure::Incompatible(refusal.to_string()))
        .with_context(|| format!("{} is not accepted", path.display()))
}
