//! Load test: sends many mails to measure stage durations and mails per second.
//!
//! Owns the send rate, the totals and the workers, each with one connection at a time. Load on targets beyond
//! loopback requires `--i-own-this-target`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;

use super::counters::LoadCounters;
use super::events::LoadSummary;
use super::observer::ProgressEvent;
use super::outcome::{self, session_exit};
use super::session::SessionRunner;
use crate::commands::args::{number, parse_arg};
use crate::commands::fail_if::{FailIf, check_all};
use crate::commands::plot_data::write_chart;
use crate::commands::report::{self, plural};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::net::tls::ClientTls;
use crate::net::{self, Signals, WakeReason, Waker};
use crate::output::{Attempts, Marker, Output, StatusLine, WaitNotice};
use crate::smtp::{self, ClientConfig, ClientEvent, Stage};
use crate::time::Moment;

/// Consecutive connect failures after which a worker gives up.
const MAX_CONSECUTIVE_FAILURES: u32 = 10;
/// Refresh interval of the status line.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags that apply to a single mail only.
const SINGLE_MAIL_FLAGS: [&str; 7] = ["dry_run", "info", "stop_after", "retry", "rejected_to", "trace", "explain"];

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Send the mail N times; 0 = until interrupted [default: 1]
    #[arg(short, long, value_name = "N", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = number::<u64>(0..))]
    count: Option<u64>,

    /// Use N connections at once [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = number::<u16>(1..=1024))]
    concurrency: Option<u16>,

    /// Maximum send rate over all connections, such as 10/s
    #[arg(long, value_name = "R/s", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = parse_arg::<SendRate>)]
    rate: Option<SendRate>,

    /// Send several mails over each connection, instead of one
    #[arg(long, help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true)]
    reuse: bool,

    /// Write an SVG chart of delivery times to FILE
    #[arg(long, value_name = "FILE", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true)]
    svg: Option<PathBuf>,

    /// Exit 1 if EXPR holds, e.g. 'dot.p99>50ms'; repeatable
    #[arg(long, value_name = "EXPR", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = FailIf::parse::<LoadSummary>)]
    fail_if: Vec<FailIf>,

    /// Allow more than one mail to a non-loopback server
    #[arg(long, help_heading = "Load", hide_short_help = true)]
    i_own_this_target: bool,
}

/// Mails per second, stored as the interval between two mails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SendRate(Duration);

impl std::str::FromStr for SendRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix("/s").filter(|number| !number.starts_with(['+', '-']));
        let rate = number.and_then(|number| number.parse::<f64>().ok()).filter(|rate| (1e-6..=1e6).contains(rate));
        rate.map(|rate| Self(Duration::from_secs_f64(rate.recip()))).ok_or_else(|| {
            Error::new(Exit::Usage, format!("invalid rate '{text}'"))
                .expected("mails per second, such as 10/s or 0.5/s")
        })
    }
}

impl LoadArgs {
    /// Returns true if a load test was requested.
    pub(super) fn is_wanted(&self) -> bool {
        let Self { count, concurrency, rate, reuse, svg, fail_if, i_own_this_target: _ } = self;
        svg.is_some() || count.is_some() || concurrency.is_some() || rate.is_some() || *reuse || !fail_if.is_empty()
    }

    /// Number of mails; `None` = until interrupted.
    fn mails(&self) -> Option<u64> {
        Some(self.count.unwrap_or(1)).filter(|count| *count > 0)
    }

    fn threads(&self) -> u64 {
        let wanted = u64::from(self.concurrency.unwrap_or(1));
        self.mails().map_or(wanted, |mails| wanted.min(mails))
    }

    /// Rejects load on targets beyond loopback.
    pub(super) fn check_load_allowed(&self, peers: &[SocketAddr]) -> Result<(), Failure> {
        let is_load = self.mails() != Some(1);
        let external = peers.iter().find(|peer| !peer.ip().to_canonical().is_loopback());
        let Some(peer) = external.filter(|_| is_load && !self.i_own_this_target) else { return Ok(()) };
        let message = format!("more than one message is not allowed to {}", peer.ip());
        Err(Failure::new(FailureKind::LoadNotAllowed, message).expected("a server on loopback, or one message"))
    }

    /// Sends all mails and reports the totals.
    pub(super) fn run(
        &self,
        session: &SessionRunner<'_>,
        config: &ClientConfig,
        tls: Option<&ClientTls>,
        server: String,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<Exit> {
        let shared = SharedProgress {
            next: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            threads_ended: AtomicUsize::new(0),
        };
        self.svg.as_deref().map_or(Ok(()), disk::check_writable)?;
        let started = net::now();
        let threads = self.threads();
        let mut counters = LoadCounters::new(self.svg.is_some());
        let mut status = StatusLine::new(output.style());
        let notice = WaitNotice::new(output);
        let mut last_completed = None;
        let mut interruption = None;
        std::thread::scope(|scope| -> Result<()> {
            let mut workers = Vec::new();
            // Create all signal handlers and wakers before any worker starts; a failure then starts none.
            let handles: Result<Vec<_>> = (0..threads).map(|_| Ok((Signals::install()?, signals.waker()?))).collect();
            for (index, (worker_signals, waker)) in (0..).zip(handles?) {
                let worker =
                    LoadWorker { load: self, session, config: config.clone(), tls, shared: &shared, started, index };
                workers.push(scope.spawn(move || worker.run(worker_signals, &waker)));
            }
            while shared.threads_ended.load(Ordering::Acquire) < workers.len() {
                if let WakeReason::Signal(signal) = signals.wait(Some(net::now() + POLL_INTERVAL)) {
                    interruption = Some(signal.failure().into());
                    break;
                }
                let completed = shared.completed.load(Ordering::Relaxed);
                // With a rate, the run may also wait for the next mail to become due.
                if last_completed.replace(completed) != Some(completed) && self.rate.is_none() {
                    let mails = plural(completed, "mail", "mails");
                    notice.waiting_for(format!("waiting for the server, {completed} {mails} done"));
                }
                status.update(net::now(), || format!("{completed} {}", plural(completed, "mail", "mails")));
            }
            for worker in workers {
                counters.merge(worker.join().map_err(|_| Error::new(Exit::Bug, "a worker thread panicked"))?);
            }
            Ok(())
        })?;
        status.clear();
        let elapsed = net::now() - started;
        let interruption =
            interruption.or_else(|| signals.take().map(|signal| signal.failure().into())).or_else(|| {
                let is_late = session.deadline().is_some_and(|deadline| deadline <= net::now());
                is_late.then(|| Failure::new(FailureKind::DeadlinePassed, "the deadline has passed").into())
            });
        if let Some(file) = &self.svg {
            write_chart(
                (file, &signals.stop_conditions(session.deadline())),
                Attempts { one: "mail", many: "mails" },
                &[(&server, &counters.plot)],
            )?;
        }
        let exit = Self::report_outcome(&counters, interruption, output);
        let bytes = config.envelope.as_ref().map_or(0, |envelope| smtp::canonical_size(&envelope.message));
        let summary = LoadSummary::new(server, elapsed, bytes, threads, &counters);
        let exit = check_all(&self.fail_if, &summary, exit, output);
        report::emit_summary(output, &summary, exit)?;
        Ok(exit)
    }

    /// Reports the first error; returns the exit code of the whole run.
    fn report_outcome(counters: &LoadCounters, interruption: Option<Error>, output: &mut Output) -> Exit {
        if counters.has_given_up {
            output.note(&format!("note: gave up after {MAX_CONSECUTIVE_FAILURES} consecutive failed connections"));
        }
        if let Some(error) =
            counters.first_failure.as_ref().or(interruption.as_ref().filter(|_| counters.exits.is_empty()))
        {
            output.report_error(error);
        }
        match interruption {
            Some(error) if counters.exits.is_empty() => error.exit(),
            _ if counters.exits.is_empty() => Exit::Negative,
            _ => Exit::combined(counters.exits.keys().copied()),
        }
    }
}

/// State shared by the workers.
struct SharedProgress {
    /// Index of the next mail, from 0.
    next: AtomicU64,
    completed: AtomicU64,
    /// Mails that were completed or failed, for the chart.
    attempts: AtomicU64,
    threads_ended: AtomicUsize,
}

impl SharedProgress {
    fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}

struct LoadWorker<'a> {
    load: &'a LoadArgs,
    session: &'a SessionRunner<'a>,
    config: ClientConfig,
    tls: Option<&'a ClientTls>,
    shared: &'a SharedProgress,
    started: Moment,
    index: u64,
}

impl LoadWorker<'_> {
    fn run(self, mut signals: Signals, waker: &Waker) -> LoadCounters {
        let mut counters = LoadCounters::new(self.load.svg.is_some());
        if self.load.reuse {
            self.send_on_one_connection(&mut counters, &mut signals);
        } else {
            self.send_on_separate_connections(&mut counters, &mut signals);
        }
        self.shared.threads_ended.fetch_add(1, Ordering::Release);
        waker.wake();
        counters
    }

    fn interval(&self) -> Duration {
        self.load.rate.map_or(Duration::ZERO, |SendRate(interval)| interval)
    }

    /// Sends each mail over its own connection.
    fn send_on_separate_connections(&self, counters: &mut LoadCounters, signals: &mut Signals) {
        let mut failures = 0;
        loop {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            if self.load.mails().is_some_and(|mails| number >= mails) {
                return;
            }
            let due = self.started + self.interval().saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            let is_over = self.wait_until_due(due, signals) || self.run_connection(1, counters, signals, &mut failures);
            if is_over {
                return;
            }
        }
    }

    /// Sends this worker's share of the mails over one connection, reconnecting only if it fails.
    fn send_on_one_connection(&self, counters: &mut LoadCounters, signals: &mut Signals) {
        let threads = self.load.threads();
        let share = |mails: u64| mails / threads + u64::from(self.index < mails % threads);
        let share = self.load.mails().map_or(u64::MAX, share);
        let due = self.started + self.interval().saturating_mul(u32::try_from(self.index).unwrap_or(u32::MAX));
        let mut failures = 0;
        let mut is_over = self.wait_until_due(due, signals);
        loop {
            let completed: u64 = counters.exits.values().sum();
            if is_over || completed >= share {
                return;
            }
            is_over = self.run_connection(share - completed, counters, signals, &mut failures);
        }
    }

    /// Waits until `due` or the deadline; returns true on a signal.
    fn wait_until_due(&self, due: Moment, signals: &mut Signals) -> bool {
        let until = self.session.deadline().map_or(due, |deadline| deadline.min(due));
        due > net::now() && matches!(signals.wait(Some(until)), WakeReason::Signal(_))
    }

    /// Sends mails over one connection; returns true if this worker is finished.
    fn run_connection(
        &self,
        mails: u64,
        counters: &mut LoadCounters,
        signals: &mut Signals,
        consecutive_failures: &mut u32,
    ) -> bool {
        let threads = u32::try_from(self.load.threads()).unwrap_or(u32::MAX);
        let config = ClientConfig {
            transaction_count: mails,
            min_interval: self.interval().saturating_mul(threads),
            ..self.config.clone()
        };
        let mut total = Duration::ZERO;
        let mut completed = 0;
        let on_event = &mut |event: ProgressEvent<'_>| {
            let mut stage = |stage: Stage, took: Duration| {
                total += took;
                counters.stages.entry(stage).or_default().push(took);
            };
            match event {
                ProgressEvent::Connected { resolve, connect, .. } => {
                    stage(Stage::Resolve, resolve);
                    stage(Stage::Connect, connect);
                }
                ProgressEvent::Client(ClientEvent::StageFinished(timing)) => stage(timing.stage, timing.took),
                ProgressEvent::Client(ClientEvent::TransactionFinished { failure, recipients }) => {
                    *counters.exits.entry(session_exit(failure.as_ref(), recipients)).or_default() += 1;
                    if counters.first_failure.is_none() {
                        let first = failure.as_ref().map(Failure::without_source);
                        counters.first_failure = first
                            .or_else(|| smtp::first_rejection(recipients))
                            .map(|failure| outcome::error_for(failure, None, self.session.mail.transport.host()));
                    }
                    let took = std::mem::take(&mut total);
                    counters.total.push(took);
                    let is_sent = session_exit(failure.as_ref(), recipients) == Exit::Success;
                    counters.plot.record(
                        self.shared.next_attempt(),
                        if is_sent { Marker::Answered(took) } else { Marker::Failed },
                    );
                    completed += 1;
                    self.shared.completed.fetch_add(1, Ordering::Relaxed);
                }
                ProgressEvent::Client(_) => {}
            }
        };
        let outcome = self.session.run_with(config, self.tls, signals, on_event);
        let (result, connection) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                counters.record_failure(error.exit(), error);
                return true;
            }
        };
        counters.peer = connection.peer.clone().or(counters.peer.take());
        *consecutive_failures =
            if completed > 0 || result.stage >= Stage::Mail { 0 } else { *consecutive_failures + 1 };
        let exit = session_exit(result.failure.as_ref(), &result.recipients);
        // A mail interrupted by this client is not counted, unless it may have been accepted.
        let is_counted = result.is_transaction_finished || (connection.is_interrupted && exit != Exit::OutcomeUnknown);
        match result.failure.or_else(|| smtp::first_rejection(&result.recipients)) {
            _ if is_counted => {}
            Some(failure) => {
                counters.plot.record(self.shared.next_attempt(), Marker::Failed);
                counters.record_failure(exit, outcome::error_for(failure, None, self.session.mail.transport.host()));
            }
            None => *counters.exits.entry(exit).or_default() += 1,
        }
        counters.has_given_up |= *consecutive_failures >= MAX_CONSECUTIVE_FAILURES;
        connection.is_interrupted || *consecutive_failures >= MAX_CONSECUTIVE_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::SendRate;
    use std::time::Duration;

    #[test]
    fn a_rate_requires_its_unit() {
        assert_eq!("10/s".parse::<SendRate>().expect("a rate").0, Duration::from_millis(100));
        assert_eq!("0.5/s".parse::<SendRate>().expect("a rate").0, Duration::from_secs(2));
        for wrong in ["10", "0/s", "-1/s", "+1/s", "nan/s", "inf/s", "/s", "10/m", "1e9/s"] {
            assert!(wrong.parse::<SendRate>().is_err(), "{wrong}");
        }
    }
}
