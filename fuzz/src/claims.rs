//! What must hold of any bytes: nothing panics, and what is accepted is accepted again, as the same,
//! once it has been written out.

use crate::{
    domain::{Cursor, Event, Payload, PayloadDigest},
    wire,
};
use bytes::Bytes;
use serde_json::{Value, value::RawValue};

/// An event alone and a batch.
pub fn json(data: &[u8]) {
    if let Ok(event) = wire::event_from_json(Bytes::copy_from_slice(data)) {
        comes_back(&event);
    }
    if let Ok(batch) = wire::batch_from_json(Bytes::copy_from_slice(data)) {
        batch.events().iter().for_each(comes_back);
    }
}

/// One event a line.
pub fn ndjson(data: &[u8]) {
    if let Ok(batch) = wire::batch_from_ndjson(Bytes::copy_from_slice(data)) {
        batch.events().iter().for_each(comes_back);
    }
}

/// Structured, batched, and binary: headers as lines up to an empty one, then the data.
pub fn cloudevents(data: &[u8]) {
    if let Ok(event) = wire::event_from_cloudevents_structured(Bytes::copy_from_slice(data)) {
        comes_back(&event);
    }
    if let Ok(batch) = wire::batch_from_cloudevents(Bytes::copy_from_slice(data)) {
        batch.events().iter().for_each(comes_back);
    }
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &data[data.len()..]),
    };
    let headers = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, &line[colon + 1..]))
    });
    if let Ok(event) = wire::event_from_cloudevents_binary(headers, Bytes::copy_from_slice(body)) {
        comes_back(&event);
    }
}

/// An accepted payload is JSON to another reader as well, and the same value as itself.
pub fn payload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(payload) = Payload::parse(text.to_owned()) {
        serde_json::from_str::<&RawValue>(payload.as_str()).expect("JSON");
        let again = Payload::parse(payload.as_str().to_owned()).expect("accepted again");
        assert!(payload.is_same_value_as(&again));
    }
}

/// Payloads, one a line: two have the same digest where they are the same value, and only there.
/// Each has its neighbour to be told from, and itself as another writer of JSON spells it.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.split('\n').map(str::to_owned);
    let payloads: Vec<Payload> = lines.filter_map(|line| Payload::parse(line).ok()).collect();
    for neighbours in payloads.windows(2) {
        has_the_digest_of_its_value(&neighbours[0], &neighbours[1]);
    }
    for payload in &payloads {
        // It refuses what is nested as deeply as a payload may be, and numbers that no float holds.
        let Ok(value) = serde_json::from_str::<Value>(payload.as_str()) else {
            continue;
        };
        // Where a float came in between, it may be another value, and even one that is refused.
        match Payload::parse(value.to_string()) {
            Ok(again) => {
                has_the_digest_of_its_value(payload, &again);
                assert!(has_float(&value) || payload.is_same_value_as(&again));
            }
            Err(_) => assert!(has_float(&value)),
        }
    }
}

/// A cursor that is read is the one that is shown.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}

fn comes_back(event: &Event) {
    let written = wire::event_to_json(event);
    serde_json::from_slice::<&RawValue>(&written).expect("JSON");
    let again = wire::event_from_json(written.into()).expect("accepted again");
    assert_eq!(event.key(), again.key());
    assert!(event.says_the_same_as(&again));
}

fn has_the_digest_of_its_value(one: &Payload, other: &Payload) {
    let has_same_digest = PayloadDigest::of(one) == PayloadDigest::of(other);
    assert_eq!(has_same_digest, one.is_same_value_as(other));
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}
