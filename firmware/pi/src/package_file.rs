//! Watches the package's file: a new one listens as soon as it has proved itself, and whose it is
//! where the configuration names a key.
//!
//! A package proves itself on a thread of its own, so that nothing waits for a slow one. One that
//! ended the whole program instead is not tried a third time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config;
use crate::model::{Model, Unusable};

/// Ends of the program while it loaded one file, after which that file is left alone. One may
/// have been a power cut; two within the second or so that it takes have a reason. Less than the
/// unit's `StartLimitBurst`.
const MOST_ATTEMPTS: u32 = 2;

/// What tells one file from another without reading it.
type Mark = (SystemTime, u64);

/// The result of loading.
pub type Loaded = Result<Arc<Model>, Unusable>;

/// The file, and what is known of it.
#[derive(Debug)]
pub struct PackageFile {
    configured: config::Model,
    path: Option<PathBuf>,
    /// Of what was last tried, usable or not.
    tried: Option<Mark>,
    /// Of the last look: a file that still grows is left alone.
    seen: Option<Mark>,
    attempts: Attempts,
    /// What the thread that loads says at its end.
    loading: Option<mpsc::Receiver<Loaded>>,
}

impl PackageFile {
    /// The configured one, as it is now. `state` is a folder of the program's own, which
    /// remembers what ended it.
    pub fn new(configured: &config::Model, state: &Path) -> Self {
        let path = configured.path();
        let tried = path.as_deref().and_then(mark);
        Self {
            configured: configured.clone(),
            path,
            tried,
            seen: tried,
            attempts: Attempts(state.join("loading")),
            loading: None,
        }
    }

    /// Whether there is a file to load, or one that is missed.
    pub fn is_expected(&self) -> bool {
        self.configured.package.is_some() || self.tried.is_some()
    }

    /// Begins to load the file as it is.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn load(&mut self) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        match self.tried.map_or(Ok(()), |mark| self.attempts.begin(mark)) {
            Ok(()) => {
                let (configured, attempts) = (self.configured.clone(), self.attempts.clone());
                let load = move || {
                    let loaded = Model::load(&configured).map(Arc::new);
                    attempts.end();
                    // Nobody waits for it any more if the program ends.
                    let _ = sender.send(loaded);
                };
                thread::Builder::new().name("package".into()).spawn(load)?;
            }
            Err(why) => {
                let aside = Unusable::new(self.path.as_deref(), why);
                let _ = sender.send(Err(aside));
            }
        }
        self.loading = Some(receiver);
        Ok(())
    }

    /// What came of loading, if that ends within `patience`.
    pub fn loaded(&mut self, patience: Duration) -> Option<Loaded> {
        let loaded = match self.loading.as_ref()?.recv_timeout(patience) {
            Ok(loaded) => loaded,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Err(Unusable::new(
                self.path.as_deref(),
                "loading it panicked: this is a bug in sori-pi, please report it with the log above",
            )),
        };
        self.loading = None;
        Some(loaded)
    }

    /// Looks, a few seconds after the last look. A file that has changed and stopped changing
    /// is loaded and verified, and returned by a later look.
    pub fn look(&mut self) -> Option<Loaded> {
        if self.loading.is_some() {
            return self.loaded(Duration::ZERO);
        }
        let path = self.path.as_deref()?;
        let now = mark(path);
        let settled = now == std::mem::replace(&mut self.seen, now);
        if now.is_none() || now == self.tried || !settled {
            return None;
        }
        self.tried = now;
        let begun = self.load();
        begun
            .err()
            .map(|error| Err(Unusable::new(self.path.as_deref(), error)))
    }
}

impl Drop for PackageFile {
    /// Whoever ends the program in order was not ended by the package.
    fn drop(&mut self) {
        if self.loading.is_some() {
            self.attempts.end();
        }
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// A file that is there while a package is loaded: which, and how often before. Where it cannot
/// be written, nothing is remembered.
#[derive(Debug, Clone)]
struct Attempts(PathBuf);

impl Attempts {
    /// Counts an attempt.
    ///
    /// # Errors
    /// There were enough.
    fn begin(&self, (modified, len): Mark) -> Result<(), String> {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = format!("{len} {}", since.as_nanos());
        let before = fs::read_to_string(&self.0).ok();
        let before = before
            .as_deref()
            .and_then(|text| text.trim_end().rsplit_once(' '))
            .filter(|(of, _)| *of == mark)
            .and_then(|(_, count)| count.parse().ok())
            .unwrap_or(0);
        if before >= MOST_ATTEMPTS {
            return Err(format!(
                "sori-pi ended {before} times while it loaded this file, so it is set aside: replace it, or delete {} to try again",
                self.0.display()
            ));
        }
        let _ = fs::write(&self.0, format!("{mark} {}\n", before + 1));
        Ok(())
    }

    fn end(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sori_sign::SecretKey;

    const GENRE: &[u8] = include_bytes!("../../../models/genre/genre.sori");

    fn of(package: &Path) -> PackageFile {
        let configured = config::Model {
            package: Some(package.to_path_buf()),
            key: None,
        };
        PackageFile::new(&configured, package.parent().unwrap())
    }

    /// What comes of the load that a look began.
    fn wait(file: &mut PackageFile) -> Loaded {
        let loaded = file.loaded(Duration::from_secs(60));
        loaded.expect("it is being loaded, and that ends")
    }

    #[test]
    fn a_file_is_tried_once_and_only_when_it_has_stopped_changing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        let mut file = of(&path);
        assert!(file.look().is_none());
        // Half of it is there, then all of it.
        fs::write(&path, &GENRE[..1000]).unwrap();
        assert!(file.look().is_none());
        fs::write(&path, GENRE).unwrap();
        assert!(file.look().is_none());
        assert!(file.look().is_none());
        assert!(wait(&mut file).is_ok());
        assert!(file.look().is_none());
        assert!(file.loading.is_none(), "it is known");
        // Garbage in its place is refused once; nothing in its place is no reason to stop.
        fs::write(&path, b"garbage").unwrap();
        assert!(file.look().is_none());
        assert!(file.look().is_none());
        assert!(wait(&mut file).is_err());
        assert!(file.look().is_none());
        fs::remove_file(&path).unwrap();
        assert!(file.look().is_none());
        assert!(file.look().is_none());
        assert!(file.loading.is_none());
        // Without a path there is nothing to look at.
        let mut none = PackageFile::new(&config::Model::default(), folder.path());
        assert!(none.look().is_none() && none.loading.is_none() && !none.is_expected());
    }

    #[test]
    fn with_a_key_only_its_packages_are_taken() {
        let (mine, other) = (
            SecretKey::generate().unwrap(),
            SecretKey::generate().unwrap(),
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        let configured = config::Model {
            package: Some(path.clone()),
            key: Some(mine.public()),
        };
        let mut file = PackageFile::new(&configured, folder.path());
        let mut try_one = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            file.load().unwrap();
            wait(&mut file)
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

    /// As if the kernel had killed it for memory, twice.
    #[test]
    fn a_package_that_ended_the_program_twice_is_set_aside_until_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        fs::write(&path, GENRE).unwrap();
        let attempts = folder.path().join("loading");
        let mark = mark(&path).unwrap();
        for _ in 0..MOST_ATTEMPTS {
            Attempts(attempts.clone()).begin(mark).expect("not yet");
        }
        let mut file = of(&path);
        file.load().unwrap();
        let refusal = wait(&mut file).expect_err("set aside").to_string();
        assert!(refusal.contains("set aside"), "{refusal}");
        // It stays so until the next start.
        assert!(file.look().is_none() && file.loading.is_none());
        // Another file in its place is tried, and what is tried in order leaves nothing behind.
        fs::write(&path, &GENRE[..9]).unwrap();
        assert!(file.look().is_none());
        assert!(file.look().is_none());
        assert!(!wait(&mut file).unwrap_err().to_string().contains("aside"));
        assert!(!attempts.exists());
    }

    #[test]
    fn to_end_while_a_package_is_loaded_is_no_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genre.sori");
        fs::write(&path, GENRE).unwrap();
        let attempts = folder.path().join("loading");
        let mut file = of(&path);
        file.load().unwrap();
        drop(file);
        assert!(!attempts.exists());
    }
}
