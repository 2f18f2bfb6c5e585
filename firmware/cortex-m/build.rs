//! The linker's memory map, the demo clip as raw samples, and the benchmark networks, one with
//! memory plans.

use std::path::Path;
use std::{env, fs};

use sori_nn::testing::benchmark_network;
use sori_package::Package;

const CLIP: &str = "../../models/genre/demo/jazz.flac";
const RATE_HZ: u32 = 16_000;

/// Bytes of arena that network `a` is planned for.
const PLANS: [(&str, usize); 2] = [("a-48k", 48 * 1024), ("a-least", 16 * 1024)];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let out = Path::new(&out);
    let target = env::var("TARGET").expect("cargo sets it");
    let board = match target.starts_with("thumbv8m") {
        true => "an505",
        false => "an385",
    };
    let memory = format!("{board}.x");
    fs::copy(&memory, out.join("memory.x")).expect("each board's map lies beside build.rs");
    println!("cargo:rustc-cfg=board=\"{board}\"");
    println!("cargo:rustc-check-cfg=cfg(board, values(\"an385\", \"an505\"))");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed={memory}");
    println!("cargo:rerun-if-changed={CLIP}");
    fs::write(out.join("clip.i16"), samples()).expect("OUT_DIR can be written");
    let write = |name: &str, package: &[u8]| {
        fs::write(out.join(format!("{name}.sori")), package).expect("OUT_DIR can be written");
    };
    let a = benchmark_network("a").expect("sori-nn knows its benchmarks");
    write("a", &a);
    write(
        "b",
        &benchmark_network("b").expect("sori-nn knows its benchmarks"),
    );
    for (name, arena_bytes) in PLANS {
        let package = Package::parse(&a).expect("just built");
        let plan = sori_plan::plan(&package, arena_bytes).expect("it fits");
        let planned = sori_plan::planned(&a, Some(&plan.entries)).expect("the plan is of it");
        write(name, &planned);
    }
}

/// Little-endian 16-bit samples.
fn samples() -> Vec<u8> {
    let mut reader = claxon::FlacReader::open(CLIP)
        .unwrap_or_else(|error| panic!("the demo clip {CLIP} cannot be read: {error}"));
    let info = reader.streaminfo();
    assert!(
        info.channels == 1 && info.bits_per_sample == 16 && info.sample_rate == RATE_HZ,
        "{CLIP} must be mono, 16-bit, {RATE_HZ} Hz: sox IN -b 16 -c 1 -r {RATE_HZ} {CLIP}"
    );
    reader
        .samples()
        .map(|sample| sample.expect("the clip is whole") as i16)
        .flat_map(i16::to_le_bytes)
        .collect()
}
