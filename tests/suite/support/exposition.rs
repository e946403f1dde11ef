//! Prometheus' text format 0.0.4, read strictly: what its own reader forgives fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Labels by their names.
type Labels = BTreeMap<String, String>;

/// The families of a page of metrics.
#[derive(Debug)]
pub(crate) struct Exposition(BTreeMap<String, Family>);

/// One of them.
#[derive(Debug)]
struct Family {
    kind: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

impl Exposition {
    /// Reads a page whose every line is right, in its place, and there once.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end: {text}");
        let mut families = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let (name, about) = words(help, "# HELP ");
            assert!(is_name(name) && about.ends_with('.'), "{help}");
            let (typed, kind) = words(lines.next().unwrap_or_default(), "# TYPE ");
            assert_eq!(typed, name, "the type after the help");
            let mut family = Family {
                kind: kind.to_owned(),
                samples: Vec::new(),
            };
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let sample = Sample::parse(line);
                let series = (sample.name.clone(), sample.labels.clone());
                assert!(seen.insert(series), "twice: {line}");
                family.samples.push(sample);
            }
            family.check(name);
            let earlier = families.insert(name.to_owned(), family);
            assert!(earlier.is_none(), "two families {name}");
        }
        Self(families)
    }

    /// The value of a series of a counter, a gauge, or of a part of a histogram.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let value = self.find(name, labels);
        value.unwrap_or_else(|| panic!("no {name} {labels:?} in {self:#?}"))
    }

    /// The same, `None` where there is none.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        self.samples(name)
            .find(|sample| sample.labels == labels)
            .map(|sample| sample.value)
    }

    /// The sum over all series of a name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|sample| sample.value).sum()
    }

    /// The labels of a name's series; none where the name is none.
    pub(crate) fn labels(&self, name: &str) -> BTreeSet<&str> {
        self.samples(name)
            .flat_map(|sample| sample.labels.keys().map(String::as_str))
            .collect()
    }

    /// The kind of the family of a series.
    pub(crate) fn kind(&self, name: &str) -> Option<&str> {
        let families = self.0.iter();
        families
            .filter(|(_, family)| family.samples.iter().any(|sample| sample.name == name))
            .map(|(_, family)| family.kind.as_str())
            .next()
    }

    pub(crate) fn families(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, family)| (name.as_str(), family.kind.as_str()))
    }

    fn samples(&self, name: &str) -> impl Iterator<Item = &Sample> {
        let families = self.0.values();
        families
            .flat_map(|family| &family.samples)
            .filter(move |sample| sample.name == name)
    }
}

impl Sample {
    /// `name value` or `name{label="value",…} value`.
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
            None => (series, ""),
        };
        let mut found = Labels::new();
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").expect(line);
            let (value, after) = after.split_once('"').expect(line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            assert!(!value.contains('\\'), "escaped: {line}");
            assert!(
                found.insert(label.to_owned(), value.to_owned()).is_none(),
                "{line}"
            );
            rest = match after.strip_prefix(',') {
                Some(more) if !more.is_empty() => more,
                _ => {
                    assert!(after.is_empty(), "{line}");
                    after
                }
            };
        }
        let value: f64 = value.parse().expect(line);
        assert!(is_name(name) && value.is_finite() && value >= 0.0, "{line}");
        Self {
            name: name.to_owned(),
            labels: found,
            value,
        }
    }
}

impl Family {
    fn check(&self, name: &str) {
        let is_total = name.ends_with("_total");
        match self.kind.as_str() {
            "histogram" => return self.check_histogram(name),
            "counter" => assert!(is_total, "{name} is a counter"),
            "gauge" => assert!(!is_total, "{name} is a gauge"),
            other => panic!("{name} is a {other}"),
        }
        for sample in &self.samples {
            assert_eq!(sample.name, name);
            assert!(!sample.labels.contains_key("le"), "{sample:?}");
        }
    }

    /// Each series has ascending buckets that hold those below them, and agrees with its count.
    fn check_histogram(&self, name: &str) {
        let mut all: BTreeMap<Labels, Histogram> = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le");
            let histogram = all.entry(labels).or_default();
            match (sample.name.strip_prefix(name), le) {
                (Some("_bucket"), Some(le)) => {
                    let le = le.parse::<f64>().expect("a bound");
                    histogram.buckets.push((le, sample.value));
                }
                (Some("_sum"), None) => histogram.sum = Some(sample.value),
                (Some("_count"), None) => histogram.count = Some(sample.value),
                _ => panic!("{sample:?} in the histogram {name}"),
            }
        }
        for (
            labels,
            Histogram {
                buckets,
                sum,
                count,
            },
        ) in all
        {
            let context = format!("{name} {labels:?}: {buckets:?}");
            let ascend = |one: &(f64, f64), next: &(f64, f64)| one.0 < next.0 && one.1 <= next.1;
            assert!(buckets.is_sorted_by(ascend), "{context}");
            let (le, below) = *buckets.last().expect("a bucket");
            assert!(le == f64::INFINITY && Some(below) == count, "{context}");
            // None of them exceeds its bucket's bound, so neither does their sum.
            let sum = sum.expect("a sum");
            let (mut most, mut before) = (0.0, 0.0);
            for (le, below) in buckets {
                if below > before {
                    most += le * (below - before);
                }
                before = below;
            }
            assert!(sum <= most, "{sum} is too much, {context}");
        }
    }
}

#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

fn words<'a>(line: &'a str, start: &str) -> (&'a str, &'a str) {
    let words = line
        .strip_prefix(start)
        .and_then(|rest| rest.split_once(' '));
    words.unwrap_or_else(|| panic!("{start:?} expected, not {line:?}"))
}

fn is_name(name: &str) -> bool {
    let is_letter = |character: char| character.is_ascii_alphabetic() || "_:".contains(character);
    name.starts_with(is_letter)
        && name
            .chars()
            .all(|character| is_letter(character) || character.is_ascii_digit())
}

#[test]
fn what_is_wrong_with_a_page_fails_the_test() {
    let right = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
        a_seconds_bucket{le=\"0.5\"} 1\na_seconds_bucket{le=\"+Inf\"} 2\n\
        a_seconds_sum 9\na_seconds_count 2\n\
        # HELP b_total How many.\n# TYPE b_total counter\nb_total{x=\"1\",y=\"2\"} 3\n";
    let page = Exposition::parse(right);
    assert_eq!(page.value("b_total", &[("y", "2"), ("x", "1")]), 3.0);
    for (part, instead) in [
        ("a_seconds_count 2", "a_seconds_count 1"),
        ("{le=\"0.5\"} 1", "{le=\"0.5\"} 3"),
        ("le=\"0.5\"", "le=\"+Inf\""),
        ("a_seconds_sum 9\n", ""),
        ("histogram", "gauge"),
        ("b_total{", "b{"),
        ("# HELP b_total How many.\n", ""),
        ("# TYPE b_total counter\n", ""),
        ("counter", "gauge"),
        ("x=\"1\",", "x=\"1\""),
        ("x=\"1\"", "x=1"),
        ("} 3\n", "} 3\nb_total{y=\"2\",x=\"1\"} 3\n"),
        ("} 3\n", "} three\n"),
        ("} 3\n", "} 3"),
    ] {
        assert!(right.contains(part), "{part}");
        let wrong = right.replace(part, instead);
        let read = std::panic::catch_unwind(|| Exposition::parse(&wrong));
        assert!(read.is_err(), "{wrong}");
    }
}
