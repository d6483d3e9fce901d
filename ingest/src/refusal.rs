//! A request that is refused: its status, what the client is told, and what is counted.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use weir_protocol::Category;
use weir_protocol::outcome::{Outcome, OutcomeCount, clean_reason};

use crate::admission::TooLarge;
use crate::auth::AuthError;
use crate::body::BodyError;
use crate::keys::KeySourceError;
use crate::log::NotKept;
use crate::store::StoreError;

/// Why a request is refused (`spec/ingest.md` section 1.3).
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    detail: String,
    causes: Vec<String>,
    header: Option<Header>,
    /// What is lost, where the refusal is counted in the sender's project.
    outcomes: Vec<OutcomeCount>,
}

/// The header that some refusals carry besides.
#[derive(Debug, Clone, Copy)]
enum Header {
    Allow(&'static str),
    RetryAfter,
}

const ERROR_HEADER: HeaderName = HeaderName::from_static("x-sentry-error");
/// After how many seconds a client may try again when the program could not take a request.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), causes: Vec::new(), header: None, outcomes: Vec::new() }
    }

    /// No such path.
    pub(crate) fn no_door() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such path")
    }

    /// Not with this method.
    pub(crate) fn method(allow: &'static str) -> Self {
        Self { header: Some(Header::Allow(allow)), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed") }
    }

    /// The project or the key is unknown or disabled, or they do not belong together.
    pub(crate) fn project() -> Self {
        Self::new(StatusCode::FORBIDDEN, "event submission rejected with_reason: ProjectId")
    }

    /// The project takes nothing from this origin.
    pub(crate) fn origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "event submission rejected with_reason: Cors").counted("cors", Category::Error)
    }

    /// The body is no envelope, or one of somebody else.
    pub(crate) fn envelope(cause: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid event envelope").cause(cause).counted("invalid_envelope", Category::Error)
    }

    /// The envelope is over a limit; `outcomes` are those of all its items.
    pub(crate) fn too_large(error: &TooLarge, outcomes: Vec<OutcomeCount>) -> Self {
        Self { outcomes, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()) }
    }

    /// What a body that was not taken is answered with; `item` names what the door takes.
    pub(crate) fn body(error: BodyError, item: &str) -> Self {
        let category = Category::Error;
        match &error {
            BodyError::UnknownEncoding(_) => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()).counted("content_type", category),
            BodyError::TooLarge(_) => {
                let detail = format!("envelope exceeded size limits for type '{item}'");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).cause(error).counted(&format!("too_large:{item}"), category)
            }
            BodyError::Malformed(_) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid compression container").cause(error).counted("invalid_compression", category)
            }
            BodyError::Broken(_) => Self::new(StatusCode::BAD_REQUEST, "failed to read the request body").cause(error),
            BodyError::Timeout => Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            BodyError::Exhausted => Self::unavailable(error),
        }
    }

    /// The program cannot take the request now.
    fn unavailable(cause: impl ToString) -> Self {
        Self { header: Some(Header::RetryAfter), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "failed to queue envelope").cause(cause) }
    }

    fn cause(mut self, cause: impl ToString) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    fn counted(mut self, reason: &str, category: Category) -> Self {
        self.outcomes.push(OutcomeCount {
            outcome: Outcome::Invalid,
            reason: Some(clean_reason(reason)),
            category: category.number(),
            quantity: 1,
            event_id: None,
        });
        self
    }

    /// Takes out what is to be counted.
    pub(crate) fn take_outcomes(&mut self) -> Vec<OutcomeCount> {
        std::mem::take(&mut self.outcomes)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let status = match error {
            AuthError::Missing | AuthError::Multiple | AuthError::BadHeader | AuthError::BadEnvelope => StatusCode::UNAUTHORIZED,
            AuthError::BadKey | AuthError::Version(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<KeySourceError> for Refusal {
    fn from(error: KeySourceError) -> Self {
        Self::unavailable(error)
    }
}

impl From<NotKept> for Refusal {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "envelope exceeded size limits for type 'envelope'")
                .cause(error)
                .counted("too_large:envelope", Category::Error),
            NotKept::Unavailable(_) => Self::unavailable(error),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Empty => Self::new(StatusCode::BAD_REQUEST, "empty event data").counted("no_data", Category::Error),
            StoreError::TooLarge(bytes_max) => Self::body(BodyError::TooLarge(bytes_max), "event"),
            StoreError::NotJson(_) => Self::new(StatusCode::BAD_REQUEST, "invalid event data").cause(error).counted("invalid_json", Category::Error),
        }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    causes: &'a [String],
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&ErrorBody { detail: &self.detail, causes: &self.causes }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(HeaderValue::from_str(&clean_reason(&self.detail)).map(|detail| (ERROR_HEADER, detail)));
        match self.header {
            Some(Header::Allow(methods)) => drop(headers.insert(ALLOW, HeaderValue::from_static(methods))),
            Some(Header::RetryAfter) => drop(headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS)),
            None => {}
        }
        response
    }
}
