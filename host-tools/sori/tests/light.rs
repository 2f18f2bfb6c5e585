//! A build without ONNX support: what needs it is there, and says how to get it.
#![cfg(not(feature = "quantize"))]

mod common;

use common::{Folder, in_genre, refusal, sori, text};

#[test]
fn what_needs_onnx_support_says_in_one_line_how_to_get_it_and_exits_with_2() {
    let (onnx, package, demo) = (
        in_genre("genre.onnx"),
        in_genre("genre.sori"),
        in_genre("demo"),
    );
    let commands: [&[&str]; 9] = [
        &["quantize", &onnx, "--calib", &demo, "--out", "x.sori"],
        &["quantize", "--help"],
        &["quantize"],
        &["compare", &onnx, &package, "--on", &demo],
        &["compare", &package, &onnx, "--on", &demo],
        &["bench", &onnx],
        &["bench", "--seconds", "0", "--tract", &onnx],
        &["inspect", "--manifold", &onnx, "--calib", &demo],
        &["eval", "--float", &onnx, &demo],
    ];
    for arguments in commands {
        let (code, line) = refusal(&sori(arguments));
        assert_eq!(code, 2, "{arguments:?}: {line}");
        assert!(
            line.contains("--features quantize"),
            "{arguments:?}: {line}"
        );
    }
}

#[test]
fn packages_are_compared_and_measured_all_the_same() {
    let folder = Folder::new();
    let (package, demo) = (in_genre("genre.sori"), in_genre("demo"));
    let small = folder.at("small.sori");
    let planned = sori(&["plan", &package, "--arena", "48K", "--out", &small]);
    assert!(planned.status.success(), "{}", text(&planned.stderr));
    let output = sori(&["compare", &package, &small, "--on", &demo, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let same: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(same["largest_difference"], 0.0);
    let listed = text(&sori(&["--help"]).stdout);
    assert!(listed.contains("quantize"), "{listed}");
}
