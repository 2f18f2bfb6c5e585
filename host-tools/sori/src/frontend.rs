//! An audio file to feature rows.

use std::path::Path;

use anyhow::{Context as _, Result};
use sori_dsp::FrontEnd;
use sori_package::MelContract;

use crate::audio;

/// What the front end makes of one file.
#[derive(Debug)]
pub(crate) struct FeatureRows {
    /// Row after row, one int8 a band; at least one row.
    pub(crate) features: Vec<i8>,
    /// One a row, 1/256 dBFS.
    pub(crate) levels_dbfs_q8: Vec<i32>,
    /// What a person should know of the file.
    pub(crate) warnings: Vec<String>,
}

/// Decodes a file and runs the front end over it.
pub(crate) fn rows_of(path: &Path, mel: &MelContract<'_>) -> Result<FeatureRows> {
    let mut workspace = vec![0; FrontEnd::workspace_len(mel)];
    let mut frontend = FrontEnd::new(mel, &mut workspace).context("the front end")?;
    let (mut features, mut levels_dbfs_q8) = (Vec::new(), Vec::new());
    let decoded = audio::stream(path, mel.sample_rate_hz, &mut |samples| {
        frontend.push(samples, &mut |row| {
            features.extend_from_slice(row.features);
            levels_dbfs_q8.push(row.level_dbfs_q8);
        });
    })?;
    if features.is_empty() {
        return Err(too_short(path, mel));
    }
    Ok(FeatureRows {
        features,
        levels_dbfs_q8,
        warnings: decoded.warnings,
    })
}

/// The error for a file that gives no feature row.
pub(crate) fn too_short(path: &Path, mel: &MelContract<'_>) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is shorter than one window ({} ms): use a longer recording",
        path.display(),
        mel.window_samples * 1000 / mel.sample_rate_hz as usize
    )
}
