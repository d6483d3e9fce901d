//! The Flight SQL server's life.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::engine::Engine;
use crate::flight::FlightSql;
use crate::scope::Authenticator;

/// A request larger than this is refused; the largest are statements with their parameters.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// How long a stop waits for queries that run.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// A connection that answers no ping within as much again is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Calls of one connection at a time.
const CALLS_PER_CONNECTION_MAX: usize = 256;
/// Connections at a time; more wait until one ends.
const CONNECTIONS_MAX: usize = 1024;
/// After an accept that failed (no descriptors are left, say), how long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection, counted for as long as it lives.
struct Connection {
    stream: TcpStream,
    _counted: OwnedSemaphorePermit,
}

/// The connections that come, never more at a time than the bound.
fn incoming(listener: TcpListener) -> impl Stream<Item = std::io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    futures::stream::unfold((listener, room), |(listener, room)| async move {
        // The semaphore is never closed.
        let counted = Arc::clone(&room).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let nodelay = stream.set_nodelay(true);
                    return Some((nodelay.map(|()| Connection { stream, _counted: counted }), (listener, room)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for SQL was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves until `stop` resolves; then lets running queries finish for a moment.
///
/// # Errors
/// Where the transport fails.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    authenticator: impl Authenticator,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let service = FlightServiceServer::new(FlightSql::new(engine, authenticator)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let (stopping, mut stopped) = watch::channel(false);
    let graceful = async move {
        stop.await;
        stopping.send_replace(true);
    };
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), graceful);
    let impatient = async {
        // The sender goes when `stop` has resolved, and then the answer is known as well.
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        served = serving => served,
        () = impatient => Ok(()),
    }
}
