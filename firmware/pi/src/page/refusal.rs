use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::board::SCHEMA_VERSION;

/// Why a request is not answered, in words that say what to do.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    parameter: Option<String>,
    again: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'r> {
    schema_version: u32,
    error: Error<'r>,
}

#[derive(Serialize)]
struct Error<'r> {
    message: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'r str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            parameter: None,
            again: None,
        }
    }

    /// A parameter that is not allowed as it is.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.into()),
            ..Self::new(StatusCode::BAD_REQUEST, message)
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 429: come again.
    pub(super) fn too_many(message: impl Into<String>, again: Duration) -> Self {
        Self {
            again: Some(again),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// 503: come again.
    pub(super) fn busy(message: impl Into<String>, again: Duration) -> Self {
        Self {
            again: Some(again),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body {
            schema_version: SCHEMA_VERSION,
            error: Error {
                message: &self.message,
                parameter: self.parameter.as_deref(),
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(again) = self.again {
            let seconds = again.as_secs_f64().ceil().max(1.0) as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"sori-pi\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
