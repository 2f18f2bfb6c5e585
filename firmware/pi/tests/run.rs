//! `sori-pi run` as a user has it: the real binary on the real alsa-lib, and every fault.
//!
//! Decisions are to be back within two seconds of a cause's end.

mod mosquitto;
mod preload;
mod shim;
mod sori;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mosquitto::{Broker, Watcher, free_port};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use shim::Microphone;
use sori::{Sori, configure, is_foreign, music};
use sori_pi::history::{self, Query, Span};
use sori_sign::SecretKey;

/// Within two seconds, and two more for a machine that is busy with other tests.
const BACK: Duration = Duration::from_secs(4);

const MIC: &str = "[microphone]\ndevice = \"mic\"";

/// Left is dead; right plays a clip at -26 dBFS beside a large offset.
fn microphone(clip: &str) -> Microphone {
    let music = music(clip);
    Microphone::new(move |n| [0, 300_000_000 + music(n) / 8])
}

/// A runner that hears jazz through a real ALSA device, after its first decision.
fn listening(folder: &Path, microphone: &Microphone, more: &str) -> Sori {
    let more = format!("{MIC}\n{more}");
    let sori = Sori::start(folder, free_port(), &more, |command| {
        microphone.prepare(command);
    });
    sori.decision();
    sori
}

fn spans(path: &Path) -> Vec<Span> {
    let mut spans = Vec::new();
    history::read(path, &Query::default(), |span| {
        spans.push(span);
        Ok(())
    })
    .expect("a history");
    spans
}

/// How long until decisions are there again, from now on.
fn until_decision(sori: &Sori) -> Duration {
    sori.forget();
    sori.decision().1
}

#[tokio::test]
async fn a_device_with_a_dead_channel_and_an_offset_is_heard_rightly_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let jazz = microphone("jazz.flac");
    let more = format!(
        "{MIC}\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}",
        broker.port
    );
    let mut sori = Sori::start(folder.path(), free_port(), &more, |command| {
        jazz.prepare(command);
    });
    sori.line("jazz on stdout", |line| {
        let sure = line["confidence"].as_f64().is_some_and(|p| p > 0.3);
        line["type"] == "heard" && line["verdict"] == "jazz" && sure
    });
    let status = sori.until("the page knows", |status| {
        status["heard"]["verdict"] == "jazz"
    });
    assert_eq!(status["channels"]["chosen"], 1, "{status:#}");
    assert_eq!(status["capture"]["rate_hz"], 48_000);
    let page = sori.get("/").expect("a page");
    assert!(page.contains("<html"), "{page}");
    mosquitto::until("the broker knows", || {
        let topic = mosquitto_topic(&watcher, "/heard");
        let heard: Option<Value> = watcher
            .latest(&topic)
            .and_then(|text| serde_json::from_slice(&text).ok());
        heard.is_some_and(|heard| heard["verdict"] == "jazz")
    })
    .await;
    // What it took of a core, for the record.
    let latency = &status["latency"];
    println!("latency {latency}");
    let took = sori.stop();
    assert!(took < BACK, "{took:?}\n{}", sori.log());
    let kept = spans(&sori.history());
    assert!(kept.iter().any(|span| span.verdict == "jazz"), "{kept:?}");
    mosquitto::until("it said goodbye", || {
        watcher.text(&mosquitto_topic(&watcher, "/state")) == "offline"
    })
    .await;
}

fn mosquitto_topic(watcher: &Watcher, end: &str) -> String {
    let topics = watcher.topics();
    let topic = topics
        .iter()
        .find(|topic| topic.starts_with("sori/") && topic.ends_with(end));
    topic.cloned().unwrap_or_else(|| format!("sori/?{end}"))
}

#[test]
fn a_microphone_that_fails_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    jazz.fail("ebusy");
    let mut sori = Sori::start(folder.path(), free_port(), MIC, |command| {
        jazz.prepare(command);
    });
    sori.until("it says why", |status| {
        status["capture"]["state"] == "no-microphone"
    });
    jazz.heal();
    let back = until_decision(&sori);
    assert!(back < BACK, "EBUSY: {back:?}");
    for (fault, counter) in [("epipe 3", "overruns"), ("estrpipe 1", "suspends")] {
        let before = sori.status().expect("a page")["capture"][counter].clone();
        jazz.fail(fault);
        sori.until(fault, |status| {
            status["capture"][counter].as_u64() > before.as_u64()
        });
        let back = until_decision(&sori);
        assert!(back < BACK, "{fault}: {back:?}");
        jazz.heal();
    }
    for (fault, seconds) in [("enodev", 30), ("silent", 6)] {
        jazz.fail(fault);
        sori.until(fault, |status| {
            status["capture"]["state"] == "no-microphone"
        });
        std::thread::sleep(Duration::from_secs(seconds));
        jazz.heal();
        let back = until_decision(&sori);
        assert!(back < BACK, "{fault}: {back:?}");
    }
    jazz.fail("short 64");
    sori.forget();
    for _ in 0..4 {
        sori.decision();
    }
    let took = sori.stop();
    assert!(took < BACK, "{took:?}");
}

#[test]
fn a_disk_that_is_full_a_lock_and_damage_lose_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::create_dir(&path).unwrap();
    let jazz = microphone("jazz.flac");
    let library = preload::library("sori/system.c", folder.path());
    let more = MIC;
    let port = free_port();
    configure(folder.path(), port, more);
    let text = fs::read_to_string(folder.path().join("sori-pi.toml")).unwrap();
    let history = path.join("history.sqlite");
    let text = text.replace("history.sqlite", "disk/history.sqlite");
    let start = || {
        Sori::start(folder.path(), port, more, |command| {
            fs::write(folder.path().join("sori-pi.toml"), &text).unwrap();
            jazz.prepare(command);
            preload::add(command, &library).env("SORI_FULL", &path);
        })
    };
    let mut sori = start();
    // A span ends when it is muted.
    let span = |sori: &Sori| {
        sori.decision();
        post(sori, "/api/mute", "{\"muted\":true}");
        sori.line("a span", |line| line["type"] == "span");
        post(sori, "/api/mute", "{\"muted\":false}");
        sori.forget();
    };
    let written = |sori: &Sori, least: u64| {
        sori.until("it is written", |status| {
            status["history"]["written"]
                .as_u64()
                .is_some_and(|n| n >= least)
                && status["history"]["waiting"] == 0
        });
    };
    span(&sori);
    written(&sori, 1);

    fs::write(path.join("full"), "").unwrap();
    span(&sori);
    sori.until("the problem is told", |status| {
        let problem = status["history_problem"].as_str().unwrap_or_default();
        problem.contains("disk is full")
    });
    // It goes on deciding.
    sori.decision();
    fs::remove_file(path.join("full")).unwrap();
    written(&sori, 2);

    let lock = Connection::open(&history).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    span(&sori);
    sori.until("the lock is told", |status| {
        let problem = status["history_problem"].as_str().unwrap_or_default();
        problem.contains("another program")
    });
    lock.execute_batch("COMMIT").unwrap();
    drop(lock);
    written(&sori, 3);

    // As a power cut may leave it.
    sori.stop();
    let rows = spans(&history).len();
    assert!(rows >= 3, "{rows}");
    fs::write(&history, "no database any more".repeat(1000)).unwrap();
    let mut sori = start();
    span(&sori);
    sori.until("it was set aside", |status| {
        status["history"]["set_aside"] == 1
    });
    written(&sori, 1);
    assert!(path.join("history.sqlite.damaged-1").exists());

    // Told to stop while it is locked, it leaves beside the database what it cannot write.
    let lock = Connection::open(&history).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    sori.forget();
    sori.decision();
    sori.stop();
    assert!(
        path.join("history.sqlite.waiting").exists(),
        "{}",
        sori.log()
    );
    lock.execute_batch("COMMIT").unwrap();
    drop(lock);
    let before = spans(&history).len();
    let mut sori = start();
    sori.until("it is taken up", |status| {
        status["history"]["written"].as_u64() > Some(0)
    });
    assert!(!path.join("history.sqlite.waiting").exists());
    assert!(spans(&history).len() > before);
    sori.stop();
}

fn post(sori: &Sori, path: &str, body: &str) {
    use std::io::{Read as _, Write as _};
    let mut peer = std::net::TcpStream::connect(("127.0.0.1", sori.port)).expect("a page");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    peer.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn a_broker_that_was_away_gets_every_span() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let jazz = microphone("jazz.flac");
    let more = format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.port);
    let mut sori = listening(folder.path(), &jazz, &more);
    sori.until("it is connected", |status| {
        status["broker"]["connected"] == true
    });
    broker.stop();
    sori.until("it knows", |status| status["broker"]["connected"] == false);
    for muted in [true, false].repeat(3) {
        sori.forget();
        if muted {
            sori.decision();
        }
        post(&sori, "/api/mute", &format!("{{\"muted\":{muted}}}"));
        if muted {
            sori.line("a span", |line| line["type"] == "span");
        }
    }
    broker.start_again();
    sori.until("it is connected again", |status| {
        status["broker"]["connected"] == true && status["broker"]["connections"].as_u64() > Some(1)
    });
    mosquitto::until("three spans came", || {
        let topic = mosquitto_topic(&watcher, "/span");
        watcher.all(&topic).len() >= 3
    })
    .await;
    sori.stop();
}

#[test]
fn a_package_is_taken_when_it_proves_itself_and_refused_when_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    let package = folder.path().join("new.sori");
    let genre = include_bytes!("../../../models/genre/genre.sori");
    fs::write(&package, genre).unwrap();
    let more = format!("[model]\npackage = {package:?}");
    let mut sori = listening(folder.path(), &jazz, &more);
    fs::write(&package, &genre[..genre.len() / 2]).unwrap();
    let status = sori.until("half a package is refused", |status| {
        status["recognizer"]["refused"] == 1
    });
    assert!(
        status["recognizer"]["problem"]
            .as_str()
            .is_some_and(|p| p.contains("new.sori"))
    );
    assert!(until_decision(&sori) < BACK);
    fs::write(&package, genre).unwrap();
    sori.until("a good one is taken", |status| {
        status["recognizer"]["swapped"] == 1
    });
    assert!(until_decision(&sori) < BACK);
    sori.stop();
}

/// A pipe that nobody writes to, and a terabyte that begins as a package does: each kept the start
/// waiting, or took the memory that the unit allows. Now the built-in package listens meanwhile,
/// and a stop takes no longer than ever.
#[test]
fn a_model_that_is_no_package_keeps_nothing_waiting() {
    let genre = include_bytes!("../../../models/genre/genre.sori");
    for (name, words) in [("pipe", "not a regular file"), ("long", "bytes")] {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join(name);
        match name {
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&package).status();
                assert!(made.unwrap().success());
            }
            _ => {
                fs::write(&package, genre).unwrap();
                let file = fs::OpenOptions::new().write(true).open(&package).unwrap();
                file.set_len(1 << 40).unwrap();
            }
        }
        let jazz = microphone("jazz.flac");
        let more = format!("[model]\npackage = {package:?}");
        let mut sori = listening(folder.path(), &jazz, &more);
        let status = sori.status().expect("the page answers");
        let problem = status["recognizer"]["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(words), "{status:#?}");
        assert!(sori.stop() < BACK, "{name}");
    }
}

/// What two ends by the kernel's memory killer leave behind while it loads: the third start listens.
#[test]
fn a_package_that_killed_the_program_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("new.sori");
    fs::write(&package, include_bytes!("../../../models/genre/genre.sori")).unwrap();
    let data = fs::metadata(&package).unwrap();
    let since = data
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH);
    let mark = format!("{} {} 2\n", data.len(), since.unwrap().as_nanos());
    fs::write(folder.path().join("loading"), mark).unwrap();
    let jazz = microphone("jazz.flac");
    let more = format!("[model]\npackage = {package:?}");
    let mut sori = listening(folder.path(), &jazz, &more);
    let status = sori.status().expect("the page answers");
    let problem = status["recognizer"]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("set aside"), "{status:#?}");
    sori.stop();
}

/// What `sori deploy --model-only` relies on.
#[test]
fn without_a_configured_package_the_state_directory_s_is_taken_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("genre.sori");
    let genre = include_bytes!("../../../models/genre/genre.sori");
    let mut sori = Sori::start(folder.path(), free_port(), MIC, |command| {
        command.env("STATE_DIRECTORY", folder.path());
    });
    let status = sori.until("it watches", |status| {
        status["recognizer"]["watched"].is_string()
    });
    assert_eq!(status["recognizer"]["path"], Value::Null, "{status:#}");
    assert_eq!(status["recognizer"]["refused"], 0, "{status:#}");
    fs::write(&package, genre).unwrap();
    let status = sori.until("it is taken", |status| status["recognizer"]["swapped"] == 1);
    let path = package.to_str().unwrap();
    assert_eq!(status["recognizer"]["path"], path);
    let asked = sori.command(&["status"]).output().expect("it starts");
    let lines = String::from_utf8(asked.stdout).unwrap();
    for line in ["taken       1\n", &format!("watched     {path}\n")] {
        assert!(lines.contains(line), "{lines}");
    }
    sori.stop();
}

/// At the start the built-in model listens in its place, later the one that listened before.
#[test]
fn with_a_key_only_packages_that_it_signed_listen() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    let package = folder.path().join("new.sori");
    let genre = include_bytes!("../../../models/genre/genre.sori");
    let key = SecretKey::generate().unwrap();
    let signed = sori_sign::sign(genre, &key).unwrap();
    fs::write(&package, genre).unwrap();
    let more = format!("[model]\npackage = {package:?}\nkey = \"{}\"", key.public());
    let mut sori = listening(folder.path(), &jazz, &more);
    let says = |status: &Value, why: &str| {
        let problem = status["recognizer"]["problem"].as_str();
        problem.is_some_and(|problem| problem.contains("new.sori") && problem.contains(why))
    };
    let status = sori.until("an unsigned one is refused at the start", |status| {
        says(status, "it is not signed")
    });
    assert_eq!(status["recognizer"]["path"], Value::Null, "{status:#}");
    fs::write(&package, &signed).unwrap();
    let status = sori.until("a signed one is taken", |status| {
        status["recognizer"]["swapped"] == 1
    });
    assert!(status["recognizer"]["path"].is_string(), "{status:#}");
    let mut altered = signed;
    *altered.last_mut().expect("bytes") ^= 1;
    fs::write(&package, &altered).unwrap();
    let status = sori.until("an altered one is refused", |status| {
        says(status, "changed after signing")
    });
    assert!(status["recognizer"]["path"].is_string(), "{status:#}");
    assert!(until_decision(&sori) < BACK);
    sori.stop();
}

#[test]
fn a_new_configuration_is_taken_and_a_wrong_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    let mut sori = listening(folder.path(), &jazz, "");
    configure(folder.path(), sori.port, &format!("{MIC}\nchanel = 1"));
    sori.signal(Signal::HUP);
    let status = sori.until("it is refused", |status| {
        status["configuration_problem"].is_string()
    });
    let problem = status["configuration_problem"].as_str().unwrap();
    assert!(
        problem.contains("chanel") && problem.contains("line"),
        "{problem}"
    );
    assert!(until_decision(&sori) < BACK);

    sori.port = free_port();
    configure(folder.path(), sori.port, MIC);
    sori.signal(Signal::HUP);
    sori.until("the page has moved", |status| {
        status["configuration_problem"].is_null()
    });
    let back = until_decision(&sori);
    assert!(back < BACK, "{back:?}");

    // An address that is taken reads well and does not work: back to the one before.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    configure(folder.path(), taken.local_addr().unwrap().port(), MIC);
    sori.signal(Signal::HUP);
    sori.until("it is back", |status| {
        status["configuration_problem"].is_string()
    });
    let back = until_decision(&sori);
    assert!(back < BACK, "{back:?}");
    sori.stop();
}

#[test]
fn a_clock_that_jumps_costs_no_row_and_no_decision() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    let library = preload::library("sori/system.c", folder.path());
    let clock = folder.path().join("clock");
    fs::write(&clock, "0").unwrap();
    let mut sori = Sori::start(folder.path(), free_port(), MIC, |command| {
        jazz.prepare(command);
        preload::add(command, &library).env("SORI_CLOCK", &clock);
    });
    sori.decision();
    // Ten years ahead, and twenty back.
    for wrong in ["315360000", "-315360000"] {
        let next = folder.path().join("clock.new");
        fs::write(&next, wrong).unwrap();
        fs::rename(next, &clock).unwrap();
        let back = until_decision(&sori);
        assert!(back < BACK, "{wrong}: {back:?}");
        post(&sori, "/api/mute", "{\"muted\":true}");
        sori.line("a span", |line| line["type"] == "span");
        post(&sori, "/api/mute", "{\"muted\":false}");
    }
    sori.decision();
    sori.stop();
    let kept = spans(&sori.history());
    assert!(kept.len() >= 3, "{kept:?}");
    assert!(
        kept.iter().all(|span| (0.0..=61.0).contains(&span.seconds)),
        "{kept:?}"
    );
}

#[test]
fn told_to_stop_at_any_moment_it_stops_and_the_history_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let jazz = microphone("jazz.flac");
    let mut decided = 0;
    for round in 0..12_u64 {
        let mut sori = Sori::start(folder.path(), free_port(), MIC, |command| {
            jazz.prepare(command);
        });
        // From before anything is open to the middle of a write.
        std::thread::sleep(Duration::from_millis(round * round * 25));
        let asked = Instant::now();
        sori.signal(Signal::TERM);
        let status = sori.wait();
        let took = asked.elapsed();
        // Before it listens to signals, it ends by the signal itself.
        let by_itself = status.success() || status.signal() == Some(15);
        assert!(by_itself, "{round}: {status} {}", sori.log());
        assert!(took < BACK, "{round}: {took:?}");
        decided += sori
            .rest()
            .iter()
            .filter(|line| line["type"] == "span")
            .count();
        if sori.history().exists() {
            let connection = Connection::open(sori.history()).unwrap();
            let whole: String = connection
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(whole, "ok");
        }
    }
    // Every span that was told is in the history.
    let path = folder.path().join("history.sqlite");
    assert!(decided > 0);
    assert_eq!(spans(&path).len(), decided);
}

#[test]
fn a_file_in_place_of_the_microphone_loses_no_line_at_full_speed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jazz.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 24,
        sample_format: hound::SampleFormat::Int,
    };
    let clip = music("jazz.flac");
    let mut writer = hound::WavWriter::create(&file, spec).unwrap();
    let seconds = if is_foreign() { 20 } else { 300 };
    for n in 0..48_000 * seconds {
        writer.write_sample(0).unwrap();
        writer.write_sample(clip(n) >> 11).unwrap();
    }
    writer.finalize().unwrap();
    let mut sori = Sori::start(folder.path(), free_port(), "", |command| {
        command.arg("--fast").arg("--input").arg(&file);
    });
    let lines = sori.rest();
    assert!(sori.wait().success(), "{}", sori.log());
    assert!(lines.iter().all(|line| line["type"] != "lost"));
    let heard: Vec<&Value> = lines
        .iter()
        .filter(|line| line["type"] == "heard")
        .collect();
    // One in 512 ms.
    let expected = seconds as usize * 1000 / 512;
    assert!(
        heard.len().abs_diff(expected) <= 2,
        "{} of {expected}",
        heard.len()
    );
    let jazz = heard
        .iter()
        .filter(|line| line["verdict"] == "jazz")
        .count();
    assert!(2 * jazz > heard.len(), "{jazz} of {}", heard.len());
    let told: f64 = lines
        .iter()
        .filter(|line| line["type"] == "span")
        .map(|line| line["seconds"].as_f64().unwrap())
        .sum();
    let kept: f64 = spans(&sori.history()).iter().map(|span| span.seconds).sum();
    assert!((told - kept).abs() < 1e-6, "{told} {kept}");
    assert!((told - seconds as f64).abs() < 2.0, "{told}");
}

#[test]
fn what_is_no_input_is_an_error_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wav");
    for (bytes, word) in [(None, "x.wav"), (Some(&b"garbage"[..]), "WAV")] {
        let _ = fs::remove_file(&file);
        if let Some(bytes) = bytes {
            fs::write(&file, bytes).unwrap();
        }
        let mut sori = Sori::start(folder.path(), free_port(), "", |command| {
            command.arg("--input").arg(&file);
        });
        assert_eq!(sori.wait().code(), Some(1), "{}", sori.log());
        assert!(sori.log().contains(word), "{}", sori.log());
    }
}
