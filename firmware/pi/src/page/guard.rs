//! What stands before every handler.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::limit::{Allowance, Client};
use super::login::Secret;
use super::refusal::Refusal;
use super::{App, Limits, login};

/// Of every answer. Scripts, styles and data come from here and nowhere else; nobody frames
/// the page or learns where its reader goes.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Who may ask, and how often.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<login::Token>,
    loopback: bool,
    requests: Allowance,
    failures: Allowance,
}

impl Guard {
    pub(super) fn new(token: Option<&str>, loopback: bool, limits: &Limits) -> Self {
        Self {
            token: token.map(login::Token::new),
            loopback,
            requests: Allowance::new(limits.burst, limits.per_second),
            failures: Allowance::new(limits.failures, 0.1),
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the secret is right. Only wrong ones use up the allowance of an address, so that
    /// nobody who guesses keeps out who knows.
    ///
    /// # Errors
    /// It is wrong, like too many before it.
    pub(super) fn try_secret(&self, client: Client, secret: &Secret<'_>) -> Result<bool, Refusal> {
        let Some(token) = &self.token else {
            return Ok(true);
        };
        if token.is(secret) {
            return Ok(true);
        }
        let taken = self.failures.take(client, Instant::now());
        taken.map(|()| false).map_err(|again| {
            Refusal::too_many(
                "too many wrong tokens from this address: wait a moment",
                again,
            )
        })
    }

    /// A new cookie that stands for the token, if there is one.
    pub(super) fn cookie(&self) -> Option<Result<HeaderValue, getrandom::Error>> {
        self.token.as_ref().map(login::Token::cookie)
    }

    /// A token is there and right, if one is needed.
    pub(super) fn authorise(&self, client: Client, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.token.is_none() {
            return Ok(());
        }
        let right = match login::secret(headers) {
            Some(secret) => self.try_secret(client, &secret)?,
            None => false,
        };
        match right {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "the token of [page] is required: send it as `Authorization: Bearer TOKEN`, or sign in at /login",
            )),
        }
    }

    /// Another website can make a browser ask this address under that website's own name
    /// (DNS rebinding). Who listens on loopback answers to loopback's names only.
    fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::bad_request(
                "a request must have exactly one Host header",
            ));
        };
        let host = host.to_str().unwrap_or_default();
        let in_uri = uri.authority().map(|authority| authority.as_str());
        let ours = [Some(host), in_uri].into_iter().flatten().all(is_loopback);
        match ours || !self.loopback {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this page is only served to localhost: from another machine use `ssh -L 8080:localhost:8080`, or set listen and token in [page]",
            )),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let is_address = |name: &str| name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    port.bytes().all(|byte| byte.is_ascii_digit())
        && (name.eq_ignore_ascii_case("localhost") || is_address(bare.unwrap_or(name)))
}

/// Whether another website makes the browser ask. Browsers say so in Sec-Fetch-Site, or at
/// least in Origin with a POST; who sends neither is no browser.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let value = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.as_bytes())
    };
    let same = match value(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == b"same-origin" || site == b"none",
        None => match (value(header::ORIGIN), value(header::HOST)) {
            (None, _) => true,
            (Some(origin), Some(host)) => [&b"http://"[..], b"https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(*scheme) == Some(host)),
            (Some(_), None) => false,
        },
    };
    match same {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "requests from other websites are not allowed: only the page itself, or a program with the token as `Authorization: Bearer TOKEN`",
        )),
    }
}

/// For everything: limits, Host, and the headers of every answer.
pub(super) async fn everything(
    State(app): State<Arc<App>>,
    client: axum::Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = app
        .guard
        .requests
        .take(client.0, Instant::now())
        .map_err(|again| Refusal::too_many("too many requests: wait a little", again))
        .and_then(|()| app.guard.check_host(request.headers(), request.uri()));
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// For the API: the token, and no other website even for reading, which may open the
/// microphone or use up the streams.
pub(super) async fn api(
    State(app): State<Arc<App>>,
    client: axum::Extension<Client>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    app.guard.authorise(client.0, headers)?;
    // No website can make a browser send the token as a header.
    if !(app.guard.has_token() && login::bearer(headers).is_some()) {
        check_origin(headers)?;
    }
    Ok(next.run(request).await)
}

/// For all but the slow ones: an answer by then, or none.
pub(super) async fn in_time(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let answer = tokio::time::timeout(app.limits.answer, next.run(request)).await;
    answer.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request took too long: send all of it at once, or try again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loopback() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.0.0.1:9",
            "127.9.9.9",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "192.168.1.2:8080",
            "[::2]",
            "localhost:80:80",
            "user@localhost",
            "localhost:8080x",
            "[localhost]x",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn other_websites_are_known_by_what_browsers_say() {
        let allowed = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            check_origin(&headers.collect()).is_ok()
        };
        let host = ("host", "pi.local:8080");
        assert!(allowed(&[host]));
        assert!(allowed(&[host, ("origin", "http://pi.local:8080")]));
        assert!(allowed(&[host, ("origin", "https://pi.local:8080")]));
        assert!(allowed(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[host, ("sec-fetch-site", "none")]));
        for other in [
            ("origin", "http://pi.local"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "ftp://pi.local:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!allowed(&[host, other]), "{other:?}");
        }
        // What the browser says of the site outweighs the origin.
        assert!(!allowed(&[
            host,
            ("origin", "http://pi.local:8080"),
            ("sec-fetch-site", "cross-site")
        ]));
    }
}
