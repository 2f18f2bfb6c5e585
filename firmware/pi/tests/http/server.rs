use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sori_pi::config;
use sori_pi::page::{Bound, Limits};

use crate::peer::{Answer, Events, JSON, PATIENCE, Server, WAV, head, wav};

#[test]
fn all_streams_end_at_once_when_told_to_stop() {
    let mut server = Server::start();
    let mut streams: Vec<Events> = (0..16).map(|_| server.events()).collect();
    let idle = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let mut upload = server.connect();
    let begun = server.head("POST", "/classify", &[WAV], 1_000_000);
    upload.write_all(&begun).unwrap();
    upload.write_all(&wav(1)).unwrap();
    let took = server.stop();
    assert!(took < Duration::from_secs(1), "{took:?}");
    for stream in &mut streams {
        while stream.next("status").is_some() {}
    }
    drop(idle);
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_flood_of_requests_is_refused_and_harmless() {
    let limits = Limits {
        burst: 20,
        per_second: 0.01,
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    let answers: Vec<_> = (0..40).map(|_| server.get("/healthz")).collect();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert_eq!(refused.len(), 20);
    assert!(refused[0].headers.contains_key("retry-after"));
}

#[test]
fn a_request_that_never_ends_is_ended() {
    let limits = Limits {
        head: Duration::from_secs(1),
        answer: Duration::from_secs(1),
        clip_stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    // A head that comes a byte at a time, and none at all.
    let mut slow = server.connect();
    let silent = server.connect();
    let start = Instant::now();
    while slow.write_all(b"G").is_ok() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
    let mut rest = Vec::new();
    (&silent).read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    // A body that does not come.
    let mut mute = server.connect();
    mute.write_all(&server.head("POST", "/api/mute", &[JSON], 10))
        .unwrap();
    let answer = Answer::read(&mut BufReader::new(mute)).unwrap();
    assert!(answer.refused(408).contains("too long"));
    let mut upload = server.connect();
    upload
        .write_all(&server.head("POST", "/classify", &[WAV], 1_000_000))
        .unwrap();
    upload.write_all(&wav(1)).unwrap();
    let answer = Answer::read(&mut BufReader::new(upload)).unwrap();
    assert!(answer.refused(408).contains("upload stalled"));
    // And the next file is heard.
    assert_eq!(server.ask("POST", "/classify", &[WAV], &wav(1)).status, 200);
}

#[test]
fn connections_that_do_nothing_make_room_in_time() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    let _idle: Vec<_> = (0..20).map(|_| server.connect()).collect();
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = Server::start();
    let long = "x".repeat(40_000);
    let answer = server.ask("GET", "/healthz", &[("X-Long", &long)], b"");
    assert_eq!(answer.status, 431);
    let many: Vec<_> = (0..200).map(|_| ("A", "b")).collect();
    assert_eq!(server.ask("GET", "/healthz", &many, b"").status, 431);
    let mut stream = server.connect();
    stream
        .write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        .unwrap();
    assert_eq!(head(&mut BufReader::new(stream)).unwrap().0, 400);
}

#[test]
fn an_address_that_cannot_be_had_says_what_to_do() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let why = |address: SocketAddr| {
        let config = config::Page {
            listen: address,
            token: None,
        };
        let error = runtime
            .block_on(Bound::bind(&config))
            .expect_err("no address");
        format!("{error:#}")
    };
    let taken = why(server.address);
    assert!(
        taken.contains("is in use") && taken.contains("ss -ltnp"),
        "{taken}"
    );
    let foreign = why("192.0.2.1:8080".parse().unwrap());
    assert!(foreign.contains("ip address"), "{foreign}");
}
