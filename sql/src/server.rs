//! The Flight SQL server's life.

use std::future::Future;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;

use crate::engine::Engine;
use crate::flight::FlightSql;
use crate::scope::Authenticator;

/// A request larger than this is refused; the largest are statements with their parameters.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// How long a stop waits for queries that run.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

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
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(TcpIncoming::from(listener), graceful);
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
