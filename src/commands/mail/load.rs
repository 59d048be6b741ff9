//! Many mails: how long each step takes, and how many a server takes in a second.
//!
//! Owns the threads, each with a connection of its own at a time, the pace, and the sum. Load is for a
//! server that is one's own: beyond loopback it wants a word.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;

use super::events::{LoadEvent, LoadSummary};
use super::run::{Run, Step};
use super::tally::{FIGURES, Tally, figure};
use super::verdict;
use crate::commands::fail_if::FailIf;
use crate::commands::values::parsed;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::ClientSide;
use crate::net::{self, Nudge, Signal, Signals, Woken};
use crate::output::{Output, StatusLine};
use crate::smtp::{self, Fact, Plan, Stage};
use crate::time::Moment;

/// A connection that cannot be made so often in a row will not be made.
const HOPELESS: u32 = 10;
/// How often the live line is looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// What is about one mail, and not told or done for many.
const ALONE: [&str; 7] = ["dry_run", "info", "stop_after", "retry", "rejected_to", "trace", "explain"];

/// How many mails, how many at once, how fast.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Send the mail N times; 0 is until stopped
    #[arg(short, long, value_name = "N", help_heading = "Load", conflicts_with_all = ALONE, hide_short_help = true)]
    count: Option<u64>,

    /// Over K connections at once
    #[arg(long, value_name = "K", help_heading = "Load", conflicts_with_all = ALONE, hide_short_help = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,

    /// That many a second over all of them, like 10/s
    #[arg(long, value_name = "R/s", help_heading = "Load", conflicts_with_all = ALONE, hide_short_help = true, value_parser = parsed::<PerSecond>)]
    rate: Option<PerSecond>,

    /// Send all mails of a connection over it, one after the other
    #[arg(long, help_heading = "Load", conflicts_with_all = ALONE, hide_short_help = true)]
    reuse: bool,

    /// Exit 1 if this holds, e.g. 'dot.p99>50ms'; repeatable
    #[arg(long, value_name = "FIGURE>LIMIT", help_heading = "Load", conflicts_with_all = ALONE, hide_short_help = true, value_parser = |text: &str| FailIf::parse(text, FIGURES))]
    fail_if: Vec<FailIf>,

    /// Many mails to a server beyond loopback
    #[arg(long, help_heading = "Load", hide_short_help = true)]
    i_own_this_target: bool,
}

/// So many in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerSecond(Duration);

impl std::str::FromStr for PerSecond {
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
    pub fn is_wanted(&self) -> bool {
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
    pub fn be_polite(&self, peers: &[SocketAddr]) -> Result<()> {
        let is_load = self.mails() != Some(1);
        let stranger = peers.iter().find(|peer| !peer.ip().to_canonical().is_loopback());
        let Some(peer) = stranger.filter(|_| is_load && !self.i_own_this_target) else { return Ok(()) };
        Err(Error::new(Exit::Usage, format!("that many mails to {} could do harm", peer.ip()))
            .expected("a server on loopback, or one mail")
            .remedy("if it is yours to burden, say --i-own-this-target"))
    }

    /// Sends them all, and says what they came to.
    pub fn run(
        &self,
        run: &Run<'_>,
        plan: &Plan,
        tls: Option<&ClientSide>,
        server: String,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<Exit> {
        let shared = Shared { next: AtomicU64::new(0), decided: AtomicU64::new(0), ended: AtomicUsize::new(0) };
        let started = net::now();
        let threads = self.threads();
        let mut tally = Tally::default();
        let mut live = StatusLine::new(output.style());
        let mut cut = None;
        std::thread::scope(|scope| -> Result<()> {
            let mut workers = Vec::new();
            // Each has its own ear for signals, and wakes us when it ends; all of them, or none begins.
            let ears: Result<Vec<_>> = (0..threads).map(|_| Ok((Signals::listen()?, signals.nudger()?))).collect();
            for (number, (ear, nudge)) in (0..).zip(ears?) {
                let worker = Worker { load: self, run, plan: plan.clone(), tls, shared: &shared, started, number };
                workers.push(scope.spawn(move || worker.work(ear, &nudge)));
            }
            while shared.ended.load(Ordering::Acquire) < workers.len() {
                if let Woken::Signal(signal) = signals.wait(Some(net::now() + GLANCE)) {
                    cut = Some(signal.error());
                    break;
                }
                let decided = shared.decided.load(Ordering::Relaxed);
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
            let is_late = run.until().is_some_and(|until| until <= net::now());
            is_late.then(|| Error::new(Exit::TryAgain, "the deadline has passed"))
        });
        let exit = self.judge(&tally, cut, output);
        let bytes = plan.envelope.as_ref().map_or(0, |envelope| smtp::size(&envelope.message));
        let summary = LoadSummary::new(server, elapsed, bytes, threads, &tally);
        output.emit(&LoadEvent::summary(summary))?;
        Ok(exit)
    }

    /// The code of all mails; of what cut them short if there was none.
    fn judge(&self, tally: &Tally, cut: Option<Error>, output: &mut Output) -> Exit {
        if tally.is_hopeless {
            output.note(&format!("note: after {HOPELESS} connections in a row that came to nothing no more are tried"));
        }
        if let Some(error) = tally.first_failure.as_ref().or(cut.as_ref().filter(|_| tally.exits.is_empty())) {
            output.report_error(error);
        }
        let mut exit = match cut {
            Some(cut) if tally.exits.is_empty() => cut.exit(),
            _ if tally.exits.is_empty() => Exit::No,
            _ => Exit::of_all(tally.exits.keys().copied()),
        };
        for assertion in &self.fail_if {
            if let Err(broken) = assertion.check(|name| figure(tally, name)) {
                output.report_error(&broken);
                // Any error code outranks a broken assertion.
                exit = if exit == Exit::Done { Exit::No } else { exit };
            }
        }
        exit
    }
}

/// What the threads share.
struct Shared {
    /// The number of the next mail, from 0.
    next: AtomicU64,
    decided: AtomicU64,
    ended: AtomicUsize,
}

/// One thread.
struct Worker<'a> {
    load: &'a LoadArgs,
    run: &'a Run<'a>,
    plan: Plan,
    tls: Option<&'a ClientSide>,
    shared: &'a Shared,
    started: Moment,
    number: u64,
}

impl Worker<'_> {
    fn work(self, mut signals: Signals, nudge: &Nudge) -> Tally {
        let mut tally = Tally::default();
        if self.load.reuse {
            self.over_one(&mut tally, &mut signals);
        } else {
            self.one_by_one(&mut tally, &mut signals);
        }
        self.shared.ended.fetch_add(1, Ordering::Release);
        nudge.nudge();
        tally
    }

    fn interval(&self) -> Duration {
        self.load.rate.map_or(Duration::ZERO, |PerSecond(interval)| interval)
    }

    /// A connection for each mail.
    fn one_by_one(&self, tally: &mut Tally, signals: &mut Signals) {
        let mut in_vain = 0;
        loop {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            if self.load.mails().is_some_and(|mails| number >= mails) {
                return;
            }
            let due = self.started + self.interval().saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            let is_over = self.waits(due, signals) || self.carry(1, tally, signals, &mut in_vain);
            if is_over {
                return;
            }
        }
    }

    /// Its share of the mails over one connection, and over another one only if that breaks.
    fn over_one(&self, tally: &mut Tally, signals: &mut Signals) {
        let threads = self.load.threads();
        let share = |mails: u64| mails / threads + u64::from(self.number < mails % threads);
        let share = self.load.mails().map_or(u64::MAX, share);
        let due = self.started + self.interval().saturating_mul(u32::try_from(self.number).unwrap_or(u32::MAX));
        let mut in_vain = 0;
        let mut is_over = self.waits(due, signals);
        loop {
            let decided: u64 = tally.exits.values().sum();
            if is_over || decided >= share {
                return;
            }
            is_over = self.carry(share - decided, tally, signals, &mut in_vain);
        }
    }

    /// Lets time pass, and says whether a signal came.
    fn waits(&self, due: Moment, signals: &mut Signals) -> bool {
        let until = self.run.until().map_or(due, |until| until.min(due));
        due > net::now() && matches!(signals.wait(Some(until)), Woken::Signal(_))
    }

    /// One connection, and whether that is enough.
    fn carry(&self, mails: u64, tally: &mut Tally, signals: &mut Signals, in_vain: &mut u32) -> bool {
        let threads = u32::try_from(self.load.threads()).unwrap_or(u32::MAX);
        let plan = Plan { mails, apart: self.interval().saturating_mul(threads), ..self.plan.clone() };
        let mut spent = Duration::ZERO;
        let mut decided = 0;
        let tell = &mut |step: Step<'_>| {
            let mut stage = |stage: Stage, took: Duration| {
                spent += took;
                tally.stages.entry(stage).or_default().push(took);
            };
            match step {
                Step::Connected { resolve, connect, .. } => {
                    stage(Stage::Resolve, resolve);
                    stage(Stage::Connect, connect);
                }
                Step::Fact(Fact::Stage(timed)) => stage(timed.stage, timed.took),
                Step::Fact(Fact::Mailed { exit, why }) => {
                    *tally.exits.entry(*exit).or_default() += 1;
                    if let (None, Some(why)) = (&tally.first_failure, why) {
                        tally.first_failure = Some(why.retold(why.exit()));
                    }
                    tally.total.push(std::mem::take(&mut spent));
                    decided += 1;
                    self.shared.decided.fetch_add(1, Ordering::Relaxed);
                }
                Step::Fact(_) => {}
            }
        };
        let ended = self.run.dialogue(plan, self.tls, signals, tell);
        let (done, line) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tally.fail(error.exit(), error);
                return true;
            }
        };
        *in_vain = if decided > 0 || done.stage >= Stage::Mail { 0 } else { *in_vain + 1 };
        let exit = verdict(&done);
        // A mail that was cut off by us says nothing of the server, unless it may have arrived.
        let is_told = done.is_mailed || (line.is_cut && exit != Exit::Unknown);
        match done.failure.or_else(|| smtp::refusal(&done.recipients)) {
            _ if is_told => {}
            Some(error) => tally.fail(exit, error),
            None => *tally.exits.entry(exit).or_default() += 1,
        }
        tally.is_hopeless |= *in_vain >= HOPELESS;
        line.is_cut || *in_vain >= HOPELESS
    }
}

#[cfg(test)]
mod tests {
    use super::PerSecond;
    use std::time::Duration;

    #[test]
    fn a_rate_has_its_unit() {
        assert_eq!("10/s".parse::<PerSecond>().expect("a rate").0, Duration::from_millis(100));
        assert_eq!("0.5/s".parse::<PerSecond>().expect("a rate").0, Duration::from_secs(2));
        for wrong in ["10", "0/s", "-1/s", "+1/s", "nan/s", "inf/s", "/s", "10/m", "1e9/s"] {
            assert!(wrong.parse::<PerSecond>().is_err(), "{wrong}");
        }
    }
}
