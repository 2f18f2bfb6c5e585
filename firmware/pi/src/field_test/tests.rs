//! A playlist through a simulated room.

use std::f64::consts::TAU;
use std::fs;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use sori_beeps::room::{Noise, Room, drift};

use super::*;
use crate::engine::Layout;
use crate::meter::FULL_SCALE;
use crate::model::Model;

const LABELS: [&str; 3] = ["classical", "metal", "reggae"];

fn labels() -> Vec<String> {
    LABELS.map(String::from).to_vec()
}

fn write_wav(path: &Path, rate_hz: u32, channels: u16, samples: impl Iterator<Item = f64>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// Two clips a label, of several rates and loudnesses.
fn clips(folder: &Path) {
    let mut noise = Noise::new(5);
    for (n, label) in LABELS.into_iter().enumerate() {
        for (m, rate_hz) in [16_000, 44_100].into_iter().enumerate() {
            let tempo = 1.5 + (n + 2 * m) as f64;
            let pitch = 110.0 * 1.26f64.powi((2 * n + m) as i32);
            let gain = [0.5, 0.02][m];
            let sound = (0..rate_hz * 3).map(|k| {
                let t = f64::from(k) / f64::from(rate_hz);
                let beat = (-8.0 * (t * tempo).fract()).exp();
                let chord: f64 = [1.0, 1.25, 1.5, 2.0]
                    .iter()
                    .map(|ratio| (TAU * pitch * ratio * t).sin())
                    .sum();
                gain * beat * (0.2 * chord + 0.1 * n as f64 * noise.even())
            });
            let path = folder.join(label).join(format!("{m}.wav"));
            write_wav(&path, rate_hz as u32, 1, sound);
        }
    }
}

struct Test {
    folder: tempfile::TempDir,
    manifest: Manifest,
    /// What a speaker plays.
    played: Vec<f64>,
}

impl Test {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        clips(&folder.path().join("clips"));
        let out = folder.path().join("playlist.wav");
        let (manifest, path) = make(&folder.path().join("clips"), &labels(), &out).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), manifest);
        let played = WavReader::open(&out).unwrap().into_samples::<i16>();
        let played = played.map(|sample| f64::from(sample.unwrap()) / 32_768.0);
        Self {
            played: played.collect(),
            manifest,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a microphone says of it, 24 bits: the right channel of two; the left is dead.
    fn through(&self, before_s: f64, ppm: f64, gain: f64, noise: f64) -> Vec<i32> {
        let mut sound = vec![0.0; (before_s * 48_000.0) as usize];
        sound.extend(Room::new(3, 0.5, 0.5).hear(&self.played));
        sound.resize(sound.len() + 48_000 * 5, 0.0);
        let mut hiss = Noise::new(9);
        drift(&sound, ppm)
            .into_iter()
            .flat_map(|x| {
                let sample = gain * x + noise * hiss.sample() + 0.01;
                [0, (sample.clamp(-1.0, 1.0) * (FULL_SCALE - 1.0)) as i32]
            })
            .collect()
    }

    fn record(&self, frames: &[i32], patience_s: f64) -> Result<PathBuf, Trouble> {
        let path = self.path("recording.wav");
        let layout = Layout {
            rate_hz: 48_000,
            channels: 2,
        };
        let mut pieces = frames.chunks(2 * 1024);
        let source = |buffer: &mut Vec<i32>| {
            let piece = pieces.next();
            buffer.extend(piece.unwrap_or_default());
            Ok(piece.is_some())
        };
        let mut log = Vec::new();
        record(&self.manifest, layout, source, patience_s, &path, &mut log)?;
        assert!(String::from_utf8(log).unwrap().contains("clip 1 of 6"));
        Ok(path)
    }
}

/// -40 dB, and noise 20 dB below the clips, which have -20 dBFS.
const QUIET: f64 = 0.01;
const HISS: f64 = 1e-4;

#[test]
fn every_clip_is_found_in_a_room_with_noise_and_another_clock() {
    let test = Test::new();
    let model = Model::built_in().unwrap();
    for (before_s, ppm) in [(2.7, 100.0), (0.0, -200.0), (31.3, 200.0)] {
        let frames = test.through(before_s, ppm, QUIET, HISS);
        let recording = test.record(&frames, 60.0).unwrap();
        let report = judge(&model, &test.manifest, &recording, None).unwrap();
        assert!(report.is_complete());
        // What was kept begins five seconds before the recorder noticed the beep; where is
        // told by the beep itself. Clips are to be found relative to it.
        let alignment = Alignment::find(&recording, &test.manifest).unwrap();
        let scale = 1.0 + ppm / 1e6;
        for (line, clip) in report.clips.iter().zip(&test.manifest.clips) {
            let since_beep = (clip.start_s - test.manifest.start_beep_s) * scale;
            let found = line.heard.as_ref().unwrap().start_s - alignment.start_s;
            assert!((found - since_beep).abs() < 0.005, "{ppm}: {line:?}");
        }
        let drift_ppm = report.drift_ppm.expect("the end beep was heard");
        assert!((drift_ppm - ppm).abs() < 30.0, "{ppm}: {drift_ppm}");
        let (level, snr) = (report.level_dbfs.unwrap(), report.snr_db.unwrap());
        assert!((-64.0..-56.0).contains(&level), "{level}");
        assert!((16.0..24.0).contains(&snr), "{snr}");
        assert_eq!(report.files.unwrap().of, 6);
    }
}

/// The same, where the recording is a file of somebody else's from beginning to end, so that
/// places are known.
#[test]
fn places_are_right_within_20_ms() {
    let test = Test::new();
    let (before_s, ppm) = (2.7, 100.0);
    let frames = test.through(before_s, ppm, QUIET, HISS);
    let recording = test.path("whole.wav");
    let spec = WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 24,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::create(&recording, spec).unwrap();
    for &sample in &frames {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    let alignment = Alignment::find(&recording, &test.manifest).unwrap();
    assert_eq!(alignment.channel, 1);
    for clip in &test.manifest.clips {
        let expected = (before_s + Room::DELAY_S + clip.start_s) * (1.0 + ppm / 1e6);
        let found = alignment.place_s(&test.manifest, clip.start_s);
        assert!((found - expected).abs() < 0.02, "{found} is not {expected}");
    }
}

#[test]
fn the_report_is_text_and_json_with_accuracy_and_confusion() {
    let test = Test::new();
    let model = Model::built_in().unwrap();
    let recording = test
        .record(&test.through(1.0, 0.0, 0.5, 1e-5), 60.0)
        .unwrap();
    let report = judge(&model, &test.manifest, &recording, None).unwrap();
    let mut text = Vec::new();
    report.write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in [
        "through the microphone  ",
        "straight from the files ",
        "of 6 right: ",
        "(95 %: ",
        "the same answer to ",
        "SNR ",
        "the clocks differ by ",
        "clips  right",
        "\nreggae ",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let mut json = Vec::new();
    report.write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["microphone"]["of"], 6);
    let row = json["confusion"]["reggae"].as_object().unwrap();
    assert_eq!(row.values().filter_map(|n| n.as_u64()).sum::<u64>(), 2);
    assert!(!text.contains("overloaded"), "{text}");
    // Far too loud: found all the same, and told.
    let recording = test
        .record(&test.through(1.0, 0.0, 8.0, 1e-5), 60.0)
        .unwrap();
    let loud = judge(&model, &test.manifest, &recording, None).unwrap();
    let mut text = Vec::new();
    loud.write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("overloaded the microphone"), "{text}");
    // Without the files there is no comparison, and it is said how to get one.
    let report = judge(&model, &test.manifest, &recording, Some(&test.path("none"))).unwrap();
    let mut text = Vec::new();
    report.write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(report.files.is_none() && text.contains("--clips"), "{text}");
}

#[test]
fn without_a_beep_it_is_said_what_to_do() {
    let test = Test::new();
    let mut hiss = Noise::new(4);
    let noise: Vec<i32> = (0..48_000 * 20)
        .map(|_| (1000.0 * hiss.sample()) as i32)
        .collect();
    let trouble = test.record(&noise, 5.0).expect_err("no beep");
    let text = trouble.to_string();
    assert!(
        matches!(trouble, Trouble::NoBeep { seconds, .. } if seconds < 6.0),
        "{text}"
    );
    assert!(text.contains("louder or nearer"), "{text}");
    let trouble = test.record(&[0; 48_000 * 8], 60.0).expect_err("nothing");
    assert!(trouble.to_string().contains("mic doctor"), "{trouble}");
    let recording = test.path("noise.wav");
    write_wav(
        &recording,
        48_000,
        1,
        noise.iter().map(|&x| f64::from(x) / 1e5),
    );
    let model = Model::built_in().unwrap();
    let trouble = judge(&model, &test.manifest, &recording, None).expect_err("no beep");
    assert!(matches!(trouble, Trouble::NoBeep { .. }), "{trouble}");
}

#[test]
fn a_recording_that_was_cut_short_says_which_clips_are_missing() {
    let test = Test::new();
    let model = Model::built_in().unwrap();
    let mut frames = test.through(1.0, 50.0, QUIET, HISS);
    let cut = |frames: &mut Vec<i32>, clip: usize| {
        let until_s = 1.0 + test.manifest.clips[clip].start_s + 1.0;
        frames.truncate(2 * (until_s * 48_000.0) as usize);
    };
    cut(&mut frames, 4);
    let recording = test.record(&frames, 60.0).unwrap();
    let report = judge(&model, &test.manifest, &recording, None).unwrap();
    assert_eq!(report.missing, ["reggae/0.wav", "reggae/1.wav"]);
    assert_eq!(report.microphone.unwrap().of, 4);
    let mut text = Vec::new();
    report.write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("missing clips: reggae/0.wav, reggae/1.wav"),
        "{text}"
    );
    assert!(text.contains("no end beep"), "{text}");
    cut(&mut frames, 0);
    let recording = test.record(&frames, 60.0).unwrap();
    let trouble = judge(&model, &test.manifest, &recording, None).expect_err("nothing");
    assert!(matches!(trouble, Trouble::NoClip { .. }), "{trouble}");
}

#[test]
fn sound_that_was_lost_on_the_way_is_told() {
    let test = Test::new();
    let model = Model::built_in().unwrap();
    let mut frames = test.through(1.0, 0.0, QUIET, HISS);
    let lost = 2 * 48_000 * 15;
    frames.drain(lost..lost + 48_000);
    let recording = test.record(&frames, 60.0).unwrap();
    let report = judge(&model, &test.manifest, &recording, None).unwrap();
    let late_s = report.slipped_s.expect("half a second is lost");
    assert!((late_s + 0.5).abs() < 0.01, "{late_s}");
}

#[test]
fn what_cannot_be_played_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let clips = folder.path().join("clips");
    let out = folder.path().join("playlist.wav");
    let refused = || {
        make(&clips, &labels(), &out)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused().contains("clips"), "{}", refused());
    fs::create_dir_all(clips.join("reggae")).unwrap();
    assert!(refused().contains("LABEL/name.wav"), "{}", refused());
    let tone = |seconds: usize| (0..8_000 * seconds).map(|n| 0.1 * (n as f64).sin());
    write_wav(&clips.join("polka/a.wav"), 8_000, 1, tone(2));
    let text = refused();
    assert!(
        text.contains("polka") && text.contains("classical, metal, reggae"),
        "{text}"
    );
    fs::remove_dir_all(clips.join("polka")).unwrap();
    fs::write(clips.join("reggae/a.flac"), b"fLaC").unwrap();
    assert!(
        refused().contains("ffmpeg -i X.flac X.wav"),
        "{}",
        refused()
    );
    fs::remove_file(clips.join("reggae/a.flac")).unwrap();
    let path = clips.join("reggae/a.wav");
    fs::write(&path, b"RIFF, or so it says").unwrap();
    assert!(refused().contains("a.wav"), "{}", refused());
    write_wav(&path, 8_000, 1, tone(0));
    assert!(refused().contains("at least one second"), "{}", refused());
    write_wav(&path, 8_000, 1, std::iter::repeat_n(0.0, 16_000));
    assert!(refused().contains("silent"), "{}", refused());
    // A folder's case does not matter; what is no clip is passed over.
    fs::remove_dir_all(clips.join("reggae")).unwrap();
    write_wav(&clips.join("Reggae/a.WAV"), 8_000, 2, tone(4));
    fs::write(clips.join("Reggae/cover.jpg"), b"").unwrap();
    let (manifest, _) = make(&clips, &labels(), &out).unwrap();
    assert_eq!(manifest.clips[0].label, "reggae");
    assert!((manifest.clips[0].seconds - 2.0).abs() < 0.001);
}

#[test]
fn a_manifest_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.json");
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        Manifest::read(&path).expect_err(text).to_string()
    };
    assert!(refused("{}").contains("m.json"));
    let with = |version: u32, start: f64| {
        format!(
            "{{\"schema_version\":{version},\"folder\":\"x\",\"start_beep_s\":1,\"end_beep_s\":9,\
             \"clips\":[{{\"file\":\"a\",\"label\":\"jazz\",\"start_s\":{start},\"seconds\":5}}]}}"
        )
    };
    assert!(refused(&with(9, 3.0)).contains("another version"));
    assert!(refused(&with(1, 0.5)).contains("overlap"));
    assert!(refused(&with(1, 8.0)).contains("between its beeps"));
    fs::write(&path, with(1, 3.0)).unwrap();
    let manifest = Manifest::read(&path).unwrap();
    // A label of another package.
    let model = Model::built_in().unwrap();
    let other = Manifest {
        clips: vec![Clip {
            label: "polka".into(),
            ..manifest.clips[0].clone()
        }],
        ..manifest
    };
    let trouble = judge(&model, &other, &path, None).expect_err("no such label");
    assert!(trouble.to_string().contains("polka"), "{trouble}");
}

/// `SORI_CLIPS=FOLDER cargo test -p sori-pi real_clips -- --ignored --nocapture`
#[test]
#[ignore = "needs clips that are not here"]
fn real_clips_through_a_room() {
    let clips = PathBuf::from(std::env::var_os("SORI_CLIPS").expect("a folder of clips"));
    let model = Model::built_in().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("playlist.wav");
    let (manifest, _) = make(&clips, &model.labels, &out).unwrap();
    let played = WavReader::open(&out).unwrap().into_samples::<i16>();
    let test = Test {
        played: played.map(|x| f64::from(x.unwrap()) / 32_768.0).collect(),
        manifest,
        folder,
    };
    let frames = test.through(2.7, 100.0, QUIET, HISS);
    let path = test.path("recording.wav");
    let layout = Layout {
        rate_hz: 48_000,
        channels: 2,
    };
    let mut recorder = Recorder::new(&test.manifest, layout, &path).unwrap();
    recorder.push(&frames).unwrap();
    recorder.finish().unwrap();
    let report = judge(&model, &test.manifest, &path, None).unwrap();
    report.write_text(&mut std::io::stdout()).unwrap();
    println!("beep {:.2}", report.beep_score);
}
