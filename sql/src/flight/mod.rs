//! Arrow Flight SQL: statements, prepared statements and metadata, for whoever has a token.
//!
//! Every call is authenticated and scoped by its own header; a ticket or a handle carries the statement and never a right.
//! The server keeps nothing between calls: the handle of a prepared statement is the statement itself, and binding
//! parameters returns a new handle that carries them along.

mod actions;
mod answer;
mod authorization;
mod handle;
mod keys;
mod session_options;
mod sql_info;
mod types;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, ActionEndTransactionRequest, Any, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, ActionType, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket};
use datafusion::arrow::datatypes::{Field, Schema};
use futures::Stream;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::{Engine, Planned};
use crate::scope::{Authenticator, Scope, Scopes};
use crate::tables::{CATALOG, SCHEMA};
use answer::{FlightStream, encoded, encoded_batch, info, no_rows, refused, schema_bytes};
use handle::{Handle, bound_parameters};

/// The service.
pub(crate) struct FlightSql<A> {
    engine: Engine,
    scopes: Arc<Scopes<A>>,
    sql_info: SqlInfoData,
}

/// How often the token of a stream without an end is asked for again.
const ASKED_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// A stream that has no end of its own: it ends when its token is revoked, or may read less.
fn while_it_may<A: Authenticator>(mut rows: FlightStream, scopes: Arc<Scopes<A>>, token: String, scope: Scope) -> FlightStream {
    let refused = async move {
        loop {
            tokio::time::sleep(ASKED_AGAIN_EVERY).await;
            match scopes.scope(&token).await {
                Ok(Some(now)) if now == scope => {}
                Ok(_) => return Status::unauthenticated("the token was revoked, or reads other projects now: subscribe again with one that may"),
                // That the catalog does not answer now is no reason to end what was allowed.
                Err(reason) => tracing::debug!(reason, "the token of a live stream could not be checked"),
            }
        }
    };
    let mut refused: Pin<Box<dyn Future<Output = Status> + Send>> = Box::pin(refused);
    let mut ended = false;
    Box::pin(futures::stream::poll_fn(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = refused.as_mut().poll(cx) {
            ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        let next = std::task::ready!(rows.as_mut().poll_next(cx));
        ended = next.is_none();
        Poll::Ready(next)
    }))
}

/// Stands for the authenticator where only the types of streams matter, which do not depend on it.
pub(crate) struct NoOne;

impl Authenticator for NoOne {
    async fn scope(&self, _token: &str) -> Result<Option<Scope>, String> {
        Ok(None)
    }
}

impl<A: Authenticator> FlightSql<A> {
    /// # Panics
    /// Where what is told of SQL contradicts itself, which no setting can make it do.
    pub(crate) fn new(engine: Engine, authenticator: A) -> Self {
        let sql_info = sql_info::sql_info(engine.query_time_max()).expect("names and values of SQL info fit each other");
        Self { engine, scopes: Arc::new(Scopes::new(authenticator)), sql_info }
    }

    async fn scope<T>(&self, request: &Request<T>) -> Result<Scope, Status> {
        authorization::authenticate(&self.scopes, request).await
    }

    /// What a handle stands for, planned for this caller.
    async fn planned(&self, scope: &Scope, handle: &Handle) -> Result<Planned, Status> {
        let planned = self.engine.plan(scope, &handle.sql).await?;
        Ok(planned.with_parameters(handle.values()?)?)
    }

    async fn run(&self, scope: &Scope, handle: &[u8], token: String) -> Result<Response<FlightStream>, Status> {
        let handle = Handle::decode(handle)?;
        let planned = self.planned(scope, &handle).await?;
        let is_endless = planned.is_endless();
        let rows = encoded(self.engine.run(planned, handle.id).await?);
        Ok(Response::new(if is_endless { while_it_may(rows, Arc::clone(&self.scopes), token, scope.clone()) } else { rows }))
    }

    /// Runs a statement that has an effect and returns how many things it changed.
    async fn update(&self, scope: &Scope, sql: &str) -> Result<i64, Status> {
        let planned = self.engine.plan(scope, sql).await?;
        Ok(self.engine.update(planned).await? as i64)
    }

    /// A metadata command is its own ticket.
    async fn metadata_info<C: ProstMessageExt>(&self, command: C, schema: &Schema, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.scope(&request).await?;
        info(schema, Ticket::new(command.as_any().encode_to_vec()), request.into_inner())
    }
}

#[tonic::async_trait]
impl<A: Authenticator> FlightSqlService for FlightSql<A> {
    type FlightService = FlightSql<A>;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        let token = authorization::handshake(&self.scopes, request).await?;
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
        let handle = Handle::new(query.query).for_a_run()?;
        let ticket = TicketStatementQuery { statement_handle: handle.encode()?.into() };
        info(&planned.schema(), Ticket::new(ticket.as_any().encode_to_vec()), request.into_inner())
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        let scope = self.scope(&request).await?;
        self.run(&scope, &ticket.statement_handle, authorization::token(&request)?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let scope = self.scope(&request).await?;
        let planned = self.engine.plan(&scope, &query.query).await?;
        let parameters = planned.parameters()?.into_iter().enumerate().map(|(index, data_type)| Field::new(format!("${}", index + 1), data_type, true));
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Handle::new(query.query).encode()?.into(),
            dataset_schema: schema_bytes(&planned.schema())?,
            parameter_schema: schema_bytes(&parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(&self, _query: ActionClosePreparedStatementRequest, request: Request<Action>) -> Result<(), Status> {
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
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(Handle { parameters, ..handle }.encode()?.into()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let scope = self.scope(&request).await?;
        let handle = Handle::decode(&query.prepared_statement_handle)?;
        let planned = self.planned(&scope, &handle).await?;
        let ticket = CommandPreparedStatementQuery { prepared_statement_handle: handle.for_a_run()?.encode()?.into() };
        info(&planned.schema(), Ticket::new(ticket.as_any().encode_to_vec()), request.into_inner())
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        let scope = self.scope(&request).await?;
        self.run(&scope, &query.prepared_statement_handle, authorization::token(&request)?).await
    }

    async fn do_put_statement_update(&self, update: CommandStatementUpdate, request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        let scope = self.scope(&request).await?;
        self.update(&scope, &update.query).await
    }

    async fn do_put_prepared_statement_update(
        &self,
        update: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let scope = self.scope(&request).await?;
        let handle = Handle::decode(&update.prepared_statement_handle)?;
        self.update(&scope, &handle.sql).await
    }

    async fn do_put_statement_ingest(&self, _ingest: CommandStatementIngest, request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        self.scope(&request).await?;
        Err(refused("ingesting rows"))
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        self.scope(&request).await?;
        Err(Status::unimplemented("weir has no transactions: every query sees one snapshot"))
    }

    async fn do_action_end_transaction(&self, _query: ActionEndTransactionRequest, request: Request<Action>) -> Result<(), Status> {
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
        self.metadata_info(query.clone(), &query.into_builder(&self.sql_info).schema(), request).await
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let builder = query.into_builder(&self.sql_info);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &query.into_builder(&types::TYPES).schema(), request).await
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await?;
        let builder = query.into_builder(&types::TYPES);
        Ok(encoded_batch(builder.schema(), builder.build()))
    }

    async fn get_flight_info_primary_keys(&self, query: CommandGetPrimaryKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &keys::primary(), request).await
    }

    async fn do_get_primary_keys(&self, _query: CommandGetPrimaryKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(keys::primary()))
    }

    async fn get_flight_info_exported_keys(&self, query: CommandGetExportedKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &keys::foreign(), request).await
    }

    async fn do_get_exported_keys(&self, _query: CommandGetExportedKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(keys::foreign()))
    }

    async fn get_flight_info_imported_keys(&self, query: CommandGetImportedKeys, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &keys::foreign(), request).await
    }

    async fn do_get_imported_keys(&self, _query: CommandGetImportedKeys, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(keys::foreign()))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.metadata_info(query, &keys::foreign(), request).await
    }

    async fn do_get_cross_reference(&self, _query: CommandGetCrossReference, request: Request<Ticket>) -> Result<Response<FlightStream>, Status> {
        self.scope(&request).await.map(|_| no_rows(keys::foreign()))
    }

    async fn do_action_cancel_query(&self, query: ActionCancelQueryRequest, request: Request<Action>) -> Result<ActionCancelQueryResult, Status> {
        let scope = self.scope(&request).await?;
        let info = FlightInfo::decode(query.info).map_err(|e| Status::invalid_argument(format!("the FlightInfo cannot be read: {e}")))?;
        // The older action numbers its results as the newer one its states.
        Ok(ActionCancelQueryResult { result: self.cancel(&scope, &info)?.into() })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let scope = self.scope(&request).await?;
        self.act(&scope, request)
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(actions::listed().into_iter().map(Ok).collect())
    }

    async fn get_flight_info_fallback(&self, command: arrow_flight::sql::Command, _request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(format!("weir does not answer {}", command.type_url())))
    }

    async fn do_get_fallback(&self, _request: Request<Ticket>, message: Any) -> Result<Response<FlightStream>, Status> {
        Err(Status::invalid_argument(format!("this is not a ticket of this server: {}", message.type_url)))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
