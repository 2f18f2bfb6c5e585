//! The fixed-point front end against the `f64` one, and against itself.

mod common;

use common::{FULL_SCALE, music, pink, quantized, run, seconds, sine, white};
use proptest::prelude::*;
use sori_dsp::design::{MelSpec, Scale};
use sori_dsp::{FrontEnd, Row, reference};

/// Full scale and what a MEMS microphone delivers; tones, noise, music.
#[test]
fn features_are_those_of_the_f64_reference() {
    let spec = MelSpec::default();
    println!("signal              rows   largest   equal     level error");
    for (name, signal, peak_dbfs) in [
        ("sine 997 Hz", sine(seconds(4.0), 997.0), 0.0),
        ("sine 61.3 Hz", sine(seconds(4.0), 61.3), 0.0),
        ("sine 7012 Hz", sine(seconds(4.0), 7012.0), 0.0),
        ("pink noise", pink(seconds(10.0), 1), -20.0),
        ("pink noise", pink(seconds(10.0), 1), -50.0),
        ("music", music(seconds(10.0)), 0.0),
        ("music", music(seconds(10.0)), -20.0),
        ("music", music(seconds(10.0)), -50.0),
    ] {
        let samples = quantized(&signal, peak_dbfs);
        let (rows, levels) = run(&spec, &samples);
        let exact = reference::features(&spec, &samples);
        assert_eq!(rows.len(), exact.len());
        let (mut largest, mut equal, mut values, mut level_error) = (0, 0, 0, 0f64);
        for ((row, level), exact) in rows.iter().zip(&levels).zip(&exact) {
            for (&ours, theirs) in row.iter().zip(exact.rounded()) {
                largest = largest.max(i32::from(ours).abs_diff(theirs.into()));
                equal += usize::from(ours == theirs);
                values += 1;
            }
            level_error = level_error.max((f64::from(*level) / 256.0 - exact.level_dbfs).abs());
        }
        let equal = equal as f64 / values as f64;
        println!(
            "{name:13} {peak_dbfs:4} {:6} {largest:6} LSB {:8.3} % {level_error:8.4} dB",
            rows.len(),
            100.0 * equal
        );
        assert!(largest <= 1, "{name} at {peak_dbfs} dBFS: off by {largest}");
        assert!(equal >= 0.99, "{name} at {peak_dbfs} dBFS: {equal} equal");
        assert!(
            level_error < 0.02,
            "{name} at {peak_dbfs} dBFS: level off by {level_error} dB"
        );
    }
}

/// 24-bit rounding alone puts up to -158 dBFS into a band, after scaling too. Features
/// are compared where the band, scaled, stands 28 dB above that.
#[test]
fn a_gain_of_minus_40_db_changes_features_by_at_most_2() {
    const NOISE_FLOOR_DBFS: f64 = -130.0;
    let spec = MelSpec::default();
    for (name, signal) in [
        ("pink noise", pink(seconds(8.0), 3)),
        ("music", music(seconds(8.0))),
    ] {
        for peak_dbfs in [0.0, -20.0, -50.0] {
            let samples = quantized(&signal, peak_dbfs);
            let (loud, _) = run(&spec, &samples);
            let (quiet, _) = run(&spec, &quantized(&signal, peak_dbfs - 40.0));
            let levels = reference::features(&spec, &samples);
            let levels = levels.iter().flat_map(|row| &row.bands_dbfs);
            let (mut largest, mut compared, mut values) = (0, 0, 0);
            let pairs = loud.iter().flatten().zip(quiet.iter().flatten());
            for ((loud, quiet), level) in pairs.zip(levels) {
                values += 1;
                if level - 40.0 > NOISE_FLOOR_DBFS {
                    compared += 1;
                    largest = largest.max(i32::from(*loud).abs_diff((*quiet).into()));
                }
            }
            println!(
                "{name} at {peak_dbfs} and {} dBFS: at most {largest} LSB in {:.1} % of values",
                peak_dbfs - 40.0,
                100.0 * f64::from(compared) / f64::from(values)
            );
            assert!(largest <= 2, "{name} at {peak_dbfs} dBFS: off by {largest}");
            assert!(
                compared * 5 > values * 2,
                "{name} at {peak_dbfs} dBFS: {compared} of {values}"
            );
        }
    }
}

/// Every FFT length and both scales agree with the reference too.
#[test]
fn every_geometry_follows_the_reference() {
    for (fft, window_samples, hop_samples, bands, scale) in [
        (256, 256, 100, 20, Scale::Htk),
        (512, 400, 160, 64, Scale::Slaney),
        (1024, 1024, 1024, 96, Scale::Slaney),
        (2048, 2048, 512, 128, Scale::Htk),
    ] {
        let spec = MelSpec {
            fft,
            window_samples,
            hop_samples,
            bands,
            scale,
            ..MelSpec::default()
        };
        let samples = quantized(&music(3.0), -6.0);
        let (rows, _) = run(&spec, &samples);
        let exact = reference::features(&spec, &samples);
        assert_eq!(rows.len(), exact.len());
        for (row, exact) in rows.iter().zip(&exact) {
            for (&ours, theirs) in row.iter().zip(exact.rounded()) {
                assert!(i32::from(ours).abs_diff(theirs.into()) <= 1, "{spec:?}");
            }
        }
    }
}

/// Debug builds check every addition.
#[test]
fn the_harshest_signals_do_not_overflow() {
    type Signal = fn(usize) -> i32;
    let signals: [(&str, Signal); 6] = [
        ("square wave", |n| {
            if n / 8 % 2 == 0 {
                (1 << 23) - 1
            } else {
                -(1 << 23)
            }
        }),
        ("alternating extremes", |n| {
            if n % 2 == 0 { i32::MAX } else { i32::MIN }
        }),
        ("constant", |_| i32::MIN),
        ("impulse", |n| if n == 5000 { i32::MAX } else { 0 }),
        ("one step", |n| i32::from(n == 5000)),
        ("extremes at random", |n| {
            if n * n % 7 < 3 { i32::MIN } else { i32::MAX }
        }),
    ];
    for (name, signal) in signals {
        let samples: Vec<i32> = (0..20_000).map(signal).collect();
        let (rows, levels) = run(&MelSpec::default(), &samples);
        assert_eq!(rows.len(), (20_000 - 1024) / 256 + 1, "{name}");
        assert!(
            levels
                .iter()
                .all(|&l| (Row::SILENT..=60 * 256).contains(&l)),
            "{name}"
        );
    }
}

#[test]
fn silence_is_silent() {
    let (rows, levels) = run(&MelSpec::default(), &[0; 8000]);
    assert!(rows.iter().flatten().all(|&f| f == i8::MIN));
    assert!(levels.iter().all(|&l| l == Row::SILENT));
}

#[test]
fn a_full_scale_sine_has_level_0_dbfs_and_tops_its_band() {
    let (rows, levels) = run(&MelSpec::default(), &quantized(&sine(1.0, 1000.0), 0.0));
    for (row, level) in rows.iter().zip(levels).skip(8) {
        assert!(level.abs() <= 5, "{level}");
        assert_eq!(row.iter().max(), Some(&127));
    }
}

/// The reference holds through a rest and falls at the stated rate.
#[test]
fn after_a_loud_passage_the_reference_falls_3_db_a_second() {
    let spec = MelSpec::default();
    let mut signal = sine(1.0, 1000.0);
    signal.extend(sine(4.0, 1000.0).iter().map(|x| x / 100.0));
    let (rows, _) = run(&spec, &quantized(&signal, -6.0));
    let peak = |seconds: f64| {
        let row = &rows[(seconds * 62.5) as usize];
        f64::from(*row.iter().max().expect("64 bands")) * 80.0 / 255.0
    };
    assert!(
        ((peak(4.5) - peak(2.5)) - 6.0).abs() < 0.7,
        "{} {}",
        peak(2.5),
        peak(4.5)
    );
}

#[test]
fn reset_forgets_everything() {
    let spec = MelSpec::default();
    let tables = spec.tables().expect("default");
    let contract = tables.contract();
    let mut workspace = vec![0; FrontEnd::workspace_len(&contract)];
    let mut frontend = FrontEnd::new(&contract, &mut workspace).expect("fits");
    let samples = quantized(&pink(0.5, 9), -50.0);
    let clip = |frontend: &mut FrontEnd<'_, '_>| {
        let mut rows = Vec::new();
        frontend.push(&samples, &mut |row| {
            rows.push((row.features.to_vec(), row.level_dbfs_q8))
        });
        rows
    };
    let first = clip(&mut frontend);
    frontend.push(&[1 << 22; 3000], &mut |_| ());
    frontend.reset();
    assert_eq!(clip(&mut frontend), first);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_chunking_gives_the_same_bits(
        cuts in prop::collection::vec(1usize..3000, 1..40),
        seed in 0u64..1000,
    ) {
        let samples: Vec<i32> =
            white(1.0, seed).iter().map(|x| (x * FULL_SCALE / 3.0) as i32).collect();
        let spec = MelSpec::default();
        let (rows, _) = run(&spec, &samples);
        let tables = spec.tables().expect("default");
        let contract = tables.contract();
        let mut workspace = vec![0; FrontEnd::workspace_len(&contract)];
        let mut frontend = FrontEnd::new(&contract, &mut workspace).expect("fits");
        let mut chunked = Vec::new();
        let mut rest = &samples[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            frontend.push(now, &mut |row| chunked.push(row.features.to_vec()));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(rows, chunked);
    }
}
