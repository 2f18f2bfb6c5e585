use std::io::{BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use sori_pi::page::Limits;

use crate::peer::{Answer, PATIENCE, Server, WAV, model, wav};

#[test]
fn a_file_is_heard_as_the_microphone_is() {
    let server = Server::start();
    let answer = server.ask("POST", "/classify", &[WAV], &wav(3)).json();
    let model = model();
    let samples: Vec<i32> = hound::WavReader::new(wav(3).as_slice())
        .unwrap()
        .samples::<i32>()
        .map(|sample| sample.unwrap() << 8)
        .collect();
    let mut summary = model.summary();
    let mut on_event = |event: sori_listener::Event<'_>| summary.observe(&event);
    model
        .listen(16_000, |mut listener| {
            listener.push(&samples, &mut on_event);
            listener.finish(&mut on_event);
        })
        .unwrap();
    let clip = summary.clip();
    let verdict = sori_pi::engine::name(clip.verdict, &model.labels);
    assert_eq!(answer["verdict"], verdict);
    for (label, &p) in model.labels.iter().zip(&clip.probabilities_q15) {
        assert_eq!(answer["probabilities"][label], f64::from(p) / 32768.0);
    }
    assert_eq!(answer["duration_s"], 3.0);
}

#[test]
fn what_is_no_file_to_hear_is_refused_in_words() {
    let limits = Limits {
        clip_bytes: 200_000,
        clip_seconds: 3,
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    let ask =
        |kind: &str, body: &[u8]| server.ask("POST", "/classify", &[("Content-Type", kind)], body);
    assert!(ask("text/plain", b"x").refused(415).contains("audio/wav"));
    assert!(
        ask("audio/wav", b"ID3 an mp3 file, say")
            .refused(415)
            .contains("ffmpeg")
    );
    assert!(ask("audio/wav", b"").refused(422).contains("ends before"));
    assert!(
        ask("audio/wav", &wav(4))
            .refused(413)
            .contains("longer than 3 s")
    );
    assert!(
        ask("audio/wav", &vec![0; 300_000])
            .refused(413)
            .contains("200000 bytes")
    );
    // The same without a length to go by.
    let mut stream = server.connect();
    let head = "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for part in wav(2).chunks(8192).cycle().take(40) {
        let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let answer = Answer::read(&mut BufReader::new(stream)).unwrap();
    assert!(answer.refused(413).contains("200000 bytes"));
    // None of it was the end of anything.
    assert_eq!(ask("audio/wav", &wav(1)).status, 200);
}

#[test]
fn one_file_is_heard_at_a_time() {
    let server = Server::start();
    let mut first = server.connect();
    let file = wav(2);
    first
        .write_all(&server.head("POST", "/classify", &[WAV], file.len()))
        .unwrap();
    first.write_all(&file[..1000]).unwrap();
    let start = Instant::now();
    loop {
        let second = server.ask("POST", "/classify", &[WAV], &file);
        if second.status == 429 {
            assert!(second.headers.contains_key("retry-after"));
            break;
        }
        // The first was not there yet.
        assert!(start.elapsed() < PATIENCE);
    }
    first.write_all(&file[1000..]).unwrap();
    let answer = Answer::read(&mut BufReader::new(first)).unwrap();
    assert_eq!(answer.json()["duration_s"], 2.0);
    // Who goes away in the middle of it leaves room for the next.
    let mut gone = server.connect();
    gone.write_all(&server.head("POST", "/classify", &[WAV], file.len()))
        .unwrap();
    gone.write_all(&file[..1000]).unwrap();
    drop(gone);
    let start = Instant::now();
    while server.ask("POST", "/classify", &[WAV], &file).status != 200 {
        assert!(start.elapsed() < PATIENCE, "the place was not given back");
        thread::sleep(Duration::from_millis(50));
    }
}
