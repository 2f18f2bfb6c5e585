//! A folder as one file: on Linux the same bits for the same files.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use xtask::dist::flags;

use crate::tools;

/// Puts `folder`, with its name, into `out`: a zip file if there is a Windows program in it, else
/// `.tar.gz`.
pub(super) fn pack(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("a folder in a folder")?;
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.context("a name in Unicode")?;
    let seconds = flags::source_date_epoch()?
        .parse()
        .context("SOURCE_DATE_EPOCH")?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).context("the folder to pack")? {
        let path = entry?.path();
        fs::File::options()
            .append(true)
            .open(&path)?
            .set_modified(time)?;
        files.push(path.strip_prefix(parent)?.to_owned());
    }
    files.sort();
    let is_windows = folder.join("sori.exe").exists();
    let packed = std::path::absolute(out)?.join(match is_windows {
        true => format!("{name}.zip"),
        false => format!("{name}.tar"),
    });
    let mut tar = Command::new("tar");
    // GNU's, or BSD's, which guesses zip from the name.
    match cfg!(target_os = "linux") {
        true => tar.args([
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=u=rwX,go=rX",
        ]),
        false => tar.args(["--uid", "0", "--gid", "0"]),
    };
    if is_windows {
        tar.arg("-a");
    } else {
        tar.arg("--format=ustar");
    }
    tools::captured(tar.arg("-cf").arg(&packed).args(&files).current_dir(parent))?;
    if !is_windows {
        // Without -n the time would be in there.
        tools::captured(Command::new("gzip").args(["-9nf"]).arg(&packed))?;
    }
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(())
}
