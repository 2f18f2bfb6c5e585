use std::io::{BufReader, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sori_pi::board::News;
use sori_pi::page::Limits;

use crate::peer::{PATIENCE, Server, head, heard};

#[test]
fn news_come_as_events() {
    let server = Server::start();
    // It answers, so it listens to the board as well.
    assert_eq!(server.get("/healthz").status, 200);
    let row: Arc<[i8]> = vec![-128, -1, 0, 127].into();
    server.board.publish(News::Row(Arc::clone(&row)));
    // Rows of before are in the first event, once they were gathered.
    let first = loop {
        let mut events = server.events();
        assert_eq!(events.next("status").unwrap()["schema_version"], 1);
        let rows = events.next("rows").unwrap();
        if rows["rows"] != "" {
            break rows;
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&first["first"], &first["bands"]), (&0.into(), &4.into()));
    assert_eq!(first["rows"], "gP8Afw==");
    let mut events = server.events();
    events.next("rows").unwrap();
    server.board.publish(News::Row(row));
    assert_eq!(events.next("rows").unwrap()["first"], 1);
    server.board.publish(News::Heard(Arc::new(heard("jazz"))));
    assert_eq!(events.next("heard").unwrap()["verdict"], "jazz");
    server.board.set_muted(true);
    assert_eq!(events.next("muted").unwrap()["muted"], true);
    server
        .board
        .publish(News::Confirmed(Arc::new(heard("rock"))));
    assert_eq!(events.next("confirmed").unwrap()["verdict"], "rock");
    assert_eq!(
        events.next("status").unwrap()["muted"],
        true,
        "once a second"
    );
}

#[test]
fn there_is_room_for_so_many_streams_and_a_closed_one_makes_room() {
    let limits = Limits {
        streams: 2,
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    let one = server.events();
    let _other = server.events();
    let answer = server.get("/api/events");
    answer.refused(503);
    assert_eq!(answer.headers["retry-after"], "10");
    drop(one);
    let start = Instant::now();
    loop {
        let mut stream = server.connect();
        stream
            .write_all(&server.head("GET", "/api/events", &[], 0))
            .unwrap();
        if head(&mut BufReader::new(stream)).unwrap().0 == 200 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "its place was not given back");
        thread::sleep(Duration::from_millis(50));
    }
}

/// It reads nothing while a hundred megabytes are published.
#[test]
fn a_reader_that_stands_still_holds_up_nobody_and_is_told() {
    let server = Server::start();
    let mut slow = server.events();
    let mut quick = server.events();
    let text = "x".repeat(100_000);
    for n in 0..1_000 {
        server.board.publish(News::Heard(Arc::new(heard(&text))));
        if n % 10 == 0 {
            // The others get theirs meanwhile.
            quick.next("heard").unwrap();
        }
    }
    server.board.publish(News::Muted(true));
    assert_eq!(quick.next("muted").unwrap()["muted"], true);
    let missed = slow.next("lagged").unwrap()["missed"].as_u64().unwrap();
    assert!(missed > 0);
    assert_eq!(slow.next("muted").unwrap()["muted"], true);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_reader_that_never_reads_again_is_given_up() {
    let limits = Limits {
        streams: 1,
        stall: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Server::with_limits(limits);
    let stuck = server.events();
    let text = "x".repeat(100_000);
    let start = Instant::now();
    loop {
        server.board.publish(News::Heard(Arc::new(heard(&text))));
        thread::sleep(Duration::from_millis(1));
        if start.elapsed() > Duration::from_millis(200) && server.get("/api/events_").status == 404
        {
            let mut stream = server.connect();
            let ask = server.head("GET", "/api/events", &[], 0);
            stream.write_all(&ask).unwrap();
            if head(&mut BufReader::new(stream)).unwrap().0 == 200 {
                break;
            }
        }
        assert!(start.elapsed() < PATIENCE, "it kept its place");
    }
    drop(stuck);
}
