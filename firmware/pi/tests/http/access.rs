use crate::peer::{JSON, Server, TOKEN};

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
    assert!(wrong.text().contains("Wrong token") && !wrong.headers.contains_key("set-cookie"));
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
    // Who knows it is let in whoever guesses beside him, and uses up nothing.
    for _ in 0..3 {
        assert_eq!(ask(TOKEN).status, 200);
    }
    ask("wrong still").refused(429);
    assert_eq!(server.get("/healthz").status, 200);
    // Who brings no secret guesses nothing.
    server.get("/api/status").refused(401);
}
