//! Text output of `ping-serve`: start-up line, one line per datagram, summary.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::report::{plural, write_closing_note, write_dropped_events};
use crate::commands::schema::EventSchemas;
use crate::impair::{DropReason, Impairment, LossModel, PlannedDatagram};
use crate::output::{Event, TextTime, Tone};
use crate::probe::{ClientCounters, EchoCounters, EchoEvent, EchoRejectReason};
use crate::time::{HumanDuration, Nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<PingServeEvent>("ping-serve");
    schemas.add::<Summary>("ping-serve");
}

/// Maximum number of clients in the text summary; JSON lists all.
const MAX_LISTED_CLIENTS: usize = 20;

#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum PingServeEvent {
    Listening(Listening),
    Echo(EchoEvent),
    Planned(PlannedDatagram),
}

impl Event for PingServeEvent {
    fn text_time(&self) -> TextTime {
        if matches!(self, Self::Listening(_) | Self::Planned(_)) { TextTime::Never } else { TextTime::Always }
    }

    fn tone(&self) -> Tone {
        match self {
            Self::Echo(EchoEvent::Rejected { .. } | EchoEvent::NotSent { .. }) => Tone::Bad,
            Self::Echo(EchoEvent::Dropped { .. } | EchoEvent::DelayFull { .. } | EchoEvent::LocalDrop { .. }) => {
                Tone::Warning
            }
            Self::Listening(_) | Self::Echo(_) | Self::Planned(_) => Tone::Plain,
        }
    }
}

impl fmt::Display for PingServeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Echo(event) => write_echo_event(event, f),
            Self::Planned(planned) => write_planned(planned, f),
        }
    }
}

/// Addresses and configured loss of the server.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "listening")]
pub(super) struct Listening {
    addresses: Vec<String>,
    seed: u64,
    loss: String,
    #[serde(skip)]
    is_textbook: bool,
    #[serde(skip)]
    is_lossless: bool,
    #[serde(skip)]
    is_public: bool,
}

impl Listening {
    pub(super) fn new(addresses: Vec<String>, impairment: &Impairment, is_public: bool) -> Self {
        Self {
            is_public,
            addresses,
            seed: impairment.seed,
            loss: impairment.loss.to_string(),
            is_textbook: impairment.loss == LossModel::textbook(),
            is_lossless: !impairment.loss.is_possible(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("echoing in upper case on")?;
        self.addresses.iter().try_for_each(|address| write!(f, "\n  {address}"))?;
        f.write_str("\n")?;
        match (self.is_textbook, self.is_lossless) {
            (true, _) => f.write_str("dropping 4 of 11 datagrams at random (36.4 %)")?,
            (_, true) => f.write_str("dropping nothing on purpose")?,
            _ => write!(f, "dropping on purpose: {}", self.loss)?,
        }
        write!(f, ", seed {}", self.seed)?;
        write_closing_note(f, self.is_public)
    }
}

fn write_echo_event(event: &EchoEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match event {
        EchoEvent::Received { peer, bytes } => write!(f, "received {bytes} {} from {peer}", byte_unit(*bytes)),
        EchoEvent::Dropped { peer, number, cause, .. } => {
            write!(f, "dropped on purpose: datagram {number} from {peer}, {}", describe_drop(*cause))
        }
        EchoEvent::Rejected { peer, reason } => write!(f, "no reply to {peer}: {}", describe_rejection(*reason)),
        EchoEvent::Sent { peer, number, bytes, delay, .. } if delay.is_zero() => {
            write!(f, "sent reply {number} to {peer} ({bytes} {})", byte_unit(*bytes))
        }
        EchoEvent::Sent { peer, number, bytes, delay, .. } => {
            let (unit, delay) = (byte_unit(*bytes), HumanDuration(*delay));
            write!(f, "holding reply {number} to {peer} ({bytes} {unit}) for {delay}")
        }
        EchoEvent::DelayFull { peer } => write!(f, "dropped reply to {peer}: delay queue full"),
        EchoEvent::NotSent { error } => write!(f, "could not send a reply: {error}"),
        EchoEvent::LocalDrop { count } => {
            write!(f, "{count} {} dropped: receive buffer full", plural(*count, "datagram", "datagrams"))
        }
    }
}

/// Writes `3: dropped (inbound loss)`, `4: delivered`, `5: delivered after 20.1 ms, duplicate (corrupted)`.
fn write_planned(planned: &PlannedDatagram, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}: ", planned.number)?;
    if let Some(reason) = planned.dropped {
        return write!(f, "dropped ({})", describe_drop(reason));
    }
    for (at, copy) in planned.copies.iter().enumerate() {
        f.write_str(if at == 0 { "delivered" } else { ", duplicate" })?;
        if !copy.delay.is_zero() {
            write!(f, " after {}", HumanDuration(copy.delay))?;
        }
        if copy.corrupt {
            f.write_str(" (corrupted)")?;
        }
    }
    Ok(())
}

fn describe_drop(reason: DropReason) -> &'static str {
    match reason {
        DropReason::LossIn => "inbound loss",
        DropReason::LossOut => "outbound loss",
        DropReason::QueueFull => "queue full",
    }
}

fn describe_rejection(reason: EchoRejectReason) -> &'static str {
    match reason {
        EchoRejectReason::Oversize => "larger than the receive buffer",
        EchoRejectReason::BadSource => "source port of a service that answers replies",
        EchoRejectReason::Loop => "suspected reply loop",
        EchoRejectReason::RateLimited => "over the rate limit",
        EchoRejectReason::Malformed => "neither text nor a STAMP packet",
        EchoRejectReason::Unauthentic => "authentication failed",
    }
}

fn byte_unit(bytes: usize) -> &'static str {
    plural(bytes as u64, "byte", "bytes")
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    elapsed: Duration,
    seed: u64,
    #[serde(flatten)]
    counters: EchoCounters,
    dropped_events: u64,
    clients: Vec<ClientCounters>,
    #[serde(skip)]
    is_plan: bool,
}

impl Summary {
    pub(super) fn new(
        counters: EchoCounters,
        clients: Vec<ClientCounters>,
        elapsed: Duration,
        seed: u64,
        dropped_events: u64,
    ) -> Self {
        Self { command: "ping-serve", elapsed, seed, counters, dropped_events, clients, is_plan: false }
    }

    /// Summary of `--plan`, with the seed that repeats it.
    pub(super) fn of_plan(seed: u64) -> Self {
        Self { is_plan: true, ..Self::new(EchoCounters::default(), Vec::new(), Duration::ZERO, seed, 0) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plan {
            return write!(f, "--- plan for the first client, seed {}; decisions differ per client ---", self.seed);
        }
        let EchoCounters { received, sent, lost_in, lost_out, .. } = &self.counters;
        writeln!(f, "--- echoed for {}, seed {} ---", HumanDuration(self.elapsed), self.seed)?;
        write!(f, "{received} received, {} dropped on purpose, {sent} sent", lost_in + lost_out)?;
        let others = [
            (self.counters.held, "not sent (still queued at the end)"),
            (self.counters.queue_full, "dropped (link queue full)"),
            (self.counters.delay_full, "dropped (delay queue full)"),
            (self.counters.repeated, plural(self.counters.repeated, "duplicate request", "duplicate requests")),
            (self.counters.oversize, "too large"),
            (self.counters.bad_source, "ignored (source port of an echoing service)"),
            (self.counters.looping, "suppressed as a loop"),
            (self.counters.rate_limited, "rate-limited"),
            (self.counters.malformed, "malformed"),
            (self.counters.unauthentic, "failed authentication"),
            (self.counters.not_sent, "not sent (system error)"),
            (self.counters.local_drops, "dropped (receive buffer full)"),
        ];
        for (count, label) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {label}")?;
        }
        for client in self.clients.iter().take(MAX_LISTED_CLIENTS) {
            write!(
                f,
                "\n  client {}: {}, {} received, {} sent",
                client.client, client.peer, client.received, client.sent
            )?;
        }
        if let Some(more @ 1..) = self.clients.len().checked_sub(MAX_LISTED_CLIENTS) {
            write!(f, "\n  and {more} more")?;
        }
        write_dropped_events(f, self.dropped_events)
    }
}

#[cfg(test)]
mod tests {
    use super::PingServeEvent;
    use crate::impair::{DropReason, PlannedCopy, PlannedDatagram};
    use std::time::Duration;

    #[test]
    fn a_plan_shows_drops_copies_and_corruption() {
        let copy = |millis, corrupt| PlannedCopy { delay: Duration::from_millis(millis), corrupt };
        let text =
            |dropped, copies| PingServeEvent::Planned(PlannedDatagram { number: 5, dropped, copies }).to_string();
        assert_eq!(text(Some(DropReason::LossIn), Vec::new()), "5: dropped (inbound loss)");
        assert_eq!(text(None, vec![copy(20, false)]), "5: delivered after 20.0 ms");
        assert_eq!(
            text(None, vec![copy(0, true), copy(30, false)]),
            "5: delivered (corrupted), duplicate after 30.0 ms"
        );
    }
}
