//! Prometheus' text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Used by `/metrics`.

use super::Reading;
use std::fmt::{Display, Write};

/// Labels of a sample. Their values are names of ours, free of what the format escapes.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text as it grows, one family after the other.
#[derive(Debug, Default)]
pub struct Page(String);

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    /// Begins a family of numbers that only grow.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a family of numbers that go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a family of histograms.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family {
            page: &mut self.0,
            name,
        }
    }
}

impl Family<'_> {
    /// The family's only sample.
    pub fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// One of its samples.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// The samples of a histogram.
    pub fn reading(&mut self, labels: Labels<'_>, reading: &Reading) {
        let mut bucket = |le: &str, count: u64| {
            let labels = [labels, &[("le", le)]].concat();
            self.line("_bucket", &labels, count);
        };
        for (bound, count) in &reading.buckets {
            bucket(&bound.to_string(), *count);
        }
        bucket("+Inf", reading.count);
        self.line("_sum", labels, reading.sum);
        self.line("_count", labels, reading.count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.page, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.counter("a_total", "How many.").value(7);
        let mut gauge = page.gauge("b", "Each.");
        gauge.sample(&[("x", "1"), ("y", "2")], 0.5);
        gauge.sample(&[("x", "1"), ("y", "3")], 2);
        let reading = Reading {
            buckets: vec![(0.0005, 1), (10.0, 1)],
            count: 3,
            sum: 25.25,
        };
        let mut histogram = page.histogram("c_seconds", "How long.");
        histogram.reading(&[("x", "1")], &reading);
        assert_eq!(
            page.into_text(),
            "# HELP a_total How many.\n\
             # TYPE a_total counter\n\
             a_total 7\n\
             # HELP b Each.\n\
             # TYPE b gauge\n\
             b{x=\"1\",y=\"2\"} 0.5\n\
             b{x=\"1\",y=\"3\"} 2\n\
             # HELP c_seconds How long.\n\
             # TYPE c_seconds histogram\n\
             c_seconds_bucket{x=\"1\",le=\"0.0005\"} 1\n\
             c_seconds_bucket{x=\"1\",le=\"10\"} 1\n\
             c_seconds_bucket{x=\"1\",le=\"+Inf\"} 3\n\
             c_seconds_sum{x=\"1\"} 25.25\n\
             c_seconds_count{x=\"1\"} 3\n"
        );
    }
}
