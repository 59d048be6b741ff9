//! `netlab heartbeat watch`: who is alive, what got lost on the way, and since when.
//!
//! Owns the flags and the story of a run: listen, hear, tell, until told to stop. The rules are in
//! `heartbeat`. One table is shared: the datagram loop writes it, the status page ([`pages`]) and the
//! state file ([`keeper`]) read it.
//!
//! ```text
//!   datagram loop ──▶ table ◀── pages (a thread of the stream loop)
//!        │              ▲────── keeper (writes the state file)
//!        └── facts ──▶ recorder ──▶ stdout
//!                 └──▶ hooks (one command per change)
//! ```

mod events;
mod hooks;
mod metrics;
mod pages;
mod shared;
mod state_file;
mod until;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::DEFAULT_PORT;
use crate::commands::args::{ListenArgs, address_strings, duration, parse_arg, positive_duration, read_key};
use crate::commands::web::{self, StatusServer};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::heartbeat::{
    DetectionMethod, FailureDetector, Liveness, MAX_PACKET_BYTES, Watcher, WatcherConfig, WatcherEvent, is_valid_name,
};
use crate::host::Hook;
use crate::net::datagram::{DatagramObserver as Watching, DatagramServerConfig, Endpoint, StopReason, serve};
use crate::net::{self, Address, BindAddress, DatagramSockets, Listeners, Signals};
use crate::output::{Output, Recorder, Style};
use crate::time::Moment;
use events::{HeartbeatWatchEvent, HeartbeatWatchReport, HookCounters, Listening, Summary};
use hooks::HookRunner;
use shared::SharedWatcher;
use state_file::StateWriter;
use until::UntilCondition;

/// How long beats may gather before they are looked at: the kernel's stamps say when each came, and
/// ten thousand senders wake us a thousand times a second instead of ten thousand times.
const BATCH_DELAY: Duration = Duration::from_millis(1);

/// Watch who lives, what got lost, and since when.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab heartbeat watch --expect web-1 --http 8080
  netlab heartbeat watch --expect a --expect b --until 'all up' --for 30s")]
pub(super) struct HeartbeatWatch {
    #[command(flatten)]
    listen: ListenArgs,

    /// A sender that must be there; repeatable
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    expect: Vec<String>,

    /// How long those may take to be heard first
    #[arg(long, value_name = "D", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    expect_within: Duration,

    /// Stop with 0 once this holds, else with 1
    ///
    /// 'all up', 'any down' and the like: all or any, and new, up, late, down or stopped.
    #[arg(long, value_name = "CONDITION")]
    until: Option<UntilCondition>,

    /// Run CMD once per change, the event as JSON on its stdin
    ///
    /// Split by the rules of shell quoting, run by no shell, one at a time per sender. `NETLAB_NAME`,
    /// `NETLAB_FROM`, `NETLAB_TO`, `NETLAB_PEER`, `NETLAB_SILENT_MS` and `NETLAB_EXIT` are in its
    /// environment.
    #[arg(long, value_name = "CMD", value_parser = parse_arg::<Hook>)]
    on_change: Option<Hook>,

    /// How long CMD may take
    #[arg(long, value_name = "D", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    hook_timeout: Duration,

    /// Serve a status page, metrics and health there
    ///
    /// / for people, /status.json, /metrics for Prometheus, /healthz (503 when a sender is down).
    #[arg(long, value_name = "ADDR")]
    http: Vec<BindAddress>,

    /// Keep what is known in FILE, and take it up again
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// When silence means down: mult:N, fixed:D or phi:T
    ///
    /// mult:N is N intervals, as many as the beat itself says unless given; fixed:D is a fixed time;
    /// phi:T is when the chance of that silence, by the times between beats so far, is 10^-T.
    #[arg(long, value_name = "HOW", value_parser = parse_arg::<DetectionMethod>)]
    detect: Option<DetectionMethod>,

    /// Added to every deadline
    #[arg(long, value_name = "D", default_value = "0", value_parser = duration, hide_default_value = true, hide_short_help = true)]
    slack: Duration,

    /// Beats in a row that make a sender up
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), hide_short_help = true)]
    rise: u32,

    /// How many times that silence makes it down
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), hide_short_help = true)]
    fall: u32,

    /// How fast coming and going is forgiven; 0 tells every change
    ///
    /// At the third death in a short while a sender is flapping, and its changes are not told until it
    /// has been steady for about this time.
    #[arg(long, value_name = "D", default_value = "1m", value_parser = duration, hide_short_help = true)]
    flap_half_life: Duration,

    /// Forget a sender that has been down or stopped for D
    #[arg(long, value_name = "D", default_value = "1d", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    forget: Duration,

    /// How many senders there may be
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..=10_000_000), hide_short_help = true, help_heading = "Limits")]
    max_senders: u32,

    /// Stop after N datagrams; 0 is never
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, hide_short_help = true)]
    count: u64,

    /// Hear only what this key vouches for
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err("expected 1 to 64 bytes without white space".to_owned()) }
}

impl HeartbeatWatch {
    /// Watches until told to stop, or until what was waited for has come.
    pub(super) fn run(&self, style: Style) -> Result<Exit> {
        let rules = self.watcher_config()?;
        self.on_change.as_ref().map_or(Ok(()), Hook::check)?;
        let output = Output::new(style);
        let kept = self.state.as_deref().map(state_file::read_snapshot).transpose()?.flatten();
        let mut signals = Signals::install()?;
        let receivers = DatagramSockets::bind(&self.listen.binds(DEFAULT_PORT), 1)?;
        let listeners = (!self.http.is_empty()).then(|| Listeners::bind(&self.http, 1)).transpose()?;
        let started = net::now();
        let expected: Vec<Arc<str>> = self.expect.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut watcher =
            Watcher::new(WatcherConfig { started_at: started, awake_since: started, ..rules }, &expected, started);
        if let Some(kept) = &kept {
            let refused = watcher.restore_snapshot(kept, started);
            if refused > 0 {
                output.note(&format!("note: {refused} senders in the state file are left out: there is no room for them, or they make no sense"));
            }
        }
        self.print_warnings(&output, &receivers, listeners.as_ref());
        let shared = SharedWatcher::new(watcher);
        let nudge = signals.waker()?;
        let (recorder, writer) = Recorder::start(output, move || nudge.wake())?;
        let pages: Vec<String> =
            listeners.iter().flat_map(Listeners::addresses).map(|address| web::url("http", address)).collect();
        let listening = Listening::new(address_strings(receivers.addresses()), pages.clone());
        recorder.emit(HeartbeatWatchReport::Event(HeartbeatWatchEvent::Listening(listening)));
        self.listen.write_ready_file(receivers.addresses().map(ToString::to_string).chain(pages))?;

        let run = WatchContext { args: self, shared: &shared, recorder: &recorder, style, started };
        let WatchResult { condition_met: is_met, hooks, state_written: kept } =
            run.run(receivers, listeners, &mut signals)?;
        drop(recorder);
        let now = net::now();
        let (mut output, dropped, written) = writer.finish();
        let met = self.until.map(|_| is_met);
        // The summary is the last line, whatever went wrong.
        kept.as_ref().map_or_else(|error| output.report_error(error), |()| ());
        let summary = Summary::new(&shared.lock(), now, now - started, hooks, met, dropped);
        output.emit(&HeartbeatWatchReport::summary(summary))?;
        written?;
        Ok(kept.map_or_else(|error| error.exit(), |()| self.exit_status(&shared, is_met)))
    }

    fn watcher_config(&self) -> Result<WatcherConfig> {
        let key = self.key_file.as_deref().map(read_key).transpose()?;
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
            awake_since: start,
        })
    }

    fn print_warnings(&self, output: &Output, receivers: &DatagramSockets, listeners: Option<&Listeners>) {
        for missing in receivers.warnings().iter().chain(listeners.iter().flat_map(|listeners| listeners.warnings())) {
            output.note(&format!("note: {missing}"));
        }
        if receivers.addresses().any(Address::is_public) && self.key_file.is_none() {
            output.note("warning: strangers can send beats here; --key-file hears only those with the key");
        }
        if listeners.is_some_and(|listeners| listeners.addresses().any(Address::is_public)) {
            output.note("warning: everybody who can reach this machine can read the status page");
        }
        if matches!(self.detect, Some(DetectionMethod::Multiplier(Some(1)))) && self.slack.is_zero() {
            output.note("warning: with mult:1 a single lost or slow beat is a death; mult:3 bears two");
        }
    }

    /// The condition says yes or no; without one, those who are expected must be there.
    fn exit_status(&self, shared: &SharedWatcher, is_met: bool) -> Exit {
        let watcher = shared.lock();
        let here = |state| matches!(state, Liveness::Up | Liveness::Late | Liveness::Stopped);
        let all_here = || watcher.sender_table().iter().all(|(_, record)| !record.is_expected || here(record.liveness));
        let is_good = if self.until.is_some() { is_met } else { all_here() };
        if is_good { Exit::Success } else { Exit::Negative }
    }
}

/// What a run came to.
struct WatchResult {
    /// Whether the condition of `--until` was met.
    condition_met: bool,
    hooks: HookCounters,
    /// Whether the state could be written in the end.
    state_written: Result<()>,
}

/// What a run needs.
struct WatchContext<'a> {
    args: &'a HeartbeatWatch,
    shared: &'a SharedWatcher,
    recorder: &'a Recorder<HeartbeatWatchReport>,
    style: Style,
    started: Moment,
}

impl WatchContext<'_> {
    /// Watches to the end, with everything beside it.
    fn run(
        &self,
        receivers: DatagramSockets,
        listeners: Option<Listeners>,
        signals: &mut Signals,
    ) -> Result<WatchResult> {
        let watch = self.args;
        std::thread::scope(|scope| {
            let keeper = watch.state.as_deref().map(|file| StateWriter::start(scope, file, self.shared, self.recorder));
            let keeper = keeper.transpose()?;
            let hooks = watch.on_change.as_ref();
            let hooks = hooks
                .map(|hook| HookRunner::start(scope, hook, watch.hook_timeout, self.recorder, signals))
                .transpose()?;
            let board = listeners
                .map(|listeners| StatusServer::spawn(scope, listeners, pages::StatusHandler(self.shared.clone())))
                .transpose()?;
            let ended = self.run_receiver(receivers, hooks.as_ref(), keeper.as_ref(), signals);
            // Each of them ends with its handle, and the scope waits for them.
            drop(board);
            let by = ended.as_ref().ok().copied();
            let tally = hooks.map(|hooks| hooks.finish(by, signals)).unwrap_or_default();
            let kept = keeper.map_or(Ok(()), StateWriter::finish);
            ended?;
            let is_met = watch.until.is_some_and(|until| until.holds(&self.shared.lock()));
            Ok(WatchResult { condition_met: is_met, hooks: tally, state_written: kept })
        })
    }

    fn run_receiver(
        &self,
        receivers: DatagramSockets,
        hooks: Option<&HookRunner<'_>>,
        state_writer: Option<&StateWriter<'_>>,
        signals: &mut Signals,
    ) -> Result<StopReason> {
        let plan = DatagramServerConfig {
            sockets: receivers,
            threads: 1,
            max_payload: MAX_PACKET_BYTES,
            events_wanted: !self.style.quiet || hooks.is_some() || state_writer.is_some(),
            deadline: self.args.listen.lifetime.map(|lifetime| self.started + lifetime),
            coalesce_delay: BATCH_DELAY,
        };
        let make = || {
            let ear = Observer { context: self, hooks, state_writer };
            (self.shared.clone(), ear)
        };
        serve(plan, signals, make, |_, _| ())
    }
}

/// Hears the facts and tells them.
struct Observer<'a> {
    context: &'a WatchContext<'a>,
    hooks: Option<&'a HookRunner<'a>>,
    state_writer: Option<&'a StateWriter<'a>>,
}

impl Watching<SharedWatcher> for Observer<'_> {
    fn on_event(&mut self, _: usize, fact: WatcherEvent) {
        if let Some(hooks) = self.hooks {
            hooks.on_event(&fact);
        }
        if let Some(keeper) = self.state_writer {
            keeper.on_event(&fact);
        }
        let style = self.context.style;
        let is_shown = !style.quiet && (style.verbose > 0 || !matches!(fact, WatcherEvent::Beat { .. }));
        if is_shown {
            self.context.recorder.emit(HeartbeatWatchReport::Event(HeartbeatWatchEvent::Watcher(fact)));
        }
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<SharedWatcher>], _: Moment) -> ControlFlow<()> {
        let (count, until) = (self.context.args.count, self.context.args.until);
        let is_over = endpoints.iter().any(|side| {
            let watcher = side.protocol().lock();
            (count > 0 && watcher.counters().received >= count) || until.is_some_and(|until| until.holds(&watcher))
        });
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<SharedWatcher>], _: Moment) {}
}

/// An error that ends one of the helpers of a run.
fn cannot_start(component: &str, error: std::io::Error) -> Error {
    Error::new(Exit::OsError, format!("cannot start {component}: {}", crate::error::io_error_text(&error)))
        .with_source(error)
}
