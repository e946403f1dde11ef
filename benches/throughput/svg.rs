//! Draws the plots of `plots` as SVG: lines over a few places, with the spread of the rounds
//! as bars. Has its own background, so that it can be read on a light and on a dark page.

use crate::report::{median, thousands};
use std::fmt::{self, Write};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 104.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 124.0;
const BOTTOM: f64 = 420.0;
/// Colours and dashes that are told apart without seeing colours.
const STYLES: [(&str, &str); 3] = [("#b84a00", "9 5"), ("#0061a8", "none"), ("#5c5c5c", "3 4")];

pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x_label: &'static str,
    /// Where rates differ by powers of ten; otherwise the axis begins with nothing.
    pub(crate) has_log_rates: bool,
    pub(crate) caption: [String; 2],
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Point>,
}

/// What the rounds at one place came to, in events a second.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) rates: Vec<f64>,
}

impl Point {
    pub(crate) fn median(&self) -> f64 {
        median(self.rates.clone())
    }
}

impl Chart {
    pub(crate) fn new(title: &'static str, x_label: &'static str, names: &[&'static str]) -> Self {
        let series = names.iter().map(|name| Series {
            name,
            points: Vec::new(),
        });
        Self {
            title,
            x_label,
            has_log_rates: true,
            caption: Default::default(),
            ticks: Vec::new(),
            series: series.collect(),
        }
    }

    pub(crate) fn draw(&self) -> String {
        let mut out = String::new();
        // A String takes whatever is written.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Self { title, x_label, .. } = self;
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"14\" \
             fill=\"#222222\">\n<title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"#ffffff\"/>\n\
             <text x=\"24\" y=\"34\" font-size=\"18\" font-weight=\"600\">{title}</text>"
        )?;
        self.write_axes(out)?;
        for (place, (series, style)) in self.series.iter().zip(STYLES).enumerate() {
            self.write_series(out, series, place, style)?;
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        writeln!(
            out,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{x_label}</text>\n\
             <text transform=\"translate(28 {}) rotate(-90)\" text-anchor=\"middle\">events a second{}</text>",
            BOTTOM + 42.0,
            f64::midpoint(TOP, BOTTOM),
            if self.has_log_rates {
                " (log scale)"
            } else {
                ""
            },
        )?;
        for (line, y) in self.caption.iter().zip([488.0, 506.0]) {
            writeln!(
                out,
                "<text x=\"24\" y=\"{y}\" font-size=\"12\" fill=\"#555555\">{line}</text>"
            )?;
        }
        writeln!(out, "</svg>")
    }

    fn write_axes(&self, out: &mut String) -> fmt::Result {
        for value in self.rate_ticks() {
            let y = self.y(value);
            writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{}\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                if y < BOTTOM { "#dddddd" } else { "#222222" },
                LEFT - 8.0,
                y + 5.0,
                thousands(value),
            )?;
        }
        for (at, label) in &self.ticks {
            let x = self.x(*at);
            writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\" stroke=\"#222222\"/>\n\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                BOTTOM + 5.0,
                BOTTOM + 21.0,
            )?;
        }
        Ok(())
    }

    fn write_series(
        &self,
        out: &mut String,
        series: &Series,
        place: usize,
        (colour, dash): (&str, &str),
    ) -> fmt::Result {
        let legend_y = 56.0 + 20.0 * place as f64;
        let line: Vec<String> = series
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", self.x(point.x), self.y(point.median())))
            .collect();
        writeln!(
            out,
            "<g stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\">\n\
             <path d=\"M24 {legend_y}h38\" stroke-dasharray=\"{dash}\"/>\n\
             <polyline points=\"{}\" stroke-dasharray=\"{dash}\"/>",
            line.join(" ")
        )?;
        for point in &series.points {
            let low = point.rates.iter().copied().fold(f64::INFINITY, f64::min);
            let high = point.rates.iter().copied().fold(0.0, f64::max);
            writeln!(
                out,
                "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke-width=\"1.5\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                self.y(low),
                self.y(high),
                self.y(point.median()),
                x = self.x(point.x),
            )?;
        }
        writeln!(
            out,
            "</g>\n<text x=\"72\" y=\"{}\">{}</text>",
            legend_y + 5.0,
            series.name
        )
    }

    fn x(&self, value: f64) -> f64 {
        let places = || self.ticks.iter().map(|(place, _)| *place);
        let low = places().fold(f64::INFINITY, f64::min);
        let high = places().fold(f64::NEG_INFINITY, f64::max);
        let margin = 24.0;
        LEFT + margin + (value - low) / (high - low).max(1e-9) * (RIGHT - LEFT - 2.0 * margin)
    }

    fn y(&self, value: f64) -> f64 {
        let ticks = self.rate_ticks();
        let scale = |value: f64| {
            if self.has_log_rates {
                value.log10()
            } else {
                value
            }
        };
        let (low, high) = (scale(ticks[0]), scale(ticks[ticks.len() - 1]));
        BOTTOM - (scale(value) - low) / (high - low) * (BOTTOM - TOP)
    }

    /// Round rates from below the lowest, or from nothing, to above the highest.
    fn rate_ticks(&self) -> Vec<f64> {
        let points = self.series.iter().flat_map(|series| &series.points);
        let rates = || points.clone().flat_map(|point| &point.rates).copied();
        let high = rates().fold(10.0, f64::max);
        let rounds =
            (0..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        if !self.has_log_rates {
            let step = rounds.into_iter().find(|step| step * 6.0 >= high);
            let step = step.unwrap_or(high);
            return (0..=6)
                .map(|place| f64::from(place) * step)
                .take_while(|value| value - step < high)
                .collect();
        }
        let low = rates().fold(high / 2.0, f64::min);
        let all: Vec<f64> = rounds.collect();
        let first = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
        let last = all.iter().position(|tick| *tick >= high);
        all[first..=last.unwrap_or(all.len() - 1)].to_vec()
    }
}
