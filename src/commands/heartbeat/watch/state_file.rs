//! `--state`: what outlives a watcher.
//!
//! Owns the thread that writes the state file. It is replaced in one step: as soon as a state has
//! changed, now and then if only numbers have, and in any case in the end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{HeartbeatWatchEvent, HeartbeatWatchReport};
use super::shared::SharedWatcher;
use crate::disk;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::heartbeat::{MissingSenderSnapshot, SNAPSHOT_VERSION, SenderSnapshot, Snapshot, WatcherEvent};
use crate::net;
use crate::output::Recorder;
use crate::time::Moment;

/// How long numbers may go unwritten.
const COUNTS_WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// A crowd that comes and goes is written again after so many times what the last time took, …
const WRITE_BACKOFF_FACTOR: u32 = 4;
/// … but not later than this.
const MAX_WRITE_DELAY: Duration = Duration::from_secs(1);
/// The largest file that is read: more senders than there may be.
const MAX_STATE_FILE_BYTES: u64 = 8 << 30;

/// Reads a state file; one that is not there is an empty one.
pub(super) fn read_snapshot(file: &Path) -> Result<Option<Snapshot>> {
    let shown = file.display();
    let text = match fs::metadata(file).and_then(|about| read_regular_file(file, &about)) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Err(Error::new(Exit::Config, format!("{shown} cannot keep the state"))
                .expected("a file, or a name that is free"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return disk::check_writable(file).map(|()| None);
        }
        Err(error) => {
            let what = format!("cannot read {shown}: {}", io_error_text(&error));
            return Err(Error::new(Exit::Config, what).with_source(error));
        }
    };
    let wrong = |what: String| {
        Error::new(Exit::Config, what)
            .expected("what heartbeat watch has written there")
            .remedy("move it away to begin anew")
    };
    let kept: Snapshot = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("{shown} is no state of a watcher")).with_source(error))?;
    if kept.version != SNAPSHOT_VERSION {
        return Err(wrong(format!(
            "{shown} has version {}, this netlab writes version {SNAPSHOT_VERSION}",
            kept.version
        )));
    }
    Ok(Some(kept))
}

/// What a state file says; nothing if it is a device, a pipe, or larger than any.
fn read_regular_file(file: &Path, metadata: &fs::Metadata) -> io::Result<Option<Vec<u8>>> {
    if metadata.is_file() && metadata.len() <= MAX_STATE_FILE_BYTES { fs::read(file).map(Some) } else { Ok(None) }
}

/// The thread that writes.
pub(super) struct StateWriter<'s> {
    changes: SyncSender<()>,
    thread: ScopedJoinHandle<'s, Result<()>>,
}

impl<'s> StateWriter<'s> {
    /// Starts it.
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        file: &'s Path,
        shared: &'s SharedWatcher,
        recorder: &Recorder<HeartbeatWatchReport>,
    ) -> Result<Self> {
        let (changes, changed) = sync_channel(1);
        let recorder = recorder.clone();
        let work = move || {
            let (mut received, mut failed, mut has_changed) = (0, false, false);
            loop {
                let woken = if has_changed { Ok(()) } else { changed.recv_timeout(COUNTS_WRITE_INTERVAL) };
                let ends = woken == Err(RecvTimeoutError::Disconnected);
                let now = shared.lock().counters().received;
                if woken == Err(RecvTimeoutError::Timeout) && now == received {
                    continue;
                }
                received = now;
                let started = net::now();
                let written = write_snapshot(file, shared);
                if ends {
                    return written;
                }
                // Said once, and once more after it went well in between.
                if let (Err(error), false) = (&written, failed) {
                    recorder.emit(HeartbeatWatchReport::Event(HeartbeatWatchEvent::StateNotWritten {
                        why: error.message().to_owned(),
                    }));
                }
                failed = written.is_err();
                has_changed = wait_out_backoff(
                    &changed,
                    net::now() + ((net::now() - started) * WRITE_BACKOFF_FACTOR).min(MAX_WRITE_DELAY),
                );
            }
        };
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn_scoped(scope, work)
            .map_err(|error| cannot_start("the thread that keeps the state", error))?;
        Ok(Self { changes, thread })
    }

    /// Hears a fact; a change of state is written at once. One that waits already is enough.
    pub(super) fn on_event(&self, event: &WatcherEvent) {
        if matches!(event, WatcherEvent::State { .. }) {
            let _ = self.changes.try_send(());
        }
    }

    /// Writes once more, and ends.
    pub(super) fn finish(self) -> Result<()> {
        let Self { changes, thread } = self;
        drop(changes);
        thread.join().unwrap_or(Ok(()))
    }
}

/// Lets time pass, unless it is over, and says whether a state has changed meanwhile.
fn wait_out_backoff(changed: &Receiver<()>, deadline: Moment) -> bool {
    let mut has_changed = false;
    loop {
        let left = deadline - net::now();
        if left.is_zero() {
            return has_changed;
        }
        match changed.recv_timeout(left) {
            Ok(()) => has_changed = true,
            Err(_) => return has_changed,
        }
    }
}

fn write_snapshot(file: &Path, shared: &SharedWatcher) -> Result<()> {
    let (mut senders, mut missed) = (Vec::new(), Vec::new());
    shared.for_each_slot_range(|watcher, places| {
        for record in places.filter_map(|place| watcher.sender_table().get(place)) {
            senders.extend(SenderSnapshot::of(record));
            missed.extend(MissingSenderSnapshot::of(record));
        }
    });
    let saved_ms = u64::try_from(net::now().wall().as_millis()).unwrap_or(u64::MAX);
    let kept = Snapshot { version: SNAPSHOT_VERSION, saved_ms, senders, missed };
    let text = serde_json::to_vec(&kept)
        .map_err(|error| Error::new(Exit::Bug, "the state cannot be written down").with_source(error))?;
    disk::replace(file, &text)
}
