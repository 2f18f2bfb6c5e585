//! What programs are told, and what they may ask for.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::refusal::Refusal;
use crate::board::{Command, SCHEMA_VERSION, State as Capturing, Status, now_ms};
use crate::history::{self, Format, Span};

/// The year 10000, which no clock of a Pi reaches.
const LATEST_MS: i64 = 253_402_300_800_000;

/// Spans in an answer. A day has 1440 and more.
const USUAL_LIMIT: u32 = 500;
const MOST_LIMIT: u32 = 20_000;

/// A body of a command.
const COMMAND_BYTES: usize = 4096;

/// An export must be taken by then: as long as it is read, the database's log grows.
const LONGEST_EXPORT: Duration = Duration::from_secs(600);

const DOCTOR: Duration = Duration::from_secs(60);

/// The status and what is not of the board.
#[derive(Serialize)]
struct Told {
    schema_version: u32,
    version: &'static str,
    now_ms: i64,
    uptime_s: f64,
    muted: bool,
    #[serde(flatten)]
    status: Status,
}

/// The status in JSON.
pub(super) fn told(board: &crate::board::Board) -> String {
    let told = Told {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        now_ms: now_ms(),
        uptime_s: board.uptime_s(),
        muted: board.is_muted(),
        status: board.status(),
    };
    serde_json::to_string(&told).expect("all keys are strings")
}

/// Whether it does what it is there for: it listens, and what it hears is kept. It needs no token,
/// so that it says what is wrong and not why.
pub(super) async fn healthz(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let status = app.shared.board.status();
    let listens =
        status.capture.problem.is_none() && status.capture.state != Capturing::NoMicrophone;
    let stuck = status.stuck.iter().map(|name| format!("{name} is stuck"));
    let problems: Vec<String> = [
        (!listens).then_some("no sound comes in"),
        status
            .history_problem
            .is_some()
            .then_some("the history cannot be written"),
    ]
    .into_iter()
    .flatten()
    .map(String::from)
    .chain(stuck)
    .collect();
    match problems.is_empty() {
        true => (StatusCode::OK, "ok\n".into()),
        false => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n"),
    }
}

pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, told(&app.shared.board)).into_response()
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let metrics = app
        .shared
        .metrics
        .as_ref()
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "this build has no metrics"))?;
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((kind, metrics()).into_response())
}

#[derive(Serialize)]
struct Spans {
    schema_version: u32,
    spans: Vec<Span>,
}

pub(super) async fn history(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Json<impl Serialize>, Refusal> {
    let mut query = query(&uri)?;
    query.limit.get_or_insert(USUAL_LIMIT);
    let path = app.shared.history.clone();
    let permit = reader(&app.readers)?;
    let spans = spawn_blocking(move || {
        let _permit = permit;
        let mut spans = Vec::new();
        if path.exists() {
            history::read(&path, &query, |span| {
                spans.push(span);
                Ok(())
            })?;
        }
        Ok::<_, history::Unreadable>(spans)
    });
    match spans.await {
        Ok(Ok(spans)) => Ok(Json(Spans {
            schema_version: SCHEMA_VERSION,
            spans,
        })),
        Ok(Err(error)) => Err(Refusal::busy(
            format!("{error}: new entries are kept in memory and written later"),
            Duration::from_secs(10),
        )),
        Err(_) => Err(broken()),
    }
}

pub(super) async fn history_csv(state: State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let about = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"sori-history.csv\"",
        ),
    ];
    Ok((about, export(&state, &uri, Format::Csv)?).into_response())
}

pub(super) async fn history_json(state: State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let about = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"sori-history.jsonl\"",
        ),
    ];
    Ok((about, export(&state, &uri, Format::Json)?).into_response())
}

fn reader(readers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(readers).try_acquire_owned().map_err(|_| {
        Refusal::busy(
            "the history is being read by others: try again",
            Duration::from_secs(1),
        )
    })
}

/// Spans as they are read, with no more of them in memory than a few pages.
fn export(app: &App, uri: &Uri, format: Format) -> Result<Body, Refusal> {
    let query = query(uri)?;
    let permit = reader(&app.readers)?;
    let path = app.shared.history.clone();
    let (sender, receiver) = mpsc::channel(4);
    spawn_blocking(move || {
        let _permit = permit;
        let mut out = BufWriter::with_capacity(
            16 << 10,
            Download {
                sender: sender.clone(),
                until: Instant::now() + LONGEST_EXPORT,
            },
        );
        let exported = match path.exists() {
            true => history::export(&path, &query, format, &mut out),
            // Nothing was heard yet.
            false => Ok(()),
        };
        let exported = exported.and_then(|()| Ok(out.flush()?));
        if let Err(error) = exported {
            tracing::warn!("an export was cut short: {error}");
            // The connection breaks, so that nobody takes a part for the whole.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)))
}

struct Download {
    sender: mpsc::Sender<io::Result<Bytes>>,
    until: Instant,
}

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The query of a history's URI.
fn query(uri: &Uri) -> Result<history::Query, Refusal> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Refusal::bad_request("the query must be a list of name=value"))?;
    let mut query = history::Query::default();
    for (name, value) in &pairs {
        if pairs.iter().filter(|(other, _)| other == name).count() > 1 {
            return Err(Refusal::parameter(
                name,
                format!("{name} may be given only once"),
            ));
        }
        match name.as_str() {
            "from_ms" => query.from_ms = Some(number(name, value, 0, LATEST_MS)?),
            "until_ms" => query.until_ms = Some(number(name, value, 0, LATEST_MS)?),
            "limit" => {
                let limit = number(name, value, 1, MOST_LIMIT.into())?;
                query.limit = u32::try_from(limit).ok();
            }
            "verdict" if !value.is_empty() && value.len() <= 200 => {
                query.verdict = Some(value.clone());
            }
            "verdict" => {
                return Err(Refusal::parameter(
                    name,
                    "verdict must be a label, `silence` or `unknown`, of at most 200 bytes",
                ));
            }
            _ => {
                return Err(Refusal::parameter(
                    name,
                    "unknown parameter: from_ms, until_ms, verdict and limit are allowed",
                ));
            }
        }
    }
    match (query.from_ms, query.until_ms) {
        (Some(from), Some(until)) if from >= until => Err(Refusal::parameter(
            "until_ms",
            "until_ms must be later than from_ms",
        )),
        _ => Ok(query),
    }
}

fn number(name: &str, value: &str, least: i64, most: i64) -> Result<i64, Refusal> {
    let number = value.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Refusal::parameter(
                name,
                format!("{name} must be a whole number from {least} to {most}"),
            )
        })
}

#[derive(Serialize)]
struct Card {
    schema_version: u32,
    name: String,
    path: Option<String>,
    labels: Vec<String>,
    bands: usize,
    rows_per_second: f64,
    backend: String,
    card: Option<Arc<str>>,
}

pub(super) async fn model(State(app): State<Arc<App>>) -> Json<impl Serialize> {
    let model = app.shared.model();
    Json(Card {
        schema_version: SCHEMA_VERSION,
        name: model.name.clone(),
        path: model.path.as_ref().map(|path| path.display().to_string()),
        labels: model.labels.clone(),
        bands: model.bands,
        rows_per_second: model.rows_per_second,
        backend: crate::model::Model::backend(),
        card: model.path.is_none().then(|| Arc::clone(&app.shared.card)),
    })
}

#[derive(Serialize)]
struct Findings {
    schema_version: u32,
    findings: serde_json::Value,
}

pub(super) async fn doctor(State(app): State<Arc<App>>) -> Result<Json<impl Serialize>, Refusal> {
    let permit = Arc::clone(&app.doctor).try_acquire_owned().map_err(|_| {
        Refusal::too_many(
            "the microphone is already being examined: try again",
            Duration::from_secs(5),
        )
    })?;
    let doctor = Arc::clone(&app.shared.doctor);
    let findings = spawn_blocking(move || {
        let _permit = permit;
        doctor()
    });
    match tokio::time::timeout(DOCTOR, findings).await {
        Ok(Ok(findings)) => Ok(Json(Findings {
            schema_version: SCHEMA_VERSION,
            findings,
        })),
        Ok(Err(_)) => Err(broken()),
        Err(_) => Err(Refusal::busy(
            "the microphone does not respond: run `sori-pi mic doctor` on the Pi",
            DOCTOR,
        )),
    }
}

fn broken() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal error: the log says more (journalctl -u sori-pi)",
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mute {
    muted: bool,
}

/// A command is on its way: what comes of it is in the events.
#[derive(Serialize)]
pub(super) struct Accepted {
    schema_version: u32,
    accepted: bool,
}

const ACCEPTED: (StatusCode, Json<Accepted>) = (
    StatusCode::ACCEPTED,
    Json(Accepted {
        schema_version: SCHEMA_VERSION,
        accepted: true,
    }),
);

pub(super) async fn mute(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<impl IntoResponse, Refusal> {
    let allowed = "the body must be {\"muted\": true} or {\"muted\": false}";
    let Mute { muted } = command(request, allowed).await?;
    app.shared.board.command(Command::Mute(muted));
    Ok(ACCEPTED)
}

pub(super) async fn confirm(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    if app.shared.board.status().heard.is_none() {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "nothing has been heard yet, so there is nothing to confirm",
        ));
    }
    app.shared.board.command(Command::Confirm);
    Ok(ACCEPTED)
}

/// A small JSON body.
async fn command<T: DeserializeOwned>(request: Request, allowed: &str) -> Result<T, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send Content-Type: application/json; {allowed}"),
        ));
    }
    let body = axum::body::to_bytes(request.into_body(), COMMAND_BYTES).await;
    let body = body.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {COMMAND_BYTES} bytes: {allowed}"),
        )
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad_request(format!("{error}: {allowed}")))
}
