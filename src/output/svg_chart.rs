//! SVG chart: round-trip times over time with losses marked, and their distribution.
//!
//! Made for a lab report: no script, no external resource, readable in print. All text is escaped.

use std::fmt::Write as _;
use std::time::Duration;

use super::escaped;
use super::text_plot::{Marker, describe_failures, fraction};
use crate::time::HumanDuration;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
/// Margins of the drawing, for labels.
const LEFT: f64 = 80.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 40.0;
/// Width of the series; the distribution has the rest.
const SERIES_WIDTH: f64 = 620.0;
const GAP: f64 = 30.0;
const BINS: usize = 24;
/// Maximum dots per series; a longer one draws every n-th reply and every loss.
const MAX_MARKERS: usize = 5_000;

/// Noun for the attempts in a chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    pub one: &'static str,
    pub many: &'static str,
}

/// Series of one target.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub title: String,
    /// Number and outcome of each attempt, in order.
    pub markers: Vec<(u64, Marker)>,
}

/// Draws charts one above the other.
pub(crate) fn svg(attempts: Attempts, charts: &[Chart]) -> String {
    let mut body = String::new();
    for (index, chart) in charts.iter().enumerate() {
        let _ = writeln!(body, "<g transform=\"translate(0 {:.0})\">", float(index) * HEIGHT);
        draw(attempts, chart, &mut body);
        body.push_str("</g>\n");
    }
    let height = HEIGHT * float(charts.len().max(1));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn draw(attempts: Attempts, chart: &Chart, out: &mut String) {
    let times = || chart.markers.iter().filter_map(|(_, marker)| marker.rtt());
    let failures = describe_failures(chart.markers.iter().map(|(_, marker)| *marker));
    let failures = if failures.is_empty() { "all succeeded" } else { &failures };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\
         <text x=\"{LEFT}\" y=\"38\">{} {}, {failures}</text>",
        escape_xml(&chart.title),
        chart.markers.len(),
        if chart.markers.len() == 1 { attempts.one } else { attempts.many },
    );
    let low = Duration::ZERO;
    let high = times().max().unwrap_or(Duration::from_millis(1));
    axes(high, attempts.one, chart, out);
    series(chart, low, high, out);
    distribution(times(), low, high, out);
}

fn y(time: Duration, low: Duration, high: Duration) -> f64 {
    HEIGHT - BOTTOM - fraction(time, low, high) * (HEIGHT - TOP - BOTTOM)
}

fn axes(high: Duration, attempt: &str, chart: &Chart, out: &mut String) {
    for quarter in 0..=4_u32 {
        let time = high / 4 * quarter;
        let y = y(time, Duration::ZERO, high);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 20.0,
            LEFT - 8.0,
            y + 4.0,
            HumanDuration(time)
        );
    }
    let (first, last) =
        (chart.markers.first().map_or(0, |marker| marker.0), chart.markers.last().map_or(0, |marker| marker.0));
    let below = HEIGHT - BOTTOM + 18.0;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{below}\">{attempt} {first}</text><text x=\"{:.1}\" y=\"{below}\" text-anchor=\"end\">{attempt} {last}</text>\
         <text x=\"{:.1}\" y=\"{below}\">frequency</text>",
        LEFT + SERIES_WIDTH,
        LEFT + SERIES_WIDTH + GAP
    );
}

/// Draws a dot per reply and a red stroke per loss, so that losses stand out.
fn series(chart: &Chart, low: Duration, high: Duration, out: &mut String) {
    let first = chart.markers.first().map_or(0, |marker| marker.0);
    let span = chart.markers.last().map_or(1, |marker| marker.0 - first).max(1);
    let x = |seq: u64| LEFT + SERIES_WIDTH * ratio(seq - first, span);
    let every = chart.markers.len().div_ceil(MAX_MARKERS).max(1);
    for (index, (seq, marker)) in chart.markers.iter().enumerate() {
        let x = x(*seq);
        let _ = match marker {
            Marker::Lost | Marker::Failed => writeln!(
                out,
                "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#d33\" stroke-opacity=\".55\"/>",
                HEIGHT - BOTTOM
            ),
            Marker::Refused | Marker::NotSent => {
                writeln!(
                    out,
                    "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#999\" stroke-opacity=\".55\"/>",
                    HEIGHT - BOTTOM
                )
            }
            Marker::Answered(_) if index % every != 0 => Ok(()),
            Marker::Answered(time) => {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#0b6e4f\"/>", y(*time, low, high))
            }
            Marker::Late(time) => writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"none\" stroke=\"#e80\"/>",
                y(*time, low, high)
            ),
        };
    }
}

fn distribution(times: impl Iterator<Item = Duration>, low: Duration, high: Duration, out: &mut String) {
    let mut counts = [0_usize; BINS];
    for time in times {
        let bin =
            (0..BINS).find(|bin| fraction(time, low, high) < ratio(*bin as u64 + 1, BINS as u64)).unwrap_or(BINS - 1);
        if let Some(count) = counts.get_mut(bin) {
            *count += 1;
        }
    }
    let max_count = counts.iter().copied().max().unwrap_or(0).max(1);
    let (left, max_width) = (LEFT + SERIES_WIDTH + GAP, WIDTH - 20.0 - LEFT - SERIES_WIDTH - GAP);
    let row = (HEIGHT - TOP - BOTTOM) / float(BINS);
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let top = HEIGHT - BOTTOM - row * float(bin + 1);
        let width = (max_width * float(*count) / float(max_count)).max(1.0);
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"#0b6e4f\"/>",
            row - 1.0
        );
    }
}

fn escape_xml(text: &str) -> String {
    escaped(text).to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::{Attempts, Chart, MAX_MARKERS, svg};
    use crate::output::Marker;
    use std::time::Duration;

    const PINGS: Attempts = Attempts { one: "ping", many: "pings" };

    fn chart(markers: Vec<(u64, Marker)>) -> String {
        svg(PINGS, &[Chart { title: "a<b>&\x1b".into(), markers }])
    }

    #[test]
    fn replies_losses_and_late_replies_have_markers() {
        let text = chart(vec![
            (1, Marker::Answered(Duration::from_millis(1))),
            (2, Marker::Lost),
            (3, Marker::Late(Duration::from_millis(5))),
        ]);
        assert_eq!(text.matches("r=\"2\"").count(), 1);
        assert_eq!(text.matches("#d33").count(), 1);
        assert_eq!(text.matches("r=\"3\"").count(), 1);
        assert!(text.contains("a&lt;b&gt;&amp;") && !text.contains('\x1b'));
    }

    #[test]
    fn a_chart_without_replies_or_without_pings_can_be_drawn() {
        assert!(chart(vec![(1, Marker::Lost)]).contains("#d33"));
        assert!(chart(vec![]).ends_with("</svg>\n"));
        assert!(svg(PINGS, &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn a_long_series_is_thinned_but_keeps_its_losses() {
        let count = MAX_MARKERS as u64 * 4;
        let markers = (1..=count)
            .map(|seq| (seq, if seq % 100 == 0 { Marker::Lost } else { Marker::Answered(Duration::from_millis(1)) }));
        let text = chart(markers.collect());
        assert!(text.matches("<circle").count() <= MAX_MARKERS);
        assert_eq!(text.matches("#d33").count() as u64, count / 100);
    }
}
