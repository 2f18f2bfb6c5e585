//! The token: as a header for programs; for people a cookie that stands for it.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::limit::Client;
use super::refusal::Refusal;
use super::{App, assets, guard};

const COOKIE: &str = "sori-pi";

/// A month.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// A cookie's value: random bytes, then their HMAC-SHA256 (RFC 2104) under the token.
const COOKIE_LEN: usize = NONCE_LEN + 32;
const NONCE_LEN: usize = 16;

/// The token, never printed.
pub(super) struct Token {
    /// Of one length for every token, so that comparing tells nothing of the token's.
    digest: [u8; 32],
    /// What cookies are made with.
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(super) fn new(token: &str) -> Self {
        let mut key =
            Hmac::new_from_slice(token.as_bytes()).expect("HMAC takes keys of any length");
        key.update(b"sori-pi cookie 1");
        Self {
            digest: Sha256::digest(token).into(),
            key,
        }
    }

    /// In the same time for every secret of its length, right or wrong.
    pub(super) fn is(&self, secret: &Secret<'_>) -> bool {
        match secret {
            Secret::Token(token) => self.digest.ct_eq(&Sha256::digest(token)).into(),
            Secret::Cookie(cookie) => self.made(cookie),
        }
    }

    /// A new cookie. It outlives a restart, and ends with the token, which it does not tell.
    /// Scripts and other sites have no access to it. It is not `Secure`: the page speaks plain
    /// HTTP.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn cookie(&self) -> Result<HeaderValue, getrandom::Error> {
        let mut value = [0; COOKIE_LEN];
        let (nonce, tag) = value.split_at_mut(NONCE_LEN);
        getrandom::fill(nonce)?;
        tag.copy_from_slice(&self.of(nonce).finalize().into_bytes());
        let value = BASE64_URL_SAFE_NO_PAD.encode(value);
        let cookie = format!(
            "{COOKIE}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict"
        );
        Ok(HeaderValue::try_from(cookie).expect("base64 is visible ASCII"))
    }

    fn made(&self, cookie: &str) -> bool {
        let Ok(value) = BASE64_URL_SAFE_NO_PAD.decode(cookie) else {
            return false;
        };
        value.len() == COOKIE_LEN
            && self
                .of(&value[..NONCE_LEN])
                .verify_slice(&value[NONCE_LEN..])
                .is_ok()
    }

    fn of(&self, nonce: &[u8]) -> Hmac<Sha256> {
        self.key.clone().chain_update(nonce)
    }
}

/// What a request brings to be let in.
pub(super) enum Secret<'a> {
    /// The token itself.
    Token(&'a [u8]),
    /// The value of a cookie.
    Cookie(&'a str),
}

/// The secret of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(secret)
}

/// The secret that a request brings, in either form.
pub(super) fn secret(headers: &HeaderMap) -> Option<Secret<'_>> {
    if let Some(token) = bearer(headers) {
        return Some(Secret::Token(token));
    }
    let cookies = headers.get_all(header::COOKIE).iter();
    cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(Secret::Cookie(value)))
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
    let secret = Secret::Token(token.trim().as_bytes());
    match app.guard.try_secret(client.0, &secret) {
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
        Ok(true) => match app.guard.cookie() {
            Some(Err(_)) => form(
                StatusCode::SERVICE_UNAVAILABLE,
                "The system has no random numbers yet. Wait a minute.",
            ),
            Some(Ok(cookie)) => {
                let mut response = Redirect::to("/").into_response();
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                response
            }
            None => Redirect::to("/").into_response(),
        },
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
        assert!(token.is(&Secret::Token(b"0123456789abcdef")));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!token.is(&Secret::Token(wrong.as_bytes())), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    /// The pair of a new cookie, as a browser sends it back.
    fn pair(token: &Token) -> String {
        let cookie = token.cookie().unwrap();
        cookie.to_str().unwrap().split(';').next().unwrap().into()
    }

    #[test]
    fn a_cookie_stands_for_its_token_alone_and_does_not_tell_it() {
        let token = Token::new("0123456789abcdef");
        let pair = pair(&token);
        let value = pair.strip_prefix("sori-pi=").unwrap();
        assert!(token.is(&Secret::Cookie(value)));
        assert!(
            Token::new("0123456789abcdef").is(&Secret::Cookie(value)),
            "after a restart"
        );
        assert!(!Token::new("0123456789abcdeg").is(&Secret::Cookie(value)));
        assert_ne!(pair, self::pair(&token), "one for each that signs in");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"01234567"));
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let forged = BASE64_URL_SAFE_NO_PAD.encode(forged);
            assert!(!token.is(&Secret::Cookie(&forged)), "{at}");
        }
        let token_itself = BASE64_URL_SAFE_NO_PAD.encode("0123456789abcdef");
        for wrong in ["", "?", &token_itself, &value[..value.len() - 2]] {
            assert!(!token.is(&Secret::Cookie(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_secret_comes_as_header_or_as_cookie() {
        let token = Token::new("with spaces; = and ü");
        let pair = pair(&token);
        let of = |name: header::HeaderName, value: &str| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers: HeaderMap = [(name, value)].into_iter().collect();
            secret(&headers).map(|secret| token.is(&secret))
        };
        assert_eq!(of(header::COOKIE, &format!("a=b; {pair}; c")), Some(true));
        assert_eq!(
            of(header::AUTHORIZATION, "bearer with spaces; = and ü"),
            Some(true)
        );
        assert_eq!(of(header::COOKIE, "other=x"), None);
        assert_eq!(of(header::COOKIE, "sori-pi=?"), Some(false));
        assert_eq!(of(header::AUTHORIZATION, "Basic abc"), None);
        assert_eq!(of(header::AUTHORIZATION, "x"), None);
    }
}
