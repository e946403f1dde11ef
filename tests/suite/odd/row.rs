//! A row of a table: a name, a request, and what the contract says about it.

use super::{
    exchange::Reply,
    kept::Kept,
    request::{self, Request},
    service::Service,
};
use serde_json::Value;

/// What no answer may tell a stranger.
const SECRETS: [&str; 6] = ["select ", "insert ", "sqlstate", "src/", "panicked", ".rs:"];

pub(super) struct Row {
    pub(super) name: String,
    pub(super) request: Request,
    pub(super) expected: Expected,
}

/// What has to come of a request. Where no events are named, it stores nothing.
pub(super) enum Expected {
    /// An answer with this status, and a problem document where that is an error. `pointers` are
    /// those of its `errors`, where the row cares.
    Answer {
        status: u16,
        pointers: Option<Vec<&'static str>>,
    },
    /// One of these, as other rows have it.
    Either(&'static [u16]),
    /// 200, and each of these events is read back as it was sent.
    Stored(Vec<Kept>),
    /// 202, and the same in time.
    Queued(Vec<Kept>),
    /// The HTTP layer's own refusal, before any handler: one of these without a body, or an end
    /// without a word.
    Refused(&'static [u16]),
    /// These answers, one after the other, and these events read back.
    Answers(Vec<u16>, Vec<Kept>),
    /// These answers, and then the HTTP layer's own refusal.
    AnswersUntil(Vec<u16>, &'static [u16]),
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
    Expected::Stored(Kept::all(events))
}

/// Stored, with a timestamp that is shown so.
pub(super) fn stored_at(timestamp: &'static str, events: Vec<String>) -> Expected {
    Expected::Stored(Kept::all_at(timestamp, events))
}

impl Row {
    /// Sends it, and says what is wrong with what comes of it: nothing, usually.
    pub(super) async fn check(&self, service: &Service<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(fault) = self.try_check(service).await {
            faults.push(fault);
        }
        if let Err(fault) = next_good_request(service).await {
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

    async fn try_check(&self, service: &Service<'_>) -> Result<(), String> {
        let mut exchange = service.connect().await;
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
        let mut exchange = service.connect().await;
        let is_queued = matches!(self.expected, Expected::Queued(_));
        for event in self.expected.kept() {
            event.check(service, &mut exchange, is_queued).await?;
        }
        Ok(())
    }
}

impl Expected {
    /// The events that it stores.
    pub(super) fn kept(&self) -> &[Kept] {
        match self {
            Self::Stored(events) | Self::Queued(events) | Self::Answers(_, events) => events,
            _ => &[],
        }
    }

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
            Self::Either(statuses) => {
                let reply = only(replies)?;
                match statuses.contains(&reply.status) {
                    true => check_status(reply, reply.status),
                    false => Err(format!("{statuses:?} expected, got {}", shown(reply))),
                }
            }
            Self::Stored(_) => check_status(only(replies)?, 200),
            Self::Queued(_) => {
                let reply = only(replies)?;
                check_status(reply, 202)?;
                match reply.header("preference-applied") {
                    "respond-async" => Ok(()),
                    other => Err(format!("the preference applied is {other:?}")),
                }
            }
            Self::Refused(statuses) => check_refusal(replies, statuses),
            Self::Answers(statuses, _) => check_all(replies, statuses),
            Self::AnswersUntil(statuses, refusals) => {
                let (answers, rest) = replies.split_at(statuses.len().min(replies.len()));
                check_all(answers, statuses)?;
                check_refusal(rest, refusals)
            }
        }
    }
}

/// A fresh connection, and an event that nothing is wrong with.
async fn next_good_request(service: &Service<'_>) -> Result<(), String> {
    let mut exchange = service.connect().await;
    let request = service.signed(request::publish(request::event()));
    let replies = exchange.ask(&request).await?;
    check_status(only(&replies)?, 200)
}

pub(super) fn only(replies: &[Reply]) -> Result<&Reply, String> {
    match replies {
        [reply] => Ok(reply),
        others => Err(format!("one answer expected, got {}", others.len())),
    }
}

fn check_all(replies: &[Reply], statuses: &[u16]) -> Result<(), String> {
    let found: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    if found != statuses {
        return Err(format!("{statuses:?} expected, got {found:?}"));
    }
    let mut answers = replies.iter().zip(statuses);
    answers.try_for_each(|(reply, status)| check_status(reply, *status))
}

fn check_refusal(replies: &[Reply], statuses: &[u16]) -> Result<(), String> {
    match replies {
        [] => Ok(()),
        [reply] if statuses.contains(&reply.status) && reply.body.is_empty() => Ok(()),
        [other, ..] => Err(format!(
            "{statuses:?} expected, and no body, got {}",
            shown(other)
        )),
    }
}

/// The status, and what an answer of ours with this status must have.
pub(super) fn check_status(reply: &Reply, status: u16) -> Result<(), String> {
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
    if status < 400 {
        return Ok(());
    }
    if reply.header("content-type") != "application/problem+json" {
        return missing("application/problem+json");
    }
    // Of an answer to HEAD there is no more to see.
    if reply.is_head {
        return Ok(());
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

/// An answer, short enough to be read among others.
pub(super) fn shown(reply: &Reply) -> String {
    let text: String = reply.text().chars().take(300).collect();
    format!("{} {text}", reply.status)
}
