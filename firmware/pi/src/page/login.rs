//! The token: as a header for programs, as a cookie for people.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::limit::Client;
use super::refusal::Refusal;
use super::{App, assets, guard};

const COOKIE: &str = "sori-pi";

/// A month.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// The token, never printed.
pub(super) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(token.into())
    }

    /// Takes as long for every secret of its length, so that the time does not tell how
    /// much of it was right.
    pub(super) fn is(&self, secret: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let differences = token
            .iter()
            .zip(secret)
            .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        token.len() == secret.len() && differences == 0
    }

    /// It outlives a restart, and ends with the token. Scripts and other sites have no
    /// access to it. It is not `Secure`: the page speaks plain HTTP.
    pub(super) fn cookie(&self) -> HeaderValue {
        let value = BASE64_URL_SAFE_NO_PAD.encode(&self.0);
        let cookie = format!(
            "{COOKIE}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict"
        );
        HeaderValue::try_from(cookie).expect("base64 is visible ASCII")
    }
}

/// The secret of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(secret)
}

/// The secret that a request brings, in either form.
pub(super) fn secret(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    if let Some(secret) = bearer(headers) {
        return Some(Cow::Borrowed(secret));
    }
    let cookies = headers.get_all(header::COOKIE).iter();
    let value = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))?;
    // What is no base64 is a wrong token, not none.
    let secret = BASE64_URL_SAFE_NO_PAD.decode(value).unwrap_or_default();
    Some(Cow::Owned(secret))
}

/// Where to sign in; with no token, nowhere.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    match app.guard.has_token() {
        true => form(StatusCode::OK, ""),
        false => Redirect::to("/").into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct Sent {
    token: String,
}

/// Signs in.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    client: Extension<Client>,
    headers: HeaderMap,
    sent: Result<Form<Sent>, FormRejection>,
) -> Response {
    if let Err(refusal) = guard::check_origin(&headers) {
        return refusal.into_response();
    }
    let Ok(Form(Sent { token })) = sent else {
        return form(StatusCode::BAD_REQUEST, "Enter the token.");
    };
    match app.guard.try_secret(client.0, token.trim().as_bytes()) {
        Err(refusal) => {
            let words = "Too many wrong tokens from this address. Wait a minute.";
            let mut response = form(refusal.status(), words);
            if let Some(again) = refusal.into_response().headers().get(header::RETRY_AFTER) {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, again.clone());
            }
            response
        }
        Ok(false) => form(
            StatusCode::UNAUTHORIZED,
            "Wrong token. It is in the configuration file, as token in [page].",
        ),
        Ok(true) => {
            let mut response = Redirect::to("/").into_response();
            if let Some(cookie) = app.guard.cookie() {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
    }
}

fn form(status: StatusCode, words: &'static str) -> Response {
    let page = assets::LOGIN.replace("<!-- words -->", words);
    (status, Html(page)).into_response()
}

/// The page itself; who is not signed in is sent to do so.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    client: Extension<Client>,
    headers: HeaderMap,
) -> Response {
    match app.guard.authorise(client.0, &headers) {
        Ok(()) => ([(header::CACHE_CONTROL, "no-cache")], Html(assets::INDEX)).into_response(),
        Err(refusal) if refusal.status() == StatusCode::UNAUTHORIZED => {
            Redirect::to("/login").into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Nothing has that path.
pub(super) async fn nowhere() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "not found: /api/openapi.json lists all paths",
    )
}

/// Nothing is done to that path in that way.
pub(super) async fn not_so() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed: /api/openapi.json lists the methods of each path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::new("0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_secret_comes_as_header_or_as_cookie() {
        let token = Token::new("with spaces; = and ü");
        let cookie = token.cookie();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        let of = |name: header::HeaderName, value: &str| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers: HeaderMap = [(name, value)].into_iter().collect();
            secret(&headers).map(Cow::into_owned)
        };
        let right = Some(b"with spaces; = and \xc3\xbc".to_vec());
        assert_eq!(of(header::COOKIE, &format!("a=b; {pair}; c")), right);
        assert_eq!(
            of(header::AUTHORIZATION, "bearer with spaces; = and ü"),
            right
        );
        assert_eq!(of(header::COOKIE, "other=x"), None);
        assert_eq!(of(header::COOKIE, "sori-pi=?"), Some(Vec::new()));
        assert_eq!(of(header::AUTHORIZATION, "Basic abc"), None);
        assert_eq!(of(header::AUTHORIZATION, "x"), None);
    }
}
