//! Which files are meant.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Extensions of audio files.
pub(crate) const EXTENSIONS: [&str; 5] = ["wav", "flac", "mp3", "ogg", "oga"];

/// One file to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its path below the folder given, or its file name.
    pub(crate) relative: PathBuf,
}

/// The files that the arguments name, in the order of the arguments, each folder's sorted by
/// name. Missing files and folders without audio stay in the list: they are reported in their
/// turn, and do not stop the others.
pub(crate) fn find(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let before = sources.len();
        if input.is_dir() {
            sources.extend(with_extensions(input, &EXTENSIONS)?);
        }
        if sources.len() == before {
            sources.push(Source {
                path: input.clone(),
                relative: input.file_name().unwrap_or(input.as_os_str()).into(),
            });
        }
    }
    Ok(sources)
}

/// The files below a folder with one of the extensions, sorted by name. Links are followed, and
/// each folder is looked at once, however many ways lead to it.
pub(crate) fn with_extensions(folder: &Path, extensions: &[&str]) -> Result<Vec<Source>> {
    let mut walk = Walk {
        root: folder,
        extensions,
        seen: HashSet::new(),
        sources: Vec::new(),
    };
    walk.folder(folder)?;
    Ok(walk.sources)
}

struct Walk<'a> {
    root: &'a Path,
    extensions: &'a [&'a str],
    seen: HashSet<FolderId>,
    sources: Vec<Source>,
}

/// Device and inode; where there is no such thing, the path without links.
#[cfg(unix)]
type FolderId = (u64, u64);
#[cfg(not(unix))]
type FolderId = PathBuf;

#[cfg(unix)]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(folder)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    folder.canonicalize()
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let cannot = || format!("cannot list {}: check the path", folder.display());
        if !self.seen.insert(folder_id(folder).with_context(cannot)?) {
            return Ok(());
        }
        let mut entries = std::fs::read_dir(folder)
            .with_context(cannot)?
            .collect::<io::Result<Vec<_>>>()
            .with_context(cannot)?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = entry.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else if has_extension(&path, self.extensions) {
                let relative = path.strip_prefix(self.root).unwrap_or(&path).into();
                self.sources.push(Source { path, relative });
            }
        }
        Ok(())
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|found| extensions.iter().any(|e| e.eq_ignore_ascii_case(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders that lead to each other in every way, and one that is deeper than any path.
    #[cfg(unix)]
    #[test]
    fn each_folder_is_looked_at_once_however_many_ways_lead_to_it() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let folders: Vec<_> = (0..12).map(|n| root.path().join(format!("f{n}"))).collect();
        for folder in &folders {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("x.wav"), b"").unwrap();
        }
        for from in &folders {
            for (n, to) in folders.iter().enumerate() {
                symlink(to, from.join(format!("to{n}"))).unwrap();
            }
        }
        let found = with_extensions(root.path(), &["wav"]).unwrap();
        assert_eq!(found.len(), 12);
        let mut deep = root.path().join("deep");
        while deep.as_os_str().len() < 3_900 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("x.wav"), b"").unwrap();
        assert_eq!(with_extensions(root.path(), &["wav"]).unwrap().len(), 13);
    }

    #[test]
    fn folders_are_listed_by_name_and_other_files_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("jazz")).unwrap();
        for name in ["b.wav", "jazz/c.OGG", "a.flac", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let missing = PathBuf::from("missing.wav");
        let sources = find(&[missing, folder.path().into()]).unwrap();
        let names: Vec<_> = sources
            .iter()
            .map(|s| s.relative.to_str().unwrap())
            .collect();
        assert_eq!(names, ["missing.wav", "a.flac", "b.wav", "jazz/c.OGG"]);
    }
}
