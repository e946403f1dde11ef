//! Publishing over HTTP: single events or batches.

use crate::{
    account::Answer,
    api::{Api, causes},
};
use reqwest::{Method, Response, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The most of a wrong answer that is shown.
const SHOWN_CHARS_MAX: usize = 300;

#[derive(Clone)]
pub(crate) struct Http {
    api: Api,
    is_single: bool,
}

#[derive(Deserialize)]
struct Single {
    outcome: String,
}

#[derive(Deserialize)]
struct Batch {
    stored: u64,
    duplicates: u64,
    conflicts: u64,
}

impl Http {
    pub(crate) fn new(api: &Api, batch_size: usize) -> Self {
        Self {
            api: api.clone(),
            is_single: batch_size == 1,
        }
    }

    pub(crate) async fn send(&self, events: &[Value]) -> Answer {
        let request = if self.is_single {
            self.api.request(Method::POST, "/publish").json(&events[0])
        } else {
            let body = json!({ "events": events });
            self.api.request(Method::POST, "/publish/batch").json(&body)
        };
        match request.send().await {
            Ok(response) => self.answer(response).await,
            Err(error) => unknown(causes(&error)),
        }
    }

    async fn answer(&self, response: Response) -> Answer {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return unknown(causes(&error)),
        };
        match status {
            StatusCode::OK => self.committed(&body).unwrap_or_else(|| {
                let why = format!("200 with a body that is no answer: {}", shown(&body));
                Answer::Refused { why }
            }),
            StatusCode::ACCEPTED => Answer::Queued,
            _ if status.is_server_error()
                || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT]
                    .contains(&status) =>
            {
                Answer::Unknown {
                    why: format!("{status}: {}", shown(&body)),
                    retry_after,
                }
            }
            _ => Answer::Refused {
                why: format!("{status}: {}", shown(&body)),
            },
        }
    }

    fn committed(&self, body: &[u8]) -> Option<Answer> {
        if !self.is_single {
            let batch: Batch = serde_json::from_slice(body).ok()?;
            return Some(Answer::Committed {
                stored: batch.stored,
                duplicates: batch.duplicates,
                conflicts: batch.conflicts,
            });
        }
        let single: Single = serde_json::from_slice(body).ok()?;
        let (stored, duplicates, conflicts) = match single.outcome.as_str() {
            "stored" => (1, 0, 0),
            "duplicate" => (0, 1, 0),
            "conflict" => (0, 1, 1),
            _ => return None,
        };
        Some(Answer::Committed {
            stored,
            duplicates,
            conflicts,
        })
    }
}

fn unknown(why: String) -> Answer {
    Answer::Unknown {
        why,
        retry_after: None,
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .take(SHOWN_CHARS_MAX)
        .collect()
}
