//! The figures as Prometheus reads them.
//!
//! Owns the text exposition format (version 0.0.4) and the names of our metrics. Times are in seconds.
//! Lost beats are a gauge: a late beat takes its loss back, and a counter must not fall.

use std::fmt::Write as _;
use std::time::Duration;

use super::shared::SharedWatcher;
use crate::heartbeat::{Liveness, RejectReason, SenderReport};
use crate::time::Moment;

/// What the format is called.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric per sender: its name, its type, what it is, and its value.
type SenderMetric = (&'static str, &'static str, &'static str, fn(&SenderReport) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const SENDER_METRICS: [SenderMetric; 9] = [
    ("beats_total", "counter", "Beats that came, each counted once.", |sender| Some(sender.counts.beats as f64)),
    ("lost_beats", "gauge", "Beats that did not come; falls when one comes after all.", |sender| {
        Some(sender.counts.lost as f64)
    }),
    ("duplicates_total", "counter", "Further copies of a beat.", |sender| Some(sender.counts.duplicates as f64)),
    ("reordered_total", "counter", "Beats that came after a later one.", |sender| Some(sender.counts.reordered as f64)),
    ("restarts_total", "counter", "How often the sender was started anew.", |sender| Some(sender.restarts.into())),
    ("up", "gauge", "Whether the sender is up or late (1) or not (0).", |sender| {
        Some(f64::from(u8::from(matches!(sender.state, Liveness::Up | Liveness::Late))))
    }),
    ("window_loss_ratio", "gauge", "Lost beats among the newest 256.", |sender| sender.window_loss),
    ("silence_seconds", "gauge", "Time since the last beat.", |sender| {
        sender.silent.as_ref().map(Duration::as_secs_f64)
    }),
    ("flapping", "gauge", "Whether the sender comes and goes.", |sender| Some(f64::from(u8::from(sender.flapping)))),
];

/// All figures.
pub(super) fn render(shared: &SharedWatcher, now: Moment) -> String {
    let mut senders = Vec::new();
    shared.for_each_slot_range(|watcher, places| {
        senders.extend(places.filter_map(|place| Some(watcher.sender_table().get(place)?.report(now))));
    });
    senders.sort_by(|one, other| one.name.cmp(&other.name));
    let mut page = Exposition::default();
    for (name, kind, about, value) in SENDER_METRICS {
        page.write_header(name, kind, about);
        for sender in &senders {
            if let Some(value) = value(sender) {
                page.write_sample(name, &[("name", &sender.name)], value);
            }
        }
    }
    page.write_header("state", "gauge", "1 for the state the sender is in.");
    for sender in &senders {
        page.write_sample("state", &[("name", &sender.name), ("state", sender.state.as_str())], 1.0);
    }
    write_watcher_metrics(shared, &mut page);
    page.0
}

/// What is not about one sender.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn write_watcher_metrics(shared: &SharedWatcher, exposition: &mut Exposition) {
    let watcher = shared.lock();
    exposition.write_header("senders", "gauge", "Senders in each state.");
    for state in Liveness::ALL {
        exposition.write_sample("senders", &[("state", state.as_str())], watcher.count_in_state(state) as f64);
    }
    let tally = watcher.counters();
    exposition.write_header("refused_total", "counter", "Datagrams that counted for nobody.");
    for (reason, count) in RejectReason::ALL.into_iter().zip(tally.by_reason) {
        exposition.write_sample("refused_total", &[("reason", reason.as_str())], count as f64);
    }
    for (name, about, value) in [
        ("datagrams_total", "Datagrams that came.", tally.received),
        ("local_drops_total", "Datagrams that found no room in the watcher's own buffer.", tally.local_drops),
        ("monitor_stalls_total", "How often the watcher itself did not run.", tally.stalls),
        ("state_changes_total", "How often a sender's state has changed.", tally.changes),
    ] {
        exposition.write_header(name, "counter", about);
        exposition.write_sample(name, &[], value as f64);
    }
    let name = "delay_above_minimum_seconds";
    exposition.write_header(name, "histogram", "How long beats took, above the smallest delay of their sender.");
    let delays = watcher.delays();
    for (bound, count) in delays.cumulative() {
        let bound = bound.as_secs_f64().to_string();
        exposition.write_sample(&format!("{name}_bucket"), &[("le", &bound)], count as f64);
    }
    exposition.write_sample(&format!("{name}_bucket"), &[("le", "+Inf")], delays.count() as f64);
    exposition.write_sample(&format!("{name}_sum"), &[], delays.sum().as_secs_f64());
    exposition.write_sample(&format!("{name}_count"), &[], delays.count() as f64);
}

/// The text so far.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn write_header(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP netlab_heartbeat_{name} {help}\n# TYPE netlab_heartbeat_{name} {kind}\n");
    }

    fn write_sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "netlab_heartbeat_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if place == 0 { '{' } else { ',' }, escape_label(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A label's value: a name may hold quotes and backslashes.
fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Exposition;

    #[test]
    fn a_sample_is_a_line_whatever_its_labels_hold() {
        let mut page = Exposition::default();
        page.write_header("up", "gauge", "Whether.");
        page.write_sample("up", &[("name", "a\"b\\c\nd"), ("x", "y")], 1.0);
        page.write_sample("n", &[], 0.25);
        assert_eq!(
            page.0,
            "# HELP netlab_heartbeat_up Whether.\n# TYPE netlab_heartbeat_up gauge\n\
             netlab_heartbeat_up{name=\"a\\\"b\\\\c\\nd\",x=\"y\"} 1\nnetlab_heartbeat_n 0.25\n"
        );
    }
}
