//! News for browsers, as server-sent events.
//!
//! A hub listens to the board and writes each event once, whoever reads it. Feature rows
//! are gathered, eight events a second. Who is too slow loses the oldest events, is told,
//! and holds up nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::App;
use super::api::told;
use super::refusal::Refusal;
use crate::board::{Board, News};

/// Between two events with feature rows.
const BATCH: Duration = Duration::from_millis(125);
/// Batches between two events with the status.
const STATUS_EVERY: u32 = 8;
/// Events that a slow reader may be behind: about 20 seconds.
const MOST_FRAMES: usize = 256;
/// Rows that a new reader is given to begin with: 16 seconds.
const BACKLOG_ROWS: usize = 1024;

/// Writes events, once for everybody.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    places: Arc<Semaphore>,
}

struct Inner {
    /// None when all stops, which ends every stream.
    frames: Option<broadcast::Sender<Bytes>>,
    backlog: Backlog,
}

/// The last rows that were sent.
#[derive(Default)]
struct Backlog {
    bands: usize,
    values: VecDeque<u8>,
    /// Number of the next row.
    next: u64,
}

#[derive(Serialize)]
struct Rows {
    /// Number of the first of them, since the start.
    first: u64,
    bands: usize,
    /// One byte a band, base64: two's complement, as the network is given it.
    rows: String,
}

#[derive(Serialize)]
struct Muted {
    muted: bool,
}

impl Hub {
    pub(super) fn new(streams: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                frames: Some(broadcast::Sender::new(MOST_FRAMES)),
                backlog: Backlog::default(),
            }),
            places: Arc::new(Semaphore::new(streams)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every stream.
    pub(super) fn close(&self) {
        self.lock().frames = None;
    }

    /// Until the hub is closed.
    pub(super) async fn run(&self, board: &Board) {
        let mut news = board.subscribe();
        let mut batch = interval(BATCH);
        batch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batches = 0;
        let mut pending = Pending::default();
        loop {
            tokio::select! {
                _ = batch.tick() => {
                    pending.send(self);
                    batches = (batches + 1) % STATUS_EVERY;
                    let Some(readers) = self.readers() else { return };
                    if batches == 0 && readers > 0 {
                        self.send(frame("status", &told(board)));
                    }
                }
                next = news.recv() => match next {
                    Ok(News::Row(row)) => pending.push(&row, self),
                    Ok(other) => self.send(of_news(&other)),
                    // This thread was busy: what is lost here was to be drawn, no more.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    /// How many there are; none when all stops.
    fn readers(&self) -> Option<usize> {
        let frames = &self.lock().frames;
        frames.as_ref().map(broadcast::Sender::receiver_count)
    }

    fn send(&self, frame: Option<Bytes>) {
        if let (Some(frames), Some(frame)) = (&self.lock().frames, frame) {
            // Nobody need read.
            let _ = frames.send(frame);
        }
    }

    /// The events from now on, and the rows until now: none twice and none left out.
    fn join(&self) -> Option<(Option<Bytes>, broadcast::Receiver<Bytes>)> {
        let inner = self.lock();
        let receiver = inner.frames.as_ref()?.subscribe();
        Some((inner.backlog.frame(), receiver))
    }
}

/// Rows that wait for the next event.
#[derive(Default)]
struct Pending {
    bands: usize,
    values: Vec<u8>,
}

impl Pending {
    fn push(&mut self, row: &[i8], hub: &Hub) {
        if row.len() != self.bands {
            // Another package listens from here on.
            self.send(hub);
            self.bands = row.len();
        }
        self.values.extend(row.iter().map(|&value| value as u8));
    }

    fn send(&mut self, hub: &Hub) {
        if self.values.is_empty() {
            return;
        }
        let mut inner = hub.lock();
        let first = inner.backlog.push(self.bands, &self.values);
        if let Some(frames) = &inner.frames
            && frames.receiver_count() > 0
            && let Some(frame) = rows(first, self.bands, &self.values)
        {
            let _ = frames.send(frame);
        }
        self.values.clear();
    }
}

impl Backlog {
    /// Takes rows and returns the number of the first.
    fn push(&mut self, bands: usize, values: &[u8]) -> u64 {
        if bands != self.bands {
            self.values.clear();
            self.bands = bands;
        }
        let first = self.next;
        self.next += (values.len() / bands.max(1)) as u64;
        self.values.extend(values);
        let over = self.values.len().saturating_sub(BACKLOG_ROWS * bands);
        self.values.drain(..over);
        first
    }

    fn frame(&self) -> Option<Bytes> {
        let count = (self.values.len() / self.bands.max(1)) as u64;
        let values: Vec<u8> = self.values.iter().copied().collect();
        rows(self.next - count, self.bands, &values)
    }
}

fn rows(first: u64, bands: usize, values: &[u8]) -> Option<Bytes> {
    let rows = BASE64_STANDARD.encode(values);
    json_frame("rows", &Rows { first, bands, rows })
}

fn of_news(news: &News) -> Option<Bytes> {
    match news {
        News::Row(_) => None,
        News::Heard(heard) => json_frame("heard", heard),
        News::Channels(channels) => json_frame("channels", channels),
        News::Span(span) => json_frame("span", span),
        News::Confirmed(heard) => json_frame("confirmed", heard),
        News::Muted(muted) => json_frame("muted", &Muted { muted: *muted }),
    }
}

fn json_frame(event: &str, data: &impl Serialize) -> Option<Bytes> {
    frame(event, &serde_json::to_string(data).ok()?)
}

/// JSON has no line breaks of its own, so that an event's data is one line.
fn frame(event: &str, json: &str) -> Option<Bytes> {
    Some(format!("event: {event}\ndata: {json}\n\n").into())
}

/// A reader's stream.
pub(super) async fn stream(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let full = || {
        Refusal::busy(
            "too many pages are open: close one and try again",
            Duration::from_secs(10),
        )
    };
    let place = Arc::clone(&app.hub.places).try_acquire_owned();
    let place = place.map_err(|_| full())?;
    let (backlog, receiver) = app.hub.join().ok_or_else(full)?;
    let first = [frame("status", &told(&app.shared.board)), backlog];
    let live = BroadcastStream::new(receiver).map(|frame| match frame {
        Ok(frame) => frame,
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n").into()
        }
    });
    let events = tokio_stream::iter(first.into_iter().flatten())
        .chain(live)
        .map(move |frame| {
            // The reader's place is free when the stream is dropped.
            let _place = &place;
            Ok::<_, std::convert::Infallible>(frame)
        });
    let about = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((about, Body::from_stream(events)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_the_last_rows_and_their_numbers() {
        let mut backlog = Backlog::default();
        assert!(
            backlog
                .frame()
                .is_some_and(|frame| { String::from_utf8_lossy(&frame).contains("\"rows\":\"\"") })
        );
        assert_eq!(backlog.push(2, &[1, 2, 3, 4]), 0);
        assert_eq!(backlog.push(2, &[5, 6]), 2);
        let frame = backlog.frame().unwrap();
        let encoded = BASE64_STANDARD.encode([1, 2, 3, 4, 5, 6]);
        assert_eq!(
            frame,
            format!("event: rows\ndata: {{\"first\":0,\"bands\":2,\"rows\":\"{encoded}\"}}\n\n")
        );
        for _ in 0..2 * BACKLOG_ROWS {
            backlog.push(2, &[7, 8]);
        }
        assert_eq!(backlog.values.len(), 2 * BACKLOG_ROWS);
        // Another package has other rows.
        assert_eq!(backlog.push(3, &[1, 2, 3]), 3 + 2 * BACKLOG_ROWS as u64);
        assert_eq!(backlog.values.len(), 3);
    }
}
