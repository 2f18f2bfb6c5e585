//! What needs files or floating point: the golden files themselves.

use alloc::string::String;
use alloc::vec::Vec;
use std::fs;
use std::path::{Path, PathBuf};
use std::{format, println};

use sori_dsp::FrontEnd;
use sori_dsp::design::{MelSpec, Scale};
use sori_nn::testing::{Block, Noise, Table};
use sori_package::write::{PackageBytes, Sizes};
use sori_package::{DecisionRule, Package, Spatial, TensorShape, Thresholds};

/// A golden file.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

/// The package and the clip that `sori-mcu` carries.
pub fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models/genre")
        .join(name)
}

/// A golden file's text.
///
/// # Panics
/// When it cannot be read.
pub fn golden_text(name: &str) -> String {
    fs::read_to_string(golden(name)).unwrap_or_else(|error| panic!("tests/golden/{name}: {error}"))
}

/// Packages with the mel contracts that the suite runs: tiny random networks behind them.
/// For the other golden files to be made from these, they are written first, and the
/// program is built again.
///
/// # Panics
/// When a file cannot be written.
pub fn write_contracts() {
    let default = MelSpec::default();
    let specs = [
        (
            "mel-256",
            MelSpec {
                fft: 256,
                window_samples: 250,
                hop_samples: 80,
                bands: 20,
                low_hz: 0.0,
                high_hz: 8_000.0,
                range_db: 60.0,
                ..default.clone()
            },
        ),
        (
            "mel-512",
            MelSpec {
                fft: 512,
                window_samples: 400,
                hop_samples: 160,
                bands: 64,
                scale: Scale::Slaney,
                low_hz: 125.0,
                high_hz: 7_500.0,
                ..default.clone()
            },
        ),
        ("mel-1024", default.clone()),
        (
            "mel-1024-narrow",
            MelSpec {
                bands: 24,
                low_hz: 1_000.0,
                high_hz: 1_400.0,
                range_db: 20.0,
                release_db_per_s: 40.0,
                reference_floor_db: -60.0,
                dc_shift: 4,
                ..default.clone()
            },
        ),
        (
            "mel-2048",
            MelSpec {
                sample_rate_hz: 22_050,
                fft: 2048,
                window_samples: 2048,
                hop_samples: 512,
                bands: 128,
                high_hz: 11_025.0,
                scale: Scale::Slaney,
                release_db_per_s: 0.0,
                dc_shift: 16,
                ..default
            },
        ),
    ];
    for (name, spec) in specs {
        let bytes = contract_package(&spec);
        fs::write(golden(&format!("{name}.sori")), &bytes[..]).expect("tests/golden is here");
        println!("tests/golden/{name}.sori: {} bytes", bytes.len());
    }
}

fn contract_package(spec: &MelSpec) -> PackageBytes {
    let tables = spec.tables().expect("the suite's contracts are allowed");
    let mut noise = Noise::new(spec.fft as u64);
    let spatial = |stride| Spatial {
        stride_time: stride,
        stride_freq: 2,
        pad_time: [1, 1],
        pad_freq: [1, 1],
    };
    let table = Table {
        input: TensorShape {
            width: spec.bands as u16,
            channels: 1,
        },
        stem: (8, spatial(2)),
        blocks: [1, 6]
            .map(|t| Block {
                t,
                c: 8,
                spatial: spatial(1),
            })
            .into(),
        head: Some(16),
        classes: 3,
        pool_rows: 3,
        as_quantized: false,
    };
    let mut package = table.package(&mut noise);
    package.labels = ["one", "two", "three"].map(String::from).into();
    package.mel = Some(tables.contract());
    package.decision = Some(DecisionRule {
        thresholds: Thresholds {
            silence_dbfs_q8: -70 * 256,
            enter_q15: 14_000,
            leave_q15: 11_000,
        },
        smoothing_shift: 1,
        silence_rows: 3,
    });
    let bytes = package
        .build(Sizes::default())
        .expect("the parts fit together");
    let arena = sori_nn::stripe_sizes(&Package::parse(&bytes).expect("just built"));
    let frontend_bytes = 4 * FrontEnd::workspace_len(&tables.contract()) as u32;
    let sizes = Sizes {
        arena,
        frontend_bytes,
    };
    package.build(sizes).expect("only the sizes changed")
}

/// The suite's results as the golden file has them.
pub fn conformance() -> String {
    let mut text = String::new();
    crate::run(&mut |name, crc| text.push_str(&format!("{name} {crc:08x}\n")));
    text
}

/// What `sori-mcu` must print about its clip.
///
/// # Panics
/// When the package or the clip cannot be read.
pub fn listening() -> String {
    let bytes = package(&model("genre.sori"));
    let package = Package::parse(&bytes).unwrap_or_else(|error| panic!("genre.sori: {error}"));
    let rate_hz = package.mel().map_or(0, |mel| mel.sample_rate_hz);
    let samples = flac(&model("demo/jazz.flac"), rate_hz);
    crate::listening::answer(&package, &samples)
}

/// A package file at the alignment it needs.
///
/// # Panics
/// When it cannot be read.
pub fn package(path: &Path) -> PackageBytes {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    PackageBytes::copy_from(&bytes)
}

fn flac(path: &Path, rate_hz: u32) -> Vec<i16> {
    let mut reader = claxon::FlacReader::open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let info = reader.streaminfo();
    assert!(
        info.channels == 1 && info.bits_per_sample == 16 && info.sample_rate == rate_hz,
        "{} must be mono, 16-bit, {rate_hz} Hz",
        path.display()
    );
    let samples = reader.samples();
    samples
        .map(|sample| sample.expect("the clip is whole") as i16)
        .collect()
}

/// Writes the files that are compared.
///
/// # Panics
/// When a file cannot be written.
pub fn write_results() {
    for (name, text) in [
        ("conformance.txt", conformance()),
        ("listening.txt", listening()),
    ] {
        let changed = fs::read_to_string(golden(name)).is_ok_and(|old| old != text);
        fs::write(golden(name), &text).expect("tests/golden is here");
        let state = if changed { "CHANGED" } else { "as before" };
        println!(
            "tests/golden/{name}: {} lines, {state}",
            text.lines().count()
        );
    }
}
