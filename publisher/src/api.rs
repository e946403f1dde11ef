//! The server's HTTP API, as far as a publisher needs it.

use crate::{cli::Options, workload::Key};
use reqwest::{Certificate, Client, ClientBuilder, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The server promises an answer within 10 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const HEALTH_PAUSE: Duration = Duration::from_millis(250);

/// A way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    url: String,
    token: Option<String>,
    admin_token: Option<String>,
}

/// The counters that are compared.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq)]
pub(crate) struct Stats {
    pub(crate) received_count: u64,
    pub(crate) unique_processed_count: u64,
    pub(crate) duplicate_dropped_count: u64,
    pub(crate) queue_length: u64,
    pub(crate) uptime_seconds: f64,
}

/// An actor, as the admin calls show it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) restarts: u64,
}

#[derive(Deserialize)]
struct Actors {
    actors: Vec<Actor>,
}

/// A client that trusts what it was told to. The system's certificates are read only where they are
/// asked for: the publisher's image has none.
fn trusting(options: &Options) -> Result<ClientBuilder, String> {
    // An error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = match &options.ca_file {
        None if options.url.starts_with("https://") => return Ok(Client::builder()),
        None => Vec::new(),
        Some(path) => fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()))
            .map_err(|error| format!("--ca-file: {path:?} cannot be used: {error}"))?,
    };
    Ok(Client::builder().tls_certs_only(certificates))
}

impl Api {
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let client = trusting(options)?
            .timeout(REQUEST_TIMEOUT)
            .no_proxy()
            .pool_max_idle_per_host(options.concurrency)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| format!("cannot make a client: {error}"))?;
        Ok(Self {
            client,
            url: options.url.clone(),
            token: options.token.clone(),
            admin_token: options.admin_token.clone(),
        })
    }

    /// A request that publishes or reads.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.admin_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Waits until the server says that it is healthy, or degraded, which is enough.
    pub(crate) async fn wait_until_healthy(&self, wait: Duration) -> Result<(), String> {
        let deadline = Instant::now() + wait;
        loop {
            let answer = self.request(Method::GET, "/health").send().await;
            let why = match answer {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(()),
                Ok(answer) => format!("/health answers {}", answer.status()),
                Err(error) => causes(&error),
            };
            if Instant::now() >= deadline {
                return Err(format!("{} is not healthy after {wait:?}: {why}", self.url));
            }
            sleep(HEALTH_PAUSE).await;
        }
    }

    pub(crate) async fn stats(&self) -> Result<Stats, String> {
        self.json(self.request(Method::GET, "/stats"), "/stats")
            .await
    }

    pub(crate) async fn actors(&self) -> Result<Vec<Actor>, String> {
        let path = "/admin/actors";
        let actors: Actors = self.json(self.admin(Method::GET, path), path).await?;
        Ok(actors.actors)
    }

    /// Tells an actor to die; the status of the answer.
    pub(crate) async fn crash(&self, actor: &str, order: &Value) -> Result<StatusCode, String> {
        let path = format!("/admin/actors/{actor}/crash");
        let answer = self.admin(Method::POST, &path).json(order).send().await;
        answer
            .map(|answer| answer.status())
            .map_err(|error| causes(&error))
    }

    /// A stored event; `None` where there is none.
    pub(crate) async fn event(&self, key: &Key) -> Result<Option<Value>, String> {
        let path = format!("/events/{}/{}", encoded(&key.topic), encoded(&key.event_id));
        let answer = self.request(Method::GET, &path).send().await;
        let answer = answer.map_err(|error| causes(&error))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status() != StatusCode::OK {
            return Err(format!("GET {path}: {}", answer.status()));
        }
        answer
            .json()
            .await
            .map(Some)
            .map_err(|error| causes(&error))
    }

    async fn json<T: for<'de> Deserialize<'de>>(
        &self,
        request: RequestBuilder,
        path: &str,
    ) -> Result<T, String> {
        let answer = request.send().await.map_err(|error| causes(&error))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let hint = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (is there a token for it?)",
                _ => "",
            };
            return Err(format!("GET {path}: {status}{hint}"));
        }
        let parsed = answer.json().await;
        parsed.map_err(|error| format!("GET {path}: {}", causes(&error)))
    }
}

/// An error with its causes on one line; reqwest's own text leaves out what matters.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A path segment: everything but letters, digits, `-`, `.`, `_` and `~` (RFC 3986) is encoded.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
