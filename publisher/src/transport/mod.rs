//! How events travel: over HTTP, or through the broker's stream.

mod http;
mod stream;

use crate::{account::Answer, api::Api, cli::Options};
use serde_json::Value;

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub(crate) enum Transport {
    Http(http::Http),
    Redis(stream::Stream),
}

impl Transport {
    pub(crate) fn new(options: &Options, api: &Api) -> Result<Self, String> {
        match &options.redis {
            Some(target) => stream::Stream::new(target).map(Self::Redis),
            None => Ok(Self::Http(http::Http::new(api, options.batch_size))),
        }
    }

    /// One attempt.
    pub(crate) async fn send(&self, events: &[Value]) -> Answer {
        match self {
            Self::Http(http) => http.send(events).await,
            Self::Redis(stream) => stream.send(events).await,
        }
    }

    /// Entries that wait in the stream; `None` where there is no stream to look at.
    pub(crate) async fn waiting(&self) -> Option<u64> {
        match self {
            Self::Http(_) => None,
            Self::Redis(stream) => stream.waiting().await,
        }
    }
}
