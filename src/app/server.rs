//! The HTTP server: its limits and who may ask it for what.

use super::{
    LINGER,
    expect::OnDemand,
    head,
    listener::Listener,
    pace::{Pace, Paced, PacedBody},
    unread::RequestBody,
};
use crate::{
    actors::Cast,
    config::{Config, Scope},
    http::{
        self, AccessRules, HeldBack, HttpState, RateLimiter, Token, TokenScope, TrustedProxies,
    },
    tls::ServedCertificate,
};
use actix_http::{Extensions, HttpService, Protocol, error::DispatchError};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_tls::accept::{
    TlsError, max_concurrent_tls_connect,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App,
    body::BoxBody,
    dev::{AppConfig, Server, ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{HeaderValue, X_CONTENT_TYPE_OPTIONS},
    },
    rt::net::TcpStream,
    web::Data,
};
use anyhow::Context;
use futures_util::future::{Either, ready};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};

/// Before an answer that is [`HeldBack`]. Nothing but the connection waits with it.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
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

pub(super) fn rate_limiter(config: &Config, access: &AccessRules) -> RateLimiter {
    match config.rate_limit {
        Some(limit) => {
            let proxies = TrustedProxies::new(config.trusted_proxies.clone());
            RateLimiter::new(limit.per_s, limit.burst, access, proxies)
        }
        None => RateLimiter::off(),
    }
}

/// The cast, if there is one, is started on the thread of a worker, and ends with it.
pub(super) fn http_server(
    config: &Config,
    connections_max: usize,
    listener: &Listener,
    certificate: Option<&ServedCertificate>,
    state: HttpState,
    cast: Option<Cast>,
) -> anyhow::Result<Server> {
    let workers = config.http_workers;
    let connections_max = (connections_max / workers).max(1);
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections_max)
        .shutdown_timeout(LINGER.as_secs())
        .disable_signals();
    let draining = server.graceful_shutdown_signal();
    let keep_alive = Duration::from_millis(config.keep_alive_ms);
    let listener = listener
        .share()
        .context("cannot share the listening socket")?;
    let cast = Arc::new(Mutex::new(cast));
    // Called on each worker's thread.
    let start_cast = move || {
        let cast = cast.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cast) = cast {
            cast.start();
        }
    };
    let server = match certificate {
        None => server.listen("http", listener, move || {
            start_cast();
            fn_service(async |stream: TcpStream| Ok(paced(stream))).and_then(answers(
                state.clone(),
                keep_alive,
                draining.clone(),
            ))
        }),
        Some(certificate) => {
            // By default 256 clients that connect and say nothing keep all others out meanwhile.
            max_concurrent_tls_connect(connections_max);
            let mut tls = certificate.server_config()?;
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let mut acceptor = Acceptor::new(tls);
            acceptor.set_handshake_timeout(HEAD_TIMEOUT);
            server.listen("https", listener, move || {
                start_cast();
                acceptor
                    .clone()
                    .map_err(TlsError::into_service_error)
                    .and_then(async |stream: TlsStream<TcpStream>| Ok(paced(stream)))
                    .and_then(
                        answers(state.clone(), keep_alive, draining.clone())
                            .map_err(TlsError::Service),
                    )
            })
        }
    };
    let server = server.context("cannot serve on the listening socket")?;
    Ok(server.run())
}

/// A connection as actix-web's service for HTTP takes it, with the client's address.
type Accepted<T> = (Paced<T>, Protocol, Option<SocketAddr>);

fn paced<T: Stream>(stream: T) -> Accepted<T> {
    // Without it clients that pipeline stall; it only fails on a connection that is lost.
    let _ = stream.socket().set_nodelay(true);
    let client = stream.socket().peer_addr().ok();
    (Paced::new(stream, HEAD_TIMEOUT), Protocol::Http1, client)
}

/// What bytes come and go through.
trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// All that is done on a connection. What `actix_web::HttpServer` makes, which takes no connections but its own.
fn answers<T: Stream>(
    state: HttpState,
    keep_alive: Duration,
    draining: GracefulShutdownSignal,
) -> impl ServiceFactory<Accepted<T>, Config = (), Response = (), Error = DispatchError, InitError = ()>
{
    let application = application(state)
        .into_factory()
        .map_err(|error: actix_web::Error| error.error_response());
    let application = OnDemand::new(map_config(application, |()| AppConfig::default()));
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let draining = draining.clone();
            async move { draining.notified().await }
        })
        .keep_alive(keep_alive)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|connection: &Paced<T>, data: &mut Extensions| {
            data.insert(connection.pace().clone());
        })
        .expect(application.expecting())
        .finish(application.answering())
}

fn application(
    state: HttpState,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<PacedBody<BoxBody>>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let (lifecycle, requests) = (state.lifecycle.clone(), state.requests.clone());
    let hosts = state.hosts.clone();
    let body_timeout = state.limits.body_timeout;
    App::new()
        .app_data(Data::new(state))
        .wrap_fn(move |mut request, service| {
            let under_way = request.conn_data::<Pace>().map(Pace::begin);
            let (in_flight, requests) = (lifecycle.enter(), requests.clone());
            let arrived = Instant::now();
            let body = RequestBody::of(&mut request);
            head::shrink(request.headers_mut());
            let response = match hosts.refusal(&request) {
                Some(refusal) => Either::Left(ready(Ok(request.into_response(refusal)))),
                None => Either::Right(service.call(request)),
            };
            async move {
                let mut response = response.await?;
                if response.response().extensions().contains::<HeldBack>() {
                    sleep(REFUSAL_PAUSE).await;
                }
                // No browser is to make a page of what is said to be none.
                let nosniff = HeaderValue::from_static("nosniff");
                response
                    .headers_mut()
                    .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
                requests.add(&response, arrived.elapsed());
                let unread = match body {
                    Some(body) => body.finish(body_timeout).await,
                    None => None,
                };
                if in_flight.is_last() || unread.is_some() {
                    let head = response.response_mut().head_mut();
                    head.set_connection_type(ConnectionType::Close);
                }
                drop(in_flight);
                Ok(response.map_body(|_, body| PacedBody::new(body, under_way, unread)))
            }
        })
        .configure(http::routes)
}
