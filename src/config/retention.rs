//! The grammar of `RETENTION`: `90d`, or `*=90d,audit.*=keep,debug=7d:delete`; and of
//! `DEAD_LETTER_RETENTION`: `90d` or `keep`. Used by `config`.

use crate::domain::{Expiry, RetentionMode, RetentionRule, RetentionRules, Topic, TopicPattern};
use std::time::Duration;

const DAY_S: u64 = 24 * 60 * 60;
/// A hundred years.
const AGE_S_MAX: u64 = 36_500 * DAY_S;

const KEEP_OR_AGE: &str = "keep, or an age from 1s to 36500d, such as 90d, 12h, 30m or 45s";

/// Reads rules, separated by commas: `TOPIC=AGE`, `TOPIC=AGE:delete`, `TOPIC=keep`, and the same without
/// `TOPIC=` for every topic. A `*` at the end of a topic is for all whose names begin so.
pub(super) fn rules(text: &str) -> Result<RetentionRules, String> {
    let mut rules = Vec::new();
    for (number, entry) in (1..).zip(text.split(',')) {
        let rule = rule(entry.trim()).map_err(|wrong| format!("{wrong} in rule {number}"))?;
        rules.push(rule);
    }
    RetentionRules::new(rules)
        .map_err(|pattern| format!("must have one rule for a topic, has two for {pattern}"))
}

fn rule(entry: &str) -> Result<RetentionRule, String> {
    // The last one, as a topic may have more.
    let (topic, expiry) = entry.rsplit_once('=').unwrap_or(("*", entry));
    Ok(RetentionRule {
        pattern: pattern(topic.trim())?,
        expiry: expiry_of(expiry.trim())?,
    })
}

fn pattern(topic: &str) -> Result<TopicPattern, String> {
    if let Some(prefix) = topic.strip_suffix('*') {
        return Ok(TopicPattern::Prefix(prefix.to_owned()));
    }
    Topic::parse(topic.to_owned())
        .map(TopicPattern::Exact)
        .map_err(|error| format!("must name a topic, which {error},"))
}

fn expiry_of(text: &str) -> Result<Option<Expiry>, String> {
    if text == "keep" {
        return Ok(None);
    }
    let (age, mode) = match text.split_once(':') {
        None | Some((_, "payload")) => (
            text.strip_suffix(":payload").unwrap_or(text),
            RetentionMode::DropPayload,
        ),
        Some((age, "delete")) => (age, RetentionMode::Delete),
        Some(_) => return Err("must have payload or delete behind the colon".to_owned()),
    };
    let age = age_of(age).ok_or_else(|| format!("must have {KEEP_OR_AGE}"))?;
    Ok(Some(Expiry { age, mode }))
}

/// Reads the age of dead letters; `None` = they are kept.
pub(super) fn dead_letter_age(text: &str) -> Result<Option<Duration>, String> {
    if text == "keep" {
        return Ok(None);
    }
    let age = age_of(text).ok_or_else(|| format!("must be {KEEP_OR_AGE}"))?;
    Ok(Some(age))
}

fn age_of(text: &str) -> Option<Duration> {
    let unit_s = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => DAY_S,
        'w' => 7 * DAY_S,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit_s)?;
    (1..=AGE_S_MAX)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        for (text, expected) in [
            ("90d", "*=90d"),
            ("keep", "*=keep"),
            ("2w:delete", "*=2w:delete"),
            ("90d:payload", "*=90d"),
            ("*=60m", "*=1h"),
            (
                " *=90d , audit.*=keep,debug=7d:delete,a=b=1s",
                "debug=1w:delete,a=b=1s,audit.*=keep,*=90d",
            ),
            ("a**=36500d", "a**=36500d"),
        ] {
            assert_eq!(rules(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn dead_letters_have_an_age_or_are_kept() {
        assert_eq!(dead_letter_age("keep"), Ok(None));
        let half_an_hour = Duration::from_secs(1800);
        assert_eq!(dead_letter_age("30m"), Ok(Some(half_an_hour)));
        for text in ["30", "0s", "30d:delete", "a=30d", "30d,30d", ""] {
            let wrong = dead_letter_age(text).unwrap_err();
            assert!(wrong.starts_with("must be keep, or an age from"), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_and_says_which() {
        for (text, expected) in [
            (
                "90",
                "an age from 1s to 36500d, such as 90d, 12h, 30m or 45s in rule 1",
            ),
            ("*=90d,a=d", "45s in rule 2"),
            ("*=0s", "an age from 1s"),
            ("*=36501d", "an age from 1s"),
            ("*=18446744073709551615w", "an age from 1s"),
            ("*=1.5h", "an age from 1s"),
            ("*=+1h", "an age from 1s"),
            ("*=1é", "an age from 1s"),
            ("*=", "an age from 1s"),
            (
                "*=7d:drop",
                "must have payload or delete behind the colon in rule 1",
            ),
            ("*=keep:delete", "an age from 1s"),
            ("90d,", "in rule 2"),
            ("=90d", "must name a topic"),
            ("a\u{7}=90d", "must name a topic"),
            (
                "90d,*=keep",
                "must have one rule for a topic, has two for *",
            ),
        ] {
            let wrong = rules(text).unwrap_err();
            assert!(wrong.contains(expected), "{text}: {wrong}");
            assert_eq!(wrong.lines().count(), 1);
        }
    }
}
