//! The page and the HTTP API: a server that a forgotten browser, a slow peer or a stranger's
//! website cannot use against the listening.
//!
//! ```text
//! board ─► hub ─► a frame once, for all ─► SSE streams ─► the page
//! request ─► limits ─► Host ─► origin ─► token ─► handler
//! ```
//!
//! Everything that the page needs is in the binary. No part of a request becomes a path of
//! the file system, and nothing is believed that a proxy might have added.

mod api;
mod assets;
mod bound;
mod classify;
mod events;
mod guard;
mod limit;
mod login;
mod refusal;
mod routes;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::board::Board;
use crate::config;
use crate::model::Model;

pub use bound::Bound;

/// The model card of the package that is built in.
pub const BUILT_IN_CARD: &str = include_str!("../../../../models/genre/MODEL_CARD.md");

/// Looks at the microphone: a list of `{"severity", "what", "why", "type"}`, where `type` is
/// the line to type. It may take seconds, on a thread where that does no harm.
pub type Doctor = dyn Fn() -> serde_json::Value + Send + Sync;

/// Writes the metrics in Prometheus' text format.
pub type Metrics = dyn Fn() -> String + Send + Sync;

/// What the page shows and asks.
#[derive(Clone)]
pub struct Shared {
    /// The latest, the news, and where commands go.
    pub board: Arc<Board>,
    /// The history's database, which need not exist yet.
    pub history: PathBuf,
    /// The package that listens now; `POST /classify` uses it too.
    pub model: Arc<RwLock<Arc<Model>>>,
    /// Card of the built-in package, Markdown; a package from a file has none here.
    pub card: Arc<str>,
    /// Looks at the microphone.
    pub doctor: Arc<Doctor>,
    /// Text of `/metrics`; without it that path is not found.
    pub metrics: Option<Arc<Metrics>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn model(&self) -> Arc<Model> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&model)
    }
}

/// What a peer may use up. The defaults are for a household.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// A request's head must be there by then, and an idle connection is closed.
    pub head: Duration,
    /// An answer must be ready by then; `/classify` and `/api/doctor` have their own.
    pub answer: Duration,
    /// A peer that takes nothing of an answer for so long is given up.
    pub stall: Duration,
    /// Open connections, in all and by one other machine.
    pub connections: usize,
    /// See `connections`.
    pub connections_per_client: usize,
    /// Simultaneous event streams.
    pub streams: usize,
    /// Requests of one client at once, and a second after that.
    pub burst: u32,
    /// See `burst`.
    pub per_second: f64,
    /// Wrong tokens of one client at once; one more every ten seconds.
    pub failures: u32,
    /// Bytes of a file for `/classify`.
    pub clip_bytes: u64,
    /// Its sound.
    pub clip_seconds: u32,
    /// Its next bytes must come by then.
    pub clip_stall: Duration,
    /// All of it must be heard by then.
    pub clip: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            connections: 96,
            connections_per_client: 32,
            streams: 16,
            burst: 200,
            per_second: 50.0,
            failures: 10,
            clip_bytes: 32 << 20,
            clip_seconds: 600,
            clip_stall: Duration::from_secs(10),
            clip: Duration::from_secs(300),
        }
    }
}

/// Serves until `stop`, and has let go of everything half a second later.
///
/// # Errors
/// The address cannot be used, with what to do.
pub async fn serve(
    config: config::Page,
    shared: Shared,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    Bound::bind(&config).await?.serve(shared, stop).await;
    Ok(())
}

/// What handlers share.
struct App {
    shared: Shared,
    limits: Limits,
    guard: guard::Guard,
    hub: events::Hub,
    /// Each reads the database on a thread of its own.
    readers: Arc<Semaphore>,
    doctor: Arc<Semaphore>,
    classifying: Arc<Semaphore>,
}

impl App {
    fn new(config: &config::Page, loopback: bool, shared: Shared, limits: Limits) -> Self {
        Self {
            guard: guard::Guard::new(config.token.as_deref(), loopback, &limits),
            hub: events::Hub::new(limits.streams),
            readers: Arc::new(Semaphore::new(4)),
            doctor: Arc::new(Semaphore::new(1)),
            classifying: Arc::new(Semaphore::new(1)),
            shared,
            limits,
        }
    }
}
