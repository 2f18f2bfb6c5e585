//! Turns an audio file into feature rows.

use std::path::Path;

use anyhow::{Context as _, Result};
use sori_dsp::FrontEnd;
use sori_package::MelContract;

use crate::audio;

/// The feature rows of one file.
#[derive(Debug)]
pub(crate) struct FeatureRows {
    /// Row by row, one int8 per band; at least one row.
    pub(crate) features: Vec<i8>,
    /// One per row, in 1/256 dBFS.
    pub(crate) levels_dbfs_q8: Vec<i32>,
    /// Warnings about the file.
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

/// The error for a file too short for one feature row.
pub(crate) fn too_short(path: &Path, mel: &MelContract<'_>) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is shorter than one window ({} ms): use a longer recording",
        path.display(),
        mel.window_samples * 1000 / mel.sample_rate_hz as usize
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sori_dsp::design::MelSpec;
    use sori_dsp::reference;

    use super::*;

    /// Full scale of 24-bit samples.
    const FULL_SCALE: f64 = 8_388_607.0;

    fn features(mel: &MelContract<'_>, samples: &[i32]) -> Vec<i8> {
        let mut workspace = vec![0; FrontEnd::workspace_len(mel)];
        let mut frontend = FrontEnd::new(mel, &mut workspace).unwrap();
        let mut features = Vec::new();
        frontend.push(samples, &mut |row| features.extend_from_slice(row.features));
        features
    }

    /// The demo clips, or the folder `SORI_MUSIC`; at full scale, at the level of most music,
    /// and as quiet as through an I2S microphone.
    #[test]
    fn features_of_recordings_are_those_of_the_f64_reference() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/demo");
        let folder = std::env::var_os("SORI_MUSIC").unwrap_or(demo.into());
        let sources = audio::with_extensions(&PathBuf::from(folder), &audio::EXTENSIONS).unwrap();
        assert!(!sources.is_empty());
        let spec = MelSpec::default();
        let tables = spec.tables().unwrap();
        let mel = tables.contract();
        for peak_dbfs in [0.0, -20.0, -50.0] {
            let (mut largest, mut equal, mut values) = (0, 0, 0);
            for source in &sources {
                let mut recorded = Vec::new();
                audio::stream(&source.path, mel.sample_rate_hz, &mut |block| {
                    recorded.extend_from_slice(block);
                })
                .unwrap();
                let peak = recorded.iter().map(|x| x.abs()).max().unwrap().max(1);
                let gain = FULL_SCALE * 10f64.powf(peak_dbfs / 20.0) / f64::from(peak);
                let scaled = recorded
                    .iter()
                    .map(|&x| (f64::from(x) * gain).round() as i32);
                let samples: Vec<i32> = scaled.collect();
                let ours = features(&mel, &samples);
                let exact = reference::features(&spec, &samples);
                let exact = exact.iter().flat_map(reference::ReferenceRow::rounded);
                let mut of_clip = (0, 0);
                for (&ours, exact) in ours.iter().zip(exact) {
                    largest = largest.max(ours.abs_diff(exact));
                    of_clip.0 += u32::from(ours == exact);
                    of_clip.1 += 1;
                }
                let share = f64::from(of_clip.0) / f64::from(of_clip.1);
                assert!(
                    share >= 0.99,
                    "{} at {peak_dbfs} dBFS: {share}",
                    source.path.display()
                );
                equal += of_clip.0;
                values += of_clip.1;
            }
            println!(
                "{} recordings at {peak_dbfs} dBFS: at most {largest} LSB, {:.3} % of {values} equal",
                sources.len(),
                100.0 * f64::from(equal) / f64::from(values)
            );
            assert!(largest <= 1, "at {peak_dbfs} dBFS: off by {largest}");
        }
    }
}
