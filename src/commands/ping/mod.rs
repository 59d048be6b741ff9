//! `netlab ping`: measures round-trip times and loss.
//!
//! Owns the flags and the course of a run: resolve the targets, ping all of them in one loop, print events
//! and summaries, evaluate `--fail-if`. The protocol is in `probe`.

mod events;
mod observer;
mod summary;

pub(in crate::commands) use events::list_events;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{duration, number, positive_duration, read_key, size};
use super::dialogue_trace::{DatagramDescriber, DatagramTrace, TraceArgs};
use super::fail_if::FailIf;
use super::peer::{AddressArgs, Peer, check_hosts, join_textbook_port};
use super::plot_data::PlotData;
use super::report::skip_failed_targets;
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::mac::MacKey;
use crate::net::datagram::{DatagramTimeouts, Endpoint, run_client};
use crate::net::{self, Signals, SocketOptions};
use crate::output::{Format, Output, StatusLine, WaitNotice, escaped};
use crate::probe::{PingClient, PingConfig, ProbeEncoding, check_size, explain};
use crate::protocol::TracedDatagrams;
use crate::stop::StopConditions;
use crate::time::Moment;
use observer::{Observer, TargetRun, TracedPing};
use summary::FinalReport;

/// Port of the textbook.
const DEFAULT_PORT: u16 = 12_000;
/// Minimum interval to other hosts without `--i-own-this-target`. For unprivileged users, fping allows 10 ms
/// and ping 2 ms.
const MIN_REMOTE_INTERVAL: Duration = Duration::from_millis(2);

/// Measure round-trip times and loss with UDP datagrams.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab ping 127.0.0.1:12000 --timeout 1s
  netlab ping 127.0.0.1 -c 100 -i 20ms --fail-if 'loss>50%'")]
pub(crate) struct Ping {
    /// Hosts to ping [default port: 12000]
    #[arg(required = true, value_name = "HOST[:PORT]")]
    targets: Vec<Peer>,

    /// Send N pings; 0 = until interrupted [default: 10]
    ///
    /// With --flood the default is 0.
    #[arg(short, long, value_name = "N", value_parser = number::<u64>(0..))]
    count: Option<u64>,

    /// Time between pings; 0 = stop and wait
    ///
    /// The schedule is absolute: a slow reply does not delay the next ping. With 0 the next ping is sent when
    /// the last one was answered or has timed out, as in the textbook.
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,

    /// Time to wait for a reply
    ///
    /// A reply that arrives after this time is late.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive_duration)]
    timeout: Duration,

    /// Time to wait for late replies after the timeout [default: same as --timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration, hide_short_help = true)]
    linger: Option<Duration>,

    /// Time limit for the whole run
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    /// Pad each ping to SIZE bytes
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,

    /// Send TEXT unchanged, one ping at a time
    ///
    /// TEXT does not identify the ping, so each ping is sent from a port of its own, after the previous one
    /// was answered or has timed out.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["size", "wire", "flood"])]
    message: Option<String>,

    /// Format: text or stamp (RFC 8762)
    ///
    /// text works with any UDP echo server; stamp also measures loss and delay of each direction.
    #[arg(long, value_enum, default_value_t = Encoding::Text, hide_possible_values = true)]
    wire: Encoding,

    /// Authenticate STAMP packets with the key in FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    /// Send as fast as replies arrive
    #[arg(long, conflicts_with = "interval")]
    flood: bool,

    /// Maximum number of pings in flight with --flood
    #[arg(long, value_name = "N", default_value_t = 64, hide_short_help = true, value_parser = number::<u16>(1..=u16::MAX))]
    window: u16,

    /// Exit 1 if EXPR holds, e.g. 'loss>5%'; repeatable
    #[arg(long, value_name = "EXPR", value_parser = FailIf::parse::<events::Summary>)]
    fail_if: Vec<FailIf>,

    /// Plot the round-trip times, even if stdout is not a terminal
    #[arg(long, hide_short_help = true)]
    plot: bool,

    /// Write a chart of the round-trip times to FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    svg: Option<PathBuf>,

    #[command(flatten)]
    trace: TraceArgs,

    #[command(flatten)]
    addressing: AddressArgs,

    /// Time to live (IPv4) or hop limit (IPv6)
    #[arg(long, value_name = "N", hide_short_help = true, help_heading = "Network", value_parser = number::<u8>(1..=u8::MAX))]
    ttl: Option<u8>,

    /// Differentiated services code point, 0 to 63
    #[arg(long, value_name = "N", hide_short_help = true, help_heading = "Network", value_parser = number::<u8>(0..=63))]
    dscp: Option<u8>,

    /// Allow --flood and intervals below 2 ms beyond loopback
    #[arg(long, hide_short_help = true, help_heading = "Network")]
    i_own_this_target: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// Text of the textbook, for any echo server
    Text,
    /// STAMP (RFC 8762), for each direction separately
    Stamp,
}

impl Ping {
    /// Pings all targets and returns the exit code.
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        if let Some(file) = &self.svg {
            disk::check_writable(file)?;
        }
        if self.key_file.is_some() && self.wire != Encoding::Stamp {
            return Err(Error::new(Exit::Usage, "--key-file requires --wire stamp")
                .remedy("add --wire stamp, or leave out --key-file"));
        }
        let deadline = self.deadline.map(|deadline| net::now() + deadline);
        let before_signals = StopConditions::at_deadline(deadline, net::now);
        let key = self.key_file.as_deref().map(|file| read_key(file, &before_signals)).transpose()?;
        self.validate_size(key.as_ref())?;
        let mut signals = Signals::install()?.with_sigquit()?;
        let (peers, note) = join_textbook_port(&self.targets);
        check_hosts(&peers)?;
        note.iter().for_each(|note| output.note(note));
        let stop = signals.stop_conditions(deadline);
        output.stop_on(stop.clone());
        let resolved = peers.iter().map(|target| {
            let peer = self.addressing.resolve(target, DEFAULT_PORT, deadline, &mut signals)?;
            Ok((target.host_and_port(peer), peer))
        });
        let (targets, unresolved) = skip_failed_targets(resolved, &mut output)?;
        self.check_load_allowed(&targets.iter().map(|(_, peer)| *peer).collect::<Vec<_>>())?;

        let style = output.style();
        let plots = self.svg.is_some() || self.plot || (style.format == Format::Text && output.is_terminal());
        // A flood prints no line per ping, except as JSON or with -v.
        let events_wanted =
            style.prints_events() && (!self.flood || style.format == Format::Json || style.is_verbose());
        let trace = self.trace.client_trace(&output);
        let started = net::now();
        let connected = targets.into_iter().enumerate().map(|(index, (target, peer))| {
            let encoding = self.encoding(key.as_ref());
            let config = self.sender_config(peer, started);
            let sender = PingClient::new(config, encoding, peer, started + self.stagger(index));
            let describer = DatagramDescriber {
                describe_sent: explain::describe_request,
                describe_received: explain::describe_reply,
            };
            let sender = TracedDatagrams::new(sender, DatagramTrace::for_client(&trace, peer, describer));
            let endpoint = Endpoint::connected(sender, peer, self.socket_options(), events_wanted || plots);
            let mut endpoint = endpoint.map_err(|failure| Error::from(failure).with_context(&target))?;
            if style.is_verbose() || trace.is_enabled() {
                endpoint.receive_from_other_peers();
            }
            Ok((endpoint, TargetRun { target: target.into(), peer, plot_data: PlotData::new(plots) }))
        });
        let (connected, unconnected) = skip_failed_targets(connected, &mut output)?;
        let (mut endpoints, runs): (Vec<_>, Vec<_>) = connected.into_iter().unzip();
        if events_wanted && style.format == Format::Text {
            output.write_text(escaped(&self.start_message(runs.iter().map(|run| run.peer))))?;
        }
        let status_line = if trace.is_enabled() { StatusLine::hidden() } else { StatusLine::new(style) };
        let notice = WaitNotice::new(&output);
        let mut observer =
            Observer { output, runs, events_wanted, status_line, trace, notice, started, failure: Ok(()) };
        let timeouts = DatagramTimeouts { deadline, ..DatagramTimeouts::default() };
        let ended = run_client(&mut endpoints, timeouts, &mut signals, &mut observer);
        observer.status_line.clear();
        observer.failure?;
        let senders: Vec<PingClient> =
            endpoints.into_iter().map(|endpoint: Endpoint<TracedPing>| endpoint.into_protocol().inner).collect();
        let report = FinalReport {
            fail_if: &self.fail_if,
            plot: self.plot,
            svg: self.svg.as_deref(),
            elapsed: net::now() - started,
            ended,
            stop,
        };
        let exit = report.write(&senders, &observer.runs, observer.output)?;
        Ok(Exit::combined([unresolved, unconnected, exit]))
    }

    /// Rejects a size that is too large or too small for a ping.
    fn validate_size(&self, key: Option<&MacKey>) -> Result<()> {
        // Assumed number of pings in an unlimited run: at intervals of 2 ms, more than 200 days.
        const UNLIMITED_COUNT: u64 = 9_999_999_999;
        let Some(size) = self.size else { return Ok(()) };
        check_size(size)?;
        let min_size = self.encoding(key).min_size(self.probe_count().unwrap_or(UNLIMITED_COUNT));
        if size < min_size {
            return Err(Error::new(Exit::Usage, format!("--size {size} is too small"))
                .expected(format!("at least {min_size} bytes, for the sequence number and the time")));
        }
        Ok(())
    }

    fn check_load_allowed(&self, peers: &[SocketAddr]) -> Result<()> {
        let is_load = self.flood || (self.interval < MIN_REMOTE_INTERVAL && !self.interval.is_zero());
        match peers.iter().find(|peer| !peer.ip().to_canonical().is_loopback()) {
            Some(peer) if is_load && !self.i_own_this_target => {
                let message = format!("this rate is not allowed to {}", peer.ip());
                Err(Failure::new(FailureKind::LoadNotAllowed, message)
                    .expected("a target on loopback, or at least 2 ms between pings")
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Number of pings; `None` is unlimited.
    fn probe_count(&self) -> Option<u64> {
        let unlimited = Some(0);
        let count = self.count.or(if self.flood { unlimited } else { PingConfig::textbook().count });
        count.filter(|count| *count > 0)
    }

    fn sender_config(&self, peer: SocketAddr, started: Moment) -> PingConfig {
        // With -i 0, a target that replies or refuses at once would otherwise be flooded.
        let is_unlimited = self.i_own_this_target || peer.ip().to_canonical().is_loopback();
        let config = PingConfig {
            count: self.probe_count(),
            min_interval: if is_unlimited { Duration::ZERO } else { MIN_REMOTE_INTERVAL },
            deadline: self.deadline.map(|deadline| started + deadline),
            interval: self.interval,
            timeout: self.timeout,
            linger: self.linger.unwrap_or(self.timeout),
            ..PingConfig::textbook()
        };
        match (self.flood, self.interval.is_zero()) {
            (true, _) => config.flood(usize::from(self.window)),
            (false, true) => config.stop_and_wait(),
            (false, false) => config,
        }
    }

    fn encoding(&self, key: Option<&MacKey>) -> ProbeEncoding {
        match (&self.message, self.wire) {
            (Some(message), _) => ProbeEncoding::FixedMessage { message: message.clone().into_bytes() },
            (None, Encoding::Text) => ProbeEncoding::Text { size: self.size.unwrap_or(0) },
            // Zero means that there is no session identifier (RFC 8972 §3).
            (None, Encoding::Stamp) => ProbeEncoding::Stamp {
                ssid: rand::random::<u16>().max(1),
                size: self.size.unwrap_or(0),
                key: key.cloned(),
            },
        }
    }

    fn socket_options(&self) -> SocketOptions {
        SocketOptions { source: self.addressing.source, ttl: self.ttl, dscp: self.dscp }
    }

    /// Offset of the first ping to a target: the pings to several targets are spread over the interval.
    fn stagger(&self, index: usize) -> Duration {
        let count = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        (self.interval / count).saturating_mul(index)
    }

    fn start_message(&self, peers: impl Iterator<Item = SocketAddr>) -> String {
        let peers: Vec<String> = peers.map(|peer| peer.to_string()).collect();
        let pace = match (self.flood, self.interval.is_zero()) {
            (true, _) => "as fast as replies arrive".to_owned(),
            (false, true) => "each after the reply to the previous one".to_owned(),
            (false, false) => format!("every {}", humantime::format_duration(self.interval)),
        };
        format!(
            "pinging {}, {pace}; replies after {} count as late",
            peers.join(" and "),
            humantime::format_duration(self.timeout)
        )
    }
}
