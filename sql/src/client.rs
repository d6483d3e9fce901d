//! A client: asks statements and returns their rows.

use arrow_flight::FlightClient;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::transport::Endpoint;

/// Why a statement was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{0:?} is no address of a server: write grpc://HOST:PORT")]
    Url(String),
    /// Nobody answers there.
    #[error("no server answers at {url}: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// The server refused, in its words.
    #[error("{0}")]
    Refused(String),
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

impl From<FlightError> for ClientError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => Self::Refused(status.message().to_owned()),
            other => Self::Answer(other.to_string()),
        }
    }
}

/// The rows of a statement as they come.
pub type Rows = BoxStream<'static, Result<RecordBatch, ClientError>>;

/// A connection to a server.
pub struct Client {
    flight: FlightClient,
}

impl Client {
    /// Connects; `url` is `grpc://HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// Where the address is none, or nobody answers there. The token is looked at with the first statement.
    pub async fn connect(url: &str, token: &str) -> Result<Self, ClientError> {
        let address = url.replacen("grpc://", "http://", 1).replacen("grpc+tcp://", "http://", 1);
        let endpoint = Endpoint::from_shared(address).map_err(|_| ClientError::Url(url.to_owned()))?;
        let channel = endpoint.connect().await.map_err(|e| ClientError::Unreachable { url: url.to_owned(), reason: root_cause(&e) })?;
        let mut flight = FlightClient::new(channel);
        flight.add_header("authorization", &format!("Bearer {token}"))?;
        Ok(Self { flight })
    }

    /// Asks a statement.
    ///
    /// # Errors
    /// Where the server refuses, or its answer cannot be read.
    pub async fn query(&mut self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), ClientError> {
        let (schema, batches) = self.stream(sql).await?;
        Ok((schema, batches.try_collect().await?))
    }

    /// Asks a statement whose rows are read as they come, perhaps without an end.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn stream(&mut self, sql: &str) -> Result<(SchemaRef, Rows), ClientError> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let info = self.flight.get_flight_info(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())).await?;
        let mut parts = Vec::new();
        for endpoint in &info.endpoint {
            let ticket = endpoint.ticket.clone().unwrap_or_else(|| Ticket::new(Vec::new()));
            parts.push(self.flight.do_get(ticket).await?.map_err(ClientError::from));
        }
        let schema = info.try_decode_schema().map_err(|e| ClientError::Answer(e.to_string()))?;
        Ok((Arc::new(schema), futures::stream::iter(parts).flatten().boxed()))
    }
}

/// Connects and asks one statement; see [`Client`].
pub async fn query(url: &str, token: &str, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), ClientError> {
    Client::connect(url, token).await?.query(sql).await
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
