//! Signals and helpers that the front-end tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use sori_dsp::FrontEnd;
use sori_dsp::design::MelSpec;
use std::f64::consts::TAU;

pub(crate) const RATE: u32 = 16_000;
pub(crate) const FULL_SCALE: f64 = 8_388_607.0;

pub(crate) fn decibels(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

/// Scales to a peak in dBFS and rounds to 24 bits.
pub(crate) fn quantized(signal: &[f64], peak_dbfs: f64) -> Vec<i32> {
    let peak = signal.iter().fold(0f64, |peak, x| peak.max(x.abs()));
    let gain = FULL_SCALE * decibels(peak_dbfs) / peak;
    signal.iter().map(|x| (x * gain).round() as i32).collect()
}

/// Seconds of sound to compare, fewer where xtask asks for fewer random cases: under emulation
/// the `f64` reference takes a hundred times as long.
pub(crate) fn seconds(native: f64) -> f64 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(256.0);
    (native * cases / 256.0).clamp(0.5, native)
}

pub(crate) fn sine(seconds: f64, hz: f64) -> Vec<f64> {
    let samples = (seconds * f64::from(RATE)) as usize;
    (0..samples)
        .map(|n| (TAU * hz * n as f64 / f64::from(RATE)).sin())
        .collect()
}

/// Uniform noise in [-1, 1), the same for a seed everywhere.
pub(crate) fn white(seconds: f64, seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..(seconds * f64::from(RATE)) as usize)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / 2f64.powi(30) - 1.0
        })
        .collect()
}

/// -3 dB an octave, by Paul Kellet's filter.
pub(crate) fn pink(seconds: f64, seed: u64) -> Vec<f64> {
    let mut poles = [0.0; 3];
    white(seconds, seed)
        .into_iter()
        .map(|x| {
            for (pole, (a, b)) in poles.iter_mut().zip([
                (0.99765, 0.099_046_0),
                (0.96300, 0.296_516_4),
                (0.57000, 1.052_691_3),
            ]) {
                *pole = a * *pole + b * x;
            }
            poles.iter().sum::<f64>() + 0.1848 * x
        })
        .collect()
}

/// Chords of decaying harmonics over a beat of noise bursts, with rests.
pub(crate) fn music(seconds: f64) -> Vec<f64> {
    let chords = [
        [220.0, 277.2, 329.6],
        [196.0, 246.9, 293.7],
        [174.6, 220.0, 261.6],
    ];
    let noise = white(seconds, 5);
    (0..noise.len())
        .map(|n| {
            let t = n as f64 / f64::from(RATE);
            let (beat, since) = ((t / 0.5) as usize, t % 0.5);
            let chord = chords[beat / 2 % 3];
            let tones: f64 = chord
                .iter()
                .flat_map(|hz| {
                    (1..12).map(move |k| (TAU * hz * f64::from(k) * t).sin() / f64::from(k))
                })
                .sum();
            let rest = if beat % 8 == 7 { 0.02 } else { 1.0 };
            rest * (tones * (-3.0 * since).exp() + 1.5 * noise[n] * (-30.0 * since).exp())
        })
        .collect()
}

/// Feature rows and levels (dBFS Q8), all samples in one push.
pub(crate) fn run(spec: &MelSpec, samples: &[i32]) -> (Vec<Vec<i8>>, Vec<i32>) {
    let tables = spec.tables().expect("the spec is allowed");
    let contract = tables.contract();
    let mut workspace = vec![0; FrontEnd::workspace_len(&contract)];
    let mut frontend = FrontEnd::new(&contract, &mut workspace).expect("the workspace fits");
    let (mut rows, mut levels) = (Vec::new(), Vec::new());
    frontend.push(samples, &mut |row| {
        rows.push(row.features.to_vec());
        levels.push(row.level_dbfs_q8);
    });
    (rows, levels)
}
