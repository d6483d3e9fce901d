//! The actions beside those of Flight SQL: cancelling by FlightInfo, and sessions.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, CommandPreparedStatementQuery, TicketStatementQuery};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use prost::Message;
use tonic::{Request, Response, Status};

use super::handle::Handle;
use super::{FlightSql, NoOne, session_options};
use crate::running::QueryId;
use crate::scope::{Authenticator, Scope};

/// The type of the action that cancels.
const CANCEL: &str = "CancelFlightInfo";

type ActionStream = <FlightSql<NoOne> as FlightService>::DoActionStream;

/// What ListActions names beside Flight SQL's own.
pub(super) fn listed() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType { r#type: name.to_owned(), description: description.to_owned() };
    vec![
        action(CANCEL, "Stops the query of a FlightInfo. Request: CancelFlightInfoRequest. Response: CancelFlightInfoResult."),
        action(session_options::SET, "Chooses the catalog and schema. Request: SetSessionOptionsRequest. Response: SetSessionOptionsResult."),
        action(session_options::GET, "Tells the catalog and schema. Request: GetSessionOptionsRequest. Response: GetSessionOptionsResult."),
        action(session_options::CLOSE, "Ends the session. Request: CloseSessionRequest. Response: CloseSessionResult."),
    ]
}

/// The ids of the runs that an info's tickets stand for.
fn runs(info: &FlightInfo) -> Result<Vec<QueryId>, Status> {
    let unknown = || Status::invalid_argument("this is not the FlightInfo of a query of this server");
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let ids = tickets.map(|ticket| {
        let any = Any::decode(ticket.ticket.clone()).map_err(|_| unknown())?;
        let statement = any.unpack::<TicketStatementQuery>().map_err(|_| unknown())?.map(|ticket| ticket.statement_handle);
        let prepared = any.unpack::<CommandPreparedStatementQuery>().map_err(|_| unknown())?.map(|ticket| ticket.prepared_statement_handle);
        Ok(Handle::decode(&statement.or(prepared).ok_or_else(unknown)?)?.id)
    });
    let ids = ids.collect::<Result<Vec<_>, Status>>()?;
    if ids.is_empty() { Err(unknown()) } else { Ok(ids) }
}

impl<A: Authenticator> FlightSql<A> {
    /// Stops the queries of an info; those that have not begun will not.
    pub(super) fn cancel(&self, scope: &Scope, info: &FlightInfo) -> Result<CancelStatus, Status> {
        let stopped = runs(info)?.into_iter().filter(|id| self.engine.cancel(scope, *id)).count();
        // What runs ends as soon as it notices; what has not begun is as good as cancelled.
        Ok(if stopped > 0 { CancelStatus::Cancelling } else { CancelStatus::Cancelled })
    }

    pub(super) fn act(&self, scope: &Scope, request: Request<Action>) -> Result<Response<ActionStream>, Status> {
        let action = request.into_inner();
        let unreadable = |e: prost::DecodeError| Status::invalid_argument(format!("the body of {} cannot be read: {e}", action.r#type));
        let body = match action.r#type.as_str() {
            CANCEL => {
                let request = CancelFlightInfoRequest::decode(action.body.clone()).map_err(unreadable)?;
                let status = self.cancel(scope, &request.info.unwrap_or_default())?;
                CancelFlightInfoResult::new(status).encode_to_vec()
            }
            session_options::SET => {
                let request = session_options::SetSessionOptionsRequest::decode(action.body.clone()).map_err(unreadable)?;
                session_options::set(request).encode_to_vec()
            }
            session_options::GET => session_options::get().encode_to_vec(),
            session_options::CLOSE => session_options::close().encode_to_vec(),
            other => return Err(Status::unimplemented(format!("weir has no action {other}: ListActions names those that it has"))),
        };
        let answer = arrow_flight::Result { body: body.into() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(answer)]))))
    }
}
