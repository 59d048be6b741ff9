//! Data of the plots and charts at the end of a run: one series of attempts per target.
//!
//! Bounded: an unlimited run keeps its last attempts.

use std::collections::BTreeMap;
use std::path::Path;

use super::report;
use crate::error::Result;
use crate::output::{Attempts, Chart, Marker, histogram, spark_line};
use crate::stop::StopConditions;

/// Maximum number of attempts kept for plotting.
const MAX_MARKERS: usize = 100_000;
/// Maximum width of a text plot in columns, without its labels.
const MAX_WIDTH: usize = 60;
/// Columns for the times and counts beside a text plot.
const LABEL_WIDTH: usize = 20;

/// Attempts at one target, by number.
#[derive(Debug, Default)]
pub(super) struct PlotData {
    enabled: bool,
    markers: BTreeMap<u64, Marker>,
}

impl PlotData {
    /// Creates an empty record; it keeps nothing unless `enabled`.
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, markers: BTreeMap::new() }
    }

    /// Records the outcome of an attempt; replaces an earlier outcome of the same number.
    pub(super) fn record(&mut self, number: u64, marker: Marker) {
        if !self.enabled {
            return;
        }
        self.markers.insert(number, marker);
        if self.markers.len() > MAX_MARKERS {
            self.markers.pop_first();
        }
    }

    /// Adds the attempts of another worker.
    pub(super) fn merge(&mut self, other: Self) {
        self.enabled |= other.enabled;
        other.markers.into_iter().for_each(|(number, marker)| self.record(number, marker));
    }

    fn markers(&self) -> Vec<(u64, Marker)> {
        self.markers.iter().map(|(number, marker)| (*number, *marker)).collect()
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

/// Writes an SVG chart with one panel per target.
pub(super) fn write_chart(
    (file, stop): (&Path, &StopConditions),
    attempts: Attempts,
    targets: &[(&str, &PlotData)],
) -> Result<()> {
    let charts: Vec<Chart> =
        targets.iter().map(|(target, data)| Chart { title: (*target).to_owned(), markers: data.markers() }).collect();
    report::write_file(file, crate::output::svg(attempts, &charts).as_bytes(), stop)
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKERS, PlotData};
    use crate::output::Marker;
    use std::time::Duration;

    #[test]
    fn a_late_reply_replaces_its_loss() {
        let mut data = PlotData::new(true);
        data.record(1, Marker::Lost);
        data.record(1, Marker::Late(Duration::from_secs(2)));
        assert_eq!(data.markers(), [(1, Marker::Late(Duration::from_secs(2)))]);
    }

    #[test]
    fn an_unlimited_run_keeps_its_last_pings() {
        let mut data = PlotData::new(true);
        let limit = MAX_MARKERS as u64;
        for seq in 1..=limit + 2 {
            data.record(seq, Marker::Lost);
        }
        assert_eq!((data.markers.len(), data.markers().first().map(|marker| marker.0)), (MAX_MARKERS, Some(3)));
    }

    #[test]
    fn nothing_is_kept_without_a_plot() {
        let mut data = PlotData::new(false);
        data.record(1, Marker::Lost);
        assert!(data.plot(80).is_empty());
    }

    #[test]
    fn a_plot_fits_a_narrow_terminal() {
        let mut data = PlotData::new(true);
        for seq in 1..=500 {
            let rtt = Duration::from_micros(1_000 + seq % 97);
            data.record(seq, Marker::Late(rtt));
        }
        for columns in [40, 80] {
            assert!(data.plot(columns).lines().all(|line| line.chars().count() <= columns), "{}", data.plot(columns));
        }
    }
}
