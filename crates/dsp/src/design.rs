//! Designs mel contracts from Hz, dB and seconds. Host only: the device gets tables.

use core::f64::consts::TAU;
use std::fmt;

use serde::Deserialize;
use sori_package::{MelContract, MelScale};

/// dB of one unit of log2 of power.
pub const DB_PER_LOG2: f64 = 3.010_299_956_639_812;

/// A front end as written in a contract file. Every key has a default, so
/// `[mel]` only names what differs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MelSpec {
    /// Rate of the front end's input, Hz.
    pub sample_rate_hz: u32,
    /// Points of the real FFT: 256, 512, 1024 or 2048.
    pub fft: usize,
    /// Samples under the Hann window, even, at most `fft`.
    pub window_samples: usize,
    /// Samples from frame to frame.
    pub hop_samples: usize,
    /// Mel bands, the width of a feature row: 1 to 256.
    pub bands: usize,
    /// Lower edge of the lowest band, Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band, Hz.
    pub high_hz: f64,
    /// Spacing of the bands.
    pub scale: Scale,
    /// dB from the reference (feature 127) down to feature -128, at most 80.
    pub range_db: f64,
    /// How fast the level reference falls when the music does, dB per second.
    pub release_db_per_s: f64,
    /// The reference stays above this level, dB relative to a full-scale sine in a band:
    /// anything quieter is not amplified further.
    pub reference_floor_db: f64,
    /// The DC blocker follows the mean with weight 2^-dc_shift per sample.
    pub dc_shift: u8,
}

/// Spacing of the mel bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// 2595·log10(1 + f/700).
    Htk,
    /// Linear below 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    Slaney,
}

impl Default for MelSpec {
    fn default() -> Self {
        Self {
            sample_rate_hz: 16_000,
            fft: 1024,
            window_samples: 1024,
            hop_samples: 256,
            bands: 64,
            low_hz: 60.0,
            high_hz: 7600.0,
            scale: Scale::Htk,
            range_db: 80.0,
            release_db_per_s: 3.0,
            reference_floor_db: -120.0,
            dc_shift: 8,
        }
    }
}

/// An invalid [`MelSpec`]: the key, and the values allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl MelSpec {
    /// Designs the tables.
    ///
    /// # Errors
    /// Names the first key that is out of range, and its range.
    pub fn tables(&self) -> Result<MelTables, SpecError> {
        self.check()?;
        let (multiplier, shift) = normalised(255.0 * DB_PER_LOG2 / (self.range_db * 65_536.0));
        let frames_per_s = f64::from(self.sample_rate_hz) / self.hop_samples as f64;
        let log2_q16 = |db: f64| (db / DB_PER_LOG2 * 65_536.0).round();
        let mut tables = MelTables {
            spec: self.clone(),
            window_q31: self.window_q31(),
            band_bins: Vec::new(),
            band_weights_q15: Vec::new(),
            reference_release_q16: log2_q16(self.release_db_per_s / frames_per_s) as u32,
            reference_floor_q16: log2_q16(self.reference_floor_db) as i32,
            feature_multiplier: multiplier,
            feature_shift: shift,
        };
        for (first, weights) in self.filterbank() {
            let weights: Vec<u16> = weights
                .iter()
                .map(|w| (w * 32_768.0).round() as u16)
                .collect();
            // A triangle may touch its outermost bins with less than half a step.
            let before = weights.iter().take_while(|&&w| w == 0).count();
            let kept = weights[before..]
                .iter()
                .rposition(|&w| w != 0)
                .map_or(0, |n| n + 1);
            tables
                .band_bins
                .extend([(first + before) as u16, kept as u16]);
            tables
                .band_weights_q15
                .extend(&weights[before..before + kept]);
        }
        Ok(tables)
    }

    fn check(&self) -> Result<(), SpecError> {
        let error = |text: String| Err(SpecError(text));
        let nyquist = f64::from(self.sample_rate_hz) / 2.0;
        if !(8_000..=192_000).contains(&self.sample_rate_hz) {
            return error(format!(
                "sample_rate_hz is {}: it must be from 8000 to 192000, usually 16000",
                self.sample_rate_hz
            ));
        }
        if !matches!(self.fft, 256 | 512 | 1024 | 2048) {
            return error(format!(
                "fft is {}: it must be 256, 512, 1024 or 2048",
                self.fft
            ));
        }
        if self.window_samples < 32
            || self.window_samples > self.fft
            || !self.window_samples.is_multiple_of(2)
        {
            return error(format!(
                "window_samples is {}: it must be even, from 32 to fft ({})",
                self.window_samples, self.fft
            ));
        }
        if self.hop_samples == 0 || self.hop_samples > self.window_samples {
            return error(format!(
                "hop_samples is {}: it must be from 1 to window_samples ({})",
                self.hop_samples, self.window_samples
            ));
        }
        if !(1..=256).contains(&self.bands) {
            return error(format!("bands is {}: it must be from 1 to 256", self.bands));
        }
        if !(self.low_hz >= 0.0 && self.low_hz < self.high_hz && self.high_hz <= nyquist) {
            return error(format!(
                "low_hz is {} and high_hz is {}: they must satisfy 0 ≤ low_hz < high_hz ≤ {nyquist}",
                self.low_hz, self.high_hz
            ));
        }
        if !(self.range_db >= 20.0 && self.range_db <= 80.0) {
            return error(format!(
                "range_db is {}: it must be from 20 to 80",
                self.range_db
            ));
        }
        if !(self.release_db_per_s >= 0.0 && self.release_db_per_s <= 100.0) {
            return error(format!(
                "release_db_per_s is {}: it must be from 0 to 100",
                self.release_db_per_s
            ));
        }
        if !(self.reference_floor_db >= -140.0 && self.reference_floor_db <= 0.0) {
            return error(format!(
                "reference_floor_db is {}: it must be from -140 to 0",
                self.reference_floor_db
            ));
        }
        if !(4..=16).contains(&self.dc_shift) {
            return error(format!(
                "dc_shift is {}: it must be from 4 to 16",
                self.dc_shift
            ));
        }
        Ok(())
    }

    /// The first half of a periodic Hann window and its middle.
    fn window_q31(&self) -> Vec<i32> {
        (0..=self.window_samples / 2)
            .map(|n| {
                (self.window(n) * 2f64.powi(31))
                    .round()
                    .min(f64::from(i32::MAX)) as i32
            })
            .collect()
    }

    pub(crate) fn window(&self, n: usize) -> f64 {
        0.5 - 0.5 * (TAU * n as f64 / self.window_samples as f64).cos()
    }

    /// Triangles of peak 1, equally spaced on the mel scale: first bin and weights. A
    /// triangle that falls between two bins takes the nearest one whole.
    pub(crate) fn filterbank(&self) -> Vec<(usize, Vec<f64>)> {
        let hz_per_bin = f64::from(self.sample_rate_hz) / self.fft as f64;
        let (low, high) = (self.scale.mel(self.low_hz), self.scale.mel(self.high_hz));
        let edge = |n: usize| {
            let mel = low + (high - low) * n as f64 / (self.bands + 1) as f64;
            self.scale.hz(mel) / hz_per_bin
        };
        (0..self.bands)
            .map(|band| {
                let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
                let weight = |bin: usize| {
                    let bin = bin as f64;
                    ((bin - left) / (centre - left)).min((right - bin) / (right - centre))
                };
                let last = (right.floor() as usize).min(self.fft / 2);
                let first = left.ceil() as usize;
                let weights: Vec<f64> = (first..=last).map(|bin| weight(bin).max(0.0)).collect();
                if weights.iter().any(|&w| w > 1e-3) {
                    (first, weights)
                } else {
                    (centre.round() as usize, vec![1.0])
                }
            })
            .collect()
    }
}

impl Scale {
    fn mel(self, hz: f64) -> f64 {
        match self {
            Self::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
            Self::Slaney if hz < 1000.0 => hz * 3.0 / 200.0,
            Self::Slaney => 15.0 + (hz / 1000.0).ln() * 27.0 / 6.4f64.ln(),
        }
    }

    fn hz(self, mel: f64) -> f64 {
        match self {
            Self::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
            Self::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
            Self::Slaney => 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp(),
        }
    }
}

/// `scale` as `multiplier · 2^-(31 + shift)`, the multiplier in `[2^30, 2^31)`.
fn normalised(scale: f64) -> (i32, u8) {
    let shift = -(scale.log2().floor() as i32) - 1;
    let multiplier = (scale * 2f64.powi(31 + shift)).round();
    if multiplier < 2f64.powi(31) {
        (multiplier as i32, shift as u8)
    } else {
        (1 << 30, (shift - 1) as u8)
    }
}

/// A designed front end, owning the tables that a [`MelContract`] borrows.
#[derive(Debug, Clone, PartialEq)]
pub struct MelTables {
    spec: MelSpec,
    window_q31: Vec<i32>,
    band_bins: Vec<u16>,
    band_weights_q15: Vec<u16>,
    reference_release_q16: u32,
    reference_floor_q16: i32,
    feature_multiplier: i32,
    feature_shift: u8,
}

impl MelTables {
    /// The contract, as a package carries it.
    pub fn contract(&self) -> MelContract<'_> {
        MelContract {
            sample_rate_hz: self.spec.sample_rate_hz,
            fft: self.spec.fft,
            window_samples: self.spec.window_samples,
            hop_samples: self.spec.hop_samples,
            bands: self.spec.bands,
            low_hz: self.spec.low_hz as f32,
            high_hz: self.spec.high_hz as f32,
            scale: match self.spec.scale {
                Scale::Htk => MelScale::Htk,
                Scale::Slaney => MelScale::Slaney,
            },
            dc_shift: self.spec.dc_shift,
            reference_release_q16: self.reference_release_q16,
            reference_floor_q16: self.reference_floor_q16,
            feature_multiplier: self.feature_multiplier,
            feature_shift: self.feature_shift,
            feature_top: i8::MAX,
            window_q31: &self.window_q31,
            band_bins: &self.band_bins,
            band_weights_q15: &self.band_weights_q15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corners of what may be written, each scale and FFT length.
    #[test]
    fn every_allowed_spec_makes_a_valid_contract() {
        for fft in [256, 512, 1024, 2048] {
            for bands in [1, 40, 64, 128, 256] {
                for scale in [Scale::Htk, Scale::Slaney] {
                    for (low_hz, high_hz) in [(0.0, 8000.0), (60.0, 7600.0), (7990.0, 8000.0)] {
                        for range_db in [20.0, 80.0] {
                            let spec = MelSpec {
                                fft,
                                window_samples: fft,
                                hop_samples: fft / 4,
                                bands,
                                scale,
                                low_hz,
                                high_hz,
                                range_db,
                                ..MelSpec::default()
                            };
                            let tables = spec.tables().expect("the spec is allowed");
                            assert_eq!(tables.contract().validate(), Ok(()), "{spec:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_spec_names_the_key() {
        let default = MelSpec::default;
        let cases = [
            (
                MelSpec {
                    fft: 1000,
                    ..default()
                },
                "fft",
            ),
            (
                MelSpec {
                    window_samples: 2048,
                    ..default()
                },
                "window_samples",
            ),
            (
                MelSpec {
                    hop_samples: 0,
                    ..default()
                },
                "hop_samples",
            ),
            (
                MelSpec {
                    bands: 0,
                    ..default()
                },
                "bands",
            ),
            (
                MelSpec {
                    high_hz: 9000.0,
                    ..default()
                },
                "high_hz",
            ),
            (
                MelSpec {
                    low_hz: f64::NAN,
                    ..default()
                },
                "low_hz",
            ),
            (
                MelSpec {
                    range_db: 81.0,
                    ..default()
                },
                "range_db",
            ),
            (
                MelSpec {
                    release_db_per_s: -1.0,
                    ..default()
                },
                "release_db_per_s",
            ),
            (
                MelSpec {
                    reference_floor_db: 1.0,
                    ..default()
                },
                "reference_floor_db",
            ),
            (
                MelSpec {
                    dc_shift: 3,
                    ..default()
                },
                "dc_shift",
            ),
            (
                MelSpec {
                    sample_rate_hz: 1,
                    ..default()
                },
                "sample_rate_hz",
            ),
        ];
        for (spec, key) in cases {
            let message = spec.tables().expect_err(key).to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
