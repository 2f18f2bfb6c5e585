//! `POST /classify`: a WAV file in, what a listener says of it out.
//!
//! The file is heard as it comes and is never in memory as a whole. One at a time: the
//! microphone has the other cores.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use sori_listener::{Clip, Decision, Event, Verdict};
use sori_sound::wav::Unsupported;
use sori_sound::{Layout, Reader, Unreadable};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::refusal::Refusal;
use super::{App, Limits};
use crate::board::SCHEMA_VERSION;
use crate::engine;
use crate::model::Model;

/// What WAV goes by.
const KINDS: [&str; 6] = [
    "audio/wav",
    "audio/x-wav",
    "audio/wave",
    "audio/vnd.wave",
    "audio/x-pn-wav",
    "application/octet-stream",
];

#[derive(Debug, Serialize)]
pub(super) struct Classified {
    schema_version: u32,
    verdict: String,
    /// Probability of the verdict; none for silence.
    confidence: Option<f64>,
    /// The most probable label, whatever the verdict.
    best: Option<String>,
    /// Mean over the file.
    probabilities: BTreeMap<String, f64>,
    /// The last decision of each second.
    seconds: Vec<Second>,
    duration_s: f64,
    rate_hz: u32,
    channels: usize,
    /// Level of the loudest row, dBFS.
    peak_dbfs: f64,
    /// What a person should know of the file.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Second {
    time_s: f64,
    verdict: String,
    confidence: Option<f64>,
    level_dbfs: f64,
}

pub(super) async fn classify(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Classified>, Refusal> {
    check_kind(&headers)?;
    let limits = &app.limits;
    let promised = headers.get(header::CONTENT_LENGTH);
    let promised = promised.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if promised.is_some_and(|length| length > limits.clip_bytes) {
        return Err(too_large(limits));
    }
    let permit = Arc::clone(&app.classifying).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Refusal::too_many(
            "another file is being classified: try again",
            Duration::from_secs(5),
        )
    })?;
    let model = app.shared.model();
    let (sender, receiver) = mpsc::channel(8);
    let most_seconds = limits.clip_seconds;
    let hearing = spawn_blocking(move || {
        let _permit = permit;
        hear(&model, Upload::new(receiver), most_seconds)
    });
    let all = async {
        let uploaded = upload(body, sender, limits).await;
        // Also where the upload failed: then this ends at once, and leaves room for the next.
        let heard = hearing.await;
        uploaded?;
        heard.unwrap_or_else(|_| {
            // Nothing is known that makes it panic; should it, the file is to blame.
            Err(unprocessable("the file is damaged: export it again"))
        })
    };
    match timeout(limits.clip, all).await {
        Ok(answer) => answer.map(Json),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the file took too long: send a shorter one",
        )),
    }
}

fn check_kind(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("none");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match KINDS
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
    {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "send a WAV file with Content-Type: audio/wav (this was {kind}): ffmpeg -i FILE out.wav creates one"
            ),
        )),
    }
}

fn too_large(limits: &Limits) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "the file is larger than {} bytes: send a shorter part, or fewer channels (ffmpeg -i FILE -t 60 -ac 1 out.wav)",
            limits.clip_bytes
        ),
    )
}

fn unprocessable(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

/// Hands the body on. It is read to its end even when nobody hears it any more: a client
/// that is still sending would not see the answer.
async fn upload(body: Body, sender: mpsc::Sender<Bytes>, limits: &Limits) -> Result<(), Refusal> {
    let mut parts = body.into_data_stream();
    let mut length = 0;
    loop {
        let part = timeout(limits.clip_stall, parts.next()).await;
        let part = part.map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the upload stalled: send the file again",
            )
        })?;
        let Some(part) = part else { return Ok(()) };
        let part = part
            .map_err(|_| Refusal::bad_request("the upload was interrupted: send the file again"))?;
        length += part.len() as u64;
        if length > limits.clip_bytes {
            return Err(too_large(limits));
        }
        let _ = sender.send(part).await;
    }
}

/// A body as a reader, for a thread that may wait.
struct Upload {
    parts: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Upload {
    fn new(parts: mpsc::Receiver<Bytes>) -> Self {
        Self {
            parts,
            part: Bytes::new(),
        }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        buffer[..length].copy_from_slice(&self.part.split_to(length));
        Ok(length)
    }
}

/// Hears a whole file, as the microphone's sound is heard.
fn hear(model: &Model, file: impl Read, most_seconds: u32) -> Result<Classified, Refusal> {
    let mut reader = Reader::new(file, None).map_err(no_wav)?;
    let layout = reader.layout();
    let most = u64::from(most_seconds) * u64::from(layout.rate_hz);
    let mut frames = 0;
    let mut summary = model.summary();
    let mut seconds: Vec<Second> = Vec::new();
    let mut on_event = |event: Event<'_>| {
        summary.observe(&event);
        if let Event::Decision(decision) = event {
            let said = second(decision, &model.labels);
            // Time of the first second is above 0 and up to 1.
            let of = |second: &Second| second.time_s.ceil() as u64;
            match seconds.last_mut() {
                Some(last) if of(last) == of(&said) => *last = said,
                _ => seconds.push(said),
            }
        }
    };
    let heard = model.listen(layout.rate_hz, |mut listener| {
        let mut block = Vec::new();
        // The upload cannot fail, so an error is its end.
        while matches!(reader.next_block(None, &mut block), Ok(true)) {
            frames += block.len() as u64;
            if frames > most {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the file is longer than {most_seconds} s: send a part of it"),
                ));
            }
            listener.push(&block, &mut on_event);
        }
        listener.finish(&mut on_event);
        Ok(())
    });
    heard.map_err(|error| {
        unprocessable(format!("{error} (the file has {} Hz)", layout.rate_hz))
    })??;
    let clip = summary.clip();
    if clip.rows == 0 {
        return Err(unprocessable(
            "the file has less than a tenth of a second of audio: send more",
        ));
    }
    let duration_s = frames as f64 / f64::from(layout.rate_hz);
    let mut warnings = Vec::new();
    if reader.is_cut() {
        warnings.push(format!(
            "the file is truncated: only its first {duration_s:.1} s were classified"
        ));
    }
    if reader.not_finite() > 0 {
        warnings.push(format!(
            "{} samples are NaN or infinite and count as 0",
            reader.not_finite()
        ));
    }
    Ok(Classified {
        seconds,
        duration_s,
        warnings,
        ..classified(&clip, model, layout)
    })
}

/// Without what follows from the file's length.
fn classified(clip: &Clip, model: &Model, layout: Layout) -> Classified {
    let confidence = engine::confidence(clip.verdict, &clip.probabilities_q15, &model.labels);
    let probabilities = clip.probabilities_q15.iter();
    let probabilities = probabilities.map(|&p| f64::from(p) / f64::from(1 << 15));
    Classified {
        schema_version: SCHEMA_VERSION,
        verdict: engine::name(clip.verdict, &model.labels).into(),
        confidence,
        best: clip
            .best
            .map(|best| engine::name(Verdict::Label(best), &model.labels).into()),
        probabilities: model.labels.iter().cloned().zip(probabilities).collect(),
        seconds: Vec::new(),
        duration_s: 0.0,
        rate_hz: layout.rate_hz,
        channels: layout.channels,
        peak_dbfs: f64::from(clip.peak_dbfs_q8) / 256.0,
        warnings: Vec::new(),
    }
}

fn second(decision: &Decision, labels: &[String]) -> Second {
    Second {
        time_s: decision.time_ms as f64 / 1000.0,
        verdict: engine::name(decision.verdict, labels).into(),
        confidence: engine::confidence(decision.verdict, &decision.probabilities_q15, labels),
        level_dbfs: f64::from(decision.level_dbfs_q8) / 256.0,
    }
}

fn no_wav(error: Unreadable) -> Refusal {
    match error {
        Unreadable::Wav(Unsupported::NotWav) => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this is not a WAV file: ffmpeg -i FILE out.wav creates one",
        ),
        Unreadable::Wav(Unsupported::Compressed { .. }) => unprocessable(
            "the WAV file is compressed: ffmpeg -i FILE -c:a pcm_s16le out.wav creates one that is not",
        ),
        Unreadable::Wav(unsupported) => unprocessable(format!(
            "the WAV file cannot be used: {unsupported}: ffmpeg -i FILE out.wav may repair it"
        )),
        _ => unprocessable("the file ends before its audio begins: export it again"),
    }
}

#[cfg(test)]
mod tests {
    use hound::{SampleFormat, WavSpec};

    use super::*;

    const FULL_SCALE: f32 = sori_sound::FULL_SCALE as f32;

    /// The last channel has the sound times the number of channels, the others nothing: the
    /// mean is the same however many there are.
    fn wav(spec: WavSpec, mono: &[i32]) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for &sample in mono {
            for channel in 1..=spec.channels {
                let sample = i64::from(sample)
                    * i64::from(channel / spec.channels)
                    * i64::from(spec.channels);
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(sample as f32 / FULL_SCALE).unwrap(),
                    SampleFormat::Int => {
                        let scaled = match spec.bits_per_sample {
                            bits @ ..=24 => sample >> (24 - bits),
                            bits => sample << (bits - 24),
                        };
                        writer.write_sample(scaled as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn spec(rate_hz: u32, channels: u16, bits: u16, format: SampleFormat) -> WavSpec {
        WavSpec {
            channels,
            sample_rate: rate_hz,
            bits_per_sample: bits,
            sample_format: format,
        }
    }

    /// Three notes and their overtones, multiples of 2^8 so that 16 bits hold them.
    fn chord(rate_hz: u32, seconds: u32) -> Vec<i32> {
        (0..rate_hz * seconds)
            .map(|n| {
                let at = |hz: f64| {
                    (f64::from(n) * hz * std::f64::consts::TAU / f64::from(rate_hz)).sin()
                };
                let sum = at(220.0) + at(277.2) + at(329.6) + 0.5 * at(660.0) + 0.3 * at(1320.0);
                ((sum * 1000.0) as i32) << 8
            })
            .collect()
    }

    #[test]
    fn every_form_of_a_sound_gives_the_listener_s_own_answer() {
        let model = Model::built_in().unwrap();
        for rate_hz in [16_000, 44_100] {
            let sound = chord(rate_hz, 4);
            let mut summary = model.summary();
            let mut verdicts = Vec::new();
            let mut on_event = |event: Event<'_>| {
                summary.observe(&event);
                if let Event::Decision(decision) = event {
                    verdicts.push(engine::name(decision.verdict, &model.labels).to_string());
                }
            };
            model
                .listen(rate_hz, |mut listener| {
                    listener.push(&sound, &mut on_event);
                    listener.finish(&mut on_event);
                })
                .unwrap();
            let clip = summary.clip();
            let verdict = engine::name(clip.verdict, &model.labels);
            for (bits, channels, format) in [
                (16, 1, SampleFormat::Int),
                (16, 2, SampleFormat::Int),
                (24, 1, SampleFormat::Int),
                (32, 4, SampleFormat::Int),
                (32, 1, SampleFormat::Float),
            ] {
                let spec = spec(rate_hz, channels, bits, format);
                let answer = hear(&model, wav(spec, &sound).as_slice(), 600).expect("a WAV file");
                assert_eq!(answer.verdict, verdict, "{spec:?}");
                for (label, &p) in model.labels.iter().zip(&clip.probabilities_q15) {
                    let p = f64::from(p) / f64::from(1 << 15);
                    assert_eq!(answer.probabilities[label], p, "{spec:?} {label}");
                }
                assert_eq!(answer.duration_s, 4.0);
                assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
                let said: Vec<_> = answer.seconds.iter().map(|s| &s.verdict).collect();
                assert!((3..=5).contains(&said.len()), "{:?}", answer.seconds);
                assert_eq!(said.last(), verdicts.last().as_ref());
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let model = Model::built_in().unwrap();
        let good = wav(spec(16_000, 1, 16, SampleFormat::Int), &chord(16_000, 2));
        let refused = |bytes: &[u8]| hear(&model, bytes, 600).expect_err("a bad file");
        for (bytes, status, words) in [
            (&b"ID3\x03 not a wav at all"[..], 415, "not a WAV file"),
            (b"", 422, "ends before"),
            (&good[..20], 422, "ends before"),
            (&good[..44], 422, "tenth of a second"),
            (&good[..44 + 900], 422, "tenth of a second"),
        ] {
            let refusal = refused(bytes);
            assert_eq!(refusal.status(), status, "{refusal:?}");
            assert!(refusal.message().contains(words), "{refusal:?}");
        }
        let slow = wav(spec(4_000, 1, 16, SampleFormat::Int), &chord(4_000, 2));
        let refusal = refused(&slow);
        assert!(refusal.message().contains("4000 Hz"), "{refusal:?}");
        let mut adpcm = good.clone();
        adpcm[20] = 2;
        assert!(refused(&adpcm).message().contains("compressed"));
        // Seconds are counted, not believed.
        let refusal = hear(&model, good.as_slice(), 1).expect_err("too long");
        assert_eq!(refusal.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // What is there of a file that is cut is heard.
        let cut = hear(&model, &good[..good.len() / 2 + 1], 600).expect("a part");
        assert!(cut.warnings[0].contains("truncated"), "{:?}", cut.warnings);
        let nan = [f32::NAN, f32::INFINITY].repeat(4000);
        let mut bytes = wav(spec(16_000, 1, 32, SampleFormat::Float), &vec![0; 8000]);
        let start = bytes.len() - 32_000;
        for (bytes, x) in bytes[start..].chunks_exact_mut(4).zip(nan) {
            bytes.copy_from_slice(&x.to_le_bytes());
        }
        let answer = hear(&model, bytes.as_slice(), 600).expect("silence");
        assert_eq!(answer.verdict, "silence");
        assert!(
            answer.warnings[0].contains("8000 samples"),
            "{:?}",
            answer.warnings
        );
    }

    #[test]
    fn no_damage_of_a_file_is_more_than_a_bad_file() {
        let model = Model::built_in().unwrap();
        let good = wav(
            spec(16_000, 2, 16, SampleFormat::Int),
            &chord(16_000, 1)[..1600],
        );
        for at in 0..60 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                // Any answer will do but a panic.
                let _ = hear(&model, bytes.as_slice(), 600);
            }
        }
    }
}
