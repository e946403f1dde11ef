//! From the bytes of a request to events. Used by HTTP and by the Redis bridge, which share no other
//! way in; knows the domain and three formats, and nothing of HTTP or Redis.
//!
//! A body that is right is read once, and its texts stay slices of it: nothing is copied. A body
//! that is wrong is read a second time, with patience, to name everything that is wrong with it.
//! Nothing here calls itself, so no nesting can exhaust the stack.

mod cloudevents;
mod encode;
mod error;
mod fields;
mod json;
mod ndjson;
#[cfg(test)]
mod properties;

pub use cloudevents::{
    batch_from_cloudevents, event_from_cloudevents_binary, event_from_cloudevents_structured,
};
pub use encode::{event_to_json, push_stored_members, push_string};
pub use error::{FIELD_ERRORS_MAX, FieldError, WireError, WireErrorKind};
pub use json::{batch_from_json, event_from_json};
pub use ndjson::batch_from_ndjson;
