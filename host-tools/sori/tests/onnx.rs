//! What takes ONNX networks, as scripts see it.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use common::{Folder, in_genre, refusal, sori, text};

/// Calibrates on one clip: what is asked here is what the command does, not how well.
fn quantize(onnx: &str, out: &str, more: &[&str]) -> Output {
    let folder = Folder::new();
    let calibration = folder.at("calibration");
    fs::create_dir(&calibration).unwrap();
    let clip = in_genre("demo/jazz.flac");
    fs::copy(clip, Path::new(&calibration).join("jazz.flac")).unwrap();
    let arguments = ["quantize", onnx, "--calib", &calibration, "--out", out];
    sori(&[&arguments[..], more].concat())
}

/// A small network that PyTorch exported.
fn exported() -> String {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../quantize/tests/exported");
    format!("{fixtures}/torch_legacy.onnx")
}

#[test]
fn quantize_writes_a_package_that_verifies() {
    let folder = Folder::new();
    let out = folder.at("deep/er/x.sori");
    let output = quantize(
        &in_genre("genre.onnx"),
        &out,
        &["--json", "--gate", "sqnr=5"],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 2);
    assert!(report["layers"].as_array().unwrap().len() > 50);
    assert_eq!(report["techniques"].as_array().unwrap().len(), 4);
    assert!(sori(&["verify", &out]).status.success());
}

/// A page that needs nothing else, a guess that says so, and no bit changed by pruning.
#[test]
fn quantize_reports_as_a_page_and_prunes_without_changing_a_bit() {
    let folder = Folder::new();
    let (page, plain, pruned) = (
        folder.at("r.html"),
        folder.at("a.sori"),
        folder.at("b.sori"),
    );
    let onnx = exported();
    let output = sori(&[
        "quantize",
        &onnx,
        "--data-free",
        "--out",
        &plain,
        "--report",
        &page,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = fs::read_to_string(&page).unwrap();
    for part in [
        "<svg",
        "ten worst layers",
        "cross-layer equalization",
        "Raspberry Pi 5",
        "@media print",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for from_elsewhere in ["<script", "<link", "src=", "url("] {
        assert!(!html.contains(from_elsewhere), "{from_elsewhere}");
    }
    let output = sori(&[
        "quantize",
        &onnx,
        "--data-free",
        "--prune",
        "--out",
        &pruned,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = folder.at("rows");
    fs::create_dir(&rows).unwrap();
    fs::copy(
        onnx.replace(".onnx", ".input.npy"),
        Path::new(&rows).join("a.npy"),
    )
    .unwrap();
    let output = sori(&["compare", &plain, &pruned, "--on", &rows, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let same: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(same["largest_difference"], 0.0);
    assert_eq!(same["agreement"], 1.0);
}

#[test]
fn ranges_guessed_without_data_come_with_a_warning() {
    let folder = Folder::new();
    let out = folder.at("x.sori");
    let output = sori(&["quantize", &exported(), "--data-free", "--out", &out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("WARNING"));
    assert!(text(&output.stdout).contains("noise, no data given"));
    let neither = sori(&["quantize", &exported(), "--out", &out]);
    assert_eq!(neither.status.code(), Some(2));
}

#[test]
fn compare_sets_a_package_beside_its_float_network() {
    let (package, onnx) = (in_genre("genre.sori"), in_genre("genre.onnx"));
    let demo = in_genre("demo");
    let output = sori(&["compare", &onnx, &package, "--on", &demo]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("same class for"), "{said}");
    let (code, stderr) = refusal(&sori(&["compare", &onnx, &onnx, "--on", &demo]));
    assert_eq!(code, 2);
    assert!(stderr.contains("must be a package"), "{stderr}");
}

#[test]
fn inspect_measures_what_relus_keep() {
    let folder = Folder::new();
    let page = folder.at("m.html");
    let (onnx, demo) = (in_genre("genre.onnx"), in_genre("demo"));
    let arguments = ["inspect", &onnx, "--manifold", "--calib", &demo, "--json"];
    let output = sori(&[&arguments[..], &["--report", &page]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    let blocks = measured["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 16);
    for block in blocks {
        for share in ["active", "recovered", "invertible", "relu_loss"] {
            let share = block[share].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share), "{block}");
        }
        let rank = block["expanded_rank"].as_f64().unwrap();
        let wide = block["channels"][1].as_f64().unwrap();
        assert!((1.0..=wide).contains(&rank), "{block}");
    }
    assert!(fs::read_to_string(&page).unwrap().contains("Figure 1"));
    assert_eq!(sori(&["inspect", "--manifold"]).status.code(), Some(2));
}

#[test]
fn a_failed_gate_writes_nothing_and_exits_with_3() {
    let folder = Folder::new();
    let out = folder.at("x.sori");
    let gate = ["--data-free", "--gate", "sqnr=300"];
    let output = sori(&[&["quantize", &exported(), "--out", &out], &gate[..]].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("sqnr"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(folder.entries(), 0);
}

#[test]
fn what_is_no_network_of_the_family_is_refused() {
    let folder = Folder::new();
    fs::write(folder.at("x.onnx"), b"not protobuf").unwrap();
    let missing = quantize(&folder.at("missing.onnx"), &folder.at("x.sori"), &[]);
    let garbage = quantize(&folder.at("x.onnx"), &folder.at("x.sori"), &[]);
    for (output, expected) in [(missing, 1), (garbage, 5)] {
        let (code, _) = refusal(&output);
        assert_eq!(code, expected);
    }
    let gate = quantize(
        &in_genre("genre.onnx"),
        &folder.at("x.sori"),
        &["--gate", "speed=9"],
    );
    assert_eq!(gate.status.code(), Some(2));
    assert_eq!(folder.entries(), 1);
}

/// Three excerpts of two tracks, heard in every way there is.
#[test]
fn eval_counts_tracks_hears_rooms_and_writes_a_page() {
    let folder = Folder::new();
    let mut split = "file,genre,track,fold\n".to_string();
    for (genre, clip, fold) in [("jazz", "a", 0), ("jazz", "b", 0), ("pop", "c", 1)] {
        fs::create_dir_all(folder.at(genre)).unwrap();
        let file = format!("{genre}/{clip}.flac");
        let demo = in_genre(&format!("demo/{genre}.flac"));
        fs::copy(demo, folder.at(&file)).unwrap();
        split += &format!("{file},{genre},{genre}.1,{fold}\n");
    }
    fs::write(folder.at("split.csv"), split).unwrap();
    for fold in [0, 1] {
        fs::copy(in_genre("genre.sori"), folder.at(&format!("{fold}.sori"))).unwrap();
    }
    let [split, page, models] =
        ["split.csv", "page.html", "{fold}.sori"].map(|name| folder.at(name));
    let float = in_genre("genre.onnx");
    let arguments = [
        "eval",
        "--json",
        "--split",
        &split,
        "--model",
        &models,
        "--float",
        &float,
        "--conditions",
        "--not-music",
        &folder.at("pop"),
        "--report",
        &page,
        &folder.at(""),
    ];
    let output = sori(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["n"], &report["tracks"]["n"]),
        (&3.into(), &2.into())
    );
    let folds = report["folds"].as_array().unwrap();
    assert_eq!(
        folds
            .iter()
            .map(|f| f["tracks"]["n"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 1]
    );
    assert_eq!(report["float"]["agreement"]["n"], 3);
    let conditions = report["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 8);
    // A level is all that differs, and the front end takes it out.
    assert_eq!(conditions[0]["lost_points"], 0.0);
    let rejection = report["rejection"].as_array().unwrap();
    let names: Vec<_> = rejection
        .iter()
        .map(|set| set["what"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["silence", "noise", "pop"]);
    assert_eq!(rejection[0]["rejected"]["share"], 1.0);
    let page = fs::read_to_string(page).unwrap();
    for part in [
        "Confusion matrix",
        "Simulated conditions",
        "area under ROC",
        "<svg",
        "McNemar",
    ] {
        assert!(page.contains(part), "{part}");
    }

    let one = sori(&[
        "eval",
        "--json",
        "--split",
        &split,
        "--fold",
        "1",
        &folder.at(""),
    ]);
    let report: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(report["n"], 1);
}

/// Layers and stages add up to the network, from a package and from what it was made of.
#[test]
fn bench_times_a_package_and_an_onnx_network() {
    for (file, on_noise) in [("genre.sori", false), ("genre.onnx", true)] {
        let file = in_genre(file);
        let output = sori(&["bench", "--seconds", "0", "--json", &file]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["schema_version"], 1);
        assert_eq!(report["calibrated_on_noise"], on_noise);
        assert!(report["inference"]["median_ns"].as_f64() > Some(0.0));
        assert!(report["row_by_row"]["p90_ns"].as_f64() > Some(0.0));
        assert!(report["audio"]["real_time_factor"].as_f64() > Some(0.0));
        for parts in [&report["layers"], &report["stages"]] {
            let sum = |key: &str| -> f64 {
                let parts = parts.as_array().expect(key).iter();
                parts.map(|part| part[key].as_f64().expect(key)).sum()
            };
            assert_eq!(Some(sum("macs")), report["macs"].as_f64());
            assert!((sum("share") - 1.0).abs() < 1e-6, "{parts}");
        }
    }
}

/// What scripts that compare engines read.
#[test]
fn bench_median_ns_is_one_number() {
    for file in [in_genre("genre.sori"), in_genre("genre.onnx")] {
        let output = sori(&["bench", &file, "--seconds", "0", "--median-ns"]);
        assert_eq!(text(&output.stderr), "");
        let median: u64 = text(&output.stdout).trim().parse().expect("an integer");
        assert!(median > 0);
    }
    let (code, _) = refusal(&sori(&["bench", "missing.onnx"]));
    assert_eq!(code, 1);
}

#[test]
fn bench_times_tract_beside_it_or_says_why_not() {
    let folder = Folder::new();
    let damaged = folder.at("damaged.onnx");
    fs::write(&damaged, "not an ONNX").unwrap();
    for (file, why) in [
        (damaged.as_str(), "cannot time"),
        ("missing.onnx", "cannot read"),
    ] {
        let (code, stderr) = refusal(&sori(&["bench", "--seconds", "0", "--tract", file]));
        assert_eq!(code, 1);
        assert!(stderr.contains(why) && stderr.contains(file), "{stderr}");
    }
    let onnx = in_genre("genre.onnx");
    let arguments = ["bench", "--seconds", "0", "--json", "--tract"];
    let output = sori(&[&arguments[..], &[&onnx]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["tract"][0]["file"], onnx);
    assert!(report["tract"][0]["ratio"].as_f64() > Some(0.0));
}

/// Without a contract the rows must come ready-made, and the package cannot hear.
#[test]
fn a_network_without_a_contract_takes_rows_only_and_classify_says_so() {
    let folder = Folder::new();
    let mut onnx = fs::read(in_genre("genre.onnx")).unwrap();
    let key = b"sori.contract";
    let at = onnx
        .windows(key.len())
        .position(|w| w == key)
        .expect("metadata");
    onnx[at + 5] = b'K';
    let (bare, rows, out) = (folder.at("x.onnx"), folder.at("rows"), folder.at("x.sori"));
    fs::write(&bare, onnx).unwrap();
    let (code, stderr) = refusal(&quantize(&bare, &out, &[]));
    assert_eq!(code, 1);
    assert!(stderr.contains("--contract"), "{stderr}");

    // 100 float rows of 64, as numpy.save would write them.
    fs::create_dir(&rows).unwrap();
    let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (100, 64), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{dict:117}\n").bytes());
    npy.extend((0..100 * 64).flat_map(|n| ((n * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()));
    fs::write(Path::new(&rows).join("a.npy"), npy).unwrap();
    let output = sori(&["quantize", &bare, "--calib", &rows, "--out", &out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (code, stderr) = refusal(&sori(&["classify", "--model", &out, &in_genre("demo")]));
    assert_eq!(code, 5);
    assert!(stderr.contains("no mel contract"), "{stderr}");
}
