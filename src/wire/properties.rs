//! Properties of the formats that are not our own JSON: random events come out of them as they went in.
//! That random bytes do no harm is `fuzzed`'s.

use super::*;
use crate::domain::{Event, EventId, Payload, Source, Timestamp, Topic};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

/// The years 0 to 9999, which RFC 3339 can write.
const TIMES_US: std::ops::Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

/// What topics, ids and sources may be, so long that a source and an id have room in an event id.
fn text() -> impl Strategy<Value = String> {
    let char = any::<char>().prop_filter("Cc is refused", |char| !char.is_control());
    let chars = prop::collection::vec(char, 1..100);
    let text = chars.prop_map(|chars| chars.into_iter().collect::<String>());
    text.prop_filter("blank is refused", |text| !text.trim().is_empty())
}

fn time() -> impl Strategy<Value = Timestamp> {
    TIMES_US.prop_map(|us| Timestamp::from_unix_us(us).unwrap())
}

/// JSON in one line, with numbers of any size and texts of any characters but U+0000.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        text().prop_map(|text| quoted(&text)),
        Just("true".to_owned()),
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            items.prop_map(|items| format!("[{}]", items.join(", "))),
            object_of(inner),
        ]
    })
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (text(), value).prop_map(|(name, value)| format!("{}: {value}", quoted(&name)));
    let members = prop::collection::vec(member, 0..4);
    members.prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// The same with each character as an escape.
fn escaped(text: &str) -> String {
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

prop_compose! {
    fn event()(
        topic in text(),
        event_id in text(),
        timestamp in time(),
        source in text(),
        payload in object_of(value()),
    ) -> Event {
        Event::new(
            Topic::parse(topic).unwrap(),
            EventId::parse(event_id).unwrap(),
            timestamp,
            Source::parse(source).unwrap(),
            Payload::parse(payload).unwrap(),
        )
    }
}

/// What ends a line, blank ones behind it among that.
fn line_end() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["\n", "\r\n", "\n\n", " \r\n\t\n", "\n \n\r\n"])
}

/// A CloudEvent by its attributes, and how it is written.
#[derive(Debug, Clone)]
struct CloudEvent {
    id: String,
    source: String,
    r#type: String,
    time: Timestamp,
    data: Option<String>,
    extension: String,
    /// Texts as escapes, names of headers in capitals.
    is_odd: bool,
}

prop_compose! {
    fn cloudevent()(
        [id, source, r#type, extension] in [text(), text(), text(), text()],
        time in time(),
        data in prop::option::of(value()),
        is_odd in any::<bool>(),
    ) -> CloudEvent {
        CloudEvent { id, source, r#type, time, data, extension, is_odd }
    }
}

impl CloudEvent {
    /// The event that it is by our mapping.
    fn event(&self) -> Event {
        let payload = match &self.data {
            None => "{}".to_owned(),
            Some(object) if object.starts_with('{') => object.clone(),
            Some(other) => format!("{{\"data\":{other}}}"),
        };
        Event::new(
            Topic::parse(self.r#type.clone()).unwrap(),
            EventId::parse(format!("{}#{}", self.source, self.id)).unwrap(),
            self.time,
            Source::parse(self.source.clone()).unwrap(),
            Payload::parse(payload).unwrap(),
        )
    }

    fn attributes(&self) -> [(&'static str, String); 6] {
        [
            ("specversion", "1.0".to_owned()),
            ("id", self.id.clone()),
            ("source", self.source.clone()),
            ("type", self.r#type.clone()),
            ("time", self.time.to_string()),
            ("comexample", self.extension.clone()),
        ]
    }

    fn structured(&self) -> String {
        let quoted = if self.is_odd { escaped } else { quoted };
        let attributes = self.attributes();
        let mut members: Vec<String> = attributes
            .map(|(name, value)| format!("\"{name}\":{}", quoted(&value)))
            .into();
        members.extend(self.data.iter().map(|data| format!("\"data\": {data} ")));
        format!("{{{}}}", members.join(","))
    }

    fn headers(&self) -> Vec<(String, String)> {
        let attributes = self.attributes().into_iter();
        let named = attributes.map(|(name, value)| {
            let value = utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string();
            match self.is_odd {
                true => (
                    format!("CE-{}", name.to_ascii_uppercase()),
                    format!("\"{value}\""),
                ),
                false => (format!("ce-{name}"), value),
            }
        });
        named.collect()
    }
}

proptest! {
    #[test]
    fn events_come_out_of_lines_as_they_went_in(
        lines in prop::collection::vec((event(), line_end()), 1..8),
        has_mark in any::<bool>(),
        ends_with_one in any::<bool>(),
    ) {
        let mut body = if has_mark { "\u{feff}".to_owned() } else { String::new() };
        for (event, end) in &lines {
            body.push_str(std::str::from_utf8(&event_to_json(event)).unwrap());
            body.push_str(end);
        }
        let body = if ends_with_one { &body } else { body.trim_end() };
        let batch = batch_from_ndjson(body.to_owned().into()).unwrap();
        let events: Vec<Event> = lines.into_iter().map(|(event, _)| event).collect();
        prop_assert_eq!(batch.events(), &events[..], "{}", body);
    }

    #[test]
    fn cloudevents_come_out_of_every_mode_as_the_event_that_they_are(
        cloudevents in prop::collection::vec(cloudevent(), 1..4),
    ) {
        for cloudevent in &cloudevents {
            let structured = cloudevent.structured();
            let event = event_from_cloudevents_structured(structured.clone().into()).unwrap();
            prop_assert_eq!(&event, &cloudevent.event(), "{}", structured);
            let headers = cloudevent.headers();
            let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let body = cloudevent.data.clone().unwrap_or_default();
            let event = event_from_cloudevents_binary(named, body.into()).unwrap();
            prop_assert_eq!(&event, &cloudevent.event(), "{:?}", headers);
        }
        let objects: Vec<String> = cloudevents.iter().map(CloudEvent::structured).collect();
        let batch = batch_from_cloudevents(format!("[{}]", objects.join(" , ")).into()).unwrap();
        let events: Vec<Event> = cloudevents.iter().map(CloudEvent::event).collect();
        prop_assert_eq!(batch.events(), &events[..]);
    }
}
