//! `netlab ping`: a pinger whose numbers can be trusted.
//!
//! Owns the flags and the story of a run: find the targets, ping them all in one loop, tell each
//! fact, sum up, judge. The rules are in `probe`; [`ear`] tells what happens, [`events`] words it, [`record`]
//! keeps what the pictures are drawn from, [`verdict`] judges.

mod events;
mod observer;
mod plot_data;
mod summary;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{FamilyArgs, Peer, duration, positive_duration, read_key, size};
use super::fail_if::FailIf;
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::mac::MacKey;
use crate::net::datagram::{DatagramTimeouts, Endpoint, run_client};
use crate::net::{self, Signals, SocketOptions};
use crate::output::{Format, Output, StatusLine, Style};
use crate::probe::{ProbeEncoding, Sender, SenderConfig, check_size};
use crate::time::Moment;
use events::PingReport;
use observer::{Observer, TargetRun};
use plot_data::PlotData;
use summary::{FIGURES, FinalReport};

/// The textbook's port.
const DEFAULT_PORT: u16 = 12_000;
/// What a stranger's network need not bear without its owner's word: fping's limit is 10 ms for
/// those who are not root, ping's 2 ms.
const MIN_REMOTE_INTERVAL: Duration = Duration::from_millis(2);

/// Measure round trips and loss with UDP datagrams.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab ping 127.0.0.1:12000 --timeout 1s
  netlab ping 127.0.0.1 -c 100 -i 20ms --fail-if 'loss>50%'")]
pub(crate) struct Ping {
    /// Whom to ping; the port is 12000 unless given
    #[arg(required = true, value_name = "HOST[:PORT]")]
    targets: Vec<Peer>,

    /// Send N pings; 0 is until stopped
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,

    /// Between two pings; 0 waits for each answer
    ///
    /// The schedule is absolute: a slow answer does not shift the next ping. With 0 the next ping
    /// follows as soon as the last is answered or timed out, as in the textbook.
    #[arg(short, long, value_name = "D", default_value = "1s", value_parser = duration)]
    interval: Duration,

    /// An answer later than this is late
    #[arg(long, value_name = "D", default_value = "1s", value_parser = positive_duration)]
    timeout: Duration,

    /// Keep listening for late answers for D more; the time-out unless given
    #[arg(long, value_name = "D", value_parser = duration, hide_short_help = true)]
    linger: Option<Duration>,

    /// The longest time for everything
    #[arg(short = 'w', long, value_name = "D", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    /// Fill each ping up to SIZE bytes
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,

    /// Send TEXT and nothing else, one ping at a time
    ///
    /// Nothing in it says which ping an answer belongs to, so each goes out from a port of its own
    /// and waits for the one before.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["size", "wire", "flood"])]
    message: Option<String>,

    /// text works against any echo, stamp (RFC 8762) tells up from down
    #[arg(long, value_enum, default_value_t = Encoding::Text, hide_default_value = true, hide_possible_values = true)]
    wire: Encoding,

    /// The key of authenticated STAMP
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    /// As fast as answers come
    #[arg(long, conflicts_with = "interval")]
    flood: bool,

    /// Pings in flight in a flood
    #[arg(long, value_name = "N", default_value_t = 64, hide_short_help = true, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,

    /// Exit 1 if this holds, e.g. 'loss>5%'; repeatable
    #[arg(long, value_name = "FIGURE>LIMIT", value_parser = |text: &str| FailIf::parse(text, FIGURES))]
    fail_if: Vec<FailIf>,

    /// Draw the round trips at the end, also where there is no terminal
    #[arg(long, hide_short_help = true)]
    plot: bool,

    /// Draw them into a chart
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    svg: Option<PathBuf>,

    #[command(flatten)]
    family: FamilyArgs,

    /// Send from this address of ours
    #[arg(long, value_name = "ADDRESS", hide_short_help = true, help_heading = "Network")]
    source: Option<IpAddr>,

    /// Time to live, or hop limit
    #[arg(long, value_name = "N", hide_short_help = true, help_heading = "Network", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,

    /// Differentiated services code point, 0 to 63
    #[arg(long, value_name = "N", hide_short_help = true, help_heading = "Network", value_parser = clap::value_parser!(u8).range(0..64))]
    dscp: Option<u8>,

    /// Flood, or ping faster than every 2 ms, beyond loopback
    #[arg(long, hide_short_help = true, help_heading = "Network")]
    i_own_this_target: bool,
}

/// How a ping is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// The textbook's words
    Text,
    /// STAMP, RFC 8762
    Stamp,
}

impl Ping {
    /// Pings all targets and judges.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        if let Some(file) = &self.svg {
            disk::check_writable(file)?;
        }
        if self.key_file.is_some() && self.wire != Encoding::Stamp {
            return Err(Error::new(Exit::Usage, "--key-file is of no use here")
                .expected("--wire stamp, whose packets a key can vouch for"));
        }
        let key = self.key_file.as_deref().map(read_key).transpose()?;
        self.validate_size(key.as_ref())?;
        let mut signals = Signals::install()?.with_sigquit()?;
        let mut peers = Vec::new();
        for target in &self.targets {
            peers.push(self.family.resolve(target, DEFAULT_PORT, &mut signals)?);
        }
        self.check_load_allowed(&peers)?;

        let mut output = Output::new(style);
        let draws = self.svg.is_some() || self.plot || (style.format == Format::Text && output.is_terminal());
        // Facts are only built if somebody reads them; a flood is not read line by line.
        let tells = !style.quiet && (!self.flood || style.format == Format::Json || style.verbose > 0);
        let started = net::now();
        let mut sides = Vec::new();
        let mut runs = Vec::new();
        for (place, (target, peer)) in self.targets.iter().zip(&peers).enumerate() {
            let wire = self.wire_format(key.as_ref());
            let pace = self.schedule(*peer, started);
            let sender = Sender::new(pace, wire, *peer, started + self.stagger(place));
            sides.push(Endpoint::connected(sender, *peer, self.origin(), tells || draws)?);
            runs.push(TargetRun { target: target.host_and_port(*peer).into(), plot_data: PlotData::new(draws) });
        }
        if tells && style.format == Format::Text {
            output.emit(&PingReport::Text(self.start_message(&peers)))?;
        }
        let live = StatusLine::new(output.style());
        let mut ear = Observer { output, runs, events_wanted: tells, status_line: live, started, failure: Ok(()) };
        let patience = DatagramTimeouts {
            deadline: self.deadline.map(|deadline| started + deadline),
            ..DatagramTimeouts::default()
        };
        let ended = run_client(&mut sides, patience, &mut signals, &mut ear);
        ear.status_line.clear();
        ear.failure?;
        let senders: Vec<Sender> = sides.into_iter().map(Endpoint::into_protocol).collect();
        let verdict = FinalReport {
            assertions: &self.fail_if,
            plot: self.plot,
            svg: self.svg.as_deref(),
            elapsed: net::now() - started,
            ended,
        };
        verdict.write(&senders, &ear.runs, ear.output)
    }

    /// Refuses what no ping can be.
    fn validate_size(&self, key: Option<&MacKey>) -> Result<()> {
        // What a run without end may come to: at 2 ms apart, two hundred days of it.
        const UNLIMITED_COUNT: u64 = 9_999_999_999;
        let Some(size) = self.size else { return Ok(()) };
        check_size(size)?;
        let least = self.wire_format(key).min_size(self.probe_count().unwrap_or(UNLIMITED_COUNT));
        if size < least {
            return Err(Error::new(
                Exit::Usage,
                format!("a ping of {size} octets has no room for its number and time"),
            )
            .expected(format!("at least {least} for these, or no --size at all")));
        }
        Ok(())
    }

    fn check_load_allowed(&self, peers: &[SocketAddr]) -> Result<()> {
        let is_load = self.flood || (self.interval < MIN_REMOTE_INTERVAL && !self.interval.is_zero());
        match peers.iter().find(|peer| !peer.ip().to_canonical().is_loopback()) {
            Some(peer) if is_load && !self.i_own_this_target => {
                Err(Error::new(Exit::Usage, format!("that many pings to {} could do harm", peer.ip()))
                    .expected("a target on loopback, or 2 ms between two pings")
                    .remedy("if it is yours to burden, say --i-own-this-target"))
            }
            _ => Ok(()),
        }
    }

    /// How many pings; none for until stopped.
    fn probe_count(&self) -> Option<u64> {
        let until_stopped = Some(0);
        let count = self.count.or(if self.flood { until_stopped } else { SenderConfig::textbook().count });
        count.filter(|count| *count > 0)
    }

    fn schedule(&self, peer: SocketAddr, started: Moment) -> SenderConfig {
        // What answers at once, or refuses, must not be asked at once again if it is somebody else's.
        let is_ours = self.i_own_this_target || peer.ip().to_canonical().is_loopback();
        let pace = SenderConfig {
            count: self.probe_count(),
            min_interval: if is_ours { Duration::ZERO } else { MIN_REMOTE_INTERVAL },
            deadline: self.deadline.map(|deadline| started + deadline),
            interval: self.interval,
            timeout: self.timeout,
            linger: self.linger.unwrap_or(self.timeout),
            ..SenderConfig::textbook()
        };
        match (self.flood, self.interval.is_zero()) {
            (true, _) => pace.flood(usize::from(self.window)),
            (false, true) => pace.stop_and_wait(),
            (false, false) => pace,
        }
    }

    fn wire_format(&self, key: Option<&MacKey>) -> ProbeEncoding {
        match (&self.message, self.wire) {
            (Some(message), _) => ProbeEncoding::FixedMessage { message: message.clone().into_bytes() },
            (None, Encoding::Text) => ProbeEncoding::Text { size: self.size.unwrap_or(0) },
            // Zero would be no identifier at all (RFC 8972 §3).
            (None, Encoding::Stamp) => ProbeEncoding::Stamp {
                ssid: rand::random::<u16>().max(1),
                size: self.size.unwrap_or(0),
                key: key.cloned(),
            },
        }
    }

    fn origin(&self) -> SocketOptions {
        SocketOptions { source: self.source, ttl: self.ttl, dscp: self.dscp }
    }

    /// Several targets share the interval evenly, so that their pings do not leave in one burst.
    fn stagger(&self, index: usize) -> Duration {
        let count = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        (self.interval / count).saturating_mul(place)
    }

    fn start_message(&self, peers: &[SocketAddr]) -> String {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let pace = match (self.flood, self.interval.is_zero()) {
            (true, _) => "as fast as answers come".to_owned(),
            (false, true) => "each after the answer to the one before".to_owned(),
            (false, false) => format!("every {}", humantime::format_duration(self.interval)),
        };
        format!(
            "pinging {}, {pace}, an answer is late after {}",
            peers.join(" and "),
            humantime::format_duration(self.timeout)
        )
    }
}
