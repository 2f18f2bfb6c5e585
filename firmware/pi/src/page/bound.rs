use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use super::limit::Client;
use super::{App, Limits, Shared, routes};
use crate::config;

/// Longest request head. A browser's has about 1 KB.
const HEAD_BYTES: usize = 16 << 10;

/// Answers in progress get so long to end when all stops.
const FAREWELL: Duration = Duration::from_millis(400);

/// A page that has its address and serves nobody yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: config::Page,
    limits: Limits,
}

impl Bound {
    /// Takes the address.
    ///
    /// # Errors
    /// It cannot be had, with what to do.
    pub async fn bind(config: &config::Page) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("the page cannot listen on {}", config.listen));
        let listener = match listener {
            Err(error) => {
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                return Err(match advice(kind, config.listen) {
                    Some(advice) => error.context(advice),
                    None => error,
                });
            }
            Ok(listener) => listener,
        };
        Ok(Self {
            address: listener.local_addr().context("the page has no address")?,
            listener,
            config: config.clone(),
            limits: Limits::default(),
        })
    }

    /// Other limits than the usual ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it is, with the port that was given if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and has let go of everything half a second later.
    pub async fn serve(self, shared: Shared, stop: impl Future<Output = ()>) {
        let loopback = self.address.ip().is_loopback();
        let app = Arc::new(App::new(&self.config, loopback, shared, self.limits));
        let router = routes::router(&app);
        let (stopping, stopped) = watch::channel(false);
        let connections = Connections::new(&app.limits);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let app = Arc::clone(&app);
            async move { app.hub.run(&app.shared.board).await }
        });
        let mut stop = pin!(stop);
        loop {
            let (stream, peer, place) = tokio::select! {
                () = &mut stop => break,
                Some(_) = tasks.join_next() => continue,
                accepted = connections.accept(&self.listener) => accepted,
            };
            let connection = connection(
                stream,
                peer,
                router.clone(),
                Arc::clone(&app),
                stopped.clone(),
            );
            tasks.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        // The event streams end with this, then the connections.
        app.hub.close();
        stopping.send_replace(true);
        drop(self.listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(FAREWELL, all).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

fn advice(kind: Option<io::ErrorKind>, address: SocketAddr) -> Option<String> {
    let port = address.port();
    Some(match kind? {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use: `ss -ltnp 'sport = :{port}'` shows by which program; stop it, or set another port in [page] listen"
        ),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root: set a higher one in [page] listen".into()
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine does not have the address {}: `ip address` lists its addresses; correct [page] listen",
            address.ip()
        ),
        _ => return None,
    })
}

/// One connection, until it ends or all does. What goes wrong with it is the peer's affair.
async fn connection(
    stream: TcpStream,
    peer: Client,
    router: Router,
    app: Arc<App>,
    mut stopped: watch::Receiver<bool>,
) {
    // Events are small, and are wanted now.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient {
        stream,
        patience: app.limits.stall,
        stalled: None,
    });
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = router.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.limits.head)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(4 * HEAD_BYTES)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { let _ = stopped.wait_for(|stopped| *stopped).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection to the page ended: {error}");
    }
}

/// Who is connected.
#[derive(Clone)]
struct Connections {
    places: Arc<Semaphore>,
    most_per_client: usize,
    by_client: Arc<Mutex<HashMap<Client, usize>>>,
}

impl Connections {
    fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.connections)),
            most_per_client: limits.connections_per_client,
            by_client: Arc::default(),
        }
    }

    /// The next connection that there is a place for. The others wait in the kernel; those
    /// of a client that has too many are closed.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, Client, Place) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let client = Client::of(address.ip());
                    // One's own machine has all of it: a proxy is many people.
                    let most = match address.ip().is_loopback() {
                        true => usize::MAX,
                        false => self.most_per_client,
                    };
                    if let Some(counted) = self.count(client, most) {
                        return (
                            stream,
                            client,
                            Place {
                                _place: place,
                                _counted: counted,
                            },
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!("the page cannot accept a connection: {error}");
                    // Too many open files, most likely, which does not pass by asking again.
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn count(&self, client: Client, most: usize) -> Option<Counted> {
        let mut by_client = self
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client).or_default();
        (*count < most).then(|| {
            *count += 1;
            Counted {
                client,
                by_client: Arc::clone(&self.by_client),
            }
        })
    }
}

struct Place {
    _place: tokio::sync::OwnedSemaphorePermit,
    _counted: Counted,
}

struct Counted {
    client: Client,
    by_client: Arc<Mutex<HashMap<Client, usize>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_client = self
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

/// A stream that fails when the peer takes nothing for too long. Without it a peer that
/// only stops reading would keep its place for good.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
