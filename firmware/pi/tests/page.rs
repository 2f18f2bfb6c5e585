//! The server as a peer meets it: real HTTP over loopback.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use sori_pi::board::{Board, Command, Heard, News};
use sori_pi::config;
use sori_pi::history::{History, Span};
use sori_pi::model::Model;
use sori_pi::page::{Bound, Doctor, Limits, Shared};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef";

/// It is loaded once: proving itself takes a moment.
fn model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    Arc::clone(MODEL.get_or_init(|| Arc::new(Model::load(None).unwrap())))
}

struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    commands: Receiver<Command>,
    folder: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(None, Limits::default(), Arc::new(|| serde_json::json!([])))
    }

    fn with_limits(limits: Limits) -> Self {
        Self::with(None, limits, Arc::new(|| serde_json::json!([])))
    }

    fn with_token() -> Self {
        let doctor = Arc::new(|| serde_json::json!([]));
        Self::with(Some(TOKEN), Limits::default(), doctor)
    }

    fn with(token: Option<&str>, limits: Limits, doctor: Arc<Doctor>) -> Self {
        let (board, commands) = Board::new();
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared {
            board: Arc::clone(&board),
            history: folder.path().join("history.sqlite"),
            model: Arc::new(RwLock::new(model())),
            card: "# A card".into(),
            doctor,
            metrics: Some(Arc::new(|| "sori_up 1\n".into())),
        };
        let config = config::Page {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(String::from),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (address_sender, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let bound = Bound::bind(&config).await.unwrap().with_limits(limits);
                address_sender.send(bound.address()).unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                bound.serve(shared, stop).await;
            });
            runtime.shutdown_background();
        });
        Self {
            address: address.recv().unwrap(),
            board,
            commands,
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request and reads the answer until the server closes the connection.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream
            .write_all(&self.head(method, path, headers, body.len()))
            .unwrap();
        // A server that refuses need not read all of it.
        let _ = stream.write_all(body);
        Answer::read(&mut BufReader::new(stream)).expect(path)
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if method == "POST" {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn events(&self) -> Events {
        let mut stream = self.connect();
        stream
            .write_all(&self.head("GET", "/api/events", &[], 0))
            .unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader).unwrap();
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Events { reader }
    }

    fn fill(&self, spans: i64) {
        let mut history = History::new(&self.folder.path().join("history.sqlite"), 365);
        for n in 0..spans {
            history.push(Span {
                started_ms: 1_000 * n,
                seconds: 1.0,
                verdict: ["jazz", "rock"][n as usize % 2].into(),
                confidence: Some(0.5),
                level_dbfs: -40.0,
            });
        }
        history.write(1_000 * spans).unwrap();
    }

    fn stop(&mut self) -> Duration {
        let start = Instant::now();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn head(reader: &mut impl BufRead) -> io::Result<(u16, BTreeMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let status = lines[0].split(' ').nth(1).and_then(|s| s.parse().ok());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_string()));
    Ok((status.expect("a status"), headers.collect()))
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let (status, headers) = head(reader)?;
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some() {
            loop {
                let chunk = chunk(reader)?;
                match chunk.is_empty() {
                    true => break,
                    false => body.extend(chunk),
                }
            }
        } else {
            reader.read_to_end(&mut body)?;
        }
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        let json: Value = serde_json::from_slice(&self.body).expect(&self.text());
        assert_eq!(json["schema_version"], 1);
        json
    }

    /// The words of a refusal with that status.
    #[track_caller]
    fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        self.json()["error"]["message"].as_str().unwrap().into()
    }
}

fn chunk(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk)?;
    chunk.truncate(length);
    Ok(chunk)
}

struct Events {
    reader: BufReader<TcpStream>,
}

impl Events {
    /// The next event of that name; None at the stream's end.
    fn next(&mut self, name: &str) -> Option<Value> {
        let start = Instant::now();
        let mut text = String::new();
        while start.elapsed() < PATIENCE {
            let chunk = chunk(&mut self.reader).ok().filter(|c| !c.is_empty())?;
            text += std::str::from_utf8(&chunk).unwrap();
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (first, data) = event.split_once('\n').unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                let found = first == format!("event: {name}");
                let data = serde_json::from_str(data).unwrap();
                text = rest.into();
                if found {
                    assert!(text.is_empty(), "a chunk is an event here");
                    return Some(data);
                }
            }
        }
        panic!("no event {name}");
    }
}

fn heard(verdict: &str) -> Heard {
    Heard {
        time_ms: 1,
        verdict: verdict.into(),
        confidence: Some(0.75),
        probabilities: [(verdict.to_string(), 0.75)].into(),
        level_dbfs: -40.0,
    }
}

/// A second of a tone, 16 bits.
fn wav(seconds: u32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for n in 0..16_000 * seconds {
        let sample = (f64::from(n) * 0.17).sin() + (f64::from(n) * 0.23).sin();
        writer.write_sample((sample * 8000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

const WAV: (&str, &str) = ("Content-Type", "audio/wav");
const JSON: (&str, &str) = ("Content-Type", "application/json");

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
    assert_eq!(csv.lines().nth(1), Some("0,1.000,jazz,0.5000,-40.0"));
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
    assert!(answer.refused(503).contains("cannot be read"));
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
fn other_websites_are_turned_away() {
    let server = Server::start();
    let host = server.address.to_string();
    let mute = |headers: &[(&str, &str)]| {
        let headers = [&[JSON], headers].concat();
        server
            .ask("POST", "/api/mute", &headers, b"{\"muted\": true}")
            .status
    };
    assert_eq!(mute(&[("Origin", &format!("http://{host}"))]), 202);
    assert_eq!(mute(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(mute(&[("Origin", "null")]), 403);
    assert_eq!(mute(&[("Sec-Fetch-Site", "cross-site")]), 403);
    // With no token configured no header makes up for it.
    assert_eq!(
        mute(&[
            ("Origin", "http://evil.example"),
            ("Authorization", "Bearer x")
        ]),
        403
    );
    let get = |path, headers: &[(&str, &str)]| server.ask("GET", path, headers, b"").status;
    assert_eq!(get("/api/doctor", &[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(get("/api/events", &[("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(
        get("/", &[("Sec-Fetch-Site", "cross-site")]),
        200,
        "a link to the page"
    );
    // DNS rebinding: the name is theirs, the address ours.
    for name in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "",
    ] {
        for path in ["/api/status", "/", "/healthz", "/assets/app.js"] {
            assert_eq!(get(path, &[("Host", name)]), 403, "{name} {path}");
        }
    }
    for name in ["localhost", "localhost:1", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(get("/api/status", &[("Host", name)]), 200, "{name}");
    }
    assert_eq!(
        get(
            "/api/status",
            &[("Host", "localhost"), ("Host", "localhost")]
        ),
        400
    );
    assert_eq!(
        get("http://evil.example/api/status", &[("Host", "localhost")]),
        403
    );
    // Nobody is believed to be somebody else.
    assert_eq!(
        get(
            "/api/status",
            &[("Host", "evil.example"), ("X-Forwarded-Host", "localhost")]
        ),
        403
    );
}

#[test]
fn a_token_opens_everything_and_without_it_nothing_opens() {
    let server = Server::with_token();
    let bearer = format!("Bearer {TOKEN}");
    let with = [("Authorization", bearer.as_str())];
    for path in [
        "/metrics",
        "/api/openapi.json",
        "/api/status",
        "/api/events",
        "/api/history",
        "/api/history.csv",
        "/api/history.json",
        "/api/model",
        "/api/doctor",
    ] {
        let answer = server.get(path);
        assert!(answer.refused(401).contains("Bearer"), "{path}");
        assert!(answer.headers["www-authenticate"].starts_with("Bearer"));
        if path != "/api/events" {
            assert_eq!(server.ask("GET", path, &with, b"").status, 200, "{path}");
        }
    }
    for path in ["/api/mute", "/api/confirm", "/classify"] {
        server
            .ask("POST", path, &[JSON], b"{\"muted\": true}")
            .refused(401);
    }
    for path in ["/healthz", "/assets/app.js", "/login"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let page = server.get("/");
    assert_eq!(
        (page.status, page.headers["location"].as_str()),
        (303, "/login")
    );
    // A program with the token is no website.
    let from_anywhere = [with[0], JSON, ("Origin", "http://evil.example")];
    let answer = server.ask("POST", "/api/mute", &from_anywhere, b"{\"muted\": true}");
    assert_eq!(answer.status, 202);
}

#[test]
fn signing_in_gives_a_cookie_that_other_sites_cannot_use() {
    let server = Server::with_token();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let sign_in = |headers: &[(&str, &str)], body: &str| {
        server.ask(
            "POST",
            "/login",
            &[&[form], headers].concat(),
            body.as_bytes(),
        )
    };
    let wrong = sign_in(&[], "token=fedcba9876543210");
    assert_eq!(wrong.status, 401);
    assert!(wrong.text().contains("not the token") && !wrong.headers.contains_key("set-cookie"));
    assert_eq!(sign_in(&[], "nothing").status, 400);
    let right = format!("token={TOKEN}");
    sign_in(&[("Origin", "http://evil.example")], &right).refused(403);
    let answer = sign_in(&[], &right);
    assert_eq!(
        (answer.status, answer.headers["location"].as_str()),
        (303, "/")
    );
    let cookie = &answer.headers["set-cookie"];
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(TOKEN));
    let cookie = ("Cookie", cookie.split(';').next().unwrap());
    assert_eq!(server.ask("GET", "/", &[cookie], b"").status, 200);
    assert_eq!(server.ask("GET", "/api/status", &[cookie], b"").status, 200);
    // A cookie is no bearer token: another site's request stays out even with it.
    let theirs = [cookie, JSON, ("Origin", "http://evil.example")];
    server
        .ask("POST", "/api/mute", &theirs, b"{\"muted\": true}")
        .refused(403);
}

#[test]
fn guessing_the_token_is_slow() {
    let server = Server::with_token();
    let ask = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        server.ask("GET", "/api/status", &[("Authorization", &bearer)], b"")
    };
    for n in 0..10 {
        ask(&format!("wrong {n}")).refused(401);
    }
    let answer = ask("wrong again");
    answer.refused(429);
    let wait: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    ask(TOKEN).refused(429);
    assert_eq!(server.get("/healthz").status, 200);
    // Who brings no secret guesses nothing.
    server.get("/api/status").refused(401);
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
fn a_request_that_never_ends_is_ended() {
    let limits = Limits {
        head: Duration::from_millis(300),
        answer: Duration::from_millis(300),
        clip_stall: Duration::from_millis(300),
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
    assert!(answer.refused(408).contains("stopped coming"));
    // And the next file is heard.
    assert_eq!(server.ask("POST", "/classify", &[WAV], &wav(1)).status, 200);
}

#[test]
fn connections_that_do_nothing_make_room_in_time() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_millis(500),
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
fn a_file_is_heard_as_the_microphone_is() {
    let server = Server::start();
    let answer = server.ask("POST", "/classify", &[WAV], &wav(3)).json();
    let model = model();
    let samples: Vec<i32> = hound::WavReader::new(wav(3).as_slice())
        .unwrap()
        .samples::<i32>()
        .map(|sample| sample.unwrap() << 8)
        .collect();
    let mut summary = model.clip_summary();
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
    let head = format!(
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
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
        taken.contains("another program") && taken.contains("ss -ltnp"),
        "{taken}"
    );
    let foreign = why("192.0.2.1:8080".parse().unwrap());
    assert!(foreign.contains("ip address"), "{foreign}");
}
