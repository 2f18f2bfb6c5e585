//! Any bytes on a connection to the page.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use sori_pi::board::Board;
use sori_pi::config;
use sori_pi::model::Model;
use sori_pi::page::{Bound, Limits, Shared};

const TOKEN: &str = "0123456789abcdef";

/// In the history's place: what nobody may read without the token.
const SECRET: &str = "sori_secret 1";

/// One server, as long as the process runs.
static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(serve(&sender));
    });
    address.recv().expect("the server's address")
});

async fn serve(address: &mpsc::Sender<SocketAddr>) {
    let (board, _commands) = Board::new();
    let folder = tempfile::tempdir().expect("a folder");
    let shared = Shared {
        board,
        history: folder.path().join("history.sqlite"),
        model: Arc::new(RwLock::new(Arc::new(
            Model::built_in().expect("the shipped package"),
        ))),
        card: SECRET.into(),
        doctor: Arc::new(|| serde_json::json!([SECRET])),
        metrics: Some(Arc::new(|| SECRET.into())),
    };
    let page = config::Page {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        token: Some(TOKEN.into()),
    };
    let limits = Limits {
        // Every case comes from one address.
        connections: 4096,
        connections_per_client: 4096,
        burst: u32::MAX,
        per_second: 1e9,
        failures: u32::MAX,
        // What would be kept open.
        streams: 0,
        head: Duration::from_millis(500),
        clip_stall: Duration::from_millis(500),
        ..Limits::default()
    };
    let bound = Bound::bind(&page)
        .await
        .expect("a free port")
        .with_limits(limits);
    address.send(bound.address()).expect("somebody waits");
    bound.serve(shared, std::future::pending()).await;
}

pub(crate) fn check(data: &[u8]) {
    let mut stream = TcpStream::connect(*ADDRESS).expect("the server lives");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("not zero");
    // It may have heard enough before all is sent.
    let sent = stream
        .write_all(data)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {sent:?}"),
    }
    let text = String::from_utf8_lossy(&answer);
    for line in text.lines().filter(|line| line.starts_with("HTTP/1.")) {
        let status: u16 = line
            .get(9..12)
            .and_then(|s| s.parse().ok())
            .expect("a status");
        assert!((200..500).contains(&status) || status == 503, "{line}");
    }
    let knows = data
        .windows(TOKEN.len())
        .any(|window| window == TOKEN.as_bytes());
    assert!(knows || !text.contains(SECRET), "{text}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let request = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{more}\r\n")
            .into_bytes()
    };
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut clip = request("POST /classify", &format!("{bearer}Content-Length: 64\r\n"));
    clip.extend(b"RIFF\x38\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\x14\0\0\0");
    clip.extend([7; 20]);
    let mut sign_in = request(
        "POST /login",
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 22\r\n",
    );
    sign_in.extend(format!("token={TOKEN}").as_bytes());
    vec![
        request("GET /", ""),
        request("GET /api/status", &bearer),
        request("GET /api/status", ""),
        request("GET /api/history?from=0&to=9999999999999&limit=5", &bearer),
        request("GET /api/history.csv?from=2026-01-01", &bearer),
        request("GET /api/doctor", "Cookie: sori=AAAA\r\n"),
        request("GET /metrics", ""),
        request("GET /assets/..%2f..%2fetc%2fpasswd", ""),
        request(
            "POST /api/mute",
            &format!("{bearer}Content-Length: 14\r\n\r\n{{\"muted\":true}}"),
        ),
        request(
            "POST /api/confirm",
            "Origin: http://example.com\r\nContent-Length: 0\r\n",
        ),
        request("GET /api/events", &bearer),
        clip,
        sign_in,
    ]
}
