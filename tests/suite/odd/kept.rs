//! An event that a row has sent, and whether it is read back as it was.

use super::{
    exchange::Exchange,
    json, request,
    row::{check_status, only, shown},
    service::Service,
};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt::Write, time::Duration};
use tokio::time::{Instant, sleep};

/// How [`request::TIMESTAMP`] is shown.
const TIMESTAMP_SHOWN: &str = "2026-01-31T12:00:00.000000Z";
/// What the broker has is stored by then.
const QUEUED_MAX: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// An event as it was sent, with its timestamp as it is to be shown.
pub(super) struct Kept {
    sent: String,
    timestamp: &'static str,
}

impl Kept {
    /// Events with the timestamp of all tables.
    pub(super) fn all(events: Vec<String>) -> Vec<Self> {
        Self::all_at(TIMESTAMP_SHOWN, events)
    }

    /// Events with a timestamp that is shown so.
    pub(super) fn all_at(timestamp: &'static str, events: Vec<String>) -> Vec<Self> {
        let kept = |sent| Self { sent, timestamp };
        events.into_iter().map(kept).collect()
    }

    /// Topic and event id.
    pub(super) fn key(&self) -> (String, String) {
        let sent = json::members(&self.sent).unwrap();
        (text(&sent, "topic"), text(&sent, "event_id"))
    }

    /// Reads the event by its key; one that the broker has at first, as soon as it is there.
    pub(super) async fn check(
        &self,
        service: &Service<'_>,
        exchange: &mut Exchange,
        is_queued: bool,
    ) -> Result<(), String> {
        let (topic, event_id) = self.key();
        let path = format!("/events/{}/{}", encoded(&topic), encoded(&event_id));
        let request = service.signed(request::get(path));
        let deadline = Instant::now() + QUEUED_MAX;
        let reply = loop {
            let replies = exchange.ask(&request).await?;
            let reply = only(&replies)?;
            if !is_queued || reply.status != 404 || Instant::now() > deadline {
                break reply.clone();
            }
            sleep(LOOK_PAUSE).await;
        };
        check_status(&reply, 200)?;
        let answer = reply.text();
        let faults = self
            .differences(&answer)
            .map_err(|error| error.to_string())?;
        match faults.is_empty() {
            true => Ok(()),
            false => Err(format!("read back: {faults}in {}", shown(&reply))),
        }
    }

    fn differences(&self, answer: &str) -> Result<String, serde_json::Error> {
        let (sent, found) = (json::members(&self.sent)?, json::members(answer)?);
        let mut faults = String::new();
        for name in ["topic", "event_id", "source"] {
            let (sent, found) = (text(&sent, name), text(&found, name));
            if sent != found {
                let _ = write!(faults, "{name} was {sent:?}, is {found:?}; ");
            }
        }
        if text(&found, "timestamp") != self.timestamp {
            let _ = write!(faults, "timestamp should be {}; ", self.timestamp);
        }
        let payloads = (found.get("payload"), sent.get("payload"));
        if !matches!(payloads, (Some(found), Some(sent)) if json::is_same(found.get(), sent.get()))
        {
            faults.push_str("another payload; ");
        }
        Ok(faults)
    }
}

fn text(members: &BTreeMap<String, &RawValue>, name: &str) -> String {
    let value = members.get(name).map(|value| value.get());
    value
        .and_then(|value| serde_json::from_str(value).ok())
        .unwrap_or_default()
}

/// Every byte percent-encoded but letters and digits.
fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => path.push(char::from(byte)),
            false => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}
