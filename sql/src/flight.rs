//! Arrow Flight SQL: statements, prepared statements and metadata, for whoever has a token.
//!
//! Every call is authenticated and scoped by its own header; a ticket or a handle carries the statement and never a right.
//! The server keeps nothing between calls: the handle of a prepared statement is the statement itself, and binding
//! parameters returns a new handle that carries them along.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, ActionEndTransactionRequest, Any, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::common::ScalarValue;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::{Engine, Planned, QueryError, QueryStream};
use crate::scope::{Authenticator, Scope, Scopes};
use crate::statement;
use crate::tables::{CATALOG, SCHEMA};

type FlightStream = <FlightSqlHandle as FlightService>::DoGetStream;
type FlightSqlHandle = FlightSql<NoOne>;

/// The service.
pub(crate) struct FlightSql<A> {
    engine: Engine,
    scopes: Scopes<A>,
}

/// Stands for the authenticator where only the types of streams matter, which do not depend on it.
pub(crate) struct NoOne;

impl Authenticator for NoOne {
    async fn scope(&self, _token: &str) -> Result<Option<Scope>, String> {
        Ok(None)
    }
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::Statement(_) | QueryError::Invalid(_) => Status::invalid_argument(text),
            QueryError::Memory(_) | QueryError::Rows(_) | QueryError::Busy(_) => Status::resource_exhausted(text),
            QueryError::Time(_) => Status::deadline_exceeded(text),
            QueryError::Internal(_) => Status::internal(text),
        }
    }
}

/// The token of an `authorization` header: `Bearer TOKEN`, or `Basic` with the token as password or as user name.
fn token_of(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

impl<A: Authenticator> FlightSql<A> {
    pub(crate) fn new(engine: Engine, authenticator: A) -> Self {
        Self { engine, scopes: Scopes::new(authenticator) }
    }

    async fn authenticate<T>(&self, request: &Request<T>) -> Result<(String, Scope), Status> {
        let header = request.metadata().get("authorization").ok_or_else(|| Status::unauthenticated("no token: send the header authorization: Bearer TOKEN"))?;
        let token = header.to_str().ok().and_then(token_of);
        let token = token.ok_or_else(|| Status::unauthenticated("the authorization header is neither Bearer TOKEN nor Basic"))?;
        match self.scopes.scope(&token).await {
            Ok(Some(scope)) => Ok((token, scope)),
            Ok(None) => Err(Status::unauthenticated("the token is unknown or revoked: `weir token create NAME` makes one")),
            Err(reason) => Err(Status::unavailable(format!("the token could not be checked: {reason}"))),
        }
    }

    async fn scope<T>(&self, request: &Request<T>) -> Result<Scope, Status> {
        Ok(self.authenticate(request).await?.1)
    }

    /// What a handle stands for, planned for this caller.
    async fn planned(&self, scope: &Scope, handle: &[u8]) -> Result<Planned, Status> {
        let handle = Handle::decode(handle)?;
        let planned = self.engine.plan(scope, &handle.sql).await?;
        Ok(planned.with_parameters(handle.values()?)?)
    }

    async fn run(&self, scope: &Scope, handle: &[u8]) -> Result<Response<FlightStream>, Status> {
        let planned = self.planned(scope, handle).await?;
        Ok(Response::new(encoded(self.engine.run(planned).await?)))
    }

    /// A metadata command is its own ticket.
    async fn metadata_info<C: ProstMessageExt>(&self, command: C, schema: &Schema, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.scope(&request).await?;
        info(schema, Ticket::new(command.as_any().encode_to_vec()), request.into_inner())
    }
}

fn info(schema: &Schema, ticket: Ticket, descriptor: FlightDescriptor) -> Result<Response<FlightInfo>, Status> {
    // An endpoint without a location is read from the connection that asked.
    let endpoint = FlightEndpoint::new().with_ticket(ticket);
    let info = FlightInfo::new().try_with_schema(schema).map_err(internal)?.with_endpoint(endpoint).with_descriptor(descriptor);
    Ok(Response::new(info))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn encoded(rows: QueryStream) -> FlightStream {
    let schema = rows.schema();
    let rows = rows.map_err(|error| FlightError::Tonic(Box::new(Status::from(error))));
    Box::pin(FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map_err(Status::from))
}

fn encoded_batch(schema: SchemaRef, batch: Result<RecordBatch, impl Into<FlightError>>) -> Response<FlightStream> {
    let batch = futures::stream::iter([batch.map_err(Into::into)]);
    Response::new(Box::pin(FlightDataEncoderBuilder::new().with_schema(schema).build(batch).map_err(Status::from)))
}

/// A prepared statement: its text and, once bound, one row of parameters as an Arrow stream.
struct Handle {
    sql: String,
    parameters: Vec<u8>,
}

impl Handle {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.sql.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(self.sql.as_bytes());
        bytes.extend_from_slice(&self.parameters);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let parts = || {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (sql, parameters) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            Some(Self { sql: String::from_utf8(sql.to_vec()).ok()?, parameters: parameters.to_vec() })
        };
        parts().ok_or_else(|| Status::invalid_argument("this is not a handle of a prepared statement of this server"))
    }

    fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        if self.parameters.is_empty() {
            return Ok(Vec::new());
        }
        let unreadable = |e: ArrowError| Status::invalid_argument(format!("the parameters cannot be read: {e}"));
        let reader = StreamReader::try_new(&self.parameters[..], None).map_err(unreadable)?;
        for batch in reader {
            let batch = batch.map_err(unreadable)?;
            if batch.num_rows() > 0 {
                let value = |column: &Arc<dyn datafusion::arrow::array::Array>| ScalarValue::try_from_array(column, 0);
                return batch.columns().iter().map(value).collect::<Result<_, _>>().map_err(|e| Status::invalid_argument(e.to_string()));
            }
        }
        Ok(Vec::new())
    }
}

/// What is bound by `DoPut`, as one Arrow stream.
async fn bound_parameters(stream: PeekableFlightDataStream) -> Result<Vec<u8>, Status> {
    let batches: Vec<RecordBatch> = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream.map_err(|e| FlightError::Tonic(Box::new(e))))
        .try_collect()
        .await
        .map_err(Status::from)?;
    if batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 1 {
        return Err(Status::invalid_argument("bind one row of parameters; a query cannot be run for many rows at a time"));
    }
    let Some(batch) = batches.into_iter().find(|b| b.num_rows() == 1) else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(internal)?;
    writer.write(&batch).and_then(|()| writer.finish()).map_err(internal)?;
    writer.into_inner().map_err(internal)
}

fn schema_bytes(schema: &Schema) -> Result<tonic::codegen::Bytes, Status> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(internal)?;
    Ok(message.0)
}

fn refused(what: &str) -> Status {
    Status::invalid_argument(format!("weir answers queries only; {what} is refused"))
}

static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Weir");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, 0i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.build().expect("names and values of SQL info fit each other")
});

static XDBC_TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| XdbcTypeInfoDataBuilder::new().build().expect("a table of no types is well formed"));

/// The schema of GetPrimaryKeys, by the Flight SQL specification.
fn primary_keys_schema() -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ])
}

/// The schema of GetExportedKeys, GetImportedKeys and GetCrossReference, by the Flight SQL specification.
fn foreign_keys_schema() -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}

/// There are no keys to be told.
fn no_rows(schema: Schema) -> Response<FlightStream> {
    let schema = Arc::new(schema);
    let empty = RecordBatch::new_empty(Arc::clone(&schema));
    encoded_batch(schema, Ok::<_, ArrowError>(empty))
}

#[tonic::async_trait]
impl<A: Authenticator> FlightSqlService for FlightSql<A> {
    type FlightService = FlightSql<A>;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        let (token, _) = self.authenticate(&request).await?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let answers: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(answers);
        // Drivers that authenticate by user and password take the token for their later calls from here.
        let header = format!("Bearer {token}").parse().map_err(|_| Status::unauthenticated("the token has characters that no token has"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let scope = self.scope(&request).await?;
        let planned = self.engine.plan(&scope, &query.query).await?;
        let handle = Handle { sql: query.query, parameters: Vec::new() }.encode();
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        info(&planned.schema(), Ticket::new(ticket.as_any().encode_to_vec()), request.into_inner())
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        let scope = self.scope(&request).await?;
        self.run(&scope, &ticket.statement_handle).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<arrow_flight::Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let scope = self.scope(&request).await?;
        let planned = self.engine.plan(&scope, &query.query).await?;
        let parameters = planned.parameters()?.into_iter().enumerate().map(|(index, data_type)| Field::new(format!("${}", index + 1), data_type, true));
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Handle { sql: query.query, parameters: Vec::new() }.encode().into(),
            dataset_schema: schema_bytes(&planned.schema())?,
            parameter_schema: schema_bytes(&parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        request: Request<arrow_flight::Action>,
    ) -> Result<(), Status> {
        self.scope(&request).await.map(|_| ())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        self.scope(&request).await?;
        let handle = Handle::decode(&query.prepared_statement_handle)?;
        let parameters = bound_parameters(request.into_inner()).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(Handle { sql: handle.sql, parameters }.encode().into()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let scope = self.scope(&request).await?;
        let planned = self.planned(&scope, &query.prepared_statement_handle).await?;
        info(&planned.schema(), Ticket::new(query.as_any().encode_to_vec()), request.into_inner())
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        let scope = self.scope(&request).await?;
        self.run(&scope, &query.prepared_statement_handle).await
    }

    async fn do_put_statement_update(&self, update: CommandStatementUpdate, request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        self.scope(&request).await?;
        match statement::parse(&update.query) {
            Ok(_) => Err(Status::invalid_argument("this statement returns rows: ask it as a query")),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        }
    }

    async fn do_put_prepared_statement_update(
        &self,
        _update: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.scope(&request).await?;
        Err(Status::invalid_argument("this statement returns rows: ask it as a query"))
    }

    async fn do_put_statement_ingest(&self, _ingest: CommandStatementIngest, request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        self.scope(&request).await?;
        Err(refused("ingesting rows"))
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        request: Request<arrow_flight::Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        self.scope(&request).await?;
        Err(Status::unimplemented("weir has no transactions: every query sees one snapshot"))
    }

    async fn do_action_end_transaction(&self, _query: ActionEndTransactionRequest, request: Request<arrow_flight::Action>) -> Result<(), Status> {
        self.scope(&request).await?;
        Err(Status::unimplemented("weir has no transactions: every query sees one snapshot"))
    }

    async fn get_flight_info_catalogs(&self, query: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &query.into_builder().schema(), request).await
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let mut builder = query.into_builder();
        builder.append(CATALOG);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_schemas(&self, query: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query.clone(), &query.into_builder().schema(), request).await
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let mut builder = query.into_builder();
        builder.append(CATALOG, SCHEMA);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query.clone(), &query.into_builder().schema(), request).await
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        let scope = self.scope(&request).await?;
        let mut builder = query.into_builder();
        for (name, kind, schema) in self.engine.tables(&scope).await? {
            builder.append(CATALOG, SCHEMA, name, kind, &schema).map_err(Status::from)?;
        }
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_table_types(&self, query: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &query.into_builder().schema(), request).await
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let mut builder = query.into_builder();
        builder.append("TABLE");
        builder.append("VIEW");
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query.clone(), &query.into_builder(&SQL_INFO).schema(), request).await
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let builder = query.into_builder(&SQL_INFO);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &query.into_builder(&XDBC_TYPES).schema(), request).await
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let builder = query.into_builder(&XDBC_TYPES);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_primary_keys(&self, query: CommandGetPrimaryKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &primary_keys_schema(), request).await
    }

    async fn do_get_primary_keys(&self, _query: CommandGetPrimaryKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(primary_keys_schema()))
    }

    async fn get_flight_info_exported_keys(&self, query: CommandGetExportedKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &foreign_keys_schema(), request).await
    }

    async fn do_get_exported_keys(&self, _query: CommandGetExportedKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(foreign_keys_schema()))
    }

    async fn get_flight_info_imported_keys(&self, query: CommandGetImportedKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &foreign_keys_schema(), request).await
    }

    async fn do_get_imported_keys(&self, _query: CommandGetImportedKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(foreign_keys_schema()))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &foreign_keys_schema(), request).await
    }

    async fn do_get_cross_reference(&self, _query: CommandGetCrossReference, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(foreign_keys_schema()))
    }

    async fn get_flight_info_fallback(&self, command: arrow_flight::sql::Command, _request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(format!("weir does not answer {}", command.type_url())))
    }

    async fn do_get_fallback(&self, _request: Request<Ticket>, message: Any) -> Result<Response<FlightStream>, Status> {
        Err(Status::invalid_argument(format!("this is not a ticket of this server: {}", message.type_url)))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_authorization() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (header, want) in [
            ("Bearer weir_x".to_owned(), Some("weir_x")),
            ("bearer weir_x".to_owned(), Some("weir_x")),
            (basic("anyone:weir_x"), Some("weir_x")),
            (basic("weir_x:"), Some("weir_x")),
            (basic("weir_x"), None),
            ("Basic !!".to_owned(), None),
            ("Digest x".to_owned(), None),
            ("Bearer".to_owned(), None),
        ] {
            assert_eq!(token_of(&header).as_deref(), want, "{header}");
        }
    }

    #[test]
    fn handles_carry_statement_and_parameters() {
        let handle = Handle { sql: "SELECT $1".to_owned(), parameters: vec![1, 2] };
        let back = Handle::decode(&handle.encode()).unwrap();
        assert_eq!((back.sql, back.parameters), (handle.sql, handle.parameters));
        for bad in [&[][..], &[1, 2], &[255, 255, 255, 255, 1], &[1, 0, 0, 0, 0xff]] {
            assert!(Handle::decode(bad).is_err(), "{bad:?}");
        }
    }
}
