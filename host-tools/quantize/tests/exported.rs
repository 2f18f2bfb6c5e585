//! Small networks as the real exporters wrote them (`tests/exporters/fixtures.py`), and what
//! onnxruntime computes of each.

use std::fs;
use std::path::{Path, PathBuf};

use sori_quantize::{Onnx, Options, Request, Rows, quantize};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exported")
}

fn networks() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder is checked in");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<_> = names
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".onnx")?.to_string()))
        .collect();
    names.sort();
    names
}

fn clip(onnx: &Onnx, name: &str) -> Rows {
    let bytes = fs::read(folder().join(format!("{name}.input.npy"))).expect("its input");
    Rows::from_npy(&bytes, onnx.input_shape()).expect("rows of the network")
}

/// The input, and others like it.
fn clips(onnx: &Onnx, name: &str, number: usize) -> Vec<Rows> {
    let Rows::Float(values) = clip(onnx, name) else {
        panic!("{name}: float rows");
    };
    let mut state = 9u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let spread = values.iter().fold(0f32, |max, x| max.max(x.abs()));
    (0..number)
        .map(|n| {
            let part = if n == 0 { 0.0 } else { 0.2 * spread };
            let other = values.iter().map(|x| x + part * noise());
            Rows::Float(other.collect())
        })
        .collect()
}

#[test]
fn every_exporters_network_is_imported_and_agrees_with_its_float_run() {
    let networks = networks();
    assert!(networks.len() >= 9, "{networks:?}");
    for name in networks {
        let path = folder().join(format!("{name}.onnx"));
        let onnx = Onnx::read(&path).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let clips = clips(&onnx, &name, 16);
        let report = quantize(Request {
            name: name.clone(),
            calibration: clips,
            calibration_name: "a clip and noise".into(),
            ..Request::new(&onnx)
        })
        .unwrap_or_else(|e| panic!("{name}: {e:#}"))
        .report;
        // tract's run of the file and ours of what was recognised in it.
        let was_quantized = report.settings.was_quantized;
        assert_eq!(was_quantized, name == "torch_qdq", "{name}");
        let same = if was_quantized { 0.1 } else { 1e-4 };
        assert!(
            report.import_error < same,
            "{name}: {}",
            report.import_error
        );
        // Untrained weights through seventeen blocks of eight channels are as bad as it gets.
        let wanted = if name == "tf2onnx_keras" { 10.0 } else { 20.0 };
        assert!(
            report.logits_sqnr_db > wanted,
            "{name}: {:.1} dB",
            report.logits_sqnr_db
        );
    }
}

/// Each switch off, each range by itself: all give packages, none of them by accident better.
#[test]
fn every_technique_can_be_switched_off() {
    let onnx = Onnx::read(&folder().join("torchvision.onnx")).expect("in the family");
    let sqnr = |options: Options| {
        let report = quantize(Request {
            calibration: clips(&onnx, "torchvision", 16),
            options,
            ..Request::new(&onnx)
        })
        .expect("quantizes")
        .report;
        (report.logits_sqnr_db, report.techniques)
    };
    let (all, effects) = sqnr(Options::default());
    assert_eq!(effects.len(), 4);
    let (plain, none) = sqnr(Options::PLAIN);
    assert!(none.is_empty());
    assert!(all > plain, "{all:.1} {plain:.1}");
    for name in ["minmax", "percentile", "mse", "entropy"] {
        let ranges = name.parse().expect("a method");
        let (db, effects) = sqnr(Options {
            ranges,
            ..Options::PLAIN
        });
        assert!(db > 8.0, "{name}: {db:.1}");
        assert_eq!(effects.len(), usize::from(name != "minmax"));
    }
}
