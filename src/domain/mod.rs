//! The nouns of the service and what is true of them. Used by every other module; knows of no
//! JSON library, no database and no HTTP.

mod batch;
mod cursor;
mod dead_letter;
mod digest;
mod event;
mod json;
mod outcome;
mod payload;
mod query;
mod rejection;
mod retention;
mod text;
mod timestamp;

pub use batch::{BATCH_EVENTS_MAX, EventBatch, EventBatchError};
pub use cursor::{Cursor, CursorError};
pub use dead_letter::{DEAD_LETTER_BYTES_MAX, DeadLetter, NewDeadLetter};
pub use digest::PayloadDigest;
pub use event::{Event, StoredEvent};
pub use outcome::{Outcome, Receipt};
pub use payload::{ForeignPayload, PAYLOAD_DEPTH_MAX, Payload, PayloadError};
pub use query::{EventPage, EventQuery, Order, PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX};
pub use rejection::Rejection;
pub use retention::{Age, Expiry, RetentionMode, RetentionRule, RetentionRules, TopicPattern};
pub use text::{EventId, Source, TEXT_CHARS_MAX, TextError, Topic};
pub use timestamp::{Timestamp, TimestampError};
