//! Watches the package's file: a new one listens as soon as it has proved itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{Model, Unusable};

/// What tells one file from another without reading it.
type Mark = (SystemTime, u64);

/// The file, and what is known of it.
#[derive(Debug)]
pub struct PackageFile {
    path: Option<PathBuf>,
    /// Of what was last tried, usable or not.
    tried: Option<Mark>,
    /// Of the last look: a file that still grows is left alone.
    seen: Option<Mark>,
}

impl PackageFile {
    /// Of the configured path, as it is now.
    pub fn new(path: Option<&Path>) -> Self {
        let tried = path.and_then(mark);
        Self {
            path: path.map(Path::to_path_buf),
            tried,
            seen: tried,
        }
    }

    /// Looks, a few seconds after the last look. A file that has changed and stopped changing
    /// is loaded and verified.
    pub fn look(&mut self) -> Option<Result<Arc<Model>, Unusable>> {
        let path = self.path.as_deref()?;
        let now = mark(path);
        let settled = now == std::mem::replace(&mut self.seen, now);
        if now.is_none() || now == self.tried || !settled {
            return None;
        }
        self.tried = now;
        Some(Model::load(Some(path)).map(Arc::new))
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GENRE: &[u8] = include_bytes!("../../../models/genre/genre.sori");

    #[test]
    fn a_file_is_tried_once_and_only_when_it_has_stopped_changing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        let mut file = PackageFile::new(Some(&path));
        assert!(file.look().is_none());
        // Half of it is there, then all of it.
        fs::write(&path, &GENRE[..1000]).unwrap();
        assert!(file.look().is_none());
        fs::write(&path, GENRE).unwrap();
        assert!(file.look().is_none());
        assert!(matches!(file.look(), Some(Ok(_))));
        assert!(file.look().is_none());
        // Garbage in its place is refused once; nothing in its place is no reason to stop.
        fs::write(&path, b"garbage").unwrap();
        assert!(file.look().is_none());
        assert!(matches!(file.look(), Some(Err(_))));
        assert!(file.look().is_none());
        fs::remove_file(&path).unwrap();
        assert!(file.look().is_none());
        assert!(file.look().is_none());
        // Without a path there is nothing to look at.
        assert!(PackageFile::new(None).look().is_none());
    }
}
