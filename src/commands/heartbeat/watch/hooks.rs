//! `--on-change`: a command per change of state.
//!
//! Owns the threads that wait for commands. The changes of one sender always go to the same thread, so
//! they are told in their order and one at a time; a command that hangs is ended at its limit. Too
//! many waiting are dropped and counted: a slow command must not stop a watcher. After a signal what
//! runs has a second, and what waits is dropped.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{HeartbeatWatchEvent, HeartbeatWatchReport, HookCounters};
use crate::error::{Result, io_error_text};
use crate::heartbeat::WatcherEvent;
use crate::host::{Hook, HookExit};
use crate::net::datagram::StopReason;
use crate::net::{Signals, WakeReason, Waker};
use crate::output::Recorder;

/// How many commands run at once.
const MAX_CONCURRENT_HOOKS: usize = 16;
/// How many changes may wait for each of them.
const QUEUE_LIMIT: usize = 1_024;

/// The commands of a run.
pub(super) struct HookRunner<'s> {
    queues: Vec<SyncSender<WatcherEvent>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
    state: Arc<HookRunnerState>,
    /// Closed to make the commands hurry.
    cancel: PipeWriter,
}

#[derive(Debug, Default)]
struct HookRunnerState {
    started: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Whether nothing more is to be run.
    is_cancelled: AtomicBool,
    /// How many threads have ended.
    finished_threads: AtomicUsize,
}

impl<'s> HookRunner<'s> {
    /// Starts the threads.
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        hook: &'s Hook,
        timeout: Duration,
        recorder: &Recorder<HeartbeatWatchReport>,
        signals: &Signals,
    ) -> Result<Self> {
        let counts = Arc::new(HookRunnerState::default());
        let (hurried, hurry) = std::io::pipe().map_err(|error| cannot_start("commands", error))?;
        let hurried = Arc::new(hurried);
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..MAX_CONCURRENT_HOOKS {
            let (queue, changes) = sync_channel(QUEUE_LIMIT);
            let worker = HookWorker {
                hook,
                timeout,
                recorder: recorder.clone(),
                state: Arc::clone(&counts),
                cancelled: Arc::clone(&hurried),
                waker: signals.waker()?,
            };
            let thread = std::thread::Builder::new()
                .name(format!("hook-{number}"))
                .spawn_scoped(scope, move || worker.run_queue(&changes))
                .map_err(|error| cannot_start("a thread for commands", error))?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues, threads, state: counts, cancel: hurry })
    }

    /// Hears a fact; a change of state is passed on.
    pub(super) fn on_event(&self, event: &WatcherEvent) {
        let WatcherEvent::State { name, .. } = event else { return };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % MAX_CONCURRENT_HOOKS as u64).unwrap_or_default();
        let queued = self.queues.get(place).map(|queue| queue.try_send(event.clone()));
        if !matches!(queued, Some(Ok(()))) {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets what waits be run until a signal comes, or has come already, and says what came of it all.
    pub(super) fn finish(self, ended: Option<StopReason>, signals: &mut Signals) -> HookCounters {
        let Self { queues, threads, state: counts, cancel: hurry } = self;
        drop(queues);
        let mut is_over = matches!(ended, Some(StopReason::Signal(_)));
        while !is_over && counts.finished_threads.load(Ordering::Acquire) < threads.len() {
            is_over = matches!(signals.wait(None), WakeReason::Signal(_));
        }
        counts.is_cancelled.store(true, Ordering::Release);
        drop(hurry);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        HookCounters {
            run: counts.started.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }
}

/// One that runs commands.
struct HookWorker<'s> {
    hook: &'s Hook,
    timeout: Duration,
    recorder: Recorder<HeartbeatWatchReport>,
    state: Arc<HookRunnerState>,
    cancelled: Arc<PipeReader>,
    waker: Waker,
}

impl HookWorker<'_> {
    fn run_queue(self, changes: &Receiver<WatcherEvent>) {
        let counts = &self.state;
        while let Ok(fact) = changes.recv() {
            if counts.is_cancelled.load(Ordering::Acquire) {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            counts.started.fetch_add(1, Ordering::Relaxed);
            if let Some(why) = self.run_hook(&fact) {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                let name = fact.sender_name().cloned().unwrap_or_default();
                self.recorder.emit(HeartbeatWatchReport::Event(HeartbeatWatchEvent::HookFailed { name, why }));
            }
        }
        counts.finished_threads.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }

    /// Why it failed, if it did.
    fn run_hook(&self, event: &WatcherEvent) -> Option<String> {
        let mut input = serde_json::to_vec(event).unwrap_or_default();
        input.push(b'\n');
        Some(match self.hook.run(&environment(event), &input, self.timeout, self.cancelled.as_fd()) {
            Ok(HookExit::Code(0)) => return None,
            Ok(HookExit::Code(code)) => format!("it ended with {code}"),
            Ok(HookExit::Signal(signal)) => format!("signal {signal} ended it"),
            Ok(HookExit::TimedOut) if self.state.is_cancelled.load(Ordering::Acquire) => {
                "it was still running when the watcher was stopped".to_owned()
            }
            Ok(HookExit::TimedOut) => format!("it took longer than {}", humantime::format_duration(self.timeout)),
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
