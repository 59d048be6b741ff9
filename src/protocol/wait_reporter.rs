//! Reporter of silence: wraps the session of a server and reports what it waits for from its client.
//!
//! Owns the timing: after two seconds of silence, then every ten. The session knows what it waits for.

use std::time::Duration;

use super::{Actions, CloseReason, StreamProtocol, last_line};
use crate::time::Moment;

/// Silence before the first report.
pub(crate) const FIRST_REPORT: Duration = Duration::from_secs(2);
/// Silence between two reports.
pub(crate) const NEXT_REPORT: Duration = Duration::from_secs(10);

/// Awaited by the loop before the session is opened, or after STARTTLS.
const HANDSHAKE: Awaited = Awaited { what: "the TLS handshake (RFC 8446 §4)", is_begun: true };

/// Input that a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// Description, such as "the end of the request head".
    pub what: &'static str,
    /// The client is in the middle of something: the last line is shown, and the report is repeated.
    pub is_begun: bool,
}

/// Session that knows what it waits for.
pub(crate) trait AwaitsInput: StreamProtocol {
    fn awaited(&self) -> Option<Awaited>;

    /// Formats the last line of the input, which may be incomplete, without its secrets; `None` if it is one.
    fn shown_line(&self, line: &[u8]) -> Option<String>;

    /// Creates the event of a report.
    fn waiting_event(&self, report: WaitReport) -> Self::Event;
}

/// Report of a silent client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitReport {
    pub awaited: Awaited,
    /// Last line received, shortened.
    pub last_line: Option<String>,
    pub silence: Duration,
}

/// Session with a reporter; without one, calls are forwarded unchanged.
pub(crate) struct WaitReporter<P> {
    pub session: P,
    watch: Option<Box<Watch>>,
}

struct Watch {
    last_line: Option<String>,
    /// Bytes of input that the session has not consumed.
    unconsumed: usize,
    quiet_since: Moment,
    next_report: Option<Duration>,
}

impl<P: AwaitsInput> WaitReporter<P> {
    pub(crate) fn new(session: P, is_enabled: bool, now: Moment) -> Self {
        let watch = Watch { last_line: None, unconsumed: 0, quiet_since: now, next_report: Some(FIRST_REPORT) };
        Self { session, watch: is_enabled.then(|| Box::new(watch)) }
    }

    fn report_at(&self) -> Option<Moment> {
        self.session.awaited().and(self.due())
    }

    /// Moment of the next report if something is awaited.
    fn due(&self) -> Option<Moment> {
        let watch = self.watch.as_ref()?;
        Some(watch.quiet_since + watch.next_report?)
    }

    fn restart(&mut self, now: Moment) {
        if let Some(watch) = &mut self.watch {
            (watch.quiet_since, watch.next_report) = (now, Some(FIRST_REPORT));
        }
    }

    fn report(&mut self, awaited: Awaited, now: Moment, actions: &mut Actions<P::Event>) {
        let Some(watch) = &mut self.watch else { return };
        let silence = now - watch.quiet_since;
        let awaited = Awaited { is_begun: awaited.is_begun || watch.unconsumed > 0, ..awaited };
        watch.next_report = awaited.is_begun.then(|| silence + NEXT_REPORT);
        let last_line = watch.last_line.clone().filter(|_| awaited.is_begun);
        actions.emit(self.session.waiting_event(WaitReport { awaited, last_line, silence }));
    }
}

impl<P: AwaitsInput> StreamProtocol for WaitReporter<P> {
    type Event = P::Event;
    const FULL_DUPLEX: bool = P::FULL_DUPLEX;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        self.restart(now);
        self.session.opened(tls, now, actions);
    }

    fn opened_in_clear(&mut self, now: Moment, actions: &mut Actions<Self::Event>) -> bool {
        self.restart(now);
        self.session.opened_in_clear(now, actions)
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        // The same bytes are offered again after each wake-up.
        if self.watch.as_ref().is_some_and(|watch| bytes.len() > watch.unconsumed) {
            self.restart(now);
        }
        let taken = self.session.received(bytes, now, actions);
        let rest = bytes.get(taken..).unwrap_or_default();
        if let Some(watch) = &mut self.watch {
            watch.unconsumed = rest.len();
            let is_begun = self.session.awaited().is_some_and(|awaited| awaited.is_begun);
            let line = last_line(if rest.is_empty() && is_begun { bytes } else { rest });
            watch.last_line = line.and_then(|line| self.session.shown_line(line));
        }
        taken
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.restart(now);
        self.session.sent(now, actions);
    }

    fn partly_sent(&mut self, bytes: u64, actions: &mut Actions<Self::Event>) {
        self.session.partly_sent(bytes, actions);
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        if let Some(awaited) = self.session.awaited().filter(|_| self.due().is_some_and(|due| due <= now)) {
            self.report(awaited, now, actions);
        }
        if self.session.wake_at().is_some_and(|due| due <= now) {
            self.session.woken(now, actions);
        }
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.session.job_done(now, actions);
    }

    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.session.draining(now, actions);
    }

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        self.session.ended(reason, now, actions);
    }

    fn wake_at(&self) -> Option<Moment> {
        self.session.wake_at().into_iter().chain(self.report_at()).min()
    }

    fn handshake_wake_at(&self) -> Option<Moment> {
        self.due()
    }

    fn handshake_woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.report(HANDSHAKE, now, actions);
    }

    fn idle_deadline(&self) -> Option<Moment> {
        self.session.idle_deadline()
    }

    fn is_paused(&self) -> bool {
        self.session.is_paused()
    }
}

impl<P: AwaitsInput> AwaitsInput for WaitReporter<P> {
    fn awaited(&self) -> Option<Awaited> {
        self.session.awaited()
    }

    fn shown_line(&self, line: &[u8]) -> Option<String> {
        self.session.shown_line(line)
    }

    fn waiting_event(&self, report: WaitReport) -> Self::Event {
        self.session.waiting_event(report)
    }
}

impl std::fmt::Display for WaitReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waiting for {}", self.awaited.what)?;
        if let Some(line) = &self.last_line {
            write!(f, ", last line: '{line}'")?;
        }
        write!(f, ": {} s", self.silence.as_secs())
    }
}
