//! Connections: accepted up to a bound, given up when they stand still, and finished when the program stops.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// The bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Connections at once; those past it wait in the listener's queue.
    pub count_max: usize,
    /// How long a connection may take to send the head of a request, the time without one included.
    pub head: Duration,
    /// How long requests in flight may take to finish when the program stops.
    pub finish: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { count_max: 4096, head: Duration::from_secs(30), finish: Duration::from_secs(5) }
    }
}

/// How long accepting rests when the system has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Serves a router with the default [`Connections`] until `shutdown` completes; then accepts no more, finishes the requests in
/// flight, and returns.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    serve_within(listener, router, Connections::default(), shutdown).await
}

/// The same with bounds of its own.
pub async fn serve_within(listener: TcpListener, router: Router, connections: Connections, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(connections.count_max));
    let (closing, closed) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        if let Some((stream, peer, slot)) = accepted? {
            open.spawn(connection(stream, peer, slot, router.clone(), connections, closed.clone()));
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    // Connections hold receivers until they end; without any there is nobody to tell.
    let _ = closing.send(true);
    if tokio::time::timeout(connections.finish, async { while open.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(connections = open.len(), "requests in flight did not finish in time");
        open.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is room for it; `None` where accepting failed in a way that passes.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)>> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    match listener.accept().await {
        Ok((stream, peer)) => Ok(Some((stream, peer, slot))),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "accepting a connection failed; trying again");
            tokio::time::sleep(ACCEPT_REST).await;
            Ok(None)
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
    router: Router,
    connections: Connections,
    mut closed: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps waiting to fill its packets");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.call(request);
        async move { answer.await as Result<Response, Infallible> }
    });
    let served = http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(connections.head).serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        result = &mut served => Some(result),
        _ = closed.wait_for(|closing| *closing) => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "a connection ended with an error");
    }
    drop(slot);
}
