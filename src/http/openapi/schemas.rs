//! The shapes of bodies: of most answers derived from the types that make them, of events built
//! here, since those are read and written without a type of their own.

use super::parts::{name, named, string};
use crate::{
    domain::BATCH_EVENTS_MAX,
    http::{admin, broker, dead_letters, error, health, publish, stats, topics},
};
use utoipa::openapi::{
    Array, ComponentsBuilder, KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
    Type,
    schema::SchemaType,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// Everything that the calls refer to by name.
pub(super) fn components() -> ComponentsBuilder {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of API_TOKENS, or ADMIN_TOKEN for admin calls. Without API_TOKENS publishing \
             and reading need none; without ADMIN_TOKEN admin calls are open on loopback only.",
        ))
        .build();
    ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .schema_from::<publish::Published<'_>>()
        .schema_from::<publish::BatchPublished<'_>>()
        .schema_from::<publish::EventResult<'_>>()
        .schema_from::<broker::Queued<'_>>()
        .schema_from::<stats::Stats>()
        .schema_from::<stats::Retention>()
        .schema_from::<topics::Listing<'_>>()
        .schema_from::<topics::Shown<'_>>()
        .schema_from::<dead_letters::Listing<'_>>()
        .schema_from::<dead_letters::Shown<'_>>()
        .schema_from::<dead_letters::Retried>()
        .schema_from::<health::Health>()
        .schema_from::<health::Reach>()
        .schema_from::<health::Readiness>()
        .schema_from::<admin::Actors>()
        .schema_from::<admin::Actor>()
        .schema_from::<admin::Failure>()
        .schema_from::<admin::CrashRequest>()
        .schema_from::<admin::Mode>()
        .schema_from::<admin::At>()
        .schema_from::<admin::Crashing<'_>>()
        .schema_from::<error::Problem<'_>>()
        .schema_from::<error::ProblemField<'_>>()
        .schema("Event", event())
        .schema("EventBatch", batch("events", "Event"))
        .schema("StoredEvent", stored_event())
        .schema("EventPage", event_page())
        .schema("CloudEvent", cloud_event())
        .schema("CloudEventBatch", events_of("CloudEvent").build())
}

/// What became of an event.
pub(in crate::http) fn outcome() -> Object {
    string()
        .enum_values(Some(["stored", "duplicate", "conflict"]))
        .description(Some(
            "duplicate: the same event was stored before. conflict: another event was stored under \
             this key, and stays.",
        ))
        .build()
}

fn object() -> ObjectBuilder {
    Object::builder().schema_type(Type::Object)
}

fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn event_members() -> ObjectBuilder {
    let names = ["topic", "event_id", "source"];
    let mut members = object();
    for member in names {
        members = members.property(member, name().build()).required(member);
    }
    let timestamp = time().description(Some(
        "RFC 3339; UTC where it has no offset; digits finer than a microsecond are cut.",
    ));
    let payload = object().description(Some("Any JSON object of at most 128 levels."));
    members
        .property("timestamp", timestamp.build())
        .required("timestamp")
        .property("payload", payload.build())
        .required("payload")
}

fn event() -> Object {
    event_members()
        .description(Some("Other members are ignored."))
        .build()
}

fn stored_event() -> Object {
    let either = SchemaType::from_iter([Type::Object, Type::Null]);
    let payload = Object::builder().schema_type(either).description(Some(
        "The payload; null where retention has dropped it. Any JSON where it was put in by hand.",
    ));
    let is_dropped = Object::builder()
        .schema_type(Type::Boolean)
        .enum_values(Some([true]))
        .description(Some("There only where retention has dropped the payload."));
    event_members()
        .property("payload", payload.build())
        .property("payload_dropped", is_dropped.build())
        .property("processed_at", time().build())
        .required("processed_at")
        .build()
}

fn batch(member: &str, item: &str) -> Object {
    object()
        .property(member, events_of(item).build())
        .required(member)
        .build()
}

fn events_of(item: &str) -> utoipa::openapi::ArrayBuilder {
    Array::builder()
        .items(named(item))
        .min_items(Some(1))
        .max_items(Some(BATCH_EVENTS_MAX))
}

fn event_page() -> Object {
    let mut page = object()
        .property(
            "events",
            Array::builder().items(named("StoredEvent")).build(),
        )
        .property("count", count())
        .property("limit", count())
        .property("limit_clamped", Object::with_type(Type::Boolean))
        .property(
            "topic_filter",
            nullable_string("The topic asked for, if any."),
        )
        .property(
            "next_cursor",
            nullable_string("Where to go on; null at the end of desc, never with asc."),
        );
    for member in [
        "events",
        "count",
        "limit",
        "limit_clamped",
        "topic_filter",
        "next_cursor",
    ] {
        page = page.required(member);
    }
    page.build()
}

fn count() -> Object {
    Object::builder()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .build()
}

fn nullable_string(about: &str) -> RefOr<Schema> {
    let either = SchemaType::from_iter([Type::String, Type::Null]);
    let schema = Object::builder()
        .schema_type(either)
        .description(Some(about));
    RefOr::T(Schema::Object(schema.build()))
}

fn cloud_event() -> Object {
    let version = string().enum_values(Some(["1.0"]));
    let data = Object::builder()
        .schema_type(SchemaType::AnyValue)
        .description(Some(
            "The payload; what is no object becomes {\"data\": …}.",
        ));
    let id = name().description(Some(
        "The event id is source, #, and this: 255 characters at most.",
    ));
    object()
        .property("specversion", version.build())
        .required("specversion")
        .property("type", name().description(Some("The topic.")).build())
        .required("type")
        .property("source", name().build())
        .required("source")
        .property("id", id.build())
        .required("id")
        .property("time", time().build())
        .required("time")
        .property("datacontenttype", string().build())
        .property("data", data.build())
        .description(Some(
            "CloudEvents 1.0, JSON format. Other attributes are ignored.",
        ))
        .build()
}
