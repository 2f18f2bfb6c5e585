//! The command as scripts see it: results on stdout, one line an error on stderr, exit
//! codes, and files that appear whole or not at all.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const RATE_HZ: u32 = 16_000;

fn in_genre(path: &str) -> String {
    let genre = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/genre");
    genre.join(path).to_str().expect("UTF-8").into()
}

fn command<S: AsRef<str>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

fn sori<S: AsRef<str>>(arguments: &[S]) -> Output {
    command(arguments).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The exit code, and stderr, which must be a single line and no panic's.
fn refusal(output: &Output) -> (i32, String) {
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    (output.status.code().expect("no signal"), stderr)
}

fn json_lines(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    let parsed = lines.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().expect("JSON")
}

/// A folder that is gone when the test ends, and the paths in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn at(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.to_str().expect("UTF-8").into()
    }

    fn wav(&self, name: &str, spec: hound::WavSpec, samples: impl IntoIterator<Item = i32>) {
        let mut writer = hound::WavWriter::create(self.at(name), spec).expect("writable");
        for sample in samples {
            writer.write_sample(sample).expect("writable");
        }
        writer.finalize().expect("writable");
    }

    fn entries(&self) -> usize {
        fs::read_dir(self.0.path()).expect("listable").count()
    }
}

fn spec(channels: u16, rate_hz: u32) -> hound::WavSpec {
    hound::WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    }
}

/// A chord with a peak near full scale times `gain`, clipped at full scale.
fn chord(rate_hz: u32, seconds: f64, gain: f64) -> impl Iterator<Item = i32> {
    let frames = (f64::from(rate_hz) * seconds) as usize;
    (0..frames).map(move |n| {
        let t = n as f64 / f64::from(rate_hz);
        let tones = [220.0, 277.2, 329.6].map(|hz| (std::f64::consts::TAU * hz * t).sin());
        let sum: f64 = tones.iter().sum::<f64>() / 2.5;
        (sum * gain * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i32
    })
}

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
    assert!(stderr.contains("cut short"), "{stderr}");
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
        (&by_other, "and only ed25519:"),
        (&in_genre("genre.sori"), "sign it with `sori sign`"),
        (&altered, "changed after it was signed"),
    ] {
        let (code, why_not) = refusal(&sori(&["verify", "--key", key, file]));
        assert_eq!(code, 5);
        assert!(why_not.contains(why), "{why_not}");
    }
    let shown = text(&sori(&["inspect", &altered]).stdout);
    assert!(shown.contains("the signature does not hold"), "{shown}");
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
    assert!(why.contains("is there already and stays"), "{why}");
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
    assert!(code == 1 && why.contains("no secret Ed25519 key"), "{why}");
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
    assert!(text(&output.stderr).contains("k-pop is none of the labels"));
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
        &in_genre("demo"),
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
    assert_eq!(names, ["silence", "noise", "demo"]);
    assert_eq!(rejection[0]["rejected"]["share"], 1.0);
    let page = fs::read_to_string(page).unwrap();
    for part in [
        "What is taken for what",
        "Through a room",
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
        (vec!["--split", &empty], 1, "no lines"),
        (
            vec!["--split", &genre, "--fold", "3"],
            1,
            "no clip of that fold",
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
        (folder.at("missing"), "is no folder"),
        (in_genre("demo/jazz.flac"), "is no folder"),
        (folder.at(""), "no folder named after a label"),
        (in_genre("demo"), "no folder named after a label"),
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

fn quantize(onnx: &str, out: &str, more: &[&str]) -> Output {
    let calibration = in_genre("demo");
    let arguments = ["quantize", onnx, "--calib", &calibration, "--out", out];
    sori(&[&arguments[..], more].concat())
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
    let onnx = in_genre("genre.onnx");
    let output = quantize(&onnx, &plain, &["--report", &page]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = fs::read_to_string(&page).unwrap();
    for part in [
        "<svg",
        "worst ten layers",
        "cross-layer equalization",
        "Raspberry Pi 5",
        "@media print",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for from_elsewhere in ["<script", "<link", "src=", "url("] {
        assert!(!html.contains(from_elsewhere), "{from_elsewhere}");
    }
    assert!(quantize(&onnx, &pruned, &["--prune"]).status.success());
    let demo = in_genre("demo");
    let output = sori(&["compare", &plain, &pruned, "--on", &demo, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let same: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(same["largest_difference"], 0.0);
    assert_eq!(same["agreement"], 1.0);
}

#[test]
fn ranges_guessed_without_data_come_with_a_warning() {
    let folder = Folder::new();
    let out = folder.at("x.sori");
    let output = sori(&[
        "quantize",
        &in_genre("genre.onnx"),
        "--data-free",
        "--out",
        &out,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("WARNING"));
    assert!(text(&output.stdout).contains("no data was given"));
    let neither = sori(&["quantize", &in_genre("genre.onnx"), "--out", &out]);
    assert_eq!(neither.status.code(), Some(2));
}

#[test]
fn compare_sets_a_package_beside_its_float_network() {
    let (package, onnx) = (in_genre("genre.sori"), in_genre("genre.onnx"));
    let demo = in_genre("demo");
    let output = sori(&["compare", &onnx, &package, "--on", &demo]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("the same class on"), "{said}");
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
    let output = quantize(
        &in_genre("genre.onnx"),
        &folder.at("x.sori"),
        &["--gate", "sqnr=300"],
    );
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

    // 400 float rows of 64, as numpy.save would write them.
    fs::create_dir(&rows).unwrap();
    let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (400, 64), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{dict:117}\n").bytes());
    npy.extend((0..400 * 64).flat_map(|n| ((n * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()));
    fs::write(Path::new(&rows).join("a.npy"), npy).unwrap();
    let output = sori(&["quantize", &bare, "--calib", &rows, "--out", &out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (code, stderr) = refusal(&sori(&["classify", "--model", &out, &in_genre("demo")]));
    assert_eq!(code, 5);
    assert!(stderr.contains("no mel contract"), "{stderr}");
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
        "of static memory, exactly",
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
    assert!(shown.contains("of full speed"), "{shown}");
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
        "train it for input rows of 8, or give it more",
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    // Where fewer channels would do, that is offered too.
    let (code, stderr) = refusal(&sori(&["plan", &genre, "--arena", "12K", "--out", &out]));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("of the channels"), "{stderr}");
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
        error.contains("no program for a 32-bit Arm core"),
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
