//! The secret key that signs packages, and where it is stored.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use sori_sign::SecretKey;

use crate::exit::Failure;

/// The user's own, by the XDG base directory specification or its equivalent on Windows.
pub(crate) fn usual() -> Result<PathBuf> {
    let of = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
    let folder = of("XDG_CONFIG_HOME")
        .or_else(|| of("APPDATA").filter(|_| cfg!(windows)))
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(of("HOME")?).join(".config")));
    folder
        .map(|folder| folder.join("sori").join("signing-key.pem"))
        .ok_or_else(|| {
            Failure::Usage(
                "there is no home directory to keep a key in: name one with --key FILE".into(),
            )
            .into()
        })
}

/// Reads an existing key.
pub(crate) fn read(path: &Path) -> Result<SecretKey> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::Usage(format!(
                "no key at {}: create one with sori sign --new-key {0}",
                path.display()
            ))
            .into());
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let key =
        SecretKey::from_pem(&text).with_context(|| format!("cannot use {}", path.display()))?;
    if let Some(others) = readable_by_others(path) {
        eprintln!("sori: {others}");
    }
    Ok(key)
}

/// Creates a key. It never replaces a file: packages signed with a lost key cannot be updated.
pub(crate) fn create(path: &Path) -> Result<SecretKey> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).with_context(cannot)?;
    let key = SecretKey::generate().context("the system provides no random numbers")?;
    // Of mode 0600, as all temporary files.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.write_all(key.to_pem().as_bytes())
        .with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::Usage(format!(
                "{} already exists and was not replaced: name another file, or move it away",
                path.display()
            ))
            .into())
        }
        persisted => {
            persisted
                .map_err(|error| error.error)
                .with_context(cannot)?;
            Ok(key)
        }
    }
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        format!(
            "other users can read {0} and sign with it: chmod 600 {0}",
            path.display()
        )
    })
}

#[cfg(not(unix))]
fn readable_by_others(_path: &Path) -> Option<String> {
    None
}
