//! The service's HTTP API as a client sees it.

use super::certificate::Trust;
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Speaks to one instance; clones share their connections.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// What every client of the tests is built from: it finds cryptography, and reads no certificates of
/// the system.
pub(crate) fn http_client() -> ClientBuilder {
    // An error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([])
}

/// An answer that has arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::build(format!("http://{address}"), http_client())
    }

    /// One that speaks TLS, asks for the name, and trusts its certificate alone.
    pub(crate) fn secure(address: SocketAddr, trust: &Trust) -> Self {
        let certificate = Certificate::from_pem(trust.pem.as_bytes()).unwrap();
        let http = http_client()
            .tls_certs_only([certificate])
            .resolve(&trust.name, address);
        Self::build(format!("https://{}:{}", trust.name, address.port()), http)
    }

    fn build(base: String, http: ClientBuilder) -> Self {
        let http = http.timeout(TIMEOUT).no_proxy().build().unwrap();
        Self { base, http }
    }

    /// A request to be completed and sent.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Sends a body as JSON, whatever it is.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, path);
        Answer::of(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }

    pub(crate) async fn publish(&self, event: &Value) -> Answer {
        self.post("/publish", event.to_string()).await
    }

    pub(crate) async fn batch(&self, events: &[Value]) -> Answer {
        self.post("/publish/batch", json!({ "events": events }).to_string())
            .await
    }

    /// As `publish`; an error where there was no answer.
    pub(crate) async fn try_publish(&self, event: &Value) -> reqwest::Result<Answer> {
        let request = self.request(Method::POST, "/publish");
        Answer::try_of(
            request
                .header("content-type", "application/json")
                .body(event.to_string()),
        )
        .await
    }

    /// As `batch`; an error where there was no answer.
    pub(crate) async fn try_batch(&self, events: &[Value]) -> reqwest::Result<Answer> {
        let body = json!({ "events": events }).to_string();
        let request = self.request(Method::POST, "/publish/batch");
        Answer::try_of(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }

    /// A page of events; `query` without its question mark.
    pub(crate) async fn events(&self, query: &str) -> Vec<Value> {
        let page = self.get(&format!("/events?{query}")).await.ok();
        page["events"].as_array().unwrap().clone()
    }

    pub(crate) async fn stats(&self) -> Value {
        self.get("/stats").await.ok()
    }

    /// The actors, as the admin calls show them.
    pub(crate) async fn actors(&self) -> Vec<Value> {
        let answer = self.get("/admin/actors").await.ok();
        answer["actors"].as_array().unwrap().clone()
    }

    /// The status of an answer to GET; `None` where there is none.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        let answer = Answer::try_of(self.request(Method::GET, path)).await;
        answer.ok().map(|answer| answer.status)
    }
}

impl Answer {
    /// Sends the request; fails the test where there is no answer.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        Self::try_of(request).await.expect("an answer")
    }

    pub(crate) async fn try_of(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The problem document (RFC 9457) of an answer with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "no {member} in {problem}");
        }
        problem
    }

    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A valid event.
pub(crate) fn event(topic: &str, event_id: &str) -> Value {
    json!({
        "topic": topic,
        "event_id": event_id,
        "timestamp": "2026-01-02T03:04:05Z",
        "source": "suite",
        "payload": { "of": event_id },
    })
}

/// One of 80 KB as it is sent, and of four megabytes as Postgres writes it out: the most that is taken.
pub(crate) fn large_event(topic: &str, event_id: &str) -> Value {
    let mut event = event(topic, event_id);
    event["payload"] = json!({ "numbers": vec![1e300; 13_000] });
    event
}
