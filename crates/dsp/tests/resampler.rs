//! What the resampler keeps, what it removes, and that chunks do not matter.

use std::f64::consts::TAU;

use proptest::prelude::*;
use sori_dsp::{Error, Resampler};

const RATES_HZ: [u32; 13] = [
    8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 176_400,
    192_000,
];
const AMPLITUDE: f64 = 8_000_000.0;

fn tone(rate_hz: u32, hz: f64, seconds: f64) -> Vec<i32> {
    (0..(f64::from(rate_hz) * seconds) as usize)
        .map(|n| (AMPLITUDE * (TAU * hz * n as f64 / f64::from(rate_hz)).sin()).round() as i32)
        .collect()
}

fn resampled(from_hz: u32, samples: &[i32]) -> Vec<i32> {
    let mut resampler = Resampler::new(from_hz, 16_000).expect("a possible rate");
    let mut output = Vec::new();
    resampler.push(samples, &mut |y| output.push(y));
    resampler.flush(&mut |y| output.push(y));
    output
}

/// Amplitude of the component at `hz` (dB relative to the input's), and what is left
/// when it is taken away, away from both ends.
fn gain_and_residue_db(output: &[i32], hz: f64) -> (f64, f64) {
    let middle = &output[2000..output.len() - 2000];
    let (mut sine, mut cosine) = (0.0, 0.0);
    let phase = |n: usize| (TAU * hz * n as f64 / 16_000.0).sin_cos();
    // A whole number of half seconds holds whole periods of the tones below.
    let middle = &middle[..middle.len() / 8000 * 8000];
    for (n, &y) in middle.iter().enumerate() {
        let (sin, cos) = phase(n);
        sine += f64::from(y) * sin * 2.0 / middle.len() as f64;
        cosine += f64::from(y) * cos * 2.0 / middle.len() as f64;
    }
    let residue = middle.iter().enumerate().map(|(n, &y)| {
        let (sin, cos) = phase(n);
        (f64::from(y) - sine * sin - cosine * cos).powi(2)
    });
    let residue = (residue.sum::<f64>() / middle.len() as f64 * 2.0).sqrt();
    let db = |x: f64| 20.0 * (x / AMPLITUDE).max(1e-12).log10();
    (db(sine.hypot(cosine)), db(residue))
}

#[test]
fn the_passband_is_flat_and_clean_from_every_rate() {
    println!("from     100 Hz gain  residue   highest gain  residue");
    for from_hz in RATES_HZ {
        let highest = 0.8 * f64::from(from_hz.min(16_000)) / 2.0;
        let highest = (highest / 2.0).floor() * 2.0;
        let measure = |hz| gain_and_residue_db(&resampled(from_hz, &tone(from_hz, hz, 1.5)), hz);
        let (low, high) = (measure(100.0), measure(highest));
        println!(
            "{from_hz:6} {:9.4} dB {:8.1} dB {:9.4} dB {:8.1} dB",
            low.0, low.1, high.0, high.1
        );
        for (gain, residue) in [low, high] {
            assert!(gain.abs() < 0.1, "{from_hz} Hz: gain {gain} dB");
            assert!(residue < -80.0, "{from_hz} Hz: residue {residue} dB");
        }
    }
}

/// Tones that would fold back to 7.5 kHz and to 1 kHz.
#[test]
fn what_lies_above_the_new_nyquist_frequency_is_gone() {
    for from_hz in RATES_HZ.into_iter().filter(|&rate| rate > 22_050) {
        for hz in [8_500.0, 15_000.0] {
            if hz < f64::from(from_hz) / 2.0 {
                let output = resampled(from_hz, &tone(from_hz, hz, 0.5));
                let loudest = output[1000..output.len() - 1000]
                    .iter()
                    .fold(0.0, |max: f64, &y| max.max(f64::from(y.abs())));
                let db = 20.0 * (loudest.max(1e-3) / AMPLITUDE).log10();
                assert!(db < -80.0, "{hz} Hz from {from_hz} Hz: {db} dB are left");
            }
        }
    }
}

#[test]
fn a_second_in_is_a_second_out() {
    for from_hz in RATES_HZ {
        let output = resampled(from_hz, &tone(from_hz, 440.0, 1.0));
        assert!(
            output.len().abs_diff(16_000) <= 1,
            "{from_hz} Hz: {}",
            output.len()
        );
    }
}

#[test]
fn extremes_saturate_and_do_not_wrap() {
    for from_hz in RATES_HZ {
        let samples: Vec<i32> = (0..20_000)
            .map(|n| if n / 37 % 2 == 0 { i32::MAX } else { i32::MIN })
            .collect();
        let output = resampled(from_hz, &samples);
        let loudest = output.iter().fold(0, |max: i32, &y| max.max(y.abs()));
        assert!(
            (1 << 23..1 << 24).contains(&loudest),
            "{from_hz} Hz: {loudest}"
        );
    }
}

#[test]
fn impossible_rates_are_refused() {
    for (from_hz, to_hz, error) in [
        (7_999, 16_000, Error::SampleRate { found_hz: 7_999 }),
        (192_001, 16_000, Error::SampleRate { found_hz: 192_001 }),
        (0, 16_000, Error::SampleRate { found_hz: 0 }),
        (
            192_000,
            8_000,
            Error::Decimation {
                from_hz: 192_000,
                to_hz: 8_000,
            },
        ),
    ] {
        assert_eq!(Resampler::new(from_hz, to_hz).map(|_| ()), Err(error));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_chunking_gives_the_same_bits(
        rate in prop::sample::select(&RATES_HZ[..]),
        chunk in 1usize..700,
    ) {
        let samples = tone(rate, 331.0, 0.2);
        let whole = resampled(rate, &samples);
        let mut resampler = Resampler::new(rate, 16_000).expect("a possible rate");
        let mut chunked = Vec::new();
        for chunk in samples.chunks(chunk) {
            resampler.push(chunk, &mut |y| chunked.push(y));
        }
        resampler.flush(&mut |y| chunked.push(y));
        prop_assert_eq!(whole, chunked);
    }
}
