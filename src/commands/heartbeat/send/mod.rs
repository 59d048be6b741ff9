//! `netlab heartbeat send`: a sign of life at every interval.
//!
//! Owns the flags and the story of a run: find the watchers, beat to all of them in one loop, maybe
//! for as long as a command lives, say goodbye. [`events`] words what happens.

mod events;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::DEFAULT_PORT;
use crate::commands::args::{FamilyArgs, Peer, positive_duration, read_key};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::heartbeat::{BeatEvent, BeatReport, BeatSender, BeatSenderConfig, Lifetime, MAX_INTERVAL, is_valid_name};
use crate::host::{self, SupervisedCommand};
use crate::net::datagram::{DatagramObserver, DatagramTimeouts, Endpoint, StopReason, run_client};
use crate::net::{self, Signals, SocketOptions};
use crate::output::{Format, Output, Style};
use crate::time::{Moment, nanoseconds};
use events::{HeartbeatSendReport, Summary};

/// How long goodbyes may take: three of them, 20 ms apart, and some patience.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Say that you live, at every interval.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab heartbeat send 127.0.0.1:12001 --name web-1
  netlab heartbeat send watcher -i 5s --exec nginx -g 'daemon off;'")]
pub(super) struct HeartbeatSend {
    /// Who watches; the port is 12001 unless given
    #[arg(required = true, value_name = "HOST[:PORT]")]
    watchers: Vec<Peer>,

    /// What to be called; this machine's name unless given
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,

    /// The next beat comes within this time
    ///
    /// The schedule is absolute, and two beats are between 90 and 100 % of it apart, so that a fleet
    /// does not beat in step.
    #[arg(short, long, value_name = "D", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Stop after N beats; 0 is until stopped
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    count: u64,

    /// Be taken for down after N intervals of silence
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    multiplier: u8,

    /// Ask for echoes, and measure the round trip
    #[arg(long)]
    echo: bool,

    /// Send one beat and no goodbye, from cron
    ///
    /// Its number is the time divided by the interval, which must be that of the cron job: so the next
    /// run sends the next number, and what got lost in between can be told.
    #[arg(long, conflicts_with_all = ["count", "exec"])]
    once: bool,

    /// Beat while CMD lives, and return its exit code
    ///
    /// Takes all words that follow; -- may stand before them. CMD has this terminal, so beats are only
    /// told on stderr. The goodbye carries its exit code; SIGTERM and SIGINT are passed on to it.
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true, conflicts_with = "count")]
    exec: Vec<OsString>,

    /// The key that vouches for the beats
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    /// Vary the times between beats as a run before did
    #[arg(long, value_name = "N", hide_short_help = true)]
    seed: Option<u64>,

    #[command(flatten)]
    family: FamilyArgs,
}

fn parse_name(text: &str) -> Result<String, String> {
    let shape = "expected 1 to 64 bytes without white space";
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err(shape.to_owned()) }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = positive_duration(text)?;
    if interval < Duration::from_millis(1) || interval > MAX_INTERVAL {
        return Err("expected an interval from 1ms to 24h".to_owned());
    }
    // What a beat says is in milliseconds; a fraction would be a promise that is not kept.
    Ok(Duration::from_millis(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)))
}

impl HeartbeatSend {
    /// Beats until told to stop, or as often as told.
    pub(super) fn run(&self, style: Style) -> Result<Exit> {
        let key = self.key_file.as_deref().map(read_key).transpose()?;
        let name = self.sender_name()?;
        let mut signals = Signals::install()?;
        let mut peers = Vec::new();
        for watcher in &self.watchers {
            peers.push(self.family.resolve(watcher, DEFAULT_PORT, &mut signals)?);
        }
        let output = Output::new(style);
        let command = self.exec.strip_prefix(&[OsString::from("--")]).unwrap_or(&self.exec);
        let started = net::now();
        let lifetime = self.lifetime(started);
        let promise = BeatSenderConfig {
            name: name.as_str().into(),
            // A run of cron's is no run of its own.
            incarnation: if self.once { 0 } else { rand::random::<u64>().max(1) },
            interval: self.interval,
            multiplier: self.multiplier,
            wants_echo: self.echo,
            key,
        };
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let mut sides = Vec::new();
        for (place, peer) in (0..).zip(&peers) {
            let beater = BeatSender::new(promise.clone(), lifetime, seed.wrapping_add(place), started);
            // One watcher that cannot be reached yet must not keep the others from hearing us.
            sides.push(Endpoint::connect_when_reachable(beater, *peer, SocketOptions::default(), !style.quiet)?);
        }
        let names =
            self.watchers.iter().zip(&peers).map(|(watcher, peer)| watcher.host_and_port(*peer).into()).collect();
        let is_guarding = !command.is_empty();
        let mut ear = Observer { output, targets: names, is_supervising: is_guarding, result: Ok(()) };
        if !self.once {
            ear.write(&HeartbeatSendReport::Text(self.start_message(&name, &peers)))?;
        }
        let guarded = if is_guarding {
            let nudge = signals.waker()?;
            Some(SupervisedCommand::start(command, move || nudge.wake())?)
        } else {
            None
        };
        run_senders(&mut sides, &mut signals, &mut ear, guarded.as_ref());
        ear.result?;
        let reports: Vec<BeatReport> = sides.iter().map(|side| side.protocol().report()).collect();
        let code = guarded.as_ref().and_then(SupervisedCommand::exit_code);
        let elapsed = net::now() - started;
        let exit = code
            .map_or_else(|| Exit::combined(reports.iter().map(|report| self.evaluate_target(report))), Exit::ChildExit);
        let summary = Summary::new(name, ear.targets.iter().cloned().zip(reports).collect(), code, elapsed);
        write_summary(&mut ear.output, is_guarding, summary)?;
        Ok(exit)
    }

    fn sender_name(&self) -> Result<String> {
        let name = self.name.clone().unwrap_or_else(host::hostname);
        if is_valid_name(&name) {
            return Ok(name);
        }
        Err(Error::new(Exit::Usage, "this machine's own name cannot be a sender's")
            .expected("1 to 64 bytes without white space")
            .remedy("choose one with --name"))
    }

    fn lifetime(&self, started: Moment) -> Lifetime {
        if self.once {
            let interval = nanoseconds(self.interval).max(1);
            // To the nearest: a job that cron starts a little early or late keeps its number.
            return Lifetime::Once((nanoseconds(started.wall()) + interval / 2) / interval);
        }
        Lifetime::Count(Some(self.count).filter(|count| *count > 0))
    }

    fn start_message(&self, name: &str, peers: &[SocketAddr]) -> String {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let interval = humantime::format_duration(self.interval);
        let down = humantime::format_duration(self.interval * self.multiplier.into());
        format!("{name} beats to {} within every {interval}; down after {down} of silence", peers.join(" and "))
    }

    /// One watcher's code.
    fn evaluate_target(&self, report: &BeatReport) -> Exit {
        match report {
            _ if report.sent == 0 => Exit::Success,
            _ if report.send_errors.max(report.refused) >= report.sent => Exit::Unavailable,
            _ if self.echo && report.echoes == 0 => Exit::Negative,
            _ => Exit::Success,
        }
    }
}

/// Beats until it is over: the count is reached, a signal came, or the command has ended.
fn run_senders(
    endpoints: &mut [Endpoint<BeatSender>],
    signals: &mut Signals,
    observer: &mut Observer,
    command: Option<&SupervisedCommand>,
) {
    loop {
        match run_client(endpoints, DatagramTimeouts::default(), signals, observer) {
            StopReason::Signal(signal) if command.is_some_and(|guarded| guarded.exit_code().is_none()) => {
                // The command decides when it is over; its end is told by a nudge.
                let is_interrupt = signal.exit() == Exit::Interrupted;
                command.inspect(|guarded| guarded.stop(is_interrupt));
            }
            StopReason::Signal(_) | StopReason::Waker => break,
            StopReason::Observer | StopReason::Deadline => return,
        }
    }
    let exit = command.and_then(SupervisedCommand::exit_code);
    endpoints.iter_mut().for_each(|side| side.protocol_mut().stop(exit, net::now()));
    let until = Some(net::now() + GOODBYE_TIMEOUT);
    // A second signal means now.
    run_client(endpoints, DatagramTimeouts { deadline: until, ..DatagramTimeouts::default() }, signals, observer);
}

fn write_summary(output: &mut Output, is_supervising: bool, summary: Summary) -> Result<()> {
    let line = HeartbeatSendReport::Summary(Box::new(summary));
    if is_supervising && output.style().format == Format::Text {
        output.note(&line.to_string());
        return Ok(());
    }
    output.emit(&line)
}

/// Hears what happens and tells it.
struct Observer {
    output: Output,
    /// The watchers, as typed.
    targets: Vec<Arc<str>>,
    /// Whether stdout belongs to a command.
    is_supervising: bool,
    result: Result<()>,
}

impl Observer {
    fn write(&mut self, report: &HeartbeatSendReport) -> Result<()> {
        match (self.output.style().format, self.is_supervising, report) {
            (Format::Json, _, HeartbeatSendReport::Text(_)) => Ok(()),
            (Format::Text, true, _) => {
                self.output.note(&report.to_string());
                Ok(())
            }
            _ => self.output.emit(report),
        }
    }
}

impl DatagramObserver<BeatSender> for Observer {
    fn on_event(&mut self, endpoint: usize, fact: BeatEvent) {
        let style = self.output.style();
        let is_shown = style.format == Format::Json || style.verbose > 0 || !matches!(fact, BeatEvent::Sent { .. });
        if is_shown && self.result.is_ok() {
            let Some(target) = self.targets.get(endpoint).map(Arc::clone) else { return };
            let is_alone = self.targets.len() == 1;
            self.result = self.write(&HeartbeatSendReport::event(fact, target, is_alone));
        }
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<BeatSender>], _: Moment) -> ControlFlow<()> {
        let is_over = endpoints.iter().all(|side| side.protocol().is_finished());
        // A reader that has gone away ends a sender as any probe, but not the command it guards.
        let is_unheard = (self.output.is_closed() || self.result.is_err()) && !self.is_supervising;
        if is_over || is_unheard { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<BeatSender>], _: Moment) {}
}
