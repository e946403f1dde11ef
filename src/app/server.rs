//! The HTTP server: its limits and who may ask it for what.

use super::{LINGER, listener::Listener};
use crate::{
    config::{Config, Scope},
    http::{self, AccessRules, HttpState, Token, TokenScope},
    tls::ServedCertificate,
};
use actix_web::{
    App, HttpServer,
    dev::{Server, Service},
    http::ConnectionType,
    web::Data,
};
use anyhow::Context;
use std::time::Duration;
use tokio::time::Instant;

/// An idle connection is kept that long, longer than common proxies keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The longest a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn access_rules(config: &Config) -> AccessRules {
    let scope = |scope: &Scope| match scope {
        Scope::Publish => TokenScope::Publish,
        Scope::Read => TokenScope::Read,
        Scope::Admin => TokenScope::Admin,
    };
    let tokens = config
        .api_tokens
        .iter()
        .map(|token| {
            Token::new(
                token.secret.expose(),
                token.scopes.iter().map(scope).collect(),
            )
        })
        .collect();
    let admin_token = config.admin_token.as_ref().map(|secret| secret.expose());
    AccessRules::new(tokens, admin_token, config.bind.ip().is_loopback())
}

pub(super) fn http_server(
    config: &Config,
    connections_max: usize,
    listener: &Listener,
    certificate: Option<&ServedCertificate>,
    state: HttpState,
) -> anyhow::Result<Server> {
    let workers = config.http_workers;
    let connections_max = (connections_max / workers).max(1);
    let server = HttpServer::new(move || {
        let (lifecycle, requests) = (state.lifecycle.clone(), state.requests.clone());
        App::new()
            .app_data(Data::new(state.clone()))
            .wrap_fn(move |request, service| {
                let (in_flight, requests) = (lifecycle.enter(), requests.clone());
                let arrived = Instant::now();
                let response = service.call(request);
                async move {
                    let mut response = response.await;
                    if let Ok(response) = &mut response {
                        requests.add(response, arrived.elapsed());
                        if in_flight.is_last() {
                            let head = response.response_mut().head_mut();
                            head.set_connection_type(ConnectionType::Close);
                        }
                    }
                    drop(in_flight);
                    response
                }
            })
            .configure(http::routes)
    })
    .workers(workers)
    .max_connections(connections_max)
    .tcp_nodelay(true)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(LINGER.as_secs())
    .disable_signals();
    let listener = listener
        .share()
        .context("cannot share the listening socket")?;
    let server = match certificate {
        None => server.listen(listener),
        Some(certificate) => server
            .tls_handshake_timeout(HEAD_TIMEOUT)
            // By default 256 clients that connect and say nothing keep all others out meanwhile.
            .max_connection_rate(connections_max)
            .listen_rustls_0_23(listener, certificate.server_config()?),
    };
    let server = server.context("cannot serve on the listening socket")?;
    Ok(server.run())
}
