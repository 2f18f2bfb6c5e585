//! Watches the package's file: a new one listens as soon as it has proved itself, and whose it is
//! where the configuration names a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::config;
use crate::model::{Model, Unusable};

/// What tells one file from another without reading it.
type Mark = (SystemTime, u64);

/// The file, and what is known of it.
#[derive(Debug)]
pub struct PackageFile {
    configured: config::Model,
    path: Option<PathBuf>,
    /// Of what was last tried, usable or not.
    tried: Option<Mark>,
    /// Of the last look: a file that still grows is left alone.
    seen: Option<Mark>,
}

impl PackageFile {
    /// The configured one, as it is now.
    pub fn new(configured: &config::Model) -> Self {
        let path = configured.path();
        let tried = path.as_deref().and_then(mark);
        Self {
            configured: configured.clone(),
            path,
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
        Some(Model::load(&self.configured).map(Arc::new))
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sori_sign::SecretKey;
    use std::fs;

    const GENRE: &[u8] = include_bytes!("../../../models/genre/genre.sori");

    #[test]
    fn a_file_is_tried_once_and_only_when_it_has_stopped_changing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        let mut file = PackageFile::new(&config::Model {
            package: Some(path.clone()),
            key: None,
        });
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
        assert!(PackageFile::new(&config::Model::default()).look().is_none());
    }

    #[test]
    fn with_a_key_only_its_packages_are_taken() {
        let (mine, other) = (
            SecretKey::generate().unwrap(),
            SecretKey::generate().unwrap(),
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        let mut file = PackageFile::new(&config::Model {
            package: Some(path.clone()),
            key: Some(mine.public()),
        });
        let mut try_one = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            file.seen = None;
            file.tried = None;
            assert!(file.look().is_none());
            file.look().expect("it has changed and settled")
        };
        let signed = sori_sign::sign(GENRE, &mine).unwrap();
        assert!(try_one(&signed).is_ok());
        let mut altered = signed.clone();
        altered[signed.len() - 1] ^= 1;
        for (bytes, why) in [
            (GENRE, "it is not signed: sign it with `sori sign`"),
            (&sori_sign::sign(GENRE, &other).unwrap(), "only ed25519:"),
            (&altered, "it was changed after signing"),
            (&signed[..signed.len() - 1], "copy it again"),
        ] {
            let refusal = try_one(bytes).expect_err(why).to_string();
            assert!(refusal.contains(why), "{refusal}");
            assert!(refusal.contains("genre.sori cannot be used"), "{refusal}");
        }
        assert!(try_one(&signed).is_ok());
    }
}
