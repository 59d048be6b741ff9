//! `--on-change`: a command per change of state.
//!
//! Owns the threads that wait for commands. The changes of one sender always go to the same thread, so
//! they are told in their order and one at a time; a command that hangs is ended at its limit. Too
//! many waiting are dropped and counted: a slow command must not stop a watcher.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{Event, HookTally, Note};
use crate::error::{Result, word};
use crate::heartbeat::Fact;
use crate::host::{Hook, HookEnd};
use crate::output::Recorder;

/// How many commands run at once.
const THREADS: usize = 4;
/// How many changes may wait for each of them.
const QUEUE: usize = 1_024;

/// The commands of a run.
pub struct Hooks<'s> {
    queues: Vec<SyncSender<Fact>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    run: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl<'s> Hooks<'s> {
    /// Starts the threads.
    pub fn start(
        scope: &'s Scope<'s, '_>,
        hook: &'s Hook,
        limit: Duration,
        recorder: &Recorder<Event>,
    ) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..THREADS {
            let (queue, changes) = sync_channel(QUEUE);
            let (recorder, counts) = (recorder.clone(), Arc::clone(&counts));
            let thread = std::thread::Builder::new()
                .name(format!("hook-{number}"))
                .spawn_scoped(scope, move || work(&changes, hook, limit, &recorder, &counts))
                .map_err(|error| cannot_start("a thread for commands", error))?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues, threads, counts })
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

    /// Lets what waits be run, and says what came of it all.
    pub fn finish(self) -> HookTally {
        let Self { queues, threads, counts } = self;
        drop(queues);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        HookTally {
            run: counts.run.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }
}

fn work(changes: &Receiver<Fact>, hook: &Hook, limit: Duration, recorder: &Recorder<Event>, counts: &Counts) {
    while let Ok(fact) = changes.recv() {
        counts.run.fetch_add(1, Ordering::Relaxed);
        let mut input = serde_json::to_vec(&fact).unwrap_or_default();
        input.push(b'\n');
        let why = match hook.run(&environment(&fact), &input, limit) {
            Ok(HookEnd::Code(0)) => continue,
            Ok(HookEnd::Code(code)) => format!("it ended with {code}"),
            Ok(HookEnd::Signal(signal)) => format!("signal {signal} ended it"),
            Ok(HookEnd::TimedOut) => format!("it took longer than {}", humantime::format_duration(limit)),
            Err(error) => word(&error),
        };
        counts.failed.fetch_add(1, Ordering::Relaxed);
        let name = fact.name().cloned().unwrap_or_default();
        recorder.record(Event::Fact(Note::HookFailed { name, why }));
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
