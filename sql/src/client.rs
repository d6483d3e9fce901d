//! A client: asks one statement and returns its rows.

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

/// Asks a statement; `url` is `grpc://HOST:PORT` or `http://HOST:PORT`.
pub async fn query(url: &str, token: &str, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), ClientError> {
    let (schema, batches) = stream(url, token, sql).await?;
    Ok((schema, batches.try_collect().await?))
}

/// The rows of a statement as they come.
pub type Rows = BoxStream<'static, Result<RecordBatch, ClientError>>;

/// Asks a statement whose rows are read as they come, perhaps without an end.
pub async fn stream(url: &str, token: &str, sql: &str) -> Result<(SchemaRef, Rows), ClientError> {
    let address = url.replacen("grpc://", "http://", 1).replacen("grpc+tcp://", "http://", 1);
    let endpoint = Endpoint::from_shared(address).map_err(|_| ClientError::Url(url.to_owned()))?;
    let channel = endpoint.connect().await.map_err(|e| ClientError::Unreachable { url: url.to_owned(), reason: root_cause(&e) })?;
    let mut client = FlightClient::new(channel);
    client.add_header("authorization", &format!("Bearer {token}"))?;
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let info = client.get_flight_info(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())).await?;
    let mut parts = Vec::new();
    for endpoint in &info.endpoint {
        let ticket = endpoint.ticket.clone().unwrap_or_else(|| Ticket::new(Vec::new()));
        parts.push(client.do_get(ticket).await?.map_err(ClientError::from));
    }
    let schema = info.try_decode_schema().map_err(|e| ClientError::Answer(e.to_string()))?;
    Ok((Arc::new(schema), futures::stream::iter(parts).flatten().boxed()))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
