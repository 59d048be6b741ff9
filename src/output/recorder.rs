//! Event recorder: one thread writes the events of a server, so that workers never wait for a slow terminal.
//!
//! Owns the bounded queue between the workers and the writer. A full queue drops and counts events, because a
//! log must never stop a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use super::envelope::format_event;
use super::{Event, Output, escaped};
use crate::failure::{Failure, FailureKind, Result};
use crate::time::Moment;

/// Maximum events in the queue.
const QUEUE_LIMIT: usize = 8192;
/// Size of a batch that is written even if more events are queued.
const BATCH_BYTES: usize = 64 * 1024;

/// Time without progress after which the reader of stdout counts as stalled at the end of a run.
const STALL_TIMEOUT: Duration = Duration::from_millis(900);

/// Entry of the queue.
#[derive(Debug)]
enum Entry<E> {
    /// Event with the time at which it was emitted.
    Event(Moment, E),
    /// Text for stderr, with its line end.
    Note(String),
}

/// Sender of texts for stderr.
pub(crate) struct NoteSender(Box<dyn Fn(String) + Send>);

impl NoteSender {
    pub(crate) fn send(&self, text: String) {
        (self.0)(text);
    }
}

/// Sender side of the queue; cheap to clone, one per thread.
#[derive(Debug)]
pub(crate) struct Recorder<E> {
    queue: SyncSender<Entry<E>>,
    clock: fn() -> Moment,
    dropped: Arc<AtomicU64>,
}

impl<E> Clone for Recorder<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), clock: self.clock, dropped: Arc::clone(&self.dropped) }
    }
}

/// Writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    done: Receiver<(Output, Result<()>)>,
    output: Output,
    dropped: Arc<AtomicU64>,
    /// Batches written so far; unchanged while the reader is stalled.
    batches: Arc<AtomicU64>,
}

impl<E: Event + Send + 'static> Recorder<E> {
    /// Starts the writer thread. `on_closed` is called once if stdout is closed by its reader.
    pub(crate) fn start(output: Output, on_closed: impl FnOnce() + Send + 'static) -> Result<(Self, Writer)> {
        let (queue, events) = sync_channel(QUEUE_LIMIT);
        let dropped = Arc::new(AtomicU64::new(0));
        let batches = Arc::new(AtomicU64::new(0));
        let (done_sender, done) = sync_channel(1);
        let (writer_output, clock) = (output.clone(), output.clock);
        let run = {
            let (dropped, batches) = (Arc::clone(&dropped), Arc::clone(&batches));
            move || drop(done_sender.send(run_writer(writer_output, &events, (&dropped, &batches), on_closed)))
        };
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(run)
            .map_err(|error| Failure::new(FailureKind::System, "cannot start the writer thread").with_source(error))?;
        Ok((Self { queue, clock, dropped: Arc::clone(&dropped) }, Writer { done, output, dropped, batches }))
    }

    /// Queues an event, or counts it as dropped.
    pub(crate) fn emit(&self, event: E) {
        if self.queue.try_send(Entry::Event((self.clock)(), event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues a note for stderr, or counts it as dropped.
    pub(crate) fn note(&self, text: &str) {
        let time = (self.clock)().zoned().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
        self.queue_note(format!("{time} {}\n", escaped(text)));
    }

    /// Returns a sender of texts for stderr, which does not know the events.
    pub(crate) fn notes(&self) -> NoteSender {
        let recorder = self.clone();
        NoteSender(Box::new(move |text| recorder.queue_note(text)))
    }

    fn queue_note(&self, text: String) {
        if self.queue.try_send(Entry::Note(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Waits until the queue is written, once all recorders are dropped; returns the output, the number of
    /// dropped events and the first failure. Gives up on a reader that stalls.
    pub(crate) fn finish(self) -> (Output, u64, Result<()>) {
        let mut written = self.batches.load(Ordering::Relaxed);
        let (output, result) = loop {
            match self.done.recv_timeout(STALL_TIMEOUT) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Disconnected) => break (self.output, Ok(())),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.batches.load(Ordering::Relaxed);
                    if now == written {
                        let message = "standard output is not being read; the remaining output was discarded";
                        self.output.close();
                        break (self.output, Err(Failure::new(FailureKind::ReadWrite, message)));
                    }
                    written = now;
                }
            }
        };
        (output, self.dropped.load(Ordering::Relaxed), result)
    }
}

/// Writes each event at once, and queued events together in one call. Lines lost to a full disk are counted and do
/// not end the server.
fn run_writer<E: Event>(
    mut output: Output,
    events: &Receiver<Entry<E>>,
    (dropped, batches): (&AtomicU64, &AtomicU64),
    on_closed: impl FnOnce(),
) -> (Output, Result<()>) {
    let mut on_closed = Some(on_closed);
    let mut first_failure = Ok(());
    let mut batch = Batch { bytes: Vec::new(), lines: 0 };
    let mut flush = |output: &mut Output, batch: &mut Batch| {
        let failed = batch.flush(output, dropped);
        batches.fetch_add(1, Ordering::Relaxed);
        first_failure = std::mem::replace(&mut first_failure, Ok(())).and(failed);
    };
    while let Ok(event) = events.recv().map_err(|RecvError| ()) {
        let mut next = Some(event);
        while let Some(entry) = next.take() {
            let style = output.style();
            match entry {
                Entry::Event(emitted, event) if style.prints_events() => {
                    batch.lines +=
                        u64::from(format_event(&event, emitted, (style, output.palette()), &mut batch.bytes).is_ok());
                }
                Entry::Event(..) => {}
                Entry::Note(text) => {
                    // A note explains the events before it.
                    flush(&mut output, &mut batch);
                    output.stderr().write(&text);
                }
            }
            next = match events.try_recv() {
                Ok(event) => {
                    if batch.bytes.len() >= BATCH_BYTES {
                        flush(&mut output, &mut batch);
                    }
                    Some(event)
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            };
        }
        flush(&mut output, &mut batch);
        if output.is_closed()
            && let Some(on_closed) = on_closed.take()
        {
            on_closed();
        }
    }
    (output, first_failure)
}

/// Lines that are written in one call.
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    fn flush(&mut self, output: &mut Output, dropped: &AtomicU64) -> Result<()> {
        let written = output.write_bytes(&self.bytes);
        if output.is_closed() {
            dropped.fetch_add(self.lines, Ordering::Relaxed);
        } else if let Err(failure) = &written
            && dropped.fetch_add(self.lines, Ordering::Relaxed) == 0
        {
            // Reported once, at the first loss; the summary has the number of lost lines.
            output.report_error(&failure.without_source().into());
        }
        self.bytes.clear();
        self.lines = 0;
        written
    }
}
