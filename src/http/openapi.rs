//! `GET /openapi.json`: the API as a machine reads it (OpenAPI 3.1), and `GET /docs`: the same for
//! people. Answers are described by the types that make them, refusals by the errors themselves.

mod operating;
mod page;
mod parts;
mod problems;
mod publishing;
mod reading;
mod schemas;

pub(super) use schemas::outcome;

use super::{get, readable};
use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY},
    web::{self, Bytes},
};
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder, tag::TagBuilder,
};

/// The page has a style of its own and nothing else: no script at all.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const ABOUT: &str = "Stores each event, by its key (topic, event_id), exactly once, and answers \
    after the commit. Whatever was not answered can be sent again: the answer then is duplicate. \
    Errors are problem details (RFC 9457). Every path that takes GET takes HEAD, too; another \
    method is answered 405 with Allow.";

/// The groups of calls, in the order in which the page shows them.
const TAGS: [(&str, &str); 3] = [
    (
        "Publish",
        "Send events, one or up to 1000 in a transaction.",
    ),
    (
        "Read",
        "Events, topics and counters, by page or as they are stored.",
    ),
    (
        "Operate",
        "Health, actors, dead letters, and this description.",
    ),
];

/// Puts the description into an application.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    let document = document();
    let json = Bytes::from(document.to_pretty_json().unwrap_or_default());
    let page = Bytes::from(page::render(
        &serde_json::to_value(&document).unwrap_or_default(),
    ));
    let style = Bytes::from_static(include_bytes!("openapi/style.css"));
    config
        .service(file("/openapi.json", "application/json", json))
        .service(file("/docs", "text/html; charset=utf-8", page))
        .service(file("/docs/style.css", "text/css; charset=utf-8", style));
}

fn file(path: &'static str, content_type: &'static str, content: Bytes) -> actix_web::Resource {
    let answer = move || {
        let content = content.clone();
        async move {
            HttpResponse::Ok()
                .content_type(content_type)
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .insert_header((REFERRER_POLICY, "no-referrer"))
                .insert_header((CACHE_CONTROL, "no-cache"))
                .body(content)
        }
    };
    readable(path, get().to(answer))
}

/// The whole description.
fn document() -> OpenApi {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0");
    let info = InfoBuilder::new()
        .title("oncelog")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.identifier(Some("MIT OR Apache-2.0")).build()));
    let paths = reading::paths(publishing::paths(PathsBuilder::new()));
    let tags = TAGS.map(|(name, about)| {
        TagBuilder::new()
            .name(name)
            .description(Some(about))
            .build()
    });
    OpenApiBuilder::new()
        .info(info)
        .paths(operating::paths(paths))
        .components(Some(problems::responses(schemas::components()).build()))
        .tags(Some(tags))
        .build()
}

#[cfg(test)]
mod tests;
