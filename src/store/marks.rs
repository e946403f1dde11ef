//! Which topics something concerns, at a fixed size: a bit for each hash. Used by the signals of commits
//! and by whoever waits for them.

use crate::domain::Topic;
use siphasher::sip::SipHasher13;
use std::fmt;

/// Bits of a set. Part of what replicas tell each other: another number needs another channel.
const BITS: u16 = 16 * 1024;
const WORDS: usize = BITS as usize / 64;

/// A topic's bit. Other topics may have the same: then a reader looks for nothing, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicMark(u16);

impl TopicMark {
    /// The same in every process, of every build: replicas exchange marks.
    pub fn of(topic: &Topic) -> Self {
        Self::of_name(topic.as_str())
    }

    fn of_name(topic: &str) -> Self {
        let hash = SipHasher13::new_with_keys(0, 0).hash(topic.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "fewer than 2^16 bits")]
        Self((hash % u64::from(BITS)) as u16)
    }
}

/// A set of topics; it may hold some that were never put into it, and lacks none that were.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicMarks(Box<[u64; WORDS]>);

impl TopicMarks {
    /// None.
    pub fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Every topic there is.
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Those with these names.
    pub(crate) fn of<'a>(topics: impl IntoIterator<Item = &'a str>) -> Self {
        let mut marks = Self::none();
        for topic in topics {
            marks.put(TopicMark::of_name(topic));
        }
        marks
    }

    fn put(&mut self, mark: TopicMark) {
        self.0[usize::from(mark.0) / 64] |= 1 << (mark.0 % 64);
    }

    /// Whether a topic may be among them.
    pub fn has(&self, mark: TopicMark) -> bool {
        self.0[usize::from(mark.0) / 64] & (1 << (mark.0 % 64)) != 0
    }

    /// Whether there is none for certain.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= other;
        }
    }

    /// Four hexadecimal digits a mark; `*` for more than so many marks.
    pub(super) fn to_text(&self, marks_max: usize) -> String {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        if count as usize > marks_max {
            return "*".to_owned();
        }
        let marks = (0..BITS).map(TopicMark);
        marks
            .filter(|&mark| self.has(mark))
            .map(|mark| format!("{:04x}", mark.0))
            .collect()
    }

    /// What [`Self::to_text`] has written.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::all());
        }
        if !text.len().is_multiple_of(4) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut marks = Self::none();
        for place in (0..text.len()).step_by(4) {
            let number = u16::from_str_radix(&text[place..place + 4], 16).ok()?;
            if number >= BITS {
                return None;
            }
            marks.put(TopicMark(number));
        }
        Some(marks)
    }
}

impl fmt::Debug for TopicMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(usize::from(BITS) / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(topic: &str) -> TopicMark {
        TopicMark::of(&Topic::parse(topic.to_owned()).unwrap())
    }

    #[test]
    fn a_set_has_what_was_put_into_it_and_little_else() {
        let names: Vec<String> = (0..100).map(|number| format!("t-{number}")).collect();
        let marks = TopicMarks::of(names.iter().map(String::as_str));
        assert!(names.iter().all(|name| marks.has(mark(name))));
        let others = (0..1000).filter(|number| marks.has(mark(&format!("u-{number}"))));
        assert!(others.count() < 50);
        assert!(!marks.is_empty());
        assert!(TopicMarks::none().is_empty());
    }

    #[test]
    fn a_topic_has_the_same_mark_in_every_build() {
        assert_eq!(mark("orders"), TopicMark(2996));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut marks = TopicMarks::of(["a", "b", "zwölf"]);
        assert_eq!(
            TopicMarks::from_text(&marks.to_text(3)),
            Some(marks.clone())
        );
        assert_eq!(
            TopicMarks::from_text(&marks.to_text(2)),
            Some(TopicMarks::all())
        );
        let none = TopicMarks::none();
        assert_eq!(TopicMarks::from_text(&none.to_text(3)), Some(none));
        marks.merge(&TopicMarks::of(["c"]));
        assert!(marks.has(mark("a")) && marks.has(mark("c")));
        for text in ["1", "00010", "zzzz", "4000", "ffff", "é00"] {
            assert_eq!(TopicMarks::from_text(text), None, "{text}");
        }
    }
}
