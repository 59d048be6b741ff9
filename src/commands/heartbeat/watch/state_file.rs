//! `--state`: file that keeps the senders across restarts of the watcher.
//!
//! Owns the thread that writes the file. The file is replaced atomically: as soon as a state has changed, at
//! intervals if only counters have, and at the end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{HeartbeatWatchEvent, OwnEvent};
use super::shared_watcher::SharedWatcher;
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::io_error_text;
use crate::heartbeat::{MissingSenderSnapshot, SNAPSHOT_VERSION, SenderSnapshot, Snapshot, WatcherEvent};
use crate::net;
use crate::output::Recorder;
use crate::time::Moment;

/// Interval between writes while only counters change.
const COUNTS_WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// Pause before the next write, as a multiple of the duration of the last write.
const WRITE_BACKOFF_FACTOR: u32 = 4;
/// Maximum pause before the next write.
const MAX_WRITE_DELAY: Duration = Duration::from_secs(1);
/// Largest file accepted; `--max-senders` needs less at its maximum.
const MAX_STATE_FILE_BYTES: u64 = 8 << 30;

/// Reads a state file, or returns `None` if there is no such file.
pub(super) fn read_snapshot(file: &Path) -> Result<Option<Snapshot>> {
    let path = file.display();
    let text = match fs::metadata(file).and_then(|about| read_regular_file(file, &about)) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Err(Error::new(Exit::Config, format!("{path} is too large or not a regular file"))
                .expected("a state file, or the name of a new file"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk::check_writable(file)?;
            return Ok(None);
        }
        Err(error) => {
            let message = format!("cannot read {path}: {}", io_error_text(&error));
            return Err(Error::new(Exit::Config, message).with_source(error));
        }
    };
    let invalid = |message: String| {
        Error::new(Exit::Config, message)
            .expected("a file written by heartbeat watch")
            .remedy("move the file away to start with an empty state")
    };
    let snapshot: Snapshot = serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("{path} is not a heartbeat state file")).with_source(error))?;
    if snapshot.version != SNAPSHOT_VERSION {
        return Err(invalid(format!(
            "{path} has version {}, but this netlab reads version {SNAPSHOT_VERSION}",
            snapshot.version
        )));
    }
    Ok(Some(snapshot))
}

/// Reads a regular file; returns `None` for a device, a pipe or a file over the size limit.
fn read_regular_file(file: &Path, metadata: &fs::Metadata) -> io::Result<Option<Vec<u8>>> {
    if metadata.is_file() && metadata.len() <= MAX_STATE_FILE_BYTES { fs::read(file).map(Some) } else { Ok(None) }
}

/// Thread that writes the state file.
pub(super) struct StateWriter<'s> {
    changes: SyncSender<()>,
    thread: ScopedJoinHandle<'s, Result<()>>,
}

impl<'s> StateWriter<'s> {
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        file: &'s Path,
        shared: &'s SharedWatcher,
        recorder: &Recorder<HeartbeatWatchEvent>,
    ) -> Result<Self> {
        let (changes, changed) = sync_channel(1);
        let recorder = recorder.clone();
        let run = move || {
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
                // Reported once, and again only after a successful write.
                if let (Err(error), false) = (&written, failed) {
                    let why = error.message().to_owned();
                    recorder.emit(HeartbeatWatchEvent::Own(OwnEvent::StateNotWritten { why }));
                }
                failed = written.is_err();
                has_changed = wait_out_backoff(
                    &changed,
                    net::now() + ((net::now() - started) * WRITE_BACKOFF_FACTOR).min(MAX_WRITE_DELAY),
                );
            }
        };
        let thread = std::thread::Builder::new()
            .name("state-writer".into())
            .spawn_scoped(scope, run)
            .map_err(|error| cannot_start("the state writer", error))?;
        Ok(Self { changes, thread })
    }

    /// Requests a write after a state change; a request that is already pending is enough.
    pub(super) fn on_event(&self, event: &WatcherEvent) {
        if matches!(event, WatcherEvent::State { .. }) {
            let _ = self.changes.try_send(());
        }
    }

    /// Writes the file a last time and ends the thread.
    pub(super) fn finish(self) -> Result<()> {
        let Self { changes, thread } = self;
        drop(changes);
        thread.join().unwrap_or(Ok(()))
    }
}

/// Waits until `deadline`, or until the run ends, and returns whether a state has changed meanwhile.
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
    shared.for_each_slot_range(|watcher, slots| {
        for record in slots.filter_map(|slot| watcher.sender_table().get(slot)) {
            senders.extend(SenderSnapshot::of(record));
            missed.extend(MissingSenderSnapshot::of(record));
        }
    });
    let saved_ms = u64::try_from(net::now().wall().as_millis()).unwrap_or(u64::MAX);
    let snapshot = Snapshot { version: SNAPSHOT_VERSION, saved_ms, senders, missed };
    let text = serde_json::to_vec(&snapshot)
        .map_err(|error| Error::new(Exit::Bug, "cannot serialise the state").with_source(error))?;
    Ok(disk::replace(file, &text)?)
}
