//! Many mails: how long each step takes, and how many a server takes in a second.
//!
//! Owns the threads, each with a connection of its own at a time, the pace, and the sum. Load is for a
//! server that is one's own: beyond loopback it wants a word.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;

use super::counters::{FIGURES, LoadCounters, figure};
use super::events::{LoadReport, LoadSummary};
use super::session::{ProgressEvent, SessionRunner};
use super::session_exit;
use crate::commands::args::parse_arg;
use crate::commands::fail_if::FailIf;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::ClientTls;
use crate::net::{self, Signal, Signals, WakeReason, Waker};
use crate::output::{Output, StatusLine};
use crate::smtp::{self, ClientConfig, ClientEvent, Stage};
use crate::time::Moment;

/// A connection that cannot be made so often in a row will not be made.
const MAX_CONSECUTIVE_FAILURES: u32 = 10;
/// How often the live line is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What is about one mail, and not told or done for many.
const SINGLE_MAIL_FLAGS: [&str; 7] = ["dry_run", "info", "stop_after", "retry", "rejected_to", "trace", "explain"];

/// How many mails, how many at once, how fast.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Send the mail N times; 0 is until stopped
    #[arg(short, long, value_name = "N", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true)]
    count: Option<u64>,

    /// Over K connections at once
    #[arg(long, value_name = "K", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,

    /// That many a second over all of them, like 10/s
    #[arg(long, value_name = "R/s", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = parse_arg::<SendRate>)]
    rate: Option<SendRate>,

    /// Send all mails of a connection over it, one after the other
    #[arg(long, help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true)]
    reuse: bool,

    /// Exit 1 if this holds, e.g. 'dot.p99>50ms'; repeatable
    #[arg(long, value_name = "FIGURE>LIMIT", help_heading = "Load", conflicts_with_all = SINGLE_MAIL_FLAGS, hide_short_help = true, value_parser = |text: &str| FailIf::parse(text, FIGURES))]
    fail_if: Vec<FailIf>,

    /// Many mails to a server beyond loopback
    #[arg(long, help_heading = "Load", hide_short_help = true)]
    i_own_this_target: bool,
}

/// So many in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SendRate(Duration);

impl std::str::FromStr for SendRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix("/s").filter(|number| !number.starts_with(['+', '-']));
        let rate = number.and_then(|number| number.parse::<f64>().ok()).filter(|rate| (1e-6..=1e6).contains(rate));
        rate.map(|rate| Self(Duration::from_secs_f64(rate.recip()))).ok_or_else(|| {
            Error::new(Exit::Usage, format!("{text:?} is no rate")).expected("mails in a second, like 10/s or 0.5/s")
        })
    }
}

impl LoadArgs {
    /// Whether there is more to do than a single mail.
    pub(super) fn is_wanted(&self) -> bool {
        let Self { count, concurrency, rate, reuse, fail_if, i_own_this_target: _ } = self;
        count.is_some() || concurrency.is_some() || rate.is_some() || *reuse || !fail_if.is_empty()
    }

    /// How many mails; none for until stopped.
    fn mails(&self) -> Option<u64> {
        Some(self.count.unwrap_or(1)).filter(|count| *count > 0)
    }

    fn threads(&self) -> u64 {
        let wanted = u64::from(self.concurrency.unwrap_or(1));
        self.mails().map_or(wanted, |mails| wanted.min(mails))
    }

    /// Refuses to burden a stranger.
    pub(super) fn check_load_allowed(&self, peers: &[SocketAddr]) -> Result<()> {
        let is_load = self.mails() != Some(1);
        let stranger = peers.iter().find(|peer| !peer.ip().to_canonical().is_loopback());
        let Some(peer) = stranger.filter(|_| is_load && !self.i_own_this_target) else { return Ok(()) };
        Err(Error::new(Exit::Usage, format!("that many mails to {} could do harm", peer.ip()))
            .expected("a server on loopback, or one mail")
            .remedy("if it is yours to burden, say --i-own-this-target"))
    }

    /// Sends them all, and says what they came to.
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
            threads_ended: AtomicUsize::new(0),
        };
        let started = net::now();
        let threads = self.threads();
        let mut tally = LoadCounters::default();
        let mut live = StatusLine::new(output.style());
        let mut cut = None;
        std::thread::scope(|scope| -> Result<()> {
            let mut workers = Vec::new();
            // Each has its own ear for signals, and wakes us when it ends; all of them, or none begins.
            let ears: Result<Vec<_>> = (0..threads).map(|_| Ok((Signals::install()?, signals.waker()?))).collect();
            for (number, (ear, nudge)) in (0..).zip(ears?) {
                let worker = LoadWorker {
                    load: self,
                    session,
                    config: config.clone(),
                    tls,
                    shared: &shared,
                    started,
                    index: number,
                };
                workers.push(scope.spawn(move || worker.run(ear, &nudge)));
            }
            while shared.threads_ended.load(Ordering::Acquire) < workers.len() {
                if let WakeReason::Signal(signal) = signals.wait(Some(net::now() + POLL_INTERVAL)) {
                    cut = Some(signal.error());
                    break;
                }
                let decided = shared.completed.load(Ordering::Relaxed);
                live.update(net::now(), || format!("{decided} mails"));
            }
            for worker in workers {
                tally.merge(worker.join().map_err(|_| Error::new(Exit::Bug, "a thread that sends has died"))?);
            }
            Ok(())
        })?;
        live.clear();
        let elapsed = net::now() - started;
        let cut = cut.or_else(|| signals.take().map(Signal::error)).or_else(|| {
            let is_late = session.deadline().is_some_and(|until| until <= net::now());
            is_late.then(|| Error::new(Exit::TemporaryFailure, "the deadline has passed"))
        });
        let exit = self.report_outcome(&tally, cut, output);
        let bytes = config.envelope.as_ref().map_or(0, |envelope| smtp::canonical_size(&envelope.message));
        let summary = LoadSummary::new(server, elapsed, bytes, threads, &tally);
        output.emit(&LoadReport::summary(summary))?;
        Ok(exit)
    }

    /// The code of all mails; of what cut them short if there was none.
    fn report_outcome(&self, counters: &LoadCounters, interruption: Option<Error>, output: &mut Output) -> Exit {
        if counters.has_given_up {
            output.note(&format!(
                "note: after {MAX_CONSECUTIVE_FAILURES} connections in a row that came to nothing no more are tried"
            ));
        }
        if let Some(error) =
            counters.first_failure.as_ref().or(interruption.as_ref().filter(|_| counters.exits.is_empty()))
        {
            output.report_error(error);
        }
        let mut exit = match interruption {
            Some(cut) if counters.exits.is_empty() => cut.exit(),
            _ if counters.exits.is_empty() => Exit::Negative,
            _ => Exit::combined(counters.exits.keys().copied()),
        };
        for assertion in &self.fail_if {
            if let Err(broken) = assertion.check(|name| figure(counters, name)) {
                output.report_error(&broken);
                // Any error code outranks a broken assertion.
                exit = if exit == Exit::Success { Exit::Negative } else { exit };
            }
        }
        exit
    }
}

/// What the threads share.
struct SharedProgress {
    /// The number of the next mail, from 0.
    next: AtomicU64,
    completed: AtomicU64,
    threads_ended: AtomicUsize,
}

/// One thread.
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
        let mut tally = LoadCounters::default();
        if self.load.reuse {
            self.send_on_one_connection(&mut tally, &mut signals);
        } else {
            self.send_on_separate_connections(&mut tally, &mut signals);
        }
        self.shared.threads_ended.fetch_add(1, Ordering::Release);
        waker.wake();
        tally
    }

    fn interval(&self) -> Duration {
        self.load.rate.map_or(Duration::ZERO, |SendRate(interval)| interval)
    }

    /// A connection for each mail.
    fn send_on_separate_connections(&self, counters: &mut LoadCounters, signals: &mut Signals) {
        let mut in_vain = 0;
        loop {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            if self.load.mails().is_some_and(|mails| number >= mails) {
                return;
            }
            let due = self.started + self.interval().saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            let is_over = self.wait_until_due(due, signals) || self.run_connection(1, counters, signals, &mut in_vain);
            if is_over {
                return;
            }
        }
    }

    /// Its share of the mails over one connection, and over another one only if that breaks.
    fn send_on_one_connection(&self, counters: &mut LoadCounters, signals: &mut Signals) {
        let threads = self.load.threads();
        let share = |mails: u64| mails / threads + u64::from(self.index < mails % threads);
        let share = self.load.mails().map_or(u64::MAX, share);
        let due = self.started + self.interval().saturating_mul(u32::try_from(self.index).unwrap_or(u32::MAX));
        let mut in_vain = 0;
        let mut is_over = self.wait_until_due(due, signals);
        loop {
            let decided: u64 = counters.exits.values().sum();
            if is_over || decided >= share {
                return;
            }
            is_over = self.run_connection(share - decided, counters, signals, &mut in_vain);
        }
    }

    /// Lets time pass, and says whether a signal came.
    fn wait_until_due(&self, due: Moment, signals: &mut Signals) -> bool {
        let until = self.session.deadline().map_or(due, |until| until.min(due));
        due > net::now() && matches!(signals.wait(Some(until)), WakeReason::Signal(_))
    }

    /// One connection, and whether that is enough.
    fn run_connection(
        &self,
        mails: u64,
        counters: &mut LoadCounters,
        signals: &mut Signals,
        consecutive_failures: &mut u32,
    ) -> bool {
        let threads = u32::try_from(self.load.threads()).unwrap_or(u32::MAX);
        let plan = ClientConfig {
            transaction_count: mails,
            min_interval: self.interval().saturating_mul(threads),
            ..self.config.clone()
        };
        let mut spent = Duration::ZERO;
        let mut decided = 0;
        let tell = &mut |step: ProgressEvent<'_>| {
            let mut stage = |stage: Stage, took: Duration| {
                spent += took;
                counters.stages.entry(stage).or_default().push(took);
            };
            match step {
                ProgressEvent::Connected { resolve, connect, .. } => {
                    stage(Stage::Resolve, resolve);
                    stage(Stage::Connect, connect);
                }
                ProgressEvent::Client(ClientEvent::StageFinished(timed)) => stage(timed.stage, timed.took),
                ProgressEvent::Client(ClientEvent::TransactionFinished { exit, error: why }) => {
                    *counters.exits.entry(*exit).or_default() += 1;
                    if let (None, Some(why)) = (&counters.first_failure, why) {
                        counters.first_failure = Some(why.with_exit(why.exit()));
                    }
                    counters.total.push(std::mem::take(&mut spent));
                    decided += 1;
                    self.shared.completed.fetch_add(1, Ordering::Relaxed);
                }
                ProgressEvent::Client(_) => {}
            }
        };
        let ended = self.session.run_with(plan, self.tls, signals, tell);
        let (done, line) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                counters.record_failure(error.exit(), error);
                return true;
            }
        };
        *consecutive_failures = if decided > 0 || done.stage >= Stage::Mail { 0 } else { *consecutive_failures + 1 };
        let exit = session_exit(&done);
        // A mail that was cut off by us says nothing of the server, unless it may have arrived.
        let is_told = done.is_transaction_finished || (line.is_interrupted && exit != Exit::OutcomeUnknown);
        match done.failure.or_else(|| smtp::first_rejection(&done.recipients)) {
            _ if is_told => {}
            Some(error) => counters.record_failure(exit, error),
            None => *counters.exits.entry(exit).or_default() += 1,
        }
        counters.has_given_up |= *consecutive_failures >= MAX_CONSECUTIVE_FAILURES;
        line.is_interrupted || *consecutive_failures >= MAX_CONSECUTIVE_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::SendRate;
    use std::time::Duration;

    #[test]
    fn a_rate_has_its_unit() {
        assert_eq!("10/s".parse::<SendRate>().expect("a rate").0, Duration::from_millis(100));
        assert_eq!("0.5/s".parse::<SendRate>().expect("a rate").0, Duration::from_secs(2));
        for wrong in ["10", "0/s", "-1/s", "+1/s", "nan/s", "inf/s", "/s", "10/m", "1e9/s"] {
            assert!(wrong.parse::<SendRate>().is_err(), "{wrong}");
        }
    }
}
