//! `GET /`: the page for people, embedded in the binary, and `GET /dashboard/stream`, the numbers it
//! shows. The page loads nothing from elsewhere, and its policy would let it load nothing.

mod frame;
mod latency;
mod rates;
mod watch;

pub use watch::{Dashboard, watch};

use super::{HttpState, error::ApiError, get, readable, stream::endless};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch,
        REFERRER_POLICY,
    },
    web::{self, Bytes, Data},
};
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use std::{convert::Infallible, fmt::Write};

/// Own files and own calls, nothing else: no inline script or style, no markup made from text, no
/// frame around the page, nowhere to send a form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 11] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        content: include_str!("index.html"),
    },
    script("/dashboard/app.js", include_str!("app.js")),
    script("/dashboard/actors.js", include_str!("actors.js")),
    script("/dashboard/api.js", include_str!("api.js")),
    script("/dashboard/chart.js", include_str!("chart.js")),
    script("/dashboard/lists.js", include_str!("lists.js")),
    script("/dashboard/stream.js", include_str!("stream.js")),
    script("/dashboard/tail.js", include_str!("tail.js")),
    script("/dashboard/text.js", include_str!("text.js")),
    Asset {
        path: "/dashboard/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("style.css"),
    },
    Asset {
        // Where browsers look for it on every page, also on those that name no icon.
        path: "/favicon.ico",
        content_type: "image/svg+xml",
        content: include_str!("icon.svg"),
    },
];

const fn script(path: &'static str, content: &'static str) -> Asset {
    Asset {
        path,
        content_type: "text/javascript; charset=utf-8",
        content,
    }
}

/// Puts the page and its stream into an application.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    for asset in ASSETS {
        let etag = EntityTag::new_strong(digest(asset.content));
        let answer = move |request: HttpRequest| {
            let answer = file(&request, asset, &etag);
            async move { answer }
        };
        config.service(readable(asset.path, get().to(answer)));
    }
    config.service(readable("/dashboard/stream", get().to(numbers)));
}

fn file(request: &HttpRequest, asset: Asset, etag: &EntityTag) -> HttpResponse {
    let is_known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(etag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    };
    let mut answer = match is_known {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    answer
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // The page and its script belong together: after an update neither may be an old one.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((ETAG, etag.to_string()));
    if is_known {
        return answer.finish();
    }
    answer
        .insert_header((CONTENT_TYPE, asset.content_type))
        .body(asset.content)
}

fn digest(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    let mut hex = String::new();
    for byte in &digest[..8] {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Server-Sent Events: `history` once, then a `frame` whenever one differs from the one before.
async fn numbers(request: HttpRequest, state: Data<HttpState>) -> Result<HttpResponse, ApiError> {
    let is_admin = state.unless_guessing(&request, state.access.check_watching(&request))?;
    if state.lifecycle.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let frames = state.dashboard.subscribe();
    let now = state.dashboard.now(&state);
    let beginning = [
        Some(state.dashboard.history()),
        now.map(|sent| sent.bytes(is_admin)),
    ];
    // A viewer who is slow gets the newest frame when there is room again, not all he has missed.
    let rest = stream::unfold((frames, state), move |(mut frames, state)| async move {
        frames.changed().await.ok()?;
        if state.lifecycle.is_draining() {
            return None;
        }
        let bytes = frames.borrow_and_update().bytes(is_admin);
        Some((bytes, (frames, state)))
    });
    let events = stream::iter(beginning.into_iter().flatten()).chain(rest);
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that collect an answer before they pass it on would hold back every frame.
        .insert_header(("x-accel-buffering", "no"));
    Ok(endless(
        &request,
        response,
        events.map(Ok::<Bytes, Infallible>),
    ))
}
