//! Why events are refused, as a small closed set: for those who count. What people read is in
//! `wire::WireError`, which has one of these.

/// What was wrong with a request, of several things the first. All events of a batch are refused
/// with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The body is no JSON, or no UTF-8, or empty.
    Malformed,
    /// It is JSON, and neither an event nor a batch.
    Shape,
    /// A batch has no event, or too many.
    BatchSize,
    /// A field is missing, has another type, or breaks a rule.
    Topic,
    /// As above.
    EventId,
    /// As above.
    Timestamp,
    /// As above.
    Source,
    /// As above.
    Payload,
    /// It is a CloudEvent of another version, or with data that is not JSON.
    CloudEvent,
}

impl Rejection {
    /// All there are, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Shape,
        Self::BatchSize,
        Self::Topic,
        Self::EventId,
        Self::Timestamp,
        Self::Source,
        Self::Payload,
        Self::CloudEvent,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Shape => "shape",
            Self::BatchSize => "batch_size",
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Timestamp => "timestamp",
            Self::Source => "source",
            Self::Payload => "payload",
            Self::CloudEvent => "cloud_event",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_its_own_place_among_all() {
        for (place, rejection) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(rejection as usize, place, "{rejection:?}");
        }
    }
}
