//! Query strings to domain queries. What is unknown is ignored, as the reference does; what is
//! wrong is a 400 that names the parameter.

use super::error::ApiError;
use crate::domain::{
    EventQuery, Order, PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX, Source, Timestamp, Topic,
};
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

    /// A page size, and whether it had to be cut to the largest.
    pub(super) fn limit(&self) -> Result<(u32, bool), ApiError> {
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
        let limit = limit.unwrap_or(PAGE_EVENTS_DEFAULT);
        Ok((limit.min(PAGE_EVENTS_MAX), limit > PAGE_EVENTS_MAX))
    }
}

/// The query of `GET /events`, and whether its limit was cut.
pub(super) fn events(query: &str) -> Result<(EventQuery, bool), ApiError> {
    let parameters = Parameters::parse(query)?;
    let (limit, is_clamped) = parameters.limit()?;
    let query = EventQuery {
        topic: parameters.parsed("topic", |value| Topic::parse(value.to_owned()))?,
        source: parameters.parsed("source", |value| Source::parse(value.to_owned()))?,
        since: parameters.parsed("since", Timestamp::parse)?,
        until: parameters.parsed("until", Timestamp::parse)?,
        order: parameters
            .parsed("order", |value| match value {
                "asc" => Ok(Order::Ascending),
                "desc" => Ok(Order::Descending),
                _ => Err("must be asc or desc"),
            })?
            .unwrap_or_default(),
        after: parameters.parsed("cursor", str::parse)?,
        limit,
    };
    Ok((query, is_clamped))
}

fn decoded(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::BadRequest("the query string is not UTF-8".to_owned()))
}
