//! The recipe for a user's own CI (`models/ci`): what the workflow calls is what is tested here
//! and in `cargo xtask endurance`.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

/// A repository with a network, as the recipe wants it.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for sound in ["calibration", "evaluation"] {
        fs::create_dir(folder.path().join(sound)).unwrap();
    }
    let genre = fs::canonicalize(models().join("genre")).unwrap();
    for (from, to) in [
        ("genre.onnx", "model.onnx"),
        ("contract.toml", "contract.toml"),
        ("demo/jazz.flac", "calibration/jazz.flac"),
        ("demo/rock.flac", "evaluation/rock.flac"),
    ] {
        symlink(genre.join(from), folder.path().join(to)).unwrap();
    }
    folder
}

fn gate(repository: &Path, gate: &str) -> Output {
    Command::new("sh")
        .arg(models().join("ci/gate.sh"))
        .arg(env!("CARGO_BIN_EXE_sori"))
        .env("GATE", gate)
        .current_dir(repository)
        .output()
        .unwrap()
}

#[test]
fn a_network_that_passes_its_gate_becomes_a_package() {
    let repository = repository();
    let output = gate(repository.path(), "agreement=0.9,sqnr=3");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(repository.path().join("model.sori").exists());
    assert!(repository.path().join("cost.html").exists());
}

#[test]
fn a_network_that_fails_its_gate_leaves_a_report_and_no_package() {
    let repository = repository();
    let at = |name: &str| repository.path().join(name);
    fs::write(at("model.sori"), "of an earlier run").unwrap();
    let output = gate(repository.path(), "sqnr=300");
    assert_eq!(output.status.code(), Some(3));
    assert!(at("cost.html").exists() && !at("model.sori").exists());
}

/// The scripts are the ones beside it, its gate is one that the command takes, and nothing but
/// building `sori` is done outside of them.
#[test]
fn the_workflow_calls_what_is_tested() {
    let text = fs::read_to_string(models().join("ci/sori.yml")).unwrap();
    let workflow: Value = serde_saphyr::from_str(&text).unwrap();
    let steps = workflow["jobs"]["package"]["steps"].as_array().unwrap();
    let runs: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["run"].as_str())
        .collect();
    assert_eq!(
        runs,
        [
            "cargo build --locked --release --manifest-path sori/Cargo.toml -p sori --features quantize",
            "sh sori/models/ci/gate.sh sori/target/release/sori",
            "sh sori/models/ci/boards.sh model.sori",
        ]
    );
    let gates = steps
        .iter()
        .find_map(|step| step["env"]["GATE"].as_str())
        .unwrap();
    let unread = Command::new(env!("CARGO_BIN_EXE_sori"))
        .args([
            "quantize",
            "none.onnx",
            "--data-free",
            "--out",
            "none.sori",
            "--gate",
            gates,
        ])
        .output()
        .unwrap();
    assert_eq!(
        unread.status.code(),
        Some(1),
        "a gate that is none would be usage"
    );
    let toolchain = fs::read_to_string(models().join("../rust-toolchain.toml")).unwrap();
    let image = workflow["jobs"]["package"]["container"].as_str().unwrap();
    let version = image
        .strip_prefix("rust:")
        .unwrap()
        .strip_suffix("-bookworm")
        .unwrap();
    assert!(
        toolchain.contains(&format!("\"{version}")),
        "{image}: {toolchain}"
    );
    let own = fs::read_to_string(models().join("../.github/workflows/ci.yml")).unwrap();
    assert!(own.contains(image));
}
