//! `netlab heartbeat send`: heartbeats at a fixed interval, to one or more watchers.
//!
//! Owns the flags and the steps of a run: resolve the watchers, send beats to all of them in one loop, if wanted
//! for as long as a command runs, then send the stop messages. [`events`] has the texts.

mod events;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::DEFAULT_PORT;
use crate::commands::args::{number, positive_duration, read_key};
use crate::commands::dialogue_trace::{DatagramDescriber, DatagramTrace, TraceArgs};
use crate::commands::fail_if::{FailIf, check_all};
use crate::commands::peer::{AddressArgs, Peer, check_hosts, join_textbook_port};
use crate::commands::report::{self, TargetEvent, skip_failed_targets};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::heartbeat::{
    BeatEncoding, BeatEvent, BeatReport, BeatSender, BeatSenderConfig, Lifetime, MAX_INTERVAL, explain, is_valid_name,
};
use crate::host::{self, SupervisedCommand};
use crate::net::datagram::{DatagramObserver, DatagramTimeouts, Endpoint, StopReason, run_client};
use crate::net::{self, Signals, SocketOptions};
use crate::output::{Format, Output, WaitNotice, escaped};
use crate::protocol::TracedDatagrams;
use crate::stop::StopConditions;
use crate::time::{Moment, nanoseconds};
pub(in crate::commands) use events::list_events;
use events::{Summary, TargetSummary};

/// Time limit for the stop messages: three, 20 ms apart, with a large margin.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Send heartbeats at a fixed interval.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab heartbeat send 127.0.0.1:12001 --name web-1
  netlab heartbeat send watcher -i 5s --exec nginx -g 'daemon off;'")]
pub(super) struct HeartbeatSend {
    /// Watchers to send to [default port: 12001]
    #[arg(required = true, value_name = "HOST[:PORT]")]
    watchers: Vec<Peer>,

    /// Sender name [default: host name]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,

    /// Heartbeat interval
    ///
    /// Consecutive beats are between 90 and 100 % of the interval apart, which keeps senders that were
    /// started together from sending in step. The schedule is absolute, so errors do not add up.
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Stop after N beats; 0 = until interrupted
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<u64>(0..))]
    count: u64,

    /// Time limit for the whole run; ends with stop messages
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = positive_duration, conflicts_with = "exec")]
    deadline: Option<Duration>,

    /// Missed intervals after which watchers report this sender as down
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number::<u8>(1..=u8::MAX))]
    multiplier: u8,

    /// Request echoes and measure the round-trip time
    #[arg(long)]
    echo: bool,

    /// Send one beat and no stop message, for cron jobs
    ///
    /// The sequence number is the current time divided by the interval, which must be that of the cron
    /// job. The next run then sends the next number, and the watcher can detect missing runs.
    #[arg(long, conflicts_with_all = ["count", "exec"])]
    once: bool,

    /// Exit 1 if EXPR holds for a watcher, e.g. 'refused>0'; repeatable
    #[arg(long, value_name = "EXPR", value_parser = FailIf::parse::<TargetSummary>, conflicts_with = "exec", hide_short_help = true)]
    fail_if: Vec<FailIf>,

    /// Send beats while CMD runs, and return its exit code
    ///
    /// Takes all remaining arguments, optionally after --. CMD uses this terminal, so the output of netlab goes to
    /// stderr. The stop message carries the exit code of CMD. SIGTERM and SIGINT are passed on to CMD.
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true, conflicts_with = "count")]
    exec: Vec<OsString>,

    /// Format of the beats
    ///
    /// The textbook's beat is 'Heartbeat NUMBER SECONDS'. It has no name, no echo, no signature and no stop message.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", hide_short_help = true)]
    wire: Wire,

    /// Sign beats with the key in FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    /// Random seed; the same seed repeats a run
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = number::<u64>(0..))]
    seed: Option<u64>,

    #[command(flatten)]
    trace: TraceArgs,

    #[command(flatten)]
    addressing: AddressArgs,
}

/// Value of `--wire`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Wire {
    /// Beats with a name, an interval and a stop message
    #[default]
    Beat,
    /// A number and the time, as in the textbook's exercise
    Text,
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err("expected 1 to 64 bytes without white space".to_owned()) }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = positive_duration(text)?;
    if interval < Duration::from_millis(1) || interval > MAX_INTERVAL {
        return Err("expected an interval from 1ms to 24h".to_owned());
    }
    // A beat announces whole milliseconds; a fraction would make the announced interval too short.
    Ok(Duration::from_millis(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)))
}

impl HeartbeatSend {
    pub(super) fn run(&self, mut output: Output) -> Result<Exit> {
        let command = self.exec.strip_prefix(&[OsString::from("--")]).unwrap_or(&self.exec);
        command.first().map_or(Ok(()), host::check_program)?;
        if self.wire == Wire::Text && (self.echo || self.key_file.is_some() || self.name.is_some()) {
            return Err(Error::new(Exit::Usage, "--wire text has no --name, --echo or --key-file"));
        }
        let started = net::now();
        let deadline = self.deadline.map(|deadline| started + deadline);
        let before_signals = StopConditions::at_deadline(deadline, net::now);
        let key = self.key_file.as_deref().map(|file| read_key(file, &before_signals)).transpose()?;
        let name = self.sender_name()?;
        let mut signals = Signals::install()?;
        output.stop_on(signals.stop_conditions(deadline));
        let (peers, note) = join_textbook_port(&self.watchers);
        check_hosts(&peers)?;
        note.iter().for_each(|note| output.note(note));
        let resolved = peers.iter().map(|watcher| {
            let peer = self.addressing.resolve(watcher, DEFAULT_PORT, deadline, &mut signals)?;
            Ok((watcher.host_and_port(peer), peer))
        });
        let (watchers, unresolved) = skip_failed_targets(resolved, &mut output)?;
        let peers: Vec<SocketAddr> = watchers.iter().map(|(_, peer)| *peer).collect();
        let style = output.style();
        let lifetime = self.lifetime(started);
        let config = BeatSenderConfig {
            name: name.as_str().into(),
            // All runs of a cron job are one incarnation.
            incarnation: if self.once { 0 } else { rand::random::<u64>().max(1) },
            interval: self.interval,
            multiplier: self.multiplier,
            wants_echo: self.echo,
            encoding: match self.wire {
                Wire::Beat => BeatEncoding::Beat,
                Wire::Text => BeatEncoding::Text,
            },
            key,
        };
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let trace = self.trace.client_trace(&output);
        let mut endpoints = Vec::new();
        for (index, peer) in (0..).zip(&peers) {
            let sender = BeatSender::new(config.clone(), lifetime, seed.wrapping_add(index), started);
            let describer = DatagramDescriber {
                describe_sent: explain::describe_datagram,
                describe_received: explain::describe_datagram,
            };
            let sender = TracedDatagrams::new(sender, DatagramTrace::for_client(&trace, *peer, describer));
            // One unreachable watcher must not delay the beats to the others.
            endpoints.push(Endpoint::connect_when_reachable(
                sender,
                *peer,
                SocketOptions { source: self.addressing.source, ..SocketOptions::default() },
                style.prints_events(),
            )?);
        }
        let targets = watchers.into_iter().map(|(target, peer)| (target.into(), peer)).collect();
        let is_supervising = !command.is_empty();
        if is_supervising {
            output.leave_stdout();
        }
        let notice = self.echo.then(|| WaitNotice::new(&output));
        let mut observer = Observer { output, targets, is_supervising, is_stopping: false, result: Ok(()), notice };
        if !self.once {
            observer.write_text(&self.start_message(&name, &peers))?;
        }
        let supervised = if is_supervising {
            let waker = signals.waker()?;
            Some(SupervisedCommand::start(command, move || waker.wake())?)
        } else {
            None
        };
        run_senders(&mut endpoints, &mut signals, &mut observer, (supervised.as_ref(), deadline));
        observer.result?;
        let reports: Vec<BeatReport> = endpoints.iter().map(|endpoint| endpoint.protocol().inner.report()).collect();
        let code = supervised.as_ref().and_then(SupervisedCommand::exit_code);
        let elapsed = net::now() - started;
        let errors: Vec<Error> = match (code, command) {
            (Some(0), _) => Vec::new(),
            (Some(code), [program, ..]) => {
                vec![Error::new(Exit::ChildExit(code), format!("{} ended with exit code {code}", program.display()))]
            }
            _ => observer.targets.iter().zip(&reports).filter_map(|pair| self.target_error(pair)).collect(),
        };
        errors.iter().for_each(|error| observer.output.report_error(error));
        let exit = match code {
            Some(0) => Exit::Success,
            Some(code) => Exit::ChildExit(code),
            None => Exit::combined(errors.iter().map(Error::exit).chain([unresolved])),
        };
        let summary = Summary::new(name, observer.targets.iter().cloned().zip(reports).collect(), code, elapsed);
        let exits = summary.targets.iter().map(|target| check_all(&self.fail_if, target, exit, &mut observer.output));
        let exit = Exit::combined(exits);
        report::emit_summary(&mut observer.output, &summary, exit)?;
        Ok(exit)
    }

    fn sender_name(&self) -> Result<String> {
        let name = self.name.clone().unwrap_or_else(host::hostname);
        if is_valid_name(&name) {
            return Ok(name);
        }
        Err(Error::new(Exit::Usage, format!("host name '{name}' is not a valid sender name"))
            .expected("1 to 64 bytes without white space")
            .remedy("set a name with --name"))
    }

    fn lifetime(&self, started: Moment) -> Lifetime {
        if self.once {
            let interval = nanoseconds(self.interval).max(1);
            // Rounded to the nearest, so that a job started slightly early or late keeps its number.
            return Lifetime::Once((nanoseconds(started.wall()) + interval / 2) / interval);
        }
        Lifetime::Count(Some(self.count).filter(|count| *count > 0))
    }

    fn start_message(&self, name: &str, peers: &[SocketAddr]) -> String {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let interval = humantime::format_duration(self.interval);
        let down = humantime::format_duration(self.interval * self.multiplier.into());
        if self.wire == Wire::Text {
            return format!("sending textbook beats to {} every {interval}", peers.join(" and "));
        }
        format!(
            "sending as {name} to {} every {interval}; watchers report {name} down after {down} without a beat",
            peers.join(" and ")
        )
    }

    /// Returns the reason why a run failed for one watcher.
    fn target_error(&self, ((target, _), report): (&(Arc<str>, SocketAddr), &BeatReport)) -> Option<Error> {
        let (exit, reason) = match report {
            _ if report.sent == 0 => return None,
            _ if report.refused >= report.sent => (Exit::Unavailable, "every beat was refused"),
            _ if report.send_errors >= report.sent => (Exit::Unavailable, "no beat could be sent"),
            _ if self.echo && report.echoes == 0 => (Exit::Negative, "no echo was received"),
            _ => return None,
        };
        Some(Error::new(exit, format!("{target}: {reason}")))
    }
}

/// Sends beats until the count is reached, a signal arrives or the command exits; then sends the stop messages.
fn run_senders(
    endpoints: &mut [Endpoint<TracedSender>],
    signals: &mut Signals,
    observer: &mut Observer,
    (command, deadline): (Option<&SupervisedCommand>, Option<Moment>),
) {
    loop {
        match run_client(endpoints, DatagramTimeouts { deadline, ..DatagramTimeouts::default() }, signals, observer) {
            StopReason::Signal(signal) if command.is_some_and(|supervised| supervised.exit_code().is_none()) => {
                // The command decides when to exit; its exit is reported by the waker.
                let is_interrupt = Exit::from(signal) == Exit::Interrupted;
                command.inspect(|supervised| supervised.stop(is_interrupt));
            }
            StopReason::Observer if endpoints.iter().all(|endpoint| endpoint.protocol().inner.is_finished()) => {
                return;
            }
            // Also if the reader of the output is gone, the watchers get their stop messages.
            StopReason::Signal(_) | StopReason::Waker | StopReason::Deadline | StopReason::Observer => break,
        }
    }
    let exit = command.and_then(SupervisedCommand::exit_code);
    endpoints.iter_mut().for_each(|endpoint| endpoint.protocol_mut().inner.stop(exit, net::now()));
    observer.is_stopping = true;
    let deadline = Some(net::now() + BYE_TIMEOUT);
    // A second signal cancels the remaining stop messages.
    run_client(endpoints, DatagramTimeouts { deadline, ..DatagramTimeouts::default() }, signals, observer);
}

/// Sender of the beats to one watcher, with its trace.
type TracedSender = TracedDatagrams<BeatSender, DatagramTrace>;

/// Prints the events of all endpoints.
struct Observer {
    output: Output,
    /// Watchers as typed, with their port.
    targets: Vec<(Arc<str>, SocketAddr)>,
    /// Whether stdout belongs to the supervised command.
    is_supervising: bool,
    /// The stop messages are being sent, whatever happens to the output.
    is_stopping: bool,
    result: Result<()>,
    /// Wait for an echo, with `--echo`.
    notice: Option<WaitNotice>,
}

impl Observer {
    fn write_text(&mut self, text: &str) -> Result<()> {
        let style = self.output.style();
        if style.format == Format::Text && style.prints_events() {
            self.output.write_text(escaped(text))?;
        }
        Ok(())
    }
}

impl DatagramObserver<TracedSender> for Observer {
    fn on_event(&mut self, endpoint: usize, event: BeatEvent) {
        if let Some(notice) = &self.notice {
            match &event {
                BeatEvent::Sent { seq } => notice.waiting_for(format!("waiting for the echo of beat {seq}")),
                _ => notice.done(),
            }
        }
        let style = self.output.style();
        let is_shown = style.format == Format::Json || style.is_verbose() || !matches!(event, BeatEvent::Sent { .. });
        if is_shown && self.result.is_ok() {
            let Some(target) = self.targets.get(endpoint).cloned() else { return };
            let is_alone = self.targets.len() == 1;
            let event = TargetEvent::new(event, target, is_alone);
            self.result = self.output.emit(&event).map_err(Error::from);
        }
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<TracedSender>], _: Moment) -> ControlFlow<()> {
        let is_over = endpoints.iter().all(|endpoint| endpoint.protocol().inner.is_finished());
        // A closed stdout ends the run, but not while a command is supervised.
        let is_output_closed =
            (self.output.is_closed() || self.result.is_err()) && !self.is_supervising && !self.is_stopping;
        if is_over || is_output_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<TracedSender>], _: Moment) {}
}
