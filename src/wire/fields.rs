//! JSON values that are looked at before they are believed. Used by the formats of `wire` where a
//! body is wrong, and for CloudEvents; knows no format.
//!
//! Everything here works on text that has passed [`check_syntax`].

use super::error::{FieldErrors, WireError};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The body as text: one check for all of its parts.
pub(super) fn text_of(body: Bytes) -> Result<ByteString, WireError> {
    if body.is_empty() {
        return Err(WireError::malformed("the body is empty", 1));
    }
    let text = ByteString::try_from(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        WireError::malformed(detail, 1)
    })?;
    // Some editors and shells put one in front; RFC 8259 lets a reader skip it.
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => Ok(text.slice_ref(rest)),
        None => Ok(text),
    }
}

/// Whether the text is one JSON value, however large or deep.
pub(super) fn check_syntax(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

/// The rejection of a whole body that has failed [`check_syntax`].
pub(super) fn not_json(error: &serde_json::Error) -> WireError {
    WireError::malformed(format!("the body is not valid JSON: {error}"), 1)
}

/// What a value is, in words, by its first character.
pub(super) fn kind_of(json: &str) -> &'static str {
    match json.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The members of an object that have one of `names`, in that order; of a repeated key the last.
/// `None` where the text is no object.
pub(super) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a str>; N]> {
    struct Members<'n, const N: usize>([&'n str; N]);

    impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
        type Value = [Option<&'de str>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(Key(key)) = map.next_key()? {
                match self.0.iter().position(|name| name.as_bytes() == &*key) {
                    Some(place) => found[place] = Some(map.next_value::<&RawValue>()?.get()),
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(found)
        }
    }

    serde_json::Deserializer::from_str(json)
        .deserialize_map(Members(names))
        .ok()
}

/// A key as bytes: half a surrogate pair in a key that nobody asks for is no error.
struct Key<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_bytes<E>(self, key: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_vec())))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// Walks through the items of an array and gives the number of all, of which `visit` sees the first
/// `visited_max`. `None` where the text is no array.
pub(super) fn items<'a>(
    json: &'a str,
    visited_max: usize,
    visit: impl FnMut(usize, &'a str),
) -> Option<usize> {
    struct Items<F> {
        visited_max: usize,
        visit: F,
    }

    impl<'de, F: FnMut(usize, &'de str)> Visitor<'de> for Items<F> {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while count < self.visited_max {
                let Some(item) = seq.next_element::<&RawValue>()? else {
                    return Ok(count);
                };
                (self.visit)(count, item.get());
                count += 1;
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }

    serde_json::Deserializer::from_str(json)
        .deserialize_seq(Items { visited_max, visit })
        .ok()
}

/// Where a field is read from and where its errors go.
pub(super) struct Place<'a> {
    /// What the texts are slices of.
    pub(super) body: &'a ByteString,
    /// The pointer of the object around the field.
    pub(super) base: &'a str,
}

impl Place<'_> {
    /// The string at `field`, without a copy where it has no escapes.
    pub(super) fn string(
        &self,
        field: &str,
        json: Option<&str>,
        errors: &mut FieldErrors,
    ) -> Option<ByteString> {
        let Some(json) = json else {
            errors.add(self.base, field, "is required");
            return None;
        };
        let Some(inner) = json
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            let detail = format_args!("must be a string, is {}", kind_of(json)).to_string();
            errors.add(self.base, field, detail);
            return None;
        };
        if !inner.contains('\\') {
            return Some(self.body.slice_ref(inner));
        }
        match serde_json::from_str::<String>(json) {
            Ok(text) => Some(text.into()),
            // All else has passed the syntax check.
            Err(_) => {
                errors.add(
                    self.base,
                    field,
                    "must not hold a lone surrogate such as \\ud800",
                );
                None
            }
        }
    }

    /// What `parse` makes of the string at `field`.
    pub(super) fn parsed<T, E: fmt::Display>(
        &self,
        field: &str,
        json: Option<&str>,
        parse: impl FnOnce(ByteString) -> Result<T, E>,
        errors: &mut FieldErrors,
    ) -> Option<T> {
        let text = self.string(field, json, errors)?;
        parse(text)
            .map_err(|error| errors.add(self.base, field, error))
            .ok()
    }
}
