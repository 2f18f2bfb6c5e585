//! Folders of audio or .npy feature rows, as rows for a network.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rayon::prelude::*;
use sori_host::{Rows, file};
use sori_package::{MelContract, TensorShape};

use crate::{audio, exit, frontend, output};

/// A file as rows.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) rows: Rows,
    /// Name of the folder that contains it.
    pub(crate) folder: String,
}

/// Every audio file and every .npy below a folder; all must be readable.
pub(crate) fn load(
    folder: &Path,
    mel: Option<&MelContract<'_>>,
    shape: TensorShape,
) -> Result<Vec<Clip>> {
    let arrays = audio::with_extensions(folder, &["npy"])?;
    let recordings = audio::with_extensions(folder, &audio::EXTENSIONS)?;
    ensure!(
        !(arrays.is_empty() && recordings.is_empty()),
        "{} contains neither audio (wav, flac, mp3, ogg) nor .npy feature rows",
        folder.display()
    );
    let clip = |path: &Path, rows| {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        Clip {
            rows,
            folder: folder.to_string_lossy().into_owned(),
        }
    };
    let mut clips = Vec::new();
    for source in arrays {
        let bytes = file::read(&source.path, file::MAX_DATA)
            .with_context(|| format!("cannot read {}", source.path.display()))?;
        let rows = Rows::from_npy(&bytes, shape)
            .with_context(|| format!("cannot use {}", source.path.display()))?;
        clips.push(clip(&source.path, rows));
    }
    if recordings.is_empty() {
        return Ok(clips);
    }
    let Some(mel) = mel else {
        bail!(
            "{} contains audio, but no contract defines its features: give --contract FILE.toml, or .npy feature rows",
            folder.display()
        );
    };
    let bar = output::progress(recordings.len());
    let heard: Result<Vec<Clip>> = recordings
        .par_iter()
        .map(|source| {
            let heard = frontend::rows_of(&source.path, mel)?;
            for warning in heard.warnings {
                let path = source.path.display();
                bar.suspend(|| exit::warn(format_args!("{path}: {warning}")));
            }
            bar.inc(1);
            Ok(clip(&source.path, Rows::Int8(heard.features)))
        })
        .collect();
    bar.finish_and_clear();
    clips.extend(heard?);
    Ok(clips)
}
