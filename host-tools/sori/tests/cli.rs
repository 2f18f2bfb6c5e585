//! The command as scripts see it: results on stdout, one line an error on stderr, exit
//! codes, and files that appear whole or not at all.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use common::*;

/// The README's command: a folder in, a table out, every clip named.
#[test]
fn classify_names_every_demo_clip_in_a_table() {
    let output = sori(&["classify", &in_genre("demo")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let clips = fs::read_dir(in_genre("demo")).unwrap();
    let names = clips.map(|clip| clip.unwrap().file_name().into_string().unwrap());
    for name in names.filter(|name| name.ends_with(".flac")) {
        assert!(table.contains(&name), "{table}");
    }
    assert!(
        table.contains('%') && table.contains("real time"),
        "{table}"
    );
}

#[test]
fn classify_gives_one_json_object_a_file_in_the_order_of_the_arguments() {
    let output = sori(&["classify", "--json", &in_genre("demo")]);
    let lines = json_lines(&output);
    assert!(lines.len() >= 3);
    assert!(lines.is_sorted_by_key(|line| line["file"].as_str().unwrap().to_owned()));
    for line in &lines {
        assert_eq!(line["schema_version"], 1);
        let probabilities = line["probabilities"].as_object().unwrap();
        let sum: f64 = probabilities.values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 0.01, "{line}");
        let verdict = line["verdict"].as_str().unwrap();
        assert!(verdict == line["best"] || verdict == "unknown", "{line}");
    }
}

/// Silence, clipping, the ends of the rates, and one to eight channels.
#[test]
fn classify_takes_any_level_rate_and_channel_count() {
    let folder = Folder::new();
    folder.wav("silence.wav", spec(1, RATE_HZ), vec![0; 64_000]);
    folder.wav("clipped.wav", spec(1, RATE_HZ), chord(RATE_HZ, 3.0, 20.0));
    for rate_hz in [8_000, 44_100, 192_000] {
        let samples = chord(rate_hz, 2.0, 0.5);
        folder.wav(&format!("{rate_hz} Hz.wav"), spec(1, rate_hz), samples);
    }
    for channels in [2, 8] {
        let frames = chord(RATE_HZ, 2.0, 0.5);
        let samples = frames.flat_map(|x| std::iter::repeat_n(x, channels.into()));
        folder.wav(
            &format!("{channels} channels.wav"),
            spec(channels, RATE_HZ),
            samples,
        );
    }
    let output = sori(&["classify", "--json", &folder.at("")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 7);
    let of = |name: &str| {
        let mut lines = lines.iter();
        lines
            .find(|line| line["file"].as_str().unwrap().contains(name))
            .expect(name)
    };
    assert_eq!(of("silence")["verdict"], "silence");
    // The mean of equal channels is the channel.
    assert_eq!(
        of("2 channels")["probabilities"],
        of("8 channels")["probabilities"]
    );
}

/// Missing, too short, no audio, empty, a header that says 0 Hz, an empty folder: the good
/// one is still answered.
#[test]
fn a_bad_file_among_many_is_reported_and_the_others_finish() {
    let folder = Folder::new();
    folder.wav("good.wav", spec(1, RATE_HZ), chord(RATE_HZ, 3.0, 0.5));
    folder.wav("short.wav", spec(1, RATE_HZ), chord(RATE_HZ, 0.03, 0.5));
    fs::write(folder.at("noise.mp3"), b"this is not music").unwrap();
    fs::write(folder.at("empty.flac"), b"").unwrap();
    folder.wav("0 Hz.wav", spec(1, RATE_HZ), chord(RATE_HZ, 1.0, 0.5));
    let mut bytes = fs::read(folder.at("0 Hz.wav")).unwrap();
    bytes[24..28].fill(0);
    fs::write(folder.at("0 Hz.wav"), bytes).unwrap();
    fs::create_dir(folder.at("nothing in it")).unwrap();
    let names = [
        "missing.ogg",
        "short.wav",
        "noise.mp3",
        "empty.flac",
        "0 Hz.wav",
        "nothing in it",
        "good.wav",
    ];
    let paths = names.map(|name| folder.at(name));
    let output = sori(&[&["classify".into(), "--json".into()][..], &paths].concat());
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), names.len());
    for (line, name) in lines.iter().zip(names) {
        assert!(line["file"].as_str().unwrap().ends_with(name), "{line}");
        assert_eq!(line["error"].is_null(), name == "good.wav", "{line}");
    }
    let stderr = text(&output.stderr);
    assert!(stderr.contains("6 of 7 files failed"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// A recording that stops in the middle of a sample still gives its answer.
#[test]
fn a_truncated_file_is_classified_with_a_warning() {
    let folder = Folder::new();
    folder.wav("cut.wav", spec(1, RATE_HZ), chord(RATE_HZ, 4.0, 0.5));
    let path = folder.at("cut.wav");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2 + 1]).unwrap();
    let (code, stderr) = refusal(&sori(&["classify", &path]));
    assert_eq!(code, 0);
    assert!(stderr.contains("truncated"), "{stderr}");
}

#[test]
fn a_damaged_or_newer_package_is_refused_with_exit_code_5() {
    let folder = Folder::new();
    let good = fs::read(in_genre("genre.sori")).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut newer = good.clone();
    newer[8] = 0xff;
    let cases: [(&[u8], &str); 4] = [
        (&good[..good.len() - 1], "copy it again"),
        (&flipped, "damaged"),
        (&newer, "update Sori"),
        (b"RIFF....WAVE", "not a Sori package"),
    ];
    let (model, audio) = (&*folder.at("x.sori"), &*in_genre("demo"));
    for (bytes, says) in cases {
        fs::write(model, bytes).unwrap();
        for arguments in [
            &["classify", "--model", model, audio][..],
            &["verify", model],
            &["inspect", model],
            &["eval", "--model", model, audio],
            &["features", "--model", model, "--out", "never", audio],
        ] {
            let (code, stderr) = refusal(&sori(arguments));
            assert_eq!(code, 5, "{arguments:?}: {stderr}");
            assert!(stderr.contains(says), "{arguments:?}: {stderr}");
        }
    }
}

#[test]
fn verify_holds_for_the_shipped_model() {
    let output = sori(&["verify", &in_genre("genre.sori")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("every bit is equal"));
}

#[test]
fn inspect_states_the_arena_that_the_prologue_states() {
    let genre = in_genre("genre.sori");
    let bytes = fs::read(&genre).unwrap();
    let prologue = sori_package::Prologue::read(&bytes).unwrap();
    let output = sori(&["inspect", "--json", &genre]);
    let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inspected["schema_version"], 1);
    for arena in inspected["memory"]["arena"].as_array().unwrap() {
        let stripe = arena["stripe_rows"].as_u64().unwrap() as usize;
        assert_eq!(
            arena["bytes"],
            prologue.arena_bytes(stripe),
            "{stripe} rows"
        );
    }
    let shown = text(&sori(&["inspect"]).stdout);
    for part in [
        "block 0 depthwise",
        "classifier",
        "mel contract",
        "golden vectors",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

/// One folder is a label spelt differently, one is none, one holds jazz under another name.
/// `sori` with another home, and so another key.
fn of_user(home: &str, arguments: &[&str]) -> Output {
    command(arguments)
        .env("XDG_CONFIG_HOME", home)
        .output()
        .expect("the command starts")
}

#[test]
fn sign_makes_a_key_once_and_verify_asks_for_it() {
    let folder = Folder::new();
    let (mine, other) = (folder.at("mine"), folder.at("other"));
    let package = folder.at("model.sori");
    fs::copy(in_genre("genre.sori"), &package).unwrap();
    let sign = |home: &str, arguments: &[&str]| -> Value {
        let output = of_user(home, &[&["sign", "--json"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let first = sign(&mine, &[&package]);
    assert_eq!(first["new_key"], true);
    let again = sign(&mine, &[]);
    assert_eq!(again["new_key"], false);
    assert_eq!(again["public_key"], first["public_key"]);
    let key = first["public_key"].as_str().unwrap();

    let output = sori(&["verify", "--key", key, &package]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&format!("signed by {key}")));
    let inspected = sori(&["inspect", "--json", &package]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["signature"]["state"], "holds");
    assert_eq!(inspected["signature"]["public_key"], key);

    // Somebody else's, nobody's, and one that was changed.
    let (by_other, altered) = (folder.at("other.sori"), folder.at("altered.sori"));
    sign(&other, &[&package, "--out", &by_other]);
    let mut bytes = fs::read(&package).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&altered, bytes).unwrap();
    for (file, why) in [
        (&by_other, "but only ed25519:"),
        (&in_genre("genre.sori"), "sign it with `sori sign`"),
        (&altered, "changed after signing"),
    ] {
        let (code, why_not) = refusal(&sori(&["verify", "--key", key, file]));
        assert_eq!(code, 5);
        assert!(why_not.contains(why), "{why_not}");
    }
    let shown = text(&sori(&["inspect", &altered]).stdout);
    assert!(shown.contains("the signature is invalid"), "{shown}");
    // Who has no key to ask for passes over it.
    assert!(sori(&["verify", &altered]).status.success());
}

#[test]
fn a_key_is_private_and_never_overwritten() {
    let folder = Folder::new();
    let key = folder.at("key.pem");
    assert!(sori(&["sign", "--new-key", &key]).status.success());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let before = fs::read(&key).unwrap();
    let (code, why) = refusal(&sori(&["sign", "--new-key", &key]));
    assert_eq!(code, 2);
    assert!(why.contains("already exists and was not replaced"), "{why}");
    assert_eq!(fs::read(&key).unwrap(), before);

    let nothing = folder.at("nothing.pem");
    let (code, why) = refusal(&sori(&["sign", "--key", &nothing]));
    assert!(code == 2 && why.contains("sori sign --new-key"), "{why}");
    let garbage = folder.at("garbage.sori");
    fs::write(&garbage, "garbage").unwrap();
    let home = folder.at("home");
    let (code, why) = refusal(&of_user(&home, &["sign", &garbage]));
    assert!(code == 5 && why.contains("not a Sori package"), "{why}");
    assert!(!Path::new(&home).exists(), "no key for nothing");
    assert_eq!(fs::read(&garbage).unwrap(), b"garbage");
    let (code, why) = refusal(&sori(&["sign", &in_genre("genre.sori"), "--key", &garbage]));
    assert!(
        code == 1 && why.contains("not a secret Ed25519 key"),
        "{why}"
    );
    for wrong in ["ed25519:AAAA", &key] {
        let output = sori(&["verify", "--key", wrong, &in_genre("genre.sori")]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("the whole line ed25519:"));
    }
}

#[test]
fn eval_counts_labelled_folders_and_draws_the_matrix() {
    let folder = Folder::new();
    for into in ["Jazz", "pop", "k-pop"] {
        fs::create_dir(folder.at(into)).unwrap();
        let clip = folder.at(&format!("{into}/a.flac"));
        fs::copy(in_genre("demo/jazz.flac"), clip).unwrap();
    }
    fs::write(folder.at("pop/damaged.wav"), b"RIFF").unwrap();
    let png = folder.at("confusion.png");
    let output = sori(&["eval", "--json", "--png", &png, &folder.at("")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("k-pop is not one of the labels"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 2);
    assert_eq!((&report["n"], &report["failed"]), (&2.into(), &1.into()));
    assert_eq!(report["accuracy"], 0.5);
    let labels = report["labels"].as_array().unwrap();
    let of = |label: &str| labels.iter().position(|l| l == label).unwrap();
    let (jazz, pop) = (of("jazz"), of("pop"));
    for (row, label) in report["confusion"].as_array().unwrap().iter().zip(0..) {
        for (count, answer) in row.as_array().unwrap().iter().zip(0..) {
            let expected = u32::from(answer == jazz && (label == jazz || label == pop));
            assert_eq!(count, expected, "{label} taken for {answer}");
        }
    }
    assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn eval_refuses_splits_that_do_not_fit() {
    let folder = Folder::new();
    let at = |name: &str, text: &str| {
        fs::write(folder.at(name), text).unwrap();
        folder.at(name)
    };
    let columns = at("columns.csv", "file,genre\na.flac,jazz\n");
    let genre = at("genre.csv", "file,genre,track,fold\na.flac,polka,a,0\n");
    let empty = at("empty.csv", "file,genre,track,fold\n");
    for (arguments, code, says) in [
        (vec!["--model", "{fold}.sori"], 2, "--split"),
        (
            vec!["--split", &columns],
            1,
            "columns file, genre, track and fold",
        ),
        (vec!["--split", &genre], 1, "polka"),
        (vec!["--split", &empty], 1, "it is empty"),
        (
            vec!["--split", &genre, "--fold", "3"],
            1,
            "no clips of that fold",
        ),
    ] {
        let whole = [
            vec!["eval"],
            arguments,
            vec![folder.0.path().to_str().unwrap()],
        ]
        .concat();
        let (found, stderr) = refusal(&sori(&whole));
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}

#[test]
fn eval_says_what_kind_of_folder_it_needs() {
    let folder = Folder::new();
    for (path, says) in [
        (folder.at("missing"), "is not a folder"),
        (in_genre("demo/jazz.flac"), "is not a folder"),
        (folder.at(""), "no audio in a folder named after a label"),
        (in_genre("demo"), "no audio in a folder named after a label"),
    ] {
        let (code, stderr) = refusal(&sori(&["eval", &path]));
        assert_eq!(code, 1);
        assert!(stderr.contains(says), "{stderr}");
    }
}

fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that refuses its settings closes the pipe: that is for its output to say.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The same samples raw, with a WAV header that overrides the flags, and from a file.
#[test]
fn listen_hears_in_a_pipe_what_classify_hears_in_the_file() {
    let folder = Folder::new();
    folder.wav("x.wav", spec(1, RATE_HZ), chord(RATE_HZ, 6.0, 0.5));
    let path = folder.at("x.wav");
    let raw = chord(RATE_HZ, 6.0, 0.5).flat_map(|x| (x as i16).to_le_bytes());
    let from_raw = piped(&["listen", "--json"], &raw.collect::<Vec<u8>>());
    let wav = fs::read(&path).unwrap();
    let from_wav = piped(&["listen", "--json", "--rate", "8000"], &wav);
    assert!(from_raw.status.success());
    assert_eq!(text(&from_raw.stdout), text(&from_wav.stdout));
    let decisions = json_lines(&from_raw);
    let last = decisions.last().unwrap();
    assert!(last["time_s"].as_f64().unwrap() > 5.0, "{last}");
    let classified = json_lines(&sori(&["classify", "--json", &path]));
    assert_eq!(last["best"], classified[0]["best"]);
}

#[test]
fn listen_refuses_what_it_cannot_hear() {
    for (arguments, input, code, says) in [
        (
            &["listen"][..],
            &[0u8; 100][..],
            1,
            "before the first window",
        ),
        (&["listen"], &[], 1, "before the first window"),
        (
            &["listen", "--rate", "4000"],
            &[0; 9000],
            2,
            "8000..=192000",
        ),
        (
            &["listen", "--channel", "3"],
            &[0; 9000],
            2,
            "counted from 0",
        ),
        (&["listen", "--format", "S12_LE"], &[], 2, "S12_LE"),
        (&["listen", "--channels", "0"], &[], 2, "--channels"),
    ] {
        let output = piped(arguments, input);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains(says) && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
}

#[test]
fn features_mirror_the_folders_and_do_not_depend_on_where_the_contract_is() {
    let folder = Folder::new();
    fs::create_dir_all(folder.at("audio/jazz")).unwrap();
    folder.wav(
        "audio/jazz/a.wav",
        spec(1, RATE_HZ),
        chord(RATE_HZ, 1.0, 0.5),
    );
    let (out, audio) = (&*folder.at("features"), &*folder.at("audio"));
    let contract = in_genre("contract.toml");
    let by_contract = [
        "features",
        "--levels",
        "--contract",
        &contract,
        "--out",
        out,
        audio,
    ];
    assert!(sori(&by_contract).status.success());
    let first = fs::read(folder.at("features/jazz/a.npy")).unwrap();
    assert!(first.starts_with(b"\x93NUMPY"));
    assert!(Path::new(&folder.at("features/jazz/a.level.npy")).exists());
    let genre = in_genre("genre.sori");
    assert!(
        sori(&["features", "--model", &genre, "--out", out, audio])
            .status
            .success()
    );
    assert_eq!(fs::read(folder.at("features/jazz/a.npy")).unwrap(), first);
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let folder = Folder::new();
    folder.wav("a.wav", spec(1, RATE_HZ), chord(RATE_HZ, 1.0, 0.5));
    fs::write(folder.at("file"), b"").unwrap();
    let out = folder.at("file/features");
    let output = sori(&["features", "--out", &out, &folder.at("a.wav")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write"));
    assert_eq!(folder.entries(), 2);
}

/// The names that the refusal of a wrong one lists.
fn backends() -> Vec<String> {
    let output = sori(&["verify", "--backend", "none", &in_genre("genre.sori")]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    let (_, names) = stderr.split_once("this processor has ").expect(&stderr);
    let names = names.lines().next().unwrap_or_default().split(", ");
    names.map(String::from).collect()
}

#[test]
fn every_backend_gives_the_same_answers() {
    let names = backends();
    assert_eq!(names[0], "scalar");
    let answers = |name: &String| {
        let output = sori(&["classify", "--json", "--backend", name, &in_genre("demo")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let expected = answers(&names[0]);
    for name in &names[1..] {
        assert_eq!(answers(name), expected, "{name}");
    }
}

#[test]
fn verify_names_the_backend_and_takes_all_of_them() {
    let genre = in_genre("genre.sori");
    let output = sori(&["verify", "--backend", "all", &genre]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let names = backends();
    assert_eq!(said.lines().count(), names.len());
    for (line, name) in said.lines().zip(names) {
        assert!(line.contains(&format!(" on {name},")), "{line}");
    }
}

/// The option overrides the variable, even a wrong one.
#[test]
fn a_backend_that_is_not_there_is_a_usage_error() {
    let verify = ["verify", &in_genre("genre.sori")];
    let by_variable = command(&verify).env("SORI_BACKEND", "none").output();
    let (code, stderr) = refusal(&by_variable.unwrap());
    assert_eq!(code, 2);
    assert!(stderr.contains("SORI_BACKEND") && stderr.contains("scalar"));

    let with_option = [&["--backend", "scalar"], &verify[..]].concat();
    let both = command(&with_option).env("SORI_BACKEND", "none").output();
    assert!(text(&both.unwrap().stdout).contains(" on scalar,"));

    let (code, stderr) = refusal(&sori(&["classify", "--backend", "all", &in_genre("demo")]));
    assert_eq!(code, 2);
    assert!(stderr.contains("verify"), "{stderr}");
}

#[test]
fn threads_change_no_answer() {
    let demo = in_genre("demo");
    let one = sori(&["classify", "--json", "--threads", "1", &demo]);
    let three = sori(&["classify", "--json", "--threads", "3", &demo]);
    assert!(one.status.success());
    assert_eq!(text(&one.stdout), text(&three.stdout));
    let none = sori(&["classify", "--threads", "0", &demo]);
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn bench_says_what_people_want_to_know() {
    let arguments = ["bench", "--seconds", "0", "--backend", "scalar"];
    let output = sori(&[&arguments[..], &["--threads", "2"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        "built-in",
        "block 16 projection",
        "depthwise",
        "packed weights 0 bytes",
        "real time ×",
        "scalar, 2 threads",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = sori(&["completions", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("classify"), "{shell}");
    }
}

/// `sori … | head` must not end in a panic.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let demo = in_genre("demo");
    for arguments in [
        &["classify", "--json", &demo][..],
        &["inspect"],
        &["inspect", "--json"],
    ] {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}");
    }
}

/// A package in less memory gives the same bits, and says what it needs and costs.
#[test]
fn plan_fits_a_package_to_an_arena_and_takes_the_plan_out_again() {
    let folder = Folder::new();
    let (genre, small, full) = (
        in_genre("genre.sori"),
        folder.at("small.sori"),
        folder.at("full.sori"),
    );
    let output = sori(&[
        "plan", &genre, "--arena", "32KiB", "--out", &small, "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan = &json_lines(&output)[0];
    assert_eq!(plan["schema_version"], 1);
    let arena = plan["arena_bytes"].as_u64().unwrap() as usize;
    assert!(arena <= 32 * 1024, "{arena}");
    let prologue = sori_package::Prologue::read(&fs::read(&small).unwrap()).unwrap();
    assert_eq!(prologue.arena_bytes(1), arena);

    let inspected: Value =
        serde_json::from_slice(&sori(&["inspect", "--json", &small]).stdout).unwrap();
    let memory = &inspected["memory"];
    assert_eq!(memory["plan"]["arena_bytes"], arena);
    assert_eq!(memory["plan"]["cost_percent"], plan["cost_percent"]);
    assert_eq!(memory["static_bytes"], arena + prologue.frontend_bytes());
    assert_eq!(memory["flash_bytes"], fs::metadata(&small).unwrap().len());
    let shown = text(&sori(&["inspect", &small]).stdout);
    for part in [
        "memory plan",
        "channels at a time",
        "bytes of static memory;",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    for backend in ["scalar", "all"] {
        let output = sori(&["--backend", backend, "verify", &small]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    let output = sori(&["plan", &small, "--full-speed", "--out", &full]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let full = fs::read(&full).unwrap();
    let original = fs::read(&genre).unwrap();
    assert_eq!(full[8], 1, "the version that old readers read");
    let sizes =
        [&full, &original].map(|bytes| sori_package::Prologue::read(bytes).unwrap().arena_bytes(1));
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn plan_shows_what_each_arena_costs() {
    let output = sori(&["plan", "--json"]);
    let offers = &json_lines(&output)[0]["plans"];
    let offers = offers.as_array().unwrap();
    assert!(offers.len() > 3);
    for pair in offers.windows(2) {
        assert!(pair[0]["arena_bytes"].as_u64() < pair[1]["arena_bytes"].as_u64());
        assert!(pair[0]["instructions"].as_u64() > pair[1]["instructions"].as_u64());
    }
    let shown = text(&sori(&["plan"]).stdout);
    assert!(shown.contains("vs full speed"), "{shown}");
}

#[test]
fn an_arena_that_is_none_or_too_small_is_refused_and_says_what_would_do() {
    let folder = Folder::new();
    let out = folder.at("never.sori");
    let genre = in_genre("genre.sori");
    let (code, stderr) = refusal(&sori(&["plan", &genre, "--arena", "4K", "--out", &out]));
    assert_eq!(code, 3, "{stderr}");
    for part in [
        "no plan fits 4096 bytes",
        "the smallest arena",
        "more",
        "train it with input rows of 8, or allow more",
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    // Where fewer channels would do, that is offered too.
    let (code, stderr) = refusal(&sori(&["plan", &genre, "--arena", "12K", "--out", &out]));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("times the channels"), "{stderr}");
    assert_eq!(folder.entries(), 0);
    for size in ["48Q", "0", "-1", "4.5K", "99999999999999999999"] {
        let output = sori(&["plan", &genre, &format!("--arena={size}")]);
        assert_eq!(output.status.code(), Some(2), "{size}");
        assert!(text(&output.stderr).contains("48KiB"), "{size}");
    }
    let (code, stderr) = refusal(&sori(&["plan", &genre, "--out", &out]));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--arena"), "{stderr}");
    fs::write(folder.at("x.sori"), b"no package").unwrap();
    let (code, _) = refusal(&sori(&["plan", &folder.at("x.sori"), "--arena", "48K"]));
    assert_eq!(code, 5);
}

/// An ELF file for Arm with one segment of a page and a bit.
fn firmware() -> Vec<u8> {
    let text = [0x5a; 300];
    let mut elf = vec![0; 84];
    elf[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    elf[18] = 40;
    elf[28] = 52;
    elf[42] = 32;
    elf[44] = 1;
    let header = [1, 84, 0x1000_0000, 0x1000_0000, 300, 300, 5, 4];
    for (to, word) in elf[52..].as_chunks_mut().0.iter_mut().zip(header) {
        *to = u32::to_le_bytes(word);
    }
    elf.extend(text);
    elf
}

#[test]
fn flash_writes_uf2_to_a_boot_loader_s_drive_and_to_nothing_else() {
    let folder = Folder::new();
    fs::write(folder.at("firmware.elf"), firmware()).unwrap();
    let flash =
        |to: &str, firmware: &str| sori(&["flash", "--board", "pico2", to, "--firmware", firmware]);
    let (drive, elf) = (folder.at("RP2350"), folder.at("firmware.elf"));
    fs::create_dir(&drive).unwrap();

    let (code, error) = refusal(&flash(&drive, &elf));
    assert_eq!(code, 4);
    assert!(error.contains("no INFO_UF2.TXT"), "{error}");
    let info = folder.at("RP2350/INFO_UF2.TXT");
    fs::write(&info, "UF2 Bootloader v3.0\r\nBoard-ID: RPI-RP2\r\n").unwrap();
    let (code, error) = refusal(&flash(&drive, &elf));
    assert_eq!(code, 4);
    assert!(error.contains("not of a Pico 2"), "{error}");
    fs::write(&info, "UF2 Bootloader v1.0\r\nBoard-ID: RP2350\r\n").unwrap();
    let (code, error) = refusal(&flash(&drive, &folder.at("none.elf")));
    assert_eq!(code, 2);
    assert!(
        error.contains("cargo build --release in firmware/pico2"),
        "{error}"
    );
    let (code, error) = refusal(&flash(&drive, &info));
    assert_eq!(code, 1);
    assert!(
        error.contains("not a program for a 32-bit Arm core"),
        "{error}"
    );
    assert!(!Path::new(&folder.at("RP2350/sori.uf2")).exists());

    let output = flash(&drive, &elf);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let uf2 = fs::read(folder.at("RP2350/sori.uf2")).unwrap();
    assert_eq!(uf2.len(), 2 * 512);
    assert_eq!(uf2[28..32], 0xe48b_ff59_u32.to_le_bytes());

    let file = folder.at("new/sori.uf2");
    let output = flash(&file, &elf);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read(file).unwrap(), uf2);
}

#[test]
fn flash_through_a_probe_is_probe_rs_or_says_that_it_is_missing() {
    let folder = Folder::new();
    let elf = folder.at("firmware.elf");
    fs::write(&elf, firmware()).unwrap();
    let with = |probe_rs: &str| {
        let mut flash = command(&["flash", "--board", "pico2", "probe", "--firmware", &elf]);
        flash.env("PROBE_RS", probe_rs).output().unwrap()
    };
    let (code, error) = refusal(&with("no-such-probe-rs"));
    assert_eq!(code, 1);
    assert!(error.contains("probe-rs is not installed"), "{error}");
    let echoed = text(&with("echo").stdout);
    let expected =
        format!("download --chip RP235x --binary-format elf {elf}\nreset --chip RP235x\n");
    assert!(echoed.starts_with(&expected), "{echoed}");
}

/// By the same package on the same folder, with a class of which `unknown` takes some clips.
#[test]
fn eval_and_compare_count_the_same_accuracy() {
    let folder = Folder::new();
    for genre in ["blues", "disco", "jazz", "metal", "pop", "rock"] {
        let to = Path::new(&folder.at("music")).join(genre);
        fs::create_dir_all(&to).unwrap();
        let clip = format!("{genre}.flac");
        fs::copy(in_genre(&format!("demo/{clip}")), to.join(clip)).unwrap();
    }
    let (music, package) = (folder.at("music"), in_genre("genre.sori"));
    let json = |arguments: &[&str]| -> Value {
        let output = sori(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let eval = json(&["eval", "--model", &package, &music, "--json"]);
    let compare = json(&["compare", &package, &package, "--on", &music, "--json"]);
    assert!(eval["accuracy"].as_f64().is_some_and(|share| share > 0.5));
    assert_eq!(compare["accuracy"][0], eval["accuracy"]);
    assert_eq!(compare["accuracy"][1], eval["accuracy"]);
}

/// What a terminal would obey is shown, and forges no line.
#[cfg(unix)]
#[test]
fn names_of_files_are_shown_and_not_obeyed() {
    let folder = Folder::new();
    let evil = "a\nsori: signed by ed25519:forged\u{1b}[2J.wav";
    let path = folder.at(evil);
    fs::write(&path, b"no sound").unwrap();
    let output = sori(&["classify", &path]);
    let stderr = text(&output.stderr);
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    assert!(
        stderr.contains(r"a\nsori: signed by ed25519:forged\u{1b}[2J"),
        "{stderr}"
    );
    let forged = |line: &str| line.starts_with("sori: signed");
    assert!(!stderr.lines().any(forged), "{stderr}");
    fs::copy(
        in_genre("demo/jazz.flac"),
        folder.at("a\u{1b}]0;x\u{7}\nb.flac"),
    )
    .unwrap();
    let output = sori(&["classify", &folder.at("a\u{1b}]0;x\u{7}\nb.flac")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains(r"a\u{1b}]0;x\u{7}\nb.flac") && !shown.contains('\u{1b}'),
        "{shown}"
    );
}
