//! What a client sends: bytes on a socket of its own, so that nothing is put right on the way.

use std::sync::atomic::{AtomicU64, Ordering};

/// When the events of the tables happened.
pub(super) const TIMESTAMP: &str = "2026-01-31T12:00:00Z";

/// A request, or several behind each other.
#[derive(Clone)]
pub(super) struct Request {
    head: String,
    /// Headers as bytes: some are no text.
    headers: Vec<u8>,
    body: Option<Vec<u8>>,
    pub(super) answers: usize,
    pub(super) half_closes: bool,
    pub(super) is_head: bool,
}

impl Request {
    /// With nothing but its `Host`.
    pub(super) fn new(method: &str, target: impl AsRef<str>) -> Self {
        let target = target.as_ref();
        Self {
            head: format!("{method} {target} HTTP/1.1\r\nHost: oncelog\r\n"),
            headers: Vec::new(),
            body: None,
            answers: 1,
            half_closes: false,
            is_head: method == "HEAD",
        }
    }

    /// Exactly these bytes.
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            head: String::new(),
            headers: bytes.into(),
            body: None,
            answers: 1,
            half_closes: false,
            is_head: false,
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let line = [name.as_bytes(), b": ", value.as_ref(), b"\r\n"].concat();
        self.headers.extend(line);
        self
    }

    /// A body, with the `Content-Length` that it has.
    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Gets so many final answers.
    pub(super) fn answered(mut self, times: usize) -> Self {
        self.answers = times;
        self
    }

    /// The client says that it will send nothing more.
    pub(super) fn half_closed(mut self) -> Self {
        self.half_closes = true;
        self
    }

    pub(super) fn is_http_1_0(&self) -> bool {
        let bytes = self.bytes();
        bytes
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.ends_with(b"HTTP/1.0\r"))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend_from_slice(&self.headers);
        if let Some(body) = &self.body {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            bytes.extend_from_slice(body);
        } else if !self.head.is_empty() {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

pub(super) fn get(target: impl AsRef<str>) -> Request {
    Request::new("GET", target)
}

/// One event, as JSON.
pub(super) fn publish(body: impl Into<Vec<u8>>) -> Request {
    post("/publish", "application/json", body)
}

/// A batch, as JSON.
pub(super) fn publish_batch(body: impl Into<Vec<u8>>) -> Request {
    post("/publish/batch", "application/json", body)
}

pub(super) fn post(path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let request = Request::new("POST", path);
    request.header("Content-Type", content_type).body(body)
}

/// An id that no other event of this process has.
pub(super) fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("e-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A valid event with an id of its own.
pub(super) fn event() -> String {
    event_of(&[])
}

/// A valid event but for this field, which holds this JSON.
pub(super) fn with(field: &str, json: impl AsRef<str>) -> String {
    event_of(&[(field, Some(json.as_ref()))])
}

/// A valid event without this field.
pub(super) fn without(field: &str) -> String {
    event_of(&[(field, None)])
}

/// The same with a string of any characters, written as JSON writes it.
pub(super) fn with_text(field: &str, text: &str) -> String {
    with(field, quoted(text))
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn event_of(changes: &[(&str, Option<&str>)]) -> String {
    let fields = [
        ("topic", quoted("odd")),
        ("event_id", quoted(&fresh_id())),
        ("timestamp", quoted(TIMESTAMP)),
        ("source", quoted("suite")),
        ("payload", "{\"a\":1}".to_owned()),
    ];
    let members = fields.iter().filter_map(|(name, json)| {
        let change = changes.iter().find(|(changed, _)| changed == name);
        let json = match change {
            Some((_, json)) => (*json)?,
            None => json,
        };
        Some(format!("\"{name}\":{json}"))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// `{"events":[…]}`.
pub(super) fn batch_of(events: &[String]) -> String {
    format!("{{\"events\":[{}]}}", events.join(","))
}

pub(super) fn events(count: usize) -> Vec<String> {
    (0..count).map(|_| event()).collect()
}
