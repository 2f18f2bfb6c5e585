//! `sori-pi status`: asks the service that runs here how it is.

use std::fmt;
use std::io::{self, Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::config::Page;

/// It answers from memory: who takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer has a few kilobytes.
const MOST_BYTES: u64 = 1 << 20;

/// Why there is no answer, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent(String);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Silent {}

/// What `/api/status` of the configured page says.
///
/// # Errors
/// Nobody listens there, or something that is not sori-pi.
pub fn ask(page: &Page) -> Result<Value, Silent> {
    let silent = |why: &dyn fmt::Display| {
        Silent(format!(
            "sori-pi does not respond at {}: {why}; systemctl status sori-pi shows whether it is running",
            page.listen
        ))
    };
    let answer = exchange(page).map_err(|error| silent(&error))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| silent(&"the response is not HTTP"))?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(silent(&line));
    }
    serde_json::from_str(body).map_err(|error| silent(&error))
}

fn exchange(page: &Page) -> io::Result<String> {
    let mut peer = TcpStream::connect_timeout(&reachable(page.listen), PATIENCE)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.set_write_timeout(Some(PATIENCE))?;
    let token = match &page.token {
        Some(token) => format!("Authorization: Bearer {token}\r\n"),
        None => String::new(),
    };
    write!(
        peer,
        "GET /api/status HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    peer.take(MOST_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who listens on all addresses is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A line each, its name first; `sori deploy` reads them.
///
/// # Errors
/// `out` does not take it.
pub fn write_text(status: &Value, out: &mut impl Write) -> io::Result<()> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    };
    let (capture, recognizer) = (&status["capture"], &status["recognizer"]);
    let built_in = Value::from("built-in");
    let path = match &recognizer["path"] {
        Value::Null => &built_in,
        path => path,
    };
    for (name, value) in [
        ("version", &status["version"]),
        ("microphone", &capture["state"]),
        ("package", &recognizer["name"]),
        ("from", path),
        ("watched", &recognizer["watched"]),
        ("taken", &recognizer["swapped"]),
        ("refused", &recognizer["refused"]),
        ("heard", &status["heard"]["verdict"]),
    ] {
        writeln!(out, "{name:<11} {}", text(value))?;
    }
    let problems = [
        &recognizer["problem"],
        &capture["problem"],
        &status["history_problem"],
        &status["broker"]["problem"],
        &status["configuration_problem"],
    ];
    let of_hardware = status["hardware_problems"].as_array().into_iter().flatten();
    for problem in problems.into_iter().chain(of_hardware) {
        if let Some(problem) = problem.as_str() {
            writeln!(out, "{:<11} {}", "problem", problem.replace('\n', " "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request with `answer`, and returns it.
    fn page(answer: &'static str) -> (Page, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let page = Page {
            listen: listener.local_addr().unwrap(),
            token: Some("0123456789abcdef".into()),
        };
        let served = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            peer.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (page, served)
    }

    #[test]
    fn it_asks_with_the_token_and_says_what_it_heard() {
        let (page, served) = page(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\
             {\"version\":\"0.1.0\",\"capture\":{\"state\":\"no-microphone\",\"problem\":\"a\\nb\"},\
             \"recognizer\":{\"name\":\"genre\",\"path\":null,\"watched\":\"/x.sori\",\"swapped\":2,\"refused\":1},\
             \"heard\":null,\"hardware_problems\":[\"no display\"]}",
        );
        let status = ask(&page).expect("an answer");
        let request = served.join().unwrap();
        assert!(
            request.contains("Authorization: Bearer 0123456789abcdef\r\n"),
            "{request}"
        );
        let mut out = Vec::new();
        write_text(&status, &mut out).unwrap();
        let lines = "version     0.1.0\nmicrophone  no-microphone\npackage     genre\n\
            from        built-in\nwatched     /x.sori\ntaken       2\nrefused     1\n\
            heard       none\nproblem     a b\nproblem     no display\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn who_does_not_answer_as_sori_pi_does_is_named() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = unused.local_addr().unwrap();
        drop(unused);
        let nobody = Page {
            listen,
            token: None,
        };
        let silent = ask(&nobody).expect_err("nobody").to_string();
        assert!(silent.contains("systemctl status sori-pi"), "{silent}");
        for (answer, why) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "401"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", "expected value"),
        ] {
            let (page, served) = page(answer);
            let silent = ask(&page).expect_err(why).to_string();
            assert!(silent.contains(why), "{silent}");
            served.join().unwrap();
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:8080", "[::1]:8080"),
            ("192.168.1.2:1", "192.168.1.2:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
