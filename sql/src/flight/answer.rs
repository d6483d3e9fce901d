//! Answers: infos, streams of batches, errors.

use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::TryStreamExt;
use tonic::{Response, Status};

use super::{FlightSql, NoOne};
use crate::engine::{QueryError, QueryStream};

pub(super) type FlightStream = <FlightSql<NoOne> as FlightService>::DoGetStream;

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::Statement(_) | QueryError::Invalid(_) => Status::invalid_argument(text),
            QueryError::Memory(_) | QueryError::Rows(_) | QueryError::Busy(_) => Status::resource_exhausted(text),
            QueryError::Time(_) => Status::deadline_exceeded(text),
            QueryError::Cancelled => Status::cancelled(text),
            QueryError::Internal(_) => Status::internal(text),
        }
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

pub(super) fn refused(what: &str) -> Status {
    Status::invalid_argument(format!("weir answers queries only; {what} is refused"))
}

pub(super) fn info(schema: &Schema, ticket: Ticket, descriptor: FlightDescriptor) -> Result<Response<FlightInfo>, Status> {
    // An endpoint without a location is read from the connection that asked.
    let endpoint = FlightEndpoint::new().with_ticket(ticket);
    let info = FlightInfo::new().try_with_schema(schema).map_err(internal)?.with_endpoint(endpoint).with_descriptor(descriptor);
    Ok(Response::new(info))
}

pub(super) fn encoded(rows: QueryStream) -> FlightStream {
    let schema = rows.schema();
    let rows = rows.map_err(|error| FlightError::Tonic(Box::new(Status::from(error))));
    Box::pin(FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map_err(Status::from))
}

pub(super) fn encoded_batch(schema: SchemaRef, batch: Result<RecordBatch, impl Into<FlightError>>) -> Response<FlightStream> {
    let batch = futures::stream::iter([batch.map_err(Into::into)]);
    Response::new(Box::pin(FlightDataEncoderBuilder::new().with_schema(schema).build(batch).map_err(Status::from)))
}

/// There is nothing to be told.
pub(super) fn no_rows(schema: Schema) -> Response<FlightStream> {
    let schema = Arc::new(schema);
    let empty = RecordBatch::new_empty(Arc::clone(&schema));
    encoded_batch(schema, Ok::<_, ArrowError>(empty))
}

pub(super) fn schema_bytes(schema: &Schema) -> Result<tonic::codegen::Bytes, Status> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(internal)?;
    Ok(message.0)
}
