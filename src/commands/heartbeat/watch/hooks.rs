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
use super::events::{Event, HookTally, Note};
use crate::error::{Result, word};
use crate::heartbeat::Fact;
use crate::host::{Hook, HookExit};
use crate::net::datagram::Ended;
use crate::net::{Nudge, Signals, Woken};
use crate::output::Recorder;

/// How many commands run at once.
const THREADS: usize = 16;
/// How many changes may wait for each of them.
const QUEUE: usize = 1_024;

/// The commands of a run.
pub struct Hooks<'s> {
    queues: Vec<SyncSender<Fact>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
    counts: Arc<Counts>,
    /// Closed to make the commands hurry.
    hurry: PipeWriter,
}

#[derive(Debug, Default)]
struct Counts {
    run: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Whether nothing more is to be run.
    is_over: AtomicBool,
    /// How many threads have ended.
    ended: AtomicUsize,
}

impl<'s> Hooks<'s> {
    /// Starts the threads.
    pub fn start(
        scope: &'s Scope<'s, '_>,
        hook: &'s Hook,
        limit: Duration,
        recorder: &Recorder<Event>,
        signals: &Signals,
    ) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (hurried, hurry) = std::io::pipe().map_err(|error| cannot_start("commands", error))?;
        let hurried = Arc::new(hurried);
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..THREADS {
            let (queue, changes) = sync_channel(QUEUE);
            let worker = Worker {
                hook,
                limit,
                recorder: recorder.clone(),
                counts: Arc::clone(&counts),
                hurried: Arc::clone(&hurried),
                nudge: signals.nudger()?,
            };
            let thread = std::thread::Builder::new()
                .name(format!("hook-{number}"))
                .spawn_scoped(scope, move || worker.work(&changes))
                .map_err(|error| cannot_start("a thread for commands", error))?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues, threads, counts, hurry })
    }

    /// Hears a fact; a change of state is passed on.
    pub fn hear(&self, fact: &Fact) {
        let Fact::State { name, .. } = fact else { return };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % THREADS as u64).unwrap_or_default();
        let queued = self.queues.get(place).map(|queue| queue.try_send(fact.clone()));
        if !matches!(queued, Some(Ok(()))) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets what waits be run until a signal comes, or has come already, and says what came of it all.
    pub fn finish(self, ended: Option<Ended>, signals: &mut Signals) -> HookTally {
        let Self { queues, threads, counts, hurry } = self;
        drop(queues);
        let mut is_over = matches!(ended, Some(Ended::Signal(_)));
        while !is_over && counts.ended.load(Ordering::Acquire) < threads.len() {
            is_over = matches!(signals.wait(None), Woken::Signal(_));
        }
        counts.is_over.store(true, Ordering::Release);
        drop(hurry);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        HookTally {
            run: counts.run.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }
}

/// One that runs commands.
struct Worker<'s> {
    hook: &'s Hook,
    limit: Duration,
    recorder: Recorder<Event>,
    counts: Arc<Counts>,
    hurried: Arc<PipeReader>,
    nudge: Nudge,
}

impl Worker<'_> {
    fn work(self, changes: &Receiver<Fact>) {
        let counts = &self.counts;
        while let Ok(fact) = changes.recv() {
            if counts.is_over.load(Ordering::Acquire) {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            counts.run.fetch_add(1, Ordering::Relaxed);
            if let Some(why) = self.run(&fact) {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                let name = fact.name().cloned().unwrap_or_default();
                self.recorder.emit(Event::Fact(Note::HookFailed { name, why }));
            }
        }
        counts.ended.fetch_add(1, Ordering::Release);
        self.nudge.nudge();
    }

    /// Why it failed, if it did.
    fn run(&self, fact: &Fact) -> Option<String> {
        let mut input = serde_json::to_vec(fact).unwrap_or_default();
        input.push(b'\n');
        Some(match self.hook.run(&environment(fact), &input, self.limit, self.hurried.as_fd()) {
            Ok(HookExit::Code(0)) => return None,
            Ok(HookExit::Code(code)) => format!("it ended with {code}"),
            Ok(HookExit::Signal(signal)) => format!("signal {signal} ended it"),
            Ok(HookExit::TimedOut) if self.counts.is_over.load(Ordering::Acquire) => {
                "it was still running when the watcher was stopped".to_owned()
            }
            Ok(HookExit::TimedOut) => format!("it took longer than {}", humantime::format_duration(self.limit)),
            Err(error) => word(&error),
        })
    }
}

fn environment(fact: &Fact) -> Vec<(&'static str, String)> {
    let Fact::State { name, from, to, peer, silent, exit, .. } = fact else { return Vec::new() };
    let mut environment = vec![
        ("NETLAB_NAME", name.to_string()),
        ("NETLAB_FROM", from.word().to_owned()),
        ("NETLAB_TO", to.word().to_owned()),
    ];
    environment.extend(peer.map(|peer| ("NETLAB_PEER", peer.to_string())));
    environment.extend(silent.map(|silent| ("NETLAB_SILENT_MS", silent.as_millis().to_string())));
    environment.extend(exit.map(|exit| ("NETLAB_EXIT", exit.to_string())));
    environment
}
