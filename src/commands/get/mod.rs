//! `netlab get`: an HTTP client that is also a probe.
//!
//! Owns the flags and the story of a run: read the command line, fetch each URL as often as asked,
//! tell each outcome, sum up. [`target`] reads URLs and fields, [`fetch`] follows one request to
//! its final answer, [`transfer`] is the conversation, [`delivery`] takes the body, [`events`]
//! words it.

mod body_sink;
mod events;
mod exchange;
mod fetch;
mod request;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{TrustArgs, duration, positive_duration};
use super::fail_if::FailIf;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::{Format, Output, Style, Trace};
use crate::time::Moment;
use body_sink::{BodySink, Destination};
use events::{Counters, FIGURES, GetReport};
use fetch::{FetchResult, Fetcher};
use request::{HeaderField, RequestTemplate, Target};

/// Fetch URLs over HTTP, once or as a probe.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab get -o page.html http://127.0.0.1:6789/HelloWorld.html
  netlab get --count 10 --interval 200ms http://127.0.0.1:6789/")]
pub(crate) struct Get {
    /// What to fetch; http:// may be left out
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,

    /// Write the body to FILE, whole or not at all
    ///
    /// It is written to FILE.part and renamed once it is complete. - is stdout, even for a body
    /// that is no text.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write it to a file named as in the URL
    #[arg(short = 'O', long, conflicts_with = "output")]
    remote_name: bool,

    /// Let -O overwrite a file
    #[arg(long, requires = "remote_name", hide_short_help = true)]
    force: bool,

    /// Add 'Name: value' to the request; repeatable
    #[arg(short = 'H', long, value_name = "FIELD")]
    header: Vec<String>,

    /// The request's method, whatever other flags imply
    #[arg(short = 'X', long, value_name = "METHOD", value_parser = request::method, hide_short_help = true)]
    request: Option<String>,

    /// Send DATA, @FILE or @- (stdin) by POST
    #[arg(short, long, value_name = "DATA", conflicts_with = "head")]
    data: Option<String>,

    /// Ask for the head alone, and show it
    #[arg(short = 'I', long)]
    head: bool,

    /// Show the response head before the body
    #[arg(short, long, hide_short_help = true)]
    include: bool,

    /// Fetch N times, as a probe; 0 is until stopped
    ///
    /// The body is counted, not shown (-o still writes it), and a summary of all phases follows.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,

    /// Between the starts of two fetches
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,

    /// Longest silence within a phase
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration)]
    timeout: Duration,

    /// The longest wait for a connection
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    connect_timeout: Duration,

    /// The longest time for everything
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    /// Follow at most N redirects; 0 shows the redirect itself
    #[arg(long, value_name = "N", default_value_t = 10, hide_short_help = true)]
    max_redirects: u32,

    /// Exit 1 if this holds, e.g. 'total.p95>20ms'; repeatable
    #[arg(long, value_name = "FIGURE>LIMIT", value_parser = |text: &str| FailIf::parse(text, FIGURES), hide_short_help = true)]
    fail_if: Vec<FailIf>,

    /// Show the conversation on stderr
    #[arg(long)]
    trace: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Get {
    /// Fetches everything asked for.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        if self.output.is_some() && self.urls.len() > 1 {
            return Err(Error::new(Exit::Usage, "one file cannot take the bodies of several URLs")
                .remedy("use -O, or one netlab get per URL"));
        }
        let (targets, fields) = self.parse_targets()?;
        let request = RequestTemplate::new(self.method(), &fields, self.data.as_deref())?;
        let mut signals = Signals::install()?;
        let mut run = FetchRun {
            args: self,
            request,
            output: Output::new(style),
            counters: Counters::new(&targets),
            targets,
            created_files: HashSet::new(),
            deadline: self.deadline.map(|deadline| net::now() + deadline),
        };
        let fetcher = Fetcher::new(self.limits(run.deadline), self.trust.trust(), Trace::new(self.trace, style));
        run.fetch_all(fetcher, &mut signals)
    }

    /// URLs and fields may hold secrets, so they are not left to a parser that repeats what it
    /// cannot read.
    fn parse_targets(&self) -> Result<(Vec<Target>, Vec<HeaderField>)> {
        let wrong = |what: &str, why: String| Error::new(Exit::Usage, format!("{what} cannot be used: {why}"));
        let targets = self.urls.iter().map(|text| text.parse().map_err(|why| wrong(&request::masked(text), why)));
        let name = |text: &str| text.split(':').next().filter(|_| text.contains(':')).unwrap_or("a field").to_owned();
        let fields = self.header.iter().map(|text| text.parse().map_err(|why| wrong(&name(text), why)));
        Ok((targets.collect::<Result<_>>()?, fields.collect::<Result<_>>()?))
    }

    fn method(&self) -> Option<&str> {
        self.request.as_deref().or(self.head.then_some("HEAD"))
    }

    fn limits(&self, deadline: Option<Moment>) -> fetch::FetchLimits {
        fetch::FetchLimits {
            phase_timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            deadline,
            max_redirects: self.max_redirects,
        }
    }

    /// Whether bodies are counted, not shown: `-o` alone then writes them.
    fn is_probe(&self, style: Style) -> bool {
        self.count.is_some() || style.format == Format::Json
    }
}

struct FetchRun<'g> {
    args: &'g Get,
    targets: Vec<Target>,
    /// Files that -O has made in this run, and may replace.
    created_files: HashSet<PathBuf>,
    request: RequestTemplate,
    output: Output,
    counters: Counters,
    deadline: Option<Moment>,
}

impl FetchRun<'_> {
    /// Fetches on an absolute schedule, so that slow answers do not stretch the interval.
    fn fetch_all(&mut self, mut fetcher: Fetcher, signals: &mut Signals) -> Result<Exit> {
        let started = net::now();
        let count = self.args.count.unwrap_or(1);
        let is_probe = self.args.is_probe(self.output.style());
        let mut exits = Vec::new();
        let mut stopped = None;
        let mut round = 0_u64;
        while (count == 0 || round < count) && stopped.is_none() && !self.output.is_closed() {
            for target in self.targets.clone() {
                let fetched = self.fetch_one(&target, &mut fetcher, signals);
                let exit = self.report(&target, fetched, is_probe, !exits.is_empty())?;
                if matches!(exit, Exit::Interrupted | Exit::Terminated) {
                    stopped = Some(exit);
                    break;
                }
                exits.push(exit);
                if self.deadline.is_some_and(|until| until <= net::now()) {
                    break;
                }
            }
            round += 1;
            if stopped.is_none() && (count == 0 || round < count) {
                let slot = u32::try_from(round).map_or(Duration::MAX, |round| self.args.interval.saturating_mul(round));
                stopped = self.wait_for_slot(started + slot, signals);
            }
            if self.deadline.is_some_and(|until| until <= net::now()) {
                break;
            }
        }
        let mut exit = Exit::combined(exits.iter().copied());
        for assertion in &self.args.fail_if {
            if let Err(broken) = assertion.check(|name| self.counters.figure(name)) {
                self.output.report_error(&broken);
                // Any error code outranks a broken assertion.
                exit = if exit == Exit::Success { Exit::Negative } else { exit };
            }
        }
        if is_probe {
            self.output.emit(&GetReport::summary(self.counters.summary(net::now() - started)))?;
        }
        Ok(match stopped {
            // With data, the data decides.
            Some(stopped) if exits.is_empty() => stopped,
            _ => exit,
        })
    }

    /// Waits for the next slot; a signal ends the wait and the run.
    fn wait_for_slot(&self, slot: Moment, signals: &mut Signals) -> Option<Exit> {
        let until = self.deadline.map_or(slot, |until| until.min(slot));
        match signals.wait(Some(until)) {
            net::WakeReason::Signal(signal) => Some(signal.exit()),
            net::WakeReason::Waker | net::WakeReason::Timeout => None,
        }
    }

    fn fetch_one(&mut self, target: &Target, fetcher: &mut Fetcher, signals: &mut Signals) -> Result<FetchResult> {
        let destination = self.destination(target)?;
        let mut delivery = BodySink::new(
            destination,
            self.args.include || self.args.head,
            &mut self.output,
            self.args.max_redirects > 0,
        );
        let outcome = fetcher.fetch(target, &self.request, &mut delivery, signals);
        match outcome {
            Ok(outcome) => {
                if delivery.finish()? && self.args.remote_name {
                    self.created_files.insert(target.file_name()?);
                }
                Ok(outcome)
            }
            Err(error) => Err(delivery.abort(error)),
        }
    }

    /// Where the body goes; whatever makes that impossible is found out before connecting.
    fn destination(&self, target: &Target) -> Result<Destination> {
        match &self.args.output {
            Some(path) if path.as_os_str() == "-" => Ok(Destination::Stdout { allow_binary: true }),
            Some(path) => Destination::file(path, true),
            None if self.args.remote_name => {
                let name = target.file_name()?;
                Destination::file(&name, self.args.force || self.created_files.contains(&name))
            }
            None if self.args.is_probe(self.output.style()) => Ok(Destination::Count),
            None => Ok(Destination::Stdout { allow_binary: false }),
        }
    }

    fn report(
        &mut self,
        target: &Target,
        fetched: Result<FetchResult>,
        is_probe: bool,
        has_data: bool,
    ) -> Result<Exit> {
        match fetched {
            Ok(outcome) => {
                self.counters.record_response(&outcome);
                let exit = if outcome.status >= 400 { Exit::Negative } else { Exit::Success };
                if !is_probe && exit == Exit::Negative {
                    self.output.report_error(&Error::new(
                        exit,
                        format!("{}: {} {}", outcome.url, outcome.status, outcome.reason),
                    ));
                }
                let event = GetReport::Event(events::ResponseEvent::new(outcome));
                if is_probe {
                    self.output.emit(&event)?;
                } else if self.output.style().verbose > 0 {
                    self.output.note(&event.to_string());
                }
                Ok(exit)
            }
            Err(error) => {
                let exit = error.exit();
                if has_data && matches!(exit, Exit::Interrupted | Exit::Terminated) {
                    // Stopped by the user: the one in flight says nothing about the peer.
                    return Ok(exit);
                }
                self.counters.record_failure();
                if !self.output.is_closed() {
                    self.output.report_error(&error.with_context(target.as_str()));
                }
                Ok(exit)
            }
        }
    }
}
