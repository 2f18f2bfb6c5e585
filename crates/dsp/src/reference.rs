//! The front end in `f64`, straight from its definition: the reference for the fixed-point
//! one. Host only, and not optimized.

use core::f64::consts::TAU;

use crate::design::{DB_PER_LOG2, MelSpec};

/// One row of the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRow {
    /// Feature steps before rounding and clamping, one per band; minus infinity where
    /// a band has no energy.
    pub features: Vec<f64>,
    /// Power of each band, dB relative to a full-scale sine at its centre.
    pub bands_dbfs: Vec<f64>,
    /// Power within the filterbank, dB relative to a full-scale sine.
    pub level_dbfs: f64,
}

impl ReferenceRow {
    /// The features as int8, halves rounding up.
    pub fn rounded(&self) -> Vec<i8> {
        let round = |&f: &f64| (f + 0.5).floor().clamp(-128.0, 127.0) as i8;
        self.features.iter().map(round).collect()
    }
}

/// All rows of a clip, `samples` in 24-bit scale.
pub fn features(spec: &MelSpec, samples: &[i32]) -> Vec<ReferenceRow> {
    const FULL_SCALE: f64 = 8_388_608.0;
    let window: Vec<f64> = (0..spec.window_samples).map(|n| spec.window(n)).collect();
    let sum: f64 = window.iter().sum();
    let squares: f64 = window.iter().map(|w| w * w).sum();
    let sine_peak = (FULL_SCALE * sum / 2.0).powi(2);
    let sine_power = FULL_SCALE.powi(2) * squares * spec.fft as f64 / 4.0;
    let filterbank = spec.filterbank();
    let first = filterbank
        .iter()
        .map(|(first, _)| *first)
        .min()
        .unwrap_or(0);
    let end = filterbank
        .iter()
        .map(|(first, w)| first + w.len())
        .max()
        .unwrap_or(0);
    let steps_per_log2 = 255.0 * DB_PER_LOG2 / spec.range_db;
    let floor = spec.reference_floor_db / DB_PER_LOG2;
    let release = spec.release_db_per_s * spec.hop_samples as f64
        / f64::from(spec.sample_rate_hz)
        / DB_PER_LOG2;

    let centred = without_mean(samples, spec.dc_shift);
    let mut reference = None;
    centred
        .windows(spec.window_samples)
        .step_by(spec.hop_samples)
        .map(|frame| {
            let mut block: Vec<[f64; 2]> = frame
                .iter()
                .zip(&window)
                .map(|(x, w)| [x * w, 0.0])
                .collect();
            block.resize(spec.fft, [0.0; 2]);
            let spectrum = fft(&block);
            let power = |bin: usize| spectrum[bin][0].powi(2) + spectrum[bin][1].powi(2);
            let logs: Vec<f64> = filterbank
                .iter()
                .map(|(first, weights)| {
                    let band = weights.iter().zip(*first..).map(|(w, bin)| w * power(bin));
                    (band.sum::<f64>() / sine_peak).log2()
                })
                .collect();
            let peak = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let fallen = reference.map_or(peak, |r: f64| r - release);
            let now = peak.max(fallen).max(floor);
            reference = Some(now);
            ReferenceRow {
                features: logs
                    .iter()
                    .map(|l| 127.0 + (l - now) * steps_per_log2)
                    .collect(),
                bands_dbfs: logs.iter().map(|l| l * DB_PER_LOG2).collect(),
                // A real signal's bins count twice in Parseval's sum.
                level_dbfs: 10.0 * ((first..end).map(power).sum::<f64>() / sine_power).log10(),
            }
        })
        .collect()
}

fn without_mean(samples: &[i32], shift: u8) -> Vec<f64> {
    let mut mean = 0.0;
    samples
        .iter()
        .map(|&x| {
            let y = f64::from(x) - mean;
            mean += y / f64::from(1 << shift);
            y
        })
        .collect()
}

/// Complex FFT of a power of two, by radix-2 decimation in time.
pub fn fft(x: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if x.len() == 1 {
        return x.to_vec();
    }
    let half = |odd: usize| fft(&x.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>());
    let (even, odd) = (half(0), half(1));
    let turned: Vec<[f64; 2]> = odd
        .iter()
        .enumerate()
        .map(|(k, [re, im])| {
            let (sin, cos) = (-TAU * k as f64 / x.len() as f64).sin_cos();
            [re * cos - im * sin, re * sin + im * cos]
        })
        .collect();
    let sums = even
        .iter()
        .zip(&turned)
        .map(|(e, t)| [e[0] + t[0], e[1] + t[1]]);
    let differences = even
        .iter()
        .zip(&turned)
        .map(|(e, t)| [e[0] - t[0], e[1] - t[1]]);
    sums.chain(differences).collect()
}
