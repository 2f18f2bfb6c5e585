//! The page's files, in the binary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::login;

pub(super) const INDEX: &str = include_str!("assets/index.html");
pub(super) const LOGIN: &str = include_str!("assets/login.html");
pub(super) const OPENAPI: &str = include_str!("assets/openapi.json");

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 14] = [
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("assets/style.css"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("app.js", SCRIPT, include_str!("assets/app.js")),
    ("card.js", SCRIPT, include_str!("assets/card.js")),
    ("classify.js", SCRIPT, include_str!("assets/classify.js")),
    ("colour.js", SCRIPT, include_str!("assets/colour.js")),
    ("day.js", SCRIPT, include_str!("assets/day.js")),
    ("doctor.js", SCRIPT, include_str!("assets/doctor.js")),
    ("health.js", SCRIPT, include_str!("assets/health.js")),
    ("history.js", SCRIPT, include_str!("assets/history.js")),
    ("now.js", SCRIPT, include_str!("assets/now.js")),
    (
        "spectrogram.js",
        SCRIPT,
        include_str!("assets/spectrogram.js"),
    ),
    ("stream.js", SCRIPT, include_str!("assets/stream.js")),
    ("util.js", SCRIPT, include_str!("assets/util.js")),
];

/// One of them. The name is only compared with theirs.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return login::nowhere().await.into_response();
    };
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get(header::IF_NONE_MATCH);
    let unchanged = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    // Asked for anew each time, which is one small answer after an update.
    let about = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    match unchanged {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, [(header::CONTENT_TYPE, *kind)], *text).into_response(),
    }
}

/// The API's description.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_that_is_not_here() {
        let is_here = |name: &str| FILES.iter().any(|(file, ..)| *file == name);
        let texts = FILES.iter().map(|(_, _, text)| *text);
        for text in texts.chain([INDEX, LOGIN]) {
            for part in text.split("/assets/").skip(1) {
                let name = part.split(['"', ')']).next().unwrap_or_default();
                assert!(is_here(name), "{name} is no file of the page");
            }
            for part in text.split("from \"./").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                assert!(is_here(name), "{name} is no file of the page");
            }
            for outside in [
                "src=\"http",
                "href=\"//",
                "url(http",
                "import(\"http",
                "style=\"",
            ] {
                assert!(!text.contains(outside), "{outside} in {text}");
            }
        }
    }
}
