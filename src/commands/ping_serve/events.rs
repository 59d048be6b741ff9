//! What the echo says: how it loses, what became of each datagram, what it all came to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::commands::report::{Report, write_dropped_events};
use crate::impair::{Impairment, LossModel, PlannedDatagram};
use crate::probe::{ClientCounters, EchoCounters, EchoEvent};
use crate::time::{HumanDuration, serialize_ns};

/// Clients the text summary lists; JSON has all.
const MAX_LISTED_CLIENTS: usize = 20;

/// Everything `ping-serve` says on stdout.
pub(super) type PingServeReport = Report<PingServeEvent, Summary>;

/// What it says before the end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PingServeEvent {
    /// It listens.
    Listening(Listening),
    /// A datagram came, was dropped, was answered.
    Echo(EchoEvent),
    /// A line of `--plan`.
    #[serde(serialize_with = "planned")]
    Planned(PlannedDatagram),
}

fn planned<S: serde::Serializer>(planned: &PlannedDatagram, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename = "planned")]
    struct Tagged<'p> {
        #[serde(flatten)]
        planned: &'p PlannedDatagram,
    }
    Tagged { planned }.serialize(serializer)
}

impl fmt::Display for PingServeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Echo(fact) => write_echo_event(fact, f),
            Self::Planned(planned) => planned.fmt(f),
        }
    }
}

/// Where it listens and what it will do.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "listening")]
pub(super) struct Listening {
    addresses: Vec<String>,
    seed: u64,
    loss: String,
    #[serde(skip)]
    is_textbook: bool,
    #[serde(skip)]
    is_honest: bool,
    #[serde(skip)]
    is_public: bool,
}

impl Listening {
    /// What is promised.
    pub(super) fn new(addresses: Vec<String>, impairment: &Impairment, is_public: bool) -> Self {
        Self {
            is_public,
            addresses,
            seed: impairment.seed,
            loss: impairment.loss.to_string(),
            is_textbook: impairment.loss == LossModel::textbook(),
            is_honest: !impairment.loss.is_possible(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "echoing on {}, upper-cased; ", self.addresses.join(" and "))?;
        match (self.is_textbook, self.is_honest) {
            (true, _) => f.write_str("a random number from 0 to 10 below 4 means lost, so 4 of 11 are (36.4 %)")?,
            (_, true) => f.write_str("nothing is lost on purpose")?,
            _ => write!(f, "lost on purpose: {}", self.loss)?,
        }
        write!(f, "; --seed {}", self.seed)?;
        if self.is_public { Ok(()) } else { f.write_str("; --bind '*:PORT' lets others in") }
    }
}

fn write_echo_event(event: &EchoEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match event {
        EchoEvent::Received { peer, bytes } => write!(f, "received {bytes} bytes from {peer}"),
        EchoEvent::Dropped { peer, number, cause, .. } => {
            write!(f, "dropped on purpose: number {number} from {peer}, {cause}")
        }
        EchoEvent::Refused { peer, reason } => write!(f, "not answered: {peer}, {reason}"),
        EchoEvent::Sent { peer, number, bytes, delay, .. } if delay.is_zero() => {
            write!(f, "sent {bytes} bytes to {peer}, number {number}")
        }
        EchoEvent::Sent { peer, number, bytes, delay, .. } => {
            write!(f, "holds {bytes} bytes for {peer}, number {number}, to be sent in {}", HumanDuration(*delay))
        }
        EchoEvent::DelayFull { peer } => write!(f, "dropped: too many answers are being held, this one for {peer}"),
        EchoEvent::NotSent { error } => write!(f, "could not send: {error}"),
        EchoEvent::LocalDrop { count } => write!(f, "{count} datagrams found no room in our own buffer"),
    }
}

/// What it all came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    seed: u64,
    #[serde(flatten)]
    tally: EchoCounters,
    dropped_events: u64,
    clients: Vec<ClientCounters>,
    #[serde(skip)]
    is_plan: bool,
}

impl Summary {
    /// The end of a run.
    pub(super) fn new(
        tally: EchoCounters,
        clients: Vec<ClientCounters>,
        elapsed: Duration,
        seed: u64,
        dropped_events: u64,
    ) -> Self {
        Self { command: "ping-serve", elapsed, seed, tally, dropped_events, clients, is_plan: false }
    }

    /// The end of a plan: the seed that makes it come true.
    pub(super) fn of_plan(seed: u64) -> Self {
        Self { is_plan: true, ..Self::new(EchoCounters::default(), Vec::new(), Duration::ZERO, seed, 0) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plan {
            return write!(f, "--- what --seed {} does to the first client; each has a plan of its own ---", self.seed);
        }
        let EchoCounters { received, sent, lost_in, lost_out, .. } = &self.tally;
        writeln!(f, "--- {received} datagrams in {}, --seed {} ---", HumanDuration(self.elapsed), self.seed)?;
        write!(f, "{received} received, {} dropped on purpose, {sent} sent", lost_in + lost_out)?;
        let others = [
            (self.tally.held, "held until the end and never sent"),
            (self.tally.queue_full, "over the rate"),
            (self.tally.delay_full, "found no room to be held"),
            (self.tally.repeated, "repeated"),
            (self.tally.oversize, "too large"),
            (self.tally.bad_source, "from a port that would answer back"),
            (self.tally.looping, "going round in a loop"),
            (self.tally.rate_limited, "over the limit for strangers"),
            (self.tally.malformed, "malformed"),
            (self.tally.unauthentic, "not authentic"),
            (self.tally.not_sent, "could not be sent"),
            (self.tally.local_drops, "dropped by our own buffer"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
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
