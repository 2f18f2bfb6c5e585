//! The package that listens: the built-in one or a file. None is used that did not prove
//! itself by its golden vectors on this processor.

use std::fmt;
use std::path::{Path, PathBuf};

use sori_listener::{Budget, ClipSummary, Listener, MAX_CLASSES, Memory, verify};
use sori_nn::{Backend, CacheLine, Caches, Network, Prepared};
use sori_package::text::Plain;
use sori_package::write::PackageBytes;
use sori_package::{MelContract, Package, file};

use crate::board::Recognizer;
use crate::config;

/// The genre model that is built in.
static GENRE: &[u8] = include_bytes!("../../../models/genre/genre.sori");

/// What a package may take. The unit allows the program 400 MB, and for a moment two packages are
/// there, beside the clips that the page classifies. A Pi Zero 2 verifies that much in ten seconds.
const BUDGET: Budget = Budget {
    memory_bytes: 64 << 20,
    verification: 20_000_000_000,
};

/// A package that was verified here.
#[derive(Debug)]
pub struct Model {
    bytes: PackageBytes,
    /// What it calls itself.
    pub name: String,
    /// Its classes.
    pub labels: Vec<String>,
    /// Values of a feature row.
    pub bands: usize,
    /// Feature rows a second.
    pub rows_per_second: f64,
    /// Where it is from; none is the built-in one.
    pub path: Option<PathBuf>,
}

/// Why a package is not used, in words that say what to do.
#[derive(Debug)]
pub struct Unusable {
    path: Option<PathBuf>,
    why: String,
}

impl Unusable {
    /// None is the built-in one.
    pub(crate) fn new(path: Option<&Path>, why: impl fmt::Display) -> Self {
        Self {
            path: path.map(Path::to_path_buf),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = Plain(&self.why);
        match &self.path {
            Some(path) => write!(f, "{} cannot be used: {why}", Plain(path.display())),
            None => write!(f, "the built-in package cannot be used: {why}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Model {
    /// The configured one; where none is configured and none in the usual place, the built-in one.
    ///
    /// # Errors
    /// It cannot be read or parsed, is not signed by the configured key, does not hear audio, or
    /// computes other bits than it promises.
    pub fn load(configured: &config::Model) -> Result<Self, Unusable> {
        let must_exist = configured.package.is_some();
        let path = configured.path();
        let Some(path) = path.filter(|path| must_exist || path.exists()) else {
            return Self::built_in();
        };
        let unusable = |why: &dyn fmt::Display| Unusable::new(Some(&path), why);
        let bytes = file::read(&path).map_err(|error| unusable(&error))?;
        // Before anything else is done with a stranger's bytes.
        if let Some(key) = &configured.key {
            sori_sign::check(&bytes, key).map_err(|refusal| unusable(&refusal))?;
        }
        Self::prove(bytes, Some(&path))
    }

    /// The one that is built in, which no key is asked of: who could change it could change the
    /// program that would look.
    ///
    /// # Errors
    /// It computes other bits than it promises: this processor is not one that it was made for.
    pub fn built_in() -> Result<Self, Unusable> {
        Self::prove(PackageBytes::copy_from(GENRE), None)
    }

    fn prove(bytes: PackageBytes, path: Option<&Path>) -> Result<Self, Unusable> {
        let unusable = |why: &dyn fmt::Display| Unusable::new(path, why);
        let package = Package::parse(&bytes).map_err(|error| unusable(&error))?;
        let mel = package
            .mel()
            .ok_or_else(|| unusable(&sori_listener::Error::NoMelContract))?;
        let found = package.classifier().classes;
        if found > MAX_CLASSES {
            return Err(unusable(&sori_listener::Error::TooManyClasses { found }));
        }
        BUDGET
            .admit(&package, Backend::detect(), 1)
            .map_err(|over| unusable(&over))?;
        let rate_hz = mel.sample_rate_hz;
        let model = Self {
            name: package.provenance().name.to_string(),
            labels: package.labels().map(String::from).collect(),
            bands: mel.bands,
            rows_per_second: f64::from(rate_hz) / mel.hop_samples as f64,
            path: path.map(Path::to_path_buf),
            bytes,
        };
        model
            .with(rate_hz, |prepared, memory| {
                verify(prepared, memory, 1).map(|_| ())
            })
            .and_then(|verified| verified.map_err(|mismatch| mismatch.to_string()))
            .map_err(|why| unusable(&why))?;
        Ok(model)
    }

    /// What there is to say of it.
    pub fn describe(&self) -> Recognizer {
        Recognizer {
            name: self.name.clone(),
            path: self.path.as_ref().map(|path| path.display().to_string()),
            labels: self.labels.clone(),
            bands: self.bands,
            rows_per_second: self.rows_per_second,
            backend: Self::backend(),
            ..Recognizer::default()
        }
    }

    /// Calls `body` with a listener for sound at `rate_hz`.
    ///
    /// # Errors
    /// A rate that cannot be resampled.
    pub fn listen<T>(
        &self,
        rate_hz: u32,
        body: impl FnOnce(Listener<'_, '_>) -> T,
    ) -> Result<T, Unusable> {
        self.with(rate_hz, |prepared, memory| {
            Listener::new(prepared, memory, rate_hz).map(body)
        })
        .and_then(|result| result.map_err(|error| error.to_string()))
        .map_err(|why| Unusable::new(self.path.as_deref(), why))
    }

    /// Gathers what a listener says of a whole clip.
    pub fn summary(&self) -> ClipSummary {
        let package = Package::parse(&self.bytes).expect("it was parsed when it was loaded");
        ClipSummary::new(&package)
    }

    /// Prepares the weights for this processor and gives the memory that they need, and a
    /// listener for sound at `rate_hz`.
    fn with<T>(
        &self,
        rate_hz: u32,
        body: impl FnOnce(Prepared<'_>, Memory<'_>) -> T,
    ) -> Result<T, String> {
        let package = Package::parse(&self.bytes).map_err(|error| error.to_string())?;
        let mel: MelContract<'_> = package.mel().ok_or("it has no mel contract")?;
        let backend = Backend::detect();
        let mut lines = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
        let prepared = Prepared::new(&package, backend, &mut lines)
            .map_err(|error| error.to_string())?
            .with_caches(Caches::detect());
        let words = Network::arena_bytes(&prepared, 1).div_ceil(size_of::<CacheLine>());
        let mut arena = vec![CacheLine([0; 64]); words];
        let mut frontend = vec![0; Listener::ample_frontend_len(&mel, rate_hz)];
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytemuck::cast_slice_mut(&mut arena),
        };
        Ok(body(prepared, memory))
    }

    /// What runs it.
    pub fn backend() -> String {
        Backend::detect().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Channel;
    use crate::engine::{Engine, Layout, Said};

    #[test]
    fn the_built_in_package_proves_itself() {
        let model = Model::built_in().expect("it was made by this code");
        assert!(model.labels.iter().any(|label| label == "jazz"));
        assert_eq!(model.bands, 64);
    }

    #[test]
    fn what_is_no_package_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sori");
        let why = |path: &Path| {
            let configured = config::Model {
                package: Some(path.to_path_buf()),
                key: None,
            };
            let unusable = Model::load(&configured).expect_err("unusable");
            unusable.to_string()
        };
        assert!(why(&path).contains("No such file"), "{}", why(&path));
        std::fs::write(&path, b"garbage").unwrap();
        assert!(
            why(&path).contains("x.sori cannot be used"),
            "{}",
            why(&path)
        );
        // One bit of the weights is another network.
        let mut bytes = GENRE.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        why(&path);
    }

    /// Left is dead, right has a tone and a large offset; the engine is to hear right.
    #[test]
    fn the_dead_channel_is_left_and_no_chunking_changes_what_is_said() {
        let layout = Layout {
            rate_hz: 48_000,
            channels: 2,
        };
        let frames: Vec<i32> = (0..48_000 * 4)
            .flat_map(|n| {
                let tone = (f64::from(n) * 0.05).sin() + (f64::from(n) * 0.0317).sin();
                [0, 400_000 + (tone * 200_000.0) as i32]
            })
            .collect();
        let model = Model::built_in().unwrap();
        let said = |chunk: usize| {
            let mut said = Vec::new();
            model
                .listen(layout.rate_hz, |listener| {
                    let mut engine =
                        Engine::new(listener, model.labels.clone(), layout, Channel::Auto);
                    let mut on_said = |event: Said<'_>| match event {
                        Said::Row(features, level) => said.push(format!("{features:?} {level}")),
                        Said::Decision(decision) => said.push(format!("{decision:?}")),
                        Said::Channels(readings, channel) => {
                            assert!(readings[0].is_zero() && readings[1].is_live());
                            said.push(format!("channel {channel}"));
                        }
                        Said::Span(span) => said.push(format!("{span:?}")),
                    };
                    for part in frames.chunks(2 * chunk) {
                        engine.push(part, 0, &mut on_said);
                    }
                    engine.finish(&mut on_said);
                })
                .expect("48 kHz");
            said
        };
        let whole = said(48_000 * 4);
        assert!(whole.iter().any(|line| line == "channel 1"), "{whole:?}");
        assert!(whole.last().is_some_and(|line| line.starts_with("Span")));
        assert_eq!(said(1024), whole);
        assert_eq!(said(37), whole);
    }
}
