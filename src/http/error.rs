//! The one place with status codes. Every error of a handler becomes an `application/problem+json`
//! (RFC 9457) here; it says what the client can act on, and nothing of SQL, files or stacks.

use super::encoding;
use crate::{
    actors::{AppendError, Overloaded, StatsError},
    feed::SubscribeError,
    store::StoreError,
    wire::{FieldError, WireError, WireErrorKind},
};
use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;
use std::{borrow::Cow, fmt};
use utoipa::ToSchema;

/// Seconds after which a client may try again: what overload and a short outage need.
const RETRY_AFTER_S: &str = "1";

/// In the extensions of an answer that is given after a pause, as the service is overloaded: who is refused at once
/// may ask at once again, and to refuse takes nearly as long as to store.
#[derive(Debug, Clone, Copy)]
pub struct HeldBack;

/// Everything that a request can be refused with.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The query string or the framing of the request is wrong.
    BadRequest(String),
    /// The body's framing is broken, so nobody knows where the next request begins.
    BrokenBody(&'static str),
    /// There is no token, or an unknown one.
    Unauthorized(&'static str),
    /// The request is for a name that is not ours.
    Misdirected,
    /// The token is known and does not allow this.
    Forbidden(&'static str),
    /// There is nothing of that name.
    NotFound(&'static str),
    /// There is no actor of that name; these there are.
    NoSuchActor(String),
    /// The path knows other methods.
    MethodNotAllowed { allow: &'static str },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The actor is being restarted already.
    ActorRestarting,
    /// The body is larger than allowed.
    BodyTooLarge { max_bytes: usize },
    /// The path does not take bodies of this type.
    UnsupportedType {
        detail: String,
        /// What it takes, as `Accept-Post` says it.
        accepted: &'static str,
    },
    /// The body's encoding is none that is undone here.
    UnsupportedEncoding,
    /// The type is taken, and what is in it is not.
    UnsupportedData(String),
    /// The body is not what the path takes.
    Invalid {
        detail: String,
        errors: Vec<FieldError>,
    },
    /// The client asks more often than it may.
    RateLimited { retry_after_s: u64 },
    /// Too much is in flight.
    Overloaded,
    /// As many streams are open as are allowed.
    TooManySubscribers,
    /// The process is going down.
    ShuttingDown,
    /// The database is out of reach or too slow.
    DatabaseUnavailable,
    /// A bug of ours; the log has the cause.
    Internal,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    #[schema(value_type = str)]
    r#type: Cow<'static, str>,
    title: &'static str,
    status: u16,
    #[schema(value_type = str)]
    detail: Cow<'a, str>,
    /// Whether the same request may succeed later.
    retryable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField<'a>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProblemField<'a> {
    pointer: &'a str,
    detail: &'a str,
}

impl ApiError {
    /// Status, the name of the problem type, and its title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) | Self::BrokenBody(_) => {
                (StatusCode::BAD_REQUEST, "bad-request", "Bad request")
            }
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized", "Token needed"),
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                "Misdirected request",
            ),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoSuchActor(_) => (StatusCode::NOT_FOUND, "no-such-actor", "No such actor"),
            Self::MethodNotAllowed { .. } => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "Body took too long",
            ),
            Self::ActorRestarting => (
                StatusCode::CONFLICT,
                "actor-restarting",
                "Actor is restarting",
            ),
            Self::BodyTooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Body too large",
            ),
            Self::UnsupportedType { .. } => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-type",
                "Unsupported content type",
            ),
            Self::UnsupportedEncoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-encoding",
                "Unsupported content encoding",
            ),
            Self::UnsupportedData(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-data",
                "Unsupported data",
            ),
            Self::Invalid { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-body",
                "Invalid body",
            ),
            Self::RateLimited { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests",
            ),
            Self::TooManySubscribers => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-subscribers",
                "Too many subscribers",
            ),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting-down",
                "Shutting down",
            ),
            Self::DatabaseUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "database-unavailable",
                "Database unavailable",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
            ),
        }
    }

    fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::BadRequest(detail)
            | Self::UnsupportedType { detail, .. }
            | Self::UnsupportedData(detail)
            | Self::Invalid { detail, .. } => detail.into(),
            Self::BrokenBody(detail)
            | Self::Unauthorized(detail)
            | Self::Forbidden(detail)
            | Self::NotFound(detail) => (*detail).into(),
            Self::NoSuchActor(known) => format!("known actors: {known}").into(),
            Self::MethodNotAllowed { allow } => format!("this path takes {allow}").into(),
            Self::BodyTimeout => "the body did not arrive in time".into(),
            Self::ActorRestarting => "this actor has ended already and is being restarted".into(),
            Self::BodyTooLarge { max_bytes } => {
                format!("the body must have at most {max_bytes} bytes").into()
            }
            Self::UnsupportedEncoding => {
                format!("the content encoding must be one of {}", encoding::ACCEPTED).into()
            }
            Self::TooManySubscribers => "as many streams are open as SUBSCRIBERS_MAX allows".into(),
            Self::Misdirected => {
                "the service does not answer to this Host; ALLOWED_HOSTS names those \
                to which it does, beside addresses and localhost"
                    .into()
            }
            Self::RateLimited { .. } => {
                "this client asks more often than RATE_LIMIT allows; nothing of this request was \
                stored"
                    .into()
            }
            Self::Overloaded => "too much is in flight; nothing of this request was stored".into(),
            Self::ShuttingDown => {
                "the service is shutting down; nothing of this request was stored".into()
            }
            Self::DatabaseUnavailable => "the database did not answer in time; send the same \
                request again: what was stored is then answered as a duplicate"
                .into(),
            Self::Internal => "something went wrong here; the log says what".into(),
        }
    }

    fn errors(&self) -> Vec<ProblemField<'_>> {
        let errors: &[FieldError] = match self {
            Self::Invalid { errors, .. } => errors,
            _ => &[],
        };
        errors
            .iter()
            .map(|error| ProblemField {
                pointer: &error.pointer,
                detail: &error.detail,
            })
            .collect()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().1)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.kind().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, name, title) = self.kind();
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        match self {
            Self::MethodNotAllowed { allow } => {
                response.insert_header((ALLOW, *allow));
            }
            Self::Unauthorized(_) => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"oncelog\""));
            }
            Self::UnsupportedType { accepted, .. } => {
                response.insert_header(("accept-post", *accepted));
            }
            // RFC 7694: without it the client would have to guess what is wrong with the request.
            Self::UnsupportedEncoding => {
                response.insert_header((ACCEPT_ENCODING, encoding::ACCEPTED));
            }
            Self::ShuttingDown
            | Self::BrokenBody(_)
            | Self::BodyTimeout
            | Self::BodyTooLarge { .. } => {
                response.force_close();
            }
            _ => {}
        }
        let retryable = status == StatusCode::SERVICE_UNAVAILABLE
            || matches!(
                self,
                Self::BodyTimeout | Self::ActorRestarting | Self::RateLimited { .. }
            );
        if let Self::RateLimited { retry_after_s } = self {
            response.insert_header((RETRY_AFTER, *retry_after_s));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
        }
        if matches!(self, Self::Overloaded) {
            response.extensions_mut().insert(HeldBack);
        }
        let problem = Problem {
            r#type: format!("urn:oncelog:problem:{name}").into(),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            retryable,
            errors: self.errors(),
        };
        response.body(serde_json::to_vec(&problem).unwrap_or_default())
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error.kind {
            WireErrorKind::Malformed { detail } => Self::Invalid {
                detail,
                errors: Vec::new(),
            },
            WireErrorKind::Invalid {
                errors,
                errors_total,
            } => Self::Invalid {
                detail: match errors_total {
                    1 => "one field is invalid; nothing was stored".to_owned(),
                    many => format!("{many} fields are invalid; nothing was stored"),
                },
                errors,
            },
            WireErrorKind::UnsupportedData { detail } => Self::UnsupportedData(detail),
        }
    }
}

impl From<Overloaded> for ApiError {
    fn from(_: Overloaded) -> Self {
        Self::Overloaded
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TimedOut => Self::DatabaseUnavailable,
            AppendError::Refused => Self::Internal,
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::TooMany => Self::TooManySubscribers,
            SubscribeError::Closed => Self::ShuttingDown,
            SubscribeError::Store(error) => error.into(),
        }
    }
}

impl From<StatsError> for ApiError {
    fn from(_: StatsError) -> Self {
        Self::DatabaseUnavailable
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(cause) => {
                tracing::error!(%cause, "the database refused a query");
                Self::Internal
            }
            other => {
                tracing::debug!(error = %other, "a read failed");
                Self::DatabaseUnavailable
            }
        }
    }
}
