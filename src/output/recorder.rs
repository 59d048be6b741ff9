//! A server's events, written by one thread so that no other one waits for a slow terminal.
//!
//! Owns the bounded queue between the threads that serve and the one that writes. Full means
//! dropped and counted: a log must never stop a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use super::{Event, Output, format_event};
use crate::error::{Error, Result};
use crate::exit::Exit;

/// Events that may wait to be written.
const QUEUE_LIMIT: usize = 8192;
/// Octets collected before they are written even though more events wait.
const BATCH_BYTES: usize = 64 * 1024;

/// How long the end of a run waits for a reader that takes nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Hands events to the writer; cheap to clone, one per thread.
#[derive(Debug)]
pub(crate) struct Recorder<E> {
    queue: SyncSender<E>,
    dropped: Arc<AtomicU64>,
}

impl<E> Clone for Recorder<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), dropped: Arc::clone(&self.dropped) }
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    done: Receiver<(Output, Result<()>)>,
    dropped: Arc<AtomicU64>,
    /// Batches written; it moves as long as somebody reads.
    batches: Arc<AtomicU64>,
}

impl<E: Event + Send + 'static> Recorder<E> {
    /// Starts the writer. `on_gone` is called once if nobody reads stdout any longer.
    pub(crate) fn start(output: Output, on_closed: impl FnOnce() + Send + 'static) -> Result<(Self, Writer)> {
        let (queue, events) = sync_channel(QUEUE_LIMIT);
        let dropped = Arc::new(AtomicU64::new(0));
        let batches = Arc::new(AtomicU64::new(0));
        let (tell, done) = sync_channel(1);
        let run = {
            let (dropped, batches) = (Arc::clone(&dropped), Arc::clone(&batches));
            move || drop(tell.send(run_writer(output, &events, (&dropped, &batches), on_closed)))
        };
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(run)
            .map_err(|error| Error::new(Exit::OsError, "cannot start the writer thread").with_source(error))?;
        Ok((Self { queue, dropped: Arc::clone(&dropped) }, Writer { done, dropped, batches }))
    }

    /// Hands over an event, or counts it as dropped.
    pub(crate) fn emit(&self, event: E) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Waits until everything is written, once all recorders are gone; returns the output, how
    /// many events were dropped, and the first failure. A reader that takes nothing any longer holds up
    /// nobody's end.
    pub(crate) fn finish(self) -> (Output, u64, Result<()>) {
        let mut written = self.batches.load(Ordering::Relaxed);
        let (output, result) = loop {
            match self.done.recv_timeout(STALL_TIMEOUT) {
                Ok(ended) => break ended,
                Err(RecvTimeoutError::Disconnected) => break (Output::new(super::Style::default()), Ok(())),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.batches.load(Ordering::Relaxed);
                    if now == written {
                        let what = "nobody reads standard output; what was left to say is lost";
                        break (Output::stalled(), Err(Error::new(Exit::Io, what)));
                    }
                    written = now;
                }
            }
        };
        (output, self.dropped.load(Ordering::Relaxed), result)
    }
}

/// Writes each event as soon as it comes, and those that come together in one call. A full disk
/// loses lines, which are counted, and does not end the server.
fn run_writer<E: Event>(
    mut output: Output,
    events: &Receiver<E>,
    (dropped, batches): (&AtomicU64, &AtomicU64),
    on_closed: impl FnOnce(),
) -> (Output, Result<()>) {
    let mut on_gone = Some(on_closed);
    let mut first_failure = Ok(());
    let mut batch = Vec::new();
    while let Ok(event) = events.recv().map_err(|RecvError| ()) {
        let mut next = Some(event);
        let mut lines = 0;
        batch.clear();
        while let Some(event) = next.take() {
            if (!output.style().quiet || event.is_summary())
                && format_event(&event, output.style().format, &mut batch).is_ok()
            {
                lines += 1;
            }
            next = match events.try_recv() {
                Ok(event) if batch.len() < BATCH_BYTES => Some(event),
                Ok(event) => {
                    let failed = flush(&mut output, &batch, lines, dropped);
                    batches.fetch_add(1, Ordering::Relaxed);
                    first_failure = first_failure.and(failed);
                    batch.clear();
                    lines = 0;
                    Some(event)
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            };
        }
        let failed = flush(&mut output, &batch, lines, dropped);
        batches.fetch_add(1, Ordering::Relaxed);
        first_failure = first_failure.and(failed);
        if output.is_closed()
            && let Some(on_gone) = on_gone.take()
        {
            on_gone();
        }
    }
    (output, first_failure)
}

fn flush(output: &mut Output, batch: &[u8], lines: u64, dropped: &AtomicU64) -> Result<()> {
    let written = output.write_bytes(batch);
    if let Err(error) = &written
        && dropped.fetch_add(lines, Ordering::Relaxed) == 0
    {
        // Said once, at the first loss; how many there were is said in the end.
        output.report_error(error);
    }
    written
}
