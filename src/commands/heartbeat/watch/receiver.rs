//! Datagram loop of a watcher, with the hook, status page and state file threads beside it.
//!
//! Owns the threads and their shutdown order. The flags and the exit code belong to the command.

use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use super::HeartbeatWatch;
use super::events::{HeartbeatWatchEvent, HookCounters};
use super::hooks::HookRunner;
use super::pages;
use super::shared_watcher::SharedWatcher;
use super::state_file::StateWriter;
use crate::commands::dialogue_trace::{DatagramDescriber, DatagramTrace, Explainer};
use crate::commands::web::StatusServer;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::heartbeat::{MAX_PACKET_BYTES, WatcherEvent, explain};
use crate::net::datagram::{DatagramObserver, DatagramServerConfig, Endpoint, StopReason, serve};
use crate::net::{self, DatagramSockets, Listeners, Signals};
use crate::output::{Recorder, Style, WaitNotice};
use crate::protocol::TracedDatagrams;
use crate::time::Moment;

/// Time for which beats are collected into one batch: kernel timestamps keep the time of arrival, and ten
/// thousand senders wake this process a thousand times a second instead of ten thousand times.
const BATCH_DELAY: Duration = Duration::from_millis(1);

/// Shared watcher with the trace of its datagrams.
type TracedWatcher = TracedDatagrams<SharedWatcher, DatagramTrace>;

/// Result of a run.
pub(super) struct WatchResult {
    /// Whether the condition of `--until` was met.
    pub condition_met: bool,
    pub hooks: HookCounters,
    /// Result of the last write of the state file.
    pub state_written: Result<()>,
}

/// Context shared by all parts of a run.
pub(super) struct WatchContext<'a> {
    pub args: &'a HeartbeatWatch,
    pub shared: &'a SharedWatcher,
    pub recorder: &'a Recorder<HeartbeatWatchEvent>,
    pub style: Style,
    pub started: Moment,
    /// Notice shown until the first datagram.
    pub notice: WaitNotice,
}

impl WatchContext<'_> {
    /// Runs the datagram loop with the hook, status page and state file threads beside it.
    pub(super) fn run(
        &self,
        receivers: DatagramSockets,
        listeners: Option<Listeners>,
        signals: &mut Signals,
    ) -> Result<WatchResult> {
        let watch = self.args;
        std::thread::scope(|scope| {
            let file = watch.state.as_deref();
            let state_writer =
                file.map(|file| StateWriter::start(scope, file, self.shared, self.recorder)).transpose()?;
            let hooks = watch.on_change.as_ref();
            let hooks = hooks
                .map(|hook| HookRunner::start(scope, hook, watch.hook_timeout, self.recorder, signals))
                .transpose()?;
            let status_server = listeners
                .map(|listeners| StatusServer::spawn(scope, listeners, pages::StatusHandler(self.shared.clone())))
                .transpose()?;
            let watchdog = net::watchdog_interval().map(|interval| self.start_watchdog(scope, interval)).transpose()?;
            let result = self.run_receiver(receivers, hooks.as_ref(), state_writer.as_ref(), signals);
            // Dropping the handle ends the thread, and the scope waits for it.
            drop(status_server);
            let stop_reason = result.as_ref().ok().copied();
            let hooks = hooks.map(|hooks| hooks.finish(stop_reason, signals)).unwrap_or_default();
            let state_written = state_writer.map_or(Ok(()), StateWriter::finish);
            // The hooks may take a while, and must not be killed meanwhile.
            drop(watchdog);
            result?;
            let condition_met = watch.until.is_some_and(|until| until.holds(&self.shared.lock()));
            Ok(WatchResult { condition_met, hooks, state_written })
        })
    }

    /// Starts the thread that reports to a service manager; dropping the sender ends it.
    fn start_watchdog<'s>(&'s self, scope: &'s Scope<'s, '_>, interval: Duration) -> Result<Sender<()>> {
        let (sender, ended) = channel::<()>();
        let run = move || {
            while matches!(ended.recv_timeout(interval / 2), Err(RecvTimeoutError::Timeout)) {
                // A watcher that is stuck holds its lock, and the service manager restarts it.
                drop(self.shared.lock());
                net::notify_watchdog();
            }
        };
        let started = std::thread::Builder::new().name("watchdog".into()).spawn_scoped(scope, run);
        started
            .map(|_| sender)
            .map_err(|error| Error::new(Exit::OsError, "cannot start the watchdog thread").with_source(error))
    }

    fn run_receiver(
        &self,
        receivers: DatagramSockets,
        hooks: Option<&HookRunner<'_>>,
        state_writer: Option<&StateWriter<'_>>,
        signals: &mut Signals,
    ) -> Result<StopReason> {
        let config = DatagramServerConfig {
            sockets: receivers,
            threads: 1,
            max_payload: MAX_PACKET_BYTES,
            events_wanted: self.style.prints_events() || hooks.is_some() || state_writer.is_some(),
            deadline: self.args.listen.lifetime.map(|lifetime| self.started + lifetime),
            coalesce_delay: BATCH_DELAY,
        };
        let make = || {
            let explainer = self.args.trace.explainer(self.style, self.recorder.notes());
            let first_wait = Some(self.notice.clone());
            let observer = Observer { context: self, hooks, state_writer, explainer, first_wait };
            let describer = DatagramDescriber {
                describe_sent: explain::describe_datagram,
                describe_received: explain::describe_datagram,
            };
            let trace = self.args.trace.server_datagram_trace(describer, (self.style, self.recorder.notes()));
            (TracedDatagrams::new(self.shared.clone(), trace), observer)
        };
        Ok(serve(config, signals, make, |_, _| ())?)
    }
}

/// Passes events to the hooks, the state file and the output.
struct Observer<'a> {
    context: &'a WatchContext<'a>,
    hooks: Option<&'a HookRunner<'a>>,
    state_writer: Option<&'a StateWriter<'a>>,
    explainer: Explainer,
    /// Present until the first datagram is received.
    first_wait: Option<WaitNotice>,
}

impl DatagramObserver<TracedWatcher> for Observer<'_> {
    fn on_event(&mut self, _: usize, event: WatcherEvent) {
        if let Some(hooks) = self.hooks {
            hooks.on_event(&event);
        }
        if let Some(state_writer) = self.state_writer {
            state_writer.on_event(&event);
        }
        let style = self.context.style;
        let is_shown = style.prints_events() && (style.is_verbose() || !matches!(event, WatcherEvent::Beat { .. }));
        if is_shown {
            let explanation = explain::explain_event(&event);
            self.context.recorder.emit(HeartbeatWatchEvent::Watcher(event));
            self.explainer.explain(explanation);
        }
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<TracedWatcher>], _: Moment) -> ControlFlow<()> {
        let has_received = || endpoints.iter().any(|endpoint| endpoint.protocol().inner.lock().counters().received > 0);
        if let Some(notice) = self.first_wait.take_if(|_| has_received()) {
            notice.done();
        }
        let (count, until) = (self.context.args.count, self.context.args.until);
        let is_over = endpoints.iter().any(|endpoint| {
            let watcher = endpoint.protocol().inner.lock();
            (count > 0 && watcher.counters().received >= count) || until.is_some_and(|until| until.holds(&watcher))
        });
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<TracedWatcher>], _: Moment) {}
}
