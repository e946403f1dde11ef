//! Query strings to domain queries. What is unknown is ignored, as the reference does; what is
//! wrong is a 400 that names the parameter.

use super::error::ApiError;
use crate::domain::{
    Cursor, EventQuery, Order, PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX, Source, Timestamp, Topic,
};
use crate::feed::FeedFilter;
use std::{collections::HashMap, fmt::Display};

/// The parameters of a request. Of one that is given twice, the last counts; an empty one is none.
pub(super) struct Parameters(HashMap<String, String>);

impl Parameters {
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parameters = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.insert(decoded(name)?, decoded(value)?);
        }
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self(parameters))
    }

    pub(super) fn parsed<T, E: Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ApiError> {
        self.0
            .get(name)
            .map(|value| parse(value))
            .transpose()
            .map_err(|error| ApiError::BadRequest(format!("{name} {error}")))
    }

    fn topic(&self) -> Result<Option<Topic>, ApiError> {
        self.parsed("topic", |value| Topic::parse(value.to_owned()))
    }

    fn source(&self) -> Result<Option<Source>, ApiError> {
        self.parsed("source", |value| Source::parse(value.to_owned()))
    }

    fn cursor(&self) -> Result<Option<Cursor>, ApiError> {
        self.parsed("cursor", str::parse)
    }

    /// A page size, and whether it had to be cut to the largest.
    pub(super) fn limit(&self) -> Result<(u32, bool), ApiError> {
        self.limit_or(PAGE_EVENTS_DEFAULT)
    }

    /// The same, with another page size where none is asked for.
    pub(super) fn limit_or(&self, default: u32) -> Result<(u32, bool), ApiError> {
        let limit = self.parsed("limit", |value| {
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("must be a whole number from 1 on");
            }
            match value.parse::<u32>() {
                Ok(0) => Err("must be a whole number from 1 on"),
                Ok(number) => Ok(number),
                // Digits only, so it is too large for the type, and for a page anyway.
                Err(_) => Ok(u32::MAX),
            }
        })?;
        let limit = limit.unwrap_or(default);
        Ok((limit.min(PAGE_EVENTS_MAX), limit > PAGE_EVENTS_MAX))
    }
}

/// The query of `GET /events`, and whether its limit was cut.
pub(super) fn events(query: &str) -> Result<(EventQuery, bool), ApiError> {
    let parameters = Parameters::parse(query)?;
    let (limit, is_clamped) = parameters.limit()?;
    let query = EventQuery {
        topic: parameters.topic()?,
        source: parameters.source()?,
        since: parameters.parsed("since", Timestamp::parse)?,
        until: parameters.parsed("until", Timestamp::parse)?,
        order: parameters
            .parsed("order", |value| match value {
                "asc" => Ok(Order::Ascending),
                "desc" => Ok(Order::Descending),
                _ => Err("must be asc or desc"),
            })?
            .unwrap_or_default(),
        after: parameters.cursor()?,
        limit,
    };
    Ok((query, is_clamped))
}

/// What a subscriber to `GET /events/stream` asks for, and after which place.
pub(super) fn feed(query: &str) -> Result<(FeedFilter, Option<Cursor>), ApiError> {
    let parameters = Parameters::parse(query)?;
    let filter = FeedFilter {
        topic: parameters.topic()?,
        source: parameters.source()?,
    };
    Ok((filter, parameters.cursor()?))
}

fn decoded(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::BadRequest("the query string is not UTF-8".to_owned()))
}
