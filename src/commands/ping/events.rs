//! What `ping` says: a line per ping, and ping's own two summary lines, extended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::commands::report;
use crate::output::Escaped;
use crate::probe::{ForeignReason, OneWayStatistics, PingStatistics, RttClocks, Sender, SenderEvent};
use crate::time::{HumanDuration, serialize_ns};

/// A line of `ping`.
pub(super) type PingReport = report::TargetReport<SenderEvent, Summary>;

impl fmt::Display for SenderEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out_of_order = |reordered: &bool| if *reordered { ", out of order" } else { "" };
        match self {
            SenderEvent::Sent { seq, bytes, .. } => write!(f, "sent {seq}, {bytes} bytes"),
            SenderEvent::Reply { seq, rtt, reordered, clock_step, .. } => {
                let stepped = if *clock_step { ", the wall clock was set meanwhile" } else { "" };
                write!(f, "reply {seq}: {}{}{stepped}", HumanDuration(*rtt), out_of_order(reordered))
            }
            SenderEvent::Lost { seq } => write!(f, "request timed out ({seq})"),
            SenderEvent::Late { seq, rtt, reordered } => {
                write!(f, "late reply {seq}: {}{}", HumanDuration(*rtt), out_of_order(reordered))
            }
            SenderEvent::Duplicate { seq } => write!(f, "duplicate reply {seq}"),
            SenderEvent::Corrupt { seq } => write!(f, "damaged reply {seq}"),
            SenderEvent::Foreign { reason, bytes } => {
                write!(f, "not an answer to any ping: {bytes} bytes, {}", foreign_reason(*reason))
            }
            SenderEvent::Refused { seq, error } => write!(f, "{} ({seq})", strip_os_error_code(error)),
            SenderEvent::SendError { seq, error } => write!(f, "could not send {seq}: {}", strip_os_error_code(error)),
            SenderEvent::ClockGap { gap } => {
                write!(f, "this process did not run for {}; the schedule begins anew", HumanDuration(*gap))
            }
            SenderEvent::ClockStep { step_ns } => {
                let step = HumanDuration(Duration::from_nanos(step_ns.unsigned_abs()));
                write!(f, "the wall clock was set {} by {step}", if *step_ns < 0 { "back" } else { "forward" })
            }
            SenderEvent::LocalDrop { count } => write!(f, "{count} datagrams found no room in our own buffer"),
        }
    }
}

/// Why a datagram is no answer.
fn foreign_reason(reason: ForeignReason) -> &'static str {
    match reason {
        ForeignReason::Peer => "from somebody else",
        ForeignReason::Content => "with other content",
        ForeignReason::Unreflected => "our own ping come back: the peer echoes, and does not speak STAMP",
        ForeignReason::NeverSent => "to a ping that was never sent",
        ForeignReason::TooLate => "to a ping that is forgotten",
    }
}

/// The system's word without the number Rust adds.
fn strip_os_error_code(error: &str) -> &str {
    error.split(" (os error").next().unwrap_or_default()
}

/// One target in figures.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    target: Arc<str>,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    #[serde(flatten)]
    report: PingStatistics,
}

impl Summary {
    /// The end of one target's run.
    pub(super) fn new(target: Arc<str>, elapsed: Duration, report: PingStatistics) -> Self {
        Self { command: "ping", target, elapsed, report }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        writeln!(f, "--- {} ping statistics ---", Escaped(self.target.as_bytes()))?;
        write!(f, "{} sent, {} received, {} lost, {} late", report.sent, report.received, report.lost, report.late)?;
        for (count, what) in other_counts(report).into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        write!(f, ", time {}", HumanDuration(self.elapsed))?;
        match (report.loss, report.loss_ci95) {
            (Some(loss), Some((low, high))) => {
                write!(f, "\nloss {:.1} % (95 % interval {:.1} to {:.1} %)", loss * 100.0, low * 100.0, high * 100.0)?;
            }
            _ if report.refused > 0 => f.write_str("\nloss unknown: the network refused to carry them")?,
            _ if report.waiting > 0 => f.write_str("\nloss unknown: no ping has been answered or timed out yet")?,
            _ => f.write_str("\nloss unknown: nothing was sent")?,
        }
        if let Some(rtt) = &report.rtt {
            write!(f, "\nrtt {rtt}")?;
        }
        if let Some(late) = &report.late_rtt {
            write!(f, "\nlate rtt {late}")?;
        }
        if let Some(jitter) = report.jitter {
            write!(f, "\njitter {} (RFC 3550)", HumanDuration(jitter))?;
        }
        if !report.paused.is_zero() {
            write!(
                f,
                "\nthis process was held up for {} (stopped, or its output not read); nothing was sent then",
                HumanDuration(report.paused)
            )?;
        }
        write_clock(report, f)?;
        report.ways.as_ref().map_or(Ok(()), |ways| write_one_way(ways, f))
    }
}

fn other_counts(report: &PingStatistics) -> [(u64, &'static str); 8] {
    [
        (report.refused, "refused"),
        (report.send_errors, "not sent"),
        (report.waiting, "still on the way"),
        (report.duplicates, "duplicates"),
        (report.reordered, "out of order"),
        (report.corrupt, "damaged"),
        (report.foreign, "foreign"),
        (report.local_drops, "dropped by our own buffer"),
    ]
}

/// Which clock the round trips are by, and what this host itself added.
fn write_clock(report: &PingStatistics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let clock = match report.clock {
        Some(RttClocks::Kernel) => "kernel stamps",
        Some(RttClocks::Monotonic) => "the monotonic clock",
        Some(RttClocks::Mixed) => "kernel stamps where there were both, else the monotonic clock",
        None => return Ok(()),
    };
    write!(f, "\nmeasured by {clock}")?;
    if let Some(host) = &report.host {
        write!(
            f,
            "; not in it: what this host took around them, {} (p50), {} (p99)",
            HumanDuration(host.p50),
            HumanDuration(host.p99)
        )?;
    }
    if report.clock_steps > 0 {
        write!(f, "; the wall clock was set during {} of them", report.clock_steps)?;
    }
    Ok(())
}

fn write_one_way(ways: &OneWayStatistics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let percent = |loss: Option<f64>| loss.map_or(String::new(), |loss| format!(" ({:.1} %)", loss * 100.0));
    let (up, down) = (percent(ways.loss_up), percent(ways.loss_down));
    write!(f, "\nlost on the way up {}{up}, on the way down {}{down}", ways.lost_up, ways.lost_down)?;
    if ways.lost_somewhere > 0 {
        write!(f, ", {} after the last answer, nobody knows where", ways.lost_somewhere)?;
    }
    for (name, summary) in [
        ("server", &ways.server),
        ("up, above its minimum", &ways.up_above_min),
        ("down, above its minimum", &ways.down_above_min),
    ] {
        if let Some(summary) = summary {
            write!(f, "\n{name}: {summary}")?;
        }
    }
    Ok(())
}

/// The live line of a terminal.
pub(super) fn status_line<'s>(senders: impl Iterator<Item = &'s Sender>, elapsed: Duration) -> String {
    let (mut sent, mut received, mut lost) = (0, 0, 0);
    let mut last = String::new();
    for sender in senders {
        let report = sender.statistics();
        sent += report.sent;
        received += report.received;
        lost += report.lost + report.late;
        if let Some(rtt) = report.rtt {
            last = format!(", rtt p50 {} p99 {}", HumanDuration(rtt.p50), HumanDuration(rtt.p99));
        }
    }
    format!("{sent} sent, {received} received, {lost} lost or late{last}, {:.0} s", elapsed.as_secs_f64())
}

/// What SIGQUIT asks for, as ping answers it.
pub(super) fn interim_line(target: &str, report: &PingStatistics, elapsed: Duration) -> String {
    let loss = report.loss.map_or_else(|| "-".to_owned(), |loss| format!("{:.1}", loss * 100.0));
    let rtt = report.rtt.map_or_else(String::new, |rtt| {
        format!(
            ", min/p50/p99/max = {}/{}/{}/{}",
            HumanDuration(rtt.min),
            HumanDuration(rtt.p50),
            HumanDuration(rtt.p99),
            HumanDuration(rtt.max)
        )
    });
    format!(
        "{target}: {}/{} pings answered, {loss} % loss{rtt}, after {}",
        report.received,
        report.sent,
        HumanDuration(elapsed)
    )
}

#[cfg(test)]
mod tests {
    use super::PingReport;
    use crate::probe::SenderEvent;
    use std::time::Duration;

    fn line(fact: SenderEvent, is_alone: bool) -> String {
        PingReport::event(fact, "h:1".into(), is_alone).to_string()
    }

    #[test]
    fn each_ping_has_its_line() {
        assert_eq!(line(SenderEvent::Lost { seq: 4 }, true), "request timed out (4)");
        assert_eq!(line(SenderEvent::Lost { seq: 4 }, false), "h:1: request timed out (4)");
        let late = SenderEvent::Late { seq: 3, rtt: Duration::from_millis(1500), reordered: true };
        assert_eq!(line(late, true), "late reply 3: 1.50 s, out of order");
        let error = "Network is unreachable (os error 101)".to_owned();
        assert_eq!(line(SenderEvent::SendError { seq: 1, error }, true), "could not send 1: Network is unreachable");
    }

    #[test]
    fn json_puts_the_type_first_and_the_target_last() {
        let line = PingReport::event(SenderEvent::Lost { seq: 4 }, "h:1".into(), true);
        assert_eq!(serde_json::to_string(&line).expect("plain data"), r#"{"type":"lost","seq":4,"target":"h:1"}"#);
    }
}
