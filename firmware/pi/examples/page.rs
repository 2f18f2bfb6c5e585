//! The page with nothing behind it: a composed sound, verdicts by the clock, and a history
//! of two days. For looking at it, and for its tests in a browser.
//!
//! ```sh
//! cargo run -p sori-pi --example page -- 8080
//! cargo run -p sori-pi --example page -- 8080 no-microphone
//! cargo run -p sori-pi --example page -- 8080 token 0123456789abcdef
//! ```

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sori_listener::Event;
use sori_pi::board::{Board, Channels, Command, Heard, Latency, News, State, now_ms};
use sori_pi::config;
use sori_pi::history::{History, Span};
use sori_pi::meter::{FULL_SCALE, Meter};
use sori_pi::model::Model;
use sori_pi::page::{BUILT_IN_CARD, Shared, serve};

const RATE_HZ: u32 = 16_000;
/// Samples at once: an eighth of a second.
const BLOCK: u32 = RATE_HZ / 8;
/// Seconds of one verdict.
const TURN_S: u32 = 12;
const TURNS: [&str; 6] = ["jazz", "blues", "silence", "classical", "unknown", "reggae"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().position(|argument| argument == word);
    let port = arguments.first().map_or("8080", String::as_str);
    let page = config::Page {
        listen: SocketAddr::from(([127, 0, 0, 1], port.parse().context("the port")?)),
        token: has("token").and_then(|at| arguments.get(at + 1).cloned()),
    };
    let microphone = has("no-microphone").is_none();

    let folder = tempfile::tempdir()?;
    let history = folder.path().join("history.sqlite");
    let model = Arc::new(Model::built_in()?);
    let (board, commands) = Board::new();
    begin(&board, &model, microphone);
    if microphone {
        fill(&history)?;
        let (board, model) = (Arc::clone(&board), Arc::clone(&model));
        thread::spawn(move || listen(&board, &model));
    }
    let obeying = Arc::clone(&board);
    thread::spawn(move || {
        for command in commands {
            obey(&obeying, command);
        }
    });
    let shared = Shared {
        board,
        history,
        model: Arc::new(RwLock::new(model)),
        card: BUILT_IN_CARD.into(),
        doctor: Arc::new(doctor),
        metrics: Some(Arc::new(|| "# TYPE sori_up gauge\nsori_up 1\n".into())),
    };

    let (ended, end) = tokio::sync::oneshot::channel();
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    thread::spawn(move || {
        signals.forever().next();
        let _ = ended.send(());
    });
    println!("http://{}", page.listen);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(page, shared, async {
        let _ = end.await;
    }));
    runtime.shutdown_background();
    served
}

fn begin(board: &Board, model: &Model, microphone: bool) {
    board.update(|status| {
        status.capture.device = "hw:CARD=sndrpigooglevoi,DEV=0".into();
        status.recognizer.name = model.name.clone();
        status.recognizer.labels = model.labels.clone();
        status.recognizer.bands = model.bands;
        status.recognizer.rows_per_second = model.rows_per_second;
        status.recognizer.backend = Model::backend();
        status.temperature_c = Some(51.5);
        if microphone {
            status.capture.state = State::Listening;
            status.capture.rate_hz = 48_000;
            status.capture.channels = 2;
            status.history.written = 2_880;
            status.latency = Latency {
                p50_s: 0.0021,
                p99_s: 0.0034,
                count: 4_000,
                sum_s: 8.6,
                sound_s: 500.0,
            };
        } else {
            status.capture.state = State::NoMicrophone;
            status.capture.problem = Some(
                "there is no capture device: check the wiring, and that config.txt has \
                 dtoverlay=googlevoicehat-soundcard"
                    .into(),
            );
        }
    });
}

fn obey(board: &Board, command: Command) {
    match command {
        Command::Mute(muted) => {
            board.update(|status| {
                status.capture.state = if muted {
                    State::Muted
                } else {
                    State::Listening
                };
            });
            board.set_muted(muted);
        }
        Command::Confirm => {
            if let Some(heard) = board.status().heard {
                board.publish(News::Confirmed(Arc::new(heard)));
            }
        }
    }
}

fn doctor() -> serde_json::Value {
    thread::sleep(Duration::from_millis(500));
    serde_json::json!([
        {
            "severity": "error",
            "what": "The left channel is all zeros.",
            "why": "Nothing drives the data line in that half of the frame: L/R is tied to 3V3, or the pin floats.",
            "type": "sori-pi mic test --channel 1"
        },
        {
            "severity": "warning",
            "what": "The sound is quiet: -58 dBFS.",
            "why": "It is enough to be recognized. Nearer to the loudspeaker it would be better.",
            "type": null
        },
        {
            "severity": "ok",
            "what": "config.txt has the microphone's overlay.",
            "why": null,
            "type": null
        }
    ])
}

/// Rows are the real ones of a composed sound, at its own speed; verdicts go by the clock.
fn listen(board: &Board, model: &Model) {
    let mut meters = [Meter::new(RATE_HZ), Meter::new(RATE_HZ)];
    let mut n = 0;
    let start = Instant::now();
    let mut span_ms = now_ms();
    let ended = model.listen(RATE_HZ, |mut listener| -> std::convert::Infallible {
        loop {
            let samples: Vec<i32> = (n..n + BLOCK).map(sound).collect();
            n += BLOCK;
            thread::sleep((start + Duration::from_millis(u64::from(n / 16))) - Instant::now());
            if board.is_muted() {
                continue;
            }
            listener.push(&samples, &mut |event| {
                if let Event::Row { features, .. } = event {
                    board.publish(News::Row(features.into()));
                }
            });
            for sample in samples {
                meters[0].push(0);
                meters[1].push(sample);
            }
            let turn = n / RATE_HZ / TURN_S;
            let verdict = TURNS[turn as usize % TURNS.len()];
            if n % (RATE_HZ / 2) == 0 {
                board.publish(News::Heard(Arc::new(heard(verdict, model, n))));
            }
            if n % RATE_HZ == 0 {
                let readings = meters.iter_mut().filter_map(Meter::take).collect();
                board.publish(News::Channels(Arc::new(Channels {
                    readings,
                    chosen: 1,
                })));
                board.update(|status| status.capture.frames += 48_000);
            }
            if n % (RATE_HZ * TURN_S) == 0 {
                board.publish(News::Span(Arc::new(Span {
                    started_ms: span_ms,
                    seconds: f64::from(TURN_S),
                    verdict: verdict.into(),
                    confidence: (verdict != "silence").then_some(0.8),
                    level_dbfs: -41.0,
                    confirmed: false,
                })));
                span_ms = now_ms();
            }
        }
    });
    let Err(error) = ended;
    eprintln!("{error}");
}

fn heard(verdict: &str, model: &Model, n: u32) -> Heard {
    let breath = (f64::from(n) / f64::from(RATE_HZ) * 0.7).sin() * 0.06;
    let labels = model.labels.iter();
    let weights: BTreeMap<String, f64> = labels
        .enumerate()
        .map(|(at, label)| {
            let rest = 0.2 + (at as f64 * 2.3 + f64::from(n) * 4e-5).sin().abs();
            let weight = if label == verdict {
                22.0 + 60.0 * breath
            } else {
                rest
            };
            (label.clone(), weight)
        })
        .collect();
    let sum: f64 = weights.values().sum();
    let probabilities: BTreeMap<_, _> = weights
        .into_iter()
        .map(|(label, weight)| (label, weight / sum))
        .collect();
    Heard {
        time_ms: now_ms(),
        verdict: verdict.into(),
        confidence: probabilities.get(verdict).copied(),
        probabilities,
        level_dbfs: if verdict == "silence" {
            -76.0
        } else {
            -41.0 + 40.0 * breath
        },
    }
}

/// A walking bass, chords on the off-beats, a melody and a brush; quiet in its turn.
fn sound(n: u32) -> i32 {
    let t = f64::from(n) / f64::from(RATE_HZ);
    let turn = n / RATE_HZ / TURN_S;
    let silent = TURNS[turn as usize % TURNS.len()] == "silence";
    let beat = t * 2.0;
    let within = beat.fract();
    let note = |semitones: f64| 110.0 * (semitones / 12.0).exp2();
    let tone = |hz: f64, overtones: u32| -> f64 {
        (1..=overtones)
            .take_while(|&k| hz * f64::from(k) < 7_000.0)
            .map(|k| (TAU * hz * f64::from(k) * t).sin() / f64::from(k * k))
            .sum()
    };
    let bass = [0.0, 4.0, 7.0, 9.0, 10.0, 9.0, 7.0, 4.0][beat as usize % 8];
    let melody = [
        24.0, 27.0, 31.0, 34.0, 33.0, 31.0, 29.0, 26.0, 22.0, 24.0, 36.0,
    ][(beat * 2.0) as usize % 11];
    let chord = [12.0, 16.0, 19.0, 22.0].map(|at| tone(note(at), 6));
    let noise = {
        let x = n.wrapping_mul(2_654_435_761);
        let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
        f64::from((x ^ (x >> 13)) >> 8) / f64::from(1 << 23) - 1.0
    };
    let music = 0.9 * tone(note(bass), 8) * (-3.0 * within).exp()
        + 0.12 * chord.iter().sum::<f64>() * (-5.0 * ((beat + 0.5).fract())).exp()
        + 0.35 * tone(note(melody), 12) * (-1.6 * (beat * 2.0).fract()).exp()
        + 0.12 * noise * (-18.0 * within).exp();
    let amplitude = if silent { 0.0 } else { 0.02 };
    ((amplitude * music + 0.00001 * noise) * FULL_SCALE) as i32
}

/// Two days: quiet nights, music by day, in stretches of at most a minute.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut history = History::new(path, 365);
    let now = now_ms();
    let minute = |n: i64| now - (2 * 24 * 60 - n) * 60_000;
    for n in 0..2 * 24 * 60 {
        let hour = minute(n) / 3_600_000 % 24;
        // Pieces of 17 minutes, by chance and the same each time.
        let piece = (n / 17) * 2_654_435_761 % 4_294_967_296 / 7_919;
        let verdict = match (hour, piece % 8) {
            (0..=5, _) | (_, 0) => "silence",
            (6..=9, 1..=4) => "classical",
            (6..=9, 5 | 6) => "unknown",
            (6..=9, _) => "pop",
            (10..=13, 1..=3) => "pop",
            (10..=13, 4 | 5) => "rock",
            (10..=13, 6) => "disco",
            (14..=17, 1 | 2) => "reggae",
            (14..=17, 3..=5) => "hiphop",
            (14..=17, 6) => "unknown",
            (14..=17, _) => "country",
            (_, 1 | 2) => "blues",
            (_, _) => "jazz",
        };
        history.push(Span {
            started_ms: minute(n),
            seconds: 60.0,
            verdict: verdict.into(),
            confidence: (verdict != "silence").then_some(0.55 + 0.4 * (n as f64).sin().abs()),
            level_dbfs: if verdict == "silence" { -78.0 } else { -44.0 },
            confirmed: false,
        });
    }
    history
        .write()
        .map_err(|delayed| anyhow::anyhow!("{delayed}"))
}
