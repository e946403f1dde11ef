//! How calls are refused, shown by real refusals: status, headers and body of each come from
//! `error`. Used by the calls, which name a status.

use super::parts::{content, named, sent};
use crate::{http::error::ApiError, wire::FieldError};
use actix_web::{ResponseError, body::MessageBody};
use serde_json::Value;
use utoipa::openapi::{ComponentsBuilder, ResponseBuilder};

/// The name of the answer with this status, among the components.
pub(super) fn name(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "BodyTimeout",
        409 => "ActorRestarting",
        413 => "BodyTooLarge",
        415 => "UnsupportedMediaType",
        421 => "Misdirected",
        422 => "InvalidBody",
        429 => "TooManyRequests",
        503 => "Unavailable",
        _ => "Internal",
    }
}

/// Adds every refusal.
pub(super) fn responses(mut components: ComponentsBuilder) -> ComponentsBuilder {
    for (error, about) in samples() {
        let status = error.status_code().as_u16();
        components = components.response(name(status), described(&error, about));
    }
    components
}

fn samples() -> [(ApiError, &'static str); 14] {
    let limit = "limit must be a whole number from 1 on".to_owned();
    let unsupported = ApiError::UnsupportedType {
        detail: "this path takes application/json".to_owned(),
        accepted: "application/json",
    };
    let invalid = ApiError::Invalid {
        detail: "one field is invalid; nothing was stored".to_owned(),
        errors: vec![FieldError {
            pointer: "/events/3/topic".to_owned(),
            detail: "must not be empty".to_owned(),
        }],
    };
    [
        (
            ApiError::BadRequest(limit),
            "A wrong query string or header, broken HTTP, or a body that does not decompress.",
        ),
        (
            ApiError::Unauthorized("this token is not known"),
            "No token, or an unknown one.",
        ),
        (
            ApiError::Forbidden("this token does not allow this call"),
            "The token does not allow this call.",
        ),
        (
            ApiError::NotFound("there is no event of this topic and id"),
            "There is nothing of that name.",
        ),
        (
            ApiError::MethodNotAllowed { allow: "GET, HEAD" },
            "Another method on this path.",
        ),
        (ApiError::BodyTimeout, "The body did not arrive in time."),
        (
            ApiError::ActorRestarting,
            "The actor is being restarted already.",
        ),
        (
            ApiError::BodyTooLarge { max_bytes: 8 << 20 },
            "The body is larger than MAX_BODY_BYTES, after decompression.",
        ),
        (
            unsupported,
            "A content type or encoding that is not understood.",
        ),
        (
            invalid,
            "The body is not what the call takes; nothing of the request was stored.",
        ),
        (
            ApiError::Misdirected,
            "A Host that ALLOWED_HOSTS does not name, where it is set.",
        ),
        (
            ApiError::RateLimited { retry_after_s: 1 },
            "More often than RATE_LIMIT allows, where it is set; nothing was stored.",
        ),
        (ApiError::Internal, "A bug; the log says what."),
        (
            ApiError::Overloaded,
            "Overloaded, shutting down, or the database is out of reach. Send it again.",
        ),
    ]
}

fn described(error: &ApiError, about: &str) -> ResponseBuilder {
    let answer = error.error_response();
    let mut response = ResponseBuilder::new().description(about);
    for (header, about) in [
        ("Retry-After", "Seconds after which to send it again."),
        ("Allow", "The methods of this path."),
        ("WWW-Authenticate", "The scheme of the token."),
    ] {
        if answer.headers().contains_key(header) {
            response = response.header(header, sent(about));
        }
    }
    if matches!(error, ApiError::UnsupportedType { .. }) {
        response = response
            .header(
                "Accept-Post",
                sent("The content types of this path, where it was the type."),
            )
            .header(
                "Accept-Encoding",
                sent("The content encodings, where it was the encoding."),
            );
    }
    let body = answer.into_body().try_into_bytes().unwrap_or_default();
    let example = serde_json::from_slice(&body).unwrap_or(Value::Null);
    response.content(
        "application/problem+json",
        content(named("Problem"), example),
    )
}
