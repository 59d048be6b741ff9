//! `netlab heartbeat watch`: monitor of heartbeat senders.
//!
//! Owns the flags and the steps of a run. The protocol is in `crate::heartbeat`. One table is shared: the
//! datagram loop writes it, the status page ([`pages`]) and the state file ([`state_file`]) read it.
//!
//! ```text
//!   datagram loop ──▶ table ◀── pages (a thread of the stream loop)
//!        │              ▲────── state_file (a thread that writes the file)
//!        └── events ──▶ recorder ──▶ stdout
//!                  └──▶ hooks (one command per change)
//! ```

mod events;
mod hooks;
mod metrics;
mod pages;
mod receiver;
mod shared_watcher;
mod state_file;
mod until;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::DEFAULT_PORT;
use crate::commands::args::{address_strings, duration, number, parse_arg, positive_duration, read_key};
use crate::commands::dialogue_trace::TraceArgs;
use crate::commands::listen_args::{ListenArgs, bind_help};
use crate::commands::report::{self, plural};
use crate::commands::web;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::heartbeat::{DetectionMethod, FailureDetector, SenderStatus, Watcher, WatcherConfig, is_valid_name};
use crate::host::Hook;
use crate::net::{self, Address, BindAddress, DatagramSockets, Listeners, Signals};
use crate::output::{Output, Recorder, WaitNotice};
use crate::time::{HumanDuration, Moment};
pub(in crate::commands) use events::list_events;
use events::{HeartbeatWatchEvent, Listening, Summary};
use receiver::{WatchContext, WatchResult};
use shared_watcher::SharedWatcher;
use until::{UntilCondition, UntilParser};

/// Monitor heartbeat senders: which are up, what was lost, since when.
#[derive(Debug, Args)]
#[command(mut_arg("bind", |bind| bind_help(bind, DEFAULT_PORT, false)))]
#[command(after_help = "\
Examples:
  netlab heartbeat watch --expect web-1 --http 8080
  netlab heartbeat watch --expect a --expect b --until 'all up' --for 30s")]
pub(super) struct HeartbeatWatch {
    #[command(flatten)]
    listen: ListenArgs,

    /// Report NAME as down if it sends no beat; repeatable
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    expect: Vec<String>,

    /// Time allowed for an expected sender's first beat
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    expect_within: Duration,

    /// Exit 0 once CONDITION holds, 1 if it never does
    ///
    /// CONDITION is all or any, followed by new, up, late, down or stopped, such as 'all up' or 'any down'. A hyphen may stand for
    /// the space.
    #[arg(long, value_name = "CONDITION", value_parser = UntilParser, hide_possible_values = true)]
    until: Option<UntilCondition>,

    /// Run CMD on each state change, with the event on stdin
    #[arg(long, value_name = "CMD", value_parser = parse_arg::<Hook>, long_help = "\
Run CMD on each state change, with the event on stdin

CMD is split like a shell command line, but no shell is started. At most one CMD runs at a time for each \
sender. The event is JSON. The environment has NETLAB_NAME, NETLAB_FROM, NETLAB_TO, NETLAB_PEER, NETLAB_SILENT_MS and NETLAB_EXIT.")]
    on_change: Option<Hook>,

    /// Time limit for each run of CMD
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    hook_timeout: Duration,

    /// Serve a status page, metrics and health at ADDR
    ///
    /// The paths are / for a browser, /status.json, /metrics for Prometheus and /healthz (503 while a
    /// sender is down).
    #[arg(long, value_name = "ADDR")]
    http: Vec<BindAddress>,

    /// Save state to FILE and resume from it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Detection method: mult:N or fixed:D
    ///
    /// A sender is down after N intervals of silence (mult:N) or after a fixed time (fixed:D). The default is
    /// mult:N with the multiplier that the sender announces.
    #[arg(long, value_name = "METHOD", value_parser = parse_arg::<DetectionMethod>)]
    detect: Option<DetectionMethod>,

    /// Extra time added to every deadline
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration, hide_short_help = true)]
    slack: Duration,

    /// Consecutive beats before a sender is up
    #[arg(long, value_name = "N", default_value_t = 1, hide_short_help = true, value_parser = number::<u32>(1..=1000))]
    rise: u32,

    /// Consecutive missed deadlines before a sender is down
    #[arg(long, value_name = "N", default_value_t = 1, hide_short_help = true, value_parser = number::<u32>(1..=1000))]
    fall: u32,

    /// Half-life of the flap penalty (RFC 2439); 0 disables damping
    ///
    /// A sender that goes down three times in a short time is flapping. Its changes are suppressed until
    /// it has been stable for about this time.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration, hide_short_help = true)]
    flap_half_life: Duration,

    /// Remove senders that have been down or stopped for this long
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    forget: Duration,

    /// Maximum number of senders
    #[arg(long, value_name = "N", default_value_t = 131_072, hide_short_help = true, help_heading = "Limits", value_parser = number::<u32>(1..=10_000_000))]
    max_senders: u32,

    /// Stop after N datagrams; 0 = no limit
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, hide_short_help = true, value_parser = number::<u64>(0..))]
    count: u64,

    /// Accept only beats signed with the key in FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    #[command(flatten)]
    trace: TraceArgs,
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err("expected 1 to 64 bytes without white space".to_owned()) }
}

impl HeartbeatWatch {
    pub(super) fn run(&self, output: Output) -> Result<Exit> {
        let mut ready_file = self.listen.prepare_ready_file()?;
        let config = self.watcher_config()?;
        self.on_change.as_ref().map_or(Ok(()), Hook::check)?;
        let style = output.style();
        let snapshot = self.state.as_deref().map(state_file::read_snapshot).transpose()?.flatten();
        let mut signals = Signals::install()?;
        let stop = self.listen.stop_conditions(&signals);
        output.stop_stderr_on(stop.clone());
        let receivers = DatagramSockets::bind(&self.listen.binds(DEFAULT_PORT), 1)?;
        let listeners = (!self.http.is_empty()).then(|| Listeners::bind(&self.http, 1)).transpose()?;
        let started = net::now();
        let expected: Vec<Arc<str>> = self.expect.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut watcher =
            Watcher::new(WatcherConfig { started_at: started, resumed_at: started, ..config }, &expected, started);
        if let Some(snapshot) = &snapshot {
            let skipped = watcher.restore_snapshot(snapshot, started);
            if skipped > 0 {
                let senders = plural(skipped as u64, "sender", "senders");
                output.note(&format!(
                    "note: skipped {skipped} {senders} from the state file: table full or entry invalid"
                ));
            }
        }
        self.print_warnings(&output, &receivers, listeners.as_ref());
        let shared = SharedWatcher::new(watcher);
        let notice = WaitNotice::new(&output);
        let waker = signals.waker()?;
        let (recorder, writer) = Recorder::start(output, move || waker.wake())?;
        let pages: Vec<String> =
            listeners.iter().flat_map(Listeners::addresses).map(|address| web::url("http", address)).collect();
        let listening = Listening::new(
            address_strings(receivers.addresses()),
            pages.clone(),
            receivers.addresses().any(Address::is_public),
        );
        recorder.emit(HeartbeatWatchEvent::Listening(listening));
        ready_file.write(receivers.addresses().map(ToString::to_string).chain(pages), &stop)?;

        notice.waiting_for("waiting for the first datagram");
        let run = WatchContext { args: self, shared: &shared, recorder: &recorder, style, started, notice };
        let WatchResult { condition_met, hooks, state_written } = run.run(receivers, listeners, &mut signals)?;
        drop(recorder);
        let now = net::now();
        let (mut output, dropped, written) = writer.finish();
        let met = self.until.map(|_| condition_met);
        let result = state_written.and_then(|()| self.check_result(&shared, condition_met, now - started));
        // The summary is the last line, even after an error.
        result.as_ref().map_or_else(|error| output.report_error(error), |()| ());
        let summary = Summary::new(&shared.lock(), now, now - started, hooks, met, dropped);
        let exit = result.map_or_else(|error| error.exit(), |()| Exit::Success);
        report::emit_summary(&mut output, &summary, exit)?;
        written?;
        Ok(exit)
    }

    fn watcher_config(&self) -> Result<WatcherConfig> {
        let start = self.listen.start_conditions();
        let key = self.key_file.as_deref().map(|file| read_key(file, &start)).transpose()?;
        let start = Moment::new(Duration::ZERO, Duration::ZERO);
        Ok(WatcherConfig {
            failure_detector: FailureDetector {
                method: self.detect.unwrap_or(DetectionMethod::Multiplier(None)),
                slack: self.slack,
                rise: self.rise,
                fall: self.fall,
            },
            key,
            expect_within: self.expect_within,
            forget_after: self.forget,
            flap_half_life: self.flap_half_life,
            max_senders: usize::try_from(self.max_senders).unwrap_or(usize::MAX),
            max_datagrams: Some(self.count).filter(|count| *count > 0),
            started_at: start,
            resumed_at: start,
        })
    }

    fn print_warnings(&self, output: &Output, receivers: &DatagramSockets, listeners: Option<&Listeners>) {
        for warning in receivers.warnings().iter().chain(listeners.iter().flat_map(|listeners| listeners.warnings())) {
            output.note(&format!("note: {warning}"));
        }
        if receivers.addresses().any(Address::is_public) && self.key_file.is_none() {
            output.note("warning: other hosts can send beats under any name; --key-file accepts only signed beats");
        }
        if listeners.is_some_and(|listeners| listeners.addresses().any(Address::is_public)) {
            output.note("warning: any host that can reach this machine can read the status page");
        }
        if matches!(self.detect, Some(DetectionMethod::Multiplier(Some(1)))) && self.slack.is_zero() {
            output.note("warning: with mult:1 a single lost or late beat makes a sender down; mult:3 tolerates two");
        }
    }

    /// Checks the condition of `--until`, or else the presence of all expected senders.
    fn check_result(&self, shared: &SharedWatcher, condition_met: bool, elapsed: Duration) -> Result<()> {
        if let Some(until) = self.until {
            let unmet =
                || Error::new(Exit::Negative, format!("'{until}' was not met within {}", HumanDuration(elapsed)));
            return if condition_met { Ok(()) } else { Err(unmet()) };
        }
        let watcher = shared.lock();
        let is_present = |state| matches!(state, SenderStatus::Up | SenderStatus::Late | SenderStatus::Stopped);
        let records = watcher.sender_table().iter().map(|(_, record)| record);
        let mut missing: Vec<String> = records
            .filter(|record| record.is_expected && !is_present(record.liveness))
            .map(|record| format!("{} is {}", record.name, record.liveness.as_str()))
            .collect();
        missing.sort_unstable();
        match missing.as_slice() {
            [] => Ok(()),
            [only] => Err(Error::new(Exit::Negative, format!("expected sender {only}"))),
            [first, more @ ..] => {
                Err(Error::new(Exit::Negative, format!("expected sender {first}, and {} more", more.len())))
            }
        }
    }
}

/// Creates the error of a thread or pipe that cannot be created.
fn cannot_start(component: &str, error: std::io::Error) -> Error {
    Error::new(Exit::OsError, format!("cannot start {component}: {}", crate::failure::io_error_text(&error)))
        .with_source(error)
}
