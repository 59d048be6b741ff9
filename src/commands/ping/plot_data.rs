//! Data of the plots and charts at the end of a run.
//!
//! Bounded: an unlimited run keeps its last pings.

use std::collections::BTreeMap;

use crate::output::{Chart, Marker, histogram, spark_line};
use crate::probe::PingEvent;

/// Maximum number of pings kept for plotting.
const MAX_MARKERS: usize = 100_000;
/// Maximum width of a text plot in columns, without its labels.
const MAX_WIDTH: usize = 60;
/// Columns for the times and counts beside a text plot.
const LABEL_WIDTH: usize = 20;

/// Pings of one target, by sequence number.
#[derive(Debug)]
pub(super) struct PlotData {
    enabled: bool,
    markers: BTreeMap<u64, Marker>,
}

impl PlotData {
    /// Creates an empty record; it keeps nothing unless `enabled`.
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, markers: BTreeMap::new() }
    }

    /// Records the outcome of a ping; a late reply replaces its loss.
    pub(super) fn on_event(&mut self, event: &PingEvent) {
        let (seq, marker) = match event {
            PingEvent::Reply { seq, rtt, .. } => (*seq, Marker::Answered(*rtt)),
            PingEvent::Late { seq, rtt, .. } => (*seq, Marker::Late(*rtt)),
            PingEvent::Lost { seq } => (*seq, Marker::Lost),
            PingEvent::Refused { seq, .. } => (*seq, Marker::Refused),
            PingEvent::SendError { seq, .. } => (*seq, Marker::NotSent),
            _ => return,
        };
        if !self.enabled {
            return;
        }
        self.markers.insert(seq, marker);
        if self.markers.len() > MAX_MARKERS {
            self.markers.pop_first();
        }
    }

    fn markers(&self) -> Vec<(u64, Marker)> {
        self.markers.iter().map(|(seq, marker)| (*seq, *marker)).collect()
    }

    /// Draws a spark line and a histogram as text that fits this number of columns.
    pub(super) fn plot(&self, columns: usize) -> String {
        let markers: Vec<Marker> = self.markers().into_iter().map(|(_, marker)| marker).collect();
        if markers.is_empty() {
            return String::new();
        }
        let width = columns.saturating_sub(LABEL_WIDTH).clamp(1, MAX_WIDTH);
        format!("{}\n{}", spark_line(&markers, width), histogram(&markers, width))
    }
}

/// Draws an SVG chart with one panel per target.
pub(super) fn svg_chart(targets: &[(&str, &PlotData)]) -> String {
    let charts: Vec<Chart> =
        targets.iter().map(|(target, data)| Chart { title: (*target).to_owned(), markers: data.markers() }).collect();
    crate::output::svg(&charts)
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKERS, PlotData};
    use crate::output::Marker;
    use crate::probe::PingEvent;
    use std::time::Duration;

    #[test]
    fn a_late_reply_replaces_its_loss() {
        let mut data = PlotData::new(true);
        data.on_event(&PingEvent::Lost { seq: 1 });
        data.on_event(&PingEvent::Late { seq: 1, rtt: Duration::from_secs(2), reordered: false });
        assert_eq!(data.markers(), [(1, Marker::Late(Duration::from_secs(2)))]);
    }

    #[test]
    fn an_unlimited_run_keeps_its_last_pings() {
        let mut data = PlotData::new(true);
        let limit = MAX_MARKERS as u64;
        for seq in 1..=limit + 2 {
            data.on_event(&PingEvent::Lost { seq });
        }
        assert_eq!((data.markers.len(), data.markers().first().map(|marker| marker.0)), (MAX_MARKERS, Some(3)));
    }

    #[test]
    fn nothing_is_kept_without_a_plot() {
        let mut data = PlotData::new(false);
        data.on_event(&PingEvent::Lost { seq: 1 });
        assert!(data.plot(80).is_empty());
    }

    #[test]
    fn a_plot_fits_a_narrow_terminal() {
        let mut data = PlotData::new(true);
        for seq in 1..=500 {
            let rtt = Duration::from_micros(1_000 + seq % 97);
            data.on_event(&PingEvent::Late { seq, rtt, reordered: false });
        }
        for columns in [40, 80] {
            assert!(data.plot(columns).lines().all(|line| line.chars().count() <= columns), "{}", data.plot(columns));
        }
    }
}
