//! What tests of the command share.
#![allow(dead_code, reason = "each of them uses a part")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) const RATE_HZ: u32 = 16_000;

pub(crate) fn in_genre(path: &str) -> String {
    let genre = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/genre");
    genre.join(path).to_str().expect("UTF-8").into()
}

pub(crate) fn command<S: AsRef<str>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

pub(crate) fn sori<S: AsRef<str>>(arguments: &[S]) -> Output {
    command(arguments).output().expect("the command starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The exit code, and stderr, which must be a single line and no panic's.
pub(crate) fn refusal(output: &Output) -> (i32, String) {
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    (output.status.code().expect("no signal"), stderr)
}

pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    let parsed = lines.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().expect("JSON")
}

/// A folder that is gone when the test ends, and the paths in it.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn at(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.to_str().expect("UTF-8").into()
    }

    pub(crate) fn wav(
        &self,
        name: &str,
        spec: hound::WavSpec,
        samples: impl IntoIterator<Item = i32>,
    ) {
        let mut writer = hound::WavWriter::create(self.at(name), spec).expect("writable");
        for sample in samples {
            writer.write_sample(sample).expect("writable");
        }
        writer.finalize().expect("writable");
    }

    pub(crate) fn entries(&self) -> usize {
        fs::read_dir(self.0.path()).expect("listable").count()
    }
}

pub(crate) fn spec(channels: u16, rate_hz: u32) -> hound::WavSpec {
    hound::WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    }
}

/// A chord with a peak near full scale times `gain`, clipped at full scale.
pub(crate) fn chord(rate_hz: u32, seconds: f64, gain: f64) -> impl Iterator<Item = i32> {
    let frames = (f64::from(rate_hz) * seconds) as usize;
    (0..frames).map(move |n| {
        let t = n as f64 / f64::from(rate_hz);
        let tones = [220.0, 277.2, 329.6].map(|hz| (std::f64::consts::TAU * hz * t).sin());
        let sum: f64 = tones.iter().sum::<f64>() / 2.5;
        (sum * gain * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i32
    })
}
