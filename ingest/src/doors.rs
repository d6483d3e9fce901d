//! The router: every request of an SDK comes in here and leaves with an answer that browsers may read.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use weir_protocol::ids::{EventId, ProjectId};

use crate::body::Incoming;
use crate::cors;
use crate::intake::Intaker;
use crate::keys::KeySource;
use crate::log::Log;
use crate::options::Options;
use crate::paths::{self, Door};
use crate::refusal::Refusal;
use crate::store;
use crate::telemetry;

/// How the rest of the program is. Requests call both, so neither may block.
#[derive(Clone)]
pub struct Health {
    /// Whether the program is well (otherwise `/_health/?full` and readiness are 503), and the explanation as it is answered.
    pub report: Arc<dyn Fn() -> (bool, serde_json::Value) + Send + Sync>,
    /// The text of `/metrics`, in Prometheus' format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What the doors need of the rest of the program.
pub struct Doors<L, K> {
    /// Where records go.
    pub log: L,
    /// Where project keys are looked up.
    pub keys: K,
    /// How the program is.
    pub health: Health,
    /// Bounds.
    pub options: Options,
}

impl<L, K> Doors<L, K> {
    /// Doors with the default bounds.
    pub fn new(log: L, keys: K, health: Health) -> Self {
        Self { log, keys, health, options: Options::default() }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl<L, K> fmt::Debug for Doors<L, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("options", &self.options).finish_non_exhaustive()
    }
}

struct House<L, K> {
    intaker: Arc<Intaker<L, K>>,
    health: Health,
}

/// The router of all doors. The metrics' recorder should stand before this is called, which describes them.
///
/// The client's address is the [`axum::extract::ConnectInfo`] of the request, which [`crate::serve`] sets.
pub fn router<L: Log, K: KeySource>(doors: Doors<L, K>) -> Router {
    telemetry::describe();
    let house = House { intaker: Arc::new(Intaker::new(doors.log, doors.keys, doors.options)), health: doors.health };
    // One handler finds the door itself: SDKs double slashes and leave them out, which axum's routes do not forgive.
    Router::new().fallback(answer::<L, K>).with_state(Arc::new(house))
}

async fn answer<L: Log, K: KeySource>(State(house): State<Arc<House<L, K>>>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let door = Door::of_path(parts.uri.path());
    let mut body = Incoming::new(&parts.headers, body);
    let answered = match door {
        None => Err(Refusal::no_door()),
        Some(door) if !door.takes(&parts.method) => Err(Refusal::method(door.allow())),
        Some(_) if parts.method == Method::OPTIONS => Ok(cors::preflight()),
        Some(door) => house.open(door, &parts, &mut body).await,
    };
    body.drain(&house.intaker.options);
    let mut response = answered.unwrap_or_else(|refusal| {
        tracing::debug!(path = parts.uri.path(), ?refusal, "request refused");
        refusal.into_response()
    });
    cors::apply(response.headers_mut());
    telemetry::answered(door.map_or("none", Door::name), response.status(), started.elapsed());
    response
}

impl<L: Log, K: KeySource> House<L, K> {
    async fn open(&self, door: Door<'_>, parts: &axum::http::request::Parts, body: &mut Incoming) -> Result<Response, Refusal> {
        match door {
            Door::Envelope { project } => self.intaker.envelope(project_of(project)?, parts, body).await.map(id_answer),
            Door::Store { project } => {
                let project_id = project.map(project_of).transpose()?;
                match parts.method {
                    Method::GET => self.intaker.store_query(project_id, parts).await.map(|_| content("image/gif", store::PIXEL)),
                    _ => self.intaker.store(project_id, parts, body).await.map(id_answer),
                }
            }
            Door::Health if parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("full"))) => {
                let (healthy, detail) = (self.health.report)();
                Ok(with_status(healthy, content("application/json", detail.to_string())))
            }
            Door::Health => Ok(content("text/plain; charset=utf-8", "ok")),
            Door::Live => Ok(health_answer(true)),
            Door::Ready => Ok(health_answer((self.health.report)().0)),
            Door::Metrics => Ok(content("text/plain; version=0.0.4; charset=utf-8", (self.health.metrics)())),
        }
    }
}

fn project_of(segment: &str) -> Result<ProjectId, Refusal> {
    paths::project_id(segment).ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "bad project path parameter"))
}

fn id_answer(event_id: Option<EventId>) -> Response {
    content("application/json", event_id.map_or_else(|| "{}".to_owned(), |id| format!("{{\"id\":\"{id}\"}}")))
}

fn health_answer(healthy: bool) -> Response {
    with_status(healthy, content("application/json", if healthy { r#"{"is_healthy":true}"# } else { r#"{"is_healthy":false}"# }))
}

fn with_status(healthy: bool, mut response: Response) -> Response {
    if !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn content(media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
