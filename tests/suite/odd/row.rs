//! A row of a table: a name, a request, and what the contract says about it.

use super::{
    exchange::{Exchange, Reply},
    json,
    request::{self, Request},
};
use crate::support::TestApp;
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, fmt::Write};

/// How [`request::TIMESTAMP`] is shown.
const TIMESTAMP_SHOWN: &str = "2026-01-31T12:00:00.000000Z";
/// What no answer may tell a stranger.
const SECRETS: [&str; 6] = ["select ", "insert ", "sqlstate", "src/", "panicked", ".rs:"];

pub(super) struct Row {
    pub(super) name: String,
    pub(super) request: Request,
    pub(super) expected: Expected,
}

/// What has to come of a request.
pub(super) enum Expected {
    /// An answer with this status, and a problem document where that is an error. `pointers` are
    /// those of its `errors`, where the row cares.
    Answer {
        status: u16,
        pointers: Option<Vec<&'static str>>,
    },
    /// 200, and each of these events is read back as it was sent.
    Stored(Vec<Kept>),
    /// The HTTP parser's own refusal, or an end without a word: 400, 408, 431 and the like.
    Refused(&'static [u16]),
    /// These answers, one after the other.
    Answers(Vec<u16>),
}

/// An event as it was sent, with its timestamp as it is to be shown.
pub(super) struct Kept {
    sent: String,
    timestamp: &'static str,
}

/// The name says what is odd.
pub(super) fn row(name: impl Into<String>, request: Request, expected: Expected) -> Row {
    Row {
        name: name.into(),
        request,
        expected,
    }
}

/// A good event, sent alone as JSON.
pub(super) fn accepted(name: impl Into<String>, event: String) -> Row {
    row(
        name,
        request::publish(event.clone()),
        stored(vec![event.clone()]),
    )
}

/// A bad event, sent alone as JSON: 422.
pub(super) fn refused(name: impl Into<String>, body: impl Into<Vec<u8>>) -> Row {
    row(name, request::publish(body), status(422))
}

pub(super) fn status(status: u16) -> Expected {
    Expected::Answer {
        status,
        pointers: None,
    }
}

/// 422, and what is wrong is at these places.
pub(super) fn invalid_at(pointers: &[&'static str]) -> Expected {
    Expected::Answer {
        status: 422,
        pointers: Some(pointers.to_vec()),
    }
}

pub(super) fn stored(events: Vec<String>) -> Expected {
    stored_at(TIMESTAMP_SHOWN, events)
}

/// Stored, with a timestamp that is shown so.
pub(super) fn stored_at(timestamp: &'static str, events: Vec<String>) -> Expected {
    let kept = |sent| Kept { sent, timestamp };
    Expected::Stored(events.into_iter().map(kept).collect())
}

impl Row {
    /// Sends it, and says what is wrong with what comes of it: nothing, usually.
    pub(super) async fn check(&self, app: &TestApp) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(fault) = self.try_check(app).await {
            faults.push(fault);
        }
        if let Err(fault) = next_good_request(app).await {
            faults.push(format!("the next good request: {fault}"));
        }
        let named = faults.into_iter();
        named
            .map(|fault| format!("{}: {fault}", self.name))
            .collect()
    }

    /// After a refusal the service need not know where the next request begins, and HTTP/1.0 has no
    /// next one. After a success a connection that goes without a word is a fault.
    fn may_close(&self, replies: &[Reply]) -> bool {
        let is_old = self.request.is_http_1_0();
        is_old || replies.last().is_none_or(|reply| reply.status >= 400)
    }

    async fn try_check(&self, app: &TestApp) -> Result<(), String> {
        let mut exchange = Exchange::open(app.address()).await;
        let replies = exchange.ask(&self.request).await?;
        self.expected.check(&replies)?;
        // Where the service leaves the connection open, it knows where the next request begins.
        if exchange.is_open && !self.request.half_closes && !is_stream(&replies) {
            let next = exchange.ask(&request::get("/livez")).await?;
            match next.first() {
                Some(reply) if reply.status == 200 => {}
                Some(other) => return Err(format!("then /livez on it: {}", shown(other))),
                None if self.may_close(&replies) => {}
                None => return Err("the connection is closed without a word of it".to_owned()),
            }
        }
        if let Expected::Stored(events) = &self.expected {
            for event in events {
                event.check(app).await?;
            }
        }
        Ok(())
    }
}

impl Expected {
    fn check(&self, replies: &[Reply]) -> Result<(), String> {
        match self {
            Self::Answer { status, pointers } => {
                let reply = only(replies)?;
                check_status(reply, *status)?;
                let Some(expected) = pointers else {
                    return Ok(());
                };
                let found = pointers_of(reply);
                match found == *expected {
                    true => Ok(()),
                    false => Err(format!("wrong at {expected:?}, answered {found:?}")),
                }
            }
            Self::Stored(_) => check_status(only(replies)?, 200),
            Self::Refused(statuses) => match replies {
                [] => Ok(()),
                [reply] if statuses.contains(&reply.status) => Ok(()),
                [other, ..] => Err(format!("{statuses:?} expected, got {}", shown(other))),
            },
            Self::Answers(statuses) => {
                let found: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
                match found == *statuses {
                    true => Ok(()),
                    false => Err(format!("{statuses:?} expected, got {found:?}")),
                }
            }
        }
    }
}

impl Kept {
    /// Reads the event by its key.
    async fn check(&self, app: &TestApp) -> Result<(), String> {
        let sent = json::members(&self.sent).map_err(|error| error.to_string())?;
        let (topic, event_id) = (text(&sent, "topic"), text(&sent, "event_id"));
        let path = format!("/events/{}/{}", encoded(&topic), encoded(&event_id));
        let mut exchange = Exchange::open(app.address()).await;
        let replies = exchange.ask(&request::get(path)).await?;
        let reply = only(&replies)?;
        check_status(reply, 200)?;
        let answer = reply.text();
        let found = json::members(&answer).map_err(|error| error.to_string())?;
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
        match faults.is_empty() {
            true => Ok(()),
            false => Err(format!("read back: {faults}in {}", shown(reply))),
        }
    }
}

/// A fresh connection, and an event that nothing is wrong with.
async fn next_good_request(app: &TestApp) -> Result<(), String> {
    let mut exchange = Exchange::open(app.address()).await;
    let replies = exchange.ask(&request::publish(request::event())).await?;
    check_status(only(&replies)?, 200)
}

fn only(replies: &[Reply]) -> Result<&Reply, String> {
    match replies {
        [reply] => Ok(reply),
        others => Err(format!("one answer expected, got {}", others.len())),
    }
}

/// The status, and what an answer of this status must have.
fn check_status(reply: &Reply, status: u16) -> Result<(), String> {
    if reply.status != status {
        return Err(format!("{status} expected, got {}", shown(reply)));
    }
    let missing = |what: &str| Err(format!("no {what} in {}", shown(reply)));
    let needed = match status {
        401 => Some("www-authenticate"),
        405 => Some("allow"),
        429 | 503 => Some("retry-after"),
        _ => None,
    };
    if let Some(needed) = needed.filter(|needed| reply.header(needed).is_empty()) {
        return missing(needed);
    }
    if status < 400 || reply.body.is_empty() && reply.header("content-length") != "0" {
        return Ok(());
    }
    if reply.header("content-type") != "application/problem+json" {
        return missing("application/problem+json");
    }
    let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    for member in ["type", "title", "detail"] {
        if problem[member].as_str().is_none_or(str::is_empty) {
            return missing(member);
        }
    }
    if problem["status"] != status {
        return missing("status of its own");
    }
    let lower = reply.text().to_ascii_lowercase();
    match SECRETS.iter().find(|secret| lower.contains(**secret)) {
        Some(secret) => Err(format!("{secret:?} is told in {}", shown(reply))),
        None => Ok(()),
    }
}

fn pointers_of(reply: &Reply) -> Vec<String> {
    let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let has_detail = |error: &&Value| {
        error["detail"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    let pointers = errors.iter().filter(has_detail);
    pointers
        .map(|error| error["pointer"].as_str().unwrap_or("none").to_owned())
        .collect()
}

fn is_stream(replies: &[Reply]) -> bool {
    let mut replies = replies.iter();
    replies.any(|reply| reply.header("content-type") == "text/event-stream")
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

/// An answer, short enough to be read among others.
fn shown(reply: &Reply) -> String {
    let text: String = reply.text().chars().take(300).collect();
    format!("{} {text}", reply.status)
}
