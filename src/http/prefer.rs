//! The `Prefer` header (RFC 7240): two preferences are known, all others are ignored. Used by
//! `publish`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
};

/// What a client would like, beside what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Preferences {
    /// An answer before the event is stored.
    pub(super) respond_async: bool,
    /// What became of each event.
    pub(super) representation: bool,
}

impl Preferences {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let values = request.headers().get_all("prefer");
        Self::parse(values.filter_map(|value| value.to_str().ok()))
    }

    fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut preferences = Self::default();
        let mut has_return = false;
        for preference in values.flat_map(|value| split_unquoted(value, ',')) {
            // Parameters of a preference change nothing in these two.
            let token = split_unquoted(preference, ';').next().unwrap_or_default();
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("respond-async") {
                preferences.respond_async = true;
            }
            // Section 2: of a preference that is given twice the first one counts.
            if name.eq_ignore_ascii_case("return") && !has_return {
                has_return = true;
                preferences.representation = value.eq_ignore_ascii_case("representation");
            }
        }
        preferences
    }
}

/// Says which preference the answer follows.
pub(super) fn applied(response: &mut HttpResponse, preference: &'static str) {
    response.headers_mut().insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static(preference),
    );
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |char| {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        char == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_found_among_others() {
        for (values, respond_async, representation) in [
            (&["respond-async"][..], true, false),
            (
                &["Respond-Async; wait=5, RETURN=\"representation\""],
                true,
                true,
            ),
            (
                &["handling=lenient", "return = representation"],
                false,
                true,
            ),
            (&["return=minimal, return=representation"], false, false),
            (
                &["x=\"a, respond-async; \\\", return=representation\""],
                false,
                false,
            ),
            (
                &["respond-asynchronous, return-representation, ,;"],
                false,
                false,
            ),
            (&[], false, false),
        ] {
            let found = Preferences::parse(values.iter().copied());
            let expected = Preferences {
                respond_async,
                representation,
            };
            assert_eq!(found, expected, "{values:?}");
        }
    }
}
