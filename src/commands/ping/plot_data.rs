//! What the pictures at the end of a run are drawn from.
//!
//! Owns the series of one target, bounded: a run without end keeps its last pings.

use std::collections::BTreeMap;

use crate::output::{Chart, Marker, histogram, spark_line};
use crate::probe::SenderEvent;

/// The most pings that are remembered for drawing.
const MAX_MARKERS: usize = 100_000;
/// How wide a picture in text is.
const WIDTH: usize = 60;

/// One target's pings in order.
#[derive(Debug)]
pub(super) struct PlotData {
    enabled: bool,
    markers: BTreeMap<u64, Marker>,
}

impl PlotData {
    /// An empty record that keeps what it is told, or nothing.
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, markers: BTreeMap::new() }
    }

    /// Notes what became of a ping; a late answer takes its loss back.
    pub(super) fn on_event(&mut self, event: &SenderEvent) {
        let (seq, dot) = match event {
            SenderEvent::Reply { seq, rtt, .. } => (*seq, Marker::Answered(*rtt)),
            SenderEvent::Late { seq, rtt, .. } => (*seq, Marker::Late(*rtt)),
            SenderEvent::Lost { seq } => (*seq, Marker::Lost),
            SenderEvent::Refused { seq, .. } => (*seq, Marker::Refused),
            SenderEvent::SendError { seq, .. } => (*seq, Marker::NotSent),
            _ => return,
        };
        if !self.enabled {
            return;
        }
        self.markers.insert(seq, dot);
        if self.markers.len() > MAX_MARKERS {
            self.markers.pop_first();
        }
    }

    fn markers(&self) -> Vec<(u64, Marker)> {
        self.markers.iter().map(|(seq, dot)| (*seq, *dot)).collect()
    }

    /// A spark line and a histogram, in text.
    pub(super) fn plot(&self) -> String {
        let dots: Vec<Marker> = self.markers().into_iter().map(|(_, dot)| dot).collect();
        if dots.is_empty() {
            return String::new();
        }
        format!("{}\n{}", spark_line(&dots, WIDTH), histogram(&dots, WIDTH))
    }
}

/// A chart with one part per target.
pub(super) fn svg_chart(targets: &[(&str, &PlotData)]) -> String {
    let charts: Vec<Chart> = targets
        .iter()
        .map(|(target, record)| Chart { title: (*target).to_owned(), markers: record.markers() })
        .collect();
    crate::output::svg(&charts)
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKERS, PlotData};
    use crate::output::Marker;
    use crate::probe::SenderEvent;
    use std::time::Duration;

    #[test]
    fn a_late_answer_takes_its_loss_back() {
        let mut record = PlotData::new(true);
        record.on_event(&SenderEvent::Lost { seq: 1 });
        record.on_event(&SenderEvent::Late { seq: 1, rtt: Duration::from_secs(2), reordered: false });
        assert_eq!(record.markers(), [(1, Marker::Late(Duration::from_secs(2)))]);
    }

    #[test]
    fn a_run_without_end_keeps_its_last_pings() {
        let mut record = PlotData::new(true);
        let most = MAX_MARKERS as u64;
        for seq in 1..=most + 2 {
            record.on_event(&SenderEvent::Lost { seq });
        }
        assert_eq!((record.markers.len(), record.markers().first().map(|dot| dot.0)), (MAX_MARKERS, Some(3)));
    }

    #[test]
    fn what_nobody_draws_is_not_kept() {
        let mut record = PlotData::new(false);
        record.on_event(&SenderEvent::Lost { seq: 1 });
        assert!(record.plot().is_empty());
    }
}
