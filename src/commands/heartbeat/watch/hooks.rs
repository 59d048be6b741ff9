//! `--on-change`: one command per state change.
//!
//! Owns the threads that run the commands. The changes of one sender always go to the same thread, so their
//! commands run in order and one at a time; a command is killed at its timeout. If a queue is full, changes are
//! dropped and counted: a slow command must not stop the watcher. After a signal, running commands have one
//! second, and queued changes are dropped.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{HeartbeatWatchEvent, HookCounters, OwnEvent};
use crate::error::Result;
use crate::failure::io_error_text;
use crate::heartbeat::WatcherEvent;
use crate::host::{Hook, HookExit};
use crate::net::datagram::StopReason;
use crate::net::{self, Signals, WakeReason, Waker};
use crate::output::{Recorder, event_line};
use crate::time::Moment;

const MAX_CONCURRENT_HOOKS: usize = 16;
/// Maximum number of changes queued per thread.
const QUEUE_LIMIT: usize = 1_024;

/// Threads that run the commands of `--on-change`.
pub(super) struct HookRunner<'s> {
    queues: Vec<SyncSender<(Moment, WatcherEvent)>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
    state: Arc<HookRunnerState>,
    /// Closed to cancel the running commands.
    cancel: PipeWriter,
}

#[derive(Debug, Default)]
struct HookRunnerState {
    started: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    is_cancelled: AtomicBool,
    finished_threads: AtomicUsize,
}

impl<'s> HookRunner<'s> {
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        hook: &'s Hook,
        timeout: Duration,
        recorder: &Recorder<HeartbeatWatchEvent>,
        signals: &Signals,
    ) -> Result<Self> {
        let state = Arc::new(HookRunnerState::default());
        let (cancelled, cancel) = std::io::pipe().map_err(|error| cannot_start("the hook threads", error))?;
        let cancelled = Arc::new(cancelled);
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..MAX_CONCURRENT_HOOKS {
            let (queue, changes) = sync_channel(QUEUE_LIMIT);
            let worker = HookWorker {
                hook,
                timeout,
                recorder: recorder.clone(),
                state: Arc::clone(&state),
                cancelled: Arc::clone(&cancelled),
                waker: signals.waker()?,
            };
            let thread = std::thread::Builder::new()
                .name(format!("hook-{number}"))
                .spawn_scoped(scope, move || worker.run_queue(&changes))
                .map_err(|error| cannot_start("a hook thread", error))?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues, threads, state, cancel })
    }

    /// Queues a state change for its sender's thread; ignores other events.
    pub(super) fn on_event(&self, event: &WatcherEvent) {
        let WatcherEvent::State { name, .. } = event else { return };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % MAX_CONCURRENT_HOOKS as u64).unwrap_or_default();
        let is_queued = self.queues.get(index).is_some_and(|queue| queue.try_send((net::now(), event.clone())).is_ok());
        if !is_queued {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs the commands of the queued changes, unless a signal ended the run or arrives meanwhile; returns the
    /// counters.
    pub(super) fn finish(self, stop_reason: Option<StopReason>, signals: &mut Signals) -> HookCounters {
        let Self { queues, threads, state, cancel } = self;
        drop(queues);
        let mut is_over = matches!(stop_reason, Some(StopReason::Signal(_)));
        while !is_over && state.finished_threads.load(Ordering::Acquire) < threads.len() {
            is_over = matches!(signals.wait(None), WakeReason::Signal(_));
        }
        state.is_cancelled.store(true, Ordering::Release);
        drop(cancel);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        HookCounters {
            run: state.started.load(Ordering::Relaxed),
            failed: state.failed.load(Ordering::Relaxed),
            dropped: state.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Thread that runs the commands of one queue.
struct HookWorker<'s> {
    hook: &'s Hook,
    timeout: Duration,
    recorder: Recorder<HeartbeatWatchEvent>,
    state: Arc<HookRunnerState>,
    cancelled: Arc<PipeReader>,
    waker: Waker,
}

impl HookWorker<'_> {
    fn run_queue(self, changes: &Receiver<(Moment, WatcherEvent)>) {
        let state = &self.state;
        while let Ok((time, event)) = changes.recv() {
            if state.is_cancelled.load(Ordering::Acquire) {
                state.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            state.started.fetch_add(1, Ordering::Relaxed);
            if let Some(why) = self.run_hook(&event, time) {
                state.failed.fetch_add(1, Ordering::Relaxed);
                let name = event.sender_name().cloned().unwrap_or_default();
                self.recorder.emit(HeartbeatWatchEvent::Own(OwnEvent::HookFailed { name, why }));
            }
        }
        state.finished_threads.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }

    /// Runs the command and returns the reason if it fails.
    fn run_hook(&self, event: &WatcherEvent, time: Moment) -> Option<String> {
        let input = event_line(event, time);
        Some(match self.hook.run(&environment(event), &input, self.timeout, self.cancelled.as_fd()) {
            Ok(HookExit::Code(0)) => return None,
            Ok(HookExit::Code(code)) => format!("exited with {code}"),
            Ok(HookExit::Signal(signal)) => format!("killed by signal {signal}"),
            Ok(HookExit::TimedOut) if self.state.is_cancelled.load(Ordering::Acquire) => {
                "killed because the watcher was stopped".to_owned()
            }
            Ok(HookExit::TimedOut) => format!("timed out after {}", humantime::format_duration(self.timeout)),
            Err(error) => io_error_text(&error),
        })
    }
}

fn environment(event: &WatcherEvent) -> Vec<(&'static str, String)> {
    let WatcherEvent::State { name, from, to, peer, silent, exit, .. } = event else { return Vec::new() };
    let mut environment = vec![
        ("NETLAB_NAME", name.to_string()),
        ("NETLAB_FROM", from.as_str().to_owned()),
        ("NETLAB_TO", to.as_str().to_owned()),
    ];
    environment.extend(peer.map(|peer| ("NETLAB_PEER", peer.to_string())));
    environment.extend(silent.map(|silent| ("NETLAB_SILENT_MS", silent.as_millis().to_string())));
    environment.extend(exit.map(|exit| ("NETLAB_EXIT", exit.to_string())));
    environment
}
