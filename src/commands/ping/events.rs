//! Text output of `ping`: one line per event, and a summary that extends the two lines of ping(8).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::report::plural;
use crate::commands::schema::EventSchemas;
use crate::output::{Escaped, Event, Tone};
use crate::probe::{ForeignReason, OneWayStatistics, PingClient, PingEvent, PingStatistics, RttClocks};
use crate::time::{HumanDuration, Nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add_with_target::<PingEvent>("ping");
    schemas.add::<Summary>("ping");
}

impl Event for PingEvent {
    fn tone(&self) -> Tone {
        match self {
            Self::Lost { .. } | Self::Refused { .. } | Self::SendError { .. } | Self::Corrupt { .. } => Tone::Bad,
            Self::Late { .. } | Self::Duplicate { .. } | Self::Foreign { .. } | Self::LocalDrop { .. } => Tone::Warning,
            Self::Sent { .. } | Self::Reply { .. } | Self::ClockGap { .. } | Self::ClockStep { .. } => Tone::Plain,
        }
    }
}

impl fmt::Display for PingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out_of_order = |reordered: &bool| if *reordered { ", out of order" } else { "" };
        match self {
            PingEvent::Sent { seq, bytes, .. } => write!(f, "sent {seq}: {bytes} {}", byte_unit(*bytes)),
            PingEvent::Reply { seq, rtt, reordered, clock_step, .. } => {
                let stepped = if *clock_step { ", wall clock set meanwhile" } else { "" };
                write!(f, "reply {seq}: {}{}{stepped}", HumanDuration(*rtt), out_of_order(reordered))
            }
            PingEvent::Lost { seq } => write!(f, "timeout {seq}: no reply in time"),
            PingEvent::Late { seq, rtt, reordered } => {
                write!(f, "late reply {seq}: {}{}", HumanDuration(*rtt), out_of_order(reordered))
            }
            PingEvent::Duplicate { seq } => write!(f, "duplicate reply {seq}"),
            PingEvent::Corrupt { seq, got } => {
                write!(f, "corrupted reply {seq}\n  got: '{}'", Escaped(got.as_bytes()))
            }
            PingEvent::Foreign { reason, source, bytes, got } => {
                let unit = byte_unit(*bytes);
                write!(f, "unexpected datagram from {source}, {bytes} {unit}: {}", foreign_reason(*reason))?;
                write!(f, "\n  got: '{}'", Escaped(got.as_bytes()))?;
                if *reason == ForeignReason::Content {
                    write!(f, "\n  expected: the ping, unchanged or in upper case")?;
                }
                Ok(())
            }
            PingEvent::Refused { seq, error } => write!(f, "refused {seq}: {}", strip_os_error_code(error)),
            PingEvent::SendError { seq, error } => write!(f, "could not send {seq}: {}", strip_os_error_code(error)),
            PingEvent::ClockGap { gap } => {
                write!(f, "this process was stalled for {}; schedule restarted", HumanDuration(*gap))
            }
            PingEvent::ClockStep { step_ns } => {
                let step = HumanDuration(Duration::from_nanos(step_ns.unsigned_abs()));
                write!(f, "the wall clock was set {} by {step}", if *step_ns < 0 { "back" } else { "forward" })
            }
            PingEvent::LocalDrop { count } => {
                write!(f, "{count} {} dropped: receive buffer full", plural(*count, "datagram", "datagrams"))
            }
        }
    }
}

fn byte_unit(bytes: usize) -> &'static str {
    plural(bytes as u64, "byte", "bytes")
}

fn foreign_reason(reason: ForeignReason) -> &'static str {
    match reason {
        ForeignReason::Peer => "not from the target",
        ForeignReason::Content => "content matches no ping",
        ForeignReason::Unreflected => "our own ping came back unchanged; the target does not support STAMP",
        ForeignReason::NeverSent => "sequence number was never sent",
        ForeignReason::TooLate => "reply to a ping sent too long ago",
    }
}

/// Removes the error number that Rust appends to system errors.
fn strip_os_error_code(error: &str) -> &str {
    error.split(" (os error").next().unwrap_or_default()
}

/// Summary of one target.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    target: Arc<str>,
    peer: SocketAddr,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    elapsed: Duration,
    #[serde(flatten)]
    report: PingStatistics,
}

impl Summary {
    pub(super) fn new((target, peer): (Arc<str>, SocketAddr), elapsed: Duration, report: PingStatistics) -> Self {
        Self { command: "ping", target, peer, elapsed, report }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        writeln!(f, "--- {} ping statistics ---", Escaped(self.target.as_bytes()))?;
        write!(f, "{} sent, {} received, {} lost, {} late", report.sent, report.received, report.lost, report.late)?;
        for (count, label) in other_counts(report).into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {label}")?;
        }
        write!(f, ", time {}", HumanDuration(self.elapsed))?;
        match (report.loss, report.loss_ci95) {
            (Some(loss), Some((low, high))) => {
                let decided = report.sent - report.waiting;
                let scope = match report.waiting {
                    0 => String::new(),
                    waiting => format!(" of {decided}, without {waiting} in flight"),
                };
                let [loss, low, high] = [loss, low, high].map(|ratio| ratio * 100.0);
                write!(f, "\nloss {loss:.1} %{scope} (95 % interval {low:.1} to {high:.1} %)")?;
            }
            _ if report.refused > 0 => {
                f.write_str("\nloss unknown: every ping was refused")?;
            }
            _ if report.waiting > 0 => f.write_str("\nloss unknown: all pings were still in flight")?,
            _ => f.write_str("\nloss unknown: no ping was sent")?,
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
            let paused = HumanDuration(report.paused);
            write!(
                f,
                "\nthis process was stalled for {paused} (stopped or output blocked); nothing was sent meanwhile"
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
        (report.waiting, "in flight"),
        (report.duplicates, plural(report.duplicates, "duplicate", "duplicates")),
        (report.reordered, "out of order"),
        (report.corrupt, "corrupted"),
        (report.foreign, "unexpected"),
        (report.local_drops, "dropped (receive buffer full)"),
    ]
}

/// Writes the clock of the round-trip times and the delay added by this host.
fn write_clock(report: &PingStatistics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let clock = match report.clock {
        Some(RttClocks::Kernel) => "kernel timestamps",
        Some(RttClocks::Monotonic) => "monotonic clock",
        Some(RttClocks::Mixed) => "kernel timestamps where available, else monotonic clock",
        None => return Ok(()),
    };
    write!(f, "\nclock: {clock}")?;
    if let Some(host) = &report.host {
        let (p50, p99) = (HumanDuration(host.p50), HumanDuration(host.p99));
        write!(f, "; local overhead excluded: p50 {p50}, p99 {p99}")?;
    }
    if report.clock_steps > 0 {
        let round_trips = plural(report.clock_steps, "round trip", "round trips");
        write!(f, "; the wall clock was set during {} {round_trips}", report.clock_steps)?;
    }
    Ok(())
}

fn write_one_way(ways: &OneWayStatistics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let percent = |loss: Option<f64>| loss.map_or(String::new(), |loss| format!(" ({:.1} %)", loss * 100.0));
    let (up, down) = (percent(ways.loss_up), percent(ways.loss_down));
    if ways.loss_up.is_none() {
        // Without a reply, the direction of every loss is unknown.
        return Ok(());
    }
    write!(f, "\nupstream loss {}{up}, downstream loss {}{down}", ways.lost_up, ways.lost_down)?;
    if ways.lost_somewhere > 0 {
        write!(f, ", direction unknown for {} (after the last reply)", ways.lost_somewhere)?;
    }
    for (name, summary) in [
        ("reflector turnaround", &ways.server),
        ("upstream delay above minimum", &ways.up_above_min),
        ("downstream delay above minimum", &ways.down_above_min),
    ] {
        if let Some(summary) = summary {
            write!(f, "\n{name}: {summary}")?;
        }
    }
    Ok(())
}

/// Status line of a terminal.
pub(super) fn status_line<'s>(senders: impl Iterator<Item = &'s PingClient>, elapsed: Duration) -> String {
    let (mut sent, mut received, mut lost) = (0, 0, 0);
    let mut rtts = String::new();
    for sender in senders {
        let report = sender.statistics();
        sent += report.sent;
        received += report.received;
        lost += report.lost + report.late;
        if let Some(rtt) = report.rtt {
            rtts = format!(", rtt p50 {} p99 {}", HumanDuration(rtt.p50), HumanDuration(rtt.p99));
        }
    }
    format!("{sent} sent, {received} received, {lost} lost or late{rtts}, {:.0} s", elapsed.as_secs_f64())
}

/// Interim results on SIGQUIT, as ping(8) prints them.
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
    use crate::commands::report::TargetEvent;
    use crate::probe::PingEvent;
    use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
    use std::time::Duration;

    const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

    fn line(event: PingEvent, is_alone: bool) -> String {
        TargetEvent::new(event, ("h:1".into(), PEER), is_alone).to_string()
    }

    #[test]
    fn each_ping_has_its_line() {
        assert_eq!(line(PingEvent::Lost { seq: 4 }, true), "timeout 4: no reply in time");
        assert_eq!(line(PingEvent::Lost { seq: 4 }, false), "h:1: timeout 4: no reply in time");
        let late = PingEvent::Late { seq: 3, rtt: Duration::from_millis(1500), reordered: true };
        assert_eq!(line(late, true), "late reply 3: 1.50 s, out of order");
        let error = "Network is unreachable (os error 101)".to_owned();
        assert_eq!(line(PingEvent::SendError { seq: 1, error }, true), "could not send 1: Network is unreachable");
    }

    #[test]
    fn json_puts_the_type_first_and_the_peer_last() {
        let line = TargetEvent::new(PingEvent::Lost { seq: 4 }, ("h:1".into(), PEER), true);
        assert_eq!(
            serde_json::to_string(&line).expect("plain data"),
            r#"{"type":"lost","seq":4,"target":"h:1","peer":"127.0.0.1:1"}"#
        );
    }
}
