//! What is kept of events once they are old: rules by topic. Read from a setting, applied by the store
//! and the RetentionActor.

use super::Topic;
use std::{fmt, time::Duration};

/// What becomes of an event when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetentionMode {
    /// Its payload is dropped. Its key stays and a digest of the payload beside it, so that a repeat is
    /// still known as one.
    DropPayload,
    /// It is deleted, key and all: sent again, it is stored anew.
    Delete,
}

/// When an event's time is over, and what then becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// Since it was stored, in whole seconds.
    pub age: Duration,
    /// What happens to it.
    pub mode: RetentionMode,
}

/// Which topics a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicPattern {
    /// This one.
    Exact(Topic),
    /// All whose names begin so; every topic where it is empty.
    Prefix(String),
}

/// A rule for some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// Which ones.
    pub pattern: TopicPattern,
    /// When their events' time is over; `None` = never.
    pub expiry: Option<Expiry>,
}

/// All rules. A topic's own rule is before those of prefixes, a longer prefix before a shorter one; a
/// topic without a rule keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionRules(Vec<RetentionRule>);

/// A time as settings are written: in the largest unit of which it is a whole number, `90d`, `36h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Duration);

impl RetentionRules {
    /// Takes rules in any order.
    ///
    /// # Errors
    /// The pattern that two rules are for.
    pub fn new(mut rules: Vec<RetentionRule>) -> Result<Self, TopicPattern> {
        rules.sort_by(|one, other| one.pattern.rank().cmp(&other.pattern.rank()));
        let twice = rules
            .windows(2)
            .find(|pair| pair[0].pattern == pair[1].pattern);
        match twice {
            Some(pair) => Err(pair[0].pattern.clone()),
            None => Ok(Self(rules)),
        }
    }

    /// When the time of a topic's events is over; `None` = never.
    pub fn expiry(&self, topic: &str) -> Option<Expiry> {
        let rule = self.0.iter().find(|rule| rule.pattern.matches(topic));
        rule?.expiry
    }

    /// Each age and mode that is in use, once.
    pub fn expiries(&self) -> Vec<Expiry> {
        let mut expiries: Vec<Expiry> = Vec::new();
        for expiry in self.0.iter().filter_map(|rule| rule.expiry) {
            if !expiries.contains(&expiry) {
                expiries.push(expiry);
            }
        }
        expiries
    }
}

impl TopicPattern {
    fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == topic,
            Self::Prefix(prefix) => topic.starts_with(prefix.as_str()),
        }
    }

    /// Smaller is asked first.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, &str) {
        let (is_prefix, text) = match self {
            Self::Exact(topic) => (false, topic.as_str()),
            Self::Prefix(prefix) => (true, prefix.as_str()),
        };
        (is_prefix, std::cmp::Reverse(text.len()), text)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(topic) => f.write_str(topic.as_str()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 5] = [
            (7 * 24 * 3600, 'w'),
            (24 * 3600, 'd'),
            (3600, 'h'),
            (60, 'm'),
            (1, 's'),
        ];
        let seconds = self.0.as_secs();
        let mut units = UNITS.into_iter();
        let unit = units.find(|(unit, _)| seconds.is_multiple_of(*unit));
        let (unit, letter) = unit.unwrap_or((1, 's'));
        write!(f, "{}{letter}", seconds / unit)
    }
}

impl fmt::Display for Expiry {
    /// As the setting is written: `90d`, `36h:delete`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Age(self.age))?;
        match self.mode {
            RetentionMode::DropPayload => Ok(()),
            RetentionMode::Delete => f.write_str(":delete"),
        }
    }
}

impl fmt::Display for RetentionRules {
    /// As the setting is written, the rule that is asked first before the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, rule) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match rule.expiry {
                Some(expiry) => write!(f, "{}={expiry}", rule.pattern)?,
                None => write!(f, "{}=keep", rule.pattern)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn exact(topic: &str) -> TopicPattern {
        TopicPattern::Exact(Topic::parse(topic.to_owned()).unwrap())
    }

    fn prefix(prefix: &str) -> TopicPattern {
        TopicPattern::Prefix(prefix.to_owned())
    }

    fn after(seconds: u64, mode: RetentionMode) -> Option<Expiry> {
        let age = Duration::from_secs(seconds);
        Some(Expiry { age, mode })
    }

    fn rules() -> RetentionRules {
        let rule = |pattern, expiry| RetentionRule { pattern, expiry };
        RetentionRules::new(vec![
            rule(prefix(""), after(90 * DAY, RetentionMode::DropPayload)),
            rule(prefix("audit."), None),
            rule(prefix("audit.debug"), after(3600, RetentionMode::Delete)),
            rule(exact("audit.debugging"), after(90, RetentionMode::Delete)),
            rule(exact("a"), after(90 * DAY, RetentionMode::DropPayload)),
        ])
        .unwrap()
    }

    #[test]
    fn the_longest_match_says_what_is_kept() {
        let rules = rules();
        for (topic, expected) in [
            ("orders", after(90 * DAY, RetentionMode::DropPayload)),
            ("audit", after(90 * DAY, RetentionMode::DropPayload)),
            ("audit.", None),
            ("audit.login", None),
            ("audit.debug", after(3600, RetentionMode::Delete)),
            ("audit.debug2", after(3600, RetentionMode::Delete)),
            ("audit.debugging", after(90, RetentionMode::Delete)),
        ] {
            assert_eq!(rules.expiry(topic), expected, "{topic}");
        }
        assert_eq!(RetentionRules::new(vec![]).unwrap().expiry("a"), None);
    }

    #[test]
    fn rules_are_shown_as_they_are_written() {
        let shown = "audit.debugging=90s:delete,a=90d,audit.debug*=1h:delete,audit.*=keep,*=90d";
        assert_eq!(rules().to_string(), shown);
        assert_eq!(
            after(14 * DAY, RetentionMode::DropPayload)
                .unwrap()
                .to_string(),
            "2w"
        );
    }

    #[test]
    fn each_age_and_mode_is_gone_through_once() {
        assert_eq!(rules().expiries().len(), 3);
    }

    #[test]
    fn two_rules_for_the_same_topics_are_refused() {
        let rule = |pattern| RetentionRule {
            pattern,
            expiry: None,
        };
        let twice = vec![rule(prefix("a")), rule(exact("a")), rule(prefix("a"))];
        assert_eq!(RetentionRules::new(twice), Err(prefix("a")));
    }
}
