//! Metrics for Prometheus.
//!
//! Owns the text exposition format (version 0.0.4) and the names of the metrics. Times are in seconds. Lost
//! beats are a gauge: a late beat withdraws its loss, and a counter must not fall.

use std::fmt::Write as _;
use std::time::Duration;

use super::shared_watcher::SharedWatcher;
use crate::heartbeat::{RejectReason, SenderReport, SenderStatus};
use crate::time::Moment;

/// Media type of the text exposition format.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metric of each sender: name, type, help text and value.
type SenderMetric = (&'static str, &'static str, &'static str, fn(&SenderReport) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const SENDER_METRICS: [SenderMetric; 9] = [
    ("beats_total", "counter", "Beats received, without duplicates.", |sender| Some(sender.counts.beats as f64)),
    ("lost_beats", "gauge", "Beats lost; falls when a late beat arrives.", |sender| Some(sender.counts.lost as f64)),
    ("duplicates_total", "counter", "Duplicate beats.", |sender| Some(sender.counts.duplicates as f64)),
    ("reordered_total", "counter", "Beats received after a later one.", |sender| Some(sender.counts.reordered as f64)),
    ("restarts_total", "counter", "Restarts of the sender.", |sender| Some(sender.restarts.into())),
    ("up", "gauge", "1 if the sender is up or late, 0 otherwise.", |sender| {
        Some(f64::from(u8::from(matches!(sender.state, SenderStatus::Up | SenderStatus::Late))))
    }),
    ("window_loss_ratio", "gauge", "Share of lost beats among the newest 256.", |sender| sender.window_loss),
    ("silence_seconds", "gauge", "Time since the last beat.", |sender| {
        sender.silent.as_ref().map(Duration::as_secs_f64)
    }),
    ("flapping", "gauge", "1 if the sender is flapping, 0 otherwise.", |sender| {
        Some(f64::from(u8::from(sender.flapping)))
    }),
];

pub(super) fn render(shared: &SharedWatcher, now: Moment) -> String {
    let mut senders = Vec::new();
    shared.for_each_slot_range(|watcher, slots| {
        senders.extend(slots.filter_map(|slot| Some(watcher.sender_table().get(slot)?.report(now))));
    });
    senders.sort_by(|one, other| one.name.cmp(&other.name));
    let mut exposition = Exposition::default();
    for (name, kind, help, value) in SENDER_METRICS {
        exposition.write_header(name, kind, help);
        for sender in &senders {
            if let Some(value) = value(sender) {
                exposition.write_sample(name, &[("name", &sender.name)], value);
            }
        }
    }
    exposition.write_header("state", "gauge", "1 for the current state of the sender, absent for others.");
    for sender in &senders {
        exposition.write_sample("state", &[("name", &sender.name), ("state", sender.state.as_str())], 1.0);
    }
    write_watcher_metrics(shared, &mut exposition);
    exposition.0
}

/// Writes the metrics of the watcher itself.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn write_watcher_metrics(shared: &SharedWatcher, exposition: &mut Exposition) {
    let watcher = shared.lock();
    exposition.write_header("senders", "gauge", "Senders in each state.");
    for state in SenderStatus::ALL {
        exposition.write_sample("senders", &[("state", state.as_str())], watcher.count_in_state(state) as f64);
    }
    let counters = watcher.counters();
    exposition.write_header("rejected_total", "counter", "Datagrams ignored, by reason.");
    for (reason, count) in RejectReason::ALL.into_iter().zip(counters.by_reason) {
        exposition.write_sample("rejected_total", &[("reason", reason.as_str())], count as f64);
    }
    for (name, help, value) in [
        ("datagrams_total", "Datagrams received.", counters.received),
        ("local_drops_total", "Datagrams dropped because the receive buffer was full.", counters.local_drops),
        ("monitor_stalls_total", "Times that the watcher process did not run.", counters.stalls),
        ("state_changes_total", "State changes of all senders.", counters.changes),
    ] {
        exposition.write_header(name, "counter", help);
        exposition.write_sample(name, &[], value as f64);
    }
    let name = "delay_above_minimum_seconds";
    exposition.write_header(name, "histogram", "Delay of beats above the minimum of their sender.");
    let delays = watcher.delays();
    for (bound, count) in delays.cumulative() {
        let bound = bound.as_secs_f64().to_string();
        exposition.write_sample(&format!("{name}_bucket"), &[("le", &bound)], count as f64);
    }
    exposition.write_sample(&format!("{name}_bucket"), &[("le", "+Inf")], delays.count() as f64);
    exposition.write_sample(&format!("{name}_sum"), &[], delays.sum().as_secs_f64());
    exposition.write_sample(&format!("{name}_count"), &[], delays.count() as f64);
}

/// Text in the exposition format.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn write_header(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP netlab_heartbeat_{name} {help}\n# TYPE netlab_heartbeat_{name} {kind}\n");
    }

    fn write_sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "netlab_heartbeat_{name}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escape_label(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Escapes the value of a label: a sender name may contain quotes and backslashes.
fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Exposition;

    #[test]
    fn label_values_are_escaped_in_a_sample_line() {
        let mut exposition = Exposition::default();
        exposition.write_header("up", "gauge", "Help.");
        exposition.write_sample("up", &[("name", "a\"b\\c\nd"), ("x", "y")], 1.0);
        exposition.write_sample("n", &[], 0.25);
        assert_eq!(
            exposition.0,
            "# HELP netlab_heartbeat_up Help.\n# TYPE netlab_heartbeat_up gauge\n\
             netlab_heartbeat_up{name=\"a\\\"b\\\\c\\nd\",x=\"y\"} 1\nnetlab_heartbeat_n 0.25\n"
        );
    }
}
