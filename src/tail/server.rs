//! The server as `tail` sees it: pages of what is stored, and a stream of what is stored next.

use super::frames::{Frame, Frames};
use crate::{
    config::{Secret, TailConfig},
    domain::Timestamp,
    tls,
};
use reqwest::{Certificate, ClientBuilder, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{error::Error, time::Duration};
use tokio::time::timeout;
use url::Url;

/// Events on a page, which is the most that a server gives.
pub(super) const PAGE_EVENTS: usize = 1000;
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The longest that a page, or the head of a stream, may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A stream has a sign of life once a minute at least, by the highest HEARTBEAT_MS.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// No event can be larger, by the highest MAX_BODY_BYTES.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What went wrong with the server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It is not to be reached, or breaks off.
    #[error("no answer from {address}")]
    Unreachable {
        /// Where it was asked.
        address: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// It takes too long.
    #[error("no answer from {address} in time")]
    TimedOut {
        /// Where it was asked.
        address: String,
    },
    /// It ended the stream, as it does when it goes down.
    #[error("{address} ended the stream")]
    Ended {
        /// Where it was asked.
        address: String,
    },
    /// It says no.
    #[error("{address} answered {status}{detail}")]
    Refused {
        /// Where it was asked.
        address: String,
        /// The status of its answer.
        status: StatusCode,
        /// What it says about it, with a colon in front, where it says something.
        detail: String,
    },
    /// It is some other server.
    #[error("{address} does not answer as oncelog does")]
    Foreign {
        /// Where it was asked.
        address: String,
    },
}

impl ServerError {
    /// Whether the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Ended { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Foreign { .. } => false,
        }
    }
}

/// The error with its causes.
pub(super) fn one_line(error: &ServerError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

pub(super) struct Server {
    http: reqwest::Client,
    url: Url,
    topic: Option<String>,
    source: Option<String>,
    since: Option<Timestamp>,
    token: Option<Secret>,
}

/// An open stream.
pub(super) struct Stream {
    address: String,
    response: Response,
    frames: Frames,
}

impl Server {
    pub(super) fn new(config: TailConfig) -> Result<Self, ServerError> {
        let http = client(&config)
            .and_then(|client| client.connect_timeout(CONNECT_MAX).build())
            .map_err(|source| unreachable(&config.url, source))?;
        Ok(Self {
            http,
            url: config.url,
            topic: config.topic,
            source: config.source,
            since: config.since,
            token: config.token,
        })
    }

    /// The oldest events after a place.
    pub(super) async fn page(&self, cursor: Option<&str>) -> Result<Page, ServerError> {
        let mut url = self.filtered(&["events"], cursor);
        url.query_pairs_mut()
            .append_pair("order", "asc")
            .append_pair("limit", &PAGE_EVENTS.to_string());
        if let Some(since) = self.since {
            url.query_pairs_mut()
                .append_pair("since", &since.to_string());
        }
        let response = self.answer(self.http.get(url)).await?;
        let text = timeout(ANSWER_MAX, response.bytes())
            .await
            .map_err(|_| self.timed_out())?
            .map_err(|source| unreachable(&self.url, source))?;
        serde_json::from_slice(&text).map_err(|_| self.foreign())
    }

    /// What is stored after a place, or from now on.
    pub(super) async fn stream(&self, cursor: Option<&str>) -> Result<Stream, ServerError> {
        let url = self.filtered(&["events", "stream"], cursor);
        let response = self.answer(self.http.get(url)).await?;
        let content_type = response.headers().get("content-type");
        if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream")) {
            return Err(self.foreign());
        }
        Ok(Stream {
            address: self.url.to_string(),
            response,
            frames: Frames::default(),
        })
    }

    fn filtered(&self, path: &[&str], cursor: Option<&str>) -> Url {
        let mut url = self.url.clone();
        // The settings let no URL in that has no path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let filters = [
            ("topic", self.topic.as_deref()),
            ("source", self.source.as_deref()),
            ("cursor", cursor),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// Sends the request; its answer is one of success.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, ServerError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let response = timeout(ANSWER_MAX, request.send())
            .await
            .map_err(|_| self.timed_out())?
            .map_err(|source| unreachable(&self.url, source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = timeout(ANSWER_MAX, response.bytes()).await;
        let problem = body
            .ok()
            .and_then(Result::ok)
            .and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        Err(ServerError::Refused {
            address: self.url.to_string(),
            status,
            detail: problem.map_or_else(String::new, |problem| format!(": {}", problem.detail)),
        })
    }

    fn timed_out(&self) -> ServerError {
        ServerError::TimedOut {
            address: self.url.to_string(),
        }
    }

    fn foreign(&self) -> ServerError {
        ServerError::Foreign {
            address: self.url.to_string(),
        }
    }
}

impl Stream {
    /// The frames that the next bytes complete, which may be none.
    pub(super) async fn next(&mut self) -> Result<Vec<Frame>, ServerError> {
        let address = || self.address.clone();
        let bytes = match timeout(SILENCE_MAX, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(ServerError::Ended { address: address() }),
            Ok(Err(source)) => {
                return Err(ServerError::Unreachable {
                    address: address(),
                    source: source.without_url(),
                });
            }
            Err(_) => return Err(ServerError::TimedOut { address: address() }),
        };
        self.frames.push(&bytes);
        let complete = std::iter::from_fn(|| self.frames.next()).collect();
        if self.frames.rest_bytes() > FRAME_BYTES_MAX {
            return Err(ServerError::Foreign {
                address: self.address.clone(),
            });
        }
        Ok(complete)
    }
}

/// One that trusts what it was told to. The system's certificates are read only where they are asked
/// for: reading takes a moment, and a container may have none.
fn client(config: &TailConfig) -> reqwest::Result<ClientBuilder> {
    tls::install_provider();
    let client = reqwest::Client::builder();
    if config.url.scheme() == "https" && config.ca.is_empty() {
        return Ok(client);
    }
    let certificates = config.ca.iter().map(|one| Certificate::from_der(one));
    Ok(client.tls_certs_only(certificates.collect::<reqwest::Result<Vec<_>>>()?))
}

fn unreachable(url: &Url, source: reqwest::Error) -> ServerError {
    ServerError::Unreachable {
        address: url.to_string(),
        // It is said already, without the query.
        source: source.without_url(),
    }
}
