//! `--state`: what outlives a watcher.
//!
//! Owns the thread that writes the state file. It is replaced in one step, at most once a second and
//! only if there is something new, and in any case in the end.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::cannot_start;
use super::events::{Event, Note};
use super::shared::Shared;
use crate::disk;
use crate::error::{Error, Result, word};
use crate::exit::Exit;
use crate::heartbeat::{Kept, KeptSender, VERSION};
use crate::net;
use crate::output::Recorder;

/// How often it looks whether there is something to write: a state has changed, …
const CHANGES: Duration = Duration::from_secs(1);
/// … or only numbers have, for so many looks.
const NUMBERS: u32 = 10;

/// Reads a state file; one that is not there is an empty one.
pub fn read(file: &Path) -> Result<Option<Kept>> {
    let shown = file.display();
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return disk::check_target(file).map(|()| None);
        }
        Err(error) => {
            let what = format!("cannot read {shown}: {}", word(&error));
            return Err(Error::new(Exit::Config, what).because(error));
        }
    };
    let wrong = |what: String| {
        Error::new(Exit::Config, what)
            .expected("what heartbeat watch has written there")
            .remedy("move it away to begin anew")
    };
    let kept: Kept = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("{shown} is no state of a watcher")).because(error))?;
    if kept.version != VERSION {
        return Err(wrong(format!("{shown} has version {}, this netlab writes version {VERSION}", kept.version)));
    }
    Ok(Some(kept))
}

/// The thread that writes.
pub struct Keeper<'s> {
    stop: Sender<()>,
    thread: ScopedJoinHandle<'s, Result<()>>,
}

impl<'s> Keeper<'s> {
    /// Starts it.
    pub fn start(
        scope: &'s Scope<'s, '_>,
        file: &'s Path,
        shared: &'s Shared,
        recorder: &Recorder<Event>,
    ) -> Result<Self> {
        let (stop, stopped) = channel();
        let recorder = recorder.clone();
        let work = move || {
            let (mut changes, mut received, mut looks, mut failed) = (0, 0, 0, false);
            loop {
                let ends = stopped.recv_timeout(CHANGES) != Err(RecvTimeoutError::Timeout);
                let now = {
                    let watcher = shared.lock();
                    (watcher.tally().changes, watcher.tally().received)
                };
                looks += 1;
                if !ends && now.0 == changes && (looks < NUMBERS || now.1 == received) {
                    continue;
                }
                (changes, received, looks) = (now.0, now.1, 0);
                let written = write(file, shared);
                if ends {
                    return written;
                }
                // Said once, and once more after it went well in between.
                if let (Err(error), false) = (&written, failed) {
                    recorder.record(Event::Fact(Note::NotKept { why: error.what().to_owned() }));
                }
                failed = written.is_err();
            }
        };
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn_scoped(scope, work)
            .map_err(|error| cannot_start("the thread that keeps the state", error))?;
        Ok(Self { stop, thread })
    }

    /// Writes once more, and ends.
    pub fn finish(self) -> Result<()> {
        let Self { stop, thread } = self;
        drop(stop);
        thread.join().unwrap_or(Ok(()))
    }
}

fn write(file: &Path, shared: &Shared) -> Result<()> {
    let mut senders = Vec::new();
    shared.portions(|watcher, places| {
        senders.extend(places.filter_map(|place| KeptSender::of(watcher.crowd().get(place)?)));
    });
    let saved_ms = u64::try_from(net::now().wall().as_millis()).unwrap_or(u64::MAX);
    let kept = Kept { version: VERSION, saved_ms, senders };
    let text = serde_json::to_vec(&kept)
        .map_err(|error| Error::new(Exit::Bug, "the state cannot be written down").because(error))?;
    disk::replace(file, &text)
}
