//! A subscriber to `GET /events/stream`, as a browser is one.

use super::Client;
use reqwest::{Method, Response};
use serde_json::Value;
use std::time::Duration;

/// Longer than any test.
const STREAM_MAX: Duration = Duration::from_secs(300);

/// An open stream.
pub(crate) struct Subscriber {
    response: Response,
    text: String,
    rest: Vec<u8>,
    last_event_id: String,
}

impl Subscriber {
    /// Opens a stream; `query` without its question mark. An error where there is no answer, or
    /// where it breaks off before its first words.
    pub(crate) async fn try_open(
        client: &Client,
        query: &str,
        last_event_id: Option<&str>,
    ) -> Result<Self, String> {
        let mut request = client
            .request(Method::GET, &format!("/events/stream?{query}"))
            .timeout(STREAM_MAX);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(response.status().to_string());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut subscriber = Self {
            response,
            text: String::new(),
            rest: Vec::new(),
            last_event_id: String::new(),
        };
        let hello = subscriber.block().await.ok_or("it ended at once")?;
        assert!(hello.starts_with("retry: "), "{hello}");
        Ok(subscriber)
    }

    pub(crate) async fn open(client: &Client, query: &str) -> Self {
        Self::try_open(client, query, None).await.unwrap()
    }

    /// The place of the last event, or that of the stream's beginning.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The next event; `None` where the stream has ended or is lost.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                assert!(block.contains("\nevent: event\n"), "{block}");
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The ids of the next so many events.
    pub(crate) async fn next_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let event = self.next().await.expect("an open stream");
            ids.push(event["event_id"].as_str().unwrap().to_owned());
        }
        ids
    }

    /// The next lines up to an empty one, comments among them. Loses nothing where it is dropped.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, _)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text.drain(..block.len() + 2);
                if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                    id.clone_into(&mut self.last_event_id);
                }
                return Some(block);
            }
            let bytes = self.response.chunk().await.ok()??;
            self.rest.extend_from_slice(&bytes);
            // A character may be cut in two.
            let whole = match std::str::from_utf8(&self.rest) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            let text: Vec<u8> = self.rest.drain(..whole).collect();
            self.text.push_str(std::str::from_utf8(&text).unwrap());
        }
    }
}
