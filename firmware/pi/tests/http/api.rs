use std::io::{BufReader, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sori_pi::board::{Command, News, State};
use sori_pi::page::Limits;

use crate::peer::{Answer, JSON, PATIENCE, Server, heard};

/// 200 while it does what it is there for; a line for each reason why not, without details.
#[test]
fn health_is_the_truth() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").status, 200);
    server.board.update(|status| {
        status.capture.state = State::NoMicrophone;
        status.capture.problem = Some("hw:secret is gone".into());
        status.history_problem = Some("/var/secret: the disk is full".into());
        status.stuck = vec!["the listening thread"];
    });
    let sick = server.get("/healthz");
    assert_eq!(sick.status, 503);
    let words = sick.text();
    assert_eq!(words.lines().count(), 3, "{words}");
    assert!(
        words.contains("listening thread") && !words.contains("secret"),
        "{words}"
    );
    server.board.update(|status| {
        status.capture.state = State::Listening;
        status.capture.problem = None;
        status.history_problem = None;
        status.stuck.clear();
    });
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn everything_that_is_described_answers() {
    let server = Server::start();
    server.fill(2);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/openapi.json", "application/json"),
        ("/api/status", "application/json"),
        ("/api/history", "application/json"),
        ("/api/history.csv", "text/csv; charset=utf-8"),
        ("/api/history.json", "application/x-ndjson"),
        ("/api/model", "application/json"),
        ("/api/doctor", "application/json"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], kind, "{path}");
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    }
    let status = server.get("/api/status").json();
    assert_eq!(status["muted"], false);
    assert!(status["uptime_s"].is_f64() && status["capture"]["state"] == "starting");
    assert_eq!(server.get("/login").status, 303, "no token is needed");
    let missing = server.get("/assets/../../etc/passwd");
    assert!(missing.refused(404).contains("/api/openapi.json"));
    assert_eq!(server.get("/assets/%2e%2e%2fCargo.toml").status, 404);
    server.ask("DELETE", "/api/status", &[], b"").refused(405);
    server.ask("GET", "/api/mute", &[], b"").refused(405);
    let tag = server.get("/assets/app.js").headers["etag"].clone();
    let again = server.ask("GET", "/assets/app.js", &[("If-None-Match", &tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn the_history_is_read_filtered_and_exported() {
    let server = Server::start();
    assert_eq!(
        server.get("/api/history").json()["spans"],
        Value::Array(vec![])
    );
    assert_eq!(server.get("/api/history.csv").status, 200);
    server.fill(5000);
    let spans = |query: &str| {
        let answer = server.get(&format!("/api/history{query}"));
        answer.json()["spans"].as_array().unwrap().clone()
    };
    assert_eq!(spans("").len(), 500, "the usual limit");
    let some = spans("?from_ms=1000&until_ms=5000&verdict=rock");
    let at: Vec<_> = some.iter().map(|span| &span["started_ms"]).collect();
    assert_eq!(at, [1000, 3000]);
    assert_eq!(spans("?limit=1")[0]["started_ms"], 4_999_000);
    assert!(spans("?verdict=no%20such").is_empty());
    let csv = server.get("/api/history.csv?verdict=jazz").text();
    assert_eq!(csv.lines().count(), 1 + 2500);
    assert_eq!(csv.lines().nth(1), Some("0,1.000,jazz,0.5000,-40.0,false"));
    let json = server.get("/api/history.json");
    assert!(json.headers["content-disposition"].contains("sori-history.jsonl"));
    assert_eq!(json.text().lines().count(), 5000);
    let last: Value = serde_json::from_str(json.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["started_ms"], 4_999_000);
}

#[test]
fn a_bad_parameter_is_named_with_what_is_allowed() {
    let server = Server::start();
    for (query, parameter, words) in [
        ("limit=0", "limit", "from 1 to 20000"),
        ("limit=many", "limit", "whole number"),
        ("limit=99999999999999999999", "limit", "from 1"),
        ("from_ms=-1", "from_ms", "from 0"),
        ("from_ms=1.5", "from_ms", "whole number"),
        ("from_ms=5&until_ms=5", "until_ms", "later than from_ms"),
        ("verdict=", "verdict", "silence"),
        ("limit=1&limit=2", "limit", "once"),
        (
            "colour=red",
            "colour",
            "from_ms, until_ms, verdict and limit",
        ),
    ] {
        for path in ["/api/history", "/api/history.csv", "/api/history.json"] {
            let answer = server.get(&format!("{path}?{query}"));
            let message = answer.refused(400);
            assert!(message.contains(words), "{query}: {message}");
            assert_eq!(answer.json()["error"]["parameter"], parameter, "{query}");
        }
    }
}

#[test]
fn a_damaged_history_is_an_error_and_a_broken_download() {
    let server = Server::start();
    let path = server.folder.path().join("history.sqlite");
    std::fs::write(path, [7; 4096]).unwrap();
    let answer = server.get("/api/history");
    assert!(answer.refused(503).contains("cannot read the history"));
    assert!(answer.headers.contains_key("retry-after"));
    let mut stream = server.connect();
    let head_bytes = server.head("GET", "/api/history.csv", &[], 0);
    stream.write_all(&head_bytes).unwrap();
    // Its end is missing, so that nobody takes a part for the whole.
    assert!(Answer::read(&mut BufReader::new(stream)).is_err());
}

#[test]
fn commands_reach_the_runner_and_what_is_no_command_does_not() {
    let server = Server::start();
    let mute =
        |headers: &[(&str, &str)], body: &[u8]| server.ask("POST", "/api/mute", headers, body);
    assert_eq!(mute(&[JSON], b"{\"muted\": true}").status, 202);
    assert_eq!(server.commands.try_recv(), Ok(Command::Mute(true)));
    assert!(
        mute(&[JSON], b"{\"muted\": 1}")
            .refused(400)
            .contains("{\"muted\": true}")
    );
    assert!(
        mute(&[JSON], b"{\"mute\": true}")
            .refused(400)
            .contains("muted")
    );
    mute(&[JSON], b"").refused(400);
    mute(&[], b"{\"muted\": true}").refused(415);
    mute(&[JSON], &[b' '; 5000]).refused(413);
    server.ask("POST", "/api/confirm", &[], b"").refused(409);
    server.board.publish(News::Heard(Arc::new(heard("jazz"))));
    assert_eq!(server.ask("POST", "/api/confirm", &[], b"").status, 202);
    assert_eq!(server.commands.try_recv(), Ok(Command::Confirm));
    assert!(server.commands.try_recv().is_err());
}

#[test]
fn the_doctor_comes_once_at_a_time_and_may_fail() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let inside = Arc::clone(&gate);
    let doctor = move || {
        let (open, changed) = &*inside;
        let open = open.lock().unwrap();
        let open = changed.wait_while(open, |open| !*open).unwrap();
        assert!(*open);
        serde_json::json!([{"severity": "ok", "what": "All is well."}])
    };
    let server = Server::with(None, Limits::default(), Arc::new(doctor));
    let mut first = server.connect();
    first
        .write_all(&server.head("GET", "/api/doctor", &[], 0))
        .unwrap();
    let start = Instant::now();
    loop {
        // One of the two is inside; the other is refused.
        let mut second = server.connect();
        second
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        second
            .write_all(&server.head("GET", "/api/doctor", &[], 0))
            .unwrap();
        if let Ok(answer) = Answer::read(&mut BufReader::new(second)) {
            answer.refused(429);
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    let (open, changed) = &*gate;
    *open.lock().unwrap() = true;
    changed.notify_all();
    let answer = Answer::read(&mut BufReader::new(first)).unwrap();
    assert_eq!(answer.json()["findings"][0]["severity"], "ok");
    let broken = Server::with(None, Limits::default(), Arc::new(|| panic!("of the test")));
    assert!(
        broken
            .get("/api/doctor")
            .refused(500)
            .contains("journalctl")
    );
    broken.get("/api/doctor").refused(500);
}
